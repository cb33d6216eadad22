"""The quota that a scenario works in: a queue of our own, or the LocalQueue that the user named."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kar_checks.checks.gang.kueue import USERS_QUEUE
from kar_checks.checks.gang.kueue.api import Api, Workloads, most, queued, waits
from kar_checks.checks.gang.observation import Disturbance, Problem
from kar_checks.checks.gang.pods import Shape, filler
from kar_checks.checks.gang.stage import ProblemError, Room
from kar_checks.cluster import kinds, pods, wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.follow import Follower
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.quantity import millicores
from kar_checks.kit.pulse import NOWHERE
from kar_checks.kit.trial import Trial
from kar_checks.kit.words import Reasons
from kar_checks.model import Reason

verdict = Reasons(__package__)

_MEMORY = "1Gi"
_ABOVE_EVERYTHING = 10**9
"""Millicores that no quota has."""


@dataclass(frozen=True)
class Queue:
    """A way into a quota of CPU. ``cluster_queue`` is empty where it is the user's."""

    name: str
    free: int
    """Millicores that it can give at most."""
    cluster_queue: str = ""

    @property
    def place(self) -> str:
        """What it is, in words."""
        if self.cluster_queue:
            return f"ClusterQueue {self.cluster_queue}"
        return f"{USERS_QUEUE} {self.name}"


@contextmanager
def own_queue(
    trial: Trial, api: Api, name: str, free: int, *, by_topology: bool = False
) -> Iterator[Queue]:
    """Make a queue with a quota of ``free`` millicores, and ask for its end.

    With ``by_topology`` its flavor knows the nodes and what is free on them.

    Raises:
        ProblemError: it does not become active, or was changed on its way in.
    """
    unique = f"kar-{trial.workspace.run_id}-{name}"
    quota = [
        {"name": "cpu", "nominalQuota": f"{free}m"},
        {"name": "memory", "nominalQuota": _MEMORY},
    ]
    group = {
        "coveredResources": ["cpu", "memory"],
        "flavors": [{"name": unique, "resources": quota}],
    }
    levels = {"spec": {"levels": [{"nodeLabel": "kubernetes.io/hostname"}]}}
    nodes = {"nodeLabels": {"kubernetes.io/os": "linux"}, "topologyName": unique}
    wanted: tuple[tuple[Kind, Object], ...] = (
        *(((api.topology, levels),) if by_topology else ()),
        (api.flavor, {"spec": nodes if by_topology else {}}),
        (api.cluster_queue, {"spec": {"namespaceSelector": {}, "resourceGroups": [group]}}),
        (api.local_queue, {"spec": {"clusterQueue": unique}}),
    )
    there: list[Kind] = []
    try:
        for kind, body in wanted:
            whole = {
                "apiVersion": api.api_version,
                "kind": kind.kind,
                "metadata": {"name": unique},
                **body,
            }
            trial.workspace.create(kind, whole)
            there.append(kind)
        require_active(trial, api, unique)
        yield Queue(name=unique, free=free, cluster_queue=unique)
    finally:
        # The quota is held by its Workloads, and the flavor by its quota: the cleanup awaits them.
        for kind in reversed(there):
            trial.workspace.delete(kind, unique, seconds=0)


def users_queue(trial: Trial, api: Api, workloads: Workloads, name: str) -> Queue:
    """Find out what the user's queue can give, by asking for more than that.

    Whoever has no right but in one namespace cannot read a quota. Kueue names it when it refuses
    a request that no state of the queue could fulfil: such a request takes nothing and preempts
    nobody.

    Raises:
        ProblemError: it is not active, or what it gives cannot be told.
    """
    require_active(trial, api, name)
    found = _ask(trial, workloads, name)
    if len(found) != 1:
        raise ProblemError(
            Problem.of(
                verdict(
                    "quota_unknown.flavors" if found else "quota_unknown.silent",
                    queue=name,
                    flavors=len(found),
                )
            )
        )
    return Queue(name=name, free=millicores(next(iter(found.values()))))


def _ask(trial: Trial, workloads: Workloads, queue: str) -> dict[str, str]:
    shape = Shape(
        hostname=NOWHERE,
        image=trial.workspace.target.image("python"),
        probe=trial.mount_probe("gang_member"),
        millicores=int(trial.number("gang.member_millicores")),
    )
    body = filler(shape, group="kueue-asks", millicores=_ABOVE_EVERYTHING)
    stored = trial.workspace.create(kinds.POD, queued(body, queue))
    uid = str(stored["metadata"]["uid"])

    def answered() -> bool:
        found = workloads.of(uid)
        return found is not None and waits(found)

    try:
        workloads.wait(answered, trial.number("gang.control_seconds"))
        return most(workloads.of(uid) or {})
    finally:
        trial.workspace.delete(kinds.POD, str(stored["metadata"]["name"]))


def require_active(trial: Trial, api: Api, name: str) -> None:
    """Wait until Kueue says that a LocalQueue takes work.

    Raises:
        ProblemError: it says that it does not, or nothing.
    """
    last: Object = {}

    def active(found: Object) -> bool:
        last.update(found)
        return pods.is_true(found, "Active")

    try:
        wait.wait_for(
            trial.cluster,
            api.local_queue,
            name,
            trial.namespace,
            goal=active,
            seconds=trial.number("gang.control_seconds"),
            what=f"LocalQueue {name}",
        )
    except HarnessError as error:
        if error.fault.reason is not Reason.TIMEOUT:
            raise
        raise ProblemError(_inactive(name, last)) from error


def _inactive(name: str, queue: Object) -> Problem:
    said = pods.condition(queue, "Active")
    if said is None:
        return Problem.of(verdict("controller_silent", queue=name))
    reason, message = said.get("reason"), said.get("message")
    return Problem.of(verdict("queue_inactive", queue=name, reason=reason, message=message))


class QueueRoom:
    """The room of a scenario that is sized by quota: what changes there that is not ours.

    A node, where there is one, has room for more than the quota; what happens on it counts, too.
    """

    def __init__(
        self, trial: Trial, api: Api, queue: Queue, node: Room | None, seconds: float
    ) -> None:
        self.node = queue.place
        self._queue, self._node = queue, node
        self._known: dict[str, object] = {}
        self._armed = 0.0
        self._seen: list[Disturbance] = []
        self._lock = threading.Lock()
        by_name = f"metadata.name={queue.name}"
        self._followers = [
            Follower(
                trial.cluster,
                api.local_queue,
                trial.namespace,
                self._note,
                fields=by_name,
                seconds=seconds,
            )
        ]
        if queue.cluster_queue:
            self._followers.append(
                Follower(
                    trial.cluster,
                    api.cluster_queue,
                    "",
                    self._note,
                    fields=by_name,
                    seconds=seconds,
                )
            )

    @property
    def alive(self) -> bool:
        """Whether the watches go on."""
        return all(one.alive for one in self._followers) and (
            self._node is None or self._node.alive
        )

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        return sum(one.misses for one in self._followers) + (
            self._node.misses if self._node is not None else 0
        )

    def check(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        for one in self._followers:
            one.check()
        if self._node is not None:
            self._node.check()

    def close(self) -> None:
        """End the watches; the node's is not ours."""
        for one in self._followers:
            one.close()

    def settle(self, seconds: float) -> None:
        """Wait until the node is as we found it."""
        if self._node is not None:
            self._node.settle(seconds)

    def free(self) -> int:
        """Return the millicores that the quota can give."""
        return self._queue.free

    def arm(self, zero: float) -> None:
        """Begin to take note of what others do."""
        with self._lock:
            self._armed = zero
            self._seen.clear()
        if self._node is not None:
            self._node.arm(zero)

    def disarm(self) -> list[Disturbance]:
        """Return what others did since :meth:`arm`."""
        with self._lock:
            self._armed = 0.0
            found = list(self._seen)
        return [*found, *(self._node.disarm() if self._node is not None else [])]

    def _note(self, change: str, item: Object) -> None:
        kind, active = str(item["kind"]), pods.is_true(item, "Active")
        state = (item.get("spec"), active if kind == "LocalQueue" else None)
        with self._lock:
            before = self._known.get(kind)
            self._known[kind] = state
            if not self._armed or before is None or (state == before and change != "DELETED"):
                return
            said = pods.condition(item, "Active") or {}
            what = (
                "was deleted"
                if change == "DELETED"
                else f"was changed or stopped ({said.get('reason')}: {said.get('message')})"
            )
            self._seen.append(
                Disturbance(
                    at=round(time.monotonic() - self._armed, 2),
                    reason="quota_changed",
                    text=f"the {kind} {item['metadata']['name']} {what}",
                )
            )


class Undisturbed:
    """Nothing to look at: nobody may list the nodes here, and the quota asks none."""

    alive = True
    misses = 0

    def check(self) -> None:
        """Look at nothing."""

    def since(self, zero: float, node: str) -> list[Disturbance]:
        """Return nothing."""
        return []
