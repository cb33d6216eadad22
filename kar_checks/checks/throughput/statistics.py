"""Intervals of what was measured: bounds that a verdict may rest on, all at 95 %.

scipy is imported when it is used: listing and planning checks should not wait for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from kar_checks.checks.throughput.observation import TcpRun, UdpRun
from kar_checks.model import Record

CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 1
"""Resampling is repeatable: the same observation always gives the same verdict."""


class Summary(Record):
    """Repeats in short."""

    count: int
    median: float
    low: float
    high: float
    least: float
    variation: float
    """Coefficient of variation: sample standard deviation divided by the mean."""


def summarise(values: Sequence[float]) -> Summary:
    """Return median, bootstrap interval of the median, minimum and variation of the repeats.

    The interval is the percentile bootstrap's. With three repeats it is as wide as they are.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no repeats")
    median = statistics.median(values)
    mean = statistics.fmean(values)
    low, high = _bootstrap(values)
    variation = statistics.stdev(values) / mean if len(values) > 1 and mean else 0.0
    return Summary(
        count=len(values),
        median=median,
        low=low,
        high=high,
        least=min(values),
        variation=variation,
    )


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    if len(set(values)) == 1:
        return values[0], values[0]
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(values),),
        np.median,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


class Quantile(Record):
    """A quantile of samples with the order-statistic interval; a bound that they do not give is
    infinite.
    """

    p: float
    value: float
    low: float
    high: float


def quantile(samples: Sequence[float], p: float) -> Quantile:
    """Return a quantile of all samples, the largest included, with its interval.

    Raises:
        ValueError: there are none.
    """
    if not samples:
        raise ValueError("no samples")
    from scipy.stats import quantile_test

    ordered = sorted(samples)
    place = min(len(ordered) - 1, math.ceil(p * len(ordered)) - 1)
    found = quantile_test(ordered, q=ordered[place], p=p).confidence_interval(CONFIDENCE)
    low, high = float(found.low), float(found.high)
    return Quantile(
        p=p,
        value=ordered[place],
        low=low if math.isfinite(low) else -math.inf,
        high=high if math.isfinite(high) else math.inf,
    )


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a share."""
    from scipy.stats import binomtest

    found = binomtest(hits, of).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def rates(runs: Sequence[TcpRun]) -> Summary:
    """Return what the runs of a cell received; of a run in both directions the slower one counts.

    Raises:
        ValueError: none received anything.
    """
    return summarise(
        [
            min(one.received, one.received_back or one.received)
            for one in runs
            if one.received is not None
        ]
    )


class Loss(Record):
    """What UDP runs lost together."""

    packets: int
    lost: int
    overrun: int
    """Of the lost ones: those that reached the receiving pod and found its buffer full."""
    overrun_known: bool
    """Every run shows how many those are."""
    share: float
    low: float
    high: float
    jitter_ms: float
    """The largest of all runs."""


def loss(runs: Sequence[UdpRun]) -> Loss:
    """Return what runs lost together; ``no_loss`` finds nothing in any."""
    packets = sum(one.packets or 0 for one in runs)
    lost = sum(one.lost or 0 for one in runs)
    low, high = share_interval(lost, packets)
    return Loss(
        packets=packets,
        lost=lost,
        overrun=min(lost, sum(one.overrun or 0 for one in runs)),
        overrun_known=all(one.overrun is not None for one in runs),
        share=lost / packets,
        low=low,
        high=high,
        jitter_ms=max(one.jitter_ms or 0 for one in runs),
    )


def no_loss(run: UdpRun) -> str:
    """Return why a run shows no loss, empty if it does; version 0.1 stored impossible numbers."""
    known = run.packets is not None and run.lost is not None
    if run.error or (known and 0 <= (run.lost or 0) <= (run.packets or 0) != 0):
        return run.error
    return f"iperf3 reports {run.lost} of {run.packets} packets as lost"


def no_rate(run: TcpRun) -> str:
    """Return why a run shows no rate; empty if it does."""
    received = run.received or 0.0
    if run.error or (math.isfinite(received) and received > 0):
        return run.error
    return f"iperf3 reports {run.received} bit/s received"


def node_figures(megabits: Sequence[Sequence[int | None]]) -> list[float | None]:
    """Return for each node what it can do: the upper quartile of its pairs, ``None`` without one.

    A pair is as fast as the slower of its two nodes. So one slow node lowers each of its pairs,
    and only one pair of every other node; the upper quartile of a good node stays high.
    """
    found: list[float | None] = []
    for index, row in enumerate(megabits):
        mine = [one for one in row if one is not None]
        mine += [value for other in megabits if (value := other[index]) is not None]
        ordered = sorted(mine)
        found.append(float(ordered[math.ceil(0.75 * (len(ordered) - 1))]) if ordered else None)
    return found


class Outliers(Record):
    """Nodes that are slower than the others."""

    median: float
    limit: float
    """Below this a node is outlying, in Mbit/s."""
    nodes: list[int]


CUT = 3.5
NORMAL = 1.4826
"""Makes the median absolute deviation comparable with a standard deviation."""
LEAST_SHORTFALL = 0.2


def outliers(figures: Sequence[float | None]) -> Outliers:
    """Return the nodes that lie far below the median of all.

    Far is 3.5 robust standard deviations (Iglewicz and Hoaglin's modified z-score), and at least
    a fifth of the median, so that equal nodes with a little noise are no outliers.

    Raises:
        ValueError: no node has a figure.
    """
    known = [one for one in figures if one is not None]
    if not known:
        raise ValueError("no node was measured")
    median = statistics.median(known)
    deviation = statistics.median(abs(one - median) for one in known)
    limit = median - max(CUT * NORMAL * deviation, LEAST_SHORTFALL * median)
    slow = [index for index, one in enumerate(figures) if one is not None and one < limit]
    return Outliers(median=median, limit=max(0.0, limit), nodes=slow)
