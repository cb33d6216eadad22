"""``kar compare`` and ``kar regress``: several stored runs together, without a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kar_checks.exits import Exit
from kar_checks.history import comparison, nightly, statistics
from kar_checks.history.nightly import Series
from kar_checks.history.runs import load, load_all
from kar_checks.report import compare_page, nightly_page, words
from kar_checks.store import find_run, now


def compare_runs(
    given: Sequence[str],
    parent: Path,
    into: Path,
    *,
    allow_different: bool,
    most_days_apart: float,
) -> int:
    """Write page, CSV and JSON of a comparison, and print what is different.

    Raises:
        UnlikeError: the runs are not alike, and that was not allowed.
        StoreError: one of them cannot be read.
    """
    pasts = [load(find_run(one, parent)) for one in given]
    found = comparison.compare(
        pasts, allow_different=allow_different, most_days_apart=most_days_apart
    )
    written = compare_page.write_all(found, into)
    console = Console(highlight=False)
    for told in (*found.unlike, *found.notes):
        console.print(_plain(f"Note: {told}"), soft_wrap=True)
    for group in found.groups:
        if not group.differs:
            continue
        console.print(_plain(f"{group.title} — {group.group}", "bold"), soft_wrap=True)
        for head, cell in zip(found.runs, group.cells, strict=True):
            told = (
                f"{words.outcome(cell.outcome)}: {cell.reason}" if cell else "not on its checklist"
            )
            console.print(_plain(f"  {head.label}: {told}"), soft_wrap=True)
    for row in found.figures:
        for head, verdict in zip(found.runs, row.verdicts, strict=True):
            if verdict:
                told = f"{row.name}: {head.label} against {found.runs[0].label}: {verdict.word}"
                console.print(_plain(f"{told} ({verdict.told})"), soft_wrap=True)
    same = sum(not one.differs for one in found.groups)
    console.print(f"{same} of {len(found.groups)} requirements and topics are alike in all runs.")
    for path in written:
        console.print(_plain(str(path)), soft_wrap=True)
    return int(Exit.OK)


def regress(parent: Path, into: Path) -> int:
    """Write the history's page, JSON, Markdown and metrics, print what changed, return the code.

    1: something is worse than in the run before. 11: there is too little to say, something has no
    verdict any more, or flaps. 0: none of these.

    Raises:
        StoreError: there is no run.
    """
    pasts, troubles = load_all(parent)
    found = nightly.assess(pasts, now(), troubles)
    written = nightly_page.write_all(found, into)
    _tell(found, Console(highlight=False))
    for path in written:
        print(path)
    return int(exit_code(found))


def exit_code(found: Series) -> Exit:
    """Return what a history comes to."""
    if found.worse:
        return Exit.FAILED
    if not found.previous or not found.complete or found.unmeasured or found.flapping:
        return Exit.UNDECIDED
    return Exit.OK


def _tell(found: Series, console: Console) -> None:
    if not found.previous:
        console.print("There is just one run of this cluster: nothing to compare it with.")
    elif not found.changed:
        console.print(f"Nothing changed since run {found.previous}.")
    for one in found.changed:
        style = {"worse": "bold red", "better": "green", "changed": "yellow"}[one.direction]
        since = "" if one.since == found.latest else f" (since run {one.since})"
        console.print(_plain(f"{one.direction}: {one.name}{since}: {one.told}", style))
    for title, lines in (
        ("Else changed in the cluster", found.environment),
        ("Without a verdict this time", found.unmeasured),
        ("Flapping", found.flapping),
        ("Failing as before", found.standing),
        ("About the history", found.troubles),
    ):
        for line in lines:
            console.print(_plain(f"{title}: {line}"), soft_wrap=True)


def prune(parent: Path, keep: int) -> int:
    """Remove all but the newest ``keep`` runs of each cluster; what cannot be read stays.

    Raises:
        ValueError: fewer would be kept than telling a change takes.
    """
    least = statistics.REFERENCE[0] + statistics.BLOCK
    if keep < least:
        raise ValueError(f"--keep must be at least {least}: telling a change takes so many runs")
    pasts, _ = load_all(parent)
    counted: dict[str, int] = {}
    for past in reversed(pasts):
        counted[past.cluster] = counted.get(past.cluster, 0) + 1
        if counted[past.cluster] > keep:
            shutil.rmtree(past.run.folder)
            print(f"removed {past.run.folder}")
    return int(Exit.OK)


def _plain(text: str, style: str = "") -> Text:
    return Text(words.safe(text, 500), style)
