"""How much of a node is still free, by the scheduler's own sum over the node's pods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from kar_checks.cluster import kinds, pods, quantity
from kar_checks.cluster.client import Cluster, Object

_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Capacity:
    """An amount of a node; negative if the node is overcommitted."""

    cpu_millicores: int
    memory_bytes: int
    pods: int


def allocatable(node: Object) -> Capacity:
    """Return what a node offers to pods."""
    offers: Object = (node.get("status") or {}).get("allocatable") or {}
    return Capacity(
        cpu_millicores=int(quantity.parse(offers.get("cpu", 0)) * 1000),
        memory_bytes=int(quantity.parse(offers.get("memory", 0))),
        pods=int(quantity.parse(offers.get("pods", 0))),
    )


def free(cluster: Cluster, node: Object) -> Capacity:
    """Return what is left on a node.

    Raises:
        ApiError: pods may not be listed in all namespaces.
    """
    found = cluster.list(kinds.POD, fields=f"spec.nodeName={node['metadata']['name']}").items
    return left(node, found)


def left(node: Object, on_node: Iterable[Object]) -> Capacity:
    """Return what pods leave of a node; those that ended take nothing."""
    whole = allocatable(node)
    alive = [one for one in on_node if pods.phase(one) not in ("Succeeded", "Failed")]
    cpu = sum((request(one, "cpu") for one in alive), _NOTHING)
    memory = sum((request(one, "memory") for one in alive), _NOTHING)
    return Capacity(
        cpu_millicores=whole.cpu_millicores - quantity.millicores(float(cpu)),
        memory_bytes=whole.memory_bytes - int(memory),
        pods=whole.pods - len(alive),
    )


def request(pod: Object, name: str) -> Decimal:
    """Return what a pod takes of a resource, in cores or bytes.

    As the scheduler counts: sidecars add to the containers, other init containers run before
    them; what the kubelet has allocated still counts while a resize asks for less (KEP-1287), and
    a request of the whole pod stands for those of its containers (KEP-2837).
    """
    spec: Object = pod["spec"]
    own = ((spec.get("resources") or {}).get("requests") or {}).get(name)
    overhead = quantity.parse((spec.get("overhead") or {}).get(name, 0))
    if own is not None:
        return quantity.parse(own) + overhead
    sidecars, peak = _NOTHING, _NOTHING
    for one in spec.get("initContainers") or []:
        amount = _container(pod, one, name)
        if one.get("restartPolicy") == "Always":
            sidecars += amount
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + amount)
    main = sum((_container(pod, one, name) for one in spec["containers"]), _NOTHING)
    return max(main + sidecars, peak) + overhead


def _container(pod: Object, container: Object, name: str) -> Decimal:
    asked = ((container.get("resources") or {}).get("requests") or {}).get(name, 0)
    status = pods.container_status(pod, str(container["name"]))
    allocated = (status.get("allocatedResources") or {}).get(name, 0)
    return max(quantity.parse(asked), quantity.parse(allocated))
