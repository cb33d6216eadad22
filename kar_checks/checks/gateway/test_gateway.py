"""Gateway API for inference (ai_inference). The trial runs once; each test judges one view."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def gateway(measure: Callable[[str], Observation]) -> Observation:
    return measure("gateway")


@pytest.mark.check("gateway.api")
def test_the_gateway_api_is_established(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.class_accepted")
def test_a_controller_accepts_the_class(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.programmed")
def test_a_gateway_answers_at_its_address(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.route_status")
def test_routes_tell_the_truth(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.weighted_split")
def test_traffic_follows_the_weights(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.header_rule")
def test_a_header_rule_always_wins(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.unmatched")
def test_unmatched_requests_reach_nobody(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.steady")
def test_a_route_is_served_all_the_time(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.exactly_once")
def test_every_post_arrives_once(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.bodies")
def test_bodies_arrive_whole(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.streaming")
def test_streamed_answers_arrive_as_produced(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)


@pytest.mark.check("gateway.claimed_features")
def test_what_the_class_claims_works(gateway: Observation, verdict: Verdict) -> None:
    verdict(gateway)
