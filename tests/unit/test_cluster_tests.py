"""The runner of the cluster tests: what failed is told last, and may pass when it runs alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import cluster_tests

_ALWAYS = "def test_always():\n    assert 1 == 2\n"
_ONCE = """
import pathlib

def test_once():
    seen = pathlib.Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first, "a busy machine"
"""
_FINE = "def test_fine():\n    assert True\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], int]:
    """Run two halves with these tests on a machine that is not really apart."""
    apart = tmp_path / "scripts" / "apart"
    apart.parent.mkdir()
    apart.write_text('#!/bin/sh\nshift\nexec "$@"\n', "utf-8")
    apart.chmod(0o755)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = earlier_minor: none\n", "utf-8")
    monkeypatch.setattr(cluster_tests, "ROOT", tmp_path)
    monkeypatch.setattr(cluster_tests, "build", lambda: None)
    monkeypatch.setattr(cluster_tests, "enough_watchers", contextlib.nullcontext)

    def ran(one: str, other: str) -> int:
        for name, text in (("one", one), ("other", other)):
            (tmp_path / "tests" / f"test_{name}.py").write_text(text, "utf-8")
        halves = {"one": ("tests/test_one.py",), "other": ("tests/test_other.py",)}
        monkeypatch.setattr(cluster_tests, "HALVES", halves)
        return cluster_tests.main()

    return ran


def test_what_fails_only_beside_the_other_half_is_told_and_passes(
    run: Callable[[str, str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(_ONCE, _FINE) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("tests/test_one.py::test_once: passed only at the second try")
    assert "a busy machine" in last


def test_what_fails_twice_fails_and_stands_last(
    run: Callable[[str, str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(_ONCE, _ALWAYS) == 1
    told = capfd.readouterr().out.splitlines()[-2:]
    assert told[0].startswith("tests/test_one.py::test_once: passed only at the second try")
    assert told[1] == "tests/test_other.py::test_always: failed: assert 1 == 2"


def test_many_failures_are_not_tried_again(
    run: Callable[[str, str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    many = (
        "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_n(n):\n    assert n < 0\n"
    )
    assert run(_FINE, many) == 1
    out = capfd.readouterr().out
    assert "once more" not in out
    assert out.splitlines()[-1] == "tests/test_other.py::test_n[3]: failed: assert 3 < 0"


def test_a_half_that_cannot_start_fails(run: Callable[[str, str], int]) -> None:
    assert run(_FINE, "import nothing_that_exists\n") != 0
