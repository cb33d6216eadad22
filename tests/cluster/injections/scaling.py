"""Stopping what runs as a Deployment, for sabotages of the local cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import POD, Kind

_DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
_SECONDS = 60.0


@contextmanager
def no_replicas(cluster: Cluster, namespace: str, name: str) -> Iterator[None]:
    """Leave a Deployment without a pod, and wait until it has them again afterwards.

    Raises:
        TimeoutError: its pods did not go or come in time.
    """
    found = cluster.get(_DEPLOYMENT, name, namespace)
    selector: dict[str, str] = found["spec"]["selector"]["matchLabels"]
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    _scale(cluster, namespace, name, 0)
    _wait(name, lambda: not cluster.list(POD, namespace, labels=labels).items)
    try:
        yield
    finally:
        _scale(cluster, namespace, name, 1)
        _wait(name, lambda: _ready(cluster.get(_DEPLOYMENT, name, namespace)))


def _ready(deployment: Object) -> bool:
    return bool((deployment.get("status") or {}).get("readyReplicas") == 1)


def _scale(cluster: Cluster, namespace: str, name: str, replicas: int) -> None:
    cluster.call(
        "PATCH",
        _DEPLOYMENT.path(namespace, name, "scale"),
        body={"spec": {"replicas": replicas}},
        content_type="application/merge-patch+json",
    )


def _wait(name: str, goal: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not goal():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the Deployment {name} did not get there in {_SECONDS:.0f} s")
        time.sleep(0.2)
