"""The local cluster's own promises.

These tests end and kill the cluster of this machine. A running default cluster is what they
leave behind.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import ClusterError, LocalCluster
from localcluster.cgroups import processes
from localcluster.layout import CGROUPS
from localcluster.paths import STATE
from tests.cluster import leftovers

pytestmark = pytest.mark.localcluster

ROOT = Path(__file__).parents[2]


def localcluster(*words: str, timeout: float = 3600) -> str:
    """Run a command of the local cluster; returns what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "localcluster", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kubectl(cluster: LocalCluster, *words: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(
        [*cluster.kubectl, *words], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout + done.stderr


def gang_member(name: str, group: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "schedulingGroup": {"podGroupName": group},
                "containers": [
                    {
                        "name": "main",
                        "image": "docker.io/kar-checks/net:local",
                        "command": ["sleep", "3600"],
                    }
                ],
            },
        }
    )


def gang_group(name: str, version: str, size: int) -> str:
    return json.dumps(
        {
            "apiVersion": f"scheduling.k8s.io/{version}",
            "kind": "PodGroup",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"schedulingPolicy": {"gang": {"minCount": size}}},
        }
    )


def create(cluster: LocalCluster, *objects: str) -> None:
    deadline = time.monotonic() + 20
    while "not found" in kubectl(cluster, "get", "sa", "default", check=False):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for text in objects:
        kubectl(cluster, "create", "-f", "-", stdin=text)


def phases(cluster: LocalCluster) -> dict[str, str]:
    text = kubectl(cluster, "get", "pods", "--namespace=default", "-o", "json")
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in json.loads(text)["items"]}


def assert_gangs_work(cluster: LocalCluster, version: str) -> None:
    create(cluster, gang_group("g", version, 3), gang_member("a", "g"), gang_member("b", "g"))
    for _ in range(10):
        assert set(phases(cluster).values()) == {"Pending"}
        time.sleep(0.5)
    create(cluster, gang_member("c", "g"))
    deadline = time.monotonic() + 30
    while set(phases(cluster).values()) != {"Running"}:
        assert time.monotonic() < deadline, phases(cluster)
        time.sleep(0.2)
    kubectl(cluster, "delete", "pods", "--all", "--namespace=default")


@pytest.fixture(scope="module", autouse=True)
def a_running_default_cluster_at_the_end() -> Iterator[None]:
    yield
    localcluster("up")


@pytest.fixture
def cluster() -> LocalCluster:
    """The default cluster, whatever the test before did."""
    localcluster("up")
    return LocalCluster.load()


def test_down_leaves_nothing() -> None:
    localcluster("down")
    # The folder of all network namespaces and its mount are iproute2's, made at the first of them.
    for action in ("add", "delete"):
        subprocess.run(["ip", "netns", action, "first"], check=True)
    before = leftovers.take()
    localcluster("up")
    during = leftovers.take()
    # A comparison that sees nothing would prove nothing.
    seen = before.additions(during)
    assert set(seen) >= {"processes", "links", "routes", "namespaces", "cgroups", "folders"}
    assert seen["folders"] == [str(STATE.parent)]
    localcluster("down")
    assert before.additions(leftovers.take()) == {}
    with pytest.raises(ClusterError, match="no local cluster"):
        LocalCluster.load()


def test_a_start_builds_nothing_twice_and_a_running_cluster_is_kept() -> None:
    localcluster("down")
    assert "building" not in localcluster("up")
    cluster = LocalCluster.load()
    assert cluster.unready_reason() is None
    assert "already running" in localcluster("up")
    assert [node.holder_pid for node in LocalCluster.load().nodes] == [
        node.holder_pid for node in cluster.nodes
    ]


def test_keys_are_for_their_owner_only(cluster: LocalCluster) -> None:
    state = cluster.kubeconfig.parent
    assert state.stat().st_mode & 0o077 == 0
    open_files = [
        path
        for folder in (state / "pki", state / "kubeconfigs", state / "logs")
        for path in (*folder.iterdir(), cluster.kubeconfig)
        if path.stat().st_mode & 0o077
    ]
    assert open_files == []


def test_gangs_start_together(cluster: LocalCluster) -> None:
    assert_gangs_work(cluster, "v1beta1")


def test_a_component_is_changed_and_restored(cluster: LocalCluster) -> None:
    cluster.restart("kube-scheduler", feature_gates={"GenericWorkload": False})
    create(cluster, gang_group("s", "v1beta1", 3), gang_member("alone", "s"))
    deadline = time.monotonic() + 20
    while phases(cluster) != {"alone": "Running"}:
        # A scheduler that knows nothing of gangs starts a part of one.
        assert time.monotonic() < deadline, phases(cluster)
        time.sleep(0.2)
    kubectl(cluster, "delete", "pods", "--all", "--namespace=default")
    cluster.restart("kube-scheduler")
    create(cluster, gang_member("alone", "s"))
    time.sleep(5)
    assert phases(cluster) == {"alone": "Pending"}
    cluster.pause("kube-apiserver")
    assert cluster.unready_reason() == "the API server is not ready"
    cluster.resume("kube-apiserver")
    cluster.ready(30)
    kubectl(cluster, "delete", "pods", "--all", "--namespace=default")
    kubectl(cluster, "delete", "podgroups.scheduling.k8s.io", "--all", "--namespace=default")


def test_up_after_everything_was_killed(cluster: LocalCluster) -> None:
    create(cluster, gang_group("k", "v1beta1", 1), gang_member("killed", "k"))
    kubectl(cluster, "wait", "--for=condition=Ready", "pod/killed", "--timeout=30s")
    for pid in {pid for name in CGROUPS for pid in processes(name)}:
        os.kill(pid, signal.SIGKILL)
    localcluster("up")
    cluster = LocalCluster.load()
    assert cluster.unready_reason() is None
    assert_gangs_work(cluster, "v1beta1")


def test_up_after_its_record_was_lost(cluster: LocalCluster) -> None:
    record = cluster.kubeconfig.parent / "state.json"
    record.unlink()
    localcluster("up")
    assert LocalCluster.load().unready_reason() is None


@pytest.mark.parametrize("seconds", [1.0, 4.0, 9.0])
def test_up_after_a_start_was_killed(seconds: float) -> None:
    localcluster("down")
    with subprocess.Popen(
        [sys.executable, "-m", "localcluster", "up"], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as start:
        time.sleep(seconds)
        start.kill()
    localcluster("up")
    assert LocalCluster.load().unready_reason() is None


def test_gangs_can_be_switched_off() -> None:
    said = localcluster("up", "--set", "gang=off")
    assert "replacing" in said
    cluster = LocalCluster.load()
    assert "scheduling.k8s.io/v1beta1" not in kubectl(cluster, "api-versions")
    assert "podgroups" not in kubectl(cluster, "api-resources")


def test_the_api_can_be_served_while_pods_lose_the_field() -> None:
    localcluster("up", "--set", "gang=api-only")
    cluster = LocalCluster.load()
    create(cluster, gang_group("d", "v1beta1", 3), gang_member("dropped", "d"))
    pod = json.loads(kubectl(cluster, "get", "pod", "dropped", "-o", "json"))
    assert "schedulingGroup" not in pod["spec"]
    kubectl(cluster, "wait", "--for=condition=Ready", "pod/dropped", "--timeout=30s")


@pytest.mark.earlier_minor
def test_the_earlier_minor_does_the_same() -> None:
    localcluster("up", "--kubernetes", "1.36")
    cluster = LocalCluster.load()
    assert re.search(r"Server Version: v1\.36\.", kubectl(cluster, "version"))
    assert_gangs_work(cluster, "v1alpha2")
