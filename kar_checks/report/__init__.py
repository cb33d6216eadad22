"""Renderers: each makes one output from a stored run, and needs neither cluster nor checks."""

from __future__ import annotations

from pathlib import Path

from kar_checks.store import StoredRun


def write_all(folder: Path) -> list[Path]:
    """Render the files that belong into a run folder, and return their paths."""
    from kar_checks.report import html, junit

    run = StoredRun(folder)
    page, results = folder / "scorecard.html", folder / "kar-junit.xml"
    html.write(run, page)
    junit.write(run, results)
    return [page, results]
