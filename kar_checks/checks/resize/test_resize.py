"""In-place pod resize. The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def resize(measure: Callable[[str], Observation]) -> Observation:
    return measure("resize")


@pytest.mark.check("resize.cpu_up_down")
def test_cpu_follows_up_and_down_without_restart(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.memory_up")
def test_memory_follows_upwards_without_restart(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.memory_down")
def test_memory_follows_downwards_without_restart(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.requests_only")
def test_requests_change_alone(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.limits_only")
def test_limits_change_alone(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.several_containers")
def test_several_containers_change_at_once(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.restart_policy")
def test_a_restart_happens_once_where_the_policy_asks_for_it(
    resize: Observation, verdict: Verdict
) -> None:
    verdict(resize)


@pytest.mark.check("resize.sidecar")
def test_a_sidecar_changes_in_place(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.qos_change_refused")
def test_a_change_of_the_qos_class_is_refused(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.infeasible")
def test_what_no_node_has_is_refused_and_changes_nothing(
    resize: Observation, verdict: Verdict
) -> None:
    verdict(resize)


@pytest.mark.check("resize.deferred")
def test_a_resize_waits_for_room_and_completes(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.observed_generation")
def test_the_observed_generation_follows(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)


@pytest.mark.check("resize.busy_loop")
def test_a_busy_loop_gets_the_cpu_of_the_new_limit(resize: Observation, verdict: Verdict) -> None:
    verdict(resize)
