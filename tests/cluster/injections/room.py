"""Sabotages of room: other pods hold the CPU of nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from kar_checks.cluster import capacity, kinds, pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.target import Target
from localcluster import LocalCluster
from tests.cluster.injections import injection
from tests.cluster.injections.networking import offering
from tests.cluster.injections.waiting import wait

_NAMESPACE = "default"
_SOON = ("--set", "pods.start_seconds=10")


@contextmanager
def _held(cluster: Cluster, nodes: Collection[str]) -> Iterator[None]:
    """Give all CPU that is left on these nodes to somebody else's pods."""
    made: list[str] = []
    try:
        for node in cluster.list(kinds.NODE).items:
            name = str(node["metadata"]["name"])
            if name in nodes:
                made.append(f"tenant-{name}")
                size = capacity.free(cluster, node).cpu_millicores
                cluster.create(kinds.POD, _tenant(name, size), _NAMESPACE)
        wait("what the kubelets report", lambda: all(map(_status, _found(cluster, made))))
        refused = [one["status"] for one in _found(cluster, made) if pods.phase(one) == "Failed"]
        assert refused == []
        yield
    finally:
        for name in made:
            cluster.delete(kinds.POD, name, _NAMESPACE, grace=0)


def _found(cluster: Cluster, names: Collection[str]) -> list[Object]:
    return [cluster.get(kinds.POD, name, _NAMESPACE) for name in names]


def _status(pod: Object) -> bool:
    """Say whether the kubelet took the pod or turned it away."""
    return bool((pod.get("status") or {}).get("hostIP")) or pods.phase(pod) == "Failed"


def _tenant(node: str, millicores: int) -> Object:
    container: Object = {
        "name": "main",
        "image": Target().image("python"),
        "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": f"{millicores}m"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"tenant-{node}"},
        "spec": {
            "nodeName": node,
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
        },
    }


@injection(words=(*_SOON, "--set", "gang.control_seconds=5"))
@contextmanager
def every_node_full(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Pods of somebody else hold all CPU of the cluster."""
    with _held(cluster, [node.name for node in local.nodes]):
        yield


@injection(
    addons=("dranet",),
    words=(
        *_SOON,
        *("--set", "networking.bind_seconds=8"),
        *("--set", "networking.refused_seconds=6"),
    ),
)
@contextmanager
def nodes_with_the_network_full(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Pods of somebody else hold all CPU of the nodes that offer the network."""
    wait("their slices", lambda: len(offering(cluster)) == 2)
    with _held(cluster, {str(one["spec"]["nodeName"]) for one in offering(cluster)}):
        yield
