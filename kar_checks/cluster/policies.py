"""Network policies that somebody else put where pods of ours run: they explain lost traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import NETWORK_POLICY, Kind
from kar_checks.cluster.target import MANAGED_BY, SUITE

ADVICE = (
    "have whoever makes the policy leave this namespace out, or name one with --namespace in "
    "which pods may talk to each other, to the DNS and to the gateway"
)

_EGRESS_ONLY = Kind("k8s.ovn.org", "v1", "egressfirewalls", "EgressFirewall")
_OTHERS = (
    Kind("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy"),
    Kind(
        "cilium.io",
        "v2",
        "ciliumclusterwidenetworkpolicies",
        "CiliumClusterwideNetworkPolicy",
        namespaced=False,
    ),
    Kind("projectcalico.org", "v3", "networkpolicies", "NetworkPolicy"),
    Kind(
        "projectcalico.org",
        "v3",
        "globalnetworkpolicies",
        "GlobalNetworkPolicy",
        namespaced=False,
    ),
    Kind("crd.projectcalico.org", "v1", "networkpolicies", "NetworkPolicy"),
    Kind(
        "crd.projectcalico.org",
        "v1",
        "globalnetworkpolicies",
        "GlobalNetworkPolicy",
        namespaced=False,
    ),
    Kind("crd.antrea.io", "v1beta1", "networkpolicies", "NetworkPolicy"),
    Kind(
        "crd.antrea.io",
        "v1beta1",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
        namespaced=False,
    ),
    Kind(
        "policy.networking.k8s.io",
        "v1alpha1",
        "adminnetworkpolicies",
        "AdminNetworkPolicy",
        namespaced=False,
    ),
    Kind(
        "policy.networking.k8s.io",
        "v1alpha1",
        "baselineadminnetworkpolicies",
        "BaselineAdminNetworkPolicy",
        namespaced=False,
    ),
    Kind(
        "policy.networking.k8s.io",
        "v1alpha2",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
        namespaced=False,
    ),
    _EGRESS_ONLY,
)


@dataclass(frozen=True)
class Policy:
    """A policy that may cut traffic of pods of ours."""

    kind: str
    name: str
    namespace: str
    """Empty if it holds in the whole cluster."""
    denies: tuple[str, ...]
    """Of a NetworkPolicy, the directions in which it allows nothing; of other kinds empty."""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else " of the cluster"
        what = f" (allows no {' and no '.join(self.denies)})" if self.denies else ""
        return f"{self.kind} {self.name}{where}{what}"


def standing(
    cluster: Cluster, facts: Facts, namespace: str, labels: Mapping[str, str] | None = None
) -> list[Policy]:
    """Return the policies of others that may hold for pods of ours in a namespace.

    With ``labels`` NetworkPolicies that do not select such pods are left out. Other kinds are named
    without being understood: cluster-wide ones may well say nothing about this namespace. What we
    may not list is missing. Policies that deny everything come first.
    """
    found: list[Policy] = []
    for item in _listed(cluster, facts, NETWORK_POLICY, namespace):
        spec = item.get("spec") or {}
        if labels is None or selects(spec.get("podSelector") or {}, labels):
            found.append(_policy(NETWORK_POLICY, item, _denied(spec)))
    for kind in _OTHERS:
        found += [_policy(kind, one, ()) for one in _listed(cluster, facts, kind, namespace)]
    return sorted(found, key=lambda one: (not one.denies, not one.namespace, one.kind, one.name))


def restricting(
    cluster: Cluster,
    facts: Facts,
    namespace: str,
    labels: Mapping[str, str] | None = None,
    *,
    cluster_wide: bool = False,
) -> list[str]:
    """Return the policies that restrict who may reach pods with these labels, as ``Kind name``.

    Without ``labels`` they may be about any pods of the namespace. One that lets everybody in is
    left out. Those for the ``cluster_wide`` may be about other pods: they are wanted where nothing
    else explains what is seen.
    """
    found = [
        f"{NETWORK_POLICY.kind} {one['metadata']['name']}"
        for one in _listed(cluster, facts, NETWORK_POLICY, namespace)
        if _restricts(one.get("spec") or {}, labels)
    ]
    for kind in _OTHERS:
        if kind is not _EGRESS_ONLY and (kind.namespaced or cluster_wide):
            found += [
                f"{kind.kind} {one['metadata']['name']}"
                for one in _listed(cluster, facts, kind, namespace)
            ]
    return list(dict.fromkeys(found))


def _restricts(spec: Object, labels: Mapping[str, str] | None) -> bool:
    if "Ingress" not in (spec.get("policyTypes") or ["Ingress"]):
        return False
    rules: list[Object] = spec.get("ingress") or []
    everybody = any(not rule.get("from") and not rule.get("ports") for rule in rules)
    about = labels is None or selects(spec.get("podSelector") or {}, labels)
    return about and not everybody


def sentence(found: Iterable[Policy]) -> str:
    """Name the policies that are worth a look, the likeliest culprits first; empty for none."""
    named = [str(one) for one in found]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{', '.join(named[:3])}{more}"


def _listed(cluster: Cluster, facts: Facts, kind: Kind, namespace: str) -> list[Object]:
    if kind is not NETWORK_POLICY and not facts.serves(kind.group, kind.version, kind.plural):
        return []
    try:
        items = cluster.list(kind, namespace if kind.namespaced else "").items
    except ApiError:
        return []  # not ours to see, or not served after all
    return [one for one in items if (one["metadata"].get("labels") or {}).get(MANAGED_BY) != SUITE]


def _policy(kind: Kind, item: Object, denies: tuple[str, ...]) -> Policy:
    meta = item["metadata"]
    return Policy(kind.kind, str(meta["name"]), str(meta.get("namespace") or ""), denies)


def _denied(spec: Object) -> tuple[str, ...]:
    kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    out: list[str] = []
    if "Ingress" in kinds and not spec.get("ingress"):
        out.append("traffic to pods")
    if "Egress" in kinds and not spec.get("egress"):
        out.append("traffic from pods")
    return tuple(out)


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector may select an object; an unknown operator may."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions") or []:
        value, values = labels.get(str(one.get("key"))), one.get("values") or []
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits.get(str(one.get("operator")), True):
            return False
    return True
