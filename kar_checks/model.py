"""The records of a run: what was observed, how it was judged, and where it happened.

Data passes through these records once: a trial stores an :class:`Observation`, a judge turns it
into a :class:`Finding`, a renderer reads both from the run folder. Nothing here talks to a
cluster. ``SCHEMA`` counts incompatible changes of the stored form; ``kar_checks/schema.json`` is
exported from these classes and a unit test keeps the two equal.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

SCHEMA: Literal[1] = 1


class Record(BaseModel):
    """Base of everything that is stored: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(StrEnum):
    """What a check came to. Only a positive observation makes ``pass``."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"
    SKIPPED = "skipped"
    ERROR = "error"
    NOT_RUN = "not_run"


class RequirementOutcome(StrEnum):
    """What a requirement came to; ``unknown`` means that only a person can attest it."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"
    SKIPPED = "skipped"
    ERROR = "error"
    NOT_RUN = "not_run"
    UNKNOWN = "unknown"


class Evidence(StrEnum):
    """How close an observation is to the user's real use of the capability.

    ``real``: the capability ran with the user's own kind of workload. ``synthetic``: a workload of
    ours on the real platform. ``simulated``: the thing under test itself was faked.
    """

    REAL = "real"
    SYNTHETIC = "synthetic"
    SIMULATED = "simulated"


class Reason(StrEnum):
    """Why the harness could not measure. These make ``error``: never ``fail``, never ``pass``."""

    FORBIDDEN = "forbidden"
    REFUSED_BY_POLICY = "refused_by_policy"
    QUOTA_EXCEEDED = "quota_exceeded"
    IMAGE_UNAVAILABLE = "image_unavailable"
    IMAGE_LACKS_TOOL = "image_lacks_tool"
    UNREACHABLE = "unreachable"
    UNSCHEDULABLE = "unschedulable"
    NO_ROOM = "no_room"
    """Others hold what our pods need: the one reason that makes ``inconclusive``, no ``error``."""
    POD_FAILED = "pod_failed"
    TIMEOUT = "timeout"
    API_ERROR = "api_error"
    MEASUREMENT_FAILED = "measurement_failed"
    UNUSABLE_SETTING = "unusable_setting"
    INTERRUPTED = "interrupted"
    RECORD_DAMAGED = "record_damaged"
    INTERNAL = "internal"


class Fault(Record):
    """A trouble of the harness or of its permissions, in words that a stranger can act on."""

    reason: Reason
    message: str
    """One sentence: what happened, with the server's own words where there are any."""
    help: str = ""
    """The option or the action that helps."""


class ObjectRef(Record):
    """One Kubernetes object as it was seen: enough to tell it from a later one of the same name."""

    api_version: str
    kind: str
    namespace: str = ""
    name: str
    uid: str
    resource_version: str = ""


class Mutation(Record):
    """A field of an object of ours that the cluster changed, or something that it added."""

    object: str
    """``Kind/name``."""
    field: str
    """Path of the field, ``spec.containers[istio-proxy]`` for an injected container."""
    sent: Any = None
    stored: Any = None


class Command(Record):
    """A command that really ran in a container, with what it printed (cut at 4 KiB)."""

    at: datetime
    pod: str
    container: str = ""
    argv: list[str]
    exit_code: int | None
    stdout: str = ""
    stderr: str = ""


class Mark(Record):
    """A moment in a figure, in seconds after the figure's start."""

    at: float
    label: str


class Span(Record):
    """A state in a lane of a timeline; ``end`` is ``None`` if it outlasted the measurement."""

    start: float
    end: float | None
    state: str
    """``pending``, ``bound``, ``running``, ``completed``, ``failed``, ``gone`` or ``expected``; of
    a step of a request ``waits``, ``passes on``, ``computes``, ``moves`` or ``answers``.
    """


class Lane(Record):
    """One row of a timeline, usually a pod."""

    name: str
    group: str = ""
    spans: list[Span]


class Series(Record):
    """A line of a trace: (seconds after the start, value); stepped if values hold until changed."""

    name: str
    points: list[tuple[float, float]]
    stepped: bool = False


class Stop(Record):
    """A place on a message's way, usually a pod."""

    name: str
    detail: str = ""
    """Where it is: the node, the address."""


class Hop(Record):
    """A message from one stop to another; stops are numbered from 0."""

    source: int
    target: int
    label: str
    heavy: bool = False
    """It carries what the figure is about."""


class Band(Record):
    """A range of values over the whole of a trace, such as a median's interval."""

    low: float
    high: float
    label: str


class Share(Record):
    """A measured share with its interval, all from 0 to 1; drawn in its group's column."""

    group: str
    """The phase, in the order of the first of each."""
    name: str
    """Whose share it is."""
    value: float
    low: float
    high: float
    expected: float | None = None
    """What it should have been, where that is known."""


class Figure(Record):
    """What the page draws beside a check: a timeline, a trace, a way, a heat map, or shares.

    Trials fill it from what they saw, so that a page can be rendered without their code.
    """

    kind: Literal["timeline", "trace", "way", "heat", "shares"]
    title: str
    checks: list[str]
    """Ids of the checks that it illustrates."""
    variant: str = ""
    unit: str = ""
    """Unit of the values of a trace or a heat map, e.g. ``millicores`` or ``MiB``."""
    seconds: float
    """How much time it covers; shares cover none."""
    lanes: list[Lane] = []
    series: list[Series] = []
    stops: list[Stop] = []
    """The places of a way, from left to right."""
    hops: list[Hop] = []
    """What went between them, in order."""
    bands: list[Band] = []
    names: list[str] = []
    """Rows and columns of a heat map."""
    values: list[list[float | None]] = []
    """``[row][column]`` of a heat map; ``None`` where nothing was measured."""
    shares: list[Share] = []
    marks: list[Mark] = []


class Measure(Record):
    """A quantity that a trial measured several times, so that runs can be compared by it.

    The samples are repeats that are as independent as one run can make them: the medians of
    repeated measurements, not the requests inside one of them.
    """

    name: str
    """Stays the same from run to run: ``TCP, 1 stream forward``."""
    variant: str = ""
    unit: str
    better: Literal["higher", "lower"]
    samples: list[float]
    how: str
    """How a sample was taken."""


class OtherRun(Record):
    """Another run of this suite that was seen at work on the same cluster."""

    id: str
    first: datetime | None = None
    """When it was seen first; ``None`` in a run of version 0.1, which looked at its start and end
    only."""
    last: datetime | None = None


class Observation(Record):
    """What one trial stored. Facts only; topics derive their own class with typed cases.

    ``mutations`` and ``disturbances`` are facts, too: the judges decide what they are worth.
    """

    trial: str
    evidence: Evidence
    started: datetime
    finished: datetime
    objects: list[ObjectRef] = []
    mutations: list[Mutation] = []
    disturbances: list[str] = []
    """What else happened in the cluster meanwhile (a node added, a foreign pod placed, …)."""
    beside: list[OtherRun] = []
    """Other runs of this suite that were at work on the cluster while this was measured."""
    commands: list[Command] = []
    figures: list[Figure] = []
    measures: list[Measure] = []


class Fact(Record):
    """One observed value that a finding rests on."""

    name: str
    value: str
    expected: str = ""
    source: str = ""
    """Where it was read: ``cpu.max in the container``, ``status.containerStatuses[].resources``."""


class Finding(Record):
    """The verdict of one check, on one variant of the thing under test."""

    check: str
    variant: str = ""
    """The gang backend, gateway class or network that this is about; empty if there is just one."""
    outcome: Outcome
    reason: str
    """A stable slug such as ``bound_without_room``; for ``error`` one of :class:`Reason`."""
    summary: str
    """One sentence for people, with the numbers."""
    facts: list[Fact] = []
    would_change: str = ""
    """What would have changed the verdict."""
    help: str = ""
    broken: str = ""
    """For a failure: what is broken, in the words of whoever runs the platform."""
    causes: list[str] = []
    """For a failure: its likely causes, the most likely first."""
    evidence: Evidence | None = None
    trial: str = ""
    """The trial whose observation this rests on; empty if nothing was measured."""


class CheckInfo(Record):
    """What a check was at the time of the run; makes a run complete without this code."""

    id: str
    title: str
    topic: str
    requirement: str = ""
    """Requirement id; empty for a prerequisite or a topic beyond the programme."""
    proves: str
    fails_when: str
    disruption: Literal["none", "capacity", "network"]
    budget_seconds: int


class TopicInfo(Record):
    """A topic as it was at the time of the run."""

    id: str
    title: str
    label: str
    """Says where it belongs: a KAR number, or ``prerequisite: …``."""
    requirement: str = ""
    any_of: bool = False
    """The variants are alternatives: any one that works is enough (gang backends)."""
    counts_as_implemented: Evidence = Evidence.SYNTHETIC
    """The weakest evidence that counts for the requirement; ``simulated`` never does."""
    evidence: Evidence = Evidence.SYNTHETIC
    """The level of evidence that it is for. Of a requirement's topics those of the best level
    that ran decide."""
    asked_by: str = ""
    """The setting that a topic is asked for by; empty if it is selected by itself."""
    ask: str = ""
    """How to ask for it, in words."""
    official_link: str = ""


class PlannedCheck(Record):
    """One line of the plan: will it run here, and if not, why not."""

    check: str
    runs: bool
    outcome: Outcome | None = None
    """The outcome that the check gets when it does not run."""
    reason: str = ""
    message: str = ""
    help: str = ""


class NodeInfo(Record):
    """A node as the API server describes it."""

    name: str
    uid: str
    ready: bool
    unschedulable: bool = False
    taints: list[str] = []
    os: str = ""
    architecture: str = ""
    kernel: str = ""
    kubelet: str = ""
    runtime: str = ""
    instance_type: str = ""
    zone: str = ""
    cpu: str = ""
    memory: str = ""


class Environment(Record):
    """Where the run took place. Addresses and credentials never come in here."""

    cluster: str
    """The name that the page shows: ``--cluster-name``, else the context's cluster name."""
    context: str = ""
    cluster_uid: str = ""
    """UID of the namespace ``kube-system``: tells two clusters of the same name apart."""
    server_version: str = ""
    user: str = ""
    nodes: list[NodeInfo] = []
    apis: list[str] = []
    """Group/version of every API that is served: tells which add-ons there are."""
    images: dict[str, str] = {}
    options: dict[str, Any] = {}
    """The target options that reached every object."""
    local_cluster: bool = False


class TopicCost(Record):
    """What measuring a topic took."""

    topic: str
    seconds: float
    requests: int


class Leak(Record):
    """An object of ours that could not be removed, and what to do about it."""

    object: ObjectRef
    why: str


class Cleanup(Record):
    """The verdict on our own tidiness; it never changes a finding."""

    verdict: Literal["clean", "leaked", "kept", "unknown"]
    removed: int = 0
    leaks: list[Leak] = []
    message: str = ""


class RunInfo(Record):
    """The head of a run folder (``run.json``)."""

    schema_version: Literal[1] = SCHEMA
    id: str
    suite_version: str
    started: datetime
    finished: datetime | None = None
    """``None`` as long as it runs, and for ever if it was killed."""
    interrupted: str = ""
    """The signal or the trouble that ended it early."""
    beside: list[OtherRun] = []
    """Other runs of this suite that were seen at work on the same cluster meanwhile."""
    kubernetes_minor: str
    """The checklist that applies, e.g. ``1.37``."""
    profile: dict[str, Any]
    """The settings that it was measured with."""
    judged_with: dict[str, Any] | None = None
    """The settings of `kar judge` in a copy that it made; the run's own verdicts rest on
    ``profile``."""
    selection: list[str]
    """Ids of the selected checks."""
    objective: list[str] = []
    """Outcomes that count against the objective (``--fail-on``)."""
    environment: Environment
    topics: list[TopicInfo]
    checks: list[CheckInfo]
    plan: list[PlannedCheck]
    costs: list[TopicCost] = []
    cleanup: Cleanup = Field(default_factory=lambda: Cleanup(verdict="unknown"))
    exit_code: int | None = None

    @field_validator("beside", mode="before")
    @classmethod
    def _ids_alone(cls, given: Any) -> Any:
        """Read what version 0.1 stored: ids without times."""
        if not isinstance(given, list):
            return given
        entries = given
        return [{"id": one} if isinstance(one, str) else one for one in entries]


class RequirementResult(Record):
    """A requirement's row: derived from findings, stored with them for other readers."""

    id: str
    kar: int | None = None
    level: Literal["MUST", "SHOULD"]
    outcome: RequirementOutcome
    reason: str
    evidence: Evidence | None = None
    counts: bool = False
    """Whether the evidence is strong enough to count as Implemented."""
