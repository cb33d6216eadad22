"""The form of prefill and decode: LeaderWorkerSets where the cluster has them, else Deployments."""

from __future__ import annotations

from typing import Any

from kar_checks.checks.disaggregation import workload
from kar_checks.cluster import kinds
from kar_checks.cluster.client import MERGE, Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.wait import wait_for
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason

DEPLOYMENT, LEADER_WORKER_SET = "deployment", "leaderworkerset"


class Form:
    """What makes the pods of prefill and decode. The router is a Deployment in any case."""

    def __init__(self, trial: Trial) -> None:
        """Find the form by the API discovery, or take the one that was named.

        Raises:
            HarnessError: ``disaggregation.workload`` names nothing that exists.
        """
        self.kind: Kind = kinds.LEADER_WORKER_SET
        self.why_not = ""
        """Why they are Deployments."""
        self._trial = trial
        self._wanted = trial.text("disaggregation.workload")
        if self._wanted not in ("", DEPLOYMENT, LEADER_WORKER_SET):
            raise HarnessError(
                Reason.UNUSABLE_SETTING,
                f"disaggregation.workload is {self._wanted!r}",
                f"give {DEPLOYMENT}, {LEADER_WORKER_SET}, or nothing",
            )
        served = trial.facts.serves(self.kind.group, self.kind.version, self.kind.plural)
        if self._wanted == DEPLOYMENT:
            self._fall_back(f"disaggregation.workload is {DEPLOYMENT}")
        elif not served and self._wanted:
            raise HarnessError(
                Reason.UNUSABLE_SETTING,
                f"disaggregation.workload is {self._wanted}, and the cluster serves no "
                f"{self.kind.plural} of {self.kind.api_version}",
                f"install LeaderWorkerSet, or give {DEPLOYMENT}",
            )
        elif not served:
            self._fall_back("no LeaderWorkerSet API")

    def _fall_back(self, why_not: str) -> None:
        self.kind, self.why_not = kinds.DEPLOYMENT, why_not

    @property
    def told(self) -> str:
        """The form in words."""
        why = f" ({self.why_not})" if self.why_not else f" of {self.kind.api_version}"
        return f"{self.kind.kind}s{why}"

    def create(self, deployments: dict[str, Object]) -> dict[str, Object]:
        """Create the parts in their form, and return each as stored.

        Where the form was found and not named, one that is refused or that no controller takes up
        is left for Deployments: its CRDs stay behind when it is uninstalled.

        Raises:
            HarnessError: something was refused, or the form that was named is not taken up.
        """
        space = self._trial.workspace
        if self.kind == kinds.LEADER_WORKER_SET:
            made: dict[str, Object] = {}
            try:
                for part, body in deployments.items():
                    made[part] = space.create(self.kind, workload.leader_worker_set(part, body))
                return {part: self._await_controller(body) for part, body in made.items()}
            except HarnessError as error:
                fault = error.fault
                if fault.reason is Reason.INTERRUPTED:
                    raise
                if self._wanted:
                    advice = f"look at the controller of LeaderWorkerSet, or give {DEPLOYMENT}"
                    raise HarnessError(fault.reason, fault.message, fault.help or advice) from error
                for body in made.values():
                    space.delete(self.kind, str(body["metadata"]["name"]))
                said = error.server_message if isinstance(error, ApiError) else fault.message
                self._fall_back(said[:200])
        return {part: space.create(self.kind, body) for part, body in deployments.items()}

    def _await_controller(self, made: Object) -> Object:
        name = str(made["metadata"]["name"])
        return wait_for(
            self._trial.cluster,
            self.kind,
            name,
            self._trial.namespace,
            goal=_taken_up,
            seconds=self._trial.number("disaggregation.workload_seconds"),
            what=f"LeaderWorkerSet {name} taken up by a controller",
            begin=made,
        )

    def scale(self, part: str, replicas: int) -> None:
        """Ask for another number of pods of prefill or decode."""
        named = workload.named if self.kind == kinds.DEPLOYMENT else workload.set_named
        self._trial.cluster.patch(
            self.kind,
            named(part),
            {"spec": {"replicas": replicas}},
            self._trial.namespace,
            content_type=MERGE,
        )


def _taken_up(stored: Object) -> bool:
    """Return whether its controller made the StatefulSet: it sets conditions only after that."""
    status: Any = stored.get("status") or {}
    return bool(status.get("conditions"))
