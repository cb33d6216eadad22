from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from kar_checks.report import text
from tests.unit.report import samples


def printed(name: str, parent: Path) -> str:
    out = io.StringIO()
    text.summary(getattr(samples, name)().write(parent), Console(file=out, width=120))
    return out.getvalue()


def test_a_stranger_reads_what_came_out(tmp_path: Path) -> None:
    shown = printed("troubled", tmp_path)
    assert "MUST: 8 requirements — 0 passed, 0 failed, 0 undecided, 1 harness error" in shown
    assert "✗ failed" in shown
    assert "Cleanup: leaked, 22 objects removed, 1 left behind." in shown
    assert "Exit code 10: a harness error, or something of the suite's own was left" in shown
    assert "\x1b" not in shown


def test_names_of_a_cluster_steer_no_terminal(tmp_path: Path) -> None:
    shown = printed("hostile", tmp_path)
    assert not set("\x1b\x00\u202e") & set(shown)
    assert "<script>" in shown
