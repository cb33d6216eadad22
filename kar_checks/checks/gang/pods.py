"""The objects of the gang trial, from their templates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kar_checks.checks.gang.observation import Role
from kar_checks.checks.trial import manifest
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target

PORT = 7053
DEFAULT_SCHEDULER = "default-scheduler"
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


def service(group: str) -> Object:
    """Return the way to the member of rank 0."""
    return manifest("gang/service.yaml.j2", group=group, port=PORT)


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
    ]
