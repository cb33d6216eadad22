"""The serving workload as LeaderWorkerSets, whose pods an add-on makes."""

from __future__ import annotations

import pytest

from kar_checks.model import Outcome
from tests.cluster.support import Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")

CHECKS = (
    "disaggregation.separate_pods",
    "disaggregation.decode_scaling",
    "disaggregation.prefill_lost",
)
FEW = ("--set", "disaggregation.requests=2", "--set", "disaggregation.policy_seconds=0")


@pytest.mark.addons("inference-sim", "lws")
def test_leader_worker_sets_are_found_scaled_and_removed(kar: Kar) -> None:
    done = kar.run(*CHECKS, *FEW)
    assert done.code == 0, done.output
    told = {
        check: {one.name: one.value for one in done.finding(check).facts}
        for check in CHECKS
        if done.finding(check).outcome is Outcome.PASS
    }
    assert set(told) == set(CHECKS), done.output
    for facts in told.values():
        form = facts["prefill and decode deployed as"]
        assert form == "LeaderWorkerSets of leaderworkerset.x-k8s.io/v1"
    assert told[CHECKS[0]]["pods that did decode"].startswith("kar-disagg-decode-lws-0 on ")
