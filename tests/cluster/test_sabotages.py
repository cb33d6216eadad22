"""Every check can fail: the rows beside the injections say how, and what it must then say."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

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


def _marks(name: str) -> list[pytest.MarkDecorator]:
    """What the runner of the rows needs to know: the cluster, and why the row may run always."""
    rows = _BY_INJECTION[name]
    failing = dict.fromkeys(row["check"] for row in rows if row["outcome"] == "fail")
    marks = [pytest.mark.addons(*_INJECTIONS[name].addons), pytest.mark.shows(*failing)]
    return [*marks, pytest.mark.guard] if any(row.get("guard") for row in rows) else marks


_EACH = [pytest.param(name, marks=_marks(name)) for name in _BY_INJECTION]


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

