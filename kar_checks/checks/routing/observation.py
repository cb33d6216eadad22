"""What the routing trial stores. Times are seconds."""

from __future__ import annotations

from kar_checks.kit.http_testbed.records import (
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Surroundings,
)
from kar_checks.kit.http_testbed.steady import Steady
from kar_checks.model import Fault, Observation, Record


class Status(Record):
    """What is said about the pools, and what the one without a picker answers."""

    good: list[Parent]
    route: list[Parent]
    """Of the route to the good pool: shows why, where the class does not know pools."""
    bad: list[Parent] | None
    """``None`` where no pool refers to a picker."""
    bad_traffic: Sample | None = None
    bad_control: Sample | None = None
    """Requests to a Service before the same servers, at the same time."""


class Phase(Record):
    """One setting of what the servers report."""

    name: str
    loaded: str
    """The server that reports something else than the others; empty if none does."""
    sample: Sample
    decisions: int | None
    """By how much the picker's own count of picks rose meanwhile; ``None`` if it has none."""
    read: dict[str, int]
    """How often each server's report was read from the change on."""
    read_after: dict[str, float | None]
    """How long after the change it was read first."""


class Load(Record):
    """The phases in the order in which they were."""

    seed: str
    first: str
    second: str
    """The servers that were loaded."""
    read_before: int
    """How often reports had been read until the first phase, of all servers together."""
    phases: list[Phase]
    held: list[Phase]
    """Phases with a server that is slow, at a fixed rate; only where nothing read any report."""


class Prefixes(Record):
    """Several long prefixes, each sent once and then again; ``revision`` of a tally names it."""

    declared: bool
    """The picker's configuration, which is ours or was given to us, names a scorer of prefixes."""
    first: Sample
    repeats: Sample


class Adapters(Record):
    """Phases in which one server, and then another, reports that it has a LoRA adapter."""

    declared: bool
    """The picker's configuration, which is ours or was given to us, names a scorer of adapters."""
    phases: list[Phase]
    """Every request asks for that adapter; ``loaded`` is the server that reports it."""


class Unready(Record):
    """A server before and while it is not ready."""

    server: str
    before: Sample
    meanwhile: Sample


class Failure(Record):
    """The pools before and after their picker went."""

    picker: str
    gone: bool
    """The picker's pod was seen to be gone before the second samples were taken."""
    close_before: Sample
    open_before: Sample
    close_after: Sample | None = None
    open_after: Sample | None = None
    control_after: Sample | None = None
    """Requests to a Service before the same servers, at the same time as the two."""


class ClassObservation(Record):
    """One GatewayClass. A part that was not asked for, or could not be, is ``None``."""

    controller: str
    accepted: bool
    gateway: GatewaySeen | None = None
    settled: Settled | None = None
    """Until the pool's servers answered steadily."""
    others: dict[str, Settled] = {}
    """The same over the other routes: of the Service (``plain``) and of the ``open`` pool."""
    status: Status | Fault | None = None
    load: Load | Fault | None = None
    prefixes: Prefixes | Fault | None = None
    adapters: Adapters | Fault | None = None
    unready: Unready | Fault | None = None
    steady: Steady | Fault | None = None
    failure: Failure | Fault | None = None


class RoutingObservation(Observation):
    """What the trial saw of every GatewayClass."""

    served: bool
    """The server's discovery names Gateways and InferencePools in version v1."""
    picker: str
    """The picker's image, or ``built-in``."""
    wanted: str
    classes: dict[str, ClassObservation | Fault]
    around: Surroundings | None = None
