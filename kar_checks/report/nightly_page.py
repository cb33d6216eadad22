"""A history of runs as a page, JSON, a Markdown summary for CI, and metrics in OpenMetrics text."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from kar_checks import words
from kar_checks.history.nightly import Series, Trend
from kar_checks.report import html, openmetrics
from kar_checks.report.compare_page import number
from kar_checks.report.openmetrics import Family
from kar_checks.store import write_atomically

_WIDTH, _HEIGHT, _EDGE = 416.0, 64.0, 6.0
_MOST_LINES = 40


def write_all(found: Series, into: Path) -> list[Path]:
    """Write ``history.html``, ``.json``, ``summary.md`` and ``kar.prom``; return their paths."""
    made = {
        "history.html": render(found),
        "history.json": found.model_dump_json(indent=1) + "\n",
        "summary.md": markdown(found),
        "kar.prom": metrics(found),
    }
    for name, text in made.items():
        write_atomically(into / name, text)
    return [into / name for name in made]


def render(found: Series) -> str:
    """Return the page."""
    return (
        html.environment()
        .get_template("nightly.html.j2")
        .render(
            found=found,
            date=dict(zip(found.runs, found.dates, strict=True)),
            css=html.css("scorecard.css", "series.css"),
            draw=draw,
            number=number,
            count=words.count,
            tally=_tally,
        )
        .lstrip()
    )


def _tally(outcomes: list[str]) -> str:
    counted = Counter(one for one in outcomes if one)
    return ", ".join(f"{number} {words.outcome(one)}" for one, number in counted.items())


def draw(trend: Trend) -> Markup:
    """Return a figure's medians as a small drawing; a dashed line stands where a level began."""
    values = [one.value for one in trend.points]
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    # Half of the largest value at least, so that noise does not look like a mountain.
    span = max(high - low, 0.5 * abs(high), 1e-9)
    base = (low + high - span) / 2
    step = (_WIDTH - 2 * _EDGE) / max(1, len(values) - 1)
    places = [
        (_EDGE + index * step, _HEIGHT - _EDGE - (value - base) / span * (_HEIGHT - 2 * _EDGE))
        for index, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(
        f'<line x1="{places[at][0] - step / 2:.1f}" x2="{places[at][0] - step / 2:.1f}" '
        f'y1="0" y2="{_HEIGHT:.0f}"/>'
        for at in trend.changes
    )
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places)
    told = f"{len(values)} medians from {number(low)} to {number(high)}"
    return Markup(
        '<svg class="trend" role="img" aria-label="{} {}" viewBox="0 0 {} {}">{}{}{}</svg>'
    ).format(
        told,
        trend.unit,
        f"{_WIDTH:.0f}",
        f"{_HEIGHT:.0f}",
        Markup(marks),  # noqa: S704 - numbers only
        Markup(f'<polyline points="{line}"/>'),  # noqa: S704 - numbers only
        Markup(dots),  # noqa: S704 - numbers only
    )


def markdown(found: Series) -> str:
    """Return a summary such as CI systems show beside a job."""
    lines = [f"## kar-checks: {words.markdown(found.cluster)}", ""]
    if not found.previous:
        lines.append("There is just one run of this cluster: nothing to compare it with.")
    elif not found.changed:
        lines.append(f"Nothing changed since run `{found.previous}`.")
    else:
        lines += ["| changed | what | how | since |", "|---|---|---|---|"]
        lines += [
            f"| {one.direction} | {words.markdown(one.name)} | {words.markdown(one.told)} "
            f"| `{one.since}` |"
            for one in found.changed[:_MOST_LINES]
        ]
    for title, told in (
        ("Else changed in the cluster", found.environment),
        ("Without a verdict this time", found.unmeasured),
        ("Flapping", found.flapping),
        ("Failing as before", found.standing),
        ("About the history", found.troubles),
    ):
        if told:
            lines += [
                "",
                f"### {title}",
                "",
                *(f"- {words.markdown(one)}" for one in told[:_MOST_LINES]),
            ]
            if len(told) > _MOST_LINES:
                lines.append(f"- and {len(told) - _MOST_LINES} more")
    counted = Counter(one.outcomes[-1] for one in found.lines if one.outcomes[-1])
    sum_ = ", ".join(f"{number} {words.outcome(one)}" for one, number in counted.items())
    lines += ["", f"Run `{found.latest}`: {sum_ or 'no verdict'}. A self-assessment."]
    return "\n".join(lines) + "\n"


def metrics(found: Series) -> str:
    """Return the latest run for the textfile collector or any scraper; no sample has a time."""
    place = {"cluster": found.cluster, "cluster_uid": found.cluster_uid}
    outcomes = [
        ({**place, "check": one.name, "outcome": one.outcomes[-1]}, 1)
        for one in found.lines
        if one.outcomes[-1]
    ]
    figures = [
        (
            {
                **place,
                "topic": one.topic,
                "figure": one.name,
                "variant": one.variant,
                "unit": one.unit,
            },
            one.points[-1].value,
        )
        for one in found.trends
        if one.points and one.points[-1].run == found.latest
    ]
    changes = [
        ({**place, "direction": way}, sum(one.direction == way for one in found.changed))
        for way in ("worse", "new", "better", "changed")
    ]
    ended = [(place, datetime.fromisoformat(found.finished).timestamp())] if found.finished else []
    return openmetrics.text(
        [
            Family(
                "kar_check_outcome",
                "The outcome of a check in the latest run; always 1.",
                outcomes,
            ),
            Family("kar_figure", "Median of a figure in the latest run that measured it.", figures),
            Family("kar_changes", "What changed with the latest run.", changes),
            Family(
                "kar_flapping_checks", "Checks that are flapping.", [(place, len(found.flapping))]
            ),
            Family("kar_runs", "Runs in the history.", [(place, len(found.runs))]),
            Family(
                "kar_last_run_complete",
                "1 if it finished.",
                [(place, int(found.complete))],
            ),
            Family("kar_last_run_timestamp_seconds", "When the latest run ended.", ended),
        ]
    )
