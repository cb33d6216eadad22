"""Run folders as a run would leave them: one that passed, one with every trouble, a hostile one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kar_checks import profile
from kar_checks.model import (
    CheckInfo,
    Cleanup,
    Command,
    Environment,
    Evidence,
    Fact,
    Figure,
    Finding,
    Lane,
    Leak,
    Mark,
    Mutation,
    NodeInfo,
    ObjectRef,
    Observation,
    Outcome,
    PlannedCheck,
    RunInfo,
    Series,
    Span,
    TopicCost,
    TopicInfo,
)
from kar_checks.store import Run, StoredRun

START = datetime(2026, 11, 22, 10, 15, 4, tzinfo=UTC)

RESIZE = {
    "cpu_up": "More CPU arrives without a restart",
    "cpu_down": "Less CPU arrives without a restart",
    "memory_up": "More memory arrives without a restart",
    "memory_down": "Less memory arrives without a restart",
    "cpu_follows": "The work done follows the CPU limit",
    "memory_usable": "Memory beyond the old limit can be used",
    "requests_only": "A change of requests alone reaches the kernel's weight",
    "restart_policy": "A container that asks for a restart gets exactly one",
    "deferred": "A resize that does not fit now waits, then arrives",
    "infeasible": "A resize that can never fit is refused and changes nothing",
    "qos_kept": "A resize that would change the QoS class is refused",
    "subresource": "Only the resize subresource changes resources",
    "status": "The status shows what the kernel enforces",
}
GANG = {
    "starts_together": "A gang that fits starts all its pods at one time",
    "all_or_nothing": "A gang that does not fit starts no pod",
    "released": "A waiting gang starts once there is room",
    "no_deadlock": "Two gangs that compete both finish, one after the other",
    "control": "Pods without a gang start in part in the same place",
}


@dataclass
class Sample:
    """What a run is made of; tests change it before it is written."""

    info: RunInfo
    observations: list[Observation]
    findings: list[Finding]

    def write(self, parent: Path) -> StoredRun:
        run = Run.create(parent, self.info)
        for seen in self.observations:
            run.add_observation(seen)
            run.evidence(f"{seen.trial}/pod.log", "limit 200000 100000\n" * 40)
        run.add_findings(self.findings)
        return StoredRun(run.folder)


def passed() -> Sample:
    """Thirteen resize checks and five gang checks that passed."""
    checks = _checks()
    return Sample(
        RunInfo(
            id="20261122-101504-9f3a",
            suite_version="0.1.0",
            started=START,
            finished=START + timedelta(seconds=268),
            kubernetes_minor="1.37",
            profile=profile.default().model_dump(mode="json"),
            selection=[one.id for one in checks],
            objective=["fail", "error", "inconclusive"],
            environment=_environment(),
            topics=_topics(),
            checks=checks,
            plan=[PlannedCheck(check=one.id, runs=True) for one in checks],
            costs=[
                TopicCost(topic="resize", seconds=118.4, requests=412),
                TopicCost(topic="gang", seconds=141.7, requests=688),
            ],
            cleanup=Cleanup(verdict="clean", removed=61),
            exit_code=0,
        ),
        [_resize_observation(), _gang_observation()],
        [*(_resize_finding(name) for name in RESIZE), *(_gang_finding(name) for name in GANG)],
    )


def troubled() -> Sample:
    """A run with a failure, an undecided check, errors of one cause, a leak, ended by a signal."""
    sample = passed()
    findings = sample.findings
    findings[1] = findings[1].model_copy(
        update={
            "outcome": Outcome.FAIL,
            "reason": "kernel_unchanged",
            "summary": "The status says 200m, but cpu.max still allows 400m after 60 s.",
            "facts": [
                Fact(
                    name="cpu.max",
                    value="40000 100000",
                    expected="20000 100000",
                    source="cgroup file in the container",
                ),
                Fact(name="restartCount", value="0", expected="0", source="pod status"),
            ],
            "would_change": "cpu.max at 20000 100000 within 60 s.",
            "help": "Look at the kubelet's log of node worker-1 about pod resize-cpu.",
        }
    )
    findings[8] = findings[8].model_copy(
        update={
            "outcome": Outcome.INCONCLUSIVE,
            "reason": "node_added",
            "summary": "A node was added while the resize had to wait, so it waited in vain.",
            "would_change": "The same measurement with the number of nodes held still.",
            "help": "",
        }
    )
    for index in (14, 15):
        findings[index] = findings[index].model_copy(
            update={
                "outcome": Outcome.ERROR,
                "reason": "forbidden",
                "summary": "podgroups.scheduling.k8s.io is forbidden: cannot create in kar.",
                "facts": [],
                "evidence": None,
                "help": "Grant create on podgroups; `kar rbac` prints the rights.",
            }
        )
    findings[13] = findings[13].model_copy(
        update={
            "outcome": Outcome.NOT_APPLICABLE,
            "reason": "declared",
            "summary": "Declared not applicable: this platform runs no group of pods.",
            "evidence": None,
        }
    )
    del findings[16:]
    gang = sample.observations[1].model_copy(
        update={
            "disturbances": ["Node worker-4 was added 12 s after the start."],
            "mutations": [
                Mutation(
                    object="Pod/gang-0",
                    field="spec.containers[istio-proxy]",
                    sent=None,
                    stored={"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.30"},
                )
            ],
        }
    )
    ref = ObjectRef(
        api_version="v1", kind="Pod", namespace="kar-9f3a", name="gang-filler", uid="7-1"
    )
    plan = [
        one.model_copy(
            update={
                "runs": False,
                "outcome": Outcome.SKIPPED,
                "reason": "disruption",
                "message": "It takes capacity from others, and --max-disruption none was given.",
                "help": "Run it with --max-disruption capacity.",
            }
        )
        if one.check == "gang.control"
        else one
        for one in sample.info.plan
    ]
    sample.info = sample.info.model_copy(
        update={
            "finished": None,
            "interrupted": "signal SIGTERM",
            "plan": plan,
            "cleanup": Cleanup(
                verdict="leaked",
                removed=22,
                leaks=[
                    Leak(object=ref, why="its finalizer example.com/hold was not removed in 90 s")
                ],
            ),
            "exit_code": 10,
            "environment": sample.info.environment.model_copy(update={"local_cluster": True}),
        }
    )
    sample.observations[1] = gang
    return sample


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "a\u202egnp.exe\u2066 $\\frac{1}{2}$ \x1b[31m\x00",
    "{{ 7*7 }} ]]> --> </style>",
    "n" * 5000,
)


def hostile() -> Sample:
    """A cluster that puts markup, control characters and endless names wherever it can."""
    sample = passed()
    bad = " ".join(HOSTILE)
    env = sample.info.environment
    node = env.nodes[0].model_copy(
        update={"name": bad, "kubelet": HOSTILE[0], "taints": [bad] * 9, "zone": HOSTILE[1]}
    )
    sample.info = sample.info.model_copy(
        update={
            "environment": env.model_copy(
                update={
                    "cluster": bad,
                    "context": HOSTILE[1],
                    "server_version": HOSTILE[0],
                    "nodes": [node] * 300,
                    "options": {HOSTILE[1]: bad},
                    "images": {HOSTILE[0]: bad},
                }
            ),
            "interrupted": bad,
        }
    )
    sample.findings = [
        one.model_copy(
            update={
                "variant": HOSTILE[1] if one.check.startswith("gang") else "",
                "summary": bad,
                "help": HOSTILE[1],
                "reason": HOSTILE[0],
                "facts": [Fact(name=bad, value=bad, expected=bad, source=bad)] * 12,
                "outcome": Outcome.FAIL,
            }
        )
        for one in sample.findings
    ]
    sample.observations = [
        seen.model_copy(
            update={
                "disturbances": [bad] * 40,
                "mutations": [Mutation(object=bad, field=bad, sent=bad, stored={"x": bad})] * 40,
                "commands": [
                    Command(at=START, pod=bad, argv=["sh", "-c", bad], exit_code=1, stdout=bad)
                ]
                * 50,
                "figures": [
                    one.model_copy(
                        update={
                            "title": bad,
                            "unit": HOSTILE[0] if one.kind == "trace" else "",
                            "variant": "",
                            "marks": [Mark(at=3, label=bad), Mark(at=3.2, label=HOSTILE[0])],
                            "lanes": [
                                lane.model_copy(update={"name": HOSTILE[n % 5]})
                                for n, lane in enumerate(one.lanes * 20)
                            ],
                            "series": [
                                line.model_copy(update={"name": HOSTILE[2]}) for line in one.series
                            ],
                        }
                    )
                    for one in seen.figures
                ],
            }
        )
        for seen in sample.observations
    ]
    return sample


def _topics() -> list[TopicInfo]:
    return [
        TopicInfo(
            id="resize",
            title="In-place pod resize",
            label="prerequisite: base conformance since 1.35",
            official_link="https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/",
        ),
        TopicInfo(
            id="gang",
            title="Gang scheduling",
            label="KAR-53",
            requirement="gang_scheduling",
            any_of=True,
            official_link="https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars",
        ),
    ]


def _checks() -> list[CheckInfo]:
    def one(topic: str, name: str, title: str, **more: Any) -> CheckInfo:
        return CheckInfo(
            id=f"{topic}.{name}",
            title=title,
            topic=topic,
            budget_seconds=120,
            **more,
        )

    resize = [
        one(
            "resize",
            name,
            title,
            proves="The kernel enforces the new value in the same process: same container, same "
            "process start time, no restart counted.",
            fails_when="The cgroup file still holds the old value after the settling time, or the "
            "container or its first process was replaced.",
            disruption="none",
        )
        for name, title in RESIZE.items()
    ]
    gang = [
        one(
            "gang",
            name,
            title,
            requirement="gang_scheduling",
            proves="Where two of four pods fit, pods of a gang are bound all together or not at "
            "all, while the same pods without a gang are bound in part.",
            fails_when="Any pod of the gang is bound to a node while there is no room for all.",
            disruption="capacity",
        )
        for name, title in GANG.items()
    ]
    return [*resize, *gang]


def _environment() -> Environment:
    return Environment(
        cluster="research-eu-1",
        context="research-eu-1",
        cluster_uid="0b1f6f0a-6b0e-4a54-9f0e-1a6c4d1f7a55",
        server_version="v1.37.0",
        user="CANARY-user@example.com",
        nodes=[
            NodeInfo(
                name=f"worker-{number}",
                uid=f"u-{number}",
                ready=True,
                os="linux",
                architecture="amd64",
                kernel="6.12.41",
                kubelet="v1.37.0",
                runtime="containerd://2.2.1",
                instance_type="c7.2xlarge",
                zone=f"eu-1{'abc'[number - 1]}",
                cpu="8",
                memory="31.2 GiB",
                taints=["dedicated=ai:NoSchedule"] if number == 3 else [],
            )
            for number in (1, 2, 3)
        ],
        images={"python": "docker.io/library/python:3.13-slim@sha256:5f55cdf0c5d9dc1a"},
        options={"namespace": "kar-9f3a", "toleration": ["dedicated=ai:NoSchedule"]},
    )


def _resize_finding(name: str) -> Finding:
    return Finding(
        check=f"resize.{name}",
        outcome=Outcome.PASS,
        reason="as_expected",
        summary="The new value was enforced 1.8 s after the request, in the same process.",
        facts=[
            Fact(
                name="cpu.max before",
                value="20000 100000",
                expected="20000 100000",
                source="cgroup file in the container",
            ),
            Fact(
                name="cpu.max after",
                value="40000 100000",
                expected="40000 100000",
                source="cgroup file in the container",
            ),
            Fact(name="restartCount", value="0", expected="0", source="pod status"),
            Fact(
                name="start time of process 1",
                value="1284467 ticks",
                expected="unchanged",
                source="/proc/1/stat in the container",
            ),
        ],
        would_change="The old value in cpu.max after 60 s, or another start time of process 1.",
        evidence=Evidence.SYNTHETIC,
        trial="resize",
    )


def _gang_finding(name: str) -> Finding:
    return Finding(
        check=f"gang.{name}",
        variant="native",
        outcome=Outcome.PASS,
        reason="as_expected",
        summary="No pod of the gang of 4 was bound in 30 s, where 2 would have fitted; all 4 were "
        "running 2.1 s after room was made.",
        facts=[
            Fact(name="bound in the window", value="0 of 4", expected="0", source="watch of pods"),
            Fact(
                name="bound without a gang",
                value="2 of 4",
                expected="2",
                source="watch of pods (control)",
            ),
            Fact(name="minCount as stored", value="4", expected="4", source="PodGroup"),
        ],
        would_change="Any pod of the gang with a node name before the filler left.",
        evidence=Evidence.SYNTHETIC,
        trial="gang",
    )


def _resize_observation() -> Observation:
    steps = [(0.0, 200.0), (8.1, 400.0), (20.4, 200.0)]
    used = [(i / 4, (198 if i < 34 else 396 if i < 83 else 199) + i % 5 - 2.0) for i in range(120)]
    return Observation(
        trial="resize",
        evidence=Evidence.SYNTHETIC,
        started=START,
        finished=START + timedelta(seconds=118),
        objects=[
            ObjectRef(
                api_version="v1",
                kind="Pod",
                namespace="kar-9f3a",
                name=f"resize-{name}",
                uid=f"3c6b1f-{name}",
                resource_version="4411",
            )
            for name in ("cpu", "memory", "restart")
        ],
        commands=[
            Command(
                at=START + timedelta(seconds=number),
                pod="resize-cpu",
                container="main",
                argv=["cat", "/sys/fs/cgroup/cpu.max"],
                exit_code=0,
                stdout="40000 100000\n",
            )
            for number in range(5)
        ],
        figures=[
            Figure(
                kind="trace",
                title="CPU limit and CPU used",
                checks=["resize.cpu_up", "resize.cpu_down", "resize.cpu_follows"],
                unit="millicores",
                seconds=30,
                series=[
                    Series(name="limit (cpu.max)", points=steps, stepped=True),
                    Series(name="used", points=used),
                ],
                marks=[
                    Mark(at=6.3, label="resize up sent"),
                    Mark(at=18.9, label="resize down sent"),
                ],
            ),
            Figure(
                kind="trace",
                title="Memory limit and memory held",
                checks=["resize.memory_up", "resize.memory_usable"],
                unit="MiB",
                seconds=20,
                series=[
                    Series(name="limit (memory.max)", points=[(0, 64), (7.2, 128)], stepped=True),
                    Series(name="held", points=[(0, 20), (5, 41), (9, 60), (12, 96), (20, 96)]),
                ],
                marks=[Mark(at=6.0, label="resize sent")],
            ),
        ],
    )


def _gang_observation() -> Observation:
    def lane(name: str, group: str, *spans: tuple[float, float | None, str]) -> Lane:
        return Lane(
            name=name,
            group=group,
            spans=[Span(start=start, end=end, state=state) for start, end, state in spans],
        )

    return Observation(
        trial="gang",
        evidence=Evidence.SYNTHETIC,
        started=START + timedelta(seconds=120),
        finished=START + timedelta(seconds=261),
        figures=[
            Figure(
                kind="timeline",
                title="Control: the same pods without a gang start in part",
                checks=["gang.control"],
                variant="native",
                seconds=30,
                lanes=[
                    lane("control-0", "control", (0, 0.4, "pending"), (0.4, None, "running")),
                    lane("control-1", "control", (0, 0.4, "pending"), (0.4, None, "running")),
                    lane("control-2", "control", (0, None, "pending")),
                    lane("control-3", "control", (0, None, "pending")),
                ],
            ),
            Figure(
                kind="timeline",
                title="The gang waits as a whole, then starts as a whole",
                checks=["gang.all_or_nothing", "gang.released", "gang.starts_together"],
                variant="native",
                seconds=46,
                lanes=[
                    lane("filler", "filler", (0, 31.2, "running"), (31.2, 46, "gone")),
                    *(
                        lane(
                            f"gang-{number}",
                            "gang",
                            (1, 31.6, "pending"),
                            (31.6, 33.3, "bound"),
                            (33.3, 41, "running"),
                            (41, 46, "completed"),
                        )
                        for number in range(4)
                    ),
                ],
                marks=[Mark(at=31, label="window ends"), Mark(at=31.2, label="filler left")],
            ),
        ],
        commands=[
            Command(
                at=START + timedelta(seconds=150),
                pod="gang-0",
                argv=["python", "-m", "barrier", "--peers", "4"],
                exit_code=0,
                stdout="4 of 4 present\n",
            )
        ],
    )
