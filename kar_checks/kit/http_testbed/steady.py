"""A steady client: what it saw, the episodes in which it was not served well, and the verdict.

An episode is made of bad answers and of pauses; good answers of a stated time end it. Who is slow,
but answers all the time, makes no pause: only time without any answer counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from kar_checks.kit.http_testbed.records import Failure, Settled
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Figure, Record, Series
from kar_checks.profile import Profile

verdict = Reasons(__package__)

STALL_SECONDS = 0.5
"""A client that sends so much later than it wanted to was asleep, and saw nothing meanwhile."""
ENOUGH = 0.95
"""Share of the wanted time that must have been watched: what is lost at the edges is no stall."""
_COLUMN_SECONDS = 1.0


class Watch(Record):
    """Requests at a fixed rate, and every answer with its time."""

    began: float
    """Unix time, by the client's clock."""
    rate: float
    """Requests a second."""
    answers: list[tuple[float, float, int, str, str]] = []
    """When it was sent, in seconds after ``began``; how long the answer took; its status (0: none);
    the backend that it names; what went wrong, or where a redirection leads."""


class Steady(Record):
    """A client that asked over a route that never changed, from the first measurement to the last.

    Where it was silent while something else asked over the same route, there are several watches.
    """

    settled: Settled
    watches: list[Watch] = []


@dataclass(frozen=True)
class Episode:
    """A time in which the client was not served well; ``start`` and ``end`` are Unix times."""

    start: float
    end: float
    what: str

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.start


def watch(began: float, rate: float, answers: Iterable[list[Any]]) -> Watch:
    """Return the record of what a client printed, in the order in which requests were sent."""
    found = sorted((one[6], one[3], one[0], one[1], one[5]) for one in answers)
    return Watch(began=began, rate=rate, answers=found)


def stalls(seen: Watch) -> list[tuple[float, float]]:
    """Return when the client itself was asleep: from when it should have sent until it did."""
    sent = [one[0] for one in seen.answers]
    return [
        (early + 1 / seen.rate, late)
        for early, late in pairwise(sent)
        if late - early - 1 / seen.rate > STALL_SECONDS
    ]


def watched(seen: Watch) -> float:
    """Return for how long the client watched, without the time in which it was asleep."""
    if not seen.answers:
        return 0.0
    whole = seen.answers[-1][0] - seen.answers[0][0] + 1 / seen.rate
    return whole - sum(end - start for start, end in stalls(seen))


def _pauses(seen: Watch, limit: float) -> list[tuple[float, float]]:
    """Return when no answer came for longer than the limit."""
    answered = [one for one in seen.answers if one[2]]
    if not answered:
        return []
    usual = statistics.median(one[1] for one in answered)
    arrived = sorted(one[0] + one[1] for one in answered)
    # The first answer is awaited for its usual time, and so is that to the last request.
    begin, end = seen.answers[0][0] + usual, seen.answers[-1][0] + usual
    edges = [begin, *(one for one in arrived if one <= end), end]
    asleep = stalls(seen)
    found: list[tuple[float, float]] = []
    for early, late in pairwise(edges):
        own = sum(max(0.0, min(late, woke) - max(early, slept)) for slept, woke in asleep)
        if late - early - own > limit:
            found.append((early, late))
    return found


def episodes(
    watches: Sequence[Watch],
    others: Sequence[tuple[float, Failure]],
    *,
    pause: float,
    good: float,
) -> list[Episode]:
    """Return the episodes in all that was seen, in order.

    Args:
        watches: What the steady client saw.
        others: Failures of other requests over the same route, with the Unix time of the beginning
            of their measurement.
        pause: Seconds without an answer that are no pause yet.
        good: Seconds of good answers that end an episode.
    """
    bad: list[tuple[float, float, str]] = []
    for seen in watches:
        bad += [
            (seen.began + at, seen.began + at, _named(status, pod, error))
            for at, _, status, pod, error in seen.answers
            if status != 200 or not pod
        ]
        bad += [
            (seen.began + start, seen.began + end, "no answer at all")
            for start, end in _pauses(seen, pause)
        ]
    bad += [
        (began + one.at, began + one.at, _named(one.status, one.pod, one.error))
        for began, one in others
    ]
    found: list[list[tuple[float, float, str]]] = []
    for one in sorted(bad):
        if found and one[0] - max(end for _, end, _ in found[-1]) < good:
            found[-1].append(one)
        else:
            found.append([one])
    return [
        Episode(
            start=row[0][0],
            end=max(end for _, end, _ in row),
            what=_listed([what for _, _, what in row]),
        )
        for row in found
    ]


def _named(status: int, pod: str, error: str) -> str:
    if status == 0:
        return f"no answer ({error})"
    who = f" from {pod}" if pod else " from no backend of ours" if status == 200 else ""
    return f"{status}{who}"


def _listed(found: list[str]) -> str:
    counts = {what: found.count(what) for what in dict.fromkeys(found)}
    return ", ".join(f"{count} x {what}" for what, count in counts.items())


def rule(
    seen: Steady, others: Sequence[tuple[float, Failure]], profile: Profile, path: str
) -> Ruling:
    """Judge what a steady client saw; ``path`` names the route that it asked, for the finding."""
    settings = {
        name: profile.number(f"gateway.steady_{name}")
        for name in ("seconds", "pause", "good", "episodes", "longest")
    }
    most, longest = settings["episodes"], settings["longest"]
    found = episodes(seen.watches, others, pause=settings["pause"], good=settings["good"])
    origin = min((one.began for one in seen.watches), default=0.0)
    asked = sum(len(one.answers) for one in seen.watches)
    length = sum(watched(one) for one in seen.watches)
    facts = _facts(seen, found, settings, path)
    change = f"more than {most:.0f} outage, or one of more than {longest:g} s"
    what = {
        "path": path,
        "seconds": length,
        "outages": "; ".join(_named_episode(one, origin) for one in found[:4]),
    }
    if len(found) > most or any(one.seconds > longest for one in found):
        count = f"{len(found)} {'outage' if len(found) == 1 else 'outages'}"
        return verdict("outages", facts, count=count, most=most, longest=longest, **what)
    if found:
        return verdict("one_outage", facts, change=change, **what)
    if length < settings["seconds"] * ENOUGH:
        wanted = settings["seconds"]
        return verdict("window_too_short", facts, seconds=length, wanted=wanted, change=change)
    return verdict("steady", facts, asked=asked, path=path, seconds=length, change=change)


def _facts(
    seen: Steady, found: Sequence[Episode], settings: dict[str, float], path: str
) -> list[Fact]:
    asked = sum(len(one.answers) for one in seen.watches)
    length = sum(watched(one) for one in seen.watches)
    origin = min((one.began for one in seen.watches), default=0.0)
    times = [took for one in seen.watches for _, took, status, _, _ in one.answers if status]
    facts = [
        Fact(
            name="steady client",
            value=f"{asked} POSTs over {path}, watched for {length:.0f} s"
            + (f", answered in {statistics.median(times):.2f} s (median)" if times else ""),
            expected=f"200 from a backend of ours, and no pause over {settings['pause']:g} s",
            source=f"every answer with its time; {settings['good']:g} s of good answers end an "
            "outage",
        ),
        *(
            Fact(name=f"outage {number}", value=_named_episode(one, origin), expected="none")
            for number, one in enumerate(found, 1)
        ),
    ]
    asleep = sum(end - start for one in seen.watches for start, end in stalls(one))
    if asleep:
        facts.append(
            Fact(
                name="the client itself was asleep",
                value=f"{asleep:.1f} s, which do not count",
                source="requests that it sent later than it should have",
            )
        )
    return facts


def _named_episode(one: Episode, origin: float) -> str:
    clock = datetime.fromtimestamp(one.start, UTC).strftime("%H:%M:%S")
    return f"from second {one.start - origin:.1f} ({clock} UTC) for {one.seconds:.1f} s: {one.what}"


def figure(seen: Steady, check: str, name: str) -> Figure | None:
    """Return how many good and how many other answers came in each second."""
    if not seen.watches:
        return None
    origin = seen.watches[0].began
    good: dict[int, int] = {}
    bad: dict[int, int] = {}
    for one in seen.watches:
        for at, took, status, pod, _ in one.answers:
            fine = status == 200 and pod != ""
            # A good answer counts when it came, another when its request was sent.
            column = int((one.began - origin + at + took * fine) / _COLUMN_SECONDS)
            counts = good if fine else bad
            counts[column] = counts.get(column, 0) + 1
    last = max([*good, *bad], default=0)
    return Figure(
        kind="trace",
        title=f"Answers to the steady client in each second, {name}",
        checks=[check],
        variant=name,
        unit="answers a second",
        seconds=(last + 1) * _COLUMN_SECONDS,
        series=[
            Series(
                name=label,
                points=[(k * _COLUMN_SECONDS, float(counts.get(k, 0))) for k in range(last + 1)],
                stepped=True,
            )
            for label, counts in (("200 from a backend", good), ("anything else", bad))
        ],
    )
