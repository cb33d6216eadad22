"""What the trial needs to know about a gang scheduler.

:class:`Assessment` is what the trial itself sees of each: how to find it, and the parts that are
measured. Those that place pods share one (``placement.py``), which reaches them as
:class:`GangBackend`: join pods to a group, ask about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from kar_checks.checks.gang.observation import Canary, Problem, Refusal
from kar_checks.checks.trial import Trial
from kar_checks.cluster.client import Object
from kar_checks.cluster.facts import Facts
from kar_checks.model import Record

if TYPE_CHECKING:
    from kar_checks.checks.gang.bench import Bench


class Assessment(Protocol):
    """One gang scheduler, with the way in which it is assessed."""

    name: str
    """The variant of every finding, and the beginning of the names of its pods."""
    looks_for: str
    """What :meth:`detect` looks for, in words."""

    def detect(self, facts: Facts) -> str:
        """Return the API that is served, such as ``scheduling.k8s.io/v1beta1``, else nothing."""

    def canary(self, trial: Trial) -> Canary | Problem:
        """Try one member, and say what would make every part pointless."""

    def parts(self, bench: Bench) -> Mapping[str, Callable[[], Record]]:
        """Return what is to be measured for the selected checks, the longest first.

        By the field of ``BackendObservation`` that takes the result. All parts of all gang
        schedulers run at once; one that makes pods does so on a node that it got from
        ``bench.node()``.
        """


class GangBackend(Protocol):
    """One scheduler that places gangs. The scenarios know none of them by name."""

    name: str
    looks_for: str
    scheduler: str
    """``spec.schedulerName`` of its pods."""

    def detect(self, facts: Facts) -> str:
        """See :meth:`Assessment.detect`."""

    def create_group(self, trial: Trial, group: str, size: int) -> int:
        """Create whatever makes ``size`` pods a gang; returns the size that was stored."""

    def join(self, pod: Object, group: str) -> Object:
        """Return the pod with what makes it a member, and not otherwise changed."""

    def joined(self, stored: Object, group: str) -> bool:
        """Say whether what :meth:`join` added is still there in a stored pod."""

    def why_not_joined(self, trial: Trial, stored: Object) -> Problem:
        """Explain a stored pod that lost what :meth:`join` added."""

    def refusal(self, trial: Trial, group: str, pods: Sequence[str]) -> Refusal:
        """Say how the scheduler explains that this group waits."""

    def await_refusal(self, trial: Trial, group: str, seconds: float) -> None:
        """Return when the group was refused, or after ``seconds``."""

    def delete_group(self, trial: Trial, group: str) -> None:
        """Ask for the group's end; its pods are gone by then."""
