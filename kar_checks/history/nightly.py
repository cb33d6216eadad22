"""A series of runs of one cluster: what changed, when, and what else changed then.

Checks and figures change by different rules, since a judge has already kept noise out of a verdict
and nobody has kept it out of a figure. See :func:`assess`.
"""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from kar_checks import words
from kar_checks.history import statistics
from kar_checks.history.runs import Key, Past, environment_changes, setting_changes
from kar_checks.history.statistics import BLOCK, REFERENCE
from kar_checks.model import Finding, Outcome, Record

FLAPPING = (3, 10)
"""A check that changed at least so often within so many decided runs is flapping."""
_MOST_NAMED = 3
LOST = 3
"""A check without a verdict for so many runs has lost it."""
_DECIDED = (Outcome.PASS, Outcome.FAIL, Outcome.NOT_APPLICABLE)

Direction = Literal["worse", "better", "changed", "new"]
"""``new``: a failure of something that had no verdict before."""


class Change(Record):
    """Something that is no longer as it was."""

    what: Literal["check", "figure"]
    name: str
    title: str = ""
    """What a check is about; a figure's name says it."""
    direction: Direction
    since: str
    """Id of the first run with the new state."""
    said: str
    """Id of the run with which it became certain."""
    told: str
    environment: list[str] = []
    """What else changed in the cluster between the run before and the first of the new state."""


class Point(Record):
    """A figure in one run."""

    run: str
    date: str
    value: float
    count: int


class Trend(Record):
    """A figure over the series."""

    topic: str
    name: str
    variant: str
    unit: str
    better: str
    points: list[Point]
    changes: list[int]
    """Indices of points with which a new level began."""
    learning: int
    """How many runs are still missing before a change can be told; 0 if it can."""


class Line(Record):
    """A check over the series: one outcome a run, empty where there was none."""

    name: str
    title: str
    outcomes: list[str]


class Series(Record):
    """What a history says; what changed with the last run stands first."""

    cluster: str
    cluster_uid: str
    runs: list[str]
    dates: list[str]
    latest: str
    previous: str
    finished: str
    """When the latest run ended, ISO 8601; empty if it did not."""
    complete: bool
    changed: list[Change]
    """With the latest run."""
    environment: list[str]
    """What else changed since the run before."""
    flapping: list[str]
    unmeasured: list[str]
    """Checks that had a verdict and got none in the latest run."""
    standing: list[str]
    """Checks that fail and failed before, with the run that began it."""
    earlier: list[Change]
    lines: list[Line]
    trends: list[Trend]
    method: list[str]
    troubles: list[str]

    @property
    def worse(self) -> list[Change]:
        """What changed for the worse with the latest run, failures seen for the first time too."""
        return [one for one in self.changed if one.direction in ("worse", "new")]


def assess(pasts: Sequence[Past], moment: datetime, troubles: Sequence[str] = ()) -> Series:
    """Return what the history of the newest run's cluster says.

    A verdict of a check is compared with its last verdict: undecided runs and harness errors lie
    between and change nothing, until there are three of them in a row. Three changes within ten
    decided runs are flapping, and are then no changes any more. Figures change by
    :func:`kar_checks.history.statistics.shifts` over the medians of the runs; runs that were not
    alone or did not end, and runs before another profile, are not counted.

    Raises:
        ValueError: there is no run.
    """
    if not pasts:
        raise ValueError("there is no run to assess")
    newest = pasts[-1]
    mine = [one for one in pasts if one.cluster == newest.cluster]
    said = [*troubles, *_oddities(pasts, mine, moment)]
    changes: list[Change] = []
    flapping: list[str] = []
    unmeasured: list[str] = []
    standing: list[str] = []
    lines: list[Line] = []
    titles = {check.id: check.title for one in mine for check in one.run.info.checks}
    for key in sorted({key for one in mine for key in one.findings if key[0] in titles}):
        story = _Story(key, titles[key[0]], mine)
        changes += story.changes
        flapping += story.flapping
        unmeasured += story.unmeasured
        standing += story.standing
        lines.append(Line(name=story.name, title=titles[key[0]], outcomes=story.outcomes))
    trends: list[Trend] = []
    for figure in sorted({figure for one in mine for figure in one.measures}):
        trend, found = _trend(figure, mine)
        trends.append(trend)
        changes += found
    place = newest.run.info.environment
    previous = mine[-2] if len(mine) > 1 else None
    return Series(
        cluster=place.cluster,
        cluster_uid=place.cluster_uid,
        runs=[one.id for one in mine],
        dates=[_date(one) for one in mine],
        latest=newest.id,
        previous=previous.id if previous else "",
        finished=newest.run.info.finished.isoformat() if newest.run.info.finished else "",
        complete=newest.complete,
        changed=_order(one for one in changes if one.said == newest.id),
        environment=environment_changes(previous, newest) if previous else [],
        flapping=flapping,
        unmeasured=unmeasured,
        standing=standing,
        earlier=[
            one
            for one in sorted(
                changes, key=lambda one: [past.id for past in mine].index(one.said), reverse=True
            )
            if one.said != newest.id
        ],
        lines=lines,
        trends=trends,
        method=_method(trends),
        troubles=said,
    )


def _order(changes: Iterable[Change]) -> list[Change]:
    rank = {"worse": 0, "new": 0, "changed": 1, "better": 2}
    return sorted(changes, key=lambda one: rank[one.direction])


def _date(past: Past) -> str:
    return f"{past.run.info.started:%Y-%m-%d %H:%M}"


def _oddities(pasts: Sequence[Past], mine: Sequence[Past], moment: datetime) -> list[str]:
    others = [one for one in pasts if one not in mine]
    name = mine[-1].run.info.environment.cluster
    out: list[str] = []
    if others:
        same = sum(one.run.info.environment.cluster == name for one in others)
        called = f", {same} of them of another cluster called {name}" if same else ""
        out.append(f"{words.count(len(others), 'run')} of other clusters left out{called}")
    infos = [one.run.info for one in mine]
    for told, found in (
        (
            "the clock went back during it",
            [one.id for one in infos if one.finished and one.finished < one.started],
        ),
        (
            "dated in the future, which makes the order of the runs doubtful",
            [one.id for one in infos if one.started > moment + timedelta(minutes=5)],
        ),
        (
            "another run was active on the cluster; its figures are not counted",
            [one.id for one in infos if one.beside],
        ),
        ("not finished", [one.id for one in mine if not one.complete]),
        (
            "damaged: its checks count as errors",
            [f"{one.id} ({why})" for one in mine for why in one.run.damaged.values()],
        ),
    ):
        if found:
            more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            out.append(f"{told}: {', '.join(found[-_MOST_NAMED:])}{more}")
    return out


def _name(key: Key) -> str:
    return f"{key[0]}[{key[1]}]" if key[1] else key[0]


class _Story:
    """The verdicts of one check, in order."""

    def __init__(self, key: Key, title: str, mine: Sequence[Past]) -> None:
        self.name = _name(key)
        self.title = title
        self.outcomes: list[str] = []
        self.changes: list[Change] = []
        self.flapping: list[str] = []
        self.unmeasured: list[str] = []
        self.standing: list[str] = []
        decided: list[tuple[int, Finding]] = []
        turns: list[int] = []
        """Places among the decided runs at which the verdict changed."""
        silent = 0
        for index, past in enumerate(mine):
            found = past.findings.get(key)
            self.outcomes.append(found.outcome.value if found else "")
            if found is None or found.outcome not in _DECIDED:
                silent += _tried(past, key)
                if silent == LOST and decided and _tried(past, key):
                    self._lose(mine, index, found, decided[-1][1])
                continue
            silent = 0
            if decided and decided[-1][1].outcome is not found.outcome:
                turns.append(len(decided))
                if not _flaps(turns, len(decided)):
                    self._turn(mine, decided[-1], (index, found))
            if not decided and index and found.outcome is Outcome.FAIL:
                self._begin(mine, index, found)
            decided.append((index, found))
        self._latest(mine, decided, turns, key)

    def _turn(
        self, mine: Sequence[Past], old: tuple[int, Finding], new: tuple[int, Finding]
    ) -> None:
        direction: Direction = "changed"
        if new[1].outcome is Outcome.FAIL:
            direction = "worse"
        elif (old[1].outcome, new[1].outcome) == (Outcome.FAIL, Outcome.PASS):
            direction = "better"
        id_ = mine[new[0]].id
        self.changes.append(
            Change(
                what="check",
                name=self.name,
                title=self.title,
                direction=direction,
                since=id_,
                said=id_,
                told=f"{old[1].outcome.value} → {new[1].outcome.value}: {new[1].summary}",
                environment=environment_changes(mine[old[0]], mine[new[0]]),
            )
        )

    def _begin(self, mine: Sequence[Past], index: int, found: Finding) -> None:
        """A first verdict that is a failure: new, and maybe only to this version of the suite."""
        before, now = mine[index - 1].run.info, mine[index].run.info
        known = any(one.id == found.check for one in before.checks)
        told = "its first verdict"
        if before.suite_version != now.suite_version and not known:
            told = f"first seen with suite {now.suite_version}"
        self.changes.append(
            Change(
                what="check",
                name=self.name,
                title=self.title,
                direction="new",
                since=now.id,
                said=now.id,
                told=f"{told}: {found.outcome.value}: {found.summary}",
                environment=environment_changes(mine[index - 1], mine[index]),
            )
        )

    def _lose(self, mine: Sequence[Past], index: int, found: Finding | None, last: Finding) -> None:
        why = found.summary if found else "it gave no finding"
        self.changes.append(
            Change(
                what="check",
                name=self.name,
                title=self.title,
                direction="worse",
                since=mine[index - LOST + 1].id,
                said=mine[index].id,
                told=f"no verdict for {LOST} runs, it was {last.outcome.value}: {why}",
            )
        )

    def _latest(
        self,
        mine: Sequence[Past],
        decided: list[tuple[int, Finding]],
        turns: list[int],
        key: Key,
    ) -> None:
        if not decided:
            return
        if _flaps(turns, len(decided) - 1):
            last = sum(turn > len(decided) - 1 - FLAPPING[1] for turn in turns)
            self.flapping.append(
                f"{self.name}: {last} changes within {FLAPPING[1]} decided runs, "
                f"now {decided[-1][1].outcome.value}"
            )
        index, found = decided[-1]
        if index < len(mine) - 1:
            now = mine[-1].findings.get(key)
            if _tried(mine[-1], key):
                why = f"{now.outcome.value}: {now.summary}" if now else "it gave no finding"
                self.unmeasured.append(f"{self.name}: {why}")
            return
        if found.outcome is Outcome.FAIL:
            first = turns[-1] if turns else 0
            if len(decided) - first > 1:
                began = mine[decided[first][0]]
                self.standing.append(
                    f"{self.name}: for {len(decided) - first} decided runs, "
                    f"since {began.id} of {_date(began)}"
                )


def _tried(past: Past, key: Key) -> bool:
    """Say whether a run selected the check: what was not asked for was not lost."""
    return key[0] in past.run.info.selection


def _flaps(turns: Sequence[int], place: int) -> bool:
    return sum(turn > place - FLAPPING[1] for turn in turns) >= FLAPPING[0]


def _trend(key: tuple[str, str, str], mine: Sequence[Past]) -> tuple[Trend, list[Change]]:
    there = [
        (past, past.measures[key])
        for past in mine
        if key in past.measures and past.complete and not past.run.info.beside
    ]
    values = [plain.median(one.samples) for _, one in there]
    breaks = [
        index
        for index in range(1, len(there))
        if setting_changes(there[index - 1][0], there[index][0])
        or there[index - 1][1].unit != there[index][1].unit
    ]
    found = statistics.shifts(values, breaks)
    latest = there[-1][1] if there else next(p.measures[key] for p in mine if key in p.measures)
    start = max([0, *(one.at for one in found), *breaks])
    trend = Trend(
        topic=key[0],
        name=key[1],
        variant=key[2],
        unit=latest.unit,
        better=latest.better,
        points=[
            Point(run=past.id, date=_date(past), value=value, count=len(one.samples))
            for (past, one), value in zip(there, values, strict=True)
        ],
        changes=[one.at for one in found],
        learning=max(0, REFERENCE[0] + BLOCK - 1 - (len(values) - start)),
    )
    about = f"{key[0]}: {key[1]}" + (f" [{key[2]}]" if key[2] else "")
    changes = [
        Change(
            what="figure",
            name=about,
            direction=(
                "better" if (one.after > one.before) == (latest.better == "higher") else "worse"
            ),
            since=there[one.at][0].id,
            said=there[one.said][0].id,
            told=f"median {one.before:.4g} → {one.after:.4g} {latest.unit} "
            f"({_share(one)}as three runs agree; by chance in {one.false_alarm:.2%} of nights)",
            environment=environment_changes(there[one.at - 1][0], there[one.at][0]),
        )
        for one in found
    ]
    return trend, changes


def _share(shift: statistics.Shift) -> str:
    return f"{(shift.after - shift.before) / abs(shift.before):+.0%}, " if shift.before else ""


def _method(trends: Sequence[Trend]) -> list[str]:
    able = [one for one in trends if not one.learning]
    rate = sum(
        statistics.false_alarm(min(max(len(one.points) - BLOCK + 1, REFERENCE[0]), REFERENCE[1]))
        for one in able
    )
    return [
        "A check has changed when its verdict differs from its last one. Runs without a verdict "
        f"do not count; {LOST} of them in a row are a change for the worse. {FLAPPING[0]} changes "
        f"within {FLAPPING[1]} decided runs are called flapping, and are not listed one by one.",
        f"A figure has changed when the medians of {BLOCK} runs in a row are all beyond every "
        f"median of the {REFERENCE[0]} to {REFERENCE[1]} runs before them, by at least "
        f"{statistics.LEAST_SHIFT:.0%} and three robust standard deviations, and none of them less "
        f"than half as far as their median. So a change is reported with the third run, and a "
        f"single odd night is not a change. Without any change this happens in at "
        f"most 2 of C(n+{BLOCK}, {BLOCK}) nights for n runs before, whatever the distribution.",
        f"{len(able)} of {len(trends)} figures have enough runs; together they give at most "
        f"{rate:.3f} false alarms a night."
        if able
        else "No figure has enough runs yet.",
    ]
