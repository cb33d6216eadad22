"""The native API: ``PodGroup`` of ``scheduling.k8s.io`` and ``spec.schedulingGroup`` of pods.

Objects are raw, because no released client has every version of this API. ``PodGroup`` exists in
three API groups, so it is always addressed by its full path.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from kar_checks.checks.gang.groups import await_state
from kar_checks.checks.gang.observation import Problem, Refusal
from kar_checks.checks.gang.pods import DEFAULT_SCHEDULER, failed_scheduling
from kar_checks.cluster import pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.trial import Trial, manifest
from kar_checks.kit.words import Reasons

verdict = Reasons(__package__)

GROUP = "scheduling.k8s.io"
VERSIONS = ("v1beta1", "v1alpha3", "v1alpha2")
_CONDITIONS = ("PodGroupInitiallyScheduled", "PodGroupScheduled")
"""The same statement in 1.37 and in 1.36; reasons are ``Unschedulable`` and ``SchedulerError``."""
_GATE = re.compile(r'^kubernetes_feature_enabled\{name="GenericWorkload".*\} 1$', re.MULTILINE)


class Native:
    """Gang scheduling by the default scheduler."""

    name = "native"
    looks_for = "PodGroup of scheduling.k8s.io (native API)"
    scheduler = DEFAULT_SCHEDULER

    def __init__(self) -> None:
        self._kind = Kind(GROUP, VERSIONS[0], "podgroups", "PodGroup")
        self._made: dict[str, Object] = {}

    def detect(self, facts: Facts) -> str:
        """Take the newest version in the server's discovery."""
        for version in VERSIONS:
            if facts.serves(GROUP, version, "podgroups"):
                self._kind = Kind(GROUP, version, "podgroups", "PodGroup")
                return self._kind.api_version
        return ""

    def create_group(self, trial: Trial, group: str, size: int) -> int:
        """Create a PodGroup. No ``Workload`` is needed, and no priority class is set on either."""
        body = manifest(
            "gang/podgroup.yaml.j2", api_version=self._kind.api_version, group=group, size=size
        )
        stored = self._made[group] = trial.workspace.create(self._kind, body)
        policy = (stored.get("spec") or {}).get("schedulingPolicy") or {}
        return int((policy.get("gang") or {}).get("minCount", 0))

    def group_objects(self, group: str) -> Sequence[tuple[Kind, Object]]:
        """Return the PodGroup."""
        return [(self._kind, self._made[group])]

    def join(self, pod: Object, group: str) -> Object:
        """Add ``spec.schedulingGroup``."""
        out = copy.deepcopy(pod)
        out["spec"]["schedulingGroup"] = {"podGroupName": group}
        return out

    def joined(self, stored: Object, group: str) -> bool:
        """Read ``spec.schedulingGroup`` back: a server whose gate is off drops it silently."""
        found: Object = stored["spec"].get("schedulingGroup") or {}
        return bool(found.get("podGroupName") == group)

    def why_not_joined(self, trial: Trial, stored: Object) -> Problem:
        """Tell a server that does not know the field from admission that takes it away.

        The API server's own metrics show whether its gate is on; who may not read them reads
        both causes.
        """
        if self._gate_is_on(trial):
            return Problem.of(verdict("mutated.scheduling_group"))
        return Problem.of(verdict("field_dropped"))

    def _gate_is_on(self, trial: Trial) -> bool:
        try:
            status, text = trial.cluster.raw("GET", "/metrics", accept="text/plain")
        except HarnessError:
            return False
        return status == 200 and _GATE.search(text) is not None

    def refusal(self, trial: Trial, group: str, pods: Sequence[str]) -> Refusal:
        """Read the PodGroup's condition and the scheduler's events on its pods."""
        stored = trial.cluster.find(self._kind, group, trial.namespace)
        said = _statement(stored or {}) or {}
        false = said.get("status") == "False"
        return Refusal(
            refused=false and said.get("reason") == "Unschedulable",
            scheduler_error=false and said.get("reason") == "SchedulerError",
            condition=(
                f"{said['type']}={said.get('status')}, {said.get('reason')}: {said.get('message')}"
                if said
                else ""
            ),
            events=failed_scheduling(trial, pods),
        )

    def await_refusal(self, trial: Trial, group: str, pods: Sequence[str], seconds: float) -> None:
        """Watch the PodGroup's condition."""
        await_state(
            trial, self._kind, group, lambda stored: _statement(stored) is not None, seconds
        )

    def delete_group(self, trial: Trial, group: str) -> None:
        """Delete the PodGroup; its finalizer goes when no pod refers to it any more."""
        trial.workspace.delete(self._kind, group, seconds=0)


def _statement(stored: Object) -> Object | None:
    for kind in _CONDITIONS:
        if (found := pods.condition(stored, kind)) is not None:
            return found
    return None
