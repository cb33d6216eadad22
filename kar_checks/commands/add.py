"""``kar attest`` and ``kar official``: what is added to a stored run, beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from kar_checks import added, report
from kar_checks.store import StoredRun, StoreError, find_run
from kar_checks.submission.rules import ARTEFACTS, read_artefact


def add_attested(
    given: str,
    parent: Path,
    requirement: str,
    *,
    who: str,
    on: str,
    text: str,
    link: str,
    file: Path | None,
) -> None:
    """Add a person's evidence to a run and render its page again.

    Raises:
        ValueError: the date is none, or what is said is not complete.
        StoreError: the run cannot be read or written.
    """
    try:
        day = date.fromisoformat(on)
    except ValueError as error:
        raise ValueError(f"--date {on!r} is no date of the form YYYY-MM-DD") from error
    run = StoredRun(find_run(given, parent))
    said = added.Attested(requirement=requirement, who=who, on=day, text=text, link=link)
    added.attest(run, said, file)
    print(f"{requirement}: attested by {who} on {day}; no outcome was changed")
    print(report.write_all(run.folder)[0])


def add_official(given: str, parent: Path, files: Sequence[Path]) -> None:
    """Add outputs of the official suite to a run and render its page again.

    Raises:
        ValueError: a file is none of the suite's three, or has none of its results.
        StoreError: a file or the run cannot be read or written.
    """
    run = StoredRun(find_run(given, parent))
    for file in files:
        if file.name.lower() not in ARTEFACTS:
            raise ValueError(f"{file} has not one of the names {', '.join(ARTEFACTS)}")
        try:
            results = read_artefact(file)
        except OSError as error:
            raise StoreError(f"{file} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        found = added.add_official(run, file, results)
        for one in found:
            print(f"{one.test} ({one.requirement}): {one.outcome}")
        others = len(results) - sum(name.partition("/")[0] in added.TESTS for name in results)
        print(f"{file}: {len(found)} tests touch a cluster; {others} others are of its own harness")
    print(report.write_all(run.folder)[0])
