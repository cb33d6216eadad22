"""Network devices that a device plugin offers as an extended resource, not attached otherwise."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable

from kar_checks.cluster.client import Object
from kar_checks.kit.networks.attach import Interface, Joined, Mechanism
from kar_checks.kit.networks.multus import ask_for
from kar_checks.kit.trial import Trial

_ALWAYS = re.compile(
    r"^rdma/|^networking\.gke\.io\.networks/|^macvtap\.network\.kubevirt\.io/", re.I
)
_BY_NAME = re.compile(
    r"/.*(rdma|sriov|roce|infiniband|net_?dev|vfio-?net|hostdev|mlx|mlnx|hca|gvnic|dpdk)"
    r"|/(.*[-_.])?(efa|nics?|ib)([-_.\d].*)?$",
    re.I,
)
"""Extended resources that are network devices, by the names that their plugins give by default.

Others are networks, too, if the user names them.
"""
_OTHERS = re.compile(r"gpu|qat|fpga|nvme|mig-", re.I)
_RDMA = re.compile(r"^rdma/|rdma|roce|infiniband|efa|hca", re.I)


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


def promises_rdma(resource: str) -> bool:
    """Say whether a resource's name is that of an RDMA device."""
    return bool(_RDMA.search(resource))


def is_network(resource: str) -> bool:
    """Say whether an extended resource is a network device, by its name."""
    if _ALWAYS.search(resource):
        return True
    return bool(_BY_NAME.search(resource)) and not _OTHERS.search(resource)


def extended_resources(nodes: Iterable[Object]) -> list[str]:
    """Return the extended resources of which nodes offer any."""
    found = {
        str(name)
        for node in nodes
        for name, amount in ((node.get("status") or {}).get("allocatable") or {}).items()
        if "/" in str(name) and str(amount) != "0"
    }
    return sorted(found)


def network_resources(nodes: Iterable[Object]) -> list[str]:
    """Return the extended resources of nodes that are network devices."""
    return [one for one in extended_resources(nodes) if is_network(one)]
