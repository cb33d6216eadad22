"""Networks that are there and cannot be measured: nobody's fault, and each for its own reason."""

from typing import Any

import pytest

from kar_checks.model import Finding
from tests.unit.networking.test_judge import (
    Change,
    at,
    attempts,
    both,
    looked,
    nodes,
    verdict,
    without_net1,
)

CHECKS = ("interface", "characteristics", "placement", "data_path")
TAINT = "nvidia.com/gpu=present:NoSchedule"
TAINTED = {
    "node": "gpu1",
    "why": f"it has the taint {TAINT}, give --toleration {TAINT}",
    "taints": [TAINT],
}
CORDONED = {"node": "cpu9", "why": "it is cordoned"}
HOLDER = "claim team/train-nic (pod train-0)"
HELD = [
    {"what": "device net1 of pool kar1", "node": "kar1", "by": [HOLDER]},
    {"what": "device net1 of pool kar2", "node": "kar2", "by": ["claim team/x (pod x-0)"]},
]
NOT_FREE = "0/3 nodes are available: 3 cannot allocate all claims."


def said(found: Finding) -> tuple[str, str]:
    return found.outcome.value, found.reason


def multus(*events: str, **changes: Any) -> Change:
    """Let no pod get onto a network that steers nobody; it was tried on the one usable node."""

    def change(raw: dict[str, Any]) -> None:
        attempts(events=list(events))(raw)
        looked(["kar1"], mechanism="multus", steers=False, capable=["kar1"])(raw)
        raw["networks"]["dra.net"].update(changes)

    return change


@pytest.mark.parametrize("check", CHECKS)
def test_a_network_of_tainted_nodes_names_them_and_the_toleration(check: str) -> None:
    found = verdict(check, looked([], capable=[], elsewhere=[TAINTED, CORDONED]))
    assert said(found) == ("inconclusive", "only_on_tainted_nodes")
    assert f"gpu1 ({TAINT})" in found.summary
    assert found.help == f"run again with `--toleration {TAINT}`"


def test_nodes_that_are_cordoned_or_not_ready_are_named() -> None:
    found = verdict("interface", looked([], capable=[], elsewhere=[CORDONED]))
    assert said(found) == ("inconclusive", "only_on_unusable_nodes")
    assert "cpu9 (it is cordoned)" in found.summary


@pytest.mark.parametrize("check", CHECKS)
def test_devices_that_others_hold_are_named_with_their_holders(check: str) -> None:
    found = verdict(check, looked([], held=HELD))
    assert said(found) == ("inconclusive", "devices_in_use")
    assert f"kar1: device net1 of pool kar1 by {HOLDER}" in found.summary
    assert any(HOLDER in fact.value for fact in found.facts)


def test_held_devices_on_usable_nodes_and_free_ones_on_tainted_nodes() -> None:
    found = verdict("data_path", looked([], held=HELD, elsewhere=[TAINTED]))
    assert said(found) == ("inconclusive", "devices_in_use")
    assert f"--toleration {TAINT}" in found.help


def test_devices_that_were_taken_meanwhile_are_in_use_too() -> None:
    wait = attempts(node="", scheduler=NOT_FREE)
    found = verdict("interface", wait, looked([], control=None, held=HELD))
    assert said(found) == ("inconclusive", "devices_in_use")
    found = verdict("interface", wait, looked(["kar2"], held=HELD[:1]))
    assert said(found) == ("inconclusive", "devices_in_use")


def test_one_free_device_is_measured_and_says_who_holds_the_other() -> None:
    def one(raw: dict[str, Any]) -> None:
        del raw["networks"]["dra.net"]["pods"][1]

    partly = looked(["kar2"], held=HELD[:1])
    assert said(verdict("interface", one, partly)) == ("pass", "interface_present")
    found = verdict("data_path", one, partly)
    assert said(found) == ("inconclusive", "devices_in_use")
    assert HOLDER in found.summary


def test_one_capable_node_names_those_that_may_not_be_used() -> None:
    def one(raw: dict[str, Any]) -> None:
        del raw["networks"]["dra.net"]["pods"][1]

    found = verdict("data_path", one, looked(["kar1"], capable=["kar1"], elsewhere=[TAINTED]))
    assert said(found) == ("inconclusive", "one_capable_node")
    assert "gpu1" in found.summary
    assert TAINT in found.help


def test_shared_counters_that_are_used_up_are_devices_in_use() -> None:
    assert said(verdict("interface", looked([]))) == ("inconclusive", "devices_in_use")


def test_one_capable_node_beside_a_cordoned_one() -> None:
    found = verdict("data_path", at("pods", []), looked(["kar1"], elsewhere=[CORDONED]))
    assert said(found) == ("inconclusive", "one_capable_node")
    assert "cpu9" in found.summary
    assert "kubectl uncordon" in found.help


def test_without_the_right_to_see_holders_nothing_is_blamed() -> None:
    wait = attempts(node="", scheduler="3 Insufficient rdma/hca_a.")
    found = verdict("interface", wait, looked(held=None))
    assert said(found) == ("inconclusive", "holders_not_seen")


def test_a_broken_class_that_the_scheduler_names_is_no_failure_of_the_network() -> None:
    text = "class poison: selector #0 on device dra.net/a/net1: CEL runtime error: no such key: no"
    found = verdict("interface", attempts(node="", scheduler=text), looked())
    assert said(found) == ("inconclusive", "broken_device_class")
    assert "poison" in found.help


def test_devices_without_an_interface_are_named() -> None:
    bare = looked([], capable=[], bare=["pci-0000-3b-00-1 of pool kar1"])
    found = verdict("interface", bare)
    assert said(found) == ("inconclusive", "no_network_interface")
    assert "pci-0000-3b-00-1" in found.summary


def test_devices_with_taints_name_them() -> None:
    tainted = looked([], tainted={"net1 of pool kar1": "repair:NoExecute"})
    found = verdict("interface", tainted)
    assert said(found) == ("inconclusive", "only_tainted_devices")
    assert "--toleration repair:NoExecute" in found.help


VFIO = {"0000:3b:02.1": "vfio-pci"}


@pytest.mark.parametrize("check", ["interface", "characteristics", "data_path"])
@pytest.mark.parametrize(
    "given",
    [
        [nodes(["vfio/12", "vfio/vfio"])],
        [nodes([], VFIO), both("look/environment", {"PCIDEVICE_A": "0000:3b:02.1"})],
        [nodes(["uio0"])],
        [nodes(["tap7"])],
    ],
)
def test_a_device_for_a_program_has_no_interface(check: str, given: list[Change]) -> None:
    found = verdict(check, both("told", None), both("device", None), without_net1, *given)
    assert said(found) == ("inconclusive", "no_network_interface")


def test_an_interface_that_is_told_of_a_device_for_a_program() -> None:
    """What SR-IOV's plugin notes of a virtual function that vfio-pci drives."""
    found = verdict("interface", without_net1, nodes(["vfio/12"]))
    assert said(found) == ("inconclusive", "no_network_interface")
    assert said(verdict("interface", without_net1, nodes([]))) == ("fail", "interface_missing")


@pytest.mark.parametrize(
    ("resource", "outcome", "reason"),
    [
        ("example.com/dpdk", "inconclusive", "no_network_interface"),
        ("rdma/hca_a", "fail", "no_interface"),
    ],
)
def test_a_device_plugin_promises_no_interface(resource: str, outcome: str, reason: str) -> None:
    mechanism = [at("mechanism", "device_plugin"), at("resource", resource)]
    found = verdict("interface", *mechanism, both("told", None), without_net1, nodes([]))
    assert said(found) == (outcome, reason)


ISOLATED = (
    "FailedCreatePodSandBox: namespace isolation enabled, annotation violates permission, pod is "
    "in namespace kar-checks-x but refers to target namespace tenant-a"
)
NO_LINK = 'FailedCreatePodSandBox: failed to lookup master "net1": Link not found'
FULL = "FailedCreatePodSandBox: no IP addresses available in range set: 10.9.0.1-10.9.0.2"
USERS = [{"what": "an interface of a/b", "node": "kar1", "by": ["pod team/a"]}]


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        (multus(ISOLATED), "inconclusive", "not_for_this_namespace"),
        (multus(NO_LINK, elsewhere=[TAINTED]), "inconclusive", "only_on_tainted_nodes"),
        (multus(NO_LINK, elsewhere=[CORDONED]), "inconclusive", "only_on_unusable_nodes"),
        (multus(NO_LINK, free=["kar1", "kar9"]), "inconclusive", "not_on_tried_nodes"),
        (multus(NO_LINK, held=USERS), "inconclusive", "devices_in_use"),
        (multus(NO_LINK), "fail", "not_attached"),
        (multus(NO_LINK, free=None), "inconclusive", "not_recorded"),
        (multus(FULL, held=USERS), "inconclusive", "addresses_in_use"),
        (multus(FULL), "inconclusive", "addresses_in_use"),
        (multus("FailedCreatePodSandBox: plugin crashed"), "fail", "not_attached"),
    ],
)
def test_why_a_pod_did_not_get_onto_a_definition(
    changes: Change, outcome: str, reason: str
) -> None:
    assert said(verdict("interface", changes)) == (outcome, reason)


def test_a_policy_that_refuses_only_pods_with_the_network() -> None:
    fault = {"reason": "refused_by_policy", "message": "admission webhook: not your network"}
    for check in CHECKS:
        found = verdict(check, looked(refused=fault))
        assert said(found) == ("inconclusive", "not_for_this_namespace")
        assert "not your network" in found.summary


def test_what_cannot_be_read_is_named_beside_every_verdict() -> None:
    broken = "NetworkAttachmentDefinition a/poison: its config is not a JSON object"
    found = verdict("interface", lambda raw: raw.update(left_out=[broken]))
    assert said(found) == ("pass", "interface_present")
    assert any(broken in fact.value for fact in found.facts)


def test_only_what_cannot_be_read_is_not_taken_for_nothing() -> None:
    broken = "NetworkAttachmentDefinition a/poison: its config is not a JSON object"
    found = verdict("interface", lambda raw: raw.update(networks={}, left_out=[broken]))
    assert said(found) == ("inconclusive", "no_network_found")
    assert broken in found.summary


def test_a_network_whose_objects_may_not_be_read_is_not_called_unpublished() -> None:
    found = verdict("characteristics", at("mechanism", "gke"), both("device", None))
    assert said(found) == ("inconclusive", "not_seen")
