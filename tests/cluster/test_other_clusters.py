"""Clusters without a working gang scheduler: undecided, and it says what was looked for."""

from __future__ import annotations

import pytest

from kar_checks.model import Outcome, RequirementOutcome
from localcluster.settings import Settings
from tests.cluster.injections import SHORT_HOLD, SHORT_WINDOWS
from tests.cluster.support import Kar, Machine

pytestmark = pytest.mark.localcluster

GANG = {
    "gang.all_or_nothing",
    "gang.release",
    "gang.fits",
    "gang.incomplete_waits",
    "gang.two_gangs",
}


def test_without_the_native_api_gang_scheduling_is_undecided(kar: Kar, machine: Machine) -> None:
    machine.up(Settings(gang="off"))
    done = kar.run("gang", "resize.memory_up", *SHORT_HOLD)
    gang = {one.check: one for one in done.run.findings if one.check in GANG}
    assert set(gang) == GANG
    for one in gang.values():
        assert (one.outcome, one.reason) == (Outcome.INCONCLUSIVE, "no_gang_scheduler")
        assert "looked for" in one.summary
        assert "GenericWorkload" in one.help
    assert done.finding("resize.memory_up").outcome is Outcome.PASS
    row = next(one for one in done.run.requirements if one.id == "gang_scheduling")
    assert row.outcome is RequirementOutcome.INCONCLUSIVE
    assert done.code == 11, done.output


def test_an_api_that_drops_the_field_decides_nothing(kar: Kar, machine: Machine) -> None:
    machine.up(Settings(gang="api-only"))
    done = kar.run("gang", *SHORT_WINDOWS)
    reasons = {one.check: (one.outcome.value, one.reason) for one in done.run.findings}
    assert set(reasons) == GANG
    assert set(reasons.values()) <= {
        ("inconclusive", "field_dropped"),
        ("inconclusive", "mutated"),
    }, reasons
    assert all("schedulingGroup" in one.summary for one in done.run.findings)
    assert done.code == 11, done.output
