"""Watches that go on beside a trial: what becomes of our pods, and what else happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from kar_checks.checks.gang.observation import BoundPod, Disturbance, PodTrace
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.follow import Follower
from kar_checks.cluster.quantity import millicores
from kar_checks.cluster.target import RUN_LABEL
from kar_checks.kit.pulse import Pulse, is_pulse
from kar_checks.model import Reason

GANG_LABEL = "kar-checks.dev/gang"
ROLE_LABEL = "kar-checks.dev/role"
_OF_A_NODE = ("unschedulable", "allocatable CPU", "Ready")
"""What is followed of a node, in the order in which it is remembered."""


def wait_for(
    changed: threading.Condition, cluster: Cluster, goal: Callable[[], bool], seconds: float
) -> bool:
    """Wait until ``goal`` holds, looking at every change; returns whether it does.

    Raises:
        HarnessError: the run is being interrupted.
    """
    deadline = time.monotonic() + seconds
    with changed:
        while not goal():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if cluster.stopping.is_set():
                raise HarnessError(Reason.INTERRUPTED, "the gang trial was interrupted")
            changed.wait(min(left, 0.5))
    return True


@dataclass
class _Seen:
    created: float
    bound: float | None = None
    running: float | None = None
    ended: float | None = None
    gone: float | None = None
    latest: Object = field(default_factory=dict)


class OwnPods:
    """The lives of the trial's own pods, by name; every change wakes those who wait."""

    def __init__(self, cluster: Cluster, namespace: str, run_id: str, seconds: float) -> None:
        self._cluster = cluster
        self._labels = f"{RUN_LABEL}={run_id},{GANG_LABEL}"
        self._seen: dict[str, _Seen] = {}
        self._dismissed: set[str] = set()
        self._lost: list[tuple[float, str, Disturbance]] = []
        self._changed = threading.Condition()
        self._pulses: list[Pulse] = []
        self._follower = Follower(
            cluster, kinds.POD, namespace, self._note, labels=self._labels, seconds=seconds
        )

    @property
    def alive(self) -> bool:
        """Whether the watch goes on."""
        return self._follower.alive

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        return self._follower.misses

    def proves(self, pulse: Pulse) -> None:
        """Hand on to a pulse what the watch shows of its pods."""
        self._pulses.append(pulse)

    def close(self) -> None:
        """End the watch."""
        self._follower.close()

    def expect(self, stored: Object) -> None:
        """Begin a pod's life with its creation."""
        self._note("ADDED", stored)

    def dismiss(self, name: str) -> None:
        """Say that a pod goes because we want it to."""
        with self._changed:
            self._dismissed.add(name)

    def _note(self, change: str, item: Object) -> None:
        moment = time.monotonic()
        if is_pulse(item):
            for one in self._pulses:
                one.saw(change, item)
            return
        name, status = str(item["metadata"]["name"]), item.get("status") or {}
        with self._changed:
            seen = self._seen.setdefault(name, _Seen(created=moment))
            if change == "DELETED":
                seen.gone = seen.gone or moment
            if pods.bound(item):
                seen.bound = seen.bound or moment
            if status.get("phase") == "Running":
                seen.running = seen.running or moment
            if status.get("phase") in ("Succeeded", "Failed"):
                seen.ended = seen.ended or moment
            self._note_loss(name, item, moment)
            seen.latest = item
            self._changed.notify_all()

    def _note_loss(self, name: str, item: Object, moment: float) -> None:
        """Note a pod that goes, or a filler that ends, although we did not want it to."""
        meta = item["metadata"]
        filler = (meta.get("labels") or {}).get(ROLE_LABEL) == "filler"
        ended = filler and pods.phase(item) in ("Succeeded", "Failed")
        if name in self._dismissed or not (meta.get("deletionTimestamp") or ended):
            return
        self._dismissed.add(name)
        target = pods.condition(item, "DisruptionTarget") or {}
        told = f": {target.get('message')}" if target else ""
        reason: Literal["preempted", "filler_ended", "pod_deleted"]
        if target.get("reason") == "PreemptionByScheduler":
            reason, what = "preempted", "was preempted"
        elif ended:
            reason, what = "filler_ended", f"ended by itself ({pods.last_words(item)})"
        else:
            reason, what = "pod_deleted", "was deleted by somebody"
        loss = Disturbance(at=0, reason=reason, text=f"our pod {name} {what}{told}")
        self._lost.append((moment, name, loss))

    def wait(self, goal: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``goal`` holds, looking at every change; returns whether it does.

        Before it gives up the server is asked without the watch.

        Raises:
            HarnessError: the run is being interrupted, or the server does not answer.
        """
        if wait_for(self._changed, self._cluster, goal, seconds):
            return True
        self.sync()
        return goal()

    def pause(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            HarnessError: the run is being interrupted.
        """
        wait_for(self._changed, self._cluster, lambda: False, seconds)

    def sync(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        self._follower.check()

    def named(self, group: str) -> list[str]:
        """Return the names of the pods that somebody made for one of our groups."""
        with self._changed:
            return [
                name
                for name, seen in self._seen.items()
                if (seen.latest["metadata"].get("labels") or {}).get(GANG_LABEL) == group
            ]

    def latest(self, name: str) -> Object:
        """Return a pod as it was seen last."""
        return self._seen[name].latest

    def bound(self, names: list[str], zero: float) -> list[BoundPod]:
        """Return those that have a node, in the order in which they got it."""
        found = [
            BoundPod(name=name, at=round(at - zero, 2))
            for name in names
            if (at := self._seen[name].bound) is not None
        ]
        return sorted(found, key=lambda one: one.at)

    def ended(self, name: str) -> float | None:
        """Return when a pod ended (monotonic clock)."""
        return self._seen[name].ended

    def gone(self, name: str) -> bool:
        """Say whether a pod's object is gone."""
        return self._seen[name].gone is not None

    def refused(self, name: str) -> bool:
        """Say whether a scheduler said that the pod does not fit."""
        found = pods.condition(self._seen[name].latest, "PodScheduled") or {}
        return found.get("status") == "False" and found.get("reason") == "Unschedulable"

    def losses(self, names: list[str], zero: float) -> list[Disturbance]:
        """Return what happened to these pods against our will."""
        return [
            one.model_copy(update={"at": round(moment - zero, 2)})
            for moment, name, one in self._lost
            if name in names
        ]

    def trace(self, name: str, zero: float) -> PodTrace:
        """Return a pod's life as it is stored."""
        seen = self._seen[name]
        spec, status = seen.latest["spec"], seen.latest.get("status") or {}

        def after(moment: float | None) -> float | None:
            return None if moment is None else round(moment - zero, 2)

        return PodTrace(
            name=name,
            node=str(spec.get("nodeName", "")),
            scheduler=str(spec.get("schedulerName", "")),
            priority=spec.get("priority"),
            created=round(seen.created - zero, 2),
            bound=after(seen.bound),
            running=after(seen.running),
            ended=after(seen.ended),
            succeeded=status.get("phase") == "Succeeded",
            stopped="deletionTimestamp" in seen.latest["metadata"],
            gone=after(seen.gone),
        )


class Surroundings:
    """Nodes that come or change while the trial runs."""

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        self._known: dict[str, tuple[object, ...]] = {}
        self._seen: list[tuple[float, str, Disturbance]] = []
        self._listing = True
        self._follower = Follower(cluster, kinds.NODE, "", self._note, seconds=seconds)
        self._listing = False

    @property
    def alive(self) -> bool:
        """Whether the watch goes on."""
        return self._follower.alive

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        return self._follower.misses

    def check(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        self._follower.check()

    def close(self) -> None:
        """End the watch."""
        self._follower.close()

    def since(self, zero: float, node: str) -> list[Disturbance]:
        """Return what concerns a scenario on ``node`` that began at ``zero``."""
        return [
            one.model_copy(update={"at": round(moment - zero, 2)})
            for moment, where, one in self._seen
            if moment >= zero and where in ("", node)
        ]

    def _note(self, change: str, item: Object) -> None:
        name = str(item["metadata"]["name"])
        state = (
            (item.get("spec") or {}).get("unschedulable", False),
            (item.get("status") or {}).get("allocatable", {}).get("cpu"),
            (pods.condition(item, "Ready") or {}).get("status"),
        )
        before = self._known.get(name)
        self._known[name] = state
        if self._listing:
            return
        if before is None:
            found = Disturbance(at=0, reason="node_added", text=f"the node {name} was added")
            self._seen.append((time.monotonic(), "", found))
        elif change == "DELETED" or before != state:
            changes = ", ".join(
                f"{what} went from {old} to {new}"
                for what, old, new in zip(_OF_A_NODE, before, state, strict=True)
                if old != new
            )
            what = "was deleted" if change == "DELETED" else f"changed: {changes}"
            found = Disturbance(at=0, reason="node_changed", text=f"the node {name} {what}")
            self._seen.append((time.monotonic(), name, found))


@dataclass(frozen=True)
class Tenant:
    """A pod on a node: what it takes, and whose it is."""

    label: str
    ours: bool
    cpu: int
    priority: int
    leaving: bool


class NodeRoom:
    """Who takes CPU on one node, and what changes there that is not ours.

    Pods without a CPU request are let come and go: they make and take no room.
    """

    def __init__(self, cluster: Cluster, node: Object, run_id: str, seconds: float) -> None:
        self.node = str(node["metadata"]["name"])
        self.allocatable = millicores(node["status"]["allocatable"]["cpu"])
        self.pod_limit = int(node["status"]["allocatable"].get("pods", "110"))
        self._cluster, self._run_id = cluster, run_id
        self._tenants: dict[str, Tenant] = {}
        self._armed = 0.0
        self._seen: list[Disturbance] = []
        self._changed = threading.Condition()
        self._follower = Follower(
            cluster,
            kinds.POD,
            "",
            self._note,
            fields=f"spec.nodeName={self.node}",
            seconds=seconds,
        )

    @property
    def alive(self) -> bool:
        """Whether the watch goes on."""
        return self._follower.alive

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        return self._follower.misses

    def check(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        self._follower.check()

    def close(self) -> None:
        """End the watch."""
        self._follower.close()

    def settle(self, seconds: float) -> None:
        """Wait for pods of ours and for those that leave already: their room becomes free."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while any(one.leaving or one.ours for one in self._tenants.values()):
                left = deadline - time.monotonic()
                if left <= 0 or self._cluster.stopping.is_set():
                    return
                self._changed.wait(min(left, 0.5))

    def free(self) -> int:
        """Return the millicores that nobody requests."""
        with self._changed:
            return self.allocatable - sum(one.cpu for one in self._tenants.values())

    def free_pods(self) -> int:
        """Return how many more pods the kubelet takes."""
        with self._changed:
            return self.pod_limit - len(self._tenants)

    def lowest_priority(self) -> int | None:
        """Return the lowest priority of the pods there."""
        with self._changed:
            return min((one.priority for one in self._tenants.values()), default=None)

    def arm(self, zero: float) -> None:
        """Begin to take note of what others do."""
        with self._changed:
            self._armed = zero
            self._seen.clear()

    def disarm(self) -> list[Disturbance]:
        """Return what others did since :meth:`arm`."""
        with self._changed:
            self._armed = 0.0
            return list(self._seen)

    def _note(self, change: str, item: Object) -> None:
        uid, meta = str(item["metadata"]["uid"]), item["metadata"]
        over = change == "DELETED" or pods.phase(item) in ("Succeeded", "Failed")
        labels: Object = meta.get("labels") or {}
        now = Tenant(
            label=f"{meta.get('namespace')}/{meta['name']}",
            ours=labels.get(RUN_LABEL) == self._run_id and GANG_LABEL in labels,
            cpu=cpu_request(item),
            priority=int(item["spec"].get("priority") or 0),
            leaving=bool(meta.get("deletionTimestamp")),
        )
        with self._changed:
            before = self._tenants.pop(uid, None)
            if not over:
                self._tenants[uid] = now
            if self._armed and not now.ours:
                self._note_stranger(before, None if over else now)
            self._changed.notify_all()

    def _note_stranger(self, before: Tenant | None, now: Tenant | None) -> None:
        had, has = before.cpu if before else 0, now.cpu if now else 0
        one = now or before
        if one is None or had == has:
            return
        text = (
            f"the pod {one.label} was placed on {self.node} and takes {has} m CPU"
            if before is None
            else f"the pod {one.label} on {self.node} went from {had} m to {has} m CPU"
        )
        at = round(time.monotonic() - self._armed, 2)
        reason = "foreign_pod" if before is None else "room_changed"
        self._seen.append(Disturbance(at=at, reason=reason, text=text))


def cpu_request(pod: Object) -> int:
    """Return the millicores that a scheduler counts for a pod.

    The rule of kube-scheduler: the larger of all containers with all sidecars, and of any init
    container with the sidecars that started before it; pod-level requests go before both; overhead
    comes on top. While a resize is under way the larger of the wanted and the given counts.
    """
    spec: Object = pod["spec"]
    given = {one.get("name"): one for one in pods.statuses(pod)}

    def wants(container: Object) -> int:
        status = given.get(container["name"]) or {}
        return max(_cpu(container), _cpu(status), _amount(status.get("allocatedResources")))

    sidecars = highest_init = 0
    for one in spec.get("initContainers") or []:
        if one.get("restartPolicy") == "Always":
            sidecars += wants(one)
            highest_init = max(highest_init, sidecars)
        else:
            highest_init = max(highest_init, sidecars + wants(one))
    total = max(sum(wants(one) for one in spec.get("containers") or []) + sidecars, highest_init)
    if "cpu" in ((spec.get("resources") or {}).get("requests") or {}):
        total = _cpu(spec)
    return total + _amount(spec.get("overhead"))


def _cpu(holder: Object) -> int:
    return _amount((holder.get("resources") or {}).get("requests"))


def _amount(resources: Object | None) -> int:
    return millicores((resources or {}).get("cpu", 0))
