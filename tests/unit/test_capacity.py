from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from kar_checks.cluster import capacity
from kar_checks.cluster.capacity import Capacity
from kar_checks.cluster.client import Cluster, Object
from tests.unit.apiserver import Answer, ApiServer

NODE: Object = {
    "metadata": {"name": "n1"},
    "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
}


def container(cpu: str, name: str = "main", **more: Any) -> Object:
    requests = {"cpu": cpu, "memory": "1Gi"} if cpu else {}
    return {"name": name, "resources": {"requests": requests}, **more}


def pod(
    *containers: Object, phase: str = "Running", status: Object | None = None, **spec: Any
) -> Object:
    return {
        "spec": {"containers": list(containers), **spec},
        "status": {"phase": phase, **(status or {})},
    }


SIDECAR = {"restartPolicy": "Always"}
ALLOCATED = {
    "containerStatuses": [{"name": "main", "allocatedResources": {"cpu": "2", "memory": "1Gi"}}]
}


@pytest.mark.parametrize(
    ("one", "cpu"),
    [
        (pod(container("1"), container("500m", "b")), "1.5"),
        (pod(container("")), "0"),
        (pod({"name": "main"}), "0"),
        (pod(container("1"), initContainers=[container("3", "i")]), "3"),
        (pod(container("2"), initContainers=[container("1", "i"), container("1", "j")]), "2"),
        (pod(container("1"), initContainers=[container("1", "s", **SIDECAR)]), "2"),
        (
            pod(
                container("1"),
                initContainers=[container("1", "s", **SIDECAR), container("3", "i")],
            ),
            "4",
        ),
        (
            pod(
                container("1"),
                initContainers=[container("3", "i"), container("1", "s", **SIDECAR)],
            ),
            "3",
        ),
        (pod(container("1"), overhead={"cpu": "250m"}), "1.25"),
        (pod(container("1"), resources={"requests": {"cpu": "3"}}), "3"),
        (
            pod(container("1"), resources={"requests": {"cpu": "3"}}, overhead={"cpu": "1"}),
            "4",
        ),
        (pod(container("1"), status=ALLOCATED), "2"),
        (pod(container("3"), status=ALLOCATED), "3"),
    ],
)
def test_a_pod_takes_what_the_scheduler_counts(one: Object, cpu: str) -> None:
    assert capacity.request(one, "cpu") == Decimal(cpu)


def test_pods_that_ended_take_nothing() -> None:
    pods = [pod(container("1")), pod(container("1"), phase="Succeeded")]
    pods += [pod(container("1"), phase="Failed"), pod(container("500m"), phase="Pending")]
    assert capacity.left(NODE, pods) == Capacity(2500, 6 * 2**30, 108)


def test_an_overcommitted_node_has_less_than_nothing() -> None:
    assert capacity.left(NODE, [pod(container("5"))]).cpu_millicores == -1000


def test_a_node_that_offers_nothing_has_nothing() -> None:
    assert capacity.allocatable({"metadata": {"name": "n"}}) == Capacity(0, 0, 0)


def test_only_pods_on_the_node_are_asked_for(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(Answer(200, {"metadata": {}, "items": [pod(container("1"))]}))
    assert capacity.free(cluster, NODE) == Capacity(3000, 7 * 2**30, 109)
    assert api.requests[0].path == "/api/v1/pods"
    assert api.requests[0].query["fieldSelector"] == "spec.nodeName=n1"


def on_node(name: str, *containers: Object, namespace: str = "a", **more: Any) -> Object:
    meta = {"name": name, "namespace": namespace, "uid": name}
    made = pod(*containers, **more)
    made["spec"]["nodeName"] = "n1"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, **made}


def small(name: str) -> Object:
    offers = {"cpu": "600m", "memory": "8Gi", "pods": "4"}
    return {"metadata": {"name": name}, "status": {"allocatable": offers}}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (["cpu"], "n1 has -510m of 600m cpu free (a/web 1000m, b/small 100m, b/tiny 10m)"),
        (["memory"],
         "n1 has 5120Mi of 8192Mi memory free (a/web 1024Mi, b/small 1024Mi, b/tiny 1024Mi)"),
        (["pods"], "n1 has room for 0 of 4 pods (3 in b, 1 in a)"),
        (["cpu", "pods"],
         "n1 has -510m of 600m cpu free (a/web 1000m, b/small 100m, b/tiny 10m), "
         "room for 0 of 4 pods (3 in b, 1 in a)"),
    ],
)  # fmt: skip
def test_who_holds_a_node(
    cluster: Cluster, api: ApiServer, resources: list[str], expected: str
) -> None:
    for one in (
        on_node("web", container("1")),
        on_node("small", container("100m"), namespace="b"),
        on_node("tiny", container("10m"), namespace="b"),
        on_node("idle", container(""), namespace="b"),
        on_node("done", container("1"), phase="Succeeded"),
    ):
        api.add(one, "pods")
    wanted = dict.fromkeys(resources, Decimal(9 * 2**30))
    assert capacity.holders(cluster, [small("n1")], wanted) == expected


def test_the_nodes_with_most_room_are_named() -> None:
    def listed(_: object, *, fields: str) -> Any:
        full = fields == "spec.nodeName=n1"
        return SimpleNamespace(items=[on_node("web", container("1"))] if full else [])

    cluster: Any = SimpleNamespace(list=listed)
    nodes = [small(name) for name in ("n1", "n2", "n3", "n4")]
    found = capacity.holders(cluster, nodes, {"cpu": Decimal(9)})
    assert [one.split(" ")[0] for one in found.split("; ")] == ["n2", "n3", "n4"]
    assert capacity.holders(cluster, [], {"cpu": Decimal(9)}) == ""


def test_nodes_with_enough_are_not_named() -> None:
    full = [on_node("web", container("595m"))]

    def listed(_: object, *, fields: str) -> Any:
        return SimpleNamespace(items=full if fields == "spec.nodeName=n2" else [])

    cluster: Any = SimpleNamespace(list=listed)
    wanted = capacity.needs(pod(container("10m")), ["cpu", "pods"])
    found = capacity.holders(cluster, [small("n1"), small("n2")], wanted)
    assert found == "n2 has 5m of 600m cpu free (a/web 595m)"
