"""The trial of gang schedulers that place pods: every scenario sizes the room on a node of its own.

``squeeze`` is the claim itself: a control group, the gang that does not fit, its release. ``fits``,
``incomplete`` and ``contest`` are the other ways in which a gang starts. Each sizes the free CPU of
one node by a filler pod, and pins its pods there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial

from kar_checks.checks.gang.backend import GangBackend
from kar_checks.checks.gang.bench import Bench
from kar_checks.checks.gang.observation import (
    Canary,
    Contest,
    Fits,
    Incomplete,
    Problem,
    Refusal,
    Scenario,
    Squeeze,
)
from kar_checks.checks.gang.pods import Shape, pod
from kar_checks.checks.gang.stage import HALF, Stage, scheduler_changed, size_changed
from kar_checks.cluster import kinds, kueue, wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.kit.pulse import Pulses, scheduled_or_not
from kar_checks.kit.trial import Trial
from kar_checks.kit.words import Reasons
from kar_checks.model import Reason, Record

verdict = Reasons(__package__)

SIZE = 4
FITTING = 2
"""A gang of four of which two would fit: the smallest with more than one on either side."""
RIVALS = 3
PLACES = 4
"""Two gangs of three want the same four places: each needs more than half."""

Script = Callable[[Stage], Scenario]


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

    stage.gang("gang", SIZE)
    stage.add("gang", range(SIZE))
    began = stage.mark("window begins")
    window = stage.window(
        ["gang"], began, until=lambda: stage.watch(began, stage.trial.number("gang.window_seconds"))
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

    room_at = stage.make_room("filler", "filler gone")
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
    stage.gang("gang", SIZE)
    stage.add("gang", range(SIZE - 1))
    began = stage.mark("window begins")
    window = stage.window(
        ["gang"],
        began,
        until=lambda: stage.watch(began, stage.trial.number("gang.incomplete_seconds")),
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
    # A pulse more than is needed: nobody can make the window longer when one is late.
    hold = stage.trial.number("gang.hold_seconds") + stage.trial.number("pulse.every_seconds")
    for name in rivals:
        stage.gang(name, RIVALS, hold=hold)
    for rank in range(RIVALS):
        for name in rivals:
            stage.add(name, [rank])

    refusals: dict[str, Refusal] = {}

    def decided() -> None:
        for name in rivals:
            stage.await_refusal(name)
        refusals.update({name: stage.refusal(name) for name in rivals})
        if not all(one.refused for one in refusals.values()):
            # Pods of a gang that was let in get their nodes some time after.
            stage.own.wait(
                lambda: bool(stage.bound(*rivals)), stage.trial.number("gang.control_seconds")
            )

    waiting = stage.window(rivals, began, until=decided)
    so_far = Contest(
        arena=stage.arena(PLACES + HALF),
        groups=[],
        size=RIVALS,
        waiting=waiting,
        refusals=refusals,
    )
    if waiting.bound:
        return so_far

    room_at = stage.make_room("plug", "places become free")

    def complete() -> list[str]:
        return [name for name in rivals if len(stage.bound(name)) == RIVALS]

    limit = stage.trial.number("gang.bind_seconds")
    if not stage.await_bound(lambda: bool(complete()), room_at, limit):
        tried = stage.pulsed(room_at, stage.at())
        stuck = stage.own.bound(stage.names(*rivals), stage.zero)
        witness = None if stuck else stage.witness("witness", PLACES)
        return so_far.model_copy(update={"stuck": stuck, "witness": witness, "tried": tried})

    ahead = complete()[0]
    behind = rivals[1 - rivals.index(ahead)]
    stage.mark(f"gang {ahead} bound")
    witness = stage.witness("witness", PLACES - RIVALS)
    first = stage.start(ahead, room_at)
    over = min(stage.ended(ahead), default=stage.at())
    beside = stage.window([behind], max(one.at for one in first.bound), until=lambda: None)
    overlap = [one for one in beside.bound if one.at < over]
    beside = beside.model_copy(
        update={"ended": over, "bound": overlap, "pulse": stage.pulsed(beside.began, over)}
    )
    so_far = so_far.model_copy(
        update={
            "first": first,
            "first_name": ahead,
            "witness": witness,
            "held": round(over - beside.began, 2),
            "overlap": overlap,
            "beside": beside,
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
    "contest": ("Two gangs that compete for the same four places", ["gang.two_gangs"]),
    "incomplete": ("A gang with a member missing, then complete", ["gang.incomplete_waits"]),
    "fits": ("A gang in a room of its size, then plain pods", ["gang.fits"]),
}
"""Title and checks of each scenario, the longest first."""


def scripts(selected: Collection[str]) -> dict[str, Script]:
    """Return what plays each scenario that the selected checks need, the longest first."""
    known: dict[str, Script] = {
        "squeeze": partial(squeeze, "gang.release" in selected),
        "contest": contest,
        "incomplete": incomplete,
        "fits": fits,
    }
    return {
        name: known[name]
        for name, (_, checks) in SCENARIOS.items()
        if not set(selected).isdisjoint(checks)
    }


class Placement:
    """How a gang scheduler that places pods is assessed; see :class:`bench.Assessment`."""

    def __init__(self, backend: GangBackend) -> None:
        self._backend = backend
        self.name = backend.name
        self.looks_for = backend.looks_for

    def detect(self, facts: Facts) -> str:
        """Ask the backend."""
        return self._backend.detect(facts)

    def canary(self, trial: Trial) -> Canary | Problem:
        """See that a member is still one when it is stored, and that the scheduler answers.

        A server that does not know the field drops it silently, and such pods would start one by
        one; that an API is served does not mean that anybody reads it.
        """
        backend, group = self._backend, f"{self.name}-canary"
        shape = Shape(
            hostname="none",
            image=trial.workspace.target.image("python"),
            probe=trial.mount_probe("gang_member"),
            millicores=int(trial.number("gang.member_millicores")),
            scheduler=backend.scheduler,
        )
        member = pod(shape, group=group, role="gang", rank=0, size=SIZE)
        alone = pod(shape, group=f"{group}-alone", role="control", rank=0, size=1)
        size = backend.create_group(trial, group, SIZE)
        made: list[Object] = []
        try:
            made.append(trial.workspace.create(kinds.POD, backend.join(member, group)))
            _require_ungated(made[0])
            if problem := scheduler_changed(backend.scheduler, made[0]):
                return problem
            if not backend.joined(made[0], group):
                return backend.why_not_joined(trial, made[0])
            if size != SIZE:
                return size_changed(SIZE, size)
            made.append(trial.workspace.create(kinds.POD, alone))
            if not _answered(trial, made[1]):
                seconds = trial.number("gang.control_seconds")
                silent = verdict("scheduler_silent", scheduler=backend.scheduler, seconds=seconds)
                return Problem.of(silent)
        finally:
            for one in made:
                trial.workspace.delete(kinds.POD, str(one["metadata"]["name"]))
            backend.delete_group(trial, group)
        return Canary.of(made[0])

    def parts(self, bench: Bench) -> Mapping[str, Callable[[], Record]]:
        """Return the selected scenarios, each for a node of its own."""
        return {
            name: partial(self._play, bench, name, script)
            for name, script in scripts(bench.trial.selected).items()
        }

    def _play(self, bench: Bench, name: str, script: Script) -> Scenario | Problem:
        """Run one scenario, and leave its node as it was found, however it ended."""
        pulses = Pulses(bench.trial.profile, bench.pulse(self._backend.scheduler))
        with bench.node() as place, pulses.needed():
            stage = Stage(name, bench.trial, self._backend, place, bench.own, pulses)
            try:
                seen = stage.play(script)
                if isinstance(seen, Scenario):
                    bench.figures.append(stage.figure(*SCENARIOS[name]))
                return seen
            finally:
                # What cannot be removed stays registered: the cleanup tries again, and tells.
                with suppress(HarnessError):
                    stage.close()


def _require_ungated(stored: Object) -> None:
    """See that no one holds a pod back from the scheduler.

    Raises:
        HarnessError: Kueue does, which manages what names no queue.
    """
    if kueue.gates(stored) and (error := kueue.holds_pod(stored)):
        raise error


def _answered(trial: Trial, alone: Object) -> bool:
    """Wait until the scheduler said that a pod without any place has none."""
    name = str(alone["metadata"]["name"])
    try:
        wait.wait_for(
            trial.cluster,
            kinds.POD,
            name,
            trial.namespace,
            goal=scheduled_or_not,
            seconds=trial.number("gang.control_seconds"),
            what=f"pod {name}",
            begin=alone,
        )
    except HarnessError as error:
        if error.fault.reason is not Reason.TIMEOUT:
            raise
        return False
    return True
