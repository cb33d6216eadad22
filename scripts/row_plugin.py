"""The side of the cluster tests' runner that is inside pytest: ``-p scripts.row_plugin``.

``--rows-found FILE`` (with ``--collect-only``) writes what there is; ``--rows-plan FILE`` runs the
rows of a plan, in its order and up to its deadline, and appends what became of each to
``--rows-done``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

CLUSTER_SECONDS = "cluster_seconds"
"""The user property of a test that tells how long it waited for its cluster to start."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which the runner talks to us."""
    group = parser.getgroup("rows", "the runner of the cluster tests")
    for option in ("--rows-found", "--rows-plan", "--rows-done"):
        group.addoption(option, type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Follow a plan, if there is one."""
    if plan := config.getoption("--rows-plan"):
        done = config.getoption("--rows-done")
        config.pluginmanager.register(Planned(json.loads(plan.read_text("utf-8")), done))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the rows that there are."""
    found = session.config.getoption("--rows-found")
    if found:
        found.write_text(json.dumps([_described(item) for item in session.items]), "utf-8")


def _described(item: pytest.Item) -> dict[str, Any]:
    addons = item.get_closest_marker("addons")
    shows = item.get_closest_marker("shows")
    replaces = item.get_closest_marker("localcluster") is not None
    return {
        "id": item.nodeid,
        "cluster": "of its own" if replaces else " ".join(sorted(addons.args if addons else ())),
        "guard": item.get_closest_marker("guard") is not None,
        "shows": list(shows.args) if shows else [],
    }


class Planned:
    """Runs the rows of a plan: ``{"deadline": S, "rows": [[ID, TURN, SECONDS], ...]}``.

    The deadline is of the monotonic clock, which all processes of a machine share.
    """

    def __init__(self, plan: dict[str, Any], done: Path) -> None:
        self._deadline: float | None = plan["deadline"]
        self._rows: dict[str, tuple[str, float]] = {
            name: (turn, seconds) for name, turn, seconds in plan["rows"]
        }
        self._done = done
        self._began = 0.0
        self._why = ""
        self._outcome = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the rows of the plan, in its order."""
        there = {item.nodeid: item for item in items}
        kept = [there.pop(name) for name in self._rows if name in there]
        config.hook.pytest_deselected(items=list(there.values()))
        items[:] = kept

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Leave out a row for which there is no time any more; nobody else then runs it."""
        self._began, self._why, self._outcome = time.monotonic(), "", "passed"
        turn, seconds = self._rows[item.nodeid]
        if self._deadline is None or turn == "always":
            return None
        # A row whose turn it is has been planned to fit; one beyond the plan must fit as it is.
        ends = self._began + (seconds if turn == "more" else 0.0)
        if ends < self._deadline:
            return None
        self._write(item.nodeid, outcome="not run")
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a row went; written at its end, so that a killed group leaves what it did."""
        if report.outcome != "passed" and self._outcome != "failed":
            self._outcome = report.outcome
            self._why = _reason(report)
        if report.when != "teardown":
            return
        now = time.monotonic()
        waited = _cluster_seconds(report)
        self._write(
            report.nodeid,
            outcome=self._outcome,
            why=self._why,
            seconds=round(now - self._began - waited, 1),
            start=round(waited, 1),
            ended=now,
        )

    def _write(self, row: str, **told: Any) -> None:
        with self._done.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"id": row, **told}) + "\n")


def _cluster_seconds(report: pytest.TestReport) -> float:
    told = [value for name, value in report.user_properties if name == CLUSTER_SECONDS]
    return sum(value for value in told if isinstance(value, float))


def _reason(report: pytest.TestReport) -> str:
    """Return the first line of why a test failed or was skipped."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longrepr or "").strip()
    return text.splitlines()[0] if text else ""
