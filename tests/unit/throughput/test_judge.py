"""What the judge of throughput makes of every observation, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.throughput.checks import TOPIC
from kar_checks.checks.throughput.judge import judge
from kar_checks.checks.throughput.observation import Cell, LatencyRun, NetworkSeen, Unmeasured
from kar_checks.kit.networks.attach import Interface
from kar_checks.model import Fault, Finding, OtherRun, Outcome, Reason
from tests.unit.throughput.samples import (
    FORWARD,
    LATENCY,
    MESH,
    REVERSE,
    TCP,
    UDP,
    WHOLE,
    end,
    network,
    observation,
    runs,
    secondary,
    tcp,
)

CHECKS = [one.id for one in TOPIC.checks]
FLOOR = ("throughput.tcp_floor_mbit=9000",)
HIGH_FLOOR = ("throughput.tcp_floor_mbit=11000",)


def verdict(
    check: str, seen: NetworkSeen | Unmeasured | Fault, settings: tuple[str, ...] = ()
) -> Finding:
    (found,) = judge(check, observation(seen), profile.load(None, settings))
    assert (found.check, found.variant, found.trial) == (check, "pod network", "throughput")
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_threshold_a_pass_says_that_it_only_was_measured(check: str) -> None:
    found = verdict(check, network())
    assert found.outcome is Outcome.PASS
    assert found.would_change
    if check != "throughput.path_mtu":
        assert found.reason == "measured"
        assert "sets no limit here, so a pass only means that" in found.summary


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ends": [end("a"), end("b", node="a")]}, "same_node"),
        ({"ends": [end("a"), end("beside", node="a")]}, "same_node"),
        ({"injected": ["istio-proxy"]}, "container_injected"),
    ],
)
def test_pods_that_are_not_as_they_must_be_decide_nothing(
    check: str, changes: dict[str, Any], reason: str
) -> None:
    found = verdict(check, network(**changes))
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, reason)


@pytest.mark.parametrize("check", CHECKS)
def test_a_fault_is_an_error_and_what_was_not_asked_for_is_not_run(check: str) -> None:
    fault = Fault(reason=Reason.IMAGE_LACKS_TOOL, message="no iperf3", help="--image")
    found = verdict(check, fault)
    assert (found.outcome, found.reason, found.help) == (
        Outcome.ERROR,
        "image_lacks_tool",
        "--image",
    )
    empty = network(tcp=[], udp=[], latency=[], whole=[], mesh=None)
    assert verdict(check, empty).outcome is Outcome.NOT_RUN


BUSY = runs(9.5, 10.0, 10.5, sender_cpu=97.0)
NEW = "iperf 3.21"


@pytest.mark.parametrize(
    ("changes", "settings", "outcome", "reason"),
    [
        ({}, FLOOR, Outcome.PASS, "floor_met"),
        ({}, HIGH_FLOOR, Outcome.FAIL, "below_floor"),
        # The median is above the floor, the lower bound of its interval is not.
        ({}, ("throughput.tcp_floor_mbit=9900",), Outcome.FAIL, "below_floor"),
        # One direction is enough.
        ({"tcp": [*runs(10, 10, 10), *runs(5, 5, 5, cell=REVERSE)]}, FLOOR, "fail", "below_floor"),
        ({"tcp": runs(4, 10, 16)}, FLOOR, Outcome.INCONCLUSIVE, "unstable"),
        ({"tcp": runs(4, 10, 16)}, (), Outcome.INCONCLUSIVE, "unstable"),
        ({"tcp": BUSY}, HIGH_FLOOR, Outcome.INCONCLUSIVE, "cpu_bound"),
        # What the CPU held back can only have been more.
        ({"tcp": BUSY}, FLOOR, Outcome.PASS, "floor_met"),
        ({"tcp": BUSY}, (), Outcome.PASS, "measured"),
        # From 3.16 on four streams may use four cores.
        (
            {
                "tcp": runs(9.5, 10.0, 10.5, sender_cpu=97.0, iperf3=NEW),
                "ends": [end("a", iperf3=NEW), end("b", iperf3=NEW)],
            },
            HIGH_FLOOR,
            Outcome.FAIL,
            "below_floor",
        ),
        ({"tcp": runs(9.5, 10.0, 10.5, throttled=1)}, (), Outcome.INCONCLUSIVE, "throttled"),
        ({"tcp": runs(9.5, 10.0, 10.5, throttled=None)}, (), Outcome.PASS, "measured"),
        ({"cap": 10e9}, HIGH_FLOOR, Outcome.INCONCLUSIVE, "capped"),
        ({"cap": 10e9}, FLOOR, Outcome.PASS, "floor_met"),
        ({"ends": [end("a"), end("b", iperf3=NEW)]}, FLOOR, "inconclusive", "mixed_versions"),
        (
            {"tcp": [*TCP[:5], tcp(0, REVERSE, received=None, error="the server is busy")]},
            FLOOR,
            Outcome.INCONCLUSIVE,
            "too_few_repeats",
        ),
        (
            {"tcp": [tcp(0, received=None, error="the server is busy")]},
            (),
            Outcome.ERROR,
            "measurement_failed",
        ),
    ],
)
def test_tcp(
    changes: dict[str, Any], settings: tuple[str, ...], outcome: Outcome, reason: str
) -> None:
    found = verdict("throughput.tcp", network(**changes), settings)
    assert (found.outcome, found.reason) == (outcome, reason)


def test_figures_beside_another_run_fail_nobody() -> None:
    limits = profile.load(None, HIGH_FLOOR)
    alone = observation(network())
    beside = alone.model_copy(update={"beside": [OtherRun(id="20261101-000000-aaaa")]})
    outcomes = [judge("throughput.tcp", one, limits)[0] for one in (alone, beside)]
    assert [(one.outcome, one.reason) for one in outcomes] == [
        (Outcome.FAIL, "below_floor"),
        (Outcome.INCONCLUSIVE, "other_run"),
    ]
    assert "20261101-000000-aaaa" in outcomes[1].summary


def test_what_was_measured_once_is_recorded_and_decides_nothing() -> None:
    side = [
        tcp(1.0, Cell(streams=1, direction="forward"), judged=False),
        tcp(6.0, Cell(streams=4, direction="both"), judged=False, received_back=3e9),
        tcp(0, Cell(streams=8, direction="forward"), judged=False, received=None, error="busy"),
    ]
    found = verdict("throughput.tcp", network(tcp=[*TCP, *side]), FLOOR)
    assert found.outcome is Outcome.PASS
    told = {one.name: one.value for one in found.facts}
    assert told["TCP, 1 stream forward"] == "1.00 Gbit/s (once, only recorded)"
    assert told["TCP, 4 streams both ways at once"].startswith("6.00 Gbit/s and 3.00 Gbit/s back")
    assert told["TCP, 8 streams forward"] == "busy (once, only recorded)"


def test_of_both_directions_at_once_the_slower_one_counts() -> None:
    both = runs(10, 10, 10, cell=Cell(streams=4, direction="both"), received_back=5e9)
    assert verdict("throughput.tcp", network(tcp=both), FLOOR).reason == "below_floor"


def test_a_pass_says_when_it_is_a_lower_bound() -> None:
    assert "a lower bound: the sender" in verdict("throughput.tcp", network(tcp=BUSY)).summary
    assert "a lower bound: --max-bytes" in verdict("throughput.tcp", network(cap=10e9)).summary


def test_nodes_zones_retransmits_and_the_seed_stand_beside_the_figures() -> None:
    ends = [end("a"), end("b", zone="z2", instance_type="c5.large")]
    apart = network(ends=ends, crossed=31_500_000_000)
    told = {one.name: one.value for one in verdict("throughput.tcp", apart).facts}
    assert "c5.large, zone z2; interface eth0, MTU 1500; iperf 3.12" in told["second node"]
    assert "31.50 GB went between zones z1 and z2" in told["traffic between zones"]
    assert told["order of the repeats"] == "seed 7"
    assert "retransmits 2.4 per GB" in told[f"retransmits and CPU, {FORWARD.name}"]
    assert "traffic between zones" not in {
        one.name for one in verdict("throughput.tcp", network()).facts
    }


LOSS = [UDP[0].model_copy(update={"lost": 100})]
CUT = [
    WHOLE[0].model_copy(update={"whole_arrived": False, "error": "Message too long"}),
    WHOLE[1],
]
SLOW = MESH.model_copy(update={"megabits": [[None, 9000, 90], [None, None, 95], [None] * 3]})


@pytest.mark.parametrize(
    ("udp", "settings", "outcome", "reason"),
    [
        (UDP, ("throughput.udp_loss_ceiling_percent=0.5",), Outcome.PASS, "ceiling_met"),
        (LOSS, (), Outcome.PASS, "measured"),
        (LOSS, ("throughput.udp_loss_ceiling_percent=0.5",), Outcome.FAIL, "loses_packets"),
        # 2 % were lost; that it is no more than 2.1 % is not sure.
        (LOSS, ("throughput.udp_loss_ceiling_percent=2.1",), "inconclusive", "too_few_packets"),
        (UDP, ("throughput.udp_loss_ceiling_percent=0.05",), "inconclusive", "too_few_packets"),
        # All but ten of the hundred reached the pod.
        (
            [LOSS[0].model_copy(update={"overrun": 90})],
            ("throughput.udp_loss_ceiling_percent=0.5",),
            Outcome.INCONCLUSIVE,
            "receiver_overrun",
        ),
        (
            [LOSS[0].model_copy(update={"overrun": 40})],
            ("throughput.udp_loss_ceiling_percent=0.5",),
            Outcome.FAIL,
            "loses_packets",
        ),
        ([UDP[0].model_copy(update={"sent": 4e7})], (), "inconclusive", "rate_not_reached"),
        (
            [*UDP, UDP[0].model_copy(update={"packets": None, "error": "refused"})],
            (),
            Outcome.INCONCLUSIVE,
            "too_few_repeats",
        ),
        (
            [UDP[0].model_copy(update={"packets": None, "error": "refused"})],
            (),
            Outcome.ERROR,
            "measurement_failed",
        ),
        # What version 0.1 stored of iperf3 with fewer lost packets than none.
        (
            [*UDP, UDP[0].model_copy(update={"lost": -3})],
            (),
            Outcome.INCONCLUSIVE,
            "too_few_repeats",
        ),
        ([UDP[0].model_copy(update={"lost": -3})], (), Outcome.ERROR, "measurement_failed"),
        ([UDP[0].model_copy(update={"packets": 0})], (), Outcome.ERROR, "measurement_failed"),
    ],
)
def test_udp(udp: list[Any], settings: tuple[str, ...], outcome: Outcome, reason: str) -> None:
    found = verdict("throughput.udp", network(udp=udp), settings)
    assert (found.outcome, found.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("latency", "settings", "outcome", "reason"),
    [
        (LATENCY, ("throughput.p99_ceiling_ms=1",), Outcome.PASS, "ceiling_met"),
        (LATENCY, ("throughput.p99_ceiling_ms=0.06",), Outcome.FAIL, "above_ceiling"),
        (
            [LatencyRun(repeat=0, planned=120, samples_us=[50.0] * 90)],
            (),
            "inconclusive",
            "too_few_samples",
        ),
        (
            [*LATENCY, LatencyRun(repeat=1, planned=9, error="refused")],
            (),
            "inconclusive",
            "too_few_samples",
        ),
        (
            [LatencyRun(repeat=0, planned=9, error="refused")],
            (),
            Outcome.ERROR,
            "measurement_failed",
        ),
    ],
)
def test_latency(
    latency: list[LatencyRun], settings: tuple[str, ...], outcome: Outcome, reason: str
) -> None:
    found = verdict("throughput.latency", network(latency=latency), settings)
    assert (found.outcome, found.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("check", "changes", "settings", "broken"),
    [
        ("throughput.tcp", {}, HIGH_FLOOR, "network between nodes a and b is too slow"),
        (
            "throughput.udp",
            {"udp": LOSS},
            ("throughput.udp_loss_ceiling_percent=0.5",),
            "network between nodes a and b loses packets",
        ),
        (
            "throughput.latency",
            {},
            ("throughput.p99_ceiling_ms=0.06",),
            "network between nodes a and b delays small requests",
        ),
        (
            "throughput.mesh",
            {"mesh": SLOW},
            ("throughput.mesh_floor_share=0.5",),
            "network of c is slower than that of the other nodes",
        ),
        ("throughput.path_mtu", {"whole": CUT}, (), "a and b drops packets of 1500 bytes"),
        (
            "throughput.path_mtu",
            {"ends": [end("a"), end("b", mtu=1400)]},
            (),
            "on the pod network have different MTUs: 1500 on a, 1400 on b",
        ),
    ],
)
def test_a_failure_names_what_is_broken(
    check: str, changes: dict[str, Any], settings: tuple[str, ...], broken: str
) -> None:
    found = verdict(check, network(**changes), settings)
    assert found.outcome is Outcome.FAIL
    assert broken in found.broken


def test_a_datagram_that_is_lost_is_named_with_its_way() -> None:
    found = verdict("throughput.path_mtu", network(whole=CUT))
    assert "do not pass from a to b (Message too long)" in found.summary


def test_every_percentile_has_its_count_and_the_longest_is_told() -> None:
    told = {one.name: one.value for one in verdict("throughput.latency", network()).facts}
    for name in ("p50", "p90", "p99", "p99.9"):
        assert "12000 samples" in told[name]
    assert told["longest"] == "0.062 ms"


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({}, Outcome.PASS, "passes_whole"),
        ({"ends": [end("a"), end("b", mtu=1400)]}, Outcome.FAIL, "mtu_differs"),
        ({"ends": [end("a"), end("b", mtu=None)]}, Outcome.INCONCLUSIVE, "mtu_unknown"),
        ({"whole": CUT}, Outcome.FAIL, "path_mtu_smaller"),
        (
            {"whole": [CUT[0].model_copy(update={"small_arrived": False})]},
            Outcome.INCONCLUSIVE,
            "control_lost",
        ),
        (
            {
                "whole": [
                    CUT[0].model_copy(update={"mtu": 0, "error": "lost", "small_arrived": False})
                ]
            },
            Outcome.ERROR,
            "measurement_failed",
        ),
    ],
)
def test_path_mtu(changes: dict[str, Any], outcome: Outcome, reason: str) -> None:
    found = verdict("throughput.path_mtu", network(**changes))
    assert (found.outcome, found.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("mesh", "settings", "outcome", "reason"),
    [
        (MESH, ("throughput.mesh_floor_share=0.5",), Outcome.PASS, "share_met"),
        (SLOW, (), Outcome.PASS, "measured"),
        (SLOW, ("throughput.mesh_floor_share=0.5",), Outcome.FAIL, "node_below_share"),
        (
            MESH.model_copy(
                update={"megabits": [[None, 9000, None], [None, None, 9200], [None] * 3]}
            ),
            (),
            Outcome.INCONCLUSIVE,
            "pairs_missing",
        ),
        (
            MESH.model_copy(update={"megabits": [[None] * 3] * 3, "errors": ["refused"]}),
            (),
            Outcome.ERROR,
            "measurement_failed",
        ),
    ],
)
def test_mesh(mesh: Any, settings: tuple[str, ...], outcome: Outcome, reason: str) -> None:
    found = verdict("throughput.mesh", network(mesh=mesh), settings)
    assert (found.outcome, found.reason) == (outcome, reason)


def test_an_outlying_node_is_named_even_where_nothing_is_demanded() -> None:
    assert "outlying: c (95 Mbit/s)" in verdict("throughput.mesh", network(mesh=SLOW)).summary
    assert "no node is outlying" in verdict("throughput.mesh", network()).summary


# -- secondary networks -----------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_a_secondary_network_whose_bytes_took_its_interface_is_judged(check: str) -> None:
    assert verdict(check, secondary()).outcome is Outcome.PASS


def _ends(**changes: Any) -> list[Any]:
    first, second = secondary().ends
    return [first, second.model_copy(update=changes)]


def _carried(**changes: Any) -> list[Any]:
    return [secondary().carried[0].model_copy(update=changes)]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ends": _ends(address="")}, "no_address"),
        ({"told": {}}, "not_told"),
        ({"ends": _ends(interface="eth0", address="10.0.0.2")}, "another_interface"),
        ({"ends": _ends(interface="eth0")}, "another_interface"),
        ({"carried": _carried(client=None)}, "not_counted"),
        ({"carried": _carried(client=80)}, "another_interface"),
        ({"carried": _carried(server=899)}, "another_interface"),
    ],
)
def test_what_may_be_another_network_decides_nothing(
    check: str, changes: dict[str, Any], reason: str
) -> None:
    found = verdict(check, secondary(**changes))
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, reason)


def test_an_interface_that_the_platform_does_not_name_is_told_by_its_address() -> None:
    told = {node: one.model_copy(update={"name": ""}) for node, one in secondary().told.items()}
    assert verdict("throughput.tcp", secondary(told=told)).outcome is Outcome.PASS


def test_a_network_that_cannot_be_measured_says_why() -> None:
    seen = Unmeasured(word="too_few_nodes", text="1 nodes have x: it takes two", help="look")
    found = verdict("throughput.udp", seen)
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, "too_few_nodes")
    assert (found.summary, found.help) == (seen.text, "look")


@pytest.mark.parametrize(
    ("told", "reason"),
    [({"name": "net1"}, "measured"), ({"name": "net2"}, "another_interface"), ({}, "not_told")],
)
def test_an_interface_of_which_no_address_is_told_is_known_by_its_name(
    told: dict[str, str], reason: str
) -> None:
    seen = secondary()
    found = {
        one.node: Interface(**{"name": "", **told}, addresses=[], source="an annotation")
        for one in seen.ends
    }
    assert verdict("throughput.tcp", secondary(told=found)).reason == reason


def _facts(check: str, **more: NetworkSeen) -> dict[str, str]:
    found = judge(check, observation(network(), **more), profile.default())[0]
    return {one.name: str(one.value) for one in found.facts}


def test_the_pod_network_is_compared_with_the_nodes_own() -> None:
    host = network(tcp=[*runs(19.0, 20.0, 21.0), *runs(39.0, 40.0, 41.0, cell=REVERSE)])
    facts = _facts("throughput.tcp", host_network=host)
    assert facts["share of the host network, 4 streams forward"] == "50% of 20.00 Gbit/s"
    assert facts["share of the host network, 4 streams reverse"] == "25% of 40.00 Gbit/s"
    assert not any(one.startswith("share of") for one in _facts("throughput.udp"))


def test_it_is_told_where_secondary_networks_were_looked_for() -> None:
    assert "ResourceSlice" in _facts("throughput.tcp")["secondary networks looked for"]


def test_the_pod_networks_error_is_beside_where_secondary_networks_were_looked_for() -> None:
    fault = Fault(reason=Reason.IMAGE_LACKS_TOOL, message="no iperf3")
    seen = observation(fault, net1=secondary())
    found = {one.variant: one for one in judge("throughput.udp", seen, profile.default())}
    assert [one.name for one in found["pod network"].facts] == ["secondary networks looked for"]
    assert found["net1"].outcome is Outcome.PASS
