"""Every known trap names tests that exist, run, and are not expected to fail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from scripts import generate

TRAPS = generate.traps()
SABOTAGE = "sabotage "
COLLECT = """
import json, sys, pytest

class Collected:
    def pytest_collection_finish(self, session):
        marks = {
            item.nodeid: [mark.name for mark in item.iter_markers()] for item in session.items
        }
        print("COLLECTED", json.dumps(marks))

code = pytest.main(["--collect-only", "-q", *sys.argv[1:]], plugins=[Collected()])
sys.exit(code)
"""


@pytest.fixture(scope="module")
def collected() -> dict[str, list[str]]:
    """Markers of every test in the files that the traps name; parametrised ones twice."""
    ids = [one for trap in TRAPS for one in trap["shown_by"] if not one.startswith(SABOTAGE)]
    files = sorted({one.partition("::")[0] for one in ids})
    if not files:
        return {}
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *files],
        cwd=generate.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("COLLECTED ")]
    marks: dict[str, list[str]] = json.loads(line.partition(" ")[2])
    return {**{test.partition("[")[0]: found for test, found in marks.items()}, **marks}


def test_a_trap_has_all_its_fields() -> None:
    for trap in TRAPS:
        assert set(trap) == {"item", "world", "outcome", "shown_by"}, trap
        assert trap["shown_by"], trap
        assert all(isinstance(trap[name], str) for name in ("item", "world", "outcome")), trap


def _weaknesses(test: str, collected: dict[str, list[str]], rows: set[str]) -> str:
    """Return why a test shows nothing; empty if it exists and really runs."""
    if test.startswith(SABOTAGE):
        return "" if test in rows else "no such row"
    if test not in collected:
        return "no such test"
    bad = {"skip", "skipif", "xfail"} & set(collected[test])
    return f"marked {', '.join(sorted(bad))}" if bad else ""


def test_each_test_that_shows_a_trap_exists_and_runs(collected: dict[str, list[str]]) -> None:
    rows = {f"{SABOTAGE}{one['injection']} {one['check']}" for one in generate.sabotages()}
    found: dict[str, str] = {
        f"{trap['item']}: {test}": weakness
        for trap in TRAPS
        for test in trap["shown_by"]
        if (weakness := _weaknesses(test, collected, rows))
    }
    assert found == {}


def test_a_missing_or_disabled_test_would_be_found() -> None:
    known: dict[str, Any] = {"tests/a.py::test_b": ["xfail"], "tests/a.py::test_c": []}
    assert _weaknesses("tests/a.py::test_x", known, set()) == "no such test"
    assert _weaknesses("tests/a.py::test_b", known, set()) == "marked xfail"
    assert _weaknesses("tests/a.py::test_c", known, set()) == ""
    assert _weaknesses("sabotage a b", known, {"sabotage a c"}) == "no such row"
