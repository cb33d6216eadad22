"""What a user meets in the first hour on a cluster that somebody else guards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.target import Target
from localcluster import PROBE_IMAGES, LocalCluster
from tests.cluster.injections.webhook import Answer, webhook
from tests.cluster.support import Kar
from tests.unit.between import HttpProxy, SocksProxy

pytestmark = pytest.mark.usefixtures("leaves_nothing")

CHECK = "resize.memory_up"
_PODS = [
    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
]
_PROBE = ("doctor", "--probe", "--set", "doctor.idle_seconds=3", CHECK)
MIRROR = "mirror.test/kar"


# -- doctor ------------------------------------------------------------------------------------


@contextmanager
def gpu_nodes(cluster: Cluster) -> Iterator[None]:
    """One of the three nodes is for those who want its accelerators."""
    name = cluster.list(kinds.NODE).items[-1]["metadata"]["name"]
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    cluster.patch(kinds.NODE, name, {"spec": {"taints": [taint]}})
    try:
        yield
    finally:
        cluster.patch(kinds.NODE, name, {"spec": {"taints": None}})


def test_the_doctors_pods_try_what_checks_rely_on(kar: Kar, cluster: Cluster) -> None:
    with gpu_nodes(cluster):
        found = kar(*_PROBE, "--local-cluster")
    text = found.output
    assert found.code == 0, text
    for told in (
        "pulled and started docker.io/kar-checks/python:local",
        "exec works",
        "logs can be read",
        "kubernetes.default.svc resolves in a pod",
        "a pod reaches another",
        "a watch that was silent for 3 s still delivers events",
        "pass --toleration nvidia.com/gpu=present:NoSchedule",
        "no blockers (1 note above)",
    ):
        assert told in text, text
    last = text.rstrip().splitlines()[-1].strip()
    assert last == (
        f"kar run --local-cluster {CHECK} --set=doctor.idle_seconds=3 "
        "--toleration=nvidia.com/gpu=present:NoSchedule"
    )


@pytest.mark.addons("network-policy")
def test_a_default_deny_policy_is_named(kar: Kar, cluster: Cluster) -> None:
    name = "team-walled"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    meta = {"name": name, "labels": labels}
    cluster.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    cluster.create(kinds.NETWORK_POLICY, policy, name)
    try:
        found = kar(*_PROBE, "--local-cluster", "--namespace", name)
    finally:
        cluster.delete(kinds.NAMESPACE, name)
    assert found.code == 12, found.output
    assert "a pod cannot reach another" in found.output
    assert f"NetworkPolicy deny-all in {name} (allows no traffic to pods" in found.output


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_everything_goes_through_a_proxy_with_a_password(
    kar: Kar, local: LocalCluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    port = int(cluster.connection.server.rpartition(":")[2])
    host = re.sub(r"^https://|:\d+$", "", cluster.connection.server)
    between: HttpProxy | SocksProxy
    if kind == "http":
        between = HttpProxy(port, credentials="me:p@ss", host=host)
    else:
        between = SocksProxy(port, credentials=("me", "p@ss"), host=host)
    monkeypatch.setenv("HTTPS_PROXY", f"{kind}://me:p%40ss@127.0.0.1:{between.port}")
    images = [f"--image={name}={reference}" for name, reference in PROBE_IMAGES.items()]
    found = kar(*_PROBE, "--kubeconfig", str(local.kubeconfig), *images)
    between.close()
    assert found.code == 0, found.output
    assert "exec works" in found.output
    seen = between.heads if isinstance(between, HttpProxy) else between.names
    assert len(seen) > 3, "it was passed by"


# -- webhooks ----------------------------------------------------------------------------------


def _images(change: Callable[[str], str]) -> Callable[[Object], Answer]:
    def respond(request: Object) -> Answer:
        boxes = request["object"]["spec"]["containers"]
        return [
            {
                "op": "replace",
                "path": f"/spec/containers/{index}/image",
                "value": change(str(box["image"])),
            }
            for index, box in enumerate(boxes)
        ]

    return respond


@pytest.fixture
def both_names(local: LocalCluster) -> Iterator[None]:
    """Every node has the images under their public names, and under those of a mirror."""
    names = {
        here: [
            # Containerd knows an image with tag and digest by its digest alone.
            re.sub(r":[^@/]+@", "@", target.image(name))
            for target in (Target(), Target(image_prefix=MIRROR))
        ]
        for name, here in PROBE_IMAGES.items()
    }
    for node in local.nodes:
        for here, others in names.items():
            for there in others:
                local.images(node, "tag", here, there)
    yield
    for node in local.nodes:
        local.images(node, "rm", *(there for others in names.values() for there in others))


@pytest.mark.usefixtures("both_names")
def test_a_registry_that_is_rewritten_with_its_digest_changes_nothing(
    kar: Kar, local: LocalCluster, cluster: Cluster
) -> None:
    respond = _images(lambda image: image.replace("docker.io", MIRROR))
    with webhook(cluster, name="mirrors", rules=_PODS, respond=respond, mutating=True):
        words = ("--kubeconfig", str(local.kubeconfig), "--output", str(kar.output))
        done = kar("run", CHECK, *words)
    assert done.code == 0, done.output


def test_another_image_decides_nothing_and_the_prefix_is_advised(
    kar: Kar, cluster: Cluster
) -> None:
    respond = _images(lambda image: image.replace("/python:", "/net:"))
    with webhook(cluster, name="replaces", rules=_PODS, respond=respond, mutating=True):
        done = kar.run(CHECK)
    finding = done.finding(CHECK)
    assert (finding.outcome.value, finding.reason) == ("inconclusive", "mutated"), done.output
    assert "--image-prefix" in finding.help


def test_a_gate_of_kueue_is_named_at_once(kar: Kar, cluster: Cluster) -> None:
    gate = [{"name": "kueue.x-k8s.io/admission"}]

    def respond(_: Object) -> Answer:
        return [{"op": "add", "path": "/spec/schedulingGates", "value": gate}]

    with webhook(cluster, name="gates", rules=_PODS, respond=respond, mutating=True):
        done = kar.run(CHECK)
    finding = done.finding(CHECK)
    assert (finding.outcome.value, finding.reason) == ("error", "unschedulable"), done.output
    assert "Kueue gates it" in finding.summary
    assert "--label kueue.x-k8s.io/queue-name=" in finding.help
    assert done.run.info.costs[0].seconds < 60
