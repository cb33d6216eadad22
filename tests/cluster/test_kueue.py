"""Kueue through a queue that is the user's: nothing cluster-scoped is made or looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import Kind
from kar_checks.model import Outcome
from localcluster import LocalCluster
from tests.cluster.injections.gang_backends import ADDONS, SHORT
from tests.cluster.support import Kar
from tests.cluster.test_rights import account, run_as

pytestmark = [pytest.mark.addons(*ADDONS), pytest.mark.usefixtures("leaves_nothing")]


def test_a_users_queue_needs_rights_in_its_namespace_only(
    kar: Kar, cluster: Cluster, local: LocalCluster, tmp_path: Path
) -> None:
    words = (
        *("gang", "--namespace", "team-b", "--set", "gang.backends=kueue"),
        *("--set", "gang.kueue_local_queue=shared", *SHORT),
    )
    with users_queue(cluster, "team-b", "shared"):
        printed = list(yaml.safe_load_all(kar("rbac", *words).output))
        assert {body["kind"] for body in printed} == {"ServiceAccount", "Role", "RoleBinding"}
        with account(cluster, local, printed, tmp_path) as kubeconfig:
            done = run_as(kar, kubeconfig, *words)
        left = cluster.list(_KUEUE["workloads"], "team-b").items
    assert done.code == 0, done.output
    assert {(one.variant, one.outcome) for one in done.run.findings} == {("kueue", Outcome.PASS)}
    assert len(done.run.findings) == 5
    assert left == []


def _kueue(plural: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind("kueue.x-k8s.io", "v1beta2", plural, kind, namespaced=namespaced)


_KUEUE = {
    "workloads": _kueue("workloads", "Workload", namespaced=True),
    "flavor": _kueue("resourceflavors", "ResourceFlavor"),
    "quota": _kueue("clusterqueues", "ClusterQueue"),
    "queue": _kueue("localqueues", "LocalQueue", namespaced=True),
}


@contextmanager
def users_queue(cluster: Cluster, namespace: str, name: str) -> Iterator[None]:
    """A namespace with a LocalQueue, whose quota is larger than the cluster."""
    resources = [{"name": "cpu", "nominalQuota": "50"}, {"name": "memory", "nominalQuota": "50Gi"}]
    group = {
        "coveredResources": ["cpu", "memory"],
        "flavors": [{"name": name, "resources": resources}],
    }
    specs: dict[str, Object] = {
        "flavor": {},
        "quota": {"namespaceSelector": {}, "resourceGroups": [group]},
        "queue": {"clusterQueue": name},
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    cluster.create(kinds.NAMESPACE, space)
    try:
        for key, spec in specs.items():
            kind = _KUEUE[key]
            meta = {"name": name}
            body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
            cluster.create(kind, {**body, "spec": spec}, namespace if kind.namespaced else "")
        yield
    finally:
        cluster.delete(kinds.NAMESPACE, namespace)
        for key in ("quota", "flavor"):
            cluster.delete(_KUEUE[key], name)
