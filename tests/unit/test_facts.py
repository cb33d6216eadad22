from __future__ import annotations

from typing import Any

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.facts import Facts, gather, node_info, taint_text
from kar_checks.model import Reason
from tests.unit.apiserver import Answer, ApiServer, refusal

VERSION = Answer(200, {"gitVersion": "v1.36.2-gke.7"})
ME = Answer(201, {"status": {"userInfo": {"username": "alice"}}})
SYSTEM = Answer(200, {"metadata": {"uid": "cluster-uid"}})
NODES = Answer(200, {"metadata": {}, "items": [{"metadata": {"name": "n1"}}]})
CORE = Answer(
    200,
    {
        "items": [
            {
                "metadata": {},
                "versions": [
                    {
                        "version": "v1",
                        "resources": [
                            {"resource": "pods", "subresources": [{"subresource": "resize"}]}
                        ],
                    }
                ],
            }
        ]
    },
)
GROUPS = Answer(
    200,
    {
        "items": [
            {
                "metadata": {"name": "scheduling.k8s.io"},
                "versions": [
                    {"version": "v1", "resources": [{"resource": "priorityclasses"}]},
                    {"version": "v1alpha2", "resources": [{"resource": "podgroups"}]},
                    {"version": "v1alpha1"},
                ],
            }
        ]
    },
)
FORBIDDEN = refusal(403, "Forbidden", 'User "x" cannot list resource "nodes"')


def test_everything_is_asked_once(cluster: Cluster, api: ApiServer) -> None:
    api.answers.extend([VERSION, ME, SYSTEM, NODES, CORE, GROUPS])
    found = gather(cluster)
    assert (found.version, found.minor) == ("v1.36.2-gke.7", (1, 36))
    assert (found.user, found.cluster_uid) == ("alice", "cluster-uid")
    assert [one["metadata"]["name"] for one in found.nodes or []] == ["n1"]
    assert found.serves("", "v1", "pods/resize")
    assert found.serves("scheduling.k8s.io", "v1alpha2", "podgroups")
    assert not found.serves("scheduling.k8s.io", "v1", "podgroups")
    assert {one.method for one in api.requests} == {"GET", "POST"}
    assert [one.path for one in api.asked("POST")] == [
        "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    ]


def test_what_may_not_be_seen_is_missing_and_not_guessed(cluster: Cluster, api: ApiServer) -> None:
    api.answers.extend([VERSION, FORBIDDEN, FORBIDDEN, FORBIDDEN, CORE, GROUPS])
    found = gather(cluster)
    assert (found.user, found.cluster_uid, found.nodes) == ("", "", None)


def test_credentials_that_are_not_accepted_are_an_error(cluster: Cluster, api: ApiServer) -> None:
    api.answers.extend([VERSION, refusal(401, "Unauthorized", "Unauthorized")])
    with pytest.raises(ApiError) as caught:
        gather(cluster)
    assert caught.value.fault.reason is Reason.FORBIDDEN
    assert "renew the kubeconfig" in caught.value.fault.help


def test_another_trouble_with_nodes_is_an_error(cluster: Cluster, api: ApiServer) -> None:
    api.answers.extend([VERSION, ME, SYSTEM, refusal(500, "InternalError", "boom")])
    with pytest.raises(ApiError):
        gather(cluster)


@pytest.mark.parametrize("answer", [{}, {"gitVersion": ""}, {"gitVersion": "latest"}])
def test_a_server_that_tells_no_version_is_no_api_server(
    cluster: Cluster, api: ApiServer, answer: dict[str, str]
) -> None:
    api.answers.append(Answer(200, answer))
    with pytest.raises(HarnessError, match="reports no Kubernetes version") as caught:
        gather(cluster)
    assert caught.value.fault.reason is Reason.API_ERROR


@pytest.mark.parametrize(
    ("version", "minor"), [("v1.37.0", (1, 37)), ("v1.36+", (1, 36)), ("1.35.1-eks-1", (1, 35))]
)
def test_the_minor_is_read_from_any_vendors_version(version: str, minor: tuple[int, int]) -> None:
    facts = Facts(version=version, user="", cluster_uid="", nodes=None, served=frozenset())
    assert facts.minor == minor


NODE: dict[str, Any] = {
    "metadata": {
        "name": "n1",
        "uid": "u1",
        "labels": {
            "node.kubernetes.io/instance-type": "c7.2xlarge",
            "topology.kubernetes.io/zone": "eu-1a",
        },
    },
    "spec": {
        "unschedulable": True,
        "taints": [
            {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
            {"key": "busy", "effect": "NoExecute"},
        ],
    },
    "status": {
        "addresses": [{"type": "ExternalIP", "address": "203.0.113.9"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "8", "memory": "31Gi"},
        "nodeInfo": {
            "osImage": "Debian 12",
            "architecture": "arm64",
            "kernelVersion": "6.12",
            "kubeletVersion": "v1.37.0",
            "containerRuntimeVersion": "containerd://2.2",
        },
    },
}


def test_a_node_is_recorded_without_its_addresses() -> None:
    found = node_info(NODE)
    assert found.model_dump() == {
        "name": "n1",
        "uid": "u1",
        "ready": True,
        "unschedulable": True,
        "taints": ["gpu=yes:NoSchedule", "busy:NoExecute"],
        "os": "Debian 12",
        "architecture": "arm64",
        "kernel": "6.12",
        "kubelet": "v1.37.0",
        "runtime": "containerd://2.2",
        "instance_type": "c7.2xlarge",
        "zone": "eu-1a",
        "cpu": "8",
        "memory": "31Gi",
    }


def test_a_node_that_tells_nothing_is_not_ready() -> None:
    found = node_info({"metadata": {"name": "n1", "uid": "u1"}})
    assert (found.ready, found.kernel, found.taints) == (False, "", [])


def test_a_taint_is_written_as_the_option_takes_it() -> None:
    assert taint_text({"key": "a", "value": "b", "effect": "NoSchedule"}) == "a=b:NoSchedule"
    assert taint_text({"key": "a", "effect": "NoExecute"}) == "a:NoExecute"


# -- discovery by older servers ----------------------------------------------------------------


def _resources(*names: str) -> dict[str, Any]:
    return {"kind": "APIResourceList", "resources": [{"name": one} for one in names]}


GATEWAYS = {
    "name": "gateway.networking.k8s.io",
    "versions": [{"groupVersion": "gateway.networking.k8s.io/v1", "version": "v1"}],
}


def test_the_lists_of_older_servers_are_read_as_in_client_go(
    cluster: Cluster, api: ApiServer
) -> None:
    away = {"name": "metrics.k8s.io", "versions": [{"version": "v1beta1"}]}
    api.served = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [GATEWAYS, away]},
        "/api/v1": _resources("pods", "pods/resize"),
        "/apis/gateway.networking.k8s.io/v1": _resources("gateways", "gateways/status"),
    }
    api.answers.extend([VERSION, ME, SYSTEM, NODES])
    api.served["/apis/metrics.k8s.io/v1beta1"] = {}
    found = gather(cluster)
    assert found.serves("", "v1", "pods/resize")
    assert found.serves("gateway.networking.k8s.io", "v1", "gateways")
    assert found.serves_group("gateway.networking.k8s.io")
    assert not found.serves_group("metrics.k8s.io")
    assert "APIGroupDiscoveryList,application/json" in api.requests[4].headers["Accept"]


def test_a_group_whose_own_server_is_away_hides_nothing_else(
    cluster: Cluster, api: ApiServer
) -> None:
    api.answers.extend(
        [
            VERSION, ME, SYSTEM, NODES,
            Answer(200, {"kind": "APIVersions", "versions": ["v1"]}),
            Answer(200, {"kind": "APIGroupList", "groups": [GATEWAYS]}),
            Answer(200, _resources("pods")),
            refusal(503, "ServiceUnavailable", "the server is currently unable"),
        ]
    )  # fmt: skip
    assert gather(cluster).served == {("", "v1", "pods")}


def test_an_answer_that_is_no_discovery_is_told(cluster: Cluster, api: ApiServer) -> None:
    api.answers.extend([VERSION, ME, SYSTEM, NODES, Answer(200, {"kind": "Table"})])
    with pytest.raises(HarnessError, match=r"GET /api: the answer .Table. does not list"):
        gather(cluster)


def test_who_is_taken_for_nobody_is_told_before_any_right_is_missed(
    cluster: Cluster, api: ApiServer
) -> None:
    nobody = Answer(201, {"status": {"userInfo": {"username": "system:anonymous"}}})
    api.answers.extend([VERSION, nobody])
    with pytest.raises(HarnessError, match="treats us as system:anonymous") as caught:
        gather(cluster)
    assert caught.value.fault.reason is Reason.FORBIDDEN
