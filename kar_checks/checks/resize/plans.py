"""The pods and the changes of each case, as data.

Sizes are multiples of 10 millicores, since the systemd cgroup driver rounds to them, and small,
because all pods run at once. Every pod stays Burstable: for Guaranteed ones a static CPU or memory
manager refuses a resize by design.

What is measured by use needs distances: a limit grows by more than the tolerance of a busy loop,
and a request changes its weight by both formulas of cgroup v2 (10m and 20m weigh the same there).
A container whose request is measured has a CPU limit above its share of a CPU beside the rival, so
that its weight decides and not its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kar_checks.checks.resize.observation import Resources


def sized(cpu: str = "", memory: str = "", max_cpu: str = "", max_memory: str = "") -> Resources:
    """Return resources with those of requests and limits that are given."""
    requests = {"cpu": cpu, "memory": memory}
    limits = {"cpu": max_cpu, "memory": max_memory}
    parts = {"requests": requests, "limits": limits}
    held = {part: {k: v for k, v in values.items() if v} for part, values in parts.items()}
    return {part: values for part, values in held.items() if values}


@dataclass(frozen=True)
class ContainerPlan:
    """A container as it is created."""

    name: str
    resources: Resources
    room: Literal["containers", "initContainers"] = "containers"
    memory_policy: Literal["NotRequired", "RestartContainer"] = "NotRequired"

    @property
    def socket(self) -> str:
        """Where its first process answers."""
        return f"/talk/{self.name}"


@dataclass(frozen=True)
class StepPlan:
    """A change that must go through."""

    name: str
    change: dict[str, Resources]
    expect: Literal["resize", "restart"] = "resize"


Used = Literal["limits.cpu", "limits.memory", "requests.cpu"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A case: its check, its containers and its ordinary steps."""

    check: str
    containers: tuple[ContainerPlan, ...]
    steps: tuple[StepPlan, ...]
    uses: frozenset[Used] = frozenset()
    """What is measured by use, at the beginning and at the end."""
    shows: tuple[str, str] = ("limits", "cpu")
    """What its figure draws of the first changed container."""
    each: bool = False
    """It is measured after each step."""
    spins: tuple[str, ...] = ()
    """The containers whose CPU requests are measured."""

    @property
    def name(self) -> str:
        """The case's name: the last part of the check's id."""
        return self.check.rpartition(".")[2]

    @property
    def pod(self) -> str:
        """The pod's name."""
        return f"resize-{self.name.replace('_', '-')}"


MAIN = "main"


def _main(resources: Resources) -> tuple[ContainerPlan, ...]:
    return (ContainerPlan(MAIN, resources),)


def _step(name: str, resources: Resources) -> StepPlan:
    return StepPlan(name, {MAIN: resources})


def _used(*names: Used) -> frozenset[Used]:
    return frozenset(names)


SMALL = sized("10m", "32Mi", "150m", "64Mi")
CONTROL = _step("control: a small resize", sized(max_cpu="160m"))

ORDINARY = (
    Plan(
        "resize.cpu_up_down",
        _main(sized("10m", "32Mi", "250m", "64Mi")),
        (
            _step("CPU up", sized("30m", max_cpu="400m")),
            _step("CPU down", sized("10m", max_cpu="250m")),
        ),
        _used("limits.cpu", "requests.cpu"),
        each=True,
        spins=(MAIN,),
    ),
    Plan(
        "resize.memory_up",
        _main(SMALL),
        (_step("memory up", sized(memory="48Mi", max_memory="128Mi")),),
        _used("limits.memory"),
        ("limits", "memory"),
    ),
    Plan(
        "resize.memory_down",
        _main(sized("10m", "32Mi", "500m", "384Mi")),
        (_step("memory down", sized(max_memory="256Mi")),),
        _used("limits.memory"),
        ("limits", "memory"),
    ),
    Plan(
        "resize.requests_only",
        _main(sized("10m", "32Mi", "1", "64Mi")),
        (
            _step("CPU request up", sized("30m")),
            _step("memory request up", sized(memory="40Mi")),
        ),
        _used("requests.cpu"),
        ("requests", "cpu"),
        spins=(MAIN,),
    ),
    Plan(
        "resize.limits_only",
        _main(SMALL),
        (_step("limits up", sized(max_cpu="300m", max_memory="96Mi")),),
        _used("limits.cpu", "limits.memory"),
    ),
    Plan(
        "resize.several_containers",
        (
            ContainerPlan("grows", sized("10m", "32Mi", "200m", "64Mi")),
            ContainerPlan("shrinks", sized("30m", "32Mi", "400m", "64Mi")),
        ),
        (
            StepPlan(
                "one up, one down",
                {
                    "grows": sized("30m", max_cpu="400m", max_memory="96Mi"),
                    "shrinks": sized("10m", max_cpu="200m"),
                },
            ),
        ),
        _used("limits.cpu", "limits.memory", "requests.cpu"),
        spins=("grows", "shrinks"),
    ),
    Plan(
        "resize.restart_policy",
        (ContainerPlan(MAIN, SMALL, memory_policy="RestartContainer"),),
        (
            _step("CPU up, no restart asked for", sized(max_cpu="250m")),
            StepPlan(
                "memory up, restart asked for", {MAIN: sized(max_memory="96Mi")}, expect="restart"
            ),
        ),
        _used("limits.cpu", "limits.memory"),
        ("limits", "memory"),
    ),
    Plan(
        "resize.sidecar",
        (
            ContainerPlan("side", sized("10m", "32Mi", "300m", "64Mi"), room="initContainers"),
            ContainerPlan(MAIN, sized("10m", "32Mi", "100m", "64Mi")),
        ),
        (StepPlan("sidecar up", {"side": sized("30m", max_cpu="500m", max_memory="96Mi")}),),
        _used("limits.cpu", "limits.memory", "requests.cpu"),
        spins=("side",),
    ),
    Plan(
        "resize.observed_generation",
        _main(SMALL),
        (
            _step("first change", sized(max_cpu="200m")),
            _step("second change", sized(max_cpu="300m")),
        ),
        _used("limits.cpu"),
    ),
)
QOS = Plan("resize.qos_change_refused", _main(SMALL), (CONTROL,))
INFEASIBLE = Plan("resize.infeasible", _main(SMALL), (CONTROL,))
BUSY = Plan(
    "resize.busy_loop",
    _main(sized("10m", "32Mi", "100m", "64Mi")),
    (_step("CPU limit up", sized(max_cpu="300m")),),
    _used("limits.cpu"),
)
DEFERRED = Plan(
    "resize.deferred",
    _main(sized("10m", "32Mi", "1", "64Mi")),
    (),
    _used("requests.cpu"),
    ("requests", "cpu"),
    spins=(MAIN,),
)

ALL = (*ORDINARY, QOS, INFEASIBLE, BUSY, DEFERRED)

RIVAL = Plan("resize.rival", _main(sized("100m", "32Mi", "1500m", "64Mi")), (), spins=(MAIN,))
"""The pod that each measured request is compared with. Its own never changes."""
RIVAL_ROOM = 350
"""Millicores that the node under the rival and all measured pods must have free."""


def plan_of(name: str) -> Plan:
    """Return the plan of a case."""
    return next(one for one in ALL if one.name == name)
