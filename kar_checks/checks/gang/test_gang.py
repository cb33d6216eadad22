"""Gang scheduling (KAR-53). The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def gang(measure: Callable[[str], Observation]) -> Observation:
    return measure("gang")


@pytest.mark.check("gang.all_or_nothing")
def test_a_gang_that_does_not_fit_starts_nothing(gang: Observation, verdict: Verdict) -> None:
    verdict(gang)


@pytest.mark.check("gang.release")
def test_a_waiting_gang_starts_as_a_whole(gang: Observation, verdict: Verdict) -> None:
    verdict(gang)


@pytest.mark.check("gang.fits")
def test_a_gang_that_fits_runs_and_gives_the_room_back(gang: Observation, verdict: Verdict) -> None:
    verdict(gang)


@pytest.mark.check("gang.incomplete_waits")
def test_a_gang_waits_for_its_last_member(gang: Observation, verdict: Verdict) -> None:
    verdict(gang)


@pytest.mark.check("gang.two_gangs")
def test_two_gangs_run_one_after_the_other(gang: Observation, verdict: Verdict) -> None:
    verdict(gang)
