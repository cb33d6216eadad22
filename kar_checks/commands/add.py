"""``kar attest`` and ``kar official``: what is added to a stored run, beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from kar_checks import added, inference_suite, report
from kar_checks.store import StoredRun, StoreError, find_run
from kar_checks.submission.rules import ARTEFACTS, read_artefact

_INFERENCE_SUITE = (".log", ".yaml", ".yml")


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
    """Add manual evidence to a run and render its page again.

    Raises:
        ValueError: the date is none, or what is said is not complete.
        StoreError: the run cannot be read or written.
    """
    try:
        day = date.fromisoformat(on)
    except ValueError as error:
        raise ValueError(f"--date {on!r} is not a date of the form YYYY-MM-DD") from error
    run = StoredRun(find_run(given, parent))
    said = added.Attested(requirement=requirement, who=who, on=day, text=text, link=link)
    added.attest(run, said, file)
    print(f"{requirement}: attested by {who} on {day}; no outcome was changed")
    print(report.write_all(run.folder)[0])


def add_official(given: str, parent: Path, files: Sequence[Path]) -> None:
    """Add outputs of official suites to a run and render its page again.

    Raises:
        ValueError: a file has not the name of an output of a suite, or has none of its results.
        StoreError: a file or the run cannot be read or written.
    """
    run = StoredRun(find_run(given, parent))
    for file in files:
        name = file.name.lower()
        if name not in ARTEFACTS and not name.endswith(_INFERENCE_SUITE):
            raise ValueError(
                f"{file} is neither named {' or '.join(ARTEFACTS)}, nor does it end in "
                f"{' or '.join(_INFERENCE_SUITE)} like output of the inference extension's suite"
            )
        add = _add_programmes if name in ARTEFACTS else _add_inference_suite
        try:
            add(run, file)
        except OSError as error:
            raise StoreError(f"{file} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    print(report.write_all(run.folder)[0])


def _add_programmes(run: StoredRun, file: Path) -> None:
    results = read_artefact(file)
    found = added.add_official(run, file, results)
    for one in found:
        print(f"{one.test} ({one.requirement}): {one.outcome}")
    others = len(results) - sum(name.partition("/")[0] in added.TESTS for name in results)
    print(f"{file}: {len(found)} tests touch a cluster; {others} others test the suite itself")


def _add_inference_suite(run: StoredRun, file: Path) -> None:
    results = inference_suite.read(file.name, file.read_text("utf-8", errors="replace"))
    found = added.add_inference_suite(run, file, results)
    print(f"{inference_suite.REQUIREMENT}, by the {results.suite}:")
    for one in found:
        print(f"  {one.test}: {one.outcome}{f'. {one.note}' if one.note else ''}")
