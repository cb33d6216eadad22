"""What the disaggregation trial stores. Times are seconds; clocks of different pods never mix."""

from __future__ import annotations

from kar_checks.checks.disaggregation.kv import Shape
from kar_checks.kit.pulse import Pulsed
from kar_checks.model import Fault, Observation, Record


class PodSeen(Record):
    """A pod of the workload, and what it did by its own log."""

    name: str
    uid: str
    part: str
    """What it was deployed as: ``router``, ``prefill`` or ``decode``."""
    role: str
    """Its label ``llm-d.ai/role``, as it was read back."""
    node: str
    zone: str = ""
    phases: dict[str, int] = {}
    """How many requests its log names, by phase; only of those that the trial sent."""
    lines_without_id: int = 0
    """Lines about a phase of a request that name no request."""


class PhaseSeen(Record):
    """One line of a log about one request."""

    pod: str
    phase: str
    at: float
    """When it ended, by the clock of that node."""
    seconds: float = 0
    bytes: int = 0
    tokens: int = 0
    source: str = ""
    prefill_seconds: float = 0
    transfer_seconds: float = 0
    filled_seconds: float = 0
    code: str = ""


class RequestSeen(Record):
    """One request: what the client got, what was right, and what the logs say of it."""

    id: str
    tokens: int
    status: int
    """HTTP status; 0 if there was no answer."""
    text: str
    expected: str
    """The right answer, worked out by the suite from prompt and secret."""
    pod: str = ""
    """The decode pod, as the answer names it."""
    source: str = ""
    """Where its state came from, by the answer."""
    code: str = ""
    error: str = ""
    at: float = 0
    """When it was sent, by the client's clock."""
    seconds: float = 0
    headers_seconds: float = 0
    parts: list[float] = []
    """When each part of a streamed answer came."""
    phases: list[PhaseSeen] = []

    @property
    def right(self) -> bool:
        """Whether the answer is the right one."""
        return self.status == 200 and self.text == self.expected

    def of(self, phase: str) -> list[PhaseSeen]:
        """Return what the logs say of one phase."""
        return [one for one in self.phases if one.phase == phase]


class Counters(Record):
    """Counters of one pod around a batch; ``None`` where one was not there."""

    pod: str
    part: str
    reset: bool
    """The process was another one at the end: differences mean nothing."""
    sent: float | None = None
    received: float | None = None
    failed: float | None = None
    computed_tokens: float | None = None
    transferred_tokens: float | None = None
    cached_tokens: float | None = None


class Interface(Record):
    """Bytes that one network interface of a pod carried during a batch, as the kernel counts."""

    pod: str
    part: str
    device: str
    received: int
    sent: int


class Batch(Record):
    """Requests that were sent together, with the counters around them."""

    requests: list[RequestSeen]
    counters: list[Counters] = []
    interfaces: list[Interface] = []
    seconds: float = 0


class Scaling(Record):
    """Decode scaled up and down under a steady stream of requests."""

    batch: Batch
    pods_before: list[str]
    pod_added: str
    """The pod that was there after scaling up; empty if none came in time."""
    added_served: int = 0
    """How many answers name it."""
    pod_removed: str = ""
    added_seconds: float | None = None
    served_seconds: float | None = None
    removed_seconds: float | None = None


class Loss(Record):
    """A prefill pod was deleted while a decode pulled from it."""

    request: RequestSeen
    pod: str
    began: bool
    """The decode had begun to pull when the pod was deleted."""
    deleted_seconds: float = 0
    """After the request was sent."""


class Policy(Record):
    """A NetworkPolicy that lets nobody reach prefill."""

    enforced: bool
    """Control: a plain request to prefill, answered before, was no longer answered."""
    seconds: float
    window: Pulsed | None = None
    """The time that it had for it; not recorded by version 0.1."""
    request: RequestSeen | None = None
    """Only where it is enforced."""
    held: bool | None = None
    """Whether prefill was still shut off after that request; not recorded by version 0.1."""


class DisaggregationObservation(Observation):
    """What the trial saw; a part that was not asked for is ``None``."""

    shape: Shape
    route: str
    """How requests came to the router, e.g. ``Gateway of class envoy``, ``Service (no Gateway
    API)``."""
    workload: str = "Deployments"
    """What makes the pods of prefill and decode; runs before there was a choice tell nothing."""
    network: str
    """Which network the state was meant to take; empty for the pod network."""
    interface: str
    """The interface of that network; empty: all but the loopback."""
    nodes_usable: int | None
    pods: list[PodSeen] = []
    main: Batch | Fault | None = None
    straight: Batch | Fault | None = None
    """Control: sent to decode past the router, without a prefill address."""
    without_prefill: Batch | Fault | None = None
    """Control: sent while there was no prefill pod."""
    policy: Policy | Fault | None = None
    concurrent: Batch | Fault | None = None
    streamed: Batch | Fault | None = None
    corrupted: Batch | Fault | None = None
    scaling: Scaling | Fault | None = None
    loss: Loss | Fault | None = None
