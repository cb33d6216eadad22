"""Records that both trials store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from kar_checks.model import Record

MOST_FAILURES = 200


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
    """What one controller reports about a route or a pool under one Gateway."""

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
    """From creation until it was programmed, or until the wait ended."""

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
    """0: no answer; ``error`` has the cause."""
    pod: str = ""
    revision: str = ""
    fresh: bool = False
    """They came over connections of their own."""
    error: str = ""
    count: int


class Failure(Record):
    """An answer that was not the one that was wanted."""

    at: float
    """Seconds after the beginning of the measurement that it belongs to."""
    status: int
    """0: no answer; ``error`` has the cause."""
    pod: str = ""
    error: str = ""


class Settled(Record):
    """How it went until answers were steady after a change of ours."""

    settled: bool
    seconds: float
    asked: int
    last: list[Tally]
    began: float | None = None
    """Unix time, by the client's clock."""
    failed: int | None = None
    """Answers that were not right; ``failures`` holds the first of them."""
    failures: list[Failure] = []
    usual: float | None = None
    """Median time of the answers when they were steady."""


class Sample(Record):
    """A fixed number of requests, their answers, and what the servers counted themselves."""

    sent: int
    seconds: float
    tallies: list[Tally]
    counted: dict[str, int]
    """Requests with this sample's token that each server saw, by its own count."""
    distinct: dict[str, int] | None = None
    """The same without repeats, by the ids of the requests."""
    method: str = ""
    """``POST``, or empty in a run that did not record it."""
    token: str = ""
    began: float | None = None
    """Unix time, by the client's clock."""
    failures: list[Failure] = []
    """The first of the answers that did not have status 200 and a backend's name."""
    again: int = 0
    """Requests that were sent a second time, since their kept connection had been closed."""
    altered: int | None = None
    """Requests of which the server got another body than was sent."""

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
        """Whether each server counted as many requests as answers bear its name.

        Repeats of one request at one server are another question, where they can be counted.
        """
        named = Counter[str]()
        for one in self.tallies:
            if one.pod:
                named[one.pod] += one.count
        own = self.counted if self.distinct is None else self.distinct
        return all(named[pod] == count for pod, count in own.items()) and set(named) <= set(own)


def failures(answers: Iterable[list[Any]]) -> list[Failure]:
    """Return the answers of a client that are no success of a backend of ours."""
    return unwanted(one for one in answers if one[0] != 200 or not one[1])


def unwanted(answers: Iterable[list[Any]]) -> list[Failure]:
    """Return answers as failures, whatever they are: one of a backend came by an older rule."""
    return [
        Failure(
            at=one[6],
            status=one[0],
            pod=one[1],
            error=one[5] or ("by an older rule" if one[0] == 200 and one[1] else ""),
        )
        for one in answers
    ][:MOST_FAILURES]


def tallied(answers: Iterable[list[Any]]) -> list[Tally]:
    """Count the answers of a client: ``[status, pod, revision, seconds, fresh, error, …]`` each."""
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
        who += f" ({one.error})" if one.status and one.error else ""
        parts[who if one.status else f"no answer ({one.error})"] += one.count
    return ", ".join(f"{count} x {who}" for who, count in parts.most_common(5)) or "nothing"


class Surroundings(Record):
    """What may keep traffic from the backends, apart from any gateway."""

    policies: list[str] = []
    """Policies of the network that restrict who may reach them, at the end."""
    later: list[str] = []
    """Those of them that were not there at the beginning."""
    unreached: list[str] = []
    """Backends that did not answer the client's pod directly."""
