"""The gang trial: every scenario on a node of its own where there are enough, all at once.

``squeeze`` is the claim itself: a control group, the gang that does not fit, its release. ``fits``,
``incomplete`` and ``contest`` are the other ways in which a gang starts. Each sizes the free CPU of
one node by a filler pod, and pins its pods there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial

from kar_checks.checks.gang.arena import choose
from kar_checks.checks.gang.backend import GangBackend
from kar_checks.checks.gang.native import Native
from kar_checks.checks.gang.observation import (
    BackendObservation,
    Contest,
    Fits,
    GangObservation,
    Incomplete,
    Problem,
    Scenario,
    Squeeze,
)
from kar_checks.checks.gang.pods import Shape, pod
from kar_checks.checks.gang.stage import HALF, Place, ProblemError, Stage, size_changed
from kar_checks.checks.gang.watching import OwnPods, Surroundings
from kar_checks.checks.trial import Trial
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Evidence, Fault, Figure
from kar_checks.store import now

SIZE = 4
FITTING = 2
"""A gang of four of which two would fit: the smallest with more than one on either side."""
RIVALS = 3
PLACES = 4
"""Two gangs of three want the same four places: each needs more than half."""
WATCH_SECONDS = 900.0
"""Longer than every wait of the trial together."""

Script = Callable[[Stage], Scenario]


def run(trial: Trial) -> GangObservation:
    """Measure every gang scheduler that is found.

    Raises:
        HarnessError: nothing can be measured (no rights, no node with room, no API server).
    """
    started = now()
    backends: list[GangBackend] = [Native()]
    figures: list[Figure] = []
    seen: dict[str, BackendObservation | Fault] = {}
    for backend in backends:
        if version := backend.detect(trial.facts):
            seen[backend.name] = _measure(trial, backend, version, figures)
    return GangObservation(
        trial="gang",
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        disturbances=_told(seen),
        figures=figures,
        looked_for=[one.looks_for for one in backends],
        backends=seen,
    )


def squeeze(release: bool, stage: Stage) -> Squeeze:
    """Control, gang window, witness; then the filler goes."""
    stage.fill("filler", stage.free - int((FITTING + HALF) * stage.member))
    stage.plain("control", "control", SIZE)
    control = stage.control("control")
    stage.leave("control")
    so_far = Squeeze(
        arena=stage.arena(FITTING + HALF), groups=[], size=SIZE, fitting=FITTING, control=control
    )
    if control != FITTING:
        return so_far

    began = stage.mark("window begins")
    stage.gang("gang", SIZE)
    stage.add("gang", range(SIZE))
    window = stage.window(
        ["gang"], began, until=lambda: stage.wait(stage.trial.number("gang.window_seconds"))
    )
    stage.mark("window ends")
    refusal = stage.refusal("gang")
    so_far = so_far.model_copy(update={"window": window, "refusal": refusal})
    if window.bound:
        return so_far

    witness = stage.witness("witness", FITTING)
    late = stage.window(["gang"], began, until=lambda: None)
    so_far = so_far.model_copy(update={"witness": witness, "window": late})
    if late.bound or not release:
        return so_far

    stage.leave("filler")
    room_at = stage.mark("filler gone")
    return so_far.model_copy(update={"start": stage.start("gang", room_at)})


def fits(stage: Stage) -> Fits:
    """A gang in a room of its size; then as many plain pods, while it is completed but there."""
    stage.fill("filler", stage.free - int((SIZE + HALF) * stage.member))
    stage.gang("gang", SIZE)
    stage.add("gang", range(SIZE))
    start = stage.start("gang", stage.mark("gang created"))
    refill = None
    if start.completed == SIZE:
        stage.mark("gang completed")
        refill = stage.witness("refill", SIZE)
    return Fits(arena=stage.arena(SIZE + HALF), groups=[], start=start, refill=refill)


def incomplete(stage: Stage) -> Incomplete:
    """One member is missing for a while."""
    stage.fill("filler", stage.free - int((SIZE + HALF) * stage.member))
    began = stage.mark("window begins")
    stage.gang("gang", SIZE)
    stage.add("gang", range(SIZE - 1))
    window = stage.window(
        ["gang"], began, until=lambda: stage.wait(stage.trial.number("gang.incomplete_seconds"))
    )
    start = None
    if not window.bound:
        stage.add("gang", [SIZE - 1])
        start = stage.start("gang", stage.mark("last member"))
    return Incomplete(
        arena=stage.arena(SIZE + HALF), groups=[], size=SIZE, window=window, start=start
    )


def contest(stage: Stage) -> Contest:
    """Two gangs wait side by side, and are let in at the same moment."""
    rivals = ("one", "other")
    stage.fill("filler", stage.free - int((PLACES + HALF) * stage.member))
    stage.fill("plug", (PLACES - FITTING) * stage.member)
    began = stage.mark("window begins")
    for name in rivals:
        stage.gang(name, RIVALS, hold=stage.trial.number("gang.hold_seconds"))
    for rank in range(RIVALS):
        for name in rivals:
            stage.add(name, [rank])

    def refused() -> None:
        for name in rivals:
            stage.await_refusal(name)

    waiting = stage.window(rivals, began, until=refused)
    so_far = Contest(
        arena=stage.arena(PLACES + HALF),
        groups=[],
        size=RIVALS,
        waiting=waiting,
        refusals={name: stage.refusal(name) for name in rivals},
    )
    if waiting.bound:
        return so_far

    stage.leave("plug")
    room_at = stage.mark("places become free")

    def complete() -> list[str]:
        return [name for name in rivals if len(stage.bound(name)) == RIVALS]

    if not stage.own.wait(lambda: bool(complete()), stage.trial.number("gang.bind_seconds")):
        stage.own.sync()
        stuck = stage.own.bound(stage.names(*rivals), stage.zero)
        witness = None if stuck else stage.witness("witness", PLACES)
        return so_far.model_copy(update={"stuck": stuck, "witness": witness})

    ahead = complete()[0]
    behind = rivals[1 - rivals.index(ahead)]
    stage.mark(f"gang {ahead} bound")
    witness = stage.witness("witness", PLACES - RIVALS)
    first = stage.start(ahead, room_at)
    over = min(stage.ended(ahead), default=stage.at())
    so_far = so_far.model_copy(
        update={
            "first": first,
            "first_name": ahead,
            "witness": witness,
            "held": round(over - max(one.at for one in first.bound), 2),
            "overlap": [
                one for one in stage.own.bound(stage.names(behind), stage.zero) if one.at < over
            ],
        }
    )
    if first.completed < RIVALS:
        return so_far
    stage.mark(f"gang {ahead} completed")
    second = stage.start(behind, max(stage.ended(ahead)))
    return so_far.model_copy(update={"second": second})


SCENARIOS: dict[str, tuple[str, list[str]]] = {
    "squeeze": (
        "Control group, gang without room for all, and its release",
        ["gang.all_or_nothing", "gang.release"],
    ),
    "contest": ("Two gangs that want the same four places", ["gang.two_gangs"]),
    "incomplete": ("A gang with a member missing, then complete", ["gang.incomplete_waits"]),
    "fits": ("A gang in a room of its size, then plain pods", ["gang.fits"]),
}
"""Title and checks of each scenario, in the order in which they get nodes."""


def _measure(
    trial: Trial, backend: GangBackend, version: str, figures: list[Figure]
) -> BackendObservation | Fault:
    """Run the selected scenarios with one backend."""
    scripts: dict[str, Script] = {
        "squeeze": partial(squeeze, "gang.release" in trial.selected),
        "contest": contest,
        "incomplete": incomplete,
        "fits": fits,
    }
    wanted = [
        name for name, (_, checks) in SCENARIOS.items() if trial.selected.intersection(checks)
    ]
    with ExitStack() as watches:
        try:
            own = OwnPods(trial.cluster, trial.namespace, trial.workspace.run_id, WATCH_SECONDS)
            watches.callback(own.close)
            around = Surroundings(trial.cluster, WATCH_SECONDS)
            watches.callback(around.close)
            like = _canary(trial, backend)
            if isinstance(like, Problem):
                return BackendObservation(version=version, problem=like)
            places = choose(trial, SIZE, min(3, len(wanted)), like=like, seconds=WATCH_SECONDS)
            for place in places:
                watches.callback(place.room.close)
        except HarnessError as error:
            return error.fault

        def scenario(name: str, place: Place) -> Scenario | Problem:
            with place.turn:
                stage = Stage(name, trial, backend, place, own, around)
                return _play(stage, scripts[name], figures)

        parts = trial.side_by_side(
            {
                name: partial(scenario, name, places[index % len(places)])
                for index, name in enumerate(wanted)
            }
        )
    return BackendObservation.model_validate({"version": version, **parts})


def _play(stage: Stage, script: Script, figures: list[Figure]) -> Scenario | Problem:
    """Run one scenario, and leave its node as it was found, however it ended."""
    try:
        seen = script(stage)
        # What we remove ourselves from here on is no disturbance, and no part of the picture.
        seen = seen.model_copy(
            update={"groups": stage.groups(), "disturbances": stage.disturbances()}
        )
        title, checks = SCENARIOS[stage.name]
        figures.append(stage.figure(title, checks))
        return seen
    except ProblemError as error:
        return error.problem
    finally:
        # What cannot be removed stays registered: the run's cleanup tries again, and tells.
        with suppress(HarnessError):
            stage.close()


def _canary(trial: Trial, backend: GangBackend) -> Object | Problem:
    """Create one pod of a gang, and see whether it is still one when it is stored.

    A server that does not know the field drops it silently, and such pods would start one by one.
    """
    group = "gang-canary"
    shape = Shape(
        hostname="none",
        image=trial.workspace.target.image("python"),
        probe=trial.mount_probe("gang_member"),
        millicores=int(trial.number("gang.member_millicores")),
    )
    plain = pod(shape, group=group, role="gang", rank=0, size=SIZE)
    size = backend.create_group(trial, group, SIZE)
    stored = trial.workspace.create(kinds.POD, backend.join(plain, group))
    try:
        if not backend.joined(stored, group):
            return backend.why_not_joined(trial)
        if size != SIZE:
            return size_changed(SIZE, size)
    finally:
        trial.workspace.delete(kinds.POD, str(stored["metadata"]["name"]))
        backend.delete_group(trial, group)
    return stored


def _told(seen: Mapping[str, BackendObservation | Fault]) -> list[str]:
    """Return the disturbances of all scenarios in words."""
    return [
        f"{name}/{title}: {one.text}"
        for name, backend in seen.items()
        if isinstance(backend, BackendObservation)
        for title in SCENARIOS
        if isinstance(part := getattr(backend, title), Scenario)
        for one in part.disturbances
    ]
