"""A comparison of runs as one HTML page, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from kar_checks import words
from kar_checks.history.comparison import Comparison
from kar_checks.report import html
from kar_checks.store import write_atomically

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_all(found: Comparison, into: Path) -> list[Path]:
    """Write ``compare.html``, ``compare.csv`` and ``compare.json``, and return their paths."""
    made = {
        "compare.html": render(found),
        "compare.csv": table(found),
        "compare.json": found.model_dump_json(indent=1) + "\n",
    }
    for name, text in made.items():
        write_atomically(into / name, text)
    return [into / name for name in made]


def render(found: Comparison) -> str:
    """Return the page."""
    return (
        html.environment()
        .get_template("compare.html.j2")
        .render(
            found=found,
            css=html.css("scorecard.css", "series.css"),
            number=number,
            count=words.count,
        )
        .lstrip()
    )


def number(value: float) -> str:
    """Return a figure with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(found: Comparison) -> str:
    """Return a row for each requirement, check and figure, with two columns a run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    labels = [f"{one.label} {what}" for one in found.runs for what in ("result", "why")]
    writer.writerow(_cells(["kind", "id", "title", "group", "differs", *labels]))
    for group in found.groups:
        for kind, row in [("requirement", group), *(("check", one) for one in group.checks)]:
            told = [
                part
                for cell in row.cells
                for part in ((cell.outcome, cell.reason) if cell else ("", ""))
            ]
            yes = "yes" if row.differs else "no" if group.shown else "not shown"
            writer.writerow(_cells([kind, row.id, row.title, group.group, yes, *told]))
    for figure in found.figures:
        told = []
        for cell, verdict in zip(figure.cells, figure.verdicts, strict=True):
            told.append(f"{cell.median!r}" if cell else "")
            told.append(f"{verdict.word}: {verdict.told}" if verdict else "")
        name = f"{figure.name} [{figure.variant}]" if figure.variant else figure.name
        writer.writerow(
            _cells(
                [
                    "figure",
                    f"{figure.topic}: {name}",
                    f"{name} ({figure.unit}, {figure.better} is better)",
                    figure.topic,
                    "yes" if figure.differs else "no" if figure.decidable else "not decidable",
                    *told,
                ]
            )
        )
    return out.getvalue()


def _cells(values: list[str]) -> list[str]:
    """Return values that are safe to show, and that no spreadsheet takes for a formula."""
    safe = [words.safe(one) for one in values]
    return [f"'{one}" if one.startswith(_FORMULA) else one for one in safe]
