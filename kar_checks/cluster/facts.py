"""What is asked of a cluster once, before anything is created: version, nodes, kinds, rights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.target import Target
from kar_checks.model import NodeInfo, Reason

_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@dataclass(frozen=True)
class Facts:
    """Read-only knowledge about the target cluster. ``nodes`` is ``None`` if we may not list."""

    version: str
    user: str
    cluster_uid: str
    nodes: list[Object] | None
    served: frozenset[tuple[str, str, str]]
    """(group, version, resource) of everything that is served, subresources as ``pods/resize``."""

    @property
    def minor(self) -> tuple[int, int]:
        """(major, minor) of the server."""
        major, minor = self.version.lstrip("v").split(".")[:2]
        return int(major), int("".join(c for c in minor if c.isdigit()))

    def serves(self, group: str, version: str, resource: str) -> bool:
        """Say whether a resource is in the server's discovery."""
        return (group, version, resource) in self.served

    def serves_group(self, group: str) -> bool:
        """Say whether a version of an API group is in the server's discovery."""
        return any(one == group for one, _, _ in self.served)

    def usable_nodes(self, target: Target) -> list[Object]:
        """Return the nodes on which pods of ours may run."""
        return [one for one in self.nodes or [] if why_unusable(one, target) == ""]


def why_unusable(node: Object, target: Target) -> str:
    """Say why pods of ours may not run on a node; empty if they may."""
    labels: dict[str, str] = node["metadata"].get("labels") or {}
    spec: Object = node.get("spec") or {}
    if labels.get("kubernetes.io/os") != "linux":
        return "it does not run Linux"
    if labels.get("kubernetes.io/arch") not in target.architectures:
        return f"its architecture is {labels.get('kubernetes.io/arch')}"
    for key, value in target.node_selector.items():
        if labels.get(key) != value:
            return f"it lacks the label {key}={value} of --node-selector"
    if spec.get("unschedulable"):
        return "it is cordoned"
    if not node_ready(node):
        return "it is not Ready"
    if taints := untolerated(node, target):
        told = [taint_text(one) for one in taints]
        which = f"taint {told[0]}" if len(told) == 1 else f"taints {' and '.join(told)}"
        given = " ".join(f"--toleration {one}" for one in told)
        return f"it has the {which}, give {given}"
    return ""


def untolerated(node: Object, target: Target) -> list[Object]:
    """Return the taints of a node that keep pods of ours away."""
    return [
        one
        for one in (node.get("spec") or {}).get("taints") or []
        if one.get("effect") in ("NoSchedule", "NoExecute") and not target.tolerates(one)
    ]


def devices(node: Object) -> list[str]:
    """Return the names of the extended resources that a node offers, accelerators among them."""
    offers: dict[str, Any] = (node.get("status") or {}).get("allocatable") or {}
    return sorted(
        name
        for name, amount in offers.items()
        if "/" in name and "kubernetes.io/" not in name and str(amount) not in ("0", "")
    )


def taint_text(taint: Object) -> str:
    """Return a taint in the form that ``--toleration`` takes."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def node_ready(node: Object) -> bool:
    """Say whether a node reports Ready."""
    conditions: list[Object] = (node.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def node_info(node: Object) -> NodeInfo:
    """Return the record of a node that a run stores; no addresses."""
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    labels: dict[str, str] = meta.get("labels") or {}
    info: dict[str, Any] = status.get("nodeInfo") or {}
    allocatable: dict[str, Any] = status.get("allocatable") or {}
    return NodeInfo(
        name=meta["name"],
        uid=meta["uid"],
        ready=node_ready(node),
        unschedulable=bool(spec.get("unschedulable")),
        taints=[taint_text(one) for one in spec.get("taints") or []],
        os=str(info.get("osImage", "")),
        architecture=str(info.get("architecture", "")),
        kernel=str(info.get("kernelVersion", "")),
        kubelet=str(info.get("kubeletVersion", "")),
        runtime=str(info.get("containerRuntimeVersion", "")),
        instance_type=labels.get("node.kubernetes.io/instance-type", ""),
        zone=labels.get("topology.kubernetes.io/zone", ""),
        cpu=str(allocatable.get("cpu", "")),
        memory=str(allocatable.get("memory", "")),
    )


def gather(cluster: Cluster) -> Facts:
    """Ask the cluster; what we may not see is missing, not guessed.

    Raises:
        HarnessError: the server cannot be reached, or does not accept the credentials.
    """
    version = str(cluster.call("GET", "/version", patient=False).get("gitVersion"))
    if not re.match(r"v?\d+\.\d+", version):
        raise HarnessError(
            Reason.API_ERROR,
            f"{cluster.connection.server} reports no Kubernetes version",
            "is this address really a Kubernetes API server?",
        )
    user = _whoami(cluster)
    if user == "system:anonymous":
        who = cluster.connection.credentials
        raise HarnessError(
            Reason.FORBIDDEN,
            f"{cluster.connection.server} treats us as system:anonymous"
            + (f": {who.describe()}" if who is not None else ""),
            "get a kubeconfig with credentials; a proxy or load balancer that ends TLS loses "
            "client certificates",
        )
    return Facts(
        version=version,
        user=user,
        cluster_uid=_cluster_uid(cluster),
        nodes=_nodes(cluster),
        served=_discover(cluster),
    )


def may(
    cluster: Cluster, verb: str, group: str, resource: str, namespace: str, name: str = ""
) -> bool:
    """Ask the server whether we have a right.

    An empty namespace means cluster-wide, an empty name every object.
    """
    plain, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": plain, "namespace": namespace}
    if subresource:
        attributes["subresource"] = subresource
    if name:
        attributes["name"] = name
    body = {
        "apiVersion": kinds.ACCESS_REVIEW.api_version,
        "kind": kinds.ACCESS_REVIEW.kind,
        "spec": {"resourceAttributes": attributes},
    }
    answer = cluster.review(kinds.ACCESS_REVIEW, body)
    return bool((answer.get("status") or {}).get("allowed"))


def _whoami(cluster: Cluster) -> str:
    body = {"apiVersion": kinds.SELF_REVIEW.api_version, "kind": kinds.SELF_REVIEW.kind}
    try:
        answer = cluster.review(kinds.SELF_REVIEW, body)
    except ApiError as error:
        if error.status == 401:
            raise
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username", ""))


def _cluster_uid(cluster: Cluster) -> str:
    try:
        found = cluster.get(kinds.NAMESPACE, "kube-system")
    except ApiError:
        return ""
    return str(found["metadata"]["uid"])


def _nodes(cluster: Cluster) -> list[Object] | None:
    try:
        return cluster.list(kinds.NODE).items
    except ApiError as error:
        if error.status == 403:
            return None
        raise


def _discover(cluster: Cluster) -> frozenset[tuple[str, str, str]]:
    """Read what is served; as in client-go, from the older lists where they are answered.

    Raises:
        HarnessError: the answer is none of discovery.
    """
    served: set[tuple[str, str, str]] = set()
    older: list[tuple[str, str]] = []
    for root in ("/api", "/apis"):
        answer = cluster.call("GET", root, accept=_DISCOVERY)
        if isinstance(answer.get("items"), list):
            served |= _aggregated(answer)
        elif isinstance(answer.get("versions"), list):  # APIVersions
            older += [("", str(version)) for version in answer["versions"]]
        elif isinstance(answer.get("groups"), list):  # APIGroupList
            older += [
                (str(group["name"]), str(version["version"]))
                for group in answer["groups"]
                for version in group.get("versions") or []
            ]
        else:
            raise HarnessError(
                Reason.API_ERROR,
                f"GET {root}: the answer ({answer.get('kind') or 'without a kind'}) does not list "
                "what is served",
                "check what is in front of the API server: `kubectl get --raw /apis`",
            )
    for group, version in older:
        served |= _listed(cluster, group, version)
    return frozenset(served)


def _aggregated(answer: Object) -> set[tuple[str, str, str]]:
    served: set[tuple[str, str, str]] = set()
    for group in answer["items"]:
        name = str((group.get("metadata") or {}).get("name", ""))
        for version in group.get("versions") or []:
            for one in version.get("resources") or []:
                resource = str(one["resource"])
                served.add((name, str(version["version"]), resource))
                for sub in one.get("subresources") or []:
                    served.add((name, str(version["version"]), f"{resource}/{sub['subresource']}"))
    return served


def _listed(cluster: Cluster, group: str, version: str) -> set[tuple[str, str, str]]:
    """Read one APIResourceList; a group whose own server is away serves nothing now."""
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        answer = cluster.call("GET", path)
    except ApiError:
        return set()
    return {(group, version, str(one["name"])) for one in answer.get("resources") or []}
