"""What the interfaces carried for each request, and whether that was KV state. Pure.

KV state leaves the prefill pods and arrives in the decode pods, so that it is at most what the
quieter of the two sides carried. What both carry without any request is measured in windows of its
own and subtracted. Others send in bursts, and less while the machine is busy: what surely and what
at most moved for a request leaves room for that. KV state grows with the prompt, and is the same
for prompts of the same length; what moves for one and not for another was computed by decode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Literal

from kar_checks.checks.stack.observation import Asked, StackObservation, StackPod, Traffic
from kar_checks.profile import Profile

Direction = Literal["received", "sent"]

_LEAST_SECONDS = 0.01
"""The clock that readings carry has this step."""
_SPREAD = 1.5
"""Times the largest deviation that was seen without requests: few windows do not show all."""
_SURELY = 2
"""Requests that must have moved their state before another one counts as an exception."""


@dataclass(frozen=True)
class Moved:
    """What one window of requests moved, in bytes: surely, probably, and at most."""

    asked: list[Asked]
    least: float
    likely: float
    most: float

    @property
    def alone(self) -> bool:
        """Whether it is one request."""
        return len(self.asked) == 1


@dataclass(frozen=True)
class _Window:
    """What one side carried between two readings."""

    carried: int
    seconds: float


@dataclass(frozen=True)
class _Beside:
    """What one side carries beside KV state."""

    rate: float
    """Bytes a second."""
    spread: float
    """Bytes by which a window may have more or less: others send in bursts."""

    def most(self, seconds: float) -> float:
        return self.rate * seconds + self.spread


class Carriage:
    """The interfaces of one observation, calculated."""

    def __init__(
        self,
        seen: StackObservation,
        prefill: Sequence[StackPod],
        decode: Sequence[StackPod],
        profile: Profile,
    ) -> None:
        self._steps = seen.batch.steps
        self._floor = profile.number("stack.floor_bytes")
        self._share = profile.number("stack.moved_share")
        self._pairs = profile.number("stack.longer_moves_more")
        self._groups: dict[Direction, Sequence[StackPod]] = {"received": decode, "sent": prefill}
        self._peers: dict[Direction, set[str]] = {
            "received": {one.name for one in prefill},
            "sent": {one.name for one in decode},
        }

    @cached_property
    def sides(self) -> dict[Direction, list[_Window]]:
        """The windows of each side whose pods could all be read all the time."""
        out: dict[Direction, list[_Window]] = {}
        for direction, pods in self._groups.items():
            readable = all(
                len(one.readings) == len(self._steps)
                and all(reading.at is not None for reading in one.readings)
                for one in pods
            )
            if pods and readable and len(self._steps) > 1:
                out[direction] = [
                    _window([_between(one, at, direction) for one in pods])
                    for at in range(1, len(self._steps))
                ]
        return out

    @cached_property
    def beside(self) -> dict[Direction, _Beside]:
        """What each side carries without requests."""
        out: dict[Direction, _Beside] = {}
        for direction, windows in self.sides.items():
            quiet = [
                one
                for one, step in zip(windows, self._steps[1:], strict=True)
                if step.did == "nothing"
            ]
            if quiet:
                rate = sum(one.carried for one in quiet) / sum(one.seconds for one in quiet)
                off = max(abs(one.carried - rate * one.seconds) for one in quiet)
                out[direction] = _Beside(rate, _SPREAD * off)
        return out

    @cached_property
    def moved(self) -> list[Moved]:
        """What each window of answered requests moved, in order; the warm-up included."""
        out: list[Moved] = []
        for number, step in enumerate(self._steps[1:]):
            if step.did != "asked" or any(one.status != 200 for one in step.requests):
                continue
            windows = {
                direction: windows[number]
                for direction, windows in self.sides.items()
                if direction in self.beside
            }
            if not windows:
                continue
            sides = [(one, self.beside[direction]) for direction, one in windows.items()]
            # No more moved than the quieter side carried; what one side carried beyond its
            # background the other must have carried, too.
            most = float(max(0, min(one.carried for one, _ in sides)))
            least = max(one.carried - beside.most(one.seconds) for one, beside in sides)
            least = max(0.0, min(most, least))
            likely = min(one.carried - beside.rate * one.seconds for one, beside in sides)
            out.append(Moved(step.requests, least, max(least, likely), most))
        return out

    @property
    def noise(self) -> float:
        """Bytes by which the sum of what probably moved may be wrong."""
        spreads = [one.spread for one in self.beside.values()]
        return min(spreads, default=0.0) * math.sqrt(len(self.moved))

    def carried(self, direction: Direction) -> int | None:
        """Return all that one side carried while requests were answered; ``None`` if unreadable."""
        if direction not in self.sides:
            return None
        return sum(
            window.carried
            for window, step in zip(self.sides[direction], self._steps[1:], strict=True)
            if step.did == "asked"
        )

    # -- does it grow with the prompt ---------------------------------------------------------

    def _of(self, *, short: bool) -> list[Moved]:
        return [one for one in self.moved if one.alone and one.asked[0].short is short]

    @cached_property
    def grows(self) -> bool | None:
        """Whether long prompts moved more than short ones; ``None`` if that cannot be told."""
        short, long = self._of(short=True), self._of(short=False)
        if not short or not long:
            return None
        tokens = _typical(long) - _typical(short)
        if tokens <= 0:
            return None
        wanted = self._floor * tokens
        gained = median(one.likely for one in long) - median(one.likely for one in short)
        pairs = [other.likely - one.likely > wanted / 2 for one in short for other in long]
        if gained >= wanted and sum(pairs) >= self._pairs * len(pairs):
            return True
        most = median(one.most for one in long) - median(one.least for one in short)
        return False if most < wanted else None

    @cached_property
    def gained(self) -> float | None:
        """Bytes that a long prompt moved more than a short one, for each further token."""
        short, long = self._of(short=True), self._of(short=False)
        if not short or not long or _typical(long) <= _typical(short):
            return None
        more = median(one.likely for one in long) - median(one.likely for one in short)
        return more / (_typical(long) - _typical(short))

    # -- did every request move its state -----------------------------------------------------

    @cached_property
    def fell_short(self) -> list[Moved]:
        """The windows that moved clearly less than others of their length."""
        short, long = self._of(short=True), self._of(short=False)
        surely = [one for one in self.moved if one.least >= self._floor * _tokens(one)]
        if len(surely) < _SURELY:
            return []
        rates = {True: _second(short), False: _second(long)}
        if short and long:
            # Longer prompts have at least as much state, and shorter ones at least their part.
            ratio = _typical(short) / _typical(long)
            rates = {True: max(rates.values()), False: max(rates[False], ratio * rates[True])}
        return [
            one
            for one in self.moved
            if one.most
            < self._share * sum(rates[request.short] * request.tokens for request in one.asked)
        ]

    # -- between whom --------------------------------------------------------------------------

    @cached_property
    def with_peers(self) -> float | None:
        """Bytes over connections with pods of the other phase while requests were under way.

        Those of connections that were closed again are not among them. ``None`` if no connection
        could be read.
        """
        found = [
            total
            for direction in self.sides
            if (total := self._over_connections(direction)) is not None
        ]
        return max(found) if found else None

    def _over_connections(self, direction: Direction) -> float | None:
        index = 0 if direction == "received" else 1
        total = 0.0
        for pod in self._groups[direction]:
            told = [self._with_others(one, direction, index) for one in pod.readings]
            for number, step in enumerate(self._steps[1:]):
                before, after = told[number], told[number + 1]
                if before is None or after is None:
                    return None
                if step.did == "asked":
                    total += max(0, after - before)
        return total

    def _with_others(self, reading: Traffic, direction: Direction, index: int) -> int | None:
        if reading.peers is None:
            return None
        others = self._peers[direction]
        return sum(both[index] for name, both in reading.peers.items() if name in others)


def _between(pod: StackPod, at: int, direction: Direction) -> _Window:
    before, after = pod.readings[at - 1], pod.readings[at]
    seconds = (after.at or 0) - (before.at or 0)
    carried = int(getattr(after, direction) - getattr(before, direction))
    return _Window(carried, max(_LEAST_SECONDS, seconds))


def _window(pods: Sequence[_Window]) -> _Window:
    """Return what the pods of a side carried together."""
    return _Window(sum(one.carried for one in pods), sum(one.seconds for one in pods) / len(pods))


def _tokens(window: Moved) -> int:
    return sum(one.tokens for one in window.asked)


def _typical(windows: Sequence[Moved]) -> float:
    return median(_tokens(one) for one in windows)


def _second(windows: Sequence[Moved]) -> float:
    """Return the second largest lower bound for each token: the largest may be a burst of others.

    Of a single window it is that of the window.
    """
    found = sorted((one.least / _tokens(one) for one in windows), reverse=True)
    return found[min(1, len(found) - 1)] if found else 0.0
