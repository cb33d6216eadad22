"""What the trial stores of the user's stack: pods, counters before and after, answers, logs."""

from __future__ import annotations

from typing import Literal

from kar_checks.checks.stack.engines import Role, Sample
from kar_checks.model import Observation, Record


class Counters(Record):
    """What one pod told at one moment. ``endpoint`` is empty if it told no metrics."""

    at: float = 0.0
    """Seconds after the client's start."""
    endpoint: str = ""
    families: list[str] = []
    """Beginnings of the names of everything that it exports."""
    samples: list[Sample] = []
    """The samples that some engine's data names."""


class Traffic(Record):
    """Bytes that the interfaces of a pod carried, since they exist."""

    received: int
    sent: int
    devices: list[str]
    at: float | None = None
    """When they were read, in seconds since the node's start."""
    peers: dict[str, tuple[int, int]] | None = None
    """(received, sent) bytes of its open TCP connections with other pods of the stack, by name;
    ``None`` where connections cannot be read."""


class Asked(Record):
    """One request of a step."""

    status: int
    words: int
    prompt_tokens: int | None = None
    short: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the prompt; of a server that does not count them, at least its words."""
        return self.prompt_tokens or self.words


class Step(Record):
    """What was done between two readings of all interfaces."""

    did: Literal["nothing", "asked", "other"]
    """``other`` has traffic of ours that is no request: scrapes."""
    requests: list[Asked] = []


class LogCount(Record):
    """How the log of a pod mentions our requests."""

    lines: int
    """Lines in the time of the requests."""
    ids: list[int]
    """Numbers of the requests whose id is in it."""
    why_not: str = ""
    """Why the log could not be read."""


class StackPod(Record):
    """One pod of the stack, as it was before, and what it did."""

    name: str
    uid: str
    role: Role
    role_by: str
    """The label or the selector that says so."""
    worker: bool = False
    """Whether it is a worker of a group, for which the leader serves and counts."""
    node: str
    images: list[str]
    commands: list[str] = []
    """The words of its containers' commands that name a program."""
    host_network: bool = False
    flags: list[str] = []
    """Options of its containers that only a simulator has."""
    devices: list[str] = []
    """Extended resources and claims through which bytes may move past the pod's interfaces."""
    restarts: int
    restarts_after: int | None = None
    """``None`` if the pod was gone afterwards."""
    ready_after: bool = False
    first: Counters = Counters()
    """Before anything was sent."""
    quiet: Counters = Counters()
    """A while later, still before anything was sent."""
    before: Counters = Counters()
    """After the warm-up."""
    after: Counters = Counters()
    """When the answers were there and no counter changed any more."""
    traffic_before: Traffic | None = None
    traffic_after: Traffic | None = None
    traffic_why_not: str = ""
    readings: list[Traffic] = []
    """One for each of the batch's steps: what was carried until its end."""
    log: LogCount | None = None
    version: str = ""
    """What it answers at its engine's version path; ``404`` and the like if it does not."""


class Answer(Record):
    """One counted request."""

    number: int
    id: str
    at: float = 0.0
    """When it was sent, in seconds after the client's start."""
    status: int
    """HTTP status; 0 if there was no answer."""
    seconds: float
    text: str = ""
    """The beginning of what was generated."""
    prompt_tokens: int | None = None
    """As the server counts them."""
    generated_tokens: int | None = None
    """As the server counts them: a model that only thinks may generate no text."""
    problem: str = ""

    @property
    def answered(self) -> bool:
        """Whether something was generated."""
        return self.status == 200 and bool(self.text or self.generated_tokens)


class Batch(Record):
    """What the client in the cluster did."""

    path: str
    model: str
    warm_up: int
    warm_up_tokens: int = 0
    quiet_seconds: float
    """How long the stack was watched without a request of ours."""
    answers: list[Answer] = []
    steps: list[Step] = []
    """In order; the first only says where the first reading was. Empty if nobody could read along,
    and in runs of version 0.1."""
    steps_why_not: str = ""
    """Why the interfaces were not read between the requests."""


class StackObservation(Observation):
    """The user's stack under a batch of our requests."""

    namespace: str
    pods: list[StackPod] = []
    new_pods: list[str] = []
    """Pods of a role that were not there before."""
    batch: Batch
    problem: str = ""
    """Why the client did not send the batch."""
