from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from kar_checks import words
from kar_checks.model import Outcome
from kar_checks.report import text
from kar_checks.store import StoredRun
from kar_checks.view import ConsoleView
from tests.unit.apiserver import ApiServer
from tests.unit.report import samples
from tests.unit.test_commands_end import kar


def printed(name: str, parent: Path, *, quiet: bool = False) -> str:
    out = io.StringIO()
    run = getattr(samples, name)().write(parent)
    text.summary(run, Console(file=out, width=120), quiet=quiet)
    return out.getvalue()


def test_a_stranger_reads_what_came_out(tmp_path: Path) -> None:
    shown = printed("troubled", tmp_path)
    assert "MUST: 8 requirements — 0 passed, 0 failed, 0 inconclusive, 1 error" in shown
    assert "✘ failed" in shown
    assert "Cleanup: leaked, 22 objects removed, 1 left behind." in shown
    assert "Exit code 10: an error (the suite could not measure), or objects" in shown
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
    def shown(tell: Callable[[Console], None], *, terminal: bool) -> str:
        out = io.StringIO()
        tell(Console(file=out, width=120, force_terminal=terminal, color_system=None))
        return out.getvalue()

    run = samples.passed().write(tmp_path)
    found = run.findings[0].model_copy(update={"outcome": outcome})
    run.findings = [found]
    live = shown(lambda console: ConsoleView(console).findings([found]), terminal=True)
    assert live.split()[0] == words.SIGN[outcome.value]
    for terminal in (True, False):
        end = shown(lambda console: text.summary(run, console), terminal=terminal)
        (line,) = [one for one in end.splitlines() if f" {found.check}" in one]
        assert line.split()[0] == words.SIGN[outcome.value]


BOXES = {chr(code) for code in range(0x2500, 0x2580)}


@pytest.mark.parametrize("name", ["passed", "troubled", "hostile"])
@pytest.mark.parametrize("width", [20, 80])
def test_outside_a_terminal_a_check_is_one_line_without_boxes(
    name: str, width: int, tmp_path: Path
) -> None:
    out = io.StringIO()
    run = getattr(samples, name)().write(tmp_path)
    console = Console(file=out, width=width)
    view = ConsoleView(console)
    view.findings(run.findings)
    text.summary(run, console)
    assert not BOXES & set(out.getvalue())
    lines = [one.split("  ", 2) for one in out.getvalue().splitlines() if one.count("  ") >= 2]
    shown = {check: (outcome, found) for outcome, check, found in lines if outcome}
    assert len(shown) == len([one for one in lines if one[0]])
    assert {one.split("[")[0] for one in shown} == set(run.info.selection)
    for one in run.findings:
        check = words.safe(f"{one.check}[{one.variant}]" if one.variant else one.check, 500)
        outcome, found = shown[check]
        assert outcome == f"{words.SIGN[one.outcome.value]} {words.outcome(one.outcome)}"
        assert " ".join(words.safe(one.summary, 200).split())[:20] in found


def test_a_run_through_a_pipe_prints_a_line_for_each_check(api: ApiServer, tmp_path: Path) -> None:
    kubeconfig = str(api.kubeconfig(tmp_path))
    done = kar("run", "gang", "--kubeconfig", kubeconfig, folder=tmp_path, COLUMNS="40")
    assert not BOXES & set(done.stdout), done.stdout
    stored = StoredRun(tmp_path / "runs" / "latest")
    assert len(stored.findings) >= 5
    for one in stored.findings:
        name = f"{one.check}[{one.variant}]" if one.variant else one.check
        (line,) = [line for line in done.stdout.splitlines() if f"  {name}  " in line]
        assert line.startswith(f"{words.SIGN[one.outcome.value]} {words.outcome(one.outcome)}  ")
        assert " ".join(one.summary.split())[:200] in line


def test_a_terminal_shows_tables(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    text.summary(samples.passed().write(tmp_path), console)
    assert BOXES & set(out.getvalue())
