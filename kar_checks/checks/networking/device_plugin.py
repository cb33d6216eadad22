"""Network devices that a device plugin offers as an extended resource, not attached otherwise."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable

from kar_checks.checks.networking.attach import Interface, Joined, Mechanism
from kar_checks.checks.networking.multus import ask_for
from kar_checks.checks.trial import Trial
from kar_checks.cluster.client import Object

_NETWORK_RESOURCE = re.compile(
    r"^rdma/|/.*(rdma|sriov|roce|infiniband|netdevice|vfio-?net)|^vpc\.amazonaws\.com/efa$", re.I
)
"""Extended resources that are network devices, by the names that their plugins give by default."""


class DevicePluginNetwork:
    """One extended resource. What it puts into the pod is a device, not an interface it names."""

    mechanism: Mechanism = "device_plugin"
    has_interface = False

    def __init__(self, resource: str) -> None:
        self.name = resource
        self.resource = resource

    def prepare(self, trial: Trial) -> None:
        """Nothing is needed."""

    def join(self, pod: Object, number: int) -> Joined:
        """Ask for one of the resource."""
        out = copy.deepcopy(pod)
        ask_for(out, self.resource)
        return Joined(out)

    def interface(self, trial: Trial, pod: Object) -> Interface | None:
        """A device plugin tells of no interface."""
        return None


def network_resources(nodes: Iterable[Object]) -> list[str]:
    """Return the extended resources of nodes that are network devices."""
    found = {
        name
        for node in nodes
        for name, amount in ((node.get("status") or {}).get("allocatable") or {}).items()
        if _NETWORK_RESOURCE.search(name) and str(amount) != "0"
    }
    return sorted(found)


def nodes_with(resource: str, nodes: Iterable[Object]) -> set[str]:
    """Return the names of the nodes that offer some of an extended resource."""
    return {
        str(node["metadata"]["name"])
        for node in nodes
        if str(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0")) != "0"
    }
