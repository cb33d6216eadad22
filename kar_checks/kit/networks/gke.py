"""Networks of GKE's multi-networking: a pair of extended resources and an annotation.

A node offers ``networking.gke.io.networks/NAME.IP`` for the addresses of a network and, where pods
get a device of their own, ``networking.gke.io.networks/NAME``. A pod gets onto the network by the
annotation ``networking.gke.io/interfaces``, and the platform writes its address into another.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from kar_checks.cluster.client import Object
from kar_checks.kit.networks.attach import Interface, Joined, Mechanism
from kar_checks.kit.networks.multus import ask_for
from kar_checks.kit.trial import Trial

PREFIX = "networking.gke.io.networks/"
ADDRESSES = ".IP"
"""Ends the name of the resource that stands for the addresses of a network."""
_DEFAULT = "default"
_INTERFACE = "eth1"
INTERFACES = "networking.gke.io/interfaces"
_DEFAULT_INTERFACE = "networking.gke.io/default-interface"
_POD_IPS = "networking.gke.io/pod-ips"


class GkeNetwork:
    """One network: at most two resources, of which each pod takes one."""

    mechanism: Mechanism = "gke"
    has_interface = True

    def __init__(
        self, network: str, resources: Iterable[str], published: Mapping[str, Any] | None = None
    ) -> None:
        self.network = network
        self.resources = sorted(resources)
        self.name = f"{PREFIX}{network}"
        self.published = None if published is None else dict(published)
        """What the cluster's Network objects say about it; ``None`` if they could not be read."""

    def prepare(self, trial: Trial) -> None:
        """Nothing is needed: the network is the cluster's own."""

    def join(self, pod: Object, number: int) -> Joined:
        """Add the annotation, and ask for one of each resource."""
        out = copy.deepcopy(pod)
        annotations = out["metadata"].setdefault("annotations", {})
        annotations[_DEFAULT_INTERFACE] = "eth0"
        annotations[INTERFACES] = json.dumps(
            [
                {"interfaceName": "eth0", "network": _DEFAULT},
                {"interfaceName": _INTERFACE, "network": self.network},
            ]
        )
        for resource in self.resources:
            ask_for(out, resource)
        return Joined(out)

    def interface(self, trial: Trial, pod: Object) -> Interface | None:
        """Read the addresses that the platform notes on the pod; the name is the one asked for."""
        annotations: Object = pod["metadata"].get("annotations") or {}
        try:
            told: Any = json.loads(annotations.get(_POD_IPS) or "[]")
        except ValueError:
            told = []
        found = [
            str(cast("Object", one).get("ip") or "")
            for one in (told if isinstance(told, list) else [])
            if isinstance(one, dict) and cast("Object", one).get("networkName") == self.network
        ]
        addresses = [one.partition("/")[0] for one in found if one]
        key = _POD_IPS if addresses else INTERFACES
        return Interface(
            name=_INTERFACE, addresses=addresses, source=f"annotation {key} of the pod"
        )


def pairs(resources: Iterable[str]) -> dict[str, list[str]]:
    """Return the resources of each network, by its name; the pods' own network is none."""
    out: dict[str, list[str]] = {}
    for one in sorted(resources):
        if one.startswith(PREFIX):
            name = one.removeprefix(PREFIX).removesuffix(ADDRESSES)
            if name and name != _DEFAULT:
                out.setdefault(name, []).append(one)
    return out


def described(
    networks: Iterable[Object], parameters: Iterable[Object]
) -> dict[str, dict[str, Any]]:
    """Return what Network objects, and the parameters that they refer to, say of each network."""
    modes = {
        str(one["metadata"]["name"]): str((one.get("spec") or {}).get("deviceMode") or "")
        for one in parameters
    }
    out: dict[str, dict[str, Any]] = {}
    for one in networks:
        spec: Object = one.get("spec") or {}
        mode = modes.get(str((spec.get("parametersRef") or {}).get("name", "")), "")
        found: dict[str, Any] = {"type": str(spec.get("type") or "")}
        if mode:
            found |= {"deviceMode": mode, "rdma": mode.upper() == "RDMA"}
        out[str(one["metadata"]["name"])] = {
            key: value for key, value in found.items() if value != ""
        }
    return out
