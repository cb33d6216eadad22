"""Which rows of the cluster tests run, in which group, in which order; pure.

A row is a test on a local cluster. Some run always: every row that guards against a false pass, the
honest runs, and a cover, which is a small set of rows under which each check is seen to fail. The
others take turns: they are divided into parts, and each commit begins with the part after that of
the commit before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Turn = Literal["always", "due", "more"]
"""``always`` runs whatever it takes, ``due`` while there is budget, ``more`` if it also fits."""

FILLED = 0.8
"""How much of the room beside the rows that always run is planned: machines differ, and so does
one machine from hour to hour."""


@dataclass(frozen=True)
class Row:
    """A test, and what planning knows of it."""

    id: str
    """As pytest names it."""
    seconds: float = 0.0
    """What it takes on a cluster that runs already."""
    cluster: str = ""
    """Names the cluster that it wants; changing clusters costs a start."""
    guard: bool = False
    shows: frozenset[str] = frozenset()
    """The checks that are seen to fail in it."""


@dataclass
class Group:
    """Rows that run one after the other on a machine of their own."""

    rows: list[tuple[Row, Turn]] = field(default_factory=list[tuple[Row, Turn]])
    seconds: float = 0.0
    """The forecast of what they take, starts of clusters included."""

    @property
    def cluster(self) -> str | None:
        """The cluster that runs after its last row; ``None`` before its first."""
        return self.rows[-1][0].cluster if self.rows else None


@dataclass(frozen=True)
class Plan:
    """Groups of rows in running order."""

    groups: list[Group]
    needed: float
    """The seconds that the rows which always run take, in the group where they take longest."""


def cover(rows: Iterable[Row], shown: Collection[str] = ()) -> list[Row]:
    """Return rows that together show every check to fail which any row shows, at little cost.

    Greedy: next comes what shows most of what is still missing for a second. ``shown`` are checks
    that other rows show anyway.
    """
    there = list(rows)
    missing = {check for row in there for check in row.shows} - set(shown)
    chosen: list[Row] = []
    while missing:
        best = max(there, key=lambda row: (len(row.shows & missing) / (row.seconds + 1), row.id))
        chosen.append(best)
        missing -= best.shows
    # What came early may have become needless by what came later.
    for row in sorted(chosen, key=lambda row: -row.seconds):
        others = {check for one in chosen if one is not row for check in one.shows} | set(shown)
        if row.shows <= others:
            chosen.remove(row)
    return chosen


def always(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that run in every test run: guards, and a cover with the help of these."""
    guards = [row for row in rows if row.guard]
    shown = {check for row in guards for check in row.shows}
    covering = cover(rows, shown)
    return [row for row in rows if row.guard or row in covering]


def plan(
    rows: Sequence[Row],
    *,
    groups: int,
    starts: Mapping[str, float],
    budget: float | None = None,
    number: int = 0,
) -> Plan:
    """Return which rows run where, for a budget of seconds of the clock; ``None`` runs them all.

    ``starts`` has the seconds that the start of each cluster takes, ``number`` is the commit's.
    """
    made = [Group() for _ in range(max(1, groups))]
    if budget is None:
        _deal(rows, "always", made, starts)
        return Plan(_used(made), max(one.seconds for one in made))
    first = always(rows)
    _deal(first, "always", made, starts)
    needed = max(one.seconds for one in made)
    room = sum(max(0.0, budget - one.seconds) for one in made)
    others = [row for row in rows if row not in first]
    parts = turns(others, number, room * FILLED, starts)
    # A machine that is too slow for a part leaves out its end: next time that comes first.
    backwards = bool(parts) and number // len(parts) % 2 == 1
    for count, part in enumerate(parts):
        _deal(part, "more" if count else "due", made, starts, backwards=backwards)
    return Plan(_used(made), needed)


def turns(
    rows: Sequence[Row], number: int, room: float, starts: Mapping[str, float]
) -> list[list[Row]]:
    """Divide rows into parts that fit into ``room`` seconds, and begin with the ``number``-th.

    Neighbours want the same cluster. Each part comes first for one of as many commits as there
    are parts. A row that alone is longer than the room is a part.
    """
    parts: list[list[Row]] = []
    left = 0.0
    for row in sorted(rows, key=lambda row: (row.cluster, row.id)):
        change = not parts or not parts[-1] or parts[-1][-1].cluster != row.cluster
        cost = row.seconds + (starts.get(row.cluster, 0.0) if change else 0.0)
        if not parts or cost > left:
            parts.append([])
            left = room
            cost = row.seconds + starts.get(row.cluster, 0.0)
        parts[-1].append(row)
        left -= cost
    begin = number % len(parts) if parts else 0
    return parts[begin:] + parts[:begin]


def _deal(
    rows: Iterable[Row],
    turn: Turn,
    groups: Sequence[Group],
    starts: Mapping[str, float],
    *,
    backwards: bool = False,
) -> None:
    """Spread rows so that all groups end together; those of one cluster stay together if possible.

    The largest bundle of one cluster goes first, and only what does not fit under the mean of all
    goes to another group, for the price of another start.
    """
    bundles: dict[str, list[Row]] = {}
    for row in rows:
        bundles.setdefault(row.cluster, []).append(row)
    size = {name: sum(row.seconds for row in bundle) for name, bundle in bundles.items()}
    extra = sum(size.values()) + sum(starts.get(name, 0.0) for name in bundles)
    mean = (sum(group.seconds for group in groups) + extra) / len(groups)
    dealt: dict[int, list[Row]] = {count: [] for count in range(len(groups))}
    ends = {count: group.seconds for count, group in enumerate(groups)}
    for name in sorted(bundles, key=lambda name: (-size[name], name)):
        start = {
            count: 0.0 if group.cluster == name else starts.get(name, 0.0)
            for count, group in enumerate(groups)
        }
        waiting = sorted(bundles[name], key=lambda row: (-row.seconds, row.id))
        while waiting:
            where = min(ends, key=lambda count: ends[count] + start[count])
            ends[where] += start[where]
            start[where] = 0.0
            left: list[Row] = []
            for place, row in enumerate(waiting):
                if place == 0 or ends[where] + row.seconds <= mean:
                    dealt[where].append(row)
                    ends[where] += row.seconds
                else:
                    left.append(row)
            waiting = left
    for count, group in enumerate(groups):
        for row in _by_cluster(dealt[count], group.cluster, backwards=backwards):
            group.seconds += row.seconds
            if row.cluster != group.cluster:
                group.seconds += starts.get(row.cluster, 0.0)
            group.rows.append((row, turn))


def _by_cluster(rows: Sequence[Row], running: str | None, *, backwards: bool) -> list[Row]:
    """Order rows by their clusters, the running one first, the longest row of each first."""
    ordered = sorted(rows, key=lambda row: (row.cluster, -row.seconds, row.id), reverse=backwards)
    return sorted(ordered, key=lambda row: row.cluster != running)


def _used(groups: Sequence[Group]) -> list[Group]:
    return [one for one in groups if one.rows]


def how_many_groups(cores: int, memory: float, each: float) -> int:
    """Return how many clusters a machine carries at once: one for a core, with their memory."""
    return max(1, min(cores, math.floor(memory / each)))
