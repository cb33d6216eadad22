"""What the scenarios need to know about a gang scheduler: join pods to a group, ask about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kar_checks.checks.gang.observation import Problem, Refusal
from kar_checks.cluster.client import Object
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.trial import Trial


class GangBackend(Protocol):
    """One scheduler that places gangs. The scenarios know none of them by name."""

    name: str
    looks_for: str
    scheduler: str
    """``spec.schedulerName`` of its pods."""

    def detect(self, facts: Facts) -> str:
        """Return the API that is served, such as ``scheduling.k8s.io/v1beta1``, else nothing."""

    def create_group(self, trial: Trial, group: str, size: int) -> int:
        """Create whatever makes ``size`` pods a gang; returns the size that was stored."""

    def group_objects(self, group: str) -> Sequence[tuple[Kind, Object]]:
        """Return what :meth:`create_group` created, as it was stored."""

    def join(self, pod: Object, group: str) -> Object:
        """Return the pod with what makes it a member, and not otherwise changed."""

    def joined(self, stored: Object, group: str) -> bool:
        """Say whether what :meth:`join` added is still there in a stored pod."""

    def why_not_joined(self, trial: Trial, stored: Object) -> Problem:
        """Explain a stored pod that lost what :meth:`join` added."""

    def refusal(self, trial: Trial, group: str, pods: Sequence[str]) -> Refusal:
        """Say how the scheduler explains that this group waits."""

    def await_refusal(self, trial: Trial, group: str, pods: Sequence[str], seconds: float) -> None:
        """Return when the group was refused, or after ``seconds``."""

    def delete_group(self, trial: Trial, group: str) -> None:
        """Ask for the group's end; its pods are gone by then."""
