"""An air gap: registry prefix and pull secret reach every pod of every topic."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kar_checks import paths
from kar_checks.checks.disaggregation import workload
from kar_checks.checks.registry import topics
from kar_checks.cluster.client import Object
from kar_checks.cluster.target import Target, pod_templates
from kar_checks.kit.topic import Topic, load

TARGET = Target(image_prefix="mirror.example/kar", pull_secrets=["mirror"])

OURS = [topic for topic in topics() if topic.id != "official"]
"""The official suite makes its own pods, as docs/gateway.md and `kar plan` say."""


def dressed(bodies: list[Object]) -> Iterator[Object]:
    """Every template of pods as it is sent."""
    for body in bodies:
        yield from pod_templates(TARGET.dress(body, run_id="r1", owner="host/1/2/3"))


def assert_mirrored(pod: Object) -> None:
    spec = pod["spec"]
    images = [one["image"] for one in [*spec["containers"], *(spec.get("initContainers") or [])]]
    assert images
    assert all(one.startswith("mirror.example/kar/") for one in images), images
    assert spec["imagePullSecrets"] == [{"name": "mirror"}]


@pytest.mark.parametrize("topic", OURS, ids=lambda one: one.id)
def test_every_pod_of_a_topic_comes_from_the_mirror(topic: Topic) -> None:
    pods = list(dressed([body for _, body in load(topic.manifests)(TARGET)]))
    assert pods
    for pod in pods:
        assert_mirrored(pod)


def test_pods_that_depend_on_the_cluster_come_from_it_too() -> None:
    """Groups where the cluster knows them, and a picker where it has pools."""
    deployments = {
        body["metadata"]["name"]: body
        for _, body in workload.manifests(TARGET)
        if body["kind"] == "Deployment"
    }
    groups = [workload.leader_worker_set(part, body) for part, body in deployments.items()]
    picker = TARGET.mirrored("registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0")
    assert picker == "mirror.example/kar/gateway-api-inference-extension/epp:v1.5.0"
    pods = list(dressed(groups))
    assert len(pods) == len(groups) > 0
    for pod in pods:
        assert_mirrored(pod)


def test_no_manifest_and_no_check_goes_round_it() -> None:
    """Every image is given to the templates, and every object goes through the workspace."""
    lines = [
        (path.name, line.strip())
        for path in paths.data("manifests").rglob("*.j2")
        for line in path.read_text("utf-8").splitlines()
        if re.match(r"\s*(- )?image:", line)
    ]
    assert len(lines) >= 11
    assert {line for _, line in lines} == {"image: {{ image | yaml }}"}
    root = paths.data("manifests").parent / "kar_checks" / "checks"
    texts = {path: path.read_text("utf-8") for path in root.rglob("*.py")}
    assert texts
    direct = [path.name for path, text in texts.items() if re.search(r"cluster\.create\(", text)]
    assert direct == []
