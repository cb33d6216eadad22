"""Secondary networks that throughput cannot measure, for the reasons that networking gives."""

from __future__ import annotations

from typing import Any

import pytest

from kar_checks.checks.throughput import trial
from kar_checks.checks.throughput.observation import Unmeasured
from kar_checks.checks.throughput.trial import Ground
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.networks.attach import Addresses
from kar_checks.kit.networks.multus import AttachedNetwork
from kar_checks.kit.networks.offer import Published
from kar_checks.kit.networks.records import Attempt, Held, Measured
from kar_checks.model import Fault, Reason

NOBODY: Any = None
RESOURCE = "intel.com/sriov"
ISOLATED = "namespace isolation enabled, pod is in namespace x but refers to target namespace y"


def node(name: str, amount: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"allocatable": {RESOURCE: amount}}}


def definition() -> AttachedNetwork:
    note = {"k8s.v1.cni.cncf.io/resourceName": RESOURCE}
    meta = {"name": "n", "namespace": "infra", "annotations": note}
    return AttachedNetwork({"metadata": meta, "spec": {}}, Addresses(None))


def reached(published: Published, free: list[str]) -> Any:
    nodes = {str(one["metadata"]["name"]): one for one in published.nodes}
    network = definition()
    mine = {one: nodes[one] for one in free}
    ground = Ground(network.name, "net0", mine, network, published)
    return trial._reachable(NOBODY, ground, network, published, 0)


def user(place: str) -> dict[str, Any]:
    containers = [{"name": "c", "resources": {"requests": {RESOURCE: "1"}}}]
    return {
        "metadata": {"name": "job", "namespace": "team"},
        "spec": {"nodeName": place, "containers": containers},
    }


@pytest.mark.parametrize(("held", "free"), [(["a", "b"], []), (["a"], ["b"])])
def test_devices_of_others_are_named(held: list[str], free: list[str]) -> None:
    nodes = [node("a", "1"), node("b", "1")]
    found = reached(Published(nodes=nodes, pods=[user(one) for one in held]), free)
    assert isinstance(found, Unmeasured)
    assert found.word == "devices_in_use"
    assert "pod team/job (1)" in found.text


def test_tainted_nodes_are_named() -> None:
    taint = {"key": "gpu", "effect": "NoSchedule"}
    other = {**node("g", "1"), "spec": {"taints": [taint]}}
    published = Published(nodes=[node("a", "0")], others=[(other, "it has the taint gpu")])
    found = reached(published, [])
    assert isinstance(found, Unmeasured)
    assert found.word == "only_on_tainted_nodes"
    assert "`--toleration gpu:NoSchedule`" in found.help


SEEN = Measured(
    mechanism="multus",
    steers=False,
    offered="x",
    capable=["a"],
    incapable=[],
    free=["a"],
    held=[Held(what="x", node="a", by=["pod team/job"])],
)


def attempt(event: str, at: str = "a", said: str = "") -> Attempt:
    return Attempt(pod="p", node=at, state="Pending", scheduler=said, events=[event], seconds=9.0)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (attempt(ISOLATED), "not_for_this_namespace"),
        (attempt("no IP addresses available in range set: 10.0.0.1-10.0.0.2"), "addresses_in_use"),
        (attempt("failed to find host device: Link not found"), "devices_in_use"),
        (attempt("", "", "class bad: selector #0: CEL runtime error: x"), "broken_device_class"),
        (attempt("plugin crashed"), None),
        (Fault(reason=Reason.REFUSED_BY_POLICY, message="no"), "not_for_this_namespace"),
    ],
)
def test_why_no_pod_got_onto_a_network(part: Attempt | Fault, reason: str | None) -> None:
    found = trial._why_not(SEEN, [part])
    assert (found.reason if found else None) == reason


def test_another_fault_is_an_error() -> None:
    with pytest.raises(HarnessError, match="no image"):
        trial._why_not(SEEN, [Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image")])
