"""What the resize trial stores: every state of a pod that was seen, inside and outside of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from kar_checks.cluster import pods
from kar_checks.cluster.client import Object
from kar_checks.kit.pulse import Pulsed
from kar_checks.model import Fault, Observation, Record
from kar_checks.store import now

Resources = dict[str, dict[str, str]]
"""``{"requests": {"cpu": "20m"}, "limits": {…}}`` as Kubernetes writes them."""

PENDING = "PodResizePending"
IN_PROGRESS = "PodResizeInProgress"


class Condition(Record):
    """A condition about a resize."""

    type: str
    reason: str = ""
    message: str = ""
    observed_generation: int | None = None


class Ended(Record):
    """How a container's last run ended (``lastState.terminated``)."""

    container_id: str = ""
    exit_code: int | None = None
    reason: str = ""
    finished_at: str = ""


class Container(Record):
    """One container as its pod's spec and status tell it."""

    spec: Resources
    status: Resources | None = None
    """``status.containerStatuses[].resources``; ``None`` if the kubelet does not fill it."""
    allocated: dict[str, str] | None = None
    container_id: str = ""
    restart_count: int = 0
    started_at: str = ""
    running: bool = False
    last_end: Ended | None = None


class Look(Record):
    """A pod at one moment, as the API server has it."""

    at: datetime
    uid: str
    resource_version: str
    generation: int
    observed_generation: int | None = None
    qos_class: str = ""
    deleted: bool = False
    conditions: list[Condition] = []
    containers: dict[str, Container]


class Kernel(Record):
    """The kernel's files about a container, as read inside of it; a missing file is missing."""

    version: Literal["v1", "v2", ""] = ""
    page: int = 4096
    files: dict[str, str] = {}


class Burn(Record):
    """A busy loop in the container: growth of its counters over ``seconds`` of wall time."""

    seconds: float
    usage_seconds: float | None = None
    """By the counter of the container."""
    nr_periods: int | None = None
    nr_throttled: int | None = None
    used_seconds: float | None = None
    """CPU time of the loop itself."""
    cpu: int | None = None
    """The only CPU that it could run on."""
    idle_seconds: float | None = None
    """How long that CPU had nothing to do meanwhile."""


class Fill(Record):
    """Page cache charged to the container: a file larger than a limit was read."""

    size: int
    """Of the file, in bytes."""
    samples: list[tuple[float, int]]
    """Monotonic time of the node, and the container's usage in bytes."""
    high: int | None = None
    """``memory.high`` of cgroup v2, from which the kernel reclaims before the limit."""
    available: int | None = None
    """What the machine could give without swapping, in bytes."""
    kept: int | None = None
    """Usage when the pod's other containers had filled theirs, too, and this file was still there;
    ``None`` if there are no others, or the file was gone by then."""
    how: str = ""
    """``hole`` or ``written``: what the file held."""
    file_system: str = ""


class Spin(Record):
    """A busy loop on one CPU, beside others."""

    cpu: int
    samples: list[tuple[float, float]]
    """Monotonic time of the node, and the loop's CPU time in seconds."""
    periods: list[tuple[float, int, int]] = []
    """The same time, ``nr_periods`` and ``nr_throttled``; empty where they cannot be read."""


class Contest(Record):
    """Busy loops of several pods on one CPU; each gets CPU time by the weight of its request."""

    spins: dict[str, Spin]
    """By container of the case's pod."""
    rival: Spin
    """The pod that all others are compared with."""
    rival_request: int
    """Its request in millicores."""


class Use(Record):
    """What the kernel let a pod's containers have, all of them at once."""

    at: datetime
    steps: int
    """How many of the case's changes had been made."""
    burns: dict[str, list[Burn]] = {}
    """By container; more than one where the first decided nothing."""
    fills: dict[str, list[Fill]] = {}
    contests: list[Contest] = []
    trouble: str = ""
    """Why something could not be measured."""


class Answer(Record):
    """What the first process of a container said about itself and the kernel."""

    at: datetime
    nonce: str
    proof: str
    """Keyed hash of the nonce under the text that it was given at the beginning."""
    pid1_started: int
    """Clock ticks after boot."""
    kernel: Kernel
    memory_bytes: int | None = None
    """Usage including page cache."""
    burn: Burn | None = None
    """Only in runs of version 0.1, where a new process of the container ran the loop."""
    node_at: datetime | None = None
    """The same moment by the node's own clock."""


class Snapshot(Record):
    """A pod at rest, from outside and from inside."""

    look: Look
    answers: dict[str, Answer] = {}
    """By container; one that did not answer is missing."""
    silence: str = ""
    """Why a container did not answer."""


class Patch(Record):
    """A request to ``/resize`` and what the API server said."""

    at: datetime
    wanted: dict[str, Resources]
    """By container: exactly what was sent."""
    status: int
    """HTTP status; 200 is accepted."""
    message: str = ""
    reason: str = ""
    """For a refusal: how the harness classifies it."""
    generation: int | None = None
    """``metadata.generation`` that the answer carried."""
    stored: dict[str, Resources] = {}
    """What the answer said that the spec is now."""


class NodeSigns(Record):
    """Whether the node lived while we waited in vain."""

    lease_renewed: datetime | None = None
    exec_answered: bool = False


class Step(Record):
    """One change: sent, watched, and looked at when it had come to rest."""

    name: str
    expect: Literal["resize", "restart", "refusal", "infeasible"] = "resize"
    patch: Patch
    looks: list[Look] = []
    """Every state that the watch brought after the patch."""
    settled: bool = False
    after: Snapshot | None = None
    """``None`` only if the pod was gone or replaced."""
    replaced: str = ""
    """What happened to the pod if it is not the one that we made."""
    signs: NodeSigns | None = None
    """Only where the wait ended in vain."""


class Arena(Record):
    """The node on which a resize had to wait for room; millicores."""

    node: str
    allocatable: int
    free_before: int
    """Free when the resize was asked for, by our own sum over the node's pods."""
    needed: int
    """By how much the resize raises the request."""
    left_after: int
    """Free after the filler had left, the wish counted as granted; below 0 there was no room."""
    deferred: Look | None = None
    """The state that carried the condition ``Deferred``."""
    waiting: Snapshot | None = None
    """The pod while it waited."""
    window: Pulsed | None = None
    """The time in which it had to wait; not recorded by version 0.1."""
    settling: Pulsed | None = None
    """The time that it had once there was room; not recorded by version 0.1."""


class Hold(Record):
    """The time after the last change, in which nothing may go back."""

    looks: list[Look] = []
    """Every state since the first change that no step has."""
    end: Snapshot
    """The pod at the end of the case."""


class Case(Record):
    """What became of one pod."""

    name: str
    pod: str
    node: str = ""
    kubelet: str = ""
    """Version of the kubelet, empty if nodes may not be read."""
    kept: dict[str, str] = {}
    """The text that each container's first process had to remember."""
    sent: dict[str, Resources]
    start: Snapshot
    steps: list[Step]
    kernel_trace: dict[str, list[tuple[datetime, Kernel]]] = {}
    """By container: every value that its first process saw, in the trial's own time."""
    arena: Arena | None = None
    hold: Hold | None = None
    """``None`` in runs of version 0.1, which looked once."""
    uses: list[Use] | None = None
    """``None`` in runs of version 0.1, which believed the kernel's files."""


class ResizeObservation(Observation):
    """The whole trial: a case, or why there is none, for each selected check."""

    trial: str = "resize"
    cases: dict[str, Case | Fault] = {}


def look(pod: Object) -> Look:
    """Return a pod's state as a record."""
    meta, status = pod["metadata"], pod.get("status") or {}
    spec = pod["spec"]
    conditions: list[Object] = status.get("conditions") or []
    return Look(
        at=now(),
        uid=str(meta["uid"]),
        resource_version=str(meta["resourceVersion"]),
        generation=int(meta.get("generation") or 0),
        observed_generation=status.get("observedGeneration"),
        qos_class=str(status.get("qosClass", "")),
        deleted="deletionTimestamp" in meta,
        conditions=[
            Condition(
                type=str(one["type"]),
                reason=str(one.get("reason") or ""),
                message=str(one.get("message") or ""),
                observed_generation=one.get("observedGeneration"),
            )
            for one in conditions
            if one["type"] in (PENDING, IN_PROGRESS) and one.get("status") == "True"
        ],
        containers={
            str(one["name"]): _container(one, pods.container_status(pod, one["name"]))
            for one in [*(spec.get("initContainers") or []), *spec["containers"]]
        },
    )


def resources(given: Any) -> Resources:
    """Return requests and limits with text values."""
    return {
        part: {name: str(value) for name, value in (given or {}).get(part, {}).items()}
        for part in ("requests", "limits")
        if (given or {}).get(part)
    }


def _container(spec: Object, status: Object) -> Container:
    ended = (status.get("lastState") or {}).get("terminated")
    running = (status.get("state") or {}).get("running")
    allocated: Object | None = status.get("allocatedResources")
    return Container(
        spec=resources(spec.get("resources")),
        status=resources(status["resources"]) if status.get("resources") else None,
        allocated=None if allocated is None else {k: str(v) for k, v in allocated.items()},
        container_id=str(status.get("containerID", "")),
        restart_count=int(status.get("restartCount") or 0),
        started_at=str((running or {}).get("startedAt", "")),
        running=running is not None,
        last_end=Ended(
            container_id=str(ended.get("containerID", "")),
            exit_code=ended.get("exitCode"),
            reason=str(ended.get("reason", "")),
            finished_at=str(ended.get("finishedAt", "")),
        )
        if ended
        else None,
    )
