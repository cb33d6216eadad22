"""Throughput and latency. The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def throughput(measure: Callable[[str], Observation]) -> Observation:
    return measure("throughput")


@pytest.mark.check("throughput.tcp")
def test_tcp_throughput_reaches_the_floor(throughput: Observation, verdict: Verdict) -> None:
    verdict(throughput)


@pytest.mark.check("throughput.udp")
def test_udp_loses_no_more_than_allowed(throughput: Observation, verdict: Verdict) -> None:
    verdict(throughput)


@pytest.mark.check("throughput.latency")
def test_requests_are_answered_in_time(throughput: Observation, verdict: Verdict) -> None:
    verdict(throughput)


@pytest.mark.check("throughput.path_mtu")
def test_packets_of_the_full_size_pass(throughput: Observation, verdict: Verdict) -> None:
    verdict(throughput)


@pytest.mark.check("throughput.mesh")
def test_no_node_is_slower_than_the_others(throughput: Observation, verdict: Verdict) -> None:
    verdict(throughput)
