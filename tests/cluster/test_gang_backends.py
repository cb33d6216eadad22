"""Gang schedulers beside the native one: each assessed by itself, any that works is enough."""

from __future__ import annotations

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.model import Outcome, RequirementOutcome
from tests.cluster.injections.gang_backends import ADDONS, DESCRIBED, SHORT, groups_changed, only
from tests.cluster.support import Done, Kar

pytestmark = [pytest.mark.addons(*ADDONS), pytest.mark.usefixtures("leaves_nothing")]

CHECKS = {
    "gang.all_or_nothing",
    "gang.release",
    "gang.fits",
    "gang.incomplete_waits",
    "gang.two_gangs",
}


def by_variant(done: Done) -> dict[str, dict[str, Outcome]]:
    """Return the outcome of each check by gang scheduler."""
    out: dict[str, dict[str, Outcome]] = {}
    for one in done.run.findings:
        out.setdefault(one.variant, {})[one.check] = one.outcome
    return out


def test_each_passes_by_itself(kar: Kar) -> None:
    done = kar.run("gang", *only("kueue", "volcano", "coscheduling"), *SHORT)
    passed = dict.fromkeys(CHECKS, Outcome.PASS)
    assert by_variant(done) == {
        "kueue": passed,
        "volcano": passed,
        "coscheduling": passed,
    }, done.output
    gang = next(one for one in done.run.requirements if one.id == "gang_scheduling")
    assert (gang.outcome, gang.counts) == (RequirementOutcome.PASS, True)
    assert done.run.info.cleanup.verdict == "clean"
    assert done.code == 0, done.output
    level = {one.name: one.value for one in done.finding("gang.all_or_nothing", "kueue").facts}
    assert level["level of the guarantee"] == (
        "quota only: the gang was admitted, and 3 of its 4 pods got a node"
    )
    assert level["topology-aware scheduling"].endswith(": held back as a whole")


def test_one_that_works_is_enough_and_the_others_are_shown(kar: Kar, cluster: Cluster) -> None:
    with groups_changed(cluster):
        done = kar.run("gang", *only("kueue", "volcano", "custom"), *DESCRIBED, *SHORT)
    assert by_variant(done) == {
        "kueue": dict.fromkeys(CHECKS, Outcome.INCONCLUSIVE),
        "volcano": dict.fromkeys(CHECKS, Outcome.INCONCLUSIVE),
        "custom": dict.fromkeys(CHECKS, Outcome.PASS),
    }, done.output
    gang = next(one for one in done.run.requirements if one.id == "gang_scheduling")
    assert gang.outcome is RequirementOutcome.PASS
    assert "custom" in gang.reason and "kueue" in gang.reason and "volcano" in gang.reason
    assert done.code == 0, done.output
