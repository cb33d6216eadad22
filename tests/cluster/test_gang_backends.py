"""Gang schedulers beside the native one: each assessed by itself, any that works is enough."""

from __future__ import annotations

import contextlib

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.model import Outcome, RequirementOutcome
from localcluster.settings import Settings
from tests.cluster.injections.gang_coscheduling import DESCRIBED
from tests.cluster.injections.scaling import no_replicas
from tests.cluster.support import Done, Kar, Machine, ours

pytestmark = pytest.mark.localcluster

CHECKS = {
    "gang.all_or_nothing",
    "gang.release",
    "gang.fits",
    "gang.incomplete_waits",
    "gang.two_gangs",
}


def passed(done: Done, variant: str) -> None:
    """Assert that the requirement passes by this gang scheduler, measured alone."""
    found = {(one.check, one.variant): one.outcome for one in done.run.findings}
    assert found == dict.fromkeys(((one, variant) for one in CHECKS), Outcome.PASS), done.output
    gang = next(one for one in done.run.requirements if one.id == "gang_scheduling")
    assert (gang.outcome, gang.counts) == (RequirementOutcome.PASS, True)
    assert done.run.info.cleanup.verdict == "clean"
    assert done.code == 0, done.output


def test_coscheduling_alone_passes(kar: Kar, machine: Machine) -> None:
    machine.up(Settings(addons=("coscheduling",)))
    passed(kar.run("gang", "--set", "gang.backends=coscheduling"), "coscheduling")


def test_a_scheduler_that_the_user_describes_passes(kar: Kar, machine: Machine) -> None:
    machine.up(Settings(addons=("coscheduling",)))
    passed(kar.run("gang", *DESCRIBED), "custom")


def test_one_that_works_is_enough_and_the_other_is_shown(kar: Kar, machine: Machine) -> None:
    local = machine.up(Settings(addons=("coscheduling",)))
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="tests")) as cluster:
        with no_replicas(cluster, "scheduler-plugins", "scheduler-plugins-scheduler"):
            done = kar.run("gang")
        assert ours(cluster) == []
    by_variant = {
        variant: {one.outcome for one in done.run.findings if one.variant == variant}
        for variant in ("native", "coscheduling")
    }
    assert by_variant == {
        "native": {Outcome.PASS},
        "coscheduling": {Outcome.INCONCLUSIVE},
    }, done.output
    gang = next(one for one in done.run.requirements if one.id == "gang_scheduling")
    assert gang.outcome is RequirementOutcome.PASS
    assert "native" in gang.reason and "coscheduling" in gang.reason
    assert done.code == 0, done.output
