"""``kar submission``: a filled checklist with its evidence, and the validator's rules off line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.console import Console

from kar_checks import added
from kar_checks.exits import Exit
from kar_checks.report.tables import show
from kar_checks.store import StoredRun, find_run, parse_json, write_atomically
from kar_checks.submission import evidence, official, redaction
from kar_checks.submission import runs as sources
from kar_checks.submission.document import STATUSES, Checklist, ChecklistError
from kar_checks.submission.fill import (
    Answers,
    AttestedItem,
    Entry,
    Filled,
    Written,
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
WRITTEN = "kar-written.json"
"""Remembers, beside the evidence, what this suite wrote into a submission."""


def new(
    given: Sequence[str],
    parent: Path,
    checklist: Path | None,
    target: Path,
    *,
    answers_file: Path | None = None,
    base_url: str = "",
    redacted: bool = False,
    max_age_days: int = 90,
) -> int:
    """Write ``PRODUCT.yaml`` and the evidence folder from runs; returns the exit code.

    A submission that exists is brought up to date: what this suite wrote and nobody edited is
    replaced, everything else stays.

    Raises:
        ChecklistError: the checklist or the answers cannot be used.
        MixedRunsError: the runs are of different clusters, minors or versions of the suite.
        StoreError: there is no such run, or something cannot be written.
    """
    source = target / PRODUCT
    if not source.exists():
        if checklist is None:
            raise ChecklistError(
                f"there is no {source} yet: give your copy of the programme's file with --checklist"
            )
        source = checklist
    document = Checklist.load(source)
    version = version_of(document)
    answers = read_answers(answers_file)
    if sys.stdin.isatty():
        answers = _ask(answers, missing_metadata(document, answers))
    runs = sources.in_order([StoredRun(find_run(one, parent)) for one in given])
    now, age = datetime.now(UTC), timedelta(days=max_age_days)
    why = {one.info.id: distrust(one, version, now, age) for one in runs}
    redact = redaction.redactor(runs[0]) if redacted else str
    results, beside = official.Results({}, [], {}), dict[str, Entry]()
    if version == runs[0].info.kubernetes_minor and not runs[0].info.environment.local_cluster:
        history = sources.of_same_cluster(runs, parent)
        results = official.collect(history, target, redact)
        oldest = now.date() - age
        beside = _added(history, target, redact if redacted else None, base_url, oldest)
    entries = _entries(document, runs, why, version, results, (target, redact, base_url))
    if sys.stdin.isatty():
        answers = _ask_about(answers, _left_open(document, entries, answers))
    written = _read_written(source.parent)
    filled = fill(document, entries, answers, attested_entries(answers), beside, written)
    write_atomically(target / PRODUCT, filled.text)
    if filled.written:
        _write_written(target, filled.written)
    if (target / evidence.FOLDER).exists():
        evidence.hashes(target)
    _tell(filled, target, missing_metadata(document, answers), strange_items(document, version))
    for sentence in results.refused:
        print(f"{sentence}.")
    return Exit.OK


def _entries(
    document: Checklist,
    runs: Sequence[StoredRun],
    why: dict[str, str],
    version: str,
    results: official.Results,
    into: tuple[Path, redaction.Redact, str],
) -> list[Entry]:
    """Return what is to be written for each requirement, its evidence already in the folder."""
    target, redact, base_url = into
    entries: list[Entry] = []
    rows = sources.rows(runs, why) if runs[0].info.kubernetes_minor == version else []
    for row in rows:
        entry = decide(row.runs[0], row.result, row.distrusted, row.findings or None)
        if entry.status and document.item(entry.id):
            cited: list[str] = []
            for run in row.runs:
                several = len(runs) > 1
                path = evidence.write(run, row.result, target, redact, several=several)[0]
                cited.append(f"{base_url.rstrip('/')}/{path}" if base_url else path)
            entry = replace(entry, evidence=tuple(cited), notes=redact(entry.notes))
        entries.append(official.decided(entry, row.result, results))
    known = {one.id for one in entries}
    distrusted = why[runs[0].info.id]
    return entries + [
        Entry(one.id, why=f"left to you: {distrusted}")
        for one in document.items
        if one.id not in known
    ]


def _read_written(folder: Path) -> dict[str, Written]:
    """Return what an earlier call wrote into a submission; nothing if nobody can tell."""
    path = folder / evidence.FOLDER / WRITTEN
    try:
        raw = parse_json(path.read_bytes())
        return {
            str(name): Written(
                one["status"], tuple(one["evidence"]), one["notes"], bool(one["attested"])
            )
            for name, one in raw.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write_written(target: Path, written: dict[str, Written]) -> None:
    rows = {name: asdict(one) for name, one in sorted(written.items())}
    write_atomically(target / evidence.FOLDER / WRITTEN, json.dumps(rows, indent=1) + "\n")


def _added(
    runs: Sequence[StoredRun],
    target: Path,
    redact: redaction.Redact | None,
    base_url: str,
    oldest: date,
) -> dict[str, Entry]:
    """Return the evidence that persons added to the runs, its files beside the runs' own."""
    out: dict[str, Entry] = {}
    said = [(run, one) for run in runs for one in added.attested(run.folder)]
    for run, one in said:
        so_far = out.get(one.requirement, Entry(one.requirement))
        by = f"by {one.who} on {one.on}"
        if one.on < oldest:
            out[one.requirement] = _told(so_far, f"too old to be used: attested {by}")
            continue
        cited = [
            f"{base_url.rstrip('/')}/{place}" if base_url and place != one.link else place
            for place in evidence.attested(run, one, target, redact)
        ]
        note = f"Attested {by}, not measured{f': {one.text}' if one.text else '.'}"
        out[one.requirement] = replace(
            _told(so_far, f"attested {by}"),
            evidence=(*so_far.evidence, *cited),
            notes=f"{so_far.notes} {redact(note) if redact else note}".strip(),
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
    rows = [(one.id, one.status, one.why) for one in filled.entries]
    show(console, ("requirement", "status written", "why"), rows, wrap={"why"})
    tests = [(one.id, command) for one in filled.entries if (command := official.command(one.id))]
    if tests:
        print("\nThe official suite's own test of a requirement (then `kar official junit.xml`):")
        for name, command in tests:
            print(f"  {name}: {command}")
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


def check_file(path: Path, rules: Generation | None, *, online: bool = False) -> int:
    """Print every problem of a submission; returns 1 if one is an error.

    Raises:
        ChecklistError: it is no checklist.
    """
    document = Checklist.load(path)
    found = check(document, path.resolve().parent, rules)
    if online:
        from kar_checks.submission.online import unreachable

        found += unreachable(document)
    for one in found:
        print(f"{path}: {one}")
    errors = sum(1 for one in found if one.severity == "error")
    print(
        f"{errors} errors, {len(found) - errors} warnings. Not checked: "
        f"{'' if online else 'whether URLs answer (--online), and '}whether the vendor is a member."
    )
    return Exit.FAILED if errors else Exit.OK
