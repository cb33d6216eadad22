"""KAR-10 where no secondary network is offered: what is said depends on what could be seen."""

from __future__ import annotations

import pytest

from kar_checks.model import Finding, Outcome, RequirementOutcome
from tests.cluster.support import Done, Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")
PRIVILEGED = ("--set", "namespace.pod_security=privileged")
"""Then the nodes' own interfaces can be looked at."""


def one_for_all(done: Done) -> Finding:
    """The finding that all four checks share."""
    found = done.run.findings
    assert len(found) == 4, done.output
    assert len({(one.outcome, one.reason, one.summary) for one in found}) == 1, done.output
    return found[0]


def outcome(done: Done) -> RequirementOutcome:
    (found,) = (one for one in done.run.requirements if one.id == "high_performance_networking")
    return found.outcome


def test_nodes_that_may_not_be_seen_decide_nothing(kar: Kar) -> None:
    done = kar.run("networking")
    found = one_for_all(done)
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, "no_network_found")
    assert outcome(done) is RequirementOutcome.INCONCLUSIVE
    assert done.code == 11
    looked_at = "; ".join(one.value for one in found.facts if one.name == "looked at")
    for word in ("ResourceSlice", "DeviceClass", "NetworkAttachmentDefinition", "device plugins"):
        assert word in looked_at


def test_an_interface_that_nothing_offers_decides_nothing(kar: Kar) -> None:
    done = kar.run("networking", *PRIVILEGED)
    found = one_for_all(done)
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, "not_offered")
    assert "(kar1: net1; kar2: net1)" in found.summary
    assert done.code == 11


def test_nodes_with_one_interface_need_no_network(kar: Kar) -> None:
    # The other two have the second network of the local cluster.
    done = kar.run("networking", *PRIVILEGED, "--node-selector", "kubernetes.io/hostname=kar3")
    found = one_for_all(done)
    assert (found.outcome, found.reason) == (Outcome.NOT_APPLICABLE, "no_special_interface")
    assert outcome(done) is RequirementOutcome.NOT_APPLICABLE
    assert done.code == 0
    assert [one.name for one in found.facts if "eth0" in one.value] == ["interfaces of kar3"]


def test_the_user_may_declare_that_there_is_none(kar: Kar) -> None:
    done = kar.run("networking", "--set", "networking.network=none")
    found = one_for_all(done)
    assert (found.outcome, found.reason) == (Outcome.NOT_APPLICABLE, "declared_none")
    assert outcome(done) is RequirementOutcome.NOT_APPLICABLE
    assert done.code == 0
