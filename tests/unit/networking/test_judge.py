"""Every verdict on secondary networks, from an observation that a real run stored."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.networking.characteristics import compare
from kar_checks.checks.networking.judge import judge
from kar_checks.checks.networking.observation import NetworkingObservation
from kar_checks.kit.networks.records import Device, Look, Nic
from kar_checks.model import Finding, Outcome

RECORDED = (Path(__file__).parent / "recorded" / "observation.json").read_text()
"""What version 0.1 stored."""
Change = Callable[[dict[str, Any]], None]


def verdict(check: str, *changes: Change) -> Finding:
    raw = json.loads(RECORDED)
    raw["networks"]["dra.net"]["refusal"]["pulse"] = pulsed()
    for change in changes:
        change(raw)
    seen = NetworkingObservation.model_validate(raw)
    (finding,) = judge(f"networking.{check}", seen, profile.default())
    return finding


def pulsed(*silent: float) -> dict[str, Any]:
    """The window of the pod that has to wait, with a pulse every 2 s but for the ``silent``."""
    moments = [one for one in (-1.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0) if one not in silent]
    beats = {"the scheduler x": [{"asked": one, "answered": one} for one in moments]}
    return {"began": 0, "ended": 10.1, "beats": beats, "lost": 0}


def at(path: str, value: Any) -> Change:
    """Set a value of the one network; an integer steps into a list."""

    def change(raw: dict[str, Any]) -> None:
        here: Any = raw["networks"]["dra.net"]
        *steps, last = path.split("/")
        for step in steps:
            here = here[int(step) if isinstance(here, list) else step]
        here[int(last) if isinstance(here, list) else last] = value

    return change


def both(path: str, value: Any) -> Change:
    def change(raw: dict[str, Any]) -> None:
        for index in (0, 1):
            at(f"pods/{index}/{path}", value)(raw)

    return change


def renamed(raw: dict[str, Any]) -> None:
    interfaces = raw["networks"]["dra.net"]["pods"][0]["look"]["interfaces"]
    interfaces["x"] = interfaces.pop("net1")


def without_net1(raw: dict[str, Any]) -> None:
    for pod in raw["networks"]["dra.net"]["pods"]:
        del pod["look"]["interfaces"]["net1"]


def counters_swapped(raw: dict[str, Any]) -> None:
    for end in ("client", "server"):
        for when in ("before", "after"):
            found = raw["networks"]["dra.net"]["transfer"][end][when]
            found["net1"], found["eth0"] = found["eth0"], found["net1"]


def eth0_busy(raw: dict[str, Any]) -> None:
    raw["networks"]["dra.net"]["transfer"]["server"]["after"]["eth0"][0] += 10_000_000


def counter_reset(raw: dict[str, Any]) -> None:
    raw["networks"]["dra.net"]["transfer"]["client"]["after"]["eth0"] = [0, 0]


def no_counters(raw: dict[str, Any]) -> None:
    del raw["networks"]["dra.net"]["transfer"]["client"]["after"]["net1"]


def lying_mtu(raw: dict[str, Any]) -> None:
    raw["networks"]["dra.net"]["pods"][1]["device"]["attributes"]["dra.net/mtu"] = 9000


def mutated(raw: dict[str, Any]) -> None:
    field = "spec.containers[probe].resources.claims[nic]"
    raw["mutations"] = [{"object": "Pod/net0-pod1", "field": field}]


def attempts(**changes: Any) -> Change:
    one = {
        "pod": "net0-pod1",
        "node": "kar1",
        "state": "Pending, ContainerCreating",
        "scheduler": "",
        "events": ["FailedPrepareDynamicResources: no driver"],
        "seconds": 30.0,
        **changes,
    }

    def change(raw: dict[str, Any]) -> None:
        at("pods", [])(raw)
        at("attempts", [one])(raw)

    return change


def full(nodes: int, lack: str = "Insufficient cpu") -> Change:
    """A pod that some nodes have no room for, and the others no device."""
    said = f"0/3 nodes are available: {3 - nodes} cannot allocate all claims"
    more = f", {nodes} {lack}. preemption: 0/3 nodes are available: 3 No victims." if nodes else "."
    return attempts(node="", scheduler=said + more, held="kar1 has 3m of 600m cpu free (a/b 500m)")


def one_pod_on(node: str) -> Change:
    def change(raw: dict[str, Any]) -> None:
        first = json.loads(RECORDED)["networks"]["dra.net"]["pods"][0]
        raw["networks"]["dra.net"]["pods"] = [{**first, "node": node}]

    return change


def looked(free: list[str] | None = None, **more: Any) -> Change:
    """What was published about the network's devices: all are free, and nobody holds any."""

    def change(raw: dict[str, Any]) -> None:
        found = {"free": ["kar1", "kar2"] if free is None else free, "held": [], **more}
        raw["networks"]["dra.net"].update(found)

    return change


def nodes(further: list[str], drivers: dict[str, str] | None = None) -> Change:
    """Which device nodes the pods have beside those that every pod has."""

    def change(raw: dict[str, Any]) -> None:
        at("control/look/devices", ["null"])(raw)
        both("look/devices", ["null", *further])(raw)
        both("look/drivers", drivers or {})(raw)

    return change


FAULT = {"reason": "timeout", "message": "late"}

CASES: list[tuple[str, list[Change], str, str]] = [
    ("interface", [], "pass", "interface_present"),
    ("interface", [renamed], "fail", "interface_missing"),
    ("interface", [at("pods/0/told/name", "eth0")], "fail", "interface_not_further"),
    ("interface", [at("pods/1/told/mac", "00:00:00:00:00:01")], "fail", "interface_differs"),
    ("interface", [at("pods/1/told/addresses", ["192.0.2.1"])], "fail", "interface_differs"),
    ("interface", [both("told", None)], "inconclusive", "not_told"),
    ("interface", [both("told", None), without_net1], "inconclusive", "not_recorded"),
    ("interface", [both("told", None), without_net1, nodes([])], "fail", "no_interface"),
    (
        "interface",
        [both("told", None), without_net1, both("look/infiniband", ["uverbs0"])],
        "inconclusive",
        "rdma_without_ip",
    ),
    ("interface", [attempts()], "fail", "not_attached"),
    (
        "interface",
        [attempts(node="", scheduler="cannot allocate all claims")],
        "inconclusive",
        "not_recorded",
    ),
    (
        "interface",
        [attempts(node="", scheduler="cannot allocate all claims"), looked()],
        "fail",
        "not_allocated",
    ),
    ("interface", [attempts(node="", scheduler="3 Insufficient cpu.")], "inconclusive", "no_room"),
    (
        "interface",
        [attempts(node="", scheduler="3 node(s) had untolerated taint {a: b}.")],
        "error",
        "unschedulable",
    ),
    ("data_path", [full(2), looked()], "inconclusive", "no_room"),
    ("data_path", [full(2, "Too many pods"), looked()], "inconclusive", "no_room"),
    ("data_path", [full(1), looked(["kar2"])], "inconclusive", "no_room"),
    ("data_path", [full(1), looked()], "fail", "not_allocated"),
    ("data_path", [full(1), looked(), one_pod_on("kar1")], "inconclusive", "no_room"),
    ("data_path", [full(0), looked()], "fail", "not_allocated"),
    ("interface", [at("pods", [])], "inconclusive", "one_capable_node"),
    ("interface", [mutated], "inconclusive", "mutated"),
    ("interface", [at("control", None)], "inconclusive", "not_observed"),
    ("characteristics", [], "pass", "published_and_true"),
    ("characteristics", [at("pods/0/device", None)], "fail", "nothing_published"),
    (
        "characteristics",
        [at("pods/0/device", None), at("mechanism", "device_plugin")],
        "fail",
        "nothing_published",
    ),
    ("characteristics", [both("device/attributes", {})], "fail", "nothing_published"),
    (
        "characteristics",
        [both("device/attributes", {"dra.net/numaNode": 0})],
        "inconclusive",
        "not_compared",
    ),
    (
        "characteristics",
        [lying_mtu],
        "fail",
        "contradiction",
    ),
    ("characteristics", [renamed], "fail", "interface_missing"),
    ("characteristics", [attempts()], "fail", "not_attached"),
    ("placement", [], "pass", "kept_from_incapable"),
    ("placement", [at("steers", False)], "inconclusive", "does_not_steer"),
    ("placement", [at("refusal", None)], "inconclusive", "no_incapable_node"),
    ("placement", [at("refusal", FAULT)], "error", "timeout"),
    ("placement", [at("refusal/bound", "kar3")], "fail", "bound_without_network"),
    ("placement", [at("refusal/message", "1 Insufficient cpu")], "inconclusive", "not_attributed"),
    ("placement", [at("refusal/pulse", pulsed(3.0, 5.0))], "inconclusive", "window_too_short"),
    ("placement", [at("refusal/pulse", None)], "inconclusive", "not_recorded"),
    (
        "interface",
        [attempts(node="", state="Pending", scheduler="")],
        "inconclusive",
        "scheduler_silent",
    ),
    ("placement", [at("control/node", "kar1")], "inconclusive", "control_elsewhere"),
    ("placement", [at("pods/0/node", "kar3")], "fail", "landed_astray"),
    ("placement", [attempts()], "pass", "kept_from_incapable"),
    ("placement", [attempts(node="", scheduler="claims"), looked()], "fail", "not_allocated"),
    ("placement", [mutated], "inconclusive", "mutated"),
    ("data_path", [], "pass", "carried"),
    ("data_path", [both("node", "kar1")], "inconclusive", "same_node"),
    ("data_path", [both("told/addresses", [])], "inconclusive", "no_address"),
    ("data_path", [both("told", None)], "inconclusive", "not_told"),
    ("data_path", [at("plain", None)], "inconclusive", "control_failed"),
    ("data_path", [at("plain/client/error", "refused")], "inconclusive", "control_failed"),
    (
        "data_path",
        [at("plain/client/error", "[Errno 111] Connection refused")],
        "inconclusive",
        "control_failed",
    ),
    ("data_path", [at("transfer", None)], "inconclusive", "no_common_family"),
    ("data_path", [at("transfer/client/error", "timed out")], "fail", "no_exchange"),
    ("data_path", [at("transfer/client/intact", False)], "fail", "no_exchange"),
    ("data_path", [at("transfer/server", None)], "fail", "no_exchange"),
    ("data_path", [counters_swapped], "fail", "another_interface"),
    ("data_path", [eth0_busy], "inconclusive", "stray_bytes"),
    ("data_path", [counter_reset], "inconclusive", "counters_reset"),
    ("data_path", [no_counters], "inconclusive", "no_counters"),
    ("data_path", [attempts()], "fail", "not_attached"),
    ("data_path", [at("pods", [])], "inconclusive", "one_capable_node"),
]


@pytest.mark.parametrize(("check", "changes", "outcome", "reason"), CASES)
def test_every_verdict(check: str, changes: list[Change], outcome: str, reason: str) -> None:
    found = verdict(check, *changes)
    assert (found.outcome.value, found.reason) == (outcome, reason), found.summary
    assert found.variant == "dra.net"
    assert found.summary


@pytest.mark.parametrize(
    ("check", "change", "broken"),
    [
        ("interface", renamed, "Interface net1 is missing"),
        ("interface", attempts(), "on kar1 are not attached to the network of DRA driver dra.net"),
        ("characteristics", lying_mtu, "published by DRA driver dra.net: MTU"),
        ("placement", at("refusal/bound", "kar3"), "bound to kar3"),
        ("data_path", counters_swapped, "eth0 instead of net1"),
        ("data_path", at("transfer/server", None), "secondary network"),
    ],
)
def test_a_failure_names_what_is_broken(check: str, change: Change, broken: str) -> None:
    found = verdict(check, change)
    assert broken in found.broken
    assert found.causes
    assert found.help


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([at("transfer/server", None)], "198.18.16.2 answered, and net0-pod2 received no connect"),
        (
            [at("transfer/client/intact", False), at("transfer/client/received", 5000)],
            "only 5,000 of 67,108,864 bytes came back",
        ),
        ([at("transfer/client/intact", False)], "67,108,864 bytes that came back differ"),
        ([at("transfer/client/error", "timed out")], "timed out"),
    ],
)
def test_what_kept_the_bytes_from_arriving_is_named(changes: list[Change], why: str) -> None:
    assert why in verdict("data_path", *changes).summary


def test_only_a_control_that_timed_out_is_put_down_to_a_policy() -> None:
    late = verdict("data_path", at("plain/client/error", "timed out"))
    dead = verdict("data_path", at("plain/client/error", "[Errno 111] Connection refused"))
    assert "NetworkPolicy" in late.help
    assert "NetworkPolicy" not in dead.help
    assert "nothing listened in net0-pod2" in dead.summary


def test_a_network_that_offers_nothing_is_broken() -> None:
    found = verdict("interface", looked([], capable=[], incapable=["kar1", "kar2", "kar3"]))
    assert (found.outcome, found.reason) == (Outcome.FAIL, "no_device")


def test_an_old_run_does_not_tell_whether_others_had_the_devices() -> None:
    problem = {"reason": "no_device", "text": "nothing is offered", "broken": True}
    found = verdict("interface", at("problem", problem))
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, "not_recorded")


def test_a_fault_is_an_error_for_every_check() -> None:
    def fault(raw: dict[str, Any]) -> None:
        raw["networks"]["dra.net"] = FAULT

    assert verdict("data_path", fault).outcome is Outcome.ERROR


def test_networks_that_were_not_measured_are_named() -> None:
    found = verdict("interface", lambda raw: raw.update(more=["infra/other"]))
    assert any("infra/other" in fact.value for fact in found.facts)


# -- no network -----------------------------------------------------------------------------


def host(node: str, **interfaces: dict[str, Any]) -> dict[str, Any]:
    empty = {
        "mac": "",
        "addresses": [],
        "mtu": "1500",
        "speed": "",
        "operstate": "up",
        "hardware": "1",
        "kind": "",
        "pci": "",
        "numa_node": "",
        "rdma": [],
    }
    look = {
        "interfaces": {name: {**empty, **one} for name, one in interfaces.items()},
        "default": "eth0",
    }
    return {"node": node, "look": look}


USUAL: dict[str, dict[str, Any]] = {
    "lo": {"hardware": "772"},
    "eth0": {"pci": "0000:00:03.0"},
    "veth1": {"kind": "veth"},
    "cni0": {"kind": "bridge"},
    "vxlan": {"kind": "vxlan"},
}


@pytest.mark.parametrize(
    ("hosts", "outcome", "reason"),
    [
        ([host("a", **USUAL), host("b", **USUAL)], "not_applicable", "no_special_interface"),
        ([host("a", **USUAL)], "inconclusive", "no_network_found"),
        ([], "inconclusive", "no_network_found"),
        (
            [host("a", **USUAL), host("b", **USUAL, net1={"kind": "macvlan"})],
            "inconclusive",
            "not_offered",
        ),
        (
            [host("a", **USUAL), host("b", **USUAL, ens9={"pci": "0000:00:09.0"})],
            "inconclusive",
            "not_offered",
        ),
        (
            [host("a", **USUAL), host("b", **USUAL, ib0={"hardware": "32"})],
            "inconclusive",
            "not_offered",
        ),
        (
            [host("a", **USUAL), host("b", **USUAL, ens9={"pci": "x", "master": "eth0"})],
            "not_applicable",
            "no_special_interface",
        ),
        (FAULT, "inconclusive", "no_network_found"),
    ],
)
def test_without_a_network_the_nodes_decide(hosts: Any, outcome: str, reason: str) -> None:
    found = verdict("interface", lambda raw: raw.update(networks={}, hosts=hosts, nodes=2))
    assert (found.outcome.value, found.reason) == (outcome, reason)


def test_the_user_may_declare_that_there_is_none() -> None:
    found = verdict("placement", lambda raw: raw.update(networks={}, declared_none=True))
    assert (found.outcome, found.reason) == (Outcome.NOT_APPLICABLE, "declared_none")


# -- characteristics ------------------------------------------------------------------------

HARDWARE = Nic(
    mac="aa:bb:cc:00:00:01",
    addresses=[],
    mtu="9000",
    speed="25000",
    operstate="up",
    hardware="1",
    kind="",
    pci="0000:3b:00.1",
    numa_node="1",
    rdma=["mlx5_1"],
)


@pytest.mark.parametrize(
    ("attribute", "value", "name", "agreement"),
    [
        ("dra.net/type", "device", "type", "agrees"),
        ("dra.net/type", "macvlan", "type", "contradicts"),
        ("dra.net/rdma", True, "RDMA", "agrees"),
        ("dra.net/rdma", False, "RDMA", "contradicts"),
        ("resource.kubernetes.io/pciBusID", "0000:3b:00.1", "PCI address", "agrees"),
        ("dra.net/pciAddress", "0000:3b:00.0", "PCI address", "contradicts"),
        ("pci.pci-address", "0000:3b:00.1", "PCI address", "agrees"),
        ("dra.net/numaNode", 1, "NUMA node", "agrees"),
        ("dra.net/numaNode", 0, "NUMA node", "contradicts"),
        ("fabric.example.com/bandwidth", "25Gbps", "bandwidth", "agrees"),
        ("fabric.example.com/bandwidth", "25G", "bandwidth", "agrees"),
        ("fabric.example.com/speed", "100 Gbit/s", "bandwidth", "contradicts"),
        ("fabric.example.com/speed", 25, "bandwidth", "not compared"),
        ("fabric.example.com/speed", "fast", "bandwidth", "not compared"),
        ("dra.net/mtu", 9000, "MTU", "agrees"),
        ("dra.net/mac", "AA:BB:CC:00:00:01", "hardware address", "agrees"),
    ],
)
def test_a_characteristic_is_compared(
    attribute: str, value: Any, name: str, agreement: str
) -> None:
    look = Look(interfaces={"net1": HARDWARE}, default="eth0")
    device = Device(name="d", attributes={attribute: value}, source="s")
    found = {one.name: one for one in compare(device, HARDWARE, look)}
    assert found[name].agreement == agreement
    others = {one.agreement for one in found.values() if one.name != name}
    assert others == {"not published"}


def test_an_observation_is_not_changed_by_its_judge() -> None:
    seen = NetworkingObservation.model_validate_json(RECORDED)
    before = copy.deepcopy(seen)
    for check in ("interface", "characteristics", "placement", "data_path"):
        judge(f"networking.{check}", seen, profile.default())
    assert seen == before
