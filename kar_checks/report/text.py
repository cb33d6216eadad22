"""The summary at the end of a run: tables on a terminal, one line per check elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kar_checks import words
from kar_checks.model import Outcome
from kar_checks.report.view import CheckView, Scorecard, TopicView
from kar_checks.store import StoredRun


def summary(run: StoredRun, console: Console, *, quiet: bool = False) -> None:
    """Print the findings per topic, a sentence per level, and what the run left behind.

    ``quiet`` leaves out the checks that passed.
    """
    card = Scorecard(run)
    for topic in card.topics:
        chosen = [
            check
            for check in topic.checks
            if check.info.id in run.info.selection
            and not (quiet and check.finding.outcome is Outcome.PASS)
        ]
        if chosen and console.is_terminal:
            console.print(_table(topic, chosen))
        elif chosen:
            console.print(_plain(_title(topic)), soft_wrap=True)
            for check in chosen:
                console.print(_plain("  ".join(_cells(check))), soft_wrap=True)
            console.print()
    for tally in [*card.levels, *(topic.tally for topic in card.beyond)]:
        console.print(_plain(tally.sentence), soft_wrap=True)
    console.print()
    if card.ended_early:
        console.print(_plain(f"Ended early by {card.ended_early}.", "bold"), soft_wrap=True)
    if others := [one.id for one in run.info.beside]:
        told = f"Not alone: run {', '.join(others)} was active on this cluster at the same time."
        console.print(_plain(told, "bold"), soft_wrap=True)
    cleanup = run.info.cleanup
    left = f", {len(cleanup.leaks)} left behind" if cleanup.leaks else ""
    console.print(
        _plain(
            f"Cleanup: {cleanup.verdict}, {words.count(cleanup.removed, 'object')} removed{left}. "
            f"{cleanup.message}".rstrip(),
            "bold red" if cleanup.verdict == "leaked" else "",
        ),
        soft_wrap=True,
    )
    for leak in cleanup.leaks[:10]:
        ref = leak.object
        name = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        console.print(_plain(f"  {ref.kind} {name}: {leak.why}"), soft_wrap=True)
    page = run.folder / "scorecard.html"
    if page.exists():
        console.print(_plain(f"Page: {page}"), soft_wrap=True)
    code = run.info.exit_code
    told = f"Exit code {code}" if code is not None else "No exit code"
    console.print(_plain(f"{told}: {words.exit_code(code)}.", "bold"), soft_wrap=True)


def _table(topic: TopicView, checks: Sequence[CheckView]) -> Table:
    table = Table(
        title=_plain(_title(topic)),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("outcome", no_wrap=True)
    table.add_column("check", overflow="fold")
    table.add_column("what was found", overflow="fold", ratio=1)
    for check in checks:
        outcome, name, found = _cells(check)
        style = words.STYLE[str(check.finding.outcome)]
        table.add_row(_plain(outcome, style), _plain(name), _plain(found))
    return table


def _title(topic: TopicView) -> str:
    return f"{topic.info.title} — {topic.info.label}"


def _cells(check: CheckView) -> tuple[str, str, str]:
    """Return outcome, id and what was found, each on one line."""
    finding = check.finding
    outcome = str(finding.outcome)
    name = f"{check.info.id}[{finding.variant}]" if finding.variant else check.info.id
    found = f"{finding.summary} ({finding.help})" if finding.help else finding.summary
    return f"{words.SIGN[outcome]} {words.outcome(outcome)}", name, " ".join(found.split())


def _plain(text: str, style: str = "") -> Text:
    """Text of a cluster is no markup, and no control sequence of the terminal."""
    return Text(words.safe(text, 500), style)
