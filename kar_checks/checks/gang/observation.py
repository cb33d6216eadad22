"""What the gang trial stores. Times are seconds after the start of their scenario."""

from __future__ import annotations

from typing import Any, Literal

from kar_checks.kit.pulse import Pulsed
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fault, Observation, Record

Role = Literal["control", "gang", "witness", "filler"]


class PodTrace(Record):
    """The life of one pod as the watch showed it; ``None`` for what did not happen."""

    name: str
    node: str = ""
    scheduler: str = ""
    priority: int | None = None
    created: float
    bound: float | None = None
    """When the watch showed ``spec.nodeName``."""
    running: float | None = None
    ended: float | None = None
    succeeded: bool = False
    stopped: bool = False
    """It was deleted, so that its end says nothing about it."""
    gone: float | None = None


class Group(Record):
    """Pods that were made together."""

    name: str
    role: Role
    min_count: int | None = None
    """How many must start together, as it was read back; ``None`` without a gang."""
    pods: list[PodTrace]


class Arena(Record):
    """Where a scenario takes place, in millicores and places of a member's size."""

    kind: Literal["node", "quota"] = "node"
    node: str
    """The node, or the queue whose quota decides."""
    free: int
    """Allocatable minus what the pods on it request, before anything of ours was there; of a
    queue what it can give at most."""
    member: int
    places: float
    """How many members fit once the fillers are there; the rest of it is slack."""


class Disturbance(Record):
    """Something on the arena that was not ours and may have made or taken room."""

    at: float
    reason: Literal[
        "node_added",
        "node_changed",
        "foreign_pod",
        "room_changed",
        "pod_deleted",
        "preempted",
        "filler_ended",
        "quota_changed",
        "group_changed",
    ]
    text: str


class BoundPod(Record):
    """A pod that got a node."""

    name: str
    at: float


class Window(Record):
    """A time in which no pod of a gang was meant to be bound."""

    began: float
    ended: float
    watched: bool
    """Every change in it was seen: no gap in the watch, and a list at its end agreed."""
    bound: list[BoundPod]
    pulse: Pulsed | None = None
    """What proves that API server, watch and scheduler worked; not recorded by version 0.1."""


class Refusal(Record):
    """What the backend says about a gang that waits."""

    refused: bool
    """It says that the group does not fit now."""
    scheduler_error: bool = False
    """It says that it failed by itself, which is no refusal."""
    condition: str = ""
    events: list[str] = []
    needs_event: bool = True
    """The condition alone may be an old one, or of somebody else."""
    source: str = "condition of the group; events of its pods, FailedScheduling"


class Witness(Record):
    """Plain pods of a member's shape, which prove that room and scheduler were there."""

    asked: int
    bound: int
    seconds: float | None = None
    """From the creation of the last until all were bound; ``None`` if they never were."""


class Start(Record):
    """How a gang went off that had room."""

    room_at: float
    size: int
    bound: list[BoundPod]
    met: int = 0
    """How many members say that all were connected at the same instant."""
    completed: int = 0
    witness: Witness | None = None
    """Only where no member was bound: plain pods in its place."""
    fault: Fault | None = None
    """Why the members could not run or not be asked."""
    waited: Pulsed | None = None
    """Only where not every member was bound: the time that they had for it; not recorded by
    version 0.1."""


class Problem(Record):
    """Why a scenario proves nothing."""

    reason: str
    text: str
    help: str = ""

    @classmethod
    def of(cls, ruling: Ruling) -> Problem:
        """Return the problem that a verdict names, to be stored."""
        return cls(reason=ruling.reason, text=ruling.summary, help=ruling.help)


class Canary(Record):
    """A member of a gang that can run nowhere, as it was stored."""

    priority: int
    preempts: bool

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Canary:
        """Return what the API server stored of a pod."""
        spec = stored["spec"]
        return cls(
            priority=int(spec.get("priority") or 0),
            preempts=spec.get("preemptionPolicy") != "Never",
        )


class Scenario(Record):
    """What every scenario records."""

    arena: Arena
    groups: list[Group]
    disturbances: list[Disturbance] = []
    watched: bool = True
    """No watch had a gap, and lists at the end agreed with all of them."""


class Squeeze(Scenario):
    """A gang of which only some pods would fit; then the filler goes."""

    size: int
    fitting: int
    control: int
    """How many pods of the control group were bound."""
    window: Window | None = None
    refusal: Refusal | None = None
    witness: Witness | None = None
    start: Start | None = None


class Fits(Scenario):
    """A gang in a room of exactly its size; then plain pods in the room that it left."""

    start: Start
    refill: Witness | None = None


class Incomplete(Scenario):
    """All members but one, in a room where all would fit; then the last one."""

    size: int
    window: Window
    start: Start | None = None


class Contest(Scenario):
    """Two gangs that each need more than half of the room, let in at the same moment."""

    size: int
    waiting: Window
    """Before there was room for either."""
    refusals: dict[str, Refusal]
    first: Start | None = None
    first_name: str = ""
    overlap: list[BoundPod] = []
    """Members of the other gang that were bound before any member of the first ended."""
    held: float = 0
    """How long the other one was watched while the first had the room."""
    beside: Window | None = None
    """That time; not recorded by version 0.1."""
    witness: Witness | None = None
    second: Start | None = None
    stuck: list[BoundPod] = []
    """What was bound when neither was complete in time."""
    tried: Pulsed | None = None
    """Only where neither became complete: the time that they had for it; not recorded by version
    0.1."""


class Fragmented(Record):
    """A gang with quota for all of its members, one of which fits on no node."""

    size: int
    bound: int
    admitted: bool
    said: str = ""
    """How its waiting was explained."""


class PodsReady(Record):
    """What Kueue does with an admitted gang whose pods do not all become ready."""

    on: bool
    timeout: str = ""
    """After which it is taken back, as it is written in Kueue's configuration."""
    blocks: bool = False
    """Nothing else is admitted meanwhile."""


class Guarantee(Record):
    """How far all-or-nothing goes where a gang is admitted by quota."""

    by_quota: Fragmented
    by_topology: Fragmented | Problem | None = None
    """The same in a queue of ours whose flavor knows the nodes; not tried in the user's queue."""
    pods_ready: PodsReady | None = None
    """``None`` if it could not be read."""
    quota: int
    """Millicores that the queue can give."""
    nodes: int | None = None
    """Millicores that all nodes for our pods have together; ``None`` if they cannot be listed."""


class BackendObservation(Record):
    """One gang scheduler. A scenario that was not asked for is ``None``."""

    version: str
    problem: Problem | None = None
    """What makes every scenario pointless, such as a field that is dropped."""
    squeeze: Squeeze | Problem | Fault | None = None
    fits: Fits | Problem | Fault | None = None
    incomplete: Incomplete | Problem | Fault | None = None
    contest: Contest | Problem | Fault | None = None
    guarantee: Guarantee | Problem | Fault | None = None
    """Only where gangs are admitted by quota."""


class GangObservation(Observation):
    """What the trial saw of every gang scheduler that it found."""

    looked_for: list[str]
    backends: dict[str, BackendObservation | Fault]
