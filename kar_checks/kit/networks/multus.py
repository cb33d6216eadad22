"""Networks of NetworkAttachmentDefinitions, which Multus (or a plugin like it) attaches."""

from __future__ import annotations

import copy
import json
from typing import Any, cast

from kar_checks.cluster.client import Object
from kar_checks.kit.networks.attach import Addresses, Interface, Joined, Mechanism, bare
from kar_checks.kit.networks.sound import configuration
from kar_checks.kit.trial import Trial

NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = ("k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status")
"""The annotation with the result, by its name of today and by its old one."""
RESOURCE = "k8s.v1.cni.cncf.io/resourceName"
"""On a definition: the device-plugin resource that its pods have to ask for."""

_PUBLISHED = ("type", "master", "mtu", "mode", "vlan", "vlanId")


class AttachedNetwork:
    """One NetworkAttachmentDefinition."""

    mechanism: Mechanism = "multus"
    has_interface = True

    def __init__(self, definition: Object, addresses: Addresses) -> None:
        meta = definition["metadata"]
        self.namespace, self.definition = str(meta["namespace"]), str(meta["name"])
        self.name = f"{self.namespace}/{self.definition}"
        self.resource = str((meta.get("annotations") or {}).get(RESOURCE) or "").strip()
        """Empty if the definition does not steer the scheduler."""
        self.published = {
            key: value for key, value in configuration(definition).items() if key in _PUBLISHED
        }
        """What the definition says about its interfaces."""
        self._addresses = addresses if wants_addresses(definition) else Addresses(None)

    def prepare(self, trial: Trial) -> None:
        """Nothing is needed: the definition is the cluster's own."""

    def join(self, pod: Object, number: int) -> Joined:
        """Add the annotation, and the resource that the definition names."""
        out = copy.deepcopy(pod)
        selection: Object = {"name": self.definition, "namespace": self.namespace}
        address = self._addresses.of(number)
        if address:
            selection["ips"] = [address]
        annotations = out["metadata"].setdefault("annotations", {})
        annotations[NETWORKS] = json.dumps([selection])
        if self.resource:
            ask_for(out, self.resource)
        return Joined(out, address=address)

    def interface(self, trial: Trial, pod: Object) -> Interface | None:
        """Read the network-status annotation, which is there before the pod's containers start."""
        return interface_of(pod, self.name)


def ask_for(pod: Object, resource: str) -> None:
    """Let a pod's first container ask for one of a device plugin's resource."""
    resources = pod["spec"]["containers"][0].setdefault("resources", {})
    for side in ("requests", "limits"):
        resources.setdefault(side, {})[resource] = "1"


def status_of(pod: Object) -> list[Object]:
    """Return what the network-status annotation of a pod says; empty if it is not JSON."""
    annotations: Object = pod["metadata"].get("annotations") or {}
    text = next((annotations[name] for name in STATUS if name in annotations), "[]")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    every = found if isinstance(found, list) else []
    return [cast("Object", one) for one in every if isinstance(one, dict)]


def interface_of(pod: Object, name: str) -> Interface | None:
    """Return the interface that a pod got from the network ``NAMESPACE/NAME``."""
    for one in status_of(pod):
        if one.get("name") == name and not one.get("default") and one.get("interface"):
            return Interface(
                name=str(one["interface"]),
                addresses=[bare(str(ip)) for ip in one.get("ips") or []],
                mac=str(one.get("mac", "")).lower(),
                source="annotation network-status of the pod",
            )
    return None


def wants_addresses(definition: Object) -> bool:
    """Say whether pods bring their own addresses: static IPAM that has none configured."""
    ipam: Object = configuration(definition).get("ipam") or {}
    return ipam.get("type") == "static" and not ipam.get("addresses")
