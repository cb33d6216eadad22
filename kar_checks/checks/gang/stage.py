"""One scenario's place and hands: its node, its groups of pods, and what is measured on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from kar_checks.checks.gang import pods as objects
from kar_checks.checks.gang.backend import GangBackend
from kar_checks.checks.gang.groups import OwnGroups
from kar_checks.checks.gang.observation import (
    Arena,
    Disturbance,
    Group,
    Problem,
    Refusal,
    Role,
    Scenario,
    Start,
    Window,
    Witness,
)
from kar_checks.checks.gang.pods import Shape
from kar_checks.checks.gang.watching import OwnPods, cpu_request
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.pulse import Pulsed, Pulses
from kar_checks.kit.trial import Trial
from kar_checks.kit.words import Reasons
from kar_checks.model import Fault, Figure, Lane, Mark, Reason, Span

verdict = Reasons(__package__)

WATCH_SECONDS = 900.0
"""Longer than every wait of the trial together."""
HALF = 0.5
"""Slack of every arena in places: enough for nobody, and no rounding makes a place of it."""


S = TypeVar("S", bound=Scenario)


class ProblemError(Exception):
    """The scenario would prove nothing; carries the :class:`Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


def scheduler_changed(sent: str, stored: Object) -> Problem | None:
    """Return the problem of a pod that asks another scheduler than it was told to, if it does."""
    asks = str(stored["spec"].get("schedulerName", ""))
    if asks == sent:
        return None
    name = stored["metadata"]["name"]
    return Problem.of(verdict("mutated.scheduler", pod=name, sent=sent, stored=asks))


def size_changed(sent: int, stored: int) -> Problem:
    """Return the problem of a group whose size is not what we asked for."""
    return Problem.of(verdict("mutated.size", sent=sent, stored=stored))


class Room(Protocol):
    """What decides whether a gang fits, and what others do there."""

    node: str
    """Its name."""

    @property
    def alive(self) -> bool:
        """Whether the watch goes on."""
        ...

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        ...

    def check(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""

    def settle(self, seconds: float) -> None:
        """Wait until what leaves already has left."""

    def free(self) -> int:
        """Return the millicores that nobody takes."""
        ...

    def arm(self, zero: float) -> None:
        """Begin to take note of what others do."""

    def disarm(self) -> list[Disturbance]:
        """Return what others did since :meth:`arm`."""
        ...


class Around(Protocol):
    """What else may make room."""

    @property
    def alive(self) -> bool:
        """Whether the watch goes on."""
        ...

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        ...

    def check(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""

    def since(self, zero: float, node: str) -> list[Disturbance]:
        """Return what concerns a scenario on ``node`` that began at ``zero``."""
        ...


@dataclass
class Place:
    """Where a scenario can take place; one at a time. Without a hostname pods run anywhere."""

    hostname: str
    room: Room
    around: Around


@dataclass
class _Group:
    name: str
    role: Role
    size: int
    meet: str = ""
    hold: float = 0
    min_count: int | None = None
    service: bool = False
    names: list[str] = field(default_factory=list[str])


class Stage:
    """A running scenario. Groups are named by what they are for: ``control``, ``gang``, …"""

    def __init__(
        self,
        name: str,
        trial: Trial,
        backend: GangBackend,
        place: Place,
        own: OwnPods,
        pulses: Pulses,
    ) -> None:
        self.name = name
        self.trial = trial
        self.backend = backend
        self.own = own
        self._pulses = pulses
        self._place = place
        self.member = int(trial.number("gang.member_millicores"))
        self._shape = Shape(
            hostname=place.hostname,
            image=trial.workspace.target.image("python"),
            probe=trial.mount_probe("gang_member"),
            millicores=self.member,
            scheduler=backend.scheduler,
        )
        self._groups: dict[str, _Group] = {}
        self._objects = OwnGroups(trial, WATCH_SECONDS)
        self._marks: list[Mark] = []
        place.room.settle(trial.number("cleanup.seconds"))
        self.free = place.room.free()
        self._misses = self._missed()
        self.zero = time.monotonic()
        place.room.arm(self.zero)

    # -- time -------------------------------------------------------------------------------

    def at(self) -> float:
        """Return the seconds since the scenario began."""
        return round(time.monotonic() - self.zero, 2)

    def mark(self, label: str) -> float:
        """Note a moment for the figure, and return it."""
        moment = self.at()
        self._marks.append(Mark(at=moment, label=label))
        self.trial.report(f"{self.backend.name}, {self.name}: {label}")
        return moment

    # -- making and removing pods -----------------------------------------------------------

    def fill(self, group: str, millicores: int) -> None:
        """Take room away by a plain pod, and wait until it has it.

        Raises:
            ProblemError: the scheduler did not bind it, so that nothing can be measured.
        """
        one = self._open(group, "filler", 1)
        body = objects.filler(self._shape, group=one.name, millicores=millicores)
        self._create(one, self._alone(body), millicores)
        seconds = self.trial.number("gang.control_seconds")
        if not self.own.wait(lambda: len(self.bound(group)) == 1, seconds):
            why = verdict(
                "arena_not_built",
                millicores=millicores,
                free=self.free,
                node=self._place.room.node,
                seconds=seconds,
            )
            raise ProblemError(Problem.of(why))

    def plain(self, group: str, role: Role, count: int) -> None:
        """Create ``count`` pods that belong to no gang.

        They ask the same scheduler, and for it they differ from a gang's members in nothing else.
        They know of no meeting place, so that they stay until they are told to go.
        """
        one = self._open(group, role, count)
        for rank in range(count):
            body = objects.pod(self._shape, group=one.name, role=role, rank=rank, size=count)
            self._create(one, self._alone(body), self.member)

    def _alone(self, body: Object) -> Object:
        """Return a pod that belongs to no gang with what this gang scheduler wants of it."""
        return body

    def gang(self, group: str, size: int, *, hold: float = 0) -> None:
        """Create a group for ``size`` members, which :meth:`add` then makes.

        Raises:
            ProblemError: another size was stored than the one that was sent.
        """
        one = self._open(group, "gang", size)
        service = self.trial.workspace.create(kinds.SERVICE, self._meeting_place(one.name))
        one.service, one.hold = True, hold
        one.meet = str(service["spec"]["clusterIP"])
        one.min_count = self.backend.create_group(self.trial, one.name, size)
        if one.min_count != size:
            raise ProblemError(size_changed(size, one.min_count))
        for kind, stored in self.backend.group_objects(one.name):
            self._objects.follow(kind, stored)

    def _meeting_place(self, group: str) -> Object:
        """Return the way to the member of rank 0."""
        return objects.service(group)

    def add(self, group: str, ranks: Iterable[int]) -> None:
        """Create members of a gang.

        Raises:
            ProblemError: what makes a pod a member did not survive.
        """
        one = self._groups[group]
        for rank in ranks:
            plain = objects.pod(
                self._shape,
                group=one.name,
                role="gang",
                rank=rank,
                size=one.size,
                meet=one.meet,
                hold=one.hold,
            )
            stored = self._create(one, self.backend.join(plain, one.name), self.member)
            if not self.backend.joined(stored, one.name):
                raise ProblemError(self.backend.why_not_joined(self.trial, stored))

    def leave(self, *groups: str) -> None:
        """Delete the pods of these groups and wait until their objects are gone.

        Raises:
            HarnessError: one was not gone in time.
        """
        names = self.names(*groups)
        present = [name for name in names if not self.own.gone(name)]
        for name in present:
            self.own.dismiss(name)
        self._remove(groups, present)
        seconds = self.trial.number("cleanup.seconds")
        if not self.own.wait(lambda: all(self.own.gone(name) for name in present), seconds):
            late = [name for name in present if not self.own.gone(name)]
            raise HarnessError(
                Reason.TIMEOUT, f"the pods {', '.join(late)} were not gone after {seconds:.0f} s"
            )
        for name in present:
            self.trial.workspace.forget(kinds.POD, name)

    def make_room(self, group: str, label: str) -> float:
        """Remove a filler, and return the moment from which on its room is free."""
        self.leave(group)
        return self.mark(label)

    def _remove(self, groups: Sequence[str], present: Sequence[str]) -> None:
        """Ask for the end of the pods of these groups, by name."""
        for name in present:
            self.trial.workspace.delete(kinds.POD, name, seconds=0)

    def close(self) -> None:
        """Remove everything of this scenario: pods first, a group is kept by its pods."""
        self._objects.close()
        self.leave(*self._groups)
        for one in self._groups.values():
            if one.min_count is not None:
                self.backend.delete_group(self.trial, one.name)
            if one.service:
                self.trial.workspace.delete(kinds.SERVICE, one.name)

    def _open(self, group: str, role: Role, size: int) -> _Group:
        one = _Group(f"{self.backend.name}-{self.name}-{group}", role, size)
        self._groups[group] = one
        return one

    def _create(self, group: _Group, body: Object, millicores: int) -> Object:
        stored = self.trial.workspace.create(kinds.POD, body)
        name = str(stored["metadata"]["name"])
        self.own.expect(stored)
        group.names.append(name)
        self._require_unchanged(body, stored, millicores)
        return stored

    def _require_unchanged(self, sent: Object, stored: Object, millicores: int) -> None:
        if problem := scheduler_changed(sent["spec"]["schedulerName"], stored):
            raise ProblemError(problem)
        name, spec = stored["metadata"]["name"], stored["spec"]
        if (requested := cpu_request(stored)) != millicores:
            why = verdict(
                "mutated.request",
                pod=name,
                sent=millicores,
                stored=requested,
                containers=", ".join(container["name"] for container in spec["containers"]),
            )
            raise ProblemError(Problem.of(why))
        selector: Object = spec.get("nodeSelector") or {}
        if selector.get("kubernetes.io/hostname", "") != self._place.hostname:
            raise ProblemError(Problem.of(verdict("mutated.node", pod=name)))

    # -- measuring --------------------------------------------------------------------------

    def names(self, *groups: str) -> list[str]:
        """Return the names of all pods of these groups."""
        return [name for group in groups for name in self._groups[group].names]

    def bound(self, *groups: str) -> list[str]:
        """Return the names of the pods that have a node."""
        return [one.name for one in self.own.bound(self.names(*groups), self.zero)]

    def control(self, group: str) -> int:
        """Wait until the scheduler decided on every pod; returns how many it bound."""
        names = self.names(group)

        def decided() -> bool:
            return all(name in self.bound(group) or self._refused(name) for name in names)

        self.own.wait(decided, self.trial.number("gang.control_seconds"))
        self.own.sync()
        return len(self.bound(group))

    def _refused(self, name: str) -> bool:
        """Say whether a pod that belongs to no gang was told that it does not fit."""
        return self.own.refused(name)

    def window(self, groups: Sequence[str], began: float, *, until: Callable[[], None]) -> Window:
        """Watch while ``until`` passes the time; says what was bound since ``began``."""
        until()
        self.sync()
        ended = self.at()
        self._pulses.hurry()
        return Window(
            began=began,
            ended=ended,
            watched=self.watched,
            bound=self.own.bound(self.names(*groups), self.zero),
            pulse=self.pulsed(began, ended),
        )

    def sync(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        self.own.sync()
        self._place.room.check()
        self._place.around.check()
        self._objects.check()

    @property
    def watched(self) -> bool:
        """Whether no watch missed anything since the scenario began."""
        alive = all(one.alive for one in self._watches)
        return alive and self._missed() == self._misses

    @property
    def _watches(self) -> tuple[OwnPods | Room | Around | OwnGroups, ...]:
        return (self.own, self._place.room, self._place.around, self._objects)

    def _missed(self) -> int:
        return sum(one.misses for one in self._watches)

    def pulsed(self, began: float, ended: float) -> Pulsed:
        """Return what proves that a time was watched, in seconds after the scenario began."""
        return self._pulses.seen(self.zero, began, ended)

    def watch(self, began: float, seconds: float) -> None:
        """Let time pass until ``seconds`` of it since ``began`` count, or will not any more.

        Raises:
            HarnessError: the run is being interrupted.
        """

        def pass_by(time_left: float) -> bool:
            self.wait(time_left)
            return False

        self._pulses.wait(self.zero, began, seconds, pass_by)

    def await_bound(self, goal: Callable[[], bool], began: float, seconds: float) -> bool:
        """Wait until ``goal`` holds, for ``seconds`` after ``began`` that count.

        Raises:
            HarnessError: the run is being interrupted.
        """
        return self._pulses.wait(
            self.zero, began, seconds, lambda time_left: self.own.wait(goal, time_left)
        )

    def wait(self, seconds: float) -> None:
        """Let time pass; an interruption of the run ends it."""
        self.own.pause(seconds)

    def refusal(self, group: str) -> Refusal:
        """Ask the backend why a gang waits; an event comes some time after its condition."""
        name, members = self._groups[group].name, self.names(group)
        deadline = time.monotonic() + self.trial.number("gang.control_seconds")
        while True:
            found = self.backend.refusal(self.trial, name, members)
            missing = found.refused and found.needs_event and not found.events
            if not missing or time.monotonic() > deadline:
                return found
            self.wait(0.5)

    def await_refusal(self, group: str) -> None:
        """Wait until the backend says that a gang does not fit, as long as a plain pod gets."""
        seconds = self.trial.number("gang.control_seconds")
        self.backend.await_refusal(self.trial, self._groups[group].name, self.names(group), seconds)

    def witness(self, group: str, count: int) -> Witness:
        """Create plain pods that should be bound at once, and remove them again."""
        self.plain(group, "witness", count)
        began = time.monotonic()
        self.own.wait(
            lambda: len(self.bound(group)) == count, self.trial.number("gang.witness_seconds")
        )
        bound = self.own.bound(self.names(group), began)
        self.leave(group)
        complete = len(bound) == count
        # The last one may have its node before the answer to its creation is here.
        last = max(bound[-1].at, 0) if complete and bound else None
        return Witness(asked=count, bound=len(bound), seconds=last)

    def start(self, group: str, room_at: float) -> Start:
        """Follow a gang that has room until all members completed or cannot any more."""
        one = self._groups[group]

        def all_bound() -> bool:
            return len(self.bound(group)) == one.size

        self.await_bound(all_bound, room_at, self.trial.number("gang.bind_seconds"))
        names = self.names(group)
        bound = self.own.bound(names, self.zero)
        if len(bound) < one.size:
            waited = self.pulsed(room_at, self.at())
            # Were they no gang, would they start? Half of a gang needs no such question.
            witness = None if bound else self.witness(f"{group}-instead", one.size)
            return Start(
                room_at=room_at, size=one.size, bound=bound, witness=witness, waited=waited
            )

        def over() -> bool:
            return self._trouble(names) is not None or all(
                self.own.ended(name) is not None or self.own.gone(name) for name in names
            )

        self.own.wait(over, one.hold + self.trial.number("gang.start_seconds"))
        fault = self._trouble(names)
        traces = [self.own.trace(name, self.zero) for name in names]
        met = 0
        if fault is None:
            try:
                met = sum(self._met(name, one.size) for name in names)
            except HarnessError as error:
                fault = error.fault
        return Start(
            room_at=room_at,
            size=one.size,
            bound=bound,
            met=met,
            completed=sum(trace.succeeded for trace in traces),
            fault=fault,
        )

    def ended(self, group: str) -> list[float]:
        """Return when members ended, earliest first."""
        traces = [self.own.trace(name, self.zero) for name in self.names(group)]
        return sorted(trace.ended for trace in traces if trace.ended is not None)

    def _trouble(self, names: list[str]) -> Fault | None:
        for name in names:
            if error := pods.hopeless(self.own.latest(name)):
                return error.fault
        return None

    def _met(self, name: str, size: int) -> bool:
        lines = self.trial.log_lines(name)
        everybody = list(range(size))
        return any(one.get("event") == "met" and one.get("members") == everybody for one in lines)

    # -- telling ----------------------------------------------------------------------------

    def arena(self, places: float) -> Arena:
        """Return the record of the place."""
        return Arena(node=self._place.room.node, free=self.free, member=self.member, places=places)

    def play(self, script: Callable[[Stage], Scenario]) -> Scenario | Problem:
        """Run a scenario. Whatever fails after somebody changed a group of ours shows only that."""
        try:
            return self.completed(script(self))
        except ProblemError as error:
            return self._disturbed_group() or error.problem
        except HarnessError as error:
            problem = self._disturbed_group()
            if problem is None or error.fault.reason is Reason.INTERRUPTED:
                raise
            return problem

    def _disturbed_group(self) -> Problem | None:
        what = "; ".join(one.text for one in self._changed_groups()[:3])
        return Problem.of(verdict("group_changed", what=what)) if what else None

    def completed(self, seen: S) -> S:
        """Return a scenario's record with what was watched beside it.

        What we remove ourselves from here on is no disturbance, nor in the picture.
        """
        self.sync()
        return seen.model_copy(
            update={
                "groups": self.groups(),
                "disturbances": self.disturbances(),
                "watched": self.watched,
            }
        )

    def groups(self) -> list[Group]:
        """Return the lives of all pods so far."""
        return [
            Group(
                name=name,
                role=one.role,
                min_count=one.min_count,
                pods=[self.own.trace(pod, self.zero) for pod in self.names(name)],
            )
            for name, one in self._groups.items()
        ]

    def disturbances(self) -> list[Disturbance]:
        """Return what others did here since the scenario began."""
        found = [
            *self._place.room.disarm(),
            *self._place.around.since(self.zero, self._place.room.node),
            *self._losses(),
            *self._changed_groups(),
        ]
        return sorted(found, key=lambda one: one.at)

    def _losses(self) -> list[Disturbance]:
        """Return what happened to our own against our will."""
        return self.own.losses(self.names(*self._groups), self.zero)

    def _changed_groups(self) -> list[Disturbance]:
        """Return what somebody did to the groups of ours."""
        return self._objects.changed(self.zero)

    def figure(self, title: str, checks: list[str]) -> Figure:
        """Return the timeline of all pods."""
        end = self.at()
        lanes = [
            Lane(name=trace.name, group=group.name, spans=_spans(trace.model_dump(), end))
            for group in self.groups()
            for trace in group.pods
        ]
        return Figure(
            kind="timeline",
            title=title,
            checks=checks,
            variant=self.backend.name,
            seconds=end,
            lanes=lanes,
            marks=self._marks,
        )


def _spans(trace: dict[str, object], end: float) -> list[Span]:
    """Turn the moments of a pod's life into states that follow one another."""
    over = "completed" if trace["succeeded"] else "gone" if trace["stopped"] else "failed"
    moments = [
        (cast("float", trace[moment]), state)
        for moment, state in (
            ("created", "pending"),
            ("bound", "bound"),
            ("running", "running"),
            ("ended", over),
            ("gone", "gone"),
        )
        if trace[moment] is not None
    ]
    out: list[Span] = []
    for index, (begin, state) in enumerate(moments):
        if state == "gone" or begin > end:
            break
        later = moments[index + 1][0] if index + 1 < len(moments) else None
        out.append(Span(start=begin, end=later, state=state))
    return out
