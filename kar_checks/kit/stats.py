"""Intervals and tests of what was measured: bounds that a verdict may rest on. Pure.

scipy is imported when it is used: listing and planning checks should not wait for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, cast

from kar_checks.model import Record

CONFIDENCE = 0.95
"""Of every interval whose confidence no profile sets."""
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


def interval(hits: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a share; (0, 1) if nothing was counted."""
    if of == 0:
        return 0.0, 1.0
    # Not scipy.stats, which takes a second to import and is needed for nothing else in most runs.
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, of - hits + 1, tail))
    high = 1.0 if hits == of else float(betaincinv(hits + 1, of - hits, 1 - tail))
    return low, high


def chance_of_split(of: int, share: float, true: float, confidence: float) -> float:
    """Return how probable it is that the interval of ``of`` answers excludes ``share``.

    ``true`` is the share that the requests really have. With ``true`` equal to ``share`` this is
    the chance of a wrong verdict, otherwise the power against that share.
    """
    from scipy import stats

    outside = 0.0
    for hits in range(of + 1):
        low, high = interval(hits, of, confidence)
        if not low <= share <= high:
            outside += float(cast("Any", stats.binom).pmf(hits, of, true))
    return outside


def fewer(hits: int, of: int, base_hits: int, base_of: int) -> float:
    """Return the one-sided p value (Fisher's exact test) of a share that fell from a base."""
    from scipy import stats

    table = [[hits, of - hits], [base_hits, base_of - base_hits]]
    found: Any = stats.fisher_exact(table, alternative="less")
    return float(found.pvalue)


def chance_of_fall(
    true: float, of: int, base: float, base_of: int, *, effect: float, confidence: float
) -> float:
    """Return how probable it is that a share is seen to fall by at least ``effect``.

    That is the lower bound of ``base_of`` answers with the true share ``base``, minus the upper
    bound of ``of`` answers with the true share ``true``; bounds as :func:`interval` has them.
    """
    import numpy as np
    from scipy import stats

    found, tail = cast("Any", stats), (1 - confidence) / 2
    hits, base_hits = np.arange(of), np.arange(1, base_of + 1)
    high = np.append(found.beta.ppf(1 - tail, hits + 1, of - hits), 1.0)
    low = np.append(0.0, found.beta.ppf(tail, base_hits, base_of - base_hits + 1))
    needed = np.searchsorted(low, high + effect)
    enough = found.binom.sf(needed - 1, base_of, base)
    return float((found.binom.pmf(np.arange(of + 1), of, true) * enough).sum())
