"""What the gateway trial stores. Times are seconds."""

from __future__ import annotations

from itertools import pairwise

from kar_checks.checks.ingress.records import Condition, GatewaySeen, Parent, Sample, Settled
from kar_checks.model import Fault, Observation, Record


class CrdSeen(Record):
    """A CustomResourceDefinition of the Gateway API."""

    name: str
    present: bool
    established: bool = False
    served: list[str] = []
    bundle_version: str = ""
    channel: str = ""


class Api(Record):
    """The Gateway API as it is installed."""

    crds: list[CrdSeen]
    mesh: list[str]
    """API groups of service meshes that are served: recorded, and judged by nothing."""


class Reach(Record):
    """What answers at the Gateway's address."""

    settled: Settled
    gateway: GatewaySeen
    """As it was when routes were attached."""


class Routes(Record):
    """The status of a good route and of one whose backend is missing."""

    good: list[Parent]
    bad: list[Parent]


class Phase(Record):
    """One setting of the weights."""

    weights: dict[str, int]
    settled: Settled
    sample: Sample | None = None


class Weights(Record):
    """The split as it was set first, and as it was set then."""

    phases: list[Phase]


class HeaderRule(Record):
    """Requests that the rule is for, and such that it is not for."""

    settled: Settled
    special: str
    """The backend of the rule."""
    default: str
    matching: Sample | None = None
    without: Sample | None = None
    other_value: Sample | None = None


class Unmatched(Record):
    """Requests that no route is for; a served path on the same Gateway is the control."""

    settled: Settled
    path: Sample | None = None
    host: Sample | None = None


class Stream(Record):
    """Server-sent events: (produced, arrived) of each, by the clocks of server and client."""

    status: int
    events: list[tuple[float, float]]
    error: str = ""

    def produced(self) -> float:
        """Return how long the server took from the first event to the last."""
        return self.events[-1][0] - self.events[0][0]

    def arrived(self) -> float:
        """Return how long the same took at the client; nothing for one that came at once."""
        return self.events[-1][1] - self.events[0][1]

    def pause(self) -> float:
        """Return the longest time at the client without a new event."""
        return max((late[1] - early[1] for early, late in pairwise(self.events)), default=0.0)


class Sent(Record):
    """One informational request."""

    what: str
    status: int
    pod: str = ""
    seconds: float
    got: int | None = None
    """Bytes of the body as the server counted them."""
    sent: int = 0
    error: str = ""


class Slow(Record):
    """A large body and a long answer over a route whose timeout allows them; informational."""

    sent: list[Sent] = []
    why_not: str = ""
    """Why they were not sent."""


class Streaming(Record):
    """Events without and with the gateway."""

    settled: Settled
    expected: int
    direct: Stream | None = None
    through: Stream | None = None


class Feature(Record):
    """An extended feature that the class claims, put to the test.

    ``works`` is ``None`` where it could not be tried; ``seen`` says why, or what was seen.
    """

    name: str
    works: bool | None
    seen: str


class Features(Record):
    """What the class claims of what is tried here."""

    claimed: list[str]
    tried: list[Feature]


class ClassObservation(Record):
    """One GatewayClass. A part that was not asked for, or that had no Gateway, is ``None``."""

    controller: str
    accepted: Condition | None
    features: list[str]
    gateway: GatewaySeen | None = None
    reach: Reach | Fault | None = None
    routes: Routes | Fault | None = None
    weights: Weights | Fault | None = None
    headers: HeaderRule | Fault | None = None
    unmatched: Unmatched | Fault | None = None
    streaming: Streaming | Fault | None = None
    slow: Slow | Fault | None = None
    claims: Features | Fault | None = None


class GatewayObservation(Observation):
    """What the trial saw of the API and of every GatewayClass."""

    served: bool
    """The server's discovery names Gateways in version v1."""
    api: Api | None
    wanted: str
    """The classes that the user named; empty if all were taken."""
    classes: dict[str, ClassObservation | Fault]
