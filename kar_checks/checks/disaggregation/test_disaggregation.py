"""Disaggregated serving (KAR-41). The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def serving(measure: Callable[[str], Observation]) -> Observation:
    return measure("disaggregation")


@pytest.mark.check("disaggregation.separate_pods")
def test_prefill_and_decode_run_in_different_pods(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.state_transferred")
def test_the_state_moves_between_the_pods(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.request_ids")
def test_a_request_can_be_followed(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.correct_output")
def test_the_answer_follows_from_the_state(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.concurrency")
def test_concurrent_requests_are_kept_apart(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.streaming")
def test_a_streamed_answer_comes_in_parts(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.decode_scaling")
def test_decode_scales_while_it_serves(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.prefill_lost")
def test_losing_prefill_is_never_silent(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)


@pytest.mark.check("disaggregation.corrupted_block")
def test_a_corrupted_block_is_refused(serving: Observation, verdict: Verdict) -> None:
    verdict(serving)
