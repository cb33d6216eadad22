"""Repeats of a figure, and how they compare with what a profile demands. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST_ERRORS = 3


@dataclass(frozen=True)
class Limit:
    """What a profile demands of a figure; a figure without floor and ceiling is only recorded."""

    floor: float | None = None
    ceiling: float | None = None
    variation: float | None = None
    """The most that the repeats may vary: standard deviation divided by mean."""


class Standing(Enum):
    """How usable repeats compare with a limit; the first that applies, in this order."""

    TOO_FEW = "too few of the planned repeats are usable"
    UNSTABLE = "they vary too much"
    RECORDED = "nothing is demanded"
    BELOW = "the interval begins below the floor"
    ABOVE = "the interval ends above the ceiling"
    MET = "the whole interval keeps the limit"


@dataclass(frozen=True)
class Repeats(Generic[T]):
    """Repeats of one figure: those that are usable, and why others are not."""

    usable: Sequence[T]
    planned: int
    errors: Sequence[str] = ()

    @classmethod
    def of(cls, runs: Iterable[T], why_not: Callable[[T], str]) -> Repeats[T]:
        """Return runs sorted by ``why_not``: why one is not usable, empty if it is."""
        sorted_ = [(one, why_not(one)) for one in runs]
        usable = [one for one, why in sorted_ if not why]
        return cls(usable, len(sorted_), [why for _, why in sorted_ if why])

    @property
    def why(self) -> str:
        """The first errors that differ."""
        found = list(dict.fromkeys(self.errors))[:_MOST_ERRORS]
        return "; ".join(found) or "no error was reported"

    def against(
        self,
        limit: Limit,
        interval: tuple[float, float],
        *,
        variation: float = 0.0,
        least: float = 1.0,
    ) -> Standing:
        """Return how the usable repeats compare with a limit.

        Args:
            limit: what the profile demands, compared with the unfavourable bound.
            interval: the figure's 95 % interval.
            variation: standard deviation of the repeats divided by their mean.
            least: the share of the planned repeats that must be usable.
        """
        low, high = interval
        if len(self.usable) < least * self.planned:
            return Standing.TOO_FEW
        if limit.variation is not None and variation > limit.variation:
            return Standing.UNSTABLE
        if limit.floor is None and limit.ceiling is None:
            return Standing.RECORDED
        if limit.floor is not None and low < limit.floor:
            return Standing.BELOW
        if limit.ceiling is not None and high > limit.ceiling:
            return Standing.ABOVE
        return Standing.MET
