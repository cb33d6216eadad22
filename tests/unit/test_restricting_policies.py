"""Which policies of the network may keep traffic from pods of ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.policies import restricting, selects

LABELS = {"kar-checks.dev/server": "blue"}


class Server:
    """Lists what it was given, by plural and group; ``None`` is forbidden."""

    def __init__(self, **found: list[Object] | None) -> None:
        self.found = found

    def list(self, kind: Kind, namespace: str = "") -> Any:
        items = self.found.get(f"{kind.plural}_{kind.group.partition('.')[0]}", [])
        if items is None:
            raise ApiError(403, {"reason": "Forbidden"}, "GET")
        assert bool(namespace) is kind.namespaced
        return SimpleNamespace(items=items)


def policy(name: str = "deny-in", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"podSelector": {}, **spec}}


def facts(*served: tuple[str, str, str]) -> Facts:
    return Facts(version="v1.36.0", user="u", cluster_uid="", nodes=[], served=frozenset(served))


def found(server: Server, *served: tuple[str, str, str], **more: bool) -> list[str]:
    return restricting(cast("Cluster", server), facts(*served), "space", LABELS, **more)


NAMED = ["NetworkPolicy deny-in"]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (policy(policyTypes=["Ingress"]), NAMED),
        (policy(), NAMED),
        (policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}]), NAMED),
        (policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": 80}]}]), NAMED),
        (policy(policyTypes=["Egress"]), []),
        (policy(policyTypes=["Ingress"], ingress=[{}]), []),
        (policy(podSelector={"matchLabels": {"app": "other"}}), []),
        (policy(podSelector={"matchLabels": LABELS}), NAMED),
        (
            {
                **policy(),
                "metadata": {
                    "name": "ours",
                    "labels": {"app.kubernetes.io/managed-by": "kar-checks"},
                },
            },
            [],
        ),
    ],
)
def test_a_policy_restricts_who_may_come_in(one: Object, expected: list[str]) -> None:
    assert found(Server(networkpolicies_networking=[one])) == expected


def test_what_may_not_be_listed_is_missing() -> None:
    assert found(Server(networkpolicies_networking=None)) == []


def test_policies_of_other_apis_are_named_where_they_are_served() -> None:
    server = Server(
        ciliumnetworkpolicies_cilium=[policy("c")],
        ciliumclusterwidenetworkpolicies_cilium=[policy("w")],
    )
    served = (
        ("cilium.io", "v2", "ciliumnetworkpolicies"),
        ("cilium.io", "v2", "ciliumclusterwidenetworkpolicies"),
    )
    assert found(server) == []
    assert found(server, *served) == ["CiliumNetworkPolicy c"]
    assert found(server, *served, cluster_wide=True) == [
        "CiliumNetworkPolicy c",
        "CiliumClusterwideNetworkPolicy w",
    ]


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ["blue"], True),
        ("In", ["green"], False),
        ("NotIn", ["blue"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
        ("Unknown", None, True),
    ],
)
def test_selectors(operator: str, values: list[str] | None, expected: bool) -> None:
    one = {"key": "kar-checks.dev/server", "operator": operator, "values": values}
    assert selects({"matchExpressions": [one]}, LABELS) is expected


def test_a_policy_for_what_leaves_keeps_nobody_from_coming() -> None:
    server = Server(egressfirewalls_k8s=[policy("e")])
    assert found(server, ("k8s.ovn.org", "v1", "egressfirewalls")) == []
