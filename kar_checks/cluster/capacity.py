"""How much of a node is still free, by the scheduler's own sum over the node's pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from kar_checks.cluster import kinds, pods, quantity
from kar_checks.cluster.client import Cluster, Object

_NOTHING = Decimal(0)
_LOOKED_AT = 12
"""So many nodes are looked at for who holds them; a large cluster is not listed as a whole."""
_NAMED = 3
"""So many nodes are named, and so many holders of each."""


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


def needs(pod: Object, resources: Iterable[str]) -> dict[str, Decimal]:
    """Return how much of these resources a pod takes."""
    return {one: Decimal(1) if one == "pods" else request(pod, one) for one in resources}


def holders(cluster: Cluster, nodes: Sequence[Object], wanted: Mapping[str, Decimal]) -> str:
    """Return what is left on nodes that have too little, and who holds the rest.

    Such as ``n1 has 3m of 600m cpu free (a/web 500m, kube-system/dns 97m)``. Those with most come
    first.

    Raises:
        ApiError: pods may not be listed in all namespaces.
    """
    found: list[tuple[Decimal, str]] = []
    for node in nodes[:_LOOKED_AT]:
        name = str(node["metadata"]["name"])
        listed = cluster.list(kinds.POD, fields=f"spec.nodeName={name}").items
        alive = [one for one in listed if pods.phase(one) not in ("Succeeded", "Failed")]
        held = [(_held(node, alive, resource), amount) for resource, amount in wanted.items()]
        short = [state for state, amount in held if state[0] < amount]
        if short:
            found.append((short[0][0], f"{name} has {', '.join(text for _, text in short)}"))
    found.sort(key=lambda one: one[0], reverse=True)
    return "; ".join(text for _, text in found[:_NAMED])


def _held(node: Object, alive: list[Object], resource: str) -> tuple[Decimal, str]:
    """Return how much of a resource is free on a node, and that in words with its holders."""
    offers: Object = (node.get("status") or {}).get("allocatable") or {}
    whole = quantity.parse(offers.get(resource, 0))
    if resource == "pods":
        left = whole - len(alive)
        spaces = Counter(str(one["metadata"].get("namespace", "")) for one in alive)
        most = [f"{count} in {space}" for space, count in spaces.most_common(_NAMED)]
        return left, f"room for {max(left, _NOTHING)} of {whole} pods{_in_brackets(most)}"
    amounts = sorted(((request(one, resource), one) for one in alive), key=lambda one: -one[0])
    left = whole - sum((amount for amount, _ in amounts), _NOTHING)
    most = [
        f"{_label(one)} {_amount(amount, resource)}" for amount, one in amounts[:_NAMED] if amount
    ]
    free_of = f"{_amount(left, resource)} of {_amount(whole, resource)} {resource} free"
    return left, f"{free_of}{_in_brackets(most)}"


def _label(pod: Object) -> str:
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"


def _in_brackets(most: list[str]) -> str:
    return f" ({', '.join(most)})" if most else ""


def _amount(value: Decimal, resource: str) -> str:
    if resource == "cpu":
        return f"{int(value * 1000)}m"
    return f"{int(value / 2**20)}Mi"
