"""Kueue's API: its kinds by full path, what makes pods a group, and what a Workload says.

``Workload`` exists in ``scheduling.k8s.io``, too, so everything is addressed by group and version.
"""

from __future__ import annotations

import copy
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kar_checks.checks.gang.groups import group_changed, what_happened
from kar_checks.checks.gang.observation import Disturbance, Refusal
from kar_checks.checks.gang.watching import wait_for
from kar_checks.cluster import pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.follow import LISTED, Follower
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.pulse import Pulse

GROUP = "kueue.x-k8s.io"
VERSIONS = ("v1beta2", "v1beta1")
QUEUE_LABEL = f"{GROUP}/queue-name"
GROUP_LABEL = f"{GROUP}/pod-group-name"
COUNT = f"{GROUP}/pod-group-total-count"
GATE = f"{GROUP}/admission"
MIN_PARALLELISM = f"{GROUP}/job-min-parallelism"
"""With it a Job may be admitted with fewer pods than it wants."""
_NO_QUOTA = ("WaitingForQuota", "ExceedsMaxQuota")
"""Since 0.19; before, the reason was Pending for everything, and only the message said why."""
_CONTROLLERS = ("kueue", "manager")
"""How Kueue's controller is called in ``managedFields``, by version."""
_PREEMPTS = "Pending the preemption of"
_SHORT = re.compile(r"insufficient (unused )?quota")
_MOST = re.compile(r"insufficient quota for cpu in flavor (\S+), .*?> maximum capacity \(([^)]+)\)")


@dataclass(frozen=True)
class Api:
    """The kinds in the version that the server has."""

    version: str

    @property
    def api_version(self) -> str:
        """``apiVersion`` of Kueue's objects."""
        return f"{GROUP}/{self.version}"

    @property
    def workload(self) -> Kind:
        """What is admitted: one for each Job, pod group or single pod."""
        return Kind(GROUP, self.version, "workloads", "Workload")

    @property
    def local_queue(self) -> Kind:
        """The way of a namespace into a ClusterQueue."""
        return Kind(GROUP, self.version, "localqueues", "LocalQueue")

    @property
    def cluster_queue(self) -> Kind:
        """A quota."""
        return Kind(GROUP, self.version, "clusterqueues", "ClusterQueue", namespaced=False)

    @property
    def flavor(self) -> Kind:
        """What a quota is of."""
        return Kind(GROUP, self.version, "resourceflavors", "ResourceFlavor", namespaced=False)

    @property
    def topology(self) -> Kind:
        """The levels by which a topology-aware flavor places pods."""
        return Kind(GROUP, self.version, "topologies", "Topology", namespaced=False)


def detect(facts: Facts) -> Api | None:
    """Take the newest version in the server's discovery."""
    for version in VERSIONS:
        if facts.serves(GROUP, version, "workloads"):
            return Api(version)
    return None


def queued(body: Object, queue: str) -> Object:
    """Return an object with the label that names its queue."""
    out = copy.deepcopy(body)
    out["metadata"].setdefault("labels", {})[QUEUE_LABEL] = queue
    return out


def grouped(pod: Object, queue: str, group: str, size: int) -> Object:
    """Return a pod as a member of a plain pod group."""
    out = queued(pod, queue)
    out["metadata"]["labels"][GROUP_LABEL] = group
    out["metadata"].setdefault("annotations", {})[COUNT] = str(size)
    return out


def gated(pod: Object) -> bool:
    """Say whether a stored pod waits for Kueue."""
    return any(one.get("name") == GATE for one in pod["spec"].get("schedulingGates") or [])


def asks(stored: Object, queue: str) -> bool:
    """Say whether a stored object names this queue."""
    return (stored["metadata"].get("labels") or {}).get(QUEUE_LABEL) == queue


def admitted(workload: Object) -> bool:
    """Say whether a Workload may run."""
    return pods.is_true(workload, "Admitted")


def lost_quota(workload: Object) -> str:
    """Say how Kueue took the quota of an admitted Workload back; empty if it did not."""
    said = pods.condition(workload, "Evicted") or {}
    if said.get("status") != "True":
        return ""
    return f"Evicted, {said.get('reason')}: {said.get('message')}"


def would_preempt(workload: Object) -> str:
    """Return Kueue's words if a Workload of ours waits for the quota of others to be taken."""
    said = pods.condition(workload, "QuotaReserved") or {}
    message = str(said.get("message", ""))
    return message if said.get("status") == "False" and _PREEMPTS in message else ""


def waits(workload: Object) -> bool:
    """Say whether Kueue looked at a Workload and gave it no quota."""
    said = pods.condition(workload, "QuotaReserved") or {}
    return said.get("status") == "False"


def owners(workload: Object) -> list[str]:
    """Return the names of the objects that a Workload was made for."""
    return [str(one.get("name")) for one in workload["metadata"].get("ownerReferences") or []]


def refusal(workload: Object | None) -> Refusal:
    """Return how Kueue explains that a Workload waits."""
    said = pods.condition(workload or {}, "QuotaReserved") or {}
    message, reason = str(said.get("message", "")), str(said.get("reason", ""))
    short = reason in _NO_QUOTA or _SHORT.search(message) is not None
    return Refusal(
        refused=said.get("status") == "False" and short,
        condition=f"QuotaReserved={said.get('status')}, {reason}: {message}" if said else "",
    )


def most(workload: Object) -> dict[str, str]:
    """Return the CPU that each flavor can give at most, from the refusal of a request above it.

    Empty if the Workload was not refused for that.
    """
    said = pods.condition(workload, "QuotaReserved") or {}
    return dict(_MOST.findall(str(said.get("message", ""))))


class Workloads:
    """The Workloads of a namespace as they are now; every change wakes those who wait."""

    def __init__(self, cluster: Cluster, api: Api, namespace: str, seconds: float) -> None:
        self._cluster = cluster
        self._pulses: list[Pulse] = []
        self._latest: dict[str, Object] = {}
        self._lost: list[tuple[float, set[str], Disturbance]] = []
        self._changed = threading.Condition()
        self._follower = Follower(cluster, api.workload, namespace, self._note, seconds=seconds)

    def close(self) -> None:
        """End the watch."""
        self._follower.close()

    def sync(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        self._follower.check()

    def proves(self, pulse: Pulse) -> None:
        """Hand on to a pulse what the watch shows of the Workloads of its pods."""
        self._pulses.append(pulse)

    def of(self, uid: str) -> Object | None:
        """Return the Workload that belongs to an object of ours."""
        with self._changed:
            for one in self._latest.values():
                owners = one["metadata"].get("ownerReferences") or []
                if any(owner.get("uid") == uid for owner in owners):
                    return one
        return None

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

    def losses(self, owners: Collection[str], zero: float) -> list[Disturbance]:
        """Return what preemption did to the Workloads of these objects, or would do for them."""
        return self._noted(owners, zero, "preempted")

    def changed(self, owners: Collection[str], zero: float) -> list[Disturbance]:
        """Return what somebody did to the Workloads of these objects."""
        return self._noted(owners, zero, "group_changed")

    def _noted(self, owners: Collection[str], zero: float, reason: str) -> list[Disturbance]:
        with self._changed:
            return [
                one.model_copy(update={"at": round(moment - zero, 2)})
                for moment, whose, one in self._lost
                if one.reason == reason and not whose.isdisjoint(owners)
            ]

    def _note_change(self, change: str, item: Object) -> None:
        """Take note of what somebody does to a Workload that is still of use.

        Kueue's retention may remove finished ones; of one without its quota the loss is noted.
        Kueue itself replaces or corrects one that does not match its Job or pods any more.
        """
        before = self._latest.get(item["metadata"]["uid"])
        if before is None or pods.is_true(item, "Finished") or lost_quota(item):
            return
        going = change == "DELETED" or item["metadata"].get("deletionTimestamp")
        if not before["metadata"].get("finalizers") if going else _by_kueue(item):
            return  # Kueue takes its finalizer away before it deletes a Workload
        if text := what_happened(change, before, {"kind": "Workload", **item}):
            moment = time.monotonic()
            self._lost.append((moment, _whose(item), group_changed(0, text)))

    def _note_preemption(self, item: Object) -> None:
        """Take note of a state when it begins."""
        before = self._latest.get(item["metadata"]["uid"], {})
        name = item["metadata"]["name"]
        found: list[str] = []
        if (said := lost_quota(item)) and not lost_quota(before):
            found.append(f"Kueue took back the quota of our Workload {name} ({said})")
        if (said := would_preempt(item)) and not would_preempt(before):
            found.append(f"Kueue preempts others for our Workload {name} ({said})")
        self._lost += [
            (time.monotonic(), _whose(item), Disturbance(at=0, reason="preempted", text=text))
            for text in found
        ]

    def _note(self, change: str, item: Object) -> None:
        if change != LISTED and waits(item):
            for pulse in self._pulses:
                for name in owners(item):
                    pulse.answer(name)
        with self._changed:
            self._note_preemption(item)
            self._note_change(change, item)
            if change == "DELETED":
                self._latest.pop(item["metadata"]["uid"], None)
            else:
                self._latest[item["metadata"]["uid"]] = item
            self._changed.notify_all()


def _whose(workload: Object) -> set[str]:
    """Return the UIDs of its owners: a group belongs to all of its pods."""
    return {str(one.get("uid")) for one in workload["metadata"].get("ownerReferences") or []}


def _by_kueue(workload: Object) -> bool:
    """Say whether Kueue's controller was the last to write ``spec``."""
    writers = [
        one
        for one in workload["metadata"].get("managedFields") or []
        if "f:spec" in (one.get("fieldsV1") or {})
    ]
    latest = max((str(one.get("time", "")) for one in writers), default="")
    last = [str(one.get("manager", "")) for one in writers if str(one.get("time", "")) == latest]
    return bool(last) and all(one.startswith(_CONTROLLERS) for one in last)
