"""Advanced inference ingress (KAR-11). The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def routing(measure: Callable[[str], Observation]) -> Observation:
    return measure("routing")


@pytest.mark.check("routing.pool_status")
def test_pools_tell_the_truth(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)


@pytest.mark.check("routing.follows_load")
def test_picks_follow_the_reported_load(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)


@pytest.mark.check("routing.prefix_affinity")
def test_the_same_prefix_goes_to_the_same_server(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)


@pytest.mark.check("routing.adapter_affinity")
def test_an_adapter_is_asked_for_where_it_is(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)


@pytest.mark.check("routing.avoids_unready")
def test_a_server_that_is_not_ready_gets_nothing(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)


@pytest.mark.check("routing.steady")
def test_a_pool_is_served_all_the_time(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)


@pytest.mark.check("routing.failure_mode")
def test_a_pool_fails_open_or_closed_as_it_says(routing: Observation, verdict: Verdict) -> None:
    verdict(routing)
