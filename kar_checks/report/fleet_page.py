"""A fleet as one HTML page that sorts itself, as JSON, and as metrics."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from kar_checks import paths, words
from kar_checks.history.fleet import WORST_FIRST, Overview, State
from kar_checks.report import html, openmetrics
from kar_checks.report.compare_page import number
from kar_checks.report.openmetrics import Family
from kar_checks.store import write_atomically

WORDS: dict[State, str] = {
    "not reported": "did not report",
    "stale": "stale",
    "harness": "error",
    "failed": "failed",
    "undecided": "inconclusive",
    "met": "objective met",
}
_LOOK: dict[State, str] = {
    "not reported": "not_run",
    "stale": "not_run",
    "harness": "error",
    "failed": "fail",
    "undecided": "inconclusive",
    "met": "pass",
}


def write_all(found: Overview, into: Path) -> list[Path]:
    """Write ``fleet.html``, ``fleet.json`` and ``fleet.prom``, and return their paths."""
    made = {
        "fleet.html": render(found, into),
        "fleet.json": found.model_dump_json(indent=1) + "\n",
        "fleet.prom": metrics(found),
    }
    for name, text in made.items():
        write_atomically(into / name, text)
    return [into / name for name in made]


def render(found: Overview, into: Path) -> str:
    """Return the page; links to scorecards are relative to ``into``."""
    script = paths.data("reports", "fleet.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        html.environment()
        .get_template("fleet.html.j2")
        .render(
            found=found,
            css=html.css("scorecard.css", "series.css"),
            script=Markup(script),  # noqa: S704 - ours
            # The page's policy allows this one script and no other.
            script_hash=Markup(f"sha256-{digest}"),  # noqa: S704 - ours
            links={one.name: _link(one.folder, into) for one in found.rows},
            order={state: place for place, state in enumerate(WORST_FIRST)},
            words=WORDS,
            look=_LOOK,
            number=number,
            count=words.count,
        )
        .lstrip()
    )


def _link(folder: str, into: Path) -> str:
    page = Path(folder, "scorecard.html")
    if not folder or not page.is_file():
        return ""
    return quote(os.path.relpath(page.resolve(), into.resolve()))


def metrics(found: Overview) -> str:
    """Return the fleet for the textfile collector or any scraper; no sample has a time.

    A cluster without any run has no last time: what is missing is not 0.
    """
    rows = [({"cluster": one.name}, one) for one in found.rows]
    return openmetrics.text(
        [
            Family(
                "kar_fleet_cluster_reported",
                "1 if its last run finished and is not stale.",
                [(place, int(one.state not in ("not reported", "stale"))) for place, one in rows],
            ),
            Family(
                "kar_fleet_cluster_state",
                "The state of a cluster; always 1.",
                [({**place, "state": one.state}, 1) for place, one in rows],
            ),
            Family(
                "kar_fleet_last_run_timestamp_seconds",
                "When its last finished run ended.",
                [(place, one.finished.timestamp()) for place, one in rows if one.finished],
            ),
            Family(
                "kar_fleet_checks",
                "Checks of that run by outcome.",
                [
                    ({**place, "outcome": outcome}, n)
                    for place, one in rows
                    for outcome, n in one.outcomes.items()
                ],
            ),
        ]
    )
