from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from kar_checks.checks.registry import all_checks
from kar_checks.report import tables
from tests.unit.test_commands_end import kar

ROWS = [("gang.two_gangs", "", "a sentence that is longer\nthan a line"), ("x", "[b]", "\x1b[31m")]


def shown(*, terminal: bool, title: str = "") -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=30, force_terminal=terminal, color_system=None)
    tables.show(console, ("Check", "Here", "Why"), ROWS, title=title, wrap={"Why"})
    return out.getvalue().splitlines()


def test_outside_a_terminal_a_row_is_one_line() -> None:
    assert shown(terminal=False, title="Plan") == [
        "Plan",
        "gang.two_gangs  -  a sentence that is longer than a line",
        "x  [b]  ⟨U+001B⟩[31m",
    ]


def test_a_terminal_has_headings_and_breaks_sentences_only() -> None:
    lines = shown(terminal=True)
    assert lines[0].split() == ["Check", "Here", "Why"]
    assert lines[1].startswith(" gang.two_gangs ")
    assert len(lines) > 3


@pytest.mark.parametrize("words", [["list"], ["explain", "profile"]])
def test_no_id_is_broken_in_a_narrow_pipe(words: list[str], tmp_path: Path) -> None:
    done = kar(*words, folder=tmp_path, COLUMNS="20")
    assert done.returncode == 0
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    if words == ["list"]:
        assert ["SHOULD", "41", "disaggregated_inference"] in [line[:3] for line in lines]
        titles = {line[1].split()[0]: line[1:] for line in lines if line[0] == "" and line[1:]}
        assert {check.id for _, check in all_checks()} <= set(titles)
    else:
        assert ["stack.url (--target-url)", "-"] in [line[:2] for line in lines]
