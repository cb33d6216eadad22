"""Kueue through a queue that is the user's: nothing cluster-scoped is made or needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from kar_checks.checks.gang.placement import RIVALS
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.kinds import Kind
from kar_checks.model import Outcome
from localcluster import LocalCluster
from tests.cluster.injections.gang_backends import ADDONS, SHORT, only
from tests.cluster.support import Kar
from tests.cluster.test_rights import account, run_as

_GANG = "kar-checks.dev/gang"
_WATCH_SECONDS = 400.0

pytestmark = [pytest.mark.addons(*ADDONS), pytest.mark.usefixtures("leaves_nothing")]


def test_a_users_queue_needs_rights_in_its_namespace_only(
    kar: Kar, cluster: Cluster, local: LocalCluster, tmp_path: Path
) -> None:
    words = (
        *("gang", "--namespace", "team-b", *only("kueue")),
        *("--set", "gang.kueue_local_queue=shared", *SHORT),
    )
    with users_queue(cluster, "team-b", "shared"):
        printed = list(yaml.safe_load_all(kar("rbac", *words).output))
        assert {body["kind"] for body in printed} == {"ServiceAccount", "Role", "RoleBinding"}
        with account(cluster, local, printed, tmp_path) as kubeconfig:
            planned = kar("plan", "--kubeconfig", str(kubeconfig), *words)
        there = [body for body in printed if body["metadata"]["namespace"] == "team-b"]
        with account(cluster, local, there, tmp_path) as kubeconfig:
            done = run_as(kar, kubeconfig, *words)
        left = cluster.list(_KUEUE["workloads"], "team-b").items
    config = "configmaps kueue-manager-config in the namespace kueue-system"
    assert config in planned.output
    assert "missing" not in planned.output
    assert done.code == 0, done.output
    assert {(one.variant, one.outcome) for one in done.run.findings} == {("kueue", Outcome.PASS)}
    assert len(done.run.findings) == 5
    told = {one.name: one.value for one in done.finding("gang.all_or_nothing").facts}
    assert told["waitForPodsReady"] == (
        "could not be read in the ConfigMap kueue-manager-config of kueue-system"
    )
    assert left == []


def test_quota_that_its_owner_takes_back_is_no_fault_of_the_gang(
    kar: Kar, cluster: Cluster, local: LocalCluster
) -> None:
    words = (
        *("gang.two_gangs", "gang.all_or_nothing", "--namespace", "team-c", *only("kueue")),
        *("--set", "gang.kueue_local_queue=borrower", *SHORT),
        # The gang is still there when its quota is asked for, however busy the machine is.
        *("--set", "gang.hold_seconds=40", "--set", "gang.window_seconds=1"),
    )
    with (
        users_queue(cluster, "team-c", "borrower", owner="owner"),
        taken_back(local, "team-c", "owner"),
    ):
        done = kar.run(*words)
    lost = done.finding("gang.two_gangs")
    assert (lost.outcome, lost.reason) == (Outcome.INCONCLUSIVE, "preempted"), done.output
    assert "Kueue took back the quota of our Workload" in lost.summary
    assert "reclamation within the cohort" in lost.summary
    assert "nobody else uses this queue or its cohort" in lost.help
    told = {one.name: one.value for one in done.finding("gang.all_or_nothing").facts}
    assert told["quota larger than the cluster"].startswith("50000 m CPU can be given, and the ")
    assert told["waitForPodsReady"].startswith("off")
    assert done.code == 11, done.output


def _kueue(plural: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind("kueue.x-k8s.io", "v1beta2", plural, kind, namespaced=namespaced)


_KUEUE = {
    "workloads": _kueue("workloads", "Workload", namespaced=True),
    "flavor": _kueue("resourceflavors", "ResourceFlavor"),
    "quota": _kueue("clusterqueues", "ClusterQueue"),
    "queue": _kueue("localqueues", "LocalQueue", namespaced=True),
}


@contextmanager
def users_queue(cluster: Cluster, namespace: str, name: str, *, owner: str = "") -> Iterator[None]:
    """A namespace with a LocalQueue, whose quota is larger than the cluster.

    All of it is borrowed from the queue ``owner``, if there is one, which may take it back.
    """
    queues = {name: "0", owner: "50"} if owner else {name: "50"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    cluster.create(kinds.NAMESPACE, space)
    try:
        _create(cluster, "flavor", name, {})
        for queue, cpu in queues.items():
            resources = [
                {"name": "cpu", "nominalQuota": cpu},
                {"name": "memory", "nominalQuota": f"{cpu}Gi"},
            ]
            group = {
                "coveredResources": ["cpu", "memory"],
                "flavors": [{"name": name, "resources": resources}],
            }
            spec: Object = {"namespaceSelector": {}, "resourceGroups": [group]}
            if owner:
                spec |= {"cohortName": name, "preemption": {"reclaimWithinCohort": "Any"}}
            _create(cluster, "quota", queue, spec)
            _create(cluster, "queue", queue, {"clusterQueue": queue}, namespace)
        yield
    finally:
        cluster.delete(kinds.NAMESPACE, namespace)
        for queue in queues:
            cluster.delete(_KUEUE["quota"], queue)
        cluster.delete(_KUEUE["flavor"], name)


def _create(cluster: Cluster, key: str, name: str, spec: Object, namespace: str = "") -> None:
    kind = _KUEUE[key]
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}
    cluster.create(kind, {**body, "spec": spec}, namespace)


@contextmanager
def taken_back(local: LocalCluster, namespace: str, queue: str) -> Iterator[None]:
    """Ask ``queue`` for quota once a gang of the contest has its nodes, until that one is over.

    Kueue takes it from the youngest of ours, in whole seconds: the gang, or the filler beside it.
    """
    container: Object = {
        "name": "main",
        "image": "none",
        "resources": {"requests": {"cpu": "120m", "memory": "16Mi"}},
    }
    stranger: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "labels": {"kueue.x-k8s.io/queue-name": queue}},
        "spec": {"nodeSelector": {"kubernetes.io/hostname": "none"}, "containers": [container]},
    }

    def follow(own: Cluster, version: str) -> None:
        present: dict[str, tuple[str, bool]] = {}
        asked = False
        for change, pod in own.watch(
            kinds.POD,
            namespace,
            resource_version=version,
            deadline=time.monotonic() + _WATCH_SECONDS,
            labels=_GANG,
        ):
            name, group = pod["metadata"]["name"], pod["metadata"]["labels"][_GANG]
            if not group.startswith("kueue-contest-"):
                continue
            present[name] = (group, "nodeName" in pod["spec"])
            if change == "DELETED":
                del present[name]
            if not asked and [*present.values()].count((group, True)) == RIVALS:
                own.create(kinds.POD, stranger, namespace)
                asked = True
            if asked and not present:
                own.delete(kinds.POD, "stranger", namespace)
                return

    with (
        contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own,
        ThreadPoolExecutor(max_workers=1) as pool,
    ):
        begin = own.list(kinds.POD, namespace, labels=_GANG).resource_version
        following = pool.submit(follow, own, begin)
        try:
            yield
        finally:
            own.stop()
        following.result()
