"""How a CI run ends: what it prints, and the line that it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import last_ci

ROOT = Path(__file__).parents[2]
TOLD = {"built": False, "rows": 128, "ran": 96, "second_tries": 0, "wrong": []}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kar-checks" / "last-ci"


def summary(folder: Path, **changes: object) -> Path:
    file = folder / "summary.json"
    file.write_text(json.dumps({**TOLD, **changes}), "utf-8")
    return file


def test_a_good_run_leaves_one_line_of_four_words(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_ci, "_commit", lambda: "a" * 40)
    said = last_ci.close(summary(tmp_path), 1643, 0)
    assert said == (
        "CI passed after 27.4 minutes, warm: 96 of 128 rows of the cluster tests ran (75%); "
        "second tries: none"
    )
    assert kept.read_text("utf-8") == f"{'a' * 40} 27.4 warm 0\n"
    last_ci.close(summary(tmp_path, built=True, second_tries=2), 3000, 0)
    assert kept.read_text("utf-8") == f"{'a' * 40} 50.0 cold 2\n"


def test_a_bad_run_is_told_and_leaves_the_line_of_the_last_good_one(
    tmp_path: Path, kept: Path
) -> None:
    assert "CI failed after 1.0 minutes, warm" in last_ci.close(summary(tmp_path), 60, 2)
    assert not kept.exists()
    said = last_ci.close(summary(tmp_path, wrong=["a: failed: b", "c: failed: d"]), 60, 2)
    assert said.splitlines()[1:] == ["a: failed: b", "c: failed: d"]
    (tmp_path / "empty").touch()
    for name in ("empty", "none"):
        said = last_ci.close(tmp_path / name, 60, 2)
        assert said == "CI failed after 1.0 minutes, before or in the cluster tests"
    assert not kept.exists()


@pytest.mark.parametrize("status", [0, 2])
def test_the_ci_command_keeps_the_status_of_the_tests(
    tmp_path: Path, kept: Path, status: int
) -> None:
    checkout = tmp_path / "checkout"
    for name in (".ci/run", "scripts/last_ci.py", "localcluster/paths.py"):
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (checkout / "localcluster" / "__init__.py").touch()
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())
    told = json.dumps(TOLD).replace('"', '\\"')
    (checkout / "Makefile").write_text(
        f'test:\n\t@echo "{told}" > $$KAR_TEST_SUMMARY; exit {status}\n', "utf-8"
    )
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x", "--allow-empty"],
        cwd=checkout,
        check=True,
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [checkout / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    word = "failed" if status else "passed"
    assert done.stdout.splitlines()[-1].startswith(f"CI {word} after 0.0 minutes, warm: 96 of 128")
    assert kept.exists() is (status == 0)
    if status == 0:
        assert re.fullmatch(r"[0-9a-f]{40} \d+\.\d (cold|warm) \d+\n", kept.read_text("utf-8"))
