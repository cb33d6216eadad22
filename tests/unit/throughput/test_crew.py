from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kar_checks.checks.throughput.crew import Crew, agent, agents
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Listing, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.target import Target

HOSTNAMES = ["a", "b", "c"]


def job(*, host_network: bool = False) -> Object:
    return agents("net0", HOSTNAMES, "10.0.0.9", image="i", probe="p", host_network=host_network)


def hostnames(spec: Object) -> Any:
    wanted = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return wanted["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]


def test_a_job_has_an_agent_for_each_node() -> None:
    spec = job()["spec"]
    assert (spec["completions"], spec["parallelism"]) == (3, 3)
    assert hostnames(spec["template"]["spec"]) == HOSTNAMES
    assert "hostNetwork" not in spec["template"]["spec"]


def test_only_the_baseline_is_on_the_nodes_own_network() -> None:
    assert job(host_network=True)["spec"]["template"]["spec"]["hostNetwork"] is True


def test_an_agent_of_its_own_is_the_jobs_pod_on_one_node() -> None:
    whole = job()
    one = agent(whole, 2, "b")
    assert one["metadata"]["name"] == "throughput-net0-agents-2"
    assert one["metadata"]["labels"] == whole["spec"]["template"]["metadata"]["labels"]
    assert hostnames(one["spec"]) == ["b"]
    assert hostnames(whole["spec"]["template"]["spec"]) == HOSTNAMES
    assert one["spec"]["containers"] == whole["spec"]["template"]["spec"]["containers"]


def stored(*, suspend: bool, queue: str = "") -> Object:
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    meta = {"name": "throughput-pod-agents", "uid": "u", "labels": labels}
    return {"kind": "Job", "metadata": meta, "spec": {"suspend": suspend}}


class Admission:
    """A cluster in which somebody holds Jobs back: they never have pods."""

    def __init__(self, job: Object) -> None:
        self.job = job
        self.stopping = threading.Event()
        self.watched: list[float] = []

    def list(self, *_: object, **__: object) -> Listing:
        return Listing([], "1")

    def find(self, *_: object) -> Object:
        return self.job

    def watch(self, *_: object, deadline: float, **__: object) -> Iterator[tuple[str, Object]]:
        self.watched.append(deadline)
        return iter(())


def crew_with(found: Object) -> tuple[Crew, Admission]:
    cluster = Admission(found)
    pod = {"metadata": {"name": "p"}, "status": {"podIP": "10.0.0.1"}}
    node: Object = {"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}}
    trial: Any = SimpleNamespace(
        cluster=cluster,
        namespace="n",
        number=lambda _: 180.0,
        mount_probe=lambda _: "probe",
        wait_pod=lambda *_: pod,
        workspace=SimpleNamespace(
            target=Target(),
            create=lambda kind, body: found if kind == kinds.JOB else body,
            delete=lambda *_, **__: True,
        ),
    )
    return Crew(trial, "pod", [node], [node, node]), cluster


def test_a_job_that_kueue_suspends_is_not_waited_for() -> None:
    crew, cluster = crew_with(stored(suspend=True))
    with pytest.raises(HarnessError, match="names no queue") as caught:
        crew.work({}, 1)
    assert "--label kueue.x-k8s.io/queue-name=NAME" in caught.value.fault.help
    assert cluster.watched == []


def test_a_job_with_a_queue_waits_for_its_quota_and_then_names_the_queue() -> None:
    crew, cluster = crew_with(stored(suspend=True, queue="team"))
    with pytest.raises(HarnessError, match="the queue team does not admit it"):
        crew.work({}, 1)
    assert len(cluster.watched) == 2


def test_a_job_without_pods_that_nobody_suspends_has_another_reason() -> None:
    crew, cluster = crew_with(stored(suspend=False))
    with pytest.raises(HarnessError, match="0 of 2 agents run: no pods"):
        crew.work({}, 1)
    assert len(cluster.watched) == 1
