from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from kar_checks.model import Outcome
from kar_checks.report import text, words
from kar_checks.view import ConsoleView
from tests.unit.report import samples


def printed(name: str, parent: Path, *, quiet: bool = False) -> str:
    out = io.StringIO()
    run = getattr(samples, name)().write(parent)
    text.summary(run, Console(file=out, width=120), quiet=quiet)
    return out.getvalue()


def test_a_stranger_reads_what_came_out(tmp_path: Path) -> None:
    shown = printed("troubled", tmp_path)
    assert "MUST: 8 requirements — 0 passed, 0 failed, 0 undecided, 1 harness error" in shown
    assert "✘ failed" in shown
    assert "Cleanup: leaked, 22 objects removed, 1 left behind." in shown
    assert "Exit code 10: a harness error, or something of the suite's own was left" in shown
    assert "\x1b" not in shown


def test_names_of_a_cluster_steer_no_terminal(tmp_path: Path) -> None:
    shown = printed("hostile", tmp_path)
    assert not set("\x1b\x00\u202e") & set(shown)
    assert "<script>" in shown


def test_quiet_leaves_out_the_checks_that_passed(tmp_path: Path) -> None:
    assert "✔ passed" in printed("troubled", tmp_path / "whole")
    shown = printed("troubled", tmp_path / "quiet", quiet=True)
    assert "✔ passed" not in shown
    assert "✘ failed" in shown
    assert "MUST: 8 requirements" in shown
    assert "│" not in printed("passed", tmp_path / "passed", quiet=True)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_outcome_has_one_sign_while_a_run_goes_on_and_at_its_end(
    tmp_path: Path, outcome: Outcome
) -> None:
    out = io.StringIO()
    run = samples.passed().write(tmp_path)
    found = run.findings[0].model_copy(update={"outcome": outcome})
    run.findings = [found]
    ConsoleView(Console(file=out, width=120)).findings([found])
    live = out.getvalue().split()[0]
    out.seek(0)
    text.summary(run, Console(file=out, width=120))
    (line,) = [one for one in out.getvalue().splitlines() if f" {found.check}" in one]
    assert line.split()[0] == live == words.SIGN[outcome.value]
