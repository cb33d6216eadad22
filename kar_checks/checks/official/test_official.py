"""The official suite as one test (KAR-11)."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def official(measure: Callable[[str], Observation]) -> Observation:
    return measure("official")


@pytest.mark.check("official.inference_suite")
def test_the_official_suite_passes(official: Observation, verdict: Verdict) -> None:
    verdict(official)
