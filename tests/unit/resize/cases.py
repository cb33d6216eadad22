"""Observed resizes as the trial stores them, to be spoilt one thing at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
    Contest,
    Ended,
    Fill,
    Hold,
    Kernel,
    Look,
    NodeSigns,
    Patch,
    ResizeObservation,
    Resources,
    Snapshot,
    Spin,
    Step,
    Use,
)
from kar_checks.cluster import quantity
from kar_checks.kit.pulse import Beat, Pulsed
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
    """A case of this version: what it holds to the end fits, and so does what it measured."""
    begin = start or snapshot(plans.SMALL, 1)
    fields: dict[str, Any] = {
        "hold": held(begin, steps),
        "uses": used(name, begin, steps),
        "kernel_trace": traced(begin, steps),
        "name": name,
        "pod": f"resize-{name.replace('_', '-')}",
        "node": "n1",
        "kubelet": "v1.37.0",
        "kept": {plans.MAIN: KEPT},
        "sent": {plans.MAIN: plans.SMALL},
        "start": begin,
        "steps": list(steps),
    }
    return Case(**{**fields, **changes})


MIB = 1 << 20


def last_of(start: Snapshot, steps: Sequence[Step]) -> Snapshot:
    return next((one.after for one in reversed(steps) if one.after), start)


def held(start: Snapshot, steps: Sequence[Step], seconds: float = 16, **changes: Any) -> Hold:
    """The end of a case: as after its last step, so many seconds later."""
    last = last_of(start, steps)
    at = max([last.look.at, *(one.at for step in steps for one in step.looks)])
    late = {"at": at + timedelta(seconds=seconds), **changes}
    return Hold(end=last.model_copy(update={"look": last.look.model_copy(update=late)}))


def traced(start: Snapshot, steps: Sequence[Step]) -> dict[str, list[tuple[datetime, Kernel]]]:
    """What a probe saw that looked at the right moments: each change a little after its request."""
    trace = {name: [(START, one.kernel)] for name, one in start.answers.items()}
    for one in steps:
        for name, said in (one.after.answers if one.after else {}).items():
            trace[name].append((one.patch.at + timedelta(seconds=0.3), said.kernel))
    return trace


def used(name: str, start: Snapshot, steps: Sequence[Step]) -> list[Use]:
    """What a kernel that enforces exactly what the resources say lets a case's pod use."""
    plan = plans.plan_of(name)
    out: list[Use] = []
    for number in range(len(steps) + 1):
        seen = start if number == 0 else steps[number - 1].after
        if seen is None:
            continue
        specs = {name: one.spec for name, one in seen.look.containers.items()}
        later: dict[str, Any] = {}
        if "limits.cpu" in plan.uses and plan is not plans.BUSY:
            limits = {
                one: quantity.millicores(spec["limits"]["cpu"]) for one, spec in specs.items()
            }
            later["burns"] = {one: [burn(limit)] for one, limit in limits.items()}
        if "limits.memory" in plan.uses:
            sizes = {
                one: int(quantity.parse(spec["limits"]["memory"])) for one, spec in specs.items()
            }
            later["fills"] = {one: [fill(size)] for one, size in sizes.items()}
        if "requests.cpu" in plan.uses:
            requests = {
                one: quantity.millicores(spec["requests"]["cpu"]) for one, spec in specs.items()
            }
            later["contests"] = [contest(requests)]
        out.append(Use(at=START, steps=number, **later))
    return out


def burn(achieved: float, *, throttled: int = 12, idle: float | None = None) -> Burn:
    """A loop of 1.2 s that achieved so many millicores; alone on its CPU unless told otherwise."""
    used = 1.2 * achieved / 1000
    return Burn(
        seconds=1.2,
        used_seconds=used,
        usage_seconds=used,
        nr_periods=12,
        nr_throttled=throttled,
        cpu=1,
        idle_seconds=1.2 - used if idle is None else idle,
    )


def fill(peak: int, size: int = 0, **changes: Any) -> Fill:
    """Page cache that grew to a peak and stayed there."""
    fields: dict[str, Any] = {
        "size": size or peak + 16 * MIB,
        "samples": [(1.0, 10 * MIB), (1.5, peak), (2.5, peak)],
        "available": 8192 * MIB,
        "how": "hole",
    }
    return Fill(**{**fields, **changes})


def spin(
    share: float, *, begin: float = 100.0, throttled: int = 0, before: int = 0, **changes: Any
) -> Spin:
    """A loop of 2.5 s that got this share of a CPU all the time.

    Of its 25 periods some were throttled, the first ``before`` of them not counted.
    """
    times = [begin + 0.05 * n for n in range(51)]
    fields: dict[str, Any] = {
        "cpu": 1,
        "samples": [(at, 0.05 * n * share) for n, at in enumerate(times)],
        "periods": [(at, n // 2, before + min(throttled, n // 2)) for n, at in enumerate(times)],
    }
    return Spin(**{**fields, **changes})


def contest(requests: dict[str, int], shares: dict[str, float] | None = None) -> Contest:
    """Loops that share a CPU with a rival of 100m by the weights of version 1."""
    rival = kernel.shares(100)
    whole = rival + kernel.shares(sum(requests.values()))
    fair = {
        name: kernel.shares(sum(requests.values()))
        * kernel.shares(one)
        / sum(kernel.shares(other) for other in requests.values())
        / whole
        for name, one in requests.items()
    }
    return Contest(
        spins={name: spin(share) for name, share in (shares or fair).items()},
        rival=spin(rival / whole),
        rival_request=100,
    )


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


def pulsed(began: float, ended: float) -> Pulsed:
    """A time with a pulse every 2 s."""
    moments = [began - 1 + 2 * number for number in range(int(ended - began) // 2 + 3)]
    beats = [Beat(asked=one, answered=one) for one in moments]
    return Pulsed(began=began, ended=ended, beats={"the scheduler x": beats}, lost=0)


def arena(waiting: Snapshot | None, *, left_after: int = 520, **more: Any) -> Arena:
    return Arena(
        node="n1",
        allocatable=600,
        free_before=10,
        needed=50,
        left_after=left_after,
        deferred=waiting.look if waiting else None,
        waiting=waiting,
        **{"window": pulsed(1, 5), "settling": pulsed(5, 65), **more},
    )
