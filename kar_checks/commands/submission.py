"""``kar submission``: a filled checklist with its evidence, and the validator's rules off line."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kar_checks import added
from kar_checks.exits import Exit
from kar_checks.store import StoredRun, StoreError, find_run, write_atomically
from kar_checks.submission import evidence
from kar_checks.submission.document import STATUSES, Checklist
from kar_checks.submission.fill import (
    Answers,
    AttestedItem,
    Entry,
    Filled,
    attested_entries,
    decide,
    distrust,
    fill,
    missing_metadata,
    read_answers,
    strange_items,
    version_of,
)
from kar_checks.submission.rules import Generation, check

PRODUCT = "PRODUCT.yaml"


def new(
    given: str,
    parent: Path,
    checklist: Path,
    target: Path,
    *,
    answers_file: Path | None = None,
    base_url: str = "",
    redacted: bool = False,
    max_age_days: int = 90,
) -> int:
    """Write ``PRODUCT.yaml`` and the evidence folder from a run; returns the exit code.

    Raises:
        ChecklistError: the checklist or the answers cannot be used.
        StoreError: there is no such run, or ``target`` holds a submission already.
    """
    if (target / PRODUCT).exists():
        raise StoreError(f"{target / PRODUCT} exists; nothing is written over it")
    document = Checklist.load(checklist)
    version = version_of(document)
    answers = read_answers(answers_file)
    if sys.stdin.isatty():
        answers = _ask(answers, missing_metadata(document, answers))
    run = StoredRun(find_run(given, parent))
    distrusted = distrust(run, version, datetime.now(UTC), timedelta(days=max_age_days))
    redact = evidence.redactor(run) if redacted else str
    entries: list[Entry] = []
    rows = run.requirements if run.info.kubernetes_minor == version else []
    for row in rows:
        entry = decide(run, row, distrusted)
        if entry.status and document.item(row.id):
            paths = evidence.write(run, row, target, redact)
            cited = [f"{base_url.rstrip('/')}/{one}" if base_url else one for one in paths[:1]]
            entry = replace(entry, evidence=tuple(cited), notes=redact(entry.notes))
        entries.append(entry)
    known = {one.id for one in entries}
    entries += [
        Entry(one.id, why=f"left to you: {distrusted}")
        for one in document.items
        if one.id not in known
    ]
    if sys.stdin.isatty():
        answers = _ask_about(answers, _left_open(document, entries, answers))
    beside: dict[str, Entry] = {}
    if not distrusted:
        oldest = datetime.now(UTC).date() - timedelta(days=max_age_days)
        beside = _added(run, target, redact if redacted else None, base_url, oldest)
    filled = fill(document, entries, answers, attested_entries(answers), beside)
    write_atomically(target / PRODUCT, filled.text)
    if (target / evidence.FOLDER).exists():
        evidence.hashes(target)
    _tell(filled, target, missing_metadata(document, answers), strange_items(document, version))
    return Exit.OK


def _added(
    run: StoredRun, target: Path, redact: evidence.Redact | None, base_url: str, oldest: date
) -> dict[str, Entry]:
    """Return the evidence that persons added to the run, its files beside the run's own."""
    out: dict[str, Entry] = {}
    for one in added.attested(run.folder):
        so_far = out.get(one.requirement, Entry(one.requirement))
        by = f"by {one.who} on {one.on}"
        if one.on < oldest:
            out[one.requirement] = _told(so_far, f"too old to be used: attested {by}")
            continue
        cited = [
            f"{base_url.rstrip('/')}/{place}" if base_url and place != one.link else place
            for place in evidence.attested(run, one, target, redact)
        ]
        said = f"Attested {by}, not measured{f': {one.text}' if one.text else '.'}"
        out[one.requirement] = replace(
            _told(so_far, f"attested {by}"),
            evidence=(*so_far.evidence, *cited),
            notes=f"{so_far.notes} {redact(said) if redact else said}".strip(),
        )
    return out


def _told(entry: Entry, more: str) -> Entry:
    return replace(entry, why=f"{entry.why}; {more}" if entry.why else more)


def _ask(answers: Answers, missing: list[str]) -> Answers:
    """Ask a person at the terminal for metadata; an empty answer leaves it open."""
    given = {name: input(f"{name}: ").strip() for name in missing}
    more = {name: value for name, value in given.items() if value}
    return answers.model_copy(update={"metadata": {**answers.metadata, **more}})


def _left_open(document: Checklist, entries: list[Entry], answers: Answers) -> list[str]:
    """Return the requirements that nobody has said anything of: no run, no answer, no person."""
    return [
        one.id
        for one in entries
        if not one.status
        and one.id not in answers.items
        and (item := document.item(one.id))
        and not item.text("status").strip()
    ]


def _ask_about(answers: Answers, ids: list[str]) -> Answers:
    """Ask a person at the terminal for requirements; an empty status leaves one open."""
    given: dict[str, AttestedItem] = {}
    for one in ids:
        status = input(f"{one}: {', '.join(STATUSES)}, or empty to leave it open: ").strip()
        while status and status not in STATUSES:
            status = input(f"  {status!r} is none of them: ").strip()
        if status:
            evidence = input("  evidence, links or paths with blanks between them: ").split()
            notes = input("  notes: ").strip()
            given[one] = AttestedItem(status=status, evidence=evidence, notes=notes)
    return answers.model_copy(update={"items": {**answers.items, **given}})


def _tell(filled: Filled, target: Path, missing: list[str], strange: list[str]) -> None:
    console = Console(highlight=False)
    table = Table(box=None)
    for column in ("requirement", "status written", "why"):
        table.add_column(column)
    for one in filled.entries:
        table.add_row(one.id, one.status or "-", one.why)
    console.print(table)
    for sentence in strange:
        print(f"{sentence}.")
    if missing:
        print(
            f"Only you know: metadata {', '.join(missing)}. Write them into {target / PRODUCT}, "
            "or give them with --answers."
        )
    print(f"Written: {target / PRODUCT}")
    print(f"Next: kar submission check {target / PRODUCT}")


def generation(word: str) -> Generation | None:
    """Return the validator's generation that a user named; none leaves it to the version.

    Raises:
        ValueError: there is no such generation.
    """
    match word:
        case "strict" | "hybrid":
            return word
        case "":
            return None
        case _:
            raise ValueError(f"--rules must be strict or hybrid, not {word!r}")


def check_file(path: Path, rules: Generation | None) -> int:
    """Print every fault of a submission; returns 1 if one is an error.

    Raises:
        ChecklistError: it is no checklist.
    """
    found = check(Checklist.load(path), path.resolve().parent, rules)
    for one in found:
        print(f"{path}: {one}")
    errors = sum(1 for one in found if one.severity == "error")
    print(
        f"{errors} errors, {len(found) - errors} warnings. Not checked off line: whether URLs "
        "answer, and whether the vendor is a member."
    )
    return Exit.FAILED if errors else Exit.OK
