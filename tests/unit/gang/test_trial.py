"""Several gang schedulers in one trial: found, tried, measured at once, each told by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks.checks.gang import bench, trial
from kar_checks.checks.gang.bench import Bench
from kar_checks.checks.gang.observation import (
    Arena,
    BackendObservation,
    Canary,
    Disturbance,
    Fits,
    Incomplete,
    Problem,
    Start,
    Window,
)
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.kit.trial import Trial
from kar_checks.model import Fault, Reason, Record
from kar_checks.profile import default

ARENA = Arena(node="n1", free=600, member=50, places=4.5)
FITS = Fits(arena=ARENA, groups=[], start=Start(room_at=0, size=4, bound=[]))
INCOMPLETE = Incomplete(
    arena=ARENA,
    groups=[],
    size=4,
    window=Window(began=0, ended=1, watched=True, bound=[]),
    disturbances=[Disturbance(at=1, reason="foreign_pod", text="a stranger came")],
)
SILENT = Problem(reason="scheduler_silent", text="nobody answers")


@dataclass
class Assessed:
    """A gang scheduler whose measurements are known beforehand."""

    name: str
    version: str = "v1"
    tried: Canary | Problem | HarnessError = field(
        default_factory=lambda: Canary(priority=0, preempts=True)
    )
    results: dict[str, Record | HarnessError] = field(
        default_factory=dict[str, Record | HarnessError]
    )
    began: list[str] = field(default_factory=list[str])

    @property
    def looks_for(self) -> str:
        return f"the {self.name}"

    def detect(self, _: Facts) -> str:
        return self.version

    def canary(self, _: Trial) -> Canary | Problem:
        if isinstance(self.tried, HarnessError):
            raise self.tried
        return self.tried

    def parts(self, _: Bench) -> Mapping[str, Callable[[], Record]]:
        return {name: partial(self._measure, name) for name in self.results}

    def _measure(self, name: str) -> Record:
        self.began.append(f"{self.name}-{name}")
        found = self.results[name]
        if isinstance(found, HarnessError):
            raise found
        return found


class Room:
    """Stands in for the bench, and remembers what it was asked for."""

    def __init__(self, asked: list[tuple[int, int]]) -> None:
        self.asked = asked
        self.figures: list[Any] = []
        self.trial: Any = None

    def __call__(self, given: Trial) -> Room:
        self.trial = given
        return self

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def furnish(self, canaries: list[Canary], _: int, wanted: int) -> None:
        self.asked.append((len(canaries), wanted))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    monkeypatch.setattr(trial, "Bench", Room(out))
    return out


def measure(monkeypatch: pytest.MonkeyPatch, *found: Assessed) -> Any:
    monkeypatch.setattr(trial, "known", lambda _: list(found))
    nothing: Any = None
    given = Trial(nothing, nothing, nothing, default(), frozenset())
    return trial.run(given)


def test_each_is_told_by_itself(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, int]]
) -> None:
    broken = HarnessError(Reason.FORBIDDEN, "no right")
    seen = measure(
        monkeypatch,
        Assessed("good", results={"incomplete": INCOMPLETE, "fits": FITS}),
        Assessed("partial", results={"fits": HarnessError(Reason.TIMEOUT, "late")}),
        Assessed("silent", tried=SILENT, results={"fits": FITS}),
        Assessed("refused", tried=broken, results={"fits": FITS}),
        Assessed("absent", version="", results={"fits": FITS}),
    )
    names = ("good", "partial", "silent", "refused", "absent")
    assert seen.looked_for == [f"the {name}" for name in names]
    assert seen.backends == {
        "good": BackendObservation(version="v1", incomplete=INCOMPLETE, fits=FITS),
        "partial": BackendObservation(
            version="v1", fits=Fault(reason=Reason.TIMEOUT, message="late")
        ),
        "silent": BackendObservation(version="v1", problem=SILENT),
        "refused": Fault(reason=Reason.FORBIDDEN, message="no right"),
    }
    assert asked == [(2, 3)]
    assert seen.disturbances == ["good/incomplete: a stranger came"]


def test_where_none_is_found_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, int]]
) -> None:
    seen = measure(monkeypatch, Assessed("absent", version=""))
    assert (seen.backends, seen.looked_for) == ({}, ["the absent"])
    assert asked == []


def test_the_longest_parts_of_all_come_first(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, int]]
) -> None:
    order: list[str] = []

    def one_by_one(_: Trial, work: Mapping[str, Callable[[], Record]]) -> dict[str, Record]:
        order.extend(work)
        return {name: one() for name, one in work.items()}

    monkeypatch.setattr(Trial, "side_by_side", one_by_one)
    parts = {"incomplete": INCOMPLETE, "fits": FITS}
    measure(monkeypatch, Assessed("a", results=dict(parts)), Assessed("b", results=dict(parts)))
    assert order == [
        *("a-canary", "b-canary"),
        *("a-incomplete", "b-incomplete", "a-fits", "b-fits"),
    ]


class Watch:
    """A watch or a room that only knows whether it is closed."""

    def __init__(self, *_: object) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.setattr(bench, "OwnPods", Watch)
    monkeypatch.setattr(bench, "Surroundings", Watch)
    given = SimpleNamespace(
        cluster=None, namespace="n", workspace=SimpleNamespace(run_id="r"), facts=None
    )

    def make(rooms: list[tuple[str, Watch]] | HarnessError) -> Bench:
        def choose(*_: object, **__: object) -> list[tuple[str, Watch]]:
            if isinstance(rooms, HarnessError):
                raise rooms
            return rooms

        monkeypatch.setattr(bench, "choose", choose)
        made = Bench(cast("Trial", given))
        made.furnish([], 4, 2)
        return made

    return make


def test_a_node_is_had_alone(room: Callable[..., Bench]) -> None:
    rooms = [("n1", Watch())]
    order: list[str] = []

    def second() -> None:
        with made.node() as place:
            order.append(f"second {place.hostname}")

    with room(rooms) as made:
        waiting = threading.Thread(target=second)
        with made.node() as place:
            waiting.start()
            waiting.join(0.05)
            order.append(f"first {place.hostname}")
        waiting.join(5)
    assert order == ["first n1", "second n1"]
    assert rooms[0][1].closed


def test_only_who_wants_a_node_hears_that_there_is_none(room: Callable[..., Bench]) -> None:
    no_room = HarnessError(Reason.UNSCHEDULABLE, "no room")
    with room(no_room) as made, pytest.raises(HarnessError, match="no room"), made.node():
        pass
