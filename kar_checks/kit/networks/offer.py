"""Which nodes have a network, which have something left, and which may not be used.

From what is published, before anything is started. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kar_checks.cluster.client import Object
from kar_checks.cluster.facts import taint_text
from kar_checks.cluster.target import Target
from kar_checks.kit.networks import inventory
from kar_checks.kit.networks.attach import Network
from kar_checks.kit.networks.device_plugin import DevicePluginNetwork
from kar_checks.kit.networks.dra import DraNetwork, devices_of_nodes, unfinished_pools
from kar_checks.kit.networks.gke import GkeNetwork
from kar_checks.kit.networks.multus import AttachedNetwork
from kar_checks.kit.networks.records import Elsewhere, Held, Measured

_KEEPS_OFF = ("NoSchedule", "NoExecute")


@dataclass
class Published:
    """What the cluster says about networks, as it was read before anything of ours was there."""

    slices: list[Object] = field(default_factory=list[Object])
    classes: list[Object] = field(default_factory=list[Object])
    definitions: list[Object] = field(default_factory=list[Object])
    nodes: list[Object] = field(default_factory=list[Object])
    """Those that pods of ours may run on."""
    others: list[tuple[Object, str]] = field(default_factory=list[tuple[Object, str]])
    """Nodes that they may not run on, each with the reason."""
    claims: list[Object] | None = None
    """Resource claims of others; ``None`` if they could not be seen."""
    pods: list[Object] | None = None
    """Pods of others that have to do with networks; ``None`` if they could not be seen."""
    described: dict[str, dict[str, Any]] | None = None
    """What GKE's Network objects say about their networks."""
    namespace: str = ""
    """Where pods of ours run."""
    target: Target = field(default_factory=Target)
    looked_at: list[str] = field(default_factory=list[str])
    """In words, with numbers: what was asked, and how much of it is there."""
    left_out: list[str] = field(default_factory=list[str])
    """What cannot be read, with the reason."""

    @property
    def every_node(self) -> list[Object]:
        """Return all nodes, whether pods of ours may run on them or not."""
        return [*self.nodes, *(one for one, _ in self.others)]


def devices_left(published: Published, driver: str) -> dict[str, Object]:
    """Return the usable nodes on which a driver has a device for us, with one each."""
    taken = inventory.spoken_for(published.slices, driver, published.claims or [], published.target)
    return devices_of_nodes(published.slices, driver, published.nodes, taken)


def offer(network: Network, published: Published) -> Measured:
    """Return what the cluster says about who has the network, before anything is started."""
    match network:
        case DraNetwork():
            found = _of_driver(network, published)
        case AttachedNetwork() if not network.resource:
            found = _of_definition(network, published)
        case AttachedNetwork():
            told = f"NetworkAttachmentDefinition {network.name}"
            found = _of_resources(network, [network.resource], told, published)
        case GkeNetwork():
            told = f"GKE network {network.network}, resources {' and '.join(network.resources)}"
            found = _of_resources(network, network.resources, told, published)
        case DevicePluginNetwork():
            told = f"extended resource {network.resource}"
            found = _of_resources(network, [network.resource], told, published)
        case _:
            raise TypeError(f"{network.name} is not a secondary network")
    return found


def _of_driver(network: DraNetwork, published: Published) -> Measured:
    slices, driver, nodes = published.slices, network.driver, published.nodes
    how = f"DeviceClass {network.device_class}" if network.device_class else "a class of ours"
    held: list[Held] | None = None
    if published.claims is not None:
        held = inventory.held_of_driver(slices, driver, published.claims, published.every_node)
    having = {one.node for one in held or []}
    capable = set(devices_of_nodes(slices, driver, nodes)) | (having & set(_names(nodes)))
    elsewhere = [
        _elsewhere(one, why, published.target)
        for one, why in published.others
        if devices_of_nodes(slices, driver, [one]) or str(one["metadata"]["name"]) in having
    ]
    return _measured(
        network,
        f"DRA driver {driver}, {how}",
        nodes,
        capable,
        set(devices_left(published, driver)),
        held=held,
        elsewhere=elsewhere,
        bare=inventory.without_interface(slices, driver, nodes),
        tainted=inventory.tainted(slices, driver, nodes, published.target),
    ).model_copy(update={"unfinished": unfinished_pools(slices, driver)})


def _of_definition(network: AttachedNetwork, published: Published) -> Measured:
    """Nothing tells which nodes have it: any may."""
    names = set(_names(published.nodes))
    found = _measured(
        network,
        f"NetworkAttachmentDefinition {network.name}",
        published.nodes,
        names,
        names,
        held=None
        if published.pods is None
        else inventory.attached_pods(network.name, published.pods),
        elsewhere=[_elsewhere(one, why, published.target) for one, why in published.others],
    )
    return found.model_copy(update={"steers": False})


def _of_resources(
    network: Network, resources: Sequence[str], told: str, published: Published
) -> Measured:
    every = {str(one["metadata"]["name"]): one for one in published.every_node}
    having = {
        name
        for name, node in every.items()
        if all(inventory.offered(node, resource) for resource in resources)
    }
    short: set[str] = set()
    held: list[Held] = []
    for resource in resources:
        mine = (every[one] for one in sorted(having))
        left = inventory.held_of_resource(resource, mine, published.pods or [])
        short |= {name for name, (amount, _) in left.items() if amount < 1}
        held += [one for _, one in left.values() if one]
    capable = having & set(_names(published.nodes))
    found = _measured(
        network,
        told,
        published.nodes,
        capable,
        capable - short,
        held=None if published.pods is None else held,
        elsewhere=[
            _elsewhere(one, why, published.target)
            for one, why in published.others
            if str(one["metadata"]["name"]) in having
        ],
    )
    return found.model_copy(update={"resource": resources[0]})


def _measured(
    network: Network,
    offered: str,
    nodes: list[Object],
    capable: set[str],
    free: set[str],
    *,
    held: list[Held] | None,
    elsewhere: list[Elsewhere],
    bare: Iterable[str] = (),
    tainted: dict[str, str] | None = None,
) -> Measured:
    return Measured(
        mechanism=network.mechanism,
        steers=True,
        offered=offered,
        capable=sorted(capable),
        incapable=sorted(set(_names(nodes)) - capable),
        free=sorted(free),
        held=held,
        elsewhere=elsewhere,
        bare=list(bare),
        tainted=tainted or {},
    )


def _names(nodes: Iterable[Object]) -> list[str]:
    return [str(one["metadata"]["name"]) for one in nodes]


def _elsewhere(node: Object, why: str, target: Target) -> Elsewhere:
    # Cordoned and unready nodes have taints, too, but no toleration helps.
    mine: list[Object] = []
    if why.startswith("it has the taint"):
        mine = (node.get("spec") or {}).get("taints") or []
    taints = [
        taint_text(one)
        for one in mine
        if one.get("effect") in _KEEPS_OFF and not target.tolerates(one)
    ]
    return Elsewhere(node=str(node["metadata"]["name"]), why=why, taints=taints)
