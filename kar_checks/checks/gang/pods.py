"""The objects of the gang trial, from their templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kar_checks.checks.gang.observation import Role
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit import pulse
from kar_checks.kit.trial import Trial, manifest

PORT = 7053
RANK_LABEL = "kar-checks.dev/rank"
JOB_RANK_LABEL = "batch.kubernetes.io/job-completion-index"
"""Since Kubernetes 1.32, on pods of an indexed Job."""
DEFAULT_SCHEDULER = pulse.DEFAULT_SCHEDULER
_PROBE = "gang_member"


@dataclass(frozen=True)
class Shape:
    """What all pods of a scenario have in common."""

    hostname: str
    image: str
    probe: str
    """The ConfigMap with the program."""
    millicores: int
    scheduler: str = DEFAULT_SCHEDULER


def pod(
    shape: Shape,
    *,
    group: str,
    role: Role,
    rank: int,
    size: int,
    meet: str = "",
    hold: float = 0,
) -> Object:
    """Return a pod; without ``meet`` it only takes room until it is told to go."""
    return manifest(
        "gang/pod.yaml.j2",
        name=f"{group}-{rank}",
        group=group,
        role=role,
        rank=rank,
        size=size,
        meet=meet,
        port=PORT,
        hold=hold,
        hostname=shape.hostname,
        scheduler=shape.scheduler,
        image=shape.image,
        probe=shape.probe,
        cpu=f"{shape.millicores}m",
        # Members start faster than they request; a filler on a big node is above this already.
        cpu_limit=f"{max(500, shape.millicores)}m",
    )


def filler(shape: Shape, *, group: str, millicores: int) -> Object:
    """Return a pod that takes ``millicores`` of room, whatever scheduler is under test."""
    plain = replace(shape, millicores=millicores, scheduler=DEFAULT_SCHEDULER)
    return pod(plain, group=group, role="filler", rank=0, size=1)


def service(group: str, rank_label: str = RANK_LABEL) -> Object:
    """Return the way to the member of rank 0."""
    return manifest("gang/service.yaml.j2", group=group, port=PORT, rank_label=rank_label)


def job(shape: Shape, *, group: str, size: int, meet: str, hold: float) -> Object:
    """Return a Job whose ``size`` pods are the members of a gang."""
    member = pod(shape, group=group, role="gang", rank=0, size=size, meet=meet, hold=hold)
    del member["metadata"]["name"], member["metadata"]["labels"][RANK_LABEL]
    rank = next(one for one in member["spec"]["containers"][0]["env"] if one["name"] == "KAR_RANK")
    del rank["value"]
    rank["valueFrom"] = {"fieldRef": {"fieldPath": f"metadata.labels['{JOB_RANK_LABEL}']"}}
    body = manifest("gang/job.yaml.j2", group=group, size=size)
    body["spec"]["template"] = {"metadata": member["metadata"], "spec": member["spec"]}
    return body


def failed_scheduling(trial: Trial, names: Sequence[str]) -> list[str]:
    """Return what schedulers said in events on these pods, at most four sentences.

    What is said of a group comes first: it tells more than what is said of one of its pods.
    """
    events = trial.cluster.list(
        kinds.EVENT, trial.namespace, fields="involvedObject.kind=Pod,reason=FailedScheduling"
    ).items
    texts = {
        str(one.get("message", ""))
        for one in events
        if (one.get("involvedObject") or {}).get("name") in names
    }
    return sorted(texts, key=lambda one: ("group" not in one.lower(), one))[:4]


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return one of each kind, for dry runs.

    A group's own object is not among them: which one it is depends on the scheduler that is
    found, and a cluster without any shall hear that from the trial.
    """
    shape = Shape(
        hostname="", image=target.image("python"), probe=f"kar-probe-{_PROBE}", millicores=50
    )
    return [
        (kinds.SERVICE, service("dry-run")),
        (kinds.POD, pod(shape, group="dry-run", role="gang", rank=0, size=1)),
        (kinds.POD, pulse.dry_run(target)),
    ]
