"""Intervals and tests on counts, by scipy."""

from __future__ import annotations

from typing import Any, cast


def interval(hits: int, of: int, confidence: float) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a share; (0, 1) if nothing was counted."""
    if of == 0:
        return 0.0, 1.0
    from scipy import stats

    found: Any = stats.binomtest(hits, of).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


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
