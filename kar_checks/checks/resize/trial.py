"""The resize trial: one pod per check, all at once.

All cases start together and end together. Each makes its changes as soon as it can; what needs a
full node waits until nobody else asks for room. Then all hold for the same time, in which what the
kernel enforces is measured by use: busy loops in turn, page cache and the weights at the end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial

from kar_checks.checks.resize import plans
from kar_checks.checks.resize.figures import figure
from kar_checks.checks.resize.observation import Arena, Case, Contest, ResizeObservation
from kar_checks.checks.resize.plans import ContainerPlan, Plan, sized
from kar_checks.checks.resize.subject import PROBE, Subject, pod_manifest
from kar_checks.checks.resize.together import Hold, Meeting, Rival, States
from kar_checks.cluster import capacity, kinds, quantity
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.pulse import Watched
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Measure, Reason
from kar_checks.store import now

FILLER = "resize-filler"
_SLACK = 20
"""Millicores that stay free beside the filler."""
_GROWTH = 50
"""Millicores by which the deferred resize raises its request."""
_LAST_SECONDS = 4.5
"""How long before the end of the hold page cache and weights are measured."""
_BURN_SECONDS = 1.0
"""How long before that the busy loops begin, for each case that has some."""
_BURNS_AT_ONCE = 2
"""Loops of cases at the same time: together they take less than one CPU."""


def run(trial: Trial) -> ResizeObservation:
    """Measure what the selected checks need."""
    started = now()
    trial.mount_probe(PROBE)
    try:
        with States(trial) as states:
            cases = trial.side_by_side(_Trials(trial, states).work())
    finally:
        _remove_pods(trial)
    return ResizeObservation(
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        figures=[
            figure(plan, case)
            for plan in plans.ALL
            if isinstance(case := cases.get(plan.name), Case)
        ],
        measures=measures(
            [one for one in cases.values() if isinstance(one, Case)],
            trial.number("resize.settle_seconds"),
        ),
        cases=cases,
    )


def measures(cases: Iterable[Case], most: float) -> list[Measure]:
    """Return how long resizes took, but for those that had to wait for room.

    One that was only seen to be done when the wait had ended (after ``most`` seconds) is no sample.
    """
    samples = [
        took
        for case in cases
        if case.name != plans.DEFERRED.name
        for step in case.steps
        if step.expect == "resize" and step.settled and step.looks
        if (took := (step.looks[-1].at - step.patch.at).total_seconds()) < most
    ]
    if not samples:
        return []
    return [
        Measure(
            name="a resize settles",
            unit="s",
            better="lower",
            samples=samples,
            how="from the patch to the pod's last change of state, one sample for each resize",
        )
    ]


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return every pod of the topic, for dry runs; the filler's size is found at run time."""
    image, config_map = target.image("python"), "kar-probe-resize-probe"
    bodies = [pod_manifest(plan, image=image, config_map=config_map) for plan in plans.ALL]
    bodies.append(
        pod_manifest(_filler(10), image=image, config_map=config_map, node="any", pod=FILLER)
    )
    bodies.append(pod_manifest(plans.RIVAL, image=image, config_map=config_map, node="any"))
    return [(kinds.POD, body) for body in bodies]


class _Crowd:
    """The cases that must be done with their changes before a node is filled."""

    def __init__(self, names: Iterable[str]) -> None:
        self._left = set(names)
        self._changed = threading.Condition()

    def leave(self, name: str) -> None:
        """One case is done with what disturbs others."""
        with self._changed:
            self._left.discard(name)
            self._changed.notify_all()

    def await_end(self) -> None:
        """Wait until all have left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._left)


class _Trials:
    """The selected cases, and what they share."""

    def __init__(self, trial: Trial, states: States) -> None:
        self._trial = trial
        self._states = states
        chosen = [one for one in plans.ALL if one.check in trial.selected]
        self._plans = {one.name: one for one in chosen}
        compete = [one.name for one in chosen if one.spins]
        self._crowd = _Crowd(one.name for one in chosen if one not in (plans.BUSY, plans.DEFERRED))
        self._hold = Hold(trial, self._plans)
        self._burning = threading.Semaphore(_BURNS_AT_ONCE)
        self._burns = len([one for one in chosen if "limits.cpu" in one.uses])
        self._node = ""
        self._no_rival = ""
        self._rival: Rival | None = None
        self._first: Meeting[Subject, list[Contest]] = Meeting(compete, self._contest)
        self._last: Meeting[Subject, list[Contest]] = Meeting(compete, self._contest)
        if compete:
            self._find_room()

    def work(self) -> dict[str, Callable[[], Case]]:
        """Return the cases as they are to be run side by side."""
        return {name: partial(self._run, one) for name, one in self._plans.items()}

    def _find_room(self) -> None:
        """Choose the node for the pods that compete: the one with the most free CPU."""
        free = _free(self._trial)
        if free:
            node = max(free, key=lambda one: free[one])
            if free[node] < plans.RIVAL_ROOM:
                self._no_rival = (
                    f"a rival and the pods that are compared with it need {plans.RIVAL_ROOM}m of "
                    f"CPU on a node, and {node} has the most free, {free[node]}m"
                )
                return
            self._node = node
        self._rival = Rival(self._trial, self._node)
        if not self._node:
            # Where nodes and pods may not be listed the scheduler chooses, and the others follow.
            with contextlib.suppress(HarnessError):
                self._node = self._rival.ready()

    def _run(self, plan: Plan) -> Case:
        makers: dict[Plan, Callable[[Plan], Case]] = {
            plans.QOS: self._qos_change,
            plans.INFEASIBLE: self._infeasible,
            plans.BUSY: self._busy_loop,
            plans.DEFERRED: self._deferred,
        }
        try:
            return makers.get(plan, self._ordinary)(plan)
        finally:
            self._crowd.leave(plan.name)
            for one in (self._first, self._last):
                one.leave(plan.name)
            self._hold.leave(plan.name)

    # -- what all cases do ------------------------------------------------------------------

    def _started(
        self, plan: Plan, node: str = "", labels: Mapping[str, str] | None = None
    ) -> Subject:
        """Start a case's pod, and measure what its first resources are worth."""
        subject = Subject(self._trial, plan, node=node or (self._node if plan.spins else ""))
        subject.start(labels)
        if "limits.memory" in plan.uses:
            subject.fill()
        if plan.spins:
            subject.compete(lambda: self._first.meet(plan.name, subject))
        return subject

    def _contest(self, subjects: dict[str, Subject]) -> dict[str, list[Contest]]:
        """Let pods compete with the rival; again, if one did not get what its request promises."""
        if self._rival is None:
            raise self._trial.no_room(self._no_rival, _cores(plans.RIVAL_ROOM))
        found = {name: [one] for name, one in self._rival.contests(subjects).items()}
        if not all(one.fits(found[name][-1]) for name, one in subjects.items()):
            for name, again in self._rival.contests(subjects).items():
                found[name].append(again)
        return found

    def _burn(self, subject: Subject, seconds: float) -> None:
        with self._burning:
            subject.burn(seconds)

    def _held(self, subject: Subject, arena: Arena | None = None) -> Case:
        """Hold with all other cases, and measure what the last resources are worth."""
        plan, settled = subject.plan, time.monotonic()
        self._crowd.leave(plan.name)
        if not subject.settled:
            for one in (self._first, self._last):
                one.leave(plan.name)
            self._hold.leave(plan.name)
            return subject.case(arena)
        end = self._hold.until(plan.name, settled)
        if "limits.cpu" in plan.uses:
            self._wait(end - _LAST_SECONDS - _BURN_SECONDS * self._burns)
            setting = "busy" if plan is plans.BUSY else "burn"
            self._burn(subject, self._trial.number(f"resize.{setting}_seconds"))
        self._wait(end - _LAST_SECONDS)
        if "limits.memory" in plan.uses:
            subject.fill()
        if plan.spins:
            subject.compete(lambda: self._last.meet(plan.name, subject))
        self._wait(end)
        subject.finish(self._states.of(plan.pod))
        return subject.case(arena)

    def _wait(self, moment: float) -> None:
        left = moment - time.monotonic()
        if left > 0 and self._trial.cluster.stopping.wait(left):
            raise HarnessError(Reason.INTERRUPTED, "interrupted")

    # -- the cases --------------------------------------------------------------------------

    def _ordinary(self, plan: Plan) -> Case:
        subject = self._started(plan)
        for number, step in enumerate(plan.steps, 1):
            done = subject.resize(step.name, step.change, restart=step.expect == "restart")
            if not done.settled:
                break
            if not plan.wants_room(number):
                self._crowd.leave(plan.name)
            if plan.each and number < len(plan.steps):
                self._measure_between(subject)
        return self._held(subject)

    def _measure_between(self, subject: Subject) -> None:
        """Measure what another change will undo."""
        name = subject.plan.name
        subject.compete(lambda: self._contest({name: subject})[name])
        self._burn(subject, self._trial.number("resize.burn_seconds"))

    def _busy_loop(self, plan: Plan) -> Case:
        """Spin before and after a change of the limit."""
        subject = self._started(plan)
        self._burn(subject, self._trial.number("resize.busy_seconds"))
        for step in plan.steps:
            subject.resize(step.name, step.change)
        return self._held(subject)

    def _control(self, subject: Subject) -> bool:
        """Make a small resize that must be accepted: rights and quota are then no explanation."""
        return subject.resize(plans.CONTROL.name, plans.CONTROL.change).settled

    def _qos_change(self, plan: Plan) -> Case:
        subject = self._started(plan)
        if self._control(subject):
            limits = subject.now_held.look.containers[plans.MAIN].spec["limits"]
            guaranteed = {plans.MAIN: {"requests": limits, "limits": limits}}
            subject.resize_in_vain("requests equal to limits", guaranteed, infeasible=False)
        return self._held(subject)

    def _infeasible(self, plan: Plan) -> Case:
        nodes = _nodes(self._trial)
        largest = max(capacity.allocatable(one).cpu_millicores for one in nodes)
        subject = self._started(plan)
        if self._control(subject):
            huge = sized(cpu=f"{largest * 10}m", max_cpu=f"{largest * 10 + 10}m")
            subject.resize_in_vain("ten times a node", {plans.MAIN: huge}, infeasible=True)
        return self._held(subject)

    def _deferred(self, plan: Plan) -> Case:
        """Fill a node up to its target pod, let that ask for more, and take the filler away.

        On a full node the resizes of the other cases would have to wait, too.
        """
        with Watched(self._trial, "resize-deferred") as watched:
            return self._deferred_in(watched, plan)

    def _deferred_in(self, watched: Watched, plan: Plan) -> Case:
        trial = self._trial
        nodes = {str(one["metadata"]["name"]): one for one in _nodes(trial)}
        free = _free(trial)
        place = self._node or max(nodes, key=lambda one: free.get(one, 0))
        node = nodes[place]
        subject = self._started(plan, place, watched.labels)
        self._crowd.await_end()
        size = capacity.free(trial.cluster, node).cpu_millicores - _SLACK
        if size < _GROWTH:
            raise trial.no_room(
                f"the case needs {_GROWTH + _SLACK}m of free CPU on node {place}, which has "
                f"{size + _SLACK}m",
                _cores(_GROWTH + _SLACK),
            )
        trial.start_pod(
            pod_manifest(
                _filler(size),
                image=trial.workspace.target.image("python"),
                config_map=trial.mount_probe(PROBE),
                node=place,
                pod=FILLER,
            )
        )
        try:
            free_before = capacity.free(trial.cluster, node).cpu_millicores
            held = subject.now_held.look.containers[plans.MAIN].spec["requests"]["cpu"]
            change = {plans.MAIN: sized(cpu=f"{quantity.millicores(held) + _GROWTH}m")}
            step, pod = subject.defer("more than is free", change)
            deferred = step.looks[-1] if pod else None
            window = watched.pass_by(trial.number("resize.waiting_seconds")) if pod else None
            waiting = subject.snapshot() if pod else None
        finally:
            trial.workspace.delete(kinds.POD, FILLER)
        settling = None
        if pod:
            began = watched.at()
            subject.await_rest(step, pod)
            settling = watched.pulsed(began)
        return self._held(
            subject,
            Arena(
                node=place,
                allocatable=capacity.allocatable(node).cpu_millicores,
                free_before=free_before,
                needed=_GROWTH,
                left_after=capacity.free(trial.cluster, node).cpu_millicores,
                deferred=deferred,
                waiting=waiting,
                window=window,
                settling=settling,
            ),
        )


def _filler(size: int) -> Plan:
    room = (ContainerPlan(plans.MAIN, sized(f"{size}m", "32Mi", f"{size + 100}m", "64Mi")),)
    return Plan(plans.DEFERRED.check, room, ())


def _cores(millicores: int) -> dict[str, Decimal]:
    return {"cpu": Decimal(millicores) / 1000}


def _free(trial: Trial) -> dict[str, int]:
    """Return the free CPU of the usable nodes in millicores; nothing where it may not be known."""
    nodes = trial.facts.usable_nodes(trial.workspace.target)
    if not nodes:
        return {}
    try:
        found = trial.cluster.list(kinds.POD).items
    except ApiError:
        return {}
    on_node: dict[str, list[Object]] = {}
    for pod in found:
        on_node.setdefault(str(pod["spec"].get("nodeName", "")), []).append(pod)
    names = {str(one["metadata"]["name"]): one for one in nodes}
    return {
        name: capacity.left(one, on_node.get(name, [])).cpu_millicores
        for name, one in names.items()
    }


def _nodes(trial: Trial) -> list[Object]:
    nodes = trial.facts.usable_nodes(trial.workspace.target)
    if not nodes:
        raise HarnessError(
            Reason.FORBIDDEN,
            "no usable node is known",
            "grant list on nodes, see `kar rbac`, or look at --node-selector and --toleration",
        )
    return nodes


def _remove_pods(trial: Trial) -> None:
    """Delete the trial's pods at once, and wait for them: the next topic counts free room."""
    left = list(
        dict.fromkeys(
            one.name
            for one in trial.workspace.made
            if one.kind == "Pod" and one.name.startswith("resize-") and one.name != FILLER
        )
    )
    # What does not go now is not lost: the run's own cleanup tries again, and tells.
    with contextlib.suppress(HarnessError):
        for seconds in (0, None):
            if not trial.cluster.stopping.is_set():
                left = [
                    one
                    for one in left
                    if not trial.workspace.delete(kinds.POD, one, seconds=seconds)
                ]
