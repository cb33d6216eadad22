"""A cluster that enforces NetworkPolicies, so that one is a control of disaggregated serving."""

from __future__ import annotations

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.model import Outcome
from tests.cluster.injections.disaggregation import decode_makes_up_for_prefill
from tests.cluster.support import Kar

pytestmark = [
    pytest.mark.addons("network-policy"),
    pytest.mark.usefixtures("leaves_nothing"),
]

CHECK = "disaggregation.correct_output"
# The wait ends as soon as the policy holds: on a busy machine that may take its time.
WORDS = (
    *("--set", "disaggregation.requests=2"),
    *("--set", "disaggregation.tokens=32"),
    *("--set", "disaggregation.policy_seconds=30"),
)
CONTROL = "with prefill shut off by a NetworkPolicy"


def test_a_policy_that_is_enforced_is_one_more_control(kar: Kar) -> None:
    done = kar.run(CHECK, *WORDS)
    found = done.finding(CHECK)
    assert (found.outcome, found.reason) == (Outcome.PASS, "right"), done.output
    told = {fact.name: fact for fact in found.facts}
    assert told["NetworkPolicy"].value == "enforced"
    control = told[f"right answers {CONTROL}"]
    assert (control.value, control.source) == ("0 of 1", "1 x HTTP 502 prefill_unreachable")


def test_an_answer_that_prefill_has_no_part_in_is_seen_under_the_policy(
    kar: Kar, cluster: Cluster
) -> None:
    with decode_makes_up_for_prefill(cluster):
        done = kar.run(CHECK, *WORDS)
    found = done.finding(CHECK)
    told = (found.outcome, found.reason)
    assert told == (Outcome.INCONCLUSIVE, "control_answered_right"), done.output
    assert CONTROL in found.summary
    assert "straight to decode" not in found.summary
