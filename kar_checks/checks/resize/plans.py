"""The pods and the changes of each case, as data.

Sizes are multiples of 10 millicores, since the systemd cgroup driver rounds to them, and small,
because all pods run at once. Every pod stays Burstable: for Guaranteed ones a static CPU or memory
manager refuses a resize by design.
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


@dataclass(frozen=True, eq=False)
class Plan:
    """A case: its check, its containers and its ordinary steps."""

    check: str
    containers: tuple[ContainerPlan, ...]
    steps: tuple[StepPlan, ...]
    shows: tuple[str, str] = ("limits", "cpu")
    """What its figure draws of the first changed container."""

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


SMALL = sized("10m", "32Mi", "150m", "64Mi")
CONTROL = _step("control: a small resize", sized(max_cpu="160m"))

ORDINARY = (
    Plan(
        "resize.cpu_up_down",
        _main(SMALL),
        (
            _step("CPU up", sized("20m", max_cpu="300m")),
            _step("CPU down", sized("10m", max_cpu="150m")),
        ),
    ),
    Plan(
        "resize.memory_up",
        _main(SMALL),
        (_step("memory up", sized(memory="48Mi", max_memory="128Mi")),),
        ("limits", "memory"),
    ),
    Plan(
        "resize.memory_down",
        _main(sized("10m", "32Mi", "150m", "384Mi")),
        (_step("memory down", sized(max_memory="256Mi")),),
        ("limits", "memory"),
    ),
    Plan(
        "resize.requests_only",
        _main(SMALL),
        (
            _step("CPU request up", sized("30m")),
            _step("memory request up", sized(memory="40Mi")),
        ),
        ("requests", "cpu"),
    ),
    Plan(
        "resize.limits_only",
        _main(SMALL),
        (_step("limits up", sized(max_cpu="250m", max_memory="96Mi")),),
    ),
    Plan(
        "resize.several_containers",
        (
            ContainerPlan("grows", sized("10m", "32Mi", "150m", "64Mi")),
            ContainerPlan("shrinks", sized("20m", "32Mi", "250m", "64Mi")),
        ),
        (
            StepPlan(
                "one up, one down",
                {
                    "grows": sized("20m", max_cpu="250m", max_memory="96Mi"),
                    "shrinks": sized("10m", max_cpu="150m"),
                },
            ),
        ),
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
        ("limits", "memory"),
    ),
    Plan(
        "resize.sidecar",
        (
            ContainerPlan("side", SMALL, room="initContainers"),
            ContainerPlan(MAIN, SMALL),
        ),
        (StepPlan("sidecar up", {"side": sized("20m", max_cpu="250m", max_memory="96Mi")}),),
    ),
    Plan(
        "resize.observed_generation",
        _main(SMALL),
        (
            _step("first change", sized(max_cpu="200m")),
            _step("second change", sized(max_cpu="250m")),
        ),
    ),
)
QOS = Plan("resize.qos_change_refused", _main(SMALL), (CONTROL,))
INFEASIBLE = Plan("resize.infeasible", _main(SMALL), (CONTROL,))
BUSY = Plan(
    "resize.busy_loop",
    _main(sized("10m", "32Mi", "100m", "64Mi")),
    (_step("CPU limit up", sized(max_cpu="300m")),),
)
DEFERRED = Plan("resize.deferred", _main(SMALL), (), ("requests", "cpu"))

ALL = (*ORDINARY, QOS, INFEASIBLE, BUSY, DEFERRED)
