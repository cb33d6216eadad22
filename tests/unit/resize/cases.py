"""Observed resizes as the trial stores them, to be spoilt one thing at a time."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from kar_checks.checks.resize import kernel, plans
from kar_checks.checks.resize.observation import (
    Answer,
    Arena,
    Burn,
    Case,
    Condition,
    Container,
    Ended,
    Kernel,
    Look,
    NodeSigns,
    Patch,
    ResizeObservation,
    Resources,
    Snapshot,
    Step,
)
from kar_checks.cluster import quantity
from kar_checks.model import Evidence, Fault, Mutation

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NONCE = "a-nonce"
KEPT = "kept"


def proof(kept: str = KEPT) -> str:
    return hashlib.blake2b(NONCE.encode(), key=kept.encode(), digest_size=16).hexdigest()


def kernel_of(resources: Resources) -> Kernel:
    """A version 1 kernel that holds these resources."""
    limit = quantity.millicores(resources["limits"]["cpu"])
    return Kernel(
        version="v1",
        files={
            "cpu.cfs_quota_us": str(limit * 100),
            "cpu.cfs_period_us": "100000",
            "cpu.shares": str(kernel.shares(quantity.millicores(resources["requests"]["cpu"]))),
            "memory.limit_in_bytes": str(int(quantity.parse(resources["limits"]["memory"]))),
        },
    )


def answer(resources: Resources, **changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "at": START,
        "nonce": NONCE,
        "proof": proof(),
        "pid1_started": 100,
        "kernel": kernel_of(resources),
        "memory_bytes": 20 << 20,
    }
    return Answer(**{**fields, **changes})


def container(resources: Resources, **changes: Any) -> Container:
    fields: dict[str, Any] = {
        "spec": resources,
        "status": resources,
        "allocated": resources["requests"],
        "container_id": "containerd://one",
        "started_at": "2026-11-22T11:59:00Z",
        "running": True,
    }
    return Container(**{**fields, **changes})


def look(resources: Resources, generation: int, **changes: Any) -> Look:
    fields: dict[str, Any] = {
        "at": START + timedelta(seconds=generation),
        "uid": "ours",
        "resource_version": str(generation),
        "generation": generation,
        "observed_generation": generation,
        "qos_class": "Burstable",
        "containers": {plans.MAIN: container(resources)},
    }
    return Look(**{**fields, **changes})


def snapshot(
    resources: Resources,
    generation: int,
    *,
    held: Resources | None = None,
    burn: Burn | None = None,
    said: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **changes: Any,
) -> Snapshot:
    """A pod at rest; ``held`` is what the kernel holds, ``said`` and ``status`` spoil details."""
    given = answer(held or resources, burn=burn, **(said or {}))
    if status:
        changes["containers"] = {plans.MAIN: container(resources, **status)}
    return Snapshot(look=look(resources, generation, **changes), answers={plans.MAIN: given})


def step(
    before: Resources,
    change: Resources,
    generation: int,
    *,
    after: Snapshot | None = None,
    patch: dict[str, Any] | None = None,
    burn: Burn | None = None,
    **changes: Any,
) -> Step:
    """A change that went through, unless spoilt."""
    wanted = kernel.merged(before, change)
    sent: dict[str, Any] = {
        "at": START + timedelta(seconds=generation - 1),
        "wanted": {plans.MAIN: change},
        "status": 200,
        "generation": generation,
        "stored": {plans.MAIN: wanted},
    }
    fields: dict[str, Any] = {
        "name": f"change {generation}",
        "patch": Patch(**{**sent, **(patch or {})}),
        "looks": [look(wanted, generation)],
        "settled": True,
        "after": after or snapshot(wanted, generation, burn=burn),
    }
    return Step(**{**fields, **changes})


def case(name: str, *steps: Step, start: Snapshot | None = None, **changes: Any) -> Case:
    fields: dict[str, Any] = {
        "name": name,
        "pod": f"resize-{name.replace('_', '-')}",
        "node": "n1",
        "kubelet": "v1.37.0",
        "kept": {plans.MAIN: KEPT},
        "sent": {plans.MAIN: plans.SMALL},
        "start": start or snapshot(plans.SMALL, 1),
        "steps": list(steps),
    }
    return Case(**{**fields, **changes})


def observation(
    found: Case | Fault, name: str = "", mutations: list[Mutation] | None = None
) -> ResizeObservation:
    key = found.name if isinstance(found, Case) else name
    return ResizeObservation(
        evidence=Evidence.SYNTHETIC,
        started=START,
        finished=START,
        cases={key: found},
        mutations=mutations or [],
    )


ENDED = Ended(
    container_id="containerd://one",
    exit_code=137,
    reason="Error",
    finished_at="2026-11-22T12:00:02Z",
)
RESTARTED: dict[str, Any] = {
    "container_id": "containerd://two",
    "restart_count": 1,
    "started_at": "2026-11-22T12:00:03Z",
    "last_end": ENDED,
}
FORGOT: dict[str, Any] = {"proof": "", "pid1_started": 200}
ALIVE = NodeSigns(exec_answered=True)
DEAD = NodeSigns(lease_renewed=START)
IN_PROGRESS = Condition(type="PodResizeInProgress", observed_generation=2)


def pending(reason: str, message: str) -> Condition:
    return Condition(type="PodResizePending", reason=reason, message=message)


def arena(waiting: Snapshot | None, *, left_after: int = 520) -> Arena:
    return Arena(
        node="n1",
        allocatable=600,
        free_before=10,
        needed=50,
        left_after=left_after,
        deferred=waiting.look if waiting else None,
        waiting=waiting,
    )
