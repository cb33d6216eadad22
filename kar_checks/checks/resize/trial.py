"""The resize trial: one pod per check, all at once; what needs idle CPU or a full node waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial

from kar_checks.checks.resize import plans
from kar_checks.checks.resize.figures import figure
from kar_checks.checks.resize.observation import Arena, Case, ResizeObservation
from kar_checks.checks.resize.plans import ContainerPlan, Plan, sized
from kar_checks.checks.resize.subject import PROBE, Subject, pod_manifest
from kar_checks.checks.trial import Trial
from kar_checks.cluster import capacity, kinds, quantity
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.model import Evidence, Measure, Reason
from kar_checks.store import now

FILLER = "resize-filler"
_HOSTNAME = "kubernetes.io/hostname"
_SLACK = 20
"""Millicores that stay free beside the filler."""
_GROWTH = 50
"""Millicores by which the deferred resize raises its request."""


def run(trial: Trial) -> ResizeObservation:
    """Measure what the selected checks need."""
    started = now()
    trial.mount_probe(PROBE)
    try:
        cases = trial.side_by_side(_cases(trial))
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
        measures=measures([one for one in cases.values() if isinstance(one, Case)]),
        cases=cases,
    )


def measures(cases: Iterable[Case]) -> list[Measure]:
    """Return how long resizes took, but for those that had to wait for room."""
    samples = [
        (step.looks[-1].at - step.patch.at).total_seconds()
        for case in cases
        if case.name != plans.DEFERRED.name
        for step in case.steps
        if step.expect == "resize" and step.settled and step.looks
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
        pod_manifest(_filler(10), image=image, config_map=config_map, hostname="any", pod=FILLER)
    )
    return [(kinds.POD, body) for body in bodies]


class _Crowd:
    """The cases that others wait for: until each has gone, CPU is scarce and room changes."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._changed = threading.Condition()

    def leave(self) -> None:
        """One case is done with what disturbs others."""
        with self._changed:
            self._left -= 1
            self._changed.notify_all()

    def await_end(self) -> None:
        """Wait until all have left."""
        with self._changed:
            self._changed.wait_for(lambda: self._left <= 0)


def _cases(trial: Trial) -> dict[str, Callable[[], Case]]:
    makers: dict[Plan, Callable[[Trial, Plan], Case]] = {
        **dict.fromkeys(plans.ORDINARY, _ordinary),
        plans.QOS: _qos_change,
        plans.INFEASIBLE: _infeasible,
    }
    chosen = {plan: make for plan, make in makers.items() if plan.check in trial.selected}
    busy = plans.BUSY.check in trial.selected
    crowd = _Crowd(len(chosen) + busy)

    def crowded(make: Callable[[Trial, Plan], Case], plan: Plan) -> Case:
        try:
            return make(trial, plan)
        finally:
            crowd.leave()

    work: dict[str, Callable[[], Case]] = {
        plan.name: partial(crowded, make, plan) for plan, make in chosen.items()
    }
    if busy:
        work[plans.BUSY.name] = partial(_busy_loop, trial, plans.BUSY, crowd)
    if plans.DEFERRED.check in trial.selected:
        work[plans.DEFERRED.name] = partial(_deferred, trial, plans.DEFERRED, crowd)
    return work


def _ordinary(trial: Trial, plan: Plan) -> Case:
    subject = Subject(trial, plan)
    subject.start()
    for step in plan.steps:
        done = subject.resize(step.name, step.change, restart=step.expect == "restart")
        if not done.settled:
            break
    return subject.case()


def _busy_loop(trial: Trial, plan: Plan, crowd: _Crowd) -> Case:
    """Spin before and after a change of the limit, when the other cases have gone quiet."""
    subject = Subject(trial, plan)
    try:
        subject.start()
    finally:
        crowd.leave()
    crowd.await_end()
    seconds = trial.number("resize.busy_seconds")
    subject.spin(seconds)
    for step in plan.steps:
        subject.resize(step.name, step.change, burn=seconds)
    return subject.case()


def _control(subject: Subject) -> bool:
    """Make a small resize that must be accepted: rights and quota are then no explanation."""
    step = subject.resize(plans.CONTROL.name, plans.CONTROL.change)
    return step.settled


def _qos_change(trial: Trial, plan: Plan) -> Case:
    subject = Subject(trial, plan)
    subject.start()
    if _control(subject):
        limits = subject.now_held.look.containers[plans.MAIN].spec["limits"]
        guaranteed = {plans.MAIN: {"requests": limits, "limits": limits}}
        subject.resize_in_vain("requests equal to limits", guaranteed, infeasible=False)
    return subject.case()


def _infeasible(trial: Trial, plan: Plan) -> Case:
    nodes = _nodes(trial)
    largest = max(capacity.allocatable(one).cpu_millicores for one in nodes)
    subject = Subject(trial, plan)
    subject.start()
    if _control(subject):
        huge = sized(cpu=f"{largest * 10}m", max_cpu=f"{largest * 10 + 10}m")
        subject.resize_in_vain("ten times a node", {plans.MAIN: huge}, infeasible=True)
    return subject.case()


def _deferred(trial: Trial, plan: Plan, crowd: _Crowd) -> Case:
    """Fill a node up to its target pod, let that ask for more, and take the filler away.

    On a full node the resizes of the other cases would have to wait, too.
    """
    crowd.await_end()
    node = max(_nodes(trial), key=lambda one: capacity.free(trial.cluster, one).cpu_millicores)
    hostname = node["metadata"]["labels"][_HOSTNAME]
    subject = Subject(trial, plan, hostname=hostname)
    subject.start()
    size = capacity.free(trial.cluster, node).cpu_millicores - _SLACK
    if size < _GROWTH:
        raise HarnessError(
            Reason.UNSCHEDULABLE,
            f"node {node['metadata']['name']} has {size + _SLACK} m of CPU free, "
            f"the case needs {_GROWTH + _SLACK} m",
            "make room on a node, or choose others by --node-selector",
        )
    trial.start_pod(
        pod_manifest(
            _filler(size),
            image=trial.workspace.target.image("python"),
            config_map=trial.mount_probe(PROBE),
            hostname=hostname,
            pod=FILLER,
        )
    )
    try:
        free_before = capacity.free(trial.cluster, node).cpu_millicores
        held = subject.now_held.look.containers[plans.MAIN].spec["requests"]["cpu"]
        change = {plans.MAIN: sized(cpu=f"{quantity.millicores(held) + _GROWTH}m")}
        step, pod = subject.defer("more than is free", change)
        waiting = subject.snapshot() if pod else None
        deferred = step.looks[-1] if pod else None
    finally:
        trial.workspace.delete(kinds.POD, FILLER)
    if pod:
        subject.await_rest(step, pod)
    return subject.case(
        Arena(
            node=str(node["metadata"]["name"]),
            allocatable=capacity.allocatable(node).cpu_millicores,
            free_before=free_before,
            needed=_GROWTH,
            left_after=capacity.free(trial.cluster, node).cpu_millicores,
            deferred=deferred,
            waiting=waiting,
        )
    )


def _filler(size: int) -> Plan:
    room = (ContainerPlan(plans.MAIN, sized(f"{size}m", "32Mi", f"{size + 100}m", "64Mi")),)
    return Plan(plans.DEFERRED.check, room, ())


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
