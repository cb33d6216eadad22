"""Every check can fail: the rows beside the injections say how, and what it must then say."""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.report.view import anchor_of
from localcluster.settings import Settings
from scripts.generate import sabotages
from tests.cluster.injections import Injection, injections
from tests.cluster.support import Kar, Machine, NextStep, next_steps, ours

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


@contextmanager
def _namespace(cluster: Cluster, found: Injection) -> Iterator[tuple[str, ...]]:
    """Yield the words of a row's run, with a namespace that waits for it.

    The end of a namespace takes five seconds and more. One of a run's own is awaited, this one ends
    while the next row is under way. A sabotage that names a namespace itself gets none.
    """
    if "--namespace" in found.words:
        yield found.words
        return
    settings = [word for word, before in zip(found.words[1:], found.words, strict=False)
                if before == "--set"]  # fmt: skip
    level = profile.load(None, settings).text("namespace.pod_security")
    name = f"row-{secrets.token_hex(4)}"
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
    metadata = {"name": name, "labels": labels}
    cluster.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        yield ("--namespace", name, *found.words)
    finally:
        cluster.delete(kinds.NAMESPACE, name)


@pytest.mark.parametrize("name", _EACH)
def test_each_check_says_what_was_broken(name: str, machine: Machine, tmp_path: Path) -> None:
    wanted = _BY_INJECTION[name]
    found = _INJECTIONS[name]
    local = machine.up(Settings(addons=found.addons))
    checks = dict.fromkeys(row["check"] for row in wanted)
    connection = connect(local.kubeconfig, None)
    with (
        contextlib.closing(Cluster(connection, run_id="tests")) as cluster,
        _namespace(cluster, found) as words,
    ):
        with found.apply(local, cluster):
            done = Kar(tmp_path / "runs").run(*checks, *words)
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
    assert not (silent := _not_named(wanted, next_steps(done.run))), silent


def _not_named(rows: list[dict[str, Any]], steps: list[NextStep]) -> list[str]:
    """Return the rows whose broken part the page does not name where it states what to do next."""
    named = {(row["check"], row.get("variant", "")): row["names"] for row in rows if "names" in row}
    first = steps[0].sentence if steps else ""
    missing = (
        [] if not named or any(one in first for one in named.values()) else [f"first: {first}"]
    )
    for (check, variant), words in named.items():
        anchor = anchor_of("check", check, variant)
        mine = [one.sentence for one in steps if anchor in one.rows]
        if not any(words in sentence for sentence in mine):
            missing.append(f"{check} {variant}: no {words!r} in {mine}")
    return missing
