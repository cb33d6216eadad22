"""What the networking trial stores."""

from __future__ import annotations

from kar_checks.kit.networks.records import Look, Measured
from kar_checks.model import Fault, Observation, Record


class Host(Record):
    """A node's interfaces, seen by a pod on the host's network."""

    node: str
    look: Look


class NetworkingObservation(Observation):
    """Everything that the networking trial saw."""

    looked_at: list[str]
    declared_none: bool = False
    more: list[str] = []
    """Networks that were found and not measured."""
    left_out: list[str] = []
    """What is published and cannot be read, with the reason."""
    nodes: int
    """How many nodes pods of ours may run on."""
    networks: dict[str, Measured | Fault] = {}
    hosts: list[Host] | Fault = []
    """Only where no network was found."""
