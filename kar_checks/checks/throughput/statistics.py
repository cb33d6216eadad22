"""What runs of iperf3 show together, and which nodes of a mesh are slower than the others. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from kar_checks.checks.throughput.observation import TcpRun, UdpRun
from kar_checks.kit import stats
from kar_checks.model import Record


def rates(runs: Sequence[TcpRun]) -> stats.Summary:
    """Return what the runs of a cell received; of a run in both directions the slower one counts.

    Raises:
        ValueError: none received anything.
    """
    return stats.summarise(
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
    low, high = stats.interval(lost, packets)
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
