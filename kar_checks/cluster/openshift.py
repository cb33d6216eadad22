"""OpenShift: its security context constraints choose the user ids of pods."""

from __future__ import annotations

from dataclasses import dataclass

from kar_checks.cluster.client import Cluster
from kar_checks.cluster.facts import Facts, may
from kar_checks.cluster.target import Target

GROUP = "security.openshift.io"
OPTION = "--platform-user"


@dataclass(frozen=True)
class Refusal:
    """Why the user id of our pods is refused; ``every`` pod, or only those of controllers."""

    text: str
    every: bool


def refuses_user(cluster: Cluster, facts: Facts, target: Target, namespace: str) -> Refusal | None:
    """Say that this is an OpenShift that refuses the user id of our pods; ``None`` if it does not.

    Whoever may use a constraint that allows any user id gets it for pods of their own.
    """
    if not facts.serves_group(GROUP) or target.run_as_user is None:
        return None
    every = not _may_choose(cluster, namespace)
    return Refusal(
        "this is OpenShift, whose security context constraints give each namespace user ids of its "
        f"own: it refuses pods with user id {target.run_as_user}"
        + ("" if every else " that controllers make"),
        every,
    )


def _may_choose(cluster: Cluster, namespace: str) -> bool:
    return any(
        may(cluster, "use", GROUP, "securitycontextconstraints", namespace, one)
        for one in ("nonroot-v2", "nonroot", "anyuid")
    )
