"""What the official trial stores."""

from __future__ import annotations

from kar_checks.inference_suite import SuiteTest
from kar_checks.model import Fault, Observation, Record


class SuiteRun(Record):
    """One run of the suite against a class."""

    suite: str
    """Its name and version, as its program told."""
    tests: list[SuiteTest]
    """In the order in which they began; empty if it did not come to them."""
    seconds: float
    exit_code: int | None
    """Of the program; ``None`` if we ended it, for lack of time or at a wish."""
    last_words: str
    """What it said of its not coming to them, or the last line of what it printed."""
    policies: list[str] = []
    """Policies of the network in the suite's namespaces; the suite makes none."""


class ClassObservation(Record):
    """One GatewayClass."""

    controller: str
    accepted: bool
    done: SuiteRun | None = None
    """``None`` where nobody accepts the class."""


class OfficialObservation(Observation):
    """What the suite said of every GatewayClass."""

    served: bool
    """The server's discovery names Gateways and InferencePools in version v1."""
    command: str
    """The user's command that starts the suite's program."""
    timeouts: str
    """The suite's own times that the user changed; empty if none."""
    wanted: str
    classes: dict[str, ClassObservation | Fault]
