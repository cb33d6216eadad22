from __future__ import annotations

from typing import Any

import pytest

from kar_checks.checks.throughput import iperf
from kar_checks.checks.throughput.observation import Cell, Direction, TcpRun
from tests.unit.throughput.samples import printed


def counted(client: int, server: int) -> dict[str, Any]:
    return {"client": {"nr_throttled": client}, "server": {"nr_throttled": server}}


def read(answer: dict[str, Any], direction: Direction = "forward") -> TcpRun:
    cell = Cell(streams=1, direction=direction)
    return iperf.tcp_run(answer, cell, 0, judged=True, evidence="evidence/x.json")


def test_a_run_is_read_without_its_warm_up() -> None:
    found = read({"json": printed(), "before": counted(1, 1), "after": counted(3, 8)})
    assert (found.received, found.retransmits, found.error) == (1e9, 2, "")
    assert found.intervals == [(1.0, 1e9)]
    assert (found.sender_cpu, found.throttled, found.iperf3) == (30.0, 2, "iperf 3.12")


def test_of_the_reverse_direction_the_server_is_the_sender() -> None:
    answer = {"json": printed(), "before": counted(1, 1), "after": counted(3, 8)}
    found = read(answer, "reverse")
    assert (found.sender_cpu, found.throttled) == (60.0, 7)


@pytest.mark.parametrize(
    ("before", "after"), [({}, counted(1, 1)), (counted(1, 1), {}), (counted(5, 5), counted(1, 1))]
)
def test_a_counter_that_is_missing_or_was_reset_is_missing(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert read({"json": printed(), "before": before, "after": after}).throttled is None


ZERO = printed()["end"] | {"sum_received": {"bytes": 0, "bits_per_second": 0, "seconds": 1.0}}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"exit_code": 0, "json": {"error": "unable to connect"}}, "unable to connect"),
        ({"exit_code": 1, "error": "the server is busy running a test"}, "the server is busy"),
        ({"json": {}}, "not have the known form: KeyError 'start'"),
        ({"json": printed(end={})}, "not have the known form: KeyError"),
        ({"json": printed(end=ZERO)}, "nothing was received"),
        ({}, "not have the known form"),
        ({"error": "the conductor did not come to this step"}, "did not come"),
    ],
)
def test_an_error_is_never_zero_bits(answer: dict[str, Any], words: str) -> None:
    found = read(answer)
    assert words in found.error
    assert (found.received, found.sent_bytes, found.evidence) == (None, None, "evidence/x.json")


def test_both_directions_need_both_sums() -> None:
    assert "did not measure the other direction" in read({"json": printed()}, "both").error
    end = printed()["end"] | {"sum_received_bidir_reverse": {"bits_per_second": 5e8}}
    assert read({"json": printed(end=end)}, "both").received_back == 5e8


def test_udp_is_read_and_no_packet_is_an_error() -> None:
    whole = printed()
    whole["start"]["test_start"]["protocol"] = "UDP"
    sums = {
        "bytes": 1000,
        "bits_per_second": 8000.0,
        "jitter_ms": 0.5,
        "packets": 10,
        "lost_packets": 2,
        "lost_percent": 20,
        "seconds": 1.0,
    }
    whole["end"] |= {"sum": sums}
    found = iperf.udp_run({"json": whole}, "forward", 1, evidence="e")
    assert (found.packets, found.lost, found.jitter_ms, found.error) == (10, 2, 0.5, "")
    assert found.overrun is None
    sides = {
        when: {"client": {"udp_overrun": client}, "server": {"udp_overrun": server}}
        for when, client, server in (("before", 4, 7), ("after", 5, 9))
    }
    answer = {"json": whole} | sides
    assert iperf.udp_run(answer, "forward", 1, evidence="e").overrun == 2
    assert iperf.udp_run(answer, "reverse", 1, evidence="e").overrun == 1
    sums["packets"] = 0
    assert "no packet" in iperf.udp_run({"json": whole}, "forward", 1, evidence="e").error
    assert iperf.udp_run({"error": "refused"}, "forward", 1, evidence="e").error == "refused"


# -- numbers that cannot be -----------------------------------------------------------------------


def datagrams(**changes: Any) -> dict[str, Any]:
    whole = printed()
    whole["start"]["test_start"]["protocol"] = "UDP"
    sums = {"bytes": 9, "bits_per_second": 8.0, "jitter_ms": 0.5, "packets": 10, "lost_packets": 2}
    whole["end"]["sum"] = {**sums, "lost_percent": 20, "seconds": 1.0, **changes}
    return {"json": whole}


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lost_packets": -3}, "-3 of 10 packets as lost"),
        ({"lost_packets": 11}, "11 of 10 packets as lost"),
        ({"lost_packets": None}, "not have the known form"),
        ({"lost_packets": NAN}, "cannot convert float NaN"),
        ({"packets": -1}, "no packet"),
        ({"packets": INFINITE}, "not have the known form"),
        ({"jitter_ms": -0.5}, "-0.5 ms of jitter"),
        ({"jitter_ms": NAN}, "nan ms of jitter"),
        ({"jitter_ms": None}, "not have the known form"),
        ({"bits_per_second": None}, "not have the known form"),
    ],
)
def test_datagrams_that_cannot_be_are_no_result(changes: dict[str, Any], words: str) -> None:
    found = iperf.udp_run(datagrams(**changes), "forward", 0, evidence="e")
    assert words in found.error
    assert (found.packets, found.lost, found.jitter_ms) == (None, None, None)


@pytest.mark.parametrize(
    "answer",
    [
        {"json": []},
        {"json": {"end": None}},
        {"json": {"end": {"sum": {"packets": 10}}}},
        {"json": {"end": {"sum": {"packets": 10, "lost_packets": -3}}}},
        {"json": {"end": {"sum": {"packets": NAN, "lost_packets": 0}}}},
        {"json": {"end": {"sum_received": {}}}},
        {"json": {"end": {"sum_received": {"bytes": None}}}},
        {"json": {"end": {"sum_received": {"bytes": INFINITE}}}},
        {"json": {"end": {"sum_received": {"bytes": -1}}}},
    ],
)
def test_a_step_whose_numbers_cannot_be_says_nothing(answer: dict[str, Any]) -> None:
    assert iperf.payload(answer) is None
    assert read(answer).error
    assert iperf.udp_run(answer, "forward", 0, evidence="e").error


@pytest.mark.parametrize(
    ("sums", "words"),
    [
        ({"sum_received": {"bytes": 1, "bits_per_second": NAN}}, "nan bit/s"),
        ({"sum_received": {"bytes": 1, "bits_per_second": INFINITE}}, "inf bit/s"),
        ({"sum_received": None}, "not have the known form"),
        ({"sum_sent": {"bytes": NAN, "bits_per_second": 1.0, "seconds": 1.0}}, "nan bytes sent"),
        ({"sum_sent": {"bytes": -5, "bits_per_second": 1.0, "seconds": 1.0}}, "-5 bytes sent"),
    ],
)
def test_sums_that_cannot_be_are_no_result(sums: dict[str, Any], words: str) -> None:
    found = read({"json": printed(end=printed()["end"] | sums)})
    assert words in found.error
    assert found.received is None


def test_what_stands_beside_a_result_may_be_missing() -> None:
    whole = printed()
    whole["end"]["sum_sent"]["retransmits"] = -1
    whole["end"]["cpu_utilization_percent"] |= {"host_total": NAN}
    whole["intervals"].append({"sum": {"end": 2.0, "bits_per_second": NAN, "omitted": False}})
    found = read({"json": whole})
    assert (found.error, found.received) == ("", 1e9)
    assert (found.retransmits, found.sender_cpu, found.intervals) == (None, None, [(1.0, 1e9)])


def test_another_protocol_is_no_result() -> None:
    whole = printed()
    whole["start"]["test_start"]["protocol"] = "SCTP"
    assert "not have the known form: AttributeError" in read({"json": whole}).error


# -- what a step carried --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "payload"),
    [
        ({"json": printed()}, 125_000_000),
        ({"json": {"end": {"sum": {"packets": 100, "lost_packets": 10}}}}, 90 * 1200),
        ({"samples_us": [1.0, 2.0]}, 128),
        (
            {"sizes": [{"bytes": 500, "answered": True}, {"bytes": 1500, "answered": False}]},
            500,
        ),
        ({"error": "lost"}, None),
        ({"json": {"error": "refused"}}, None),
    ],
)
def test_a_step_says_what_it_carried(answer: dict[str, Any], payload: int | None) -> None:
    assert iperf.payload(answer) == payload


def test_an_interface_counts_what_went_in_and_out() -> None:
    def at(*both: int) -> dict[str, Any]:
        return {"client": {"bytes": {"net1": list(both)}}}

    answer = {"before": at(10, 20), "after": at(110, 25)}
    assert iperf.counted(answer, "client", "net1") == 105
    assert iperf.counted(answer, "client", "eth0") is None
    assert iperf.counted(answer, "server", "net1") is None
    assert iperf.counted({"before": at(10, 20), "after": at(0, 0)}, "client", "net1") is None


def test_what_crosses_is_counted_by_the_first_node_in_every_step_with_another() -> None:
    def step(name: str, client: str, server: str) -> dict[str, Any]:
        return {"id": name, "client": client, "server": server}

    def answer(client: int, server: int) -> dict[str, Any]:
        after = {"client": client, "server": server}
        return {
            "before": {side: {"bytes": {"eth0": [5, 5]}} for side in after},
            "after": {side: {"bytes": {"eth0": [5, 5 + more]}} for side, more in after.items()},
        }

    steps = [step("1", "a", "b"), step("2", "b", "a"), step("3", "a", "beside")]
    answers = {"1": answer(10, 11), "2": answer(20, 21), "3": answer(1000, 1000)}
    assert iperf.crossed(steps, answers, "a", "eth0") == 31
    assert iperf.crossed(steps, answers, "a", "net1") is None
    assert iperf.crossed(steps, {"1": answers["1"]}, "a", "eth0") is None
    assert iperf.crossed([], {}, "a", "eth0") is None
