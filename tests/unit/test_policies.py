"""Network policies of others are named, those that deny everything first."""

from __future__ import annotations

from typing import Any

import pytest

from kar_checks.cluster import policies
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.facts import Facts
from tests.unit.apiserver import ApiServer, refusal

SERVED = frozenset({("policy.networking.k8s.io", "v1alpha1", "adminnetworkpolicies")})
FACTS = Facts(version="v1.37.0", user="", cluster_uid="", nodes=[], served=SERVED)


def put(
    api: ApiServer, name: str, spec: dict[str, Any], namespace: str = "ns", **labels: str
) -> None:
    meta = {"name": name, "namespace": namespace, "labels": labels}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    api.add({**body, "metadata": meta, "spec": spec}, "networkpolicies")


def test_policies_are_named_and_our_own_are_not(cluster: Cluster, api: ApiServer) -> None:
    put(api, "allow-dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})
    put(api, "deny", {"podSelector": {}})
    put(api, "elsewhere", {"podSelector": {}}, "other")
    put(api, "ours", {"podSelector": {}}, **{"app.kubernetes.io/managed-by": "kar-checks"})
    admin = {"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy"}
    api.add({**admin, "metadata": {"name": "strict"}}, "adminnetworkpolicies")
    found = policies.standing(cluster, FACTS, "ns")
    assert [one.name for one in found] == ["deny", "allow-dns", "strict"]
    assert policies.sentence(found) == (
        "NetworkPolicy deny in ns (allows no traffic to pods), NetworkPolicy allow-dns in ns, "
        "AdminNetworkPolicy strict of the cluster"
    )


@pytest.mark.parametrize(
    ("spec", "denies"),
    [
        ({}, ("traffic to pods",)),
        ({"policyTypes": ["Egress"]}, ("traffic from pods",)),
        ({"policyTypes": ["Ingress", "Egress"]}, ("traffic to pods", "traffic from pods")),
        ({"egress": []}, ("traffic to pods", "traffic from pods")),
        ({"ingress": [{}]}, ()),
        ({"policyTypes": ["Ingress"], "ingress": [{"from": []}]}, ()),
    ],
)
def test_what_a_policy_denies(
    cluster: Cluster, api: ApiServer, spec: dict[str, Any], denies: tuple[str, ...]
) -> None:
    put(api, "one", {"podSelector": {}, **spec})
    assert policies.standing(cluster, FACTS, "ns")[0].denies == denies


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "x"}}, True),
        ({"matchLabels": {"app": "y"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_policies_of_other_pods_are_left_out(
    cluster: Cluster, api: ApiServer, selector: dict[str, Any], *, selected: bool
) -> None:
    put(api, "one", {"podSelector": selector})
    assert bool(policies.standing(cluster, FACTS, "ns", {"app": "x"})) is selected


def test_what_may_not_be_listed_is_missing(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot list resource'))
    assert policies.standing(cluster, FACTS, "ns") == []
    assert policies.sentence([]) == ""
