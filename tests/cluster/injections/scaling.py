"""Stopping what runs as a Deployment, for sabotages of the local cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import DEPLOYMENT, POD
from tests.cluster.injections.waiting import wait


@contextmanager
def no_replicas(cluster: Cluster, namespace: str, name: str) -> Iterator[None]:
    """Leave a Deployment without a pod, and wait until it has them again afterwards.

    Raises:
        TimeoutError: its pods did not go or come in time.
    """
    found = cluster.get(DEPLOYMENT, name, namespace)
    selector: dict[str, str] = found["spec"]["selector"]["matchLabels"]
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    _scale(cluster, namespace, name, 0)
    wait(f"the end of {name}'s pods", lambda: not cluster.list(POD, namespace, labels=labels).items)
    try:
        yield
    finally:
        _scale(cluster, namespace, name, 1)
        wait(
            f"the return of {name}'s pods", lambda: _ready(cluster.get(DEPLOYMENT, name, namespace))
        )


def _ready(deployment: Object) -> bool:
    return bool((deployment.get("status") or {}).get("readyReplicas") == 1)


def _scale(cluster: Cluster, namespace: str, name: str, replicas: int) -> None:
    cluster.call(
        "PATCH",
        DEPLOYMENT.path(namespace, name, "scale"),
        body={"spec": {"replicas": replicas}},
        content_type="application/merge-patch+json",
    )
