"""Kueue that manages what names no queue: it holds pods and Jobs of ours back for ever."""

from __future__ import annotations

from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
ADVICE = (
    f"give --label {QUEUE_LABEL}=NAME with a LocalQueue of the namespace (with --namespace one "
    "that has a queue), or leave the namespace out of Kueue's managedJobsNamespaceSelector"
)
_GATE = "kueue.x-k8s.io/"


def gates(pod: Object) -> list[str]:
    """Return the names of a pod's scheduling gates."""
    return [str(one.get("name")) for one in (pod.get("spec") or {}).get("schedulingGates") or []]


def holds_pod(pod: Object) -> HarnessError | None:
    """Return the error of a pod that Kueue gates though it names no queue: nothing admits it.

    ``pod`` is one that the scheduler reports as gated. Where its gates were not read, Kueue is
    named as the likely one, since pods of ours carry no gates.
    """
    names = gates(pod)
    if names and not any(one.startswith(_GATE) for one in names):
        return None
    if queue_of(pod):
        return None
    who = "Kueue gates it" if names else "something gates it, most likely Kueue"
    return HarnessError(
        Reason.UNSCHEDULABLE,
        f"pod {pod['metadata']['name']} is not scheduled: {who}, and it names no queue",
        ADVICE,
    )


def holds_job(job: Object) -> HarnessError | None:
    """Return the error of a Job of ours that is suspended, so that it makes no pods.

    Nobody but Kueue suspends Jobs by themselves; one that names a queue waits for its quota.
    """
    if not (job.get("spec") or {}).get("suspend"):
        return None
    name, queue = job["metadata"]["name"], queue_of(job)
    if queue:
        return HarnessError(
            Reason.UNSCHEDULABLE,
            f"Job {name} is suspended: the queue {queue} does not admit it",
            f"look at `kubectl describe workloads` and the quota of the queue {queue}",
        )
    return HarnessError(
        Reason.UNSCHEDULABLE,
        f"Job {name} is suspended, most likely by Kueue, and it names no queue",
        ADVICE,
    )


def queue_of(item: Object) -> str:
    """Return the LocalQueue that an object names; empty if none."""
    return str((item["metadata"].get("labels") or {}).get(QUEUE_LABEL) or "")
