"""Networks that a DRA driver gives to pods by resource claims."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kar_checks.cluster import kinds, wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.networks.attach import Addresses, Interface, Joined, Mechanism, bare
from kar_checks.kit.networks.sound import expressions, why_not_class
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Reason

Attributes = dict[str, Any]
Key = tuple[str, str, str]
"""Driver, pool and name of a device."""

DRANET = "dra.net"
NETWORK_DRIVERS = (DRANET, "sriovnetwork.k8snetworkplumbingwg.io", "net.example.com")
"""Drivers that are known to be about networks even where they publish nothing."""
_NETWORK_ATTRIBUTES = {"ifName", "interfaceName", "mac", "macAddress", "rdmaDevice", "linkType"}
_REQUEST = "nic"
_USABLE = (
    f'"ifName" in device.attributes["{DRANET}"] && (!("state" in device.attributes["{DRANET}"])'
    f' || device.attributes["{DRANET}"].state == "up")'
)
"""Which devices of DRANET have an interface: it publishes PCI functions without one, too."""
_RDMA_ONLY = (
    f'!("ifName" in device.attributes["{DRANET}"]) && "rdmaDevice" in device.attributes["{DRANET}"]'
)
"""InfiniBand as DRANET publishes it; it refuses claims that configure interfaces of such ones."""


class DraNetwork:
    """The devices of one DRA driver."""

    mechanism: Mechanism = "dra"

    def __init__(
        self,
        driver: str,
        device_class: str,
        addresses: Addresses,
        devices: Mapping[str, Object] | None = None,
        tolerations: Iterable[Object] = (),
    ) -> None:
        self.name = driver
        self.driver = driver
        self.device_class = device_class
        """Empty for a class of ours, which :meth:`prepare` makes."""
        self._addresses = addresses
        self._devices = [attributes(one) for _, one in sorted((devices or {}).items())]
        """One device of each node that has any to give."""
        self._tolerations = list(tolerations)
        """Of taints that devices have; servers that know no such taints know none of these."""
        self.has_interface = not any(driver == DRANET and _rdma_only(one) for one in self._devices)

    def prepare(self, trial: Trial) -> None:
        """Create a DeviceClass of ours if the cluster has none for the driver."""
        if self.device_class:
            return
        name = f"kar-{trial.workspace.run_id}-{self.driver.replace('.', '-')}"
        if not any(one.name == name for one in trial.workspace.made):
            body = manifest("networks/deviceclass.yaml.j2", name=name, driver=self.driver)
            trial.workspace.create(kinds.DEVICE_CLASS, body)
        self.device_class = name

    def join(self, pod: Object, number: int) -> Joined:
        """Add a claim of the pod's own for one device."""
        out = copy.deepcopy(pod)
        name = claim_name(pod)
        out["spec"]["resourceClaims"] = [{"name": _REQUEST, "resourceClaimName": name}]
        resources = out["spec"]["containers"][0].setdefault("resources", {})
        resources["claims"] = [{"name": _REQUEST}]
        # How a driver is told addresses is its own affair.
        dranet = self.driver == DRANET
        address = self._addresses.of(number) if dranet and self.has_interface else ""
        device = self._devices[number - 1] if 0 < number <= len(self._devices) else {}
        kept = _own_addresses(device) if address else []
        usable = _selector(device if kept else {}) if self.has_interface else _RDMA_ONLY
        claim = manifest(
            "networks/claim.yaml.j2",
            name=name,
            request=_REQUEST,
            device_class=self.device_class,
            driver=self.driver,
            usable=usable if dranet else "",
            tolerations=self._tolerations,
            addresses=[address, *kept] if address else [],
        )
        return Joined(out, [(kinds.RESOURCE_CLAIM, claim)], address)

    def interface(self, trial: Trial, pod: Object) -> Interface | None:
        """Read ``networkData`` of the claim's status, which drivers write about when pods start."""
        try:
            claim = wait.wait_for(
                trial.cluster,
                kinds.RESOURCE_CLAIM,
                claim_name(pod),
                trial.namespace,
                goal=lambda one: network_data(one) is not None,
                seconds=trial.number("networking.status_seconds"),
                what=f"networkData of the claim of {pod['metadata']['name']}",
            )
        except HarnessError as error:
            if error.fault.reason is not Reason.TIMEOUT:
                raise
            return None
        return interface_of(claim)


def _selector(device: Attributes) -> str:
    """Return what a device of DRANET's must be; with ``device``, this one."""
    if not device:
        return _USABLE
    return f'{_USABLE} && device.attributes["{DRANET}"].mac == "{device[f"{DRANET}/mac"]}"'


def _own_addresses(device: Attributes) -> list[str]:
    """Return the addresses that the node's interface has.

    The driver takes the interface's routes along, and they cannot be made without the addresses
    that they come from. Which device that is must then be certain, so it needs its MAC, too.
    """
    if f"{DRANET}/mac" not in device:
        return []
    told = [str(device.get(f"{DRANET}/{family}", "")) for family in ("ipv4", "ipv6")]
    return [one.strip() for text in told for one in text.split(",") if one.strip()]


def claim_name(pod: Object) -> str:
    """Return the name of a pod's own claim."""
    return f"{pod['metadata']['name']}-{_REQUEST}"


def network_data(claim: Object) -> Object | None:
    """Return what the driver wrote about the first device of a claim that has an interface."""
    for device in (claim.get("status") or {}).get("devices") or []:
        found: Object = device.get("networkData") or {}
        if found.get("interfaceName"):
            return found
    return None


def interface_of(claim: Object) -> Interface | None:
    """Return the interface that a claim's status tells of."""
    found = network_data(claim)
    if found is None:
        return None
    return Interface(
        name=str(found["interfaceName"]),
        addresses=[bare(str(one)) for one in found.get("ips") or []],
        mac=str(found.get("hardwareAddress", "")).lower(),
        source="status.devices[].networkData of the claim",
    )


def allocated(claim: Object) -> Key | None:
    """Return the key of a claim's first device."""
    status: Object = claim.get("status") or {}
    results: list[Object] = ((status.get("allocation") or {}).get("devices") or {}).get(
        "results"
    ) or []
    if not results:
        return None
    return key_of(str(results[0].get("driver", "")), results[0])


def key_of(driver: str, result: Object) -> Key:
    """Return the key of a device that a claim got."""
    return driver, str(result.get("pool", "")), str(result.get("device", ""))


# -- what the cluster publishes -------------------------------------------------------------


def complete_slices(slices: Iterable[Object]) -> list[Object]:
    """Return the slices of the newest generation of each pool that is there as a whole."""
    return [one for now, count in _pools(slices) if len(now) == count for one in now]


def unfinished_pools(slices: Iterable[Object], driver: str) -> list[str]:
    """Return a driver's pools whose newest generation is not there as a whole, in words."""
    return [
        f"{now[0]['spec']['pool']['name']} ({len(now)} of {count} slices)"
        for now, count in _pools(slices)
        if len(now) != count and now[0]["spec"]["driver"] == driver
    ]


def _pools(slices: Iterable[Object]) -> list[tuple[list[Object], int]]:
    """Return each pool's slices of its newest generation, and how many there have to be."""
    pools: dict[tuple[str, str], list[Object]] = {}
    for one in slices:
        spec = one["spec"]
        pools.setdefault((str(spec["driver"]), str(spec["pool"]["name"])), []).append(one)
    out: list[tuple[list[Object], int]] = []
    for found in pools.values():
        newest = max(int(one["spec"]["pool"].get("generation", 0)) for one in found)
        now = [one for one in found if int(one["spec"]["pool"].get("generation", 0)) == newest]
        out.append((now, int(now[0]["spec"]["pool"].get("resourceSliceCount", 1))))
    return out


def network_drivers(slices: Iterable[Object], classes: Iterable[Object]) -> list[str]:
    """Return the DRA drivers that are about networks, by what they publish or by their names."""
    found: dict[str, None] = {}
    for one in slices:
        driver = str(one["spec"]["driver"])
        names = {
            key.rpartition("/")[2]
            for device in one["spec"].get("devices") or []
            for key in device.get("attributes") or {}
        }
        if driver in NETWORK_DRIVERS or names & _NETWORK_ATTRIBUTES:
            found[driver] = None
    known = list(classes)
    for driver in NETWORK_DRIVERS:
        if class_for(driver, known):
            found.setdefault(driver, None)
    return list(found)


def class_for(driver: str, classes: Iterable[Object]) -> str:
    """Return the least demanding DeviceClass whose selectors name a driver; empty if none does.

    Ones that cannot be read are passed over.
    """
    names_driver = re.compile(rf"""device\.driver\s*==\s*["']{re.escape(driver)}["']""")
    fitting: list[tuple[int, str]] = []
    for one in classes:
        told = "" if why_not_class(one) else " ".join(expressions(one))
        if names_driver.search(told):
            fitting.append((len(told), str(one["metadata"]["name"])))
    return min(fitting, default=(0, ""))[1]


def attributes(device: Object) -> Attributes:
    """Return a device's attributes as plain values."""
    return {
        key: next(iter(value.values()), None)
        for key, value in (device.get("attributes") or {}).items()
        if isinstance(value, dict)
    }


def usable(driver: str, device: Object) -> bool:
    """Say whether a device has an interface that our claim asks for; as its selector does."""
    if driver != DRANET:
        return True
    found = attributes(device)
    return f"{DRANET}/ifName" in found and found.get(f"{DRANET}/state", "up") == "up"


def devices_of_nodes(
    slices: Iterable[Object],
    driver: str,
    nodes: Iterable[Object],
    taken: Collection[Key] = frozenset(),
) -> dict[str, Object]:
    """Return the nodes on which a driver offers a device that our claim can take, with one each.

    RDMA devices without an interface count only where the driver offers no interface at all, be
    it ``taken`` or not.
    """
    all_nodes = list(nodes)
    out: dict[str, Object] = {}
    without: dict[str, Object] = {}
    interfaces = False
    for one in complete_slices(slices):
        spec = one["spec"]
        if spec["driver"] != driver:
            continue
        for device in spec.get("devices") or []:
            rdma = driver == DRANET and _rdma_only(attributes(device))
            if not rdma and not usable(driver, device):
                continue
            where = device if spec.get("perDeviceNodeSelection") else spec
            near = [str(one["metadata"]["name"]) for one in all_nodes if reaches(where, one)]
            interfaces |= bool(near) and not rdma
            if (driver, str(spec["pool"]["name"]), str(device["name"])) not in taken:
                for name in near:
                    (without if rdma else out).setdefault(name, device)
    return out if interfaces else without


def _rdma_only(found: Attributes) -> bool:
    return f"{DRANET}/ifName" not in found and bool(found.get(f"{DRANET}/rdmaDevice"))


def reaches(where: Object, node: Object) -> bool:
    """Say whether a slice's or a device's choice of nodes holds for a node."""
    if where.get("allNodes"):
        return True
    if where.get("nodeName"):
        return bool(where["nodeName"] == node["metadata"]["name"])
    terms: list[Object] = (where.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    return any(_matches(term, node) for term in terms)


def _matches(term: Object, node: Object) -> bool:
    labels: Object = node["metadata"].get("labels") or {}
    rules = [(one, labels) for one in term.get("matchExpressions") or []]
    fields: Object = {"metadata.name": node["metadata"]["name"]}
    rules += [(one, fields) for one in term.get("matchFields") or []]
    # A term without rules matches nothing.
    return bool(rules) and all(_holds(rule, known) for rule, known in rules)


def _holds(rule: Object, known: Object) -> bool:
    key, operator = str(rule.get("key")), rule.get("operator")
    values = rule.get("values") or []
    match operator:
        case "In":
            return known.get(key) in values
        case "NotIn":
            return known.get(key) not in values
        case "Exists":
            return key in known
        case "DoesNotExist":
            return key not in known
        case _:
            # Numeric comparisons: a node that may be meant is taken for one that is.
            return True
