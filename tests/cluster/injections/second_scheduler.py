"""The scheduler of the add-on coscheduling without its plugin, for sabotages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kar_checks.cluster import pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import CONFIG_MAP, DEPLOYMENT, POD
from tests.cluster.injections.waiting import wait

NAME, NAMESPACE = "scheduler-plugins-scheduler", "scheduler-plugins"
_VOLUME = "scheduler-config"
_BARE = "scheduler-config-bare"
_CONFIG = f"""\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {{leaderElect: false}}
profiles:
- schedulerName: {NAME}
"""
_CANARY = "asks-the-second-scheduler"
_SECONDS = 90.0


@contextmanager
def without_coscheduling(cluster: Cluster) -> Iterator[None]:
    """Let it answer to its name, and place the pods of groups one by one.

    Raises:
        TimeoutError: it did not answer in time, with the one configuration or the other.
    """
    before = cluster.get(DEPLOYMENT, NAME, NAMESPACE)
    body: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _BARE},
        "data": {"scheduler-config.yaml": _CONFIG},
    }
    cluster.create(CONFIG_MAP, body, NAMESPACE)
    try:
        _configure(cluster, _BARE)
        yield
    finally:
        _configure(cluster, _config_of(before["spec"]["template"]))
        spec = {"strategy": before["spec"]["strategy"]}
        cluster.patch(DEPLOYMENT, NAME, {"spec": spec}, NAMESPACE)
        cluster.delete(CONFIG_MAP, _BARE, NAMESPACE)


def _configure(cluster: Cluster, config: str) -> None:
    """Start it anew with a configuration, and wait until that one answers, and no other."""
    volumes = [{"name": _VOLUME, "configMap": {"name": config}}]
    recreate = {"type": "Recreate", "rollingUpdate": None}
    spec = {"strategy": recreate, "template": {"spec": {"volumes": volumes}}}
    cluster.patch(DEPLOYMENT, NAME, {"spec": spec}, NAMESPACE)

    def alone() -> bool:
        running = cluster.list(POD, NAMESPACE, labels="component=scheduler").items
        return [_config_of(one) for one in running] == [config]

    wait(f"the only scheduler with {config}", alone, _SECONDS)
    canary: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _CANARY},
        "spec": {
            "schedulerName": NAME,
            "nodeSelector": {"kubernetes.io/hostname": "none"},
            "containers": [{"name": "main", "image": "none"}],
        },
    }
    cluster.create(POD, canary, "default")
    try:

        def answered() -> bool:
            seen = cluster.get(POD, _CANARY, "default")
            return pods.condition(seen, "PodScheduled") is not None

        wait(f"an answer of the scheduler with {config}", answered, _SECONDS)
    finally:
        cluster.delete(POD, _CANARY, "default", grace=0)


def _config_of(pod: Object) -> str:
    return next(
        str(one["configMap"]["name"]) for one in pod["spec"]["volumes"] if one["name"] == _VOLUME
    )
