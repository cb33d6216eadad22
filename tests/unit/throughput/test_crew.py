from __future__ import annotations

from typing import Any

from kar_checks.checks.throughput.crew import agent, agents
from kar_checks.cluster.client import Object

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
