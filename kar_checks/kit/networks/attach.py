"""Getting pods onto a network, whatever gives it to them: the same few questions to each.

A network changes the manifest of a pod, may want objects of its own beside it, and tells
afterwards which interface and which addresses the pod got, in the platform's own words.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.trial import Trial
from kar_checks.model import Record

Mechanism = Literal["pod", "dra", "multus", "device_plugin", "gke"]

BENCHMARKING = ipaddress.IPv4Network("198.18.0.0/15")
"""Reserved for measurements of networks (RFC 2544): nobody routes it."""
_PREFIX = 22


class Interface(Record):
    """An interface of a pod as the platform tells of it."""

    name: str
    """Empty if only the pod itself can tell."""
    addresses: list[str]
    """Without prefix lengths."""
    mac: str = ""
    source: str
    """Where it was read."""


@dataclass(frozen=True)
class Joined:
    """A pod's manifest that gets it onto the network, and what has to be created before it."""

    pod: Object
    objects: list[tuple[Kind, Object]] = field(default_factory=list[tuple[Kind, Object]])
    address: str = ""
    """The address that we ask for, with its prefix length; empty if the network gives one."""


class Network(Protocol):
    """A network that pods can be attached to."""

    name: str
    """Tells it from the others of the cluster; the variant of its findings."""
    mechanism: Mechanism
    has_interface: bool
    """Whether pods get an interface; else it is a device, of whose address nothing tells."""

    def prepare(self, trial: Trial) -> None:
        """Create what all pods of the run share; calling it again makes nothing new."""
        ...

    def join(self, pod: Object, number: int) -> Joined:
        """Return a pod's manifest changed for this network.

        ``number`` (from 1) tells the pods of a run on this network apart: where we give the
        addresses, it chooses one.
        """
        ...

    def interface(self, trial: Trial, pod: Object) -> Interface | None:
        """Return what the platform says about a running pod's interface; None if nothing."""
        ...


class PodNetwork:
    """The network that every pod has."""

    name = "pod network"
    mechanism: Mechanism = "pod"
    has_interface = True

    def prepare(self, trial: Trial) -> None:
        """Nothing is needed."""

    def join(self, pod: Object, number: int) -> Joined:
        """Leave the pod as it is."""
        return Joined(pod)

    def interface(self, trial: Trial, pod: Object) -> Interface | None:
        """Read the addresses in the pod's status; it does not name their interface."""
        found = [str(one["ip"]) for one in (pod.get("status") or {}).get("podIPs") or []]
        return Interface(name="", addresses=found, source="status.podIPs") if found else None


@dataclass(frozen=True)
class Addresses:
    """The addresses that we give to pods on a secondary network; none if ``network`` is None."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def of(self, number: int) -> str:
        """Return the address of a pod with its prefix length; empty if we give none.

        Raises:
            ValueError: there are not so many.
        """
        if self.network is None:
            return ""
        if not 0 < number < self.network.num_addresses - 1:
            raise ValueError(f"{self.network} has no address number {number}")
        return f"{self.network[number]}/{self.network.prefixlen}"


def choose_addresses(wanted: str, run_id: str) -> Addresses:
    """Return the addresses of a run: ``wanted`` is a network, ``keep``, or empty to choose.

    Chosen ones depend on the run, so that two runs at a time on one network hardly ever meet.

    Raises:
        ValueError: ``wanted`` is no network.
    """
    if wanted == "keep":
        return Addresses(None)
    if wanted:
        return Addresses(ipaddress.ip_network(wanted))
    digest = hashlib.sha256(run_id.encode()).digest()
    step = 2 ** (32 - _PREFIX)
    places = BENCHMARKING.num_addresses // step
    base = BENCHMARKING[(digest[0] % places) * step]
    return Addresses(ipaddress.IPv4Network(f"{base}/{_PREFIX}"))


def bare(address: str) -> str:
    """Return an address without its prefix length."""
    return address.partition("/")[0]
