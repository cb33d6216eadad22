"""The user's own serving stack (KAR-41). The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def stack(measure: Callable[[str], Observation]) -> Observation:
    return measure("stack")


@pytest.mark.check("stack.served")
def test_the_stack_answers(stack: Observation, verdict: Verdict) -> None:
    verdict(stack)


@pytest.mark.check("stack.separate_phases")
def test_prefill_and_decode_run_in_separate_pods(stack: Observation, verdict: Verdict) -> None:
    verdict(stack)


@pytest.mark.check("stack.transferred")
def test_the_kv_state_moves(stack: Observation, verdict: Verdict) -> None:
    verdict(stack)
