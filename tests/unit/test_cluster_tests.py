"""The runner of the cluster tests, with real sessions of pytest on machines that are not apart."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from scripts import cluster_tests, second_tries
from scripts.second_tries import SecondTry

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
_SLEEPERS = """
import time
import pytest

@pytest.mark.guard
def test_guard():
    time.sleep({guard})

@pytest.mark.parametrize("n", range({count}))
def test_sleeper(n):
    time.sleep(0.2)
"""
_INI = "[pytest]\nmarkers =\n  earlier_minor: none\n  guard: none\n  shows: none\n  addons: none\n"

Run = Callable[..., int]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository whose ``scripts/apart`` only runs what it is given."""
    apart = tmp_path / "scripts" / "apart"
    apart.parent.mkdir()
    apart.write_text('#!/bin/sh\nshift\nexec "$@"\n', "utf-8")
    apart.chmod(0o755)
    (tmp_path / "tests" / "cluster").mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text(_INI, "utf-8")
    monkeypatch.setattr(cluster_tests, "ROOT", tmp_path)
    monkeypatch.setattr(cluster_tests, "build", lambda: False)
    monkeypatch.setattr(cluster_tests, "enough_watchers", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(cluster_tests, "groups_at_once", lambda: 2)
    monkeypatch.setattr(cluster_tests, "UNKNOWN_SECONDS", 1.0)
    monkeypatch.setattr(cluster_tests, "UNKNOWN_START", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(cluster_tests.BUDGET, raising=False)
    monkeypatch.delenv(cluster_tests.SUMMARY, raising=False)
    yield tmp_path


@pytest.fixture
def run(root: Path) -> Run:
    """Run these tests."""

    def ran(*texts: str, words: tuple[str, ...] = ("--all",)) -> int:
        for name, text in zip(("one", "other"), texts, strict=False):
            (root / "tests" / "cluster" / f"test_{name}.py").write_text(text, "utf-8")
        return cluster_tests.main(words)

    return ran


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().out.splitlines()


def ledger(root: Path) -> list[SecondTry]:
    return second_tries.read(root / cluster_tests.LEDGER)


ONCE = "tests/cluster/test_one.py::test_once"


# -- second tries ------------------------------------------------------------------------------


def test_what_fails_only_beside_another_group_passes_and_is_kept(
    run: Run, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(_ONCE, _FINE) == 0
    told = lines(capfd)
    (line,) = [one for one in told if one.startswith(f"{ONCE}: passed only at the second try")]
    assert "a busy machine" in line
    assert told[-1].startswith("commit unknown: 2 rows in ")
    assert told[-1].endswith("; second tries: 1")
    (kept,) = ledger(root)
    assert (kept.test, kept.cause) == (ONCE, "")
    assert "a busy machine" in kept.reason
    place = told.index(
        "Find the cause, add it, and commit this in tests/cluster/second_tries.yaml:"
    )
    assert yaml.safe_load("\n".join(told[place + 1 : -1])) == [vars(kept)]


@pytest.mark.parametrize(
    ("causes", "status", "why"),
    [
        ([""], 1, "the cause of its second try before is not known"),
        (["found and fixed"], 0, ""),
        (["found", "found again"], 1, "it passed only at the second try twice before"),
    ],
)
def test_a_second_try_without_a_cause_or_a_third_one_is_not_given(
    run: Run,
    root: Path,
    capfd: pytest.CaptureFixture[str],
    causes: list[str],
    status: int,
    why: str,
) -> None:
    kept = [SecondTry(ONCE, "a busy machine", cause, "2026-11-01") for cause in causes]
    second_tries.append(root / cluster_tests.LEDGER, kept)
    assert run(_ONCE, _FINE) == status
    told = "\n".join(lines(capfd))
    assert (f"(no second try: {why})" in told) is bool(why)
    assert len(ledger(root)) == len(causes) + (status == 0)


def test_a_ledger_that_cannot_be_read_is_seen_before_anything_runs(
    run: Run, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / cluster_tests.LEDGER).write_text("- {test: x}\n", "utf-8")
    assert run(_FINE, _FINE) == 1
    (told,) = lines(capfd)
    assert "does not have the fields test, reason, cause, date" in told


def test_what_fails_twice_fails_and_is_told_at_the_end(
    run: Run, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(_ONCE, _ALWAYS) == 1
    told = lines(capfd)
    assert "tests/cluster/test_other.py::test_always: failed: assert 1 == 2" in told
    assert [one.test for one in ledger(root)] == [ONCE]


def test_many_failures_are_not_tried_again(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    many = (
        "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_n(n):\n    assert n < 0\n"
    )
    assert run(_FINE, many) == 1
    out = lines(capfd)
    assert not any("once-more" in line for line in out)
    assert "tests/cluster/test_other.py::test_n[3]: failed: assert 3 < 0" in out


def test_an_error_in_a_fixture_counts_as_a_failure(
    run: Run, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = (
        "import pathlib, pytest\n@pytest.fixture\ndef thing():\n    yield\n"
        "    seen = pathlib.Path('seen')\n    first = not seen.exists()\n    seen.touch()\n"
        "    assert not first, 'left behind'\n\ndef test_once(thing):\n    pass\n"
    )
    assert run(broken, _FINE) == 0
    (kept,) = ledger(root)
    assert "left behind" in kept.reason


# -- what cannot run ---------------------------------------------------------------------------


def test_tests_that_cannot_be_collected_fail(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(_FINE, "import nothing_that_exists\n") == 1
    assert "nothing_that_exists" in "\n".join(lines(capfd))


def test_a_group_that_dies_fails_and_its_rows_are_named(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("import os\n\ndef test_dies():\n    os._exit(0)\n", _FINE) == 1
    told = "\n".join(lines(capfd))
    assert "test_one.py::test_dies: failed: it did not run: its group ended early" in told


def test_a_skipped_row_is_named(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("import pytest\n\ndef test_not():\n    pytest.skip('no such kernel')\n", _FINE) == 0
    told = "\n".join(lines(capfd))
    assert "test_one.py::test_not: skipped: " in told
    assert "no such kernel" in told


# -- the budget --------------------------------------------------------------------------------


def test_rows_beyond_the_budget_are_named_with_the_command_that_runs_them(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cluster_tests.BUDGET, "0.1")
    monkeypatch.setenv(cluster_tests.SUMMARY, str(root / "summary.json"))
    assert run(_SLEEPERS.format(guard=0.1, count=100), words=()) == 0
    told = lines(capfd)
    summary = json.loads((root / "summary.json").read_text("utf-8"))
    assert (summary["rows"], summary["second_tries"], summary["built"]) == (101, 0, False)
    left = 101 - summary["ran"]
    assert 0 < left < 101
    (place,) = [
        n for n, line in enumerate(told) if line.startswith(f"{summary['ran']} of 101 rows")
    ]
    assert told[place].endswith(f"second tries: none; did not run: {left}")
    assert place == len(told) - 1
    assert any(one.startswith("  tests/cluster/test_one.py::test_sleeper: ") for one in told)
    file = root / "cache" / "kar-checks" / "rows-not-run"
    assert told[place - 1].endswith(f"-m scripts.cluster_tests --rows {file}")

    names = file.read_text("utf-8").splitlines()
    assert len(names) == left
    assert not any("test_guard" in name for name in names)
    assert cluster_tests.main(["--rows", str(file)]) == 0
    again = lines(capfd)
    assert again[-1].startswith(f"{left} of {left} rows ran (100%)")
    passed = {name for name in names if any(f"{name} PASSED" in line for line in again)}
    assert passed == set(names)


def test_rows_that_always_run_and_do_not_fit_fail_before_anything_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cluster_tests.BUDGET, "0.001")
    assert run(_SLEEPERS.format(guard=0, count=2), words=()) == 1
    (told,) = lines(capfd)
    assert "the 1 rows that always run need" not in told
    assert "the row that always runs needs 0.0 minutes" in told
    assert "KAR_TEST_MINUTES is 0.001" in told


def test_rows_that_always_run_and_took_too_long_run_to_their_end_and_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cluster_tests.BUDGET, "0.02")
    assert run(_SLEEPERS.format(guard=3, count=2), words=()) == 1
    told = lines(capfd)
    assert any("test_guard PASSED" in line for line in told)
    assert any("the rows that always run took" in line for line in told)


def test_a_budget_that_is_no_number_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cluster_tests.BUDGET, "an hour")
    assert run(_FINE, words=()) == 1
    assert lines(capfd) == ["cluster tests: KAR_TEST_MINUTES is a number of minutes, not 'an hour'"]


def test_each_commit_begins_with_other_rows(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *words], cwd=root,
                       check=True, capture_output=True)  # fmt: skip

    monkeypatch.setenv(cluster_tests.BUDGET, "0.03")
    git("init")
    first: set[str] = set()
    # Without a row that always runs: on a busy machine that is late, and fails the run.
    sleepers = "import pytest, time" + _SLEEPERS[_SLEEPERS.index("@pytest.mark.parametrize") - 2 :]
    for number in range(20):
        git("commit", "--allow-empty", "-m", f"number {number}")
        assert run(sleepers.format(count=12), words=()) == 0
        ran = [line for line in lines(capfd) if "test_sleeper[" in line and "PASSED" in line]
        first |= {line.split("::")[1].split()[0] for line in ran[:1]}
        if len(first) > 2:
            break
    assert len(first) > 2


# -- recorded seconds --------------------------------------------------------------------------


def test_seconds_are_recorded_without_the_start_of_the_cluster(run: Run, root: Path) -> None:
    text = (
        "import time, pytest\n\n@pytest.mark.addons('dranet')\ndef test_slow(request):\n"
        "    time.sleep(0.4)\n    request.node.user_properties.append(('cluster_seconds', 0.3))\n"
        "\ndef test_fails():\n    assert False\n"
    )
    old = "rows:\n  tests/cluster/test_one.py::test_fails: 9.0\n  gone: 1.0\nstarts: {dranet: 33.0}"
    (root / cluster_tests.SECONDS).write_text(old, "utf-8")
    run(text, words=("--all", "--record"))
    told = cluster_tests.recorded()
    assert set(told["rows"]) == {
        "tests/cluster/test_one.py::test_fails",
        "tests/cluster/test_one.py::test_slow",
    }
    assert told["rows"]["tests/cluster/test_one.py::test_fails"] == 9.0
    assert 0.05 < told["rows"]["tests/cluster/test_one.py::test_slow"] < 0.4
    assert told["starts"] == {"dranet": 33.0}
