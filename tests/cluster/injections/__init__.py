"""Sabotages of the local cluster: context managers that break one thing and mend it again.

Each takes the local cluster and its API, and is known by its name in ``sabotages.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from kar_checks.cluster.client import Cluster
from localcluster import LocalCluster

Injection = Callable[[LocalCluster, Cluster], AbstractContextManager[None]]

INJECTIONS: dict[str, Injection] = {}


def injection(function: Injection) -> Injection:
    """Register a context manager under its own name."""
    INJECTIONS[function.__name__] = function
    return function
