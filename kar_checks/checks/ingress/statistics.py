"""Intervals and tests on counts, by scipy."""

from __future__ import annotations

from typing import Any, cast


def interval(hits: int, of: int, confidence: float) -> tuple[float, float]:
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
    import numpy
    from scipy import stats

    found, tail = cast("Any", stats), (1 - confidence) / 2
    hits, base_hits = numpy.arange(of), numpy.arange(1, base_of + 1)
    high = numpy.append(found.beta.ppf(1 - tail, hits + 1, of - hits), 1.0)
    low = numpy.append(0.0, found.beta.ppf(tail, base_hits, base_of - base_hits + 1))
    needed = numpy.searchsorted(low, high + effect)
    enough = found.binom.sf(needed - 1, base_of, base)
    return float((found.binom.pmf(numpy.arange(of + 1), of, true) * enough).sum())
