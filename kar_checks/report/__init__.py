"""Renderers: each makes one output from a stored run, and needs neither cluster nor checks."""

from __future__ import annotations

from pathlib import Path

from kar_checks.store import StoredRun


def write_all(folder: Path) -> list[Path]:
    """Render the files that belong into a run folder, and return their paths."""
    from kar_checks.report import html, junit, summary

    run = StoredRun(folder)
    page, results, brief = (
        folder / name for name in ("scorecard.html", "kar-junit.xml", "summary.md")
    )
    html.write(run, page)
    junit.write(run, results)
    summary.write(run, brief)
    return [page, results, brief]
