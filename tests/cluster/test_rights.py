"""No cluster-admin: a run under the printed rights says the same, and a missing one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import Kind
from kar_checks.local import local_images
from localcluster import LocalCluster
from tests.cluster.injections import SHORT_WINDOWS
from tests.cluster.injections.throughput import LENIENT
from tests.cluster.support import EVERYTHING, UNASKED, Done, Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")

_RBAC = "rbac.authorization.k8s.io"
_KINDS = {
    "ServiceAccount": Kind("", "v1", "serviceaccounts", "ServiceAccount"),
    "Role": Kind(_RBAC, "v1", "roles", "Role"),
    "RoleBinding": Kind(_RBAC, "v1", "rolebindings", "RoleBinding"),
    "ClusterRole": Kind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    "ClusterRoleBinding": Kind(
        _RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
    ),
}


@contextmanager
def account(
    cluster: Cluster, local: LocalCluster, objects: list[Object], folder: Path
) -> Iterator[Path]:
    """Apply printed rights, and give a kubeconfig of their service account."""
    made: list[tuple[Kind, str, str]] = []
    try:
        for body in objects:
            kind, meta = _KINDS[body["kind"]], body["metadata"]
            cluster.create(kind, body, meta.get("namespace", ""))
            made.append((kind, meta["name"], meta.get("namespace", "")))
        yield _kubeconfig(cluster, local, objects[0]["metadata"], folder)
    finally:
        for kind, name, namespace in reversed(made):
            cluster.delete(kind, name, namespace)


def _kubeconfig(cluster: Cluster, local: LocalCluster, meta: dict[str, str], folder: Path) -> Path:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{meta['name']}/token"
    token = cluster.call("POST", path, body=request)["status"]["token"]
    config: dict[str, Any] = yaml.safe_load(local.kubeconfig.read_text("utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = folder / "account.kubeconfig"
    file.write_text(yaml.safe_dump(config), "utf-8")
    file.chmod(0o600)
    return file


def run_as(kar: Kar, kubeconfig: Path, *words: str) -> Done:
    images = [word for one in local_images().items() for word in ("--image", "=".join(one))]
    found = kar("run", "--kubeconfig", str(kubeconfig), *images, "--output",
                str(kar.output), "--no-report", *words)  # fmt: skip
    latest = kar.output / "latest"
    return Done(found.code, found.output, latest.resolve() if latest.exists() else None)


@pytest.mark.addons(*EVERYTHING)
def test_the_printed_rights_are_enough_for_everything(
    kar: Kar, cluster: Cluster, local: LocalCluster, tmp_path: Path
) -> None:
    printed = list(yaml.safe_load_all(kar("rbac").output))
    everything = [rule for body in printed for rule in body.get("rules", [])]
    assert not any("*" in [*rule["verbs"], *rule["resources"]] for rule in everything)
    with account(cluster, local, printed, tmp_path) as kubeconfig:
        limited = run_as(kar, kubeconfig, *SHORT_WINDOWS, *LENIENT)
    assert [name for name, *_ in limited.not_passed()] == ["gateway.claimed_features"]
    assert limited.code == 0, limited.output
    assert {one.check for one in limited.run.findings} == UNASKED


def test_a_namespaced_role_is_enough_in_a_named_namespace(
    kar: Kar, cluster: Cluster, local: LocalCluster, tmp_path: Path
) -> None:
    checks = ["resize.limits_only", "resize.restart_policy", "resize.qos_change_refused"]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
    cluster.create(kinds.NAMESPACE, space)
    try:
        printed = list(yaml.safe_load_all(kar("rbac", *checks, "--namespace", "team-a").output))
        assert {body["kind"] for body in printed} == {"ServiceAccount", "Role", "RoleBinding"}
        with account(cluster, local, printed, tmp_path) as kubeconfig:
            done = run_as(kar, kubeconfig, *checks, "--namespace", "team-a")
        assert done.code == 0, done.output
        assert cluster.find(kinds.NAMESPACE, "team-a") is not None
    finally:
        cluster.delete(kinds.NAMESPACE, "team-a")


def test_a_missing_right_is_an_error_that_names_it(
    kar: Kar, cluster: Cluster, local: LocalCluster, tmp_path: Path
) -> None:
    printed = list(yaml.safe_load_all(kar("rbac", "resize.limits_only").output))
    for body in printed:
        for rule in body.get("rules", []):
            rule["resources"] = [one for one in rule["resources"] if one != "pods/resize"]
        if "rules" in body:
            body["rules"] = [rule for rule in body["rules"] if rule["resources"]]
    with account(cluster, local, printed, tmp_path) as kubeconfig:
        done = run_as(kar, kubeconfig, "resize.limits_only")
        finding = done.finding("resize.limits_only")
        planned = kar("plan", "--kubeconfig", str(kubeconfig), "resize.limits_only")
    assert (finding.outcome.value, finding.reason) == ("error", "forbidden")
    assert "pods/resize" in finding.summary
    assert "kar rbac" in finding.help
    assert done.code == 10
    assert planned.code == 12
    assert "missing" in planned.output
