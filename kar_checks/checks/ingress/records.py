"""Records that both trials store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from kar_checks.model import Record


class Condition(Record):
    """A condition of a status as it was read."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    current: bool
    """Its observedGeneration is the object's generation, or the condition carries none."""

    @property
    def holds(self) -> bool:
        """Whether it is True for the object as it is now."""
        return self.status == "True" and self.current

    def __str__(self) -> str:
        stale = "" if self.current else " (of an older generation)"
        return f"{self.type}={self.status}, {self.reason}: {self.message}{stale}".rstrip(": ")


class Parent(Record):
    """What one controller says about a route or a pool under one Gateway."""

    controller: str
    gateway: str
    conditions: list[Condition]

    def condition(self, kind: str) -> Condition | None:
        """Return a condition by its type."""
        return next((one for one in self.conditions if one.type == kind), None)


class GatewaySeen(Record):
    """A Gateway of ours, and how long it took."""

    name: str
    address: str
    conditions: list[Condition]
    attached_routes: int
    seconds: float
    """From creation until it was programmed, or until nobody waited any longer."""

    def condition(self, kind: str) -> Condition | None:
        """Return a condition by its type."""
        return next((one for one in self.conditions if one.type == kind), None)

    @property
    def programmed(self) -> bool:
        """Whether it is said to be ready, and where."""
        found = self.condition("Programmed")
        return found is not None and found.holds and self.address != ""


class Tally(Record):
    """How many answers were alike."""

    status: int
    """0: no answer; ``error`` says why."""
    pod: str = ""
    revision: str = ""
    fresh: bool = False
    """They came over connections of their own."""
    error: str = ""
    count: int


class Settled(Record):
    """How it went until answers were steady."""

    settled: bool
    seconds: float
    asked: int
    last: list[Tally]


class Sample(Record):
    """A fixed number of requests, their answers, and what the servers counted themselves."""

    sent: int
    seconds: float
    tallies: list[Tally]
    counted: dict[str, int]
    """Requests with this sample's token that each server saw, by its own count."""

    def good(self, *, pod: str | None = None, revision: str | None = None) -> int:
        """Return the number of answers with status 200, of one pod and revision if wanted."""
        return sum(
            one.count
            for one in self.tallies
            if one.status == 200
            and pod in (None, one.pod)
            and revision in (None, one.revision)
            and one.pod
        )

    @property
    def agrees(self) -> bool:
        """Whether each server counted as many requests as answers bear its name."""
        named = Counter[str]()
        for one in self.tallies:
            if one.pod:
                named[one.pod] += one.count
        return all(named[pod] == count for pod, count in self.counted.items()) and set(
            named
        ) <= set(self.counted)


def tallied(answers: Iterable[list[Any]]) -> list[Tally]:
    """Count the answers of a client: ``[status, pod, revision, seconds, fresh, error]`` each."""
    found = Counter((one[0], one[1], one[2], one[4], one[5]) for one in answers)
    return [
        Tally(status=status, pod=pod, revision=revision, fresh=fresh, error=error, count=count)
        for (status, pod, revision, fresh, error), count in sorted(found.items())
    ]


def told(tallies: Iterable[Tally]) -> str:
    """Return answers in words, the most frequent first."""
    parts = Counter[str]()
    for one in tallies:
        who = f"{one.status} from {one.pod}" if one.pod else f"{one.status} from no backend of ours"
        parts[who if one.status else f"no answer ({one.error})"] += one.count
    return ", ".join(f"{count} times {who}" for who, count in parts.most_common(5)) or "nothing"
