"""Kueue that manages every pod and Job, whether it names a queue or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kar_checks.cluster.client import MERGE, Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import CONFIG_MAP, DEPLOYMENT, POD
from localcluster import LocalCluster
from localcluster.addons.install import wait_ready
from localcluster.addons.kueue import KUEUE
from tests.cluster.injections import injection
from tests.cluster.injections.gang_backends import ADDONS, only
from tests.cluster.injections.waiting import wait

_NAMESPACE, _CONFIG, _MANAGER = (
    "kueue-system",
    "kueue-manager-config",
    "kueue-controller-manager",
)
_KEY = "controller_manager_config.yaml"
_SWITCH = re.compile(r"^#? ?manageJobsWithoutQueueName: \w+$", re.MULTILINE)


@injection(addons=ADDONS, words=only("native"))
@contextmanager
def kueue_manages_everything(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """What names no queue is held back for ever, and every object of ours is one of those."""
    before = str(cluster.get(CONFIG_MAP, _CONFIG, _NAMESPACE)["data"][_KEY])
    bare = _SWITCH.sub("", before)
    try:
        _configure(cluster, f"{bare}\nmanageJobsWithoutQueueName: true\n")
        wait("gates on a pod that names no queue", lambda: _gated(cluster) is True)
        yield
    finally:
        _configure(cluster, before)
        wait("pods that name no queue without gates", lambda: _gated(cluster) is False)
    wait_ready(KUEUE, local)


def _configure(cluster: Cluster, config: str) -> None:
    """Let Kueue start anew with a configuration; it reads it once."""
    body = {"data": {_KEY: config}}
    cluster.patch(CONFIG_MAP, _CONFIG, body, _NAMESPACE, content_type=MERGE)
    for pod in managers(cluster):
        cluster.delete(POD, str(pod["metadata"]["name"]), _NAMESPACE, grace=1)


def managers(cluster: Cluster) -> list[Object]:
    """Return the pods of Kueue's controller."""
    selector = cluster.get(DEPLOYMENT, _MANAGER, _NAMESPACE)["spec"]["selector"]["matchLabels"]
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    return cluster.list(POD, _NAMESPACE, labels=labels).items


def _gated(cluster: Cluster) -> bool | None:
    """Ask the webhook by a dry run; ``None`` as long as it does not answer."""
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asks-kueue"},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    try:
        stored = cluster.create(POD, body, "default", dry_run=True)
    except HarnessError:
        return None
    return bool(stored["spec"].get("schedulingGates"))
