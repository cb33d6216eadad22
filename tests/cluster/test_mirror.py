"""An air gap: images that only a registry of one's own has, by the same digests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.target import Target
from localcluster import PROBE_IMAGES, LocalCluster
from tests.cluster.injections.webhook import Answer, webhook
from tests.cluster.support import Kar

PREFIX, SECRET = "mirror.test/kar", "mirror"
CHECK = "throughput.path_mtu"
"""A pod, and a Job whose pods its controller makes."""
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


@pytest.fixture
def mirrored(local: LocalCluster) -> Iterator[Target]:
    """Every node has the images under the names that a mirror gives them."""
    target = Target(image_prefix=PREFIX)
    # Containerd knows an image with tag and digest by its digest alone.
    names = {
        here: re.sub(r":[^@]+@", "@", target.image(name)) for name, here in PROBE_IMAGES.items()
    }
    for node in local.nodes:
        for here, there in names.items():
            local.images(node, "tag", here, there)
    yield target
    for node in local.nodes:
        local.images(node, "rm", *names.values())


def test_prefix_and_pull_secret_reach_every_pod_and_nothing_else_is_needed(
    local: LocalCluster, cluster: Cluster, kar: Kar, mirrored: Target
) -> None:
    seen: list[Object] = []

    def note(request: Object) -> Answer:
        seen.append(request["object"])
        return []

    with webhook(cluster, name="note-pods", rules=[PODS], respond=note, mutating=False):
        words = ("--image-prefix", PREFIX, "--pull-secret", SECRET)
        done = kar(
            *(
                "run",
                "--kubeconfig",
                str(local.kubeconfig),
                "--output",
                str(kar.output),
                "--no-report",
            ),
            *(CHECK, *words),
        )
    assert done.code == 0, done.output
    ours = [one for one in seen if "kar-checks.dev/run" in (one["metadata"].get("labels") or {})]
    images = {box["image"] for one in ours for box in one["spec"]["containers"]}
    assert len(ours) > 1
    assert images == {mirrored.image("net")}
    assert all(one["spec"]["imagePullSecrets"] == [{"name": SECRET}] for one in ours)
