"""``kar compare`` and ``kar regress``: several stored runs together, without a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kar_checks import __version__, statement, words
from kar_checks import profile as profiles
from kar_checks.commands.again import judged
from kar_checks.exits import Exit
from kar_checks.history import comparison, nightly, statistics
from kar_checks.history.comparison import Comparison
from kar_checks.history.nightly import Series
from kar_checks.history.runs import load, load_all
from kar_checks.model import Finding
from kar_checks.report import compare_page, nightly_page
from kar_checks.store import StoredRun, find_run, now, requirement_rows

_MOST_NAMED = 5
_STYLES = {"worse": "bold red", "new": "bold red", "better": "green", "changed": "yellow"}


def compare_runs(
    given: Sequence[str],
    parent: Path,
    into: Path,
    *,
    allow_different: bool,
    most_days_apart: float,
    keys: Sequence[Path] = (),
) -> int:
    """Write page, CSV and JSON of a comparison, and print what is different.

    Every run is judged again from its observations, so that edited verdicts do not count.

    Raises:
        UnlikeError: the runs are not alike, and that was not allowed.
        StatementError: a key cannot be used.
        StoreError: one of them cannot be read.
    """
    pasts = [load(find_run(one, parent)) for one in given]
    notes = [note for one in pasts if (note := _judge_again(one.run))]
    found = comparison.compare(
        pasts,
        allow_different=allow_different,
        most_days_apart=most_days_apart,
        notes=notes,
        signatures={one.id: statement.state(one.run.folder, keys) for one in pasts},
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
    _count(found, console)
    for path in written:
        console.print(_plain(str(path)), soft_wrap=True)
    return int(Exit.OK)


def _judge_again(run: StoredRun) -> str:
    """Put today's verdicts in place of the stored ones; returns what that changed."""
    profile = profiles.stored(run.info.judged_with or run.info.profile)
    fresh, _ = judged(run, profile)
    before, after = _verdicts(run.findings), _verdicts(fresh)
    changed = [
        f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if not changed:
        return ""
    run.findings = fresh
    run.requirements = requirement_rows(run.info, fresh)
    more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    why = (
        "they were edited, or this copy of the suite was"
        if run.info.suite_version == __version__
        else f"it was judged by suite {run.info.suite_version}, this is {__version__}"
    )
    return (
        f"verdicts stored in run {run.info.id} do not follow from its observations ({why}); those "
        f"shown here do: {', '.join(changed[:_MOST_NAMED])}{more}"
    )


def _verdicts(findings: Sequence[Finding]) -> dict[str, str]:
    return {
        f"{one.check}[{one.variant}]" if one.variant else one.check: one.outcome.value
        for one in findings
    }


def _count(found: Comparison, console: Console) -> None:
    console.print(
        f"Requirements and topics: {len(found.differing)} differ, {len(found.alike)} are alike in "
        f"all runs, {len(found.unshown)} were shown by nobody."
    )
    console.print(
        f"Figures: {len(found.figures_differing)} differ, {len(found.figures_alike)} show no "
        f"difference, {len(found.figures_undecidable)} cannot be decided."
    )


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
        style = {"worse": "bold red", "new": "bold red", "better": "green", "changed": "yellow"}[
            one.direction
        ]
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
        raise ValueError(
            f"--keep must be at least {least}: detecting a change takes that many runs"
        )
    pasts, _ = load_all(parent)
    counted: dict[str, int] = {}
    for past in reversed(pasts):
        counted[past.cluster] = counted.get(past.cluster, 0) + 1
        if counted[past.cluster] > keep:
            copies = sorted(parent.glob(f"{past.run.folder.name}-judged-*"))
            for folder in (past.run.folder, *copies):
                shutil.rmtree(folder)
                print(f"removed {folder}")
    return int(Exit.OK)


def _plain(text: str, style: str = "") -> Text:
    return Text(words.safe(text, 500), style)
