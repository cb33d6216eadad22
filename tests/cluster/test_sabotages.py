"""Every check can fail: the rows beside the injections say how, and what it must then say."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from kar_checks.checks.registry import all_checks
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from localcluster.settings import Settings
from scripts.generate import sabotages
from tests.cluster.injections import injections
from tests.cluster.support import Kar, Machine, ours

_BY_INJECTION: dict[str, list[dict[str, Any]]] = defaultdict(list)
for _row in sabotages():
    _BY_INJECTION[_row["injection"]].append(_row)
_INJECTIONS = injections()
_EACH = [
    pytest.param(name, marks=pytest.mark.addons(*_INJECTIONS[name].addons))
    for name in _BY_INJECTION
]


@pytest.mark.parametrize("name", _EACH)
def test_each_check_says_what_was_broken(name: str, machine: Machine, tmp_path: Path) -> None:
    wanted = _BY_INJECTION[name]
    found = _INJECTIONS[name]
    local = machine.up(Settings(addons=found.addons))
    checks = dict.fromkeys(row["check"] for row in wanted)
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="tests")) as cluster:
        with found.apply(local, cluster):
            done = Kar(tmp_path / "runs").run(*checks, *found.words)
        assert ours(cluster) == []
    seen = {(one.check, one.variant): (one.outcome.value, one.reason) for one in done.run.findings}
    expected = {
        (row["check"], row.get("variant", "")): (row["outcome"], row["reason"]) for row in wanted
    }
    others = {
        key: f"{seen.get(key)} instead of {expected.get(key)}"
        for key in {**expected, **seen}
        if seen.get(key) != expected.get(key)
    }
    assert not others, f"{others}\n{done.output}"
    assert done.code != 0


def test_every_check_has_a_sabotage_under_which_it_must_fail() -> None:
    failing = {row["check"] for row in sabotages() if row["outcome"] == "fail"}
    assert {check.id for _, check in all_checks()} == failing
