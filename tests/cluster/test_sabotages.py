"""Every check can fail: ``sabotages.yaml`` says how, and what it must then say."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from kar_checks.checks.registry import all_checks
from kar_checks.cluster.client import Cluster
from localcluster import LocalCluster
from tests.cluster.injections import INJECTIONS, gang, resize
from tests.cluster.sabotages import rows
from tests.cluster.support import Kar

_REGISTERED_BY = (gang, resize)
_BY_INJECTION: dict[str, list[dict[str, Any]]] = defaultdict(list)
for _row in rows():
    _BY_INJECTION[_row["injection"]].append(_row)


@pytest.mark.parametrize("injection", _BY_INJECTION)
def test_each_check_says_what_was_broken(
    injection: str, kar: Kar, local: LocalCluster, cluster: Cluster, leaves_nothing: object
) -> None:
    wanted = _BY_INJECTION[injection]
    with INJECTIONS[injection](local, cluster):
        done = kar.run(*dict.fromkeys(row["check"] for row in wanted))
    seen = {(one.check, one.variant): (one.outcome.value, one.reason) for one in done.run.findings}
    expected = {
        (row["check"], row.get("variant", "")): (row["outcome"], row["reason"]) for row in wanted
    }
    assert seen == expected, done.output
    assert done.code != 0


def test_every_check_has_a_sabotage_under_which_it_must_fail() -> None:
    failing = {row["check"] for row in rows() if row["outcome"] == "fail"}
    assert {check.id for _, check in all_checks()} == failing
