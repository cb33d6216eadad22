"""The pytest face of the toy topic; no name that pytest collects by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def toy(measure: Callable[[str], Observation]) -> Observation:
    return measure("toy")


@pytest.mark.check("toy.passes")
def test_passes(toy: Observation, verdict: Verdict) -> None:
    verdict(toy)


@pytest.mark.check("toy.fails")
def test_fails(toy: Observation, verdict: Verdict) -> None:
    verdict(toy)


@pytest.mark.check("toy.undecided")
def test_undecided(toy: Observation, verdict: Verdict) -> None:
    verdict(toy)


@pytest.mark.check("toy.absent")
def test_absent(toy: Observation, verdict: Verdict) -> None:
    verdict(toy)
