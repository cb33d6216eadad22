from __future__ import annotations

from decimal import Decimal
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
