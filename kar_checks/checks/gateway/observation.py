"""What the gateway trial stores. Times are seconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import pairwise

from kar_checks.kit.http_testbed.records import (
    Condition,
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Surroundings,
)
from kar_checks.kit.http_testbed.steady import Steady
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
    looked_seconds: float | None = None
    """How long it was waited, once traffic flowed, that the listeners count a route."""


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


class Cased(Record):
    """Requests whose header is that of a rule but for the case of its letters."""

    rule: str
    sent: str
    """Both as ``name: value``."""
    to: str
    """The backend that must answer: names have no case, values have."""
    sample: Sample


class HeaderRule(Record):
    """Requests that the rule is for, and such that it is not for."""

    settled: Settled
    special: str
    """The backend of the rule."""
    default: str
    matching: Sample | None = None
    without: Sample | None = None
    other_value: Sample | None = None
    other_cases: list[Cased] | None = None
    """Names and values in another case than the rule has them."""


class Unmatched(Record):
    """Requests that no route is for; a served path on the same Gateway is the control."""

    settled: Settled
    path: Sample | None = None
    host: Sample | None = None
    served: Sample | None = None
    """Requests to the served path at the same time: the control."""


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

    def lateness(self) -> float:
        """Return how late events came, in the median, from the sending of the request."""
        return statistics.median(arrived - produced for produced, arrived in self.events)

    def groups(self) -> list[int]:
        """Return the sizes of the groups of events that came together but were produced apart."""
        found = [1]
        for early, late in pairwise(self.events):
            together = late[1] - early[1] < (late[0] - early[0]) / 4
            found = [*found[:-1], found[-1] + 1] if together else [*found, 1]
        return [one for one in found if one > 1]


class Sent(Record):
    """One request that is large or slow."""

    what: str
    status: int
    pod: str = ""
    seconds: float
    got: int | None = None
    """Bytes of the body as the server counted them."""
    sent: int = 0
    error: str = ""
    whole: bool | None = None
    """The server got the bytes that were sent, by their digest; ``None`` if unknown."""
    answer: int = 0
    """Bytes that the answer was asked to hold; 0 for a short one."""
    answered_whole: bool | None = None
    """They came as the server sends them."""


class Bodies(Record):
    """Large bodies on their way to a backend and back."""

    settled: Settled
    sent: list[Sent] = []
    """Of stated sizes, which must arrive."""
    larger: list[Sent] = []
    """Larger ones, which may be refused."""


class Repeat(Record):
    """A request that backends got more than once."""

    what: str
    """The measurement that it belongs to."""
    id: str
    arrived: dict[str, int]
    """How often, by backend."""


class Audited(Record):
    """All requests of one measurement, as the backends counted them at the end of the trial."""

    what: str
    sent: int
    answered: int
    """With status 200 and the name of a backend."""
    arrived: int
    """Different requests that backends got."""
    repeated: int
    """Those of them that came more than once."""


class Delivery(Record):
    """How often each POST arrived; repeats may come late, so they are counted at the end."""

    settled: Settled
    sample: Sample | None = None
    audited: list[Audited] = []
    repeats: list[Repeat] = []
    """The first of the repeated ones."""


class Slow(Record):
    """A large body and a long answer over a route whose timeout allows them; informational."""

    sent: list[Sent] = []
    why_not: str = ""
    """Why they were not sent."""


def posts(weights: object, headers: object, delivery: object) -> Iterator[tuple[str, Sample]]:
    """Yield the samples of POSTs of which each had to arrive once, with what they were for.

    The arguments are those parts of a class's observation; another part yields nothing.
    """
    if isinstance(delivery, Delivery) and delivery.sample:
        yield "POSTs for this", delivery.sample
    for number, phase in enumerate(weights.phases if isinstance(weights, Weights) else [], 1):
        if phase.sample:
            yield f"weights, phase {number}", phase.sample
    if isinstance(headers, HeaderRule):
        named = {
            "with the header": headers.matching,
            "without it": headers.without,
            "with another value": headers.other_value,
            **{f"with {one.sent}": one.sample for one in headers.other_cases or []},
        }
        for what, sample in named.items():
            if sample:
                yield f"header rule, {what}", sample


class Streaming(Record):
    """Events without and with the gateway."""

    settled: Settled
    expected: int
    direct: Stream | None = None
    through: Stream | None = None
    others: list[Stream] | None = None
    """More of them through the gateway at the same time."""
    plain: Sample | None = None
    """Requests without a stream over the same route at the same time: the control."""


class Feature(Record):
    """An extended feature that the class claims, put to the test.

    ``works`` is ``None`` where it could not be tried; ``seen`` is why, or what was seen.
    """

    name: str
    works: bool | None
    seen: str
    disturbed: bool = False
    """It was tried, and what came back shows nothing about the feature."""


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
    steady: Steady | Fault | None = None
    bodies: Bodies | Fault | None = None
    delivery: Delivery | Fault | None = None
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
    around: Surroundings | None = None
