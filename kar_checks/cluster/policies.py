"""Policies of the network that may keep traffic from pods of ours, by the names of their objects.

A policy generated in every new namespace is the usual reason why nobody answers there.
"""

from __future__ import annotations

from collections.abc import Mapping

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import MANAGED_BY, SUITE

# Of these APIs only the existence is looked at: each has a language of its own.
_FOREIGN = {
    ("cilium.io", "ciliumnetworkpolicies"): ("CiliumNetworkPolicy", True),
    ("cilium.io", "ciliumclusterwidenetworkpolicies"): ("CiliumClusterwideNetworkPolicy", False),
    ("crd.projectcalico.org", "networkpolicies"): ("NetworkPolicy.crd.projectcalico.org", True),
    ("crd.projectcalico.org", "globalnetworkpolicies"): ("GlobalNetworkPolicy", False),
    ("policy.networking.k8s.io", "adminnetworkpolicies"): ("AdminNetworkPolicy", False),
    ("policy.networking.k8s.io", "baselineadminnetworkpolicies"): (
        "BaselineAdminNetworkPolicy",
        False,
    ),
    ("policy.networking.k8s.io", "clusternetworkpolicies"): ("ClusterNetworkPolicy", False),
}


def restricting(
    cluster: Cluster,
    facts: Facts,
    namespace: str,
    labels: Mapping[str, str] | None = None,
    *,
    cluster_wide: bool = False,
) -> list[str]:
    """Return the policies that restrict who may reach pods with these labels, as ``Kind name``.

    Without ``labels`` they may be about any pods of the namespace. Ours are left out, and so is one
    that lets everybody in. What we may not list is missing. Those for the ``cluster_wide`` may be
    about other pods: they are wanted where nothing else explains what is seen.
    """
    found = [
        f"{kinds.NETWORK_POLICY.kind} {one['metadata']['name']}"
        for one in _listed(cluster, kinds.NETWORK_POLICY, namespace)
        if _restricts(one, labels)
    ]
    for group, version, plural in sorted(facts.served):
        known = _FOREIGN.get((group, plural))
        if known and (known[1] or cluster_wide):
            kind = Kind(group, version, plural, known[0], namespaced=known[1])
            found += [
                f"{kind.kind} {one['metadata']['name']}"
                for one in _listed(cluster, kind, namespace if kind.namespaced else "")
            ]
    return list(dict.fromkeys(found))


def _listed(cluster: Cluster, kind: Kind, namespace: str) -> list[Object]:
    try:
        found = cluster.list(kind, namespace).items
    except ApiError:
        return []
    return [one for one in found if (one["metadata"].get("labels") or {}).get(MANAGED_BY) != SUITE]


def _restricts(policy: Object, labels: Mapping[str, str] | None) -> bool:
    spec: Object = policy.get("spec") or {}
    rules: list[Object] = spec.get("ingress") or []
    if "Ingress" not in (spec.get("policyTypes") or ["Ingress"]):
        return False
    everybody = any(not rule.get("from") and not rule.get("ports") for rule in rules)
    about = labels is None or selects(spec.get("podSelector") or {}, labels)
    return about and not everybody


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector of the API selects an object with these labels."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for one in selector.get("matchExpressions") or []:
        value, values = labels.get(one["key"]), one.get("values") or []
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(one["operator"], False):
            return False
    return True
