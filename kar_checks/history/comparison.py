"""Runs side by side: requirement by requirement, check by check, figure by figure."""

from __future__ import annotations

import math
import statistics as plain
from collections import Counter
from collections.abc import Mapping, Sequence

from kar_checks import programme, words
from kar_checks.history import statistics
from kar_checks.history.runs import Past, setting_changes, shapes
from kar_checks.history.statistics import ALPHA, Tested
from kar_checks.model import Record
from kar_checks.store import now

_MOST_NAMED = 4
_SHOWN = ("pass", "fail")
_TOO_FEW = "too few repeats"


class UnlikeError(ValueError):
    """The runs are not alike, so that comparing them could mislead."""


class Head(Record):
    """A compared run."""

    id: str
    label: str
    cluster: str
    cluster_uid: str
    date: str
    age_days: float
    kubernetes: str
    checklist: str
    suite: str
    profile: str
    nodes: list[str]
    """Kinds of nodes with their number."""
    local_cluster: bool
    signature: str = ""
    """Whether it is signed, by which key, and whether its files are still those."""


class Cell(Record):
    """What one run came to in one row; a run that knows no such row has none."""

    outcome: str
    reason: str
    evidence: str = ""


class Row(Record):
    """A requirement, or a check of it."""

    id: str
    title: str
    group: str
    """MUST, SHOULD, or the title of a topic beside the checklist."""
    cells: list[Cell | None]
    differs: bool


class Group(Row):
    """A requirement or a topic beside the checklist, with its checks."""

    checks: list[Row]
    shown: bool
    """Whether any run decided it, or one of its checks: passed or failed."""


class Figures(Record):
    """What one run measured of a figure."""

    count: int
    median: float
    least: float
    most: float


class Verdict(Record):
    """What may be said of a run's figure against the first run's."""

    word: str
    """``better``, ``worse``, ``no difference shown`` or ``too few repeats``."""
    shift_percent: float | None
    """``None`` where the first run's median is 0."""
    p: float
    adjusted_p: float | None
    """Corrected for the number of comparisons; ``None`` where there were too few repeats."""
    told: str


class FigureRow(Record):
    """A figure over all runs."""

    topic: str
    name: str
    variant: str
    unit: str
    better: str
    how: str
    cells: list[Figures | None]
    verdicts: list[Verdict | None]
    """One for each run; of the first and of runs without the figure there is none."""
    differs: bool
    decidable: bool
    """Whether every run was tested against the first, with repeats enough to show a difference."""


class Comparison(Record):
    """All of it, differences first."""

    runs: list[Head]
    unlike: list[str]
    """Why the runs are not alike; empty where they are."""
    notes: list[str]
    groups: list[Group]
    figures: list[FigureRow]

    @property
    def differing(self) -> list[Group]:
        """Requirements and topics that did not come out the same everywhere."""
        return [one for one in self.groups if one.differs]

    @property
    def alike(self) -> list[Group]:
        """Requirements and topics that some run decided, with the same outcome everywhere."""
        return [one for one in self.groups if one.shown and not one.differs]

    @property
    def unshown(self) -> list[Group]:
        """Requirements and topics that no run has shown to work or to fail."""
        return [one for one in self.groups if not one.shown and not one.differs]

    @property
    def figures_differing(self) -> list[FigureRow]:
        """Figures that were shown to differ."""
        return [one for one in self.figures if one.differs]

    @property
    def figures_alike(self) -> list[FigureRow]:
        """Figures with repeats enough to show a difference, which they did not."""
        return [one for one in self.figures if one.decidable and not one.differs]

    @property
    def figures_undecidable(self) -> list[FigureRow]:
        """Figures of which nothing can be said: too few repeats, or not measured everywhere."""
        return [one for one in self.figures if not one.decidable and not one.differs]


def compare(
    pasts: Sequence[Past],
    *,
    allow_different: bool,
    most_days_apart: float,
    notes: Sequence[str] = (),
    signatures: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare two runs or more; the first is what figures are tested against.

    ``notes`` are sentences about the runs that the page repeats; ``signatures`` says by run id
    what is known of who signed it.

    Raises:
        UnlikeError: they are not alike, and that was not allowed.
        ValueError: there are fewer than two, or one is given twice.
    """
    if len(pasts) < 2:
        raise ValueError("at least two runs are compared")
    twice = [name for name, number in Counter(one.id for one in pasts).items() if number > 1]
    if twice:
        raise ValueError(f"run {twice[0]} was given twice")
    unlike = _unlike(pasts, most_days_apart)
    if unlike and not allow_different:
        raise UnlikeError(
            f"these runs are not alike: {'; '.join(unlike)}; --allow-different compares them all "
            "the same and marks it on the page"
        )
    return Comparison(
        runs=_heads(pasts, signatures or {}),
        unlike=unlike,
        notes=[*notes, *_notes(pasts)],
        groups=_groups(pasts),
        figures=_figures(pasts),
    )


def _heads(pasts: Sequence[Past], signatures: Mapping[str, str]) -> list[Head]:
    names = Counter(one.run.info.environment.cluster for one in pasts)
    found: list[Head] = []
    for one in pasts:
        info = one.run.info
        name = info.environment.cluster
        same = names[name] > 1
        found.append(
            Head(
                id=info.id,
                label=f"{name} ({info.id[-4:]})" if same else name,
                cluster=name,
                cluster_uid=info.environment.cluster_uid,
                date=f"{info.started:%Y-%m-%d %H:%M} UTC",
                age_days=round((now() - info.started).total_seconds() / 86400, 1),
                kubernetes=info.environment.server_version,
                checklist=info.kubernetes_minor,
                suite=info.suite_version,
                profile=str((info.judged_with or info.profile).get("name", "unnamed")),
                nodes=shapes(info.environment.nodes) or ["nodes not seen"],
                local_cluster=info.environment.local_cluster,
                signature=signatures.get(info.id, "not signed"),
            )
        )
    return found


def _unlike(pasts: Sequence[Past], most_days_apart: float) -> list[str]:
    infos = [one.run.info for one in pasts]
    out: list[str] = []
    for what, values in (
        ("Kubernetes minors", [one.kubernetes_minor for one in infos]),
        ("versions of the suite", [one.suite_version for one in infos]),
    ):
        if len(set(values)) > 1:
            out.append(f"{what} {', '.join(sorted(set(values)))}")
    for one in pasts[1:]:
        changed = setting_changes(pasts[0], one)
        if changed:
            more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
            named = ", ".join(changed[:_MOST_NAMED])
            out.append(f"run {one.id} had another profile ({named}{more})")
    days = (
        max(one.started for one in infos) - min(one.started for one in infos)
    ).total_seconds() / 86400
    if days > most_days_apart:
        out.append(f"they are {days:.0f} days apart (at most {most_days_apart:g})")
    kinds = {"the embedded local cluster" if one.environment.local_cluster else "" for one in infos}
    if len(kinds) > 1:
        out.append("one is of the embedded local cluster and another is not")
    out += [f"run {one.id} did not finish" for one in pasts if not one.complete]
    levels: dict[str, set[str]] = {}
    for one in pasts:
        for row in one.run.requirements:
            if row.evidence:
                levels.setdefault(row.id, set()).add(row.evidence.value)
    out += [
        f"{name} rests on {' and '.join(sorted(found))} evidence"
        for name, found in levels.items()
        if len(found) > 1
    ]
    return out


def _notes(pasts: Sequence[Past]) -> list[str]:
    names: dict[str, set[str]] = {}
    clusters = Counter(one.cluster for one in pasts)
    for one in pasts:
        place = one.run.info.environment
        names.setdefault(place.cluster, set()).add(place.cluster_uid)
    out = [
        f"{len(uids)} different clusters are all called {name}: look at their ids"
        for name, uids in names.items()
        if len(uids) > 1
    ]
    if max(clusters.values()) > 1:
        out.append("some of these runs are of the same cluster")
    out += [
        f"the clock went back during run {one.id}: its date is doubtful"
        for one in pasts
        if one.run.info.finished and one.run.info.finished < one.run.info.started
    ]
    out += [
        f"run {one.id} is damaged: its checks count as errors: {why}"
        for one in pasts
        for why in one.run.damaged.values()
    ]
    out += [
        f"run {one.id} was not alone: {', '.join(others)} ran at the same time"
        for one in pasts
        if (others := [other.id for other in one.run.info.beside])
    ]
    return out


# -- requirements and checks -----------------------------------------------------------------------


def _groups(pasts: Sequence[Past]) -> list[Group]:
    found: list[Group] = []
    minors = sorted({one.run.info.kubernetes_minor for one in pasts}, key=_minor)
    titles = {line.id: line for minor in minors for line in programme.requirements(minor)}
    for name, line in titles.items():
        rows = [next((r for r in one.run.requirements if r.id == name), None) for one in pasts]
        cells = [
            Cell(outcome=row.outcome, reason=row.reason, evidence=row.evidence or "")
            if row
            else None
            for row in rows
        ]
        levels = [row.level for row in rows if row]
        topics = [
            topic.id for one in pasts for topic in one.run.info.topics if topic.requirement == name
        ]
        found.append(
            _group(name, f"{line.title} ({line.label})", levels[0], cells, _checks(pasts, topics))
        )
    beside = {
        topic.id: topic.title
        for one in pasts
        for topic in one.run.info.topics
        if topic.requirement not in titles
    }
    for topic, title in beside.items():
        checks = _checks(pasts, [topic])
        if checks:
            found.append(_group(topic, title, "beside the checklist", _worst(checks), checks))
    order = {"MUST": 0, "SHOULD": 1}
    return sorted(found, key=lambda one: (not one.differs, order.get(one.group, 2)))


def _minor(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _group(name: str, title: str, group: str, cells: list[Cell | None], checks: list[Row]) -> Group:
    differs = _differ(cells) or any(one.differs for one in checks)
    decided = [cell for row in (cells, *(one.cells for one in checks)) for cell in row if cell]
    return Group(
        id=name,
        title=title,
        group=group,
        cells=cells,
        differs=differs,
        checks=checks,
        shown=any(one.outcome in _SHOWN for one in decided),
    )


def _differ(cells: Sequence[Cell | None]) -> bool:
    return len({one.outcome if one else "" for one in cells}) > 1


def _worst(checks: Sequence[Row]) -> list[Cell | None]:
    """Return one cell a run for a topic that has no requirement: how many checks came to what."""
    cells: list[Cell | None] = []
    for column in zip(*(one.cells for one in checks), strict=True):
        counted = Counter(cell.outcome for cell in column if cell)
        order = [one for one in ("fail", "error", "inconclusive", "pass") if counted[one]]
        others = [one for one in counted if one not in order]
        told = ", ".join(f"{counted[one]} {words.outcome(one)}" for one in [*order, *others])
        cells.append(Cell(outcome=(order or others)[0], reason=told) if counted else None)
    return cells


def _checks(pasts: Sequence[Past], topics: Sequence[str]) -> list[Row]:
    infos = {
        check.id: check for one in pasts for check in one.run.info.checks if check.topic in topics
    }
    keys = dict.fromkeys(
        key for check in infos for one in pasts for key in sorted(one.findings) if key[0] == check
    )
    rows: list[Row] = []
    for check, variant in keys:
        cells: list[Cell | None] = []
        for one in pasts:
            found = one.findings.get((check, variant))
            cells.append(
                Cell(outcome=found.outcome, reason=found.summary, evidence=found.evidence or "")
                if found
                else None
            )
        about = f"{check}[{variant}]" if variant else check
        differs = _differ(cells)
        title = infos[check].title
        rows.append(Row(id=about, title=title, group=check, cells=cells, differs=differs))
    return sorted(rows, key=lambda row: not row.differs)


# -- figures ---------------------------------------------------------------------------------------


def _figures(pasts: Sequence[Past]) -> list[FigureRow]:
    keys = dict.fromkeys(key for one in pasts for key in one.measures)
    tests: dict[tuple[tuple[str, str, str], int], Tested] = {}
    for key in keys:
        base = pasts[0].measures.get(key)
        for index, one in enumerate(pasts[1:], 1):
            mine = one.measures.get(key)
            if base and mine and base.unit == mine.unit:
                tests[(key, index)] = statistics.compare(base.samples, mine.samples)
    able = [place for place, one in tests.items() if one.least_p <= ALPHA]
    corrected = dict(zip(able, statistics.adjusted([tests[one].p for one in able]), strict=True))
    rows: list[FigureRow] = []
    for key in keys:
        all_ = [one.measures.get(key) for one in pasts]
        first = next(one for one in all_ if one)
        verdicts = [
            _verdict(tests[(key, index)], corrected.get((key, index)), first.better)
            if (key, index) in tests
            else None
            for index in range(len(pasts))
        ]
        rows.append(
            FigureRow(
                topic=key[0],
                name=key[1],
                variant=key[2],
                unit=first.unit,
                better=first.better,
                how=first.how,
                cells=[
                    Figures(
                        count=len(one.samples),
                        median=plain.median(one.samples),
                        least=min(one.samples),
                        most=max(one.samples),
                    )
                    if one
                    else None
                    for one in all_
                ],
                verdicts=verdicts,
                differs=any(one and one.word in ("better", "worse") for one in verdicts),
                decidable=all(one and one.word != _TOO_FEW for one in verdicts[1:]),
            )
        )
    return sorted(rows, key=lambda row: not row.differs)


def _verdict(tested: Tested, corrected: float | None, better: str) -> Verdict:
    percent = 100 * tested.shift
    if corrected is None:
        word = _TOO_FEW
        told = (
            f"so few repeats give p = {tested.least_p:.2g} at best, even if all of them differ: "
            "inconclusive"
        )
    elif corrected > ALPHA:
        word, told = "no difference shown", f"p = {corrected:.2g}, corrected"
    else:
        higher = percent > 0
        word = "better" if higher == (better == "higher") else "worse"
        by = f"{abs(percent):.1f} % " if math.isfinite(percent) else ""
        told = f"{by}{'higher' if higher else 'lower'}, p = {corrected:.2g}"
    return Verdict(
        word=word,
        shift_percent=round(percent, 2) if math.isfinite(percent) else None,
        p=tested.p,
        adjusted_p=corrected,
        told=told,
    )
