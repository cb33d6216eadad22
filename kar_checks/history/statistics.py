"""What may be said about figures of several runs: tests that assume no distribution.

scipy is imported when it is used.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from kar_checks.model import Record

ALPHA = 0.05
"""The share of false alarms among the differences that a page shows, at most."""
_RESAMPLES = 10_000
_SEED = 1

BLOCK = 3
"""Runs that must agree before a change of a figure is said."""
REFERENCE = (10, 30)
"""Runs that a change is measured against: at least, and at most."""
LEAST_SHIFT = 0.05
"""A change below a twentieth is of no concern, however certain."""
_ROBUST = 3 * 1.4826
"""Three standard deviations of a normal distribution, as a multiple of the median deviation."""


class Tested(Record):
    """What a comparison of two samples came to."""

    shift: float
    """Median of all pairwise differences, divided by the first median (Hodges and Lehmann);
    infinite where that is 0."""
    p: float
    """Two-sided p of the Mann-Whitney test."""
    least_p: float
    """The smallest p that so many samples can give."""


def compare(first: Sequence[float], second: Sequence[float]) -> Tested:
    """Test whether the second sample lies higher or lower than the first.

    Raises:
        ValueError: one of them is empty.
    """
    import numpy as np
    from scipy.stats import PermutationMethod, mannwhitneyu

    if not first or not second:
        raise ValueError("a sample is empty")
    least = 2 / math.comb(len(first) + len(second), len(first))
    if len({*first, *second}) == 1:
        return Tested(shift=0.0, p=1.0, least_p=min(1.0, least))
    # The permutation test is exact where there are few samples, with ties, too.
    few = math.comb(len(first) + len(second), len(first)) <= _RESAMPLES
    method = (
        PermutationMethod(n_resamples=_RESAMPLES, rng=np.random.default_rng(_SEED))
        if few
        else "asymptotic"
    )
    p = float(mannwhitneyu(first, second, method=method).pvalue)
    shift = statistics.median(b - a for a in first for b in second)
    base = statistics.median(first)
    return Tested(
        shift=shift / abs(base) if base else math.copysign(math.inf, shift),
        p=p,
        least_p=min(1.0, least),
    )


def adjusted(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Benjamini and Hochberg)."""
    from scipy.stats import false_discovery_control

    return [float(one) for one in false_discovery_control(values)] if values else []


class Shift(Record):
    """A change of level in a series."""

    at: int
    """Index of the first value at the new level."""
    said: int
    """Index of the value with which it became certain."""
    before: float
    after: float
    false_alarm: float
    """How often a series without any change gives this, for one figure on one night."""


def shifts(values: Sequence[float], breaks: Sequence[int] = ()) -> list[Shift]:
    """Return the changes of level in a series, in the order in which one learns of them.

    A change is said when the last three values all lie beyond every value of the reference: the
    10 to 30 values before them since the last change. If nothing changes, all orders of the values
    are equally likely, whatever their distribution; so this happens by chance in 2 of C(n+3, 3)
    cases. It must also be a twentieth of the level and three robust standard deviations, and each
    of the three at least half as far off as their median, which only makes false alarms rarer.
    ``breaks`` are indices before which nothing is comparable.
    """
    least, most = REFERENCE
    found: list[Shift] = []
    start = 0
    for end in range(len(values)):
        if end in breaks:
            start = end
        split = end - BLOCK + 1
        if split - start < least:
            continue
        reference = values[max(start, split - most) : split]
        block = values[split : end + 1]
        if not (min(block) > max(reference) or max(block) < min(reference)):
            continue
        before, after = statistics.median(reference), statistics.median(block)
        deviation = statistics.median(abs(one - before) for one in reference)
        if abs(after - before) < max(LEAST_SHIFT * abs(before), _ROBUST * deviation):
            continue
        if min(abs(one - before) for one in block) < abs(after - before) / 2:
            continue  # an odd value of the old level: the new one begins after it
        found.append(
            Shift(
                at=split,
                said=end,
                before=before,
                after=after,
                false_alarm=false_alarm(len(reference)),
            )
        )
        start = split
    return found


def false_alarm(reference: int) -> float:
    """Return how often three values lie beyond ``reference`` others by chance."""
    return 2 / math.comb(reference + BLOCK, BLOCK)
