"""What is added to a stored run afterwards: manual evidence, and the official suite's results.

Both lie in the run's evidence folder, so that they are hashed and signed with it. Neither changes
an outcome: they stand beside what was measured, and say what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from kar_checks import inference_suite
from kar_checks.inference_suite import SuiteResults
from kar_checks.model import Record
from kar_checks.store import StoredRun, StoreError, now, write_atomically

ATTESTED = "evidence/attested"
OFFICIAL = "evidence/official"
_INDEX = "added.json"
_LARGEST = 20 << 20

TESTS = {
    "TestSecureAcceleratorAccess": "secure_accelerator_access",
    "TestGangScheduling": "gang_scheduling",
    "TestAcceleratorClusterAutoscaling": "cluster_autoscaling",
    "TestAcceleratorDriverRuntimeManagement": "driver_runtime_management",
    "TestWorkloadSandboxing": "workload_sandboxing",
    "TestRobustCRDControllerOperation": "robust_controller",
    "TestAcceleratorPerformanceMetrics": "accelerator_metrics",
    "TestAIServiceMetrics": "ai_service_metrics",
    "TestAcceleratorHorizontalPodAutoscaling": "pod_autoscaling",
}
"""The official suite's tests that touch a cluster; all others are tests of its own harness."""


class Attested(Record):
    """What a person says about a requirement."""

    requirement: str
    who: str
    on: date
    """When the person saw it, not when it was added."""
    text: str = ""
    link: str = ""
    file: str = ""
    """A file that was added with it, as a path inside the run folder."""


class Official(Record):
    """A test of an official suite, as its own output tells it."""

    test: str
    requirement: str
    outcome: Literal["pass", "fail", "skip", "inconclusive"]
    suite: str = ""
    """Name and version of the upstream suite; empty for the programme's own."""
    note: str = ""
    """Why it failed or decided nothing, where that is known."""
    source: str
    """The output that tells it, as a path inside the run folder."""
    added: str
    """When it was added, ISO 8601."""


_R = TypeVar("_R", bound=Record)
_ATTESTED = TypeAdapter(list[Attested])
_OFFICIAL = TypeAdapter(list[Official])


def attested(folder: Path) -> list[Attested]:
    """Return what persons added to a run.

    Raises:
        StoreError: the file was changed.
    """
    return _read(folder / ATTESTED / _INDEX, _ATTESTED)


def official(folder: Path) -> list[Official]:
    """Return the results of the official suite that were added to a run.

    Raises:
        StoreError: the file was changed.
    """
    return _read(folder / OFFICIAL / _INDEX, _OFFICIAL)


def attest(run: StoredRun, said: Attested, file: Path | None) -> Attested:
    """Add manual evidence to a requirement, with a copy of a file where there is one.

    Raises:
        ValueError: there is no such requirement, or nothing is said.
        StoreError: the file cannot be read, or the folder not be written.
    """
    known = [one.id for one in run.requirements]
    if said.requirement not in known:
        raise ValueError(
            f"{said.requirement!r} is not a requirement of checklist {run.info.kubernetes_minor}: "
            f"{', '.join(known)}"
        )
    if not said.who.strip():
        raise ValueError("manual evidence needs the name of whoever saw it: --who")
    if said.on > now().date():
        raise ValueError(f"--date {said.on} is in the future")
    if said.link and not re.match(r"https?://\S+$", said.link):
        raise ValueError(f"--link {said.link!r} is not an http address")
    if not (said.text.strip() or said.link or file):
        raise ValueError("give what was seen: --text, --link or --file")
    before = attested(run.folder)
    if file:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", file.name).lstrip(".") or "file"
        place = f"{ATTESTED}/{said.requirement}-{len(before) + 1}-{name}"
        said = said.model_copy(update={"file": place})
        _copy(file, run.folder / place)
    try:
        _write(run.folder / ATTESTED / _INDEX, [*before, said])
    except StoreError:
        if file:
            (run.folder / said.file).unlink(missing_ok=True)
        raise
    return said


def add_official(run: StoredRun, file: Path, results: dict[str, str]) -> list[Official]:
    """Add the results of one output of the official suite; a file of the same name is replaced.

    Raises:
        ValueError: none of its tests that touch a cluster is among the results.
        StoreError: the file cannot be read, or the folder not be written.
    """
    found = [
        Official(
            test=test,
            requirement=requirement,
            outcome=outcome,
            source=_place(file),
            added=now().isoformat(timespec="seconds"),
        )
        for test, requirement in TESTS.items()
        if (outcome := _outcome(results, test)) is not None
    ]
    if not found:
        raise ValueError("it contains no test result of the official suite")
    _replace(run, file, found)
    return found


def add_inference_suite(run: StoredRun, file: Path, results: SuiteResults) -> list[Official]:
    """Add what the inference extension's suite said; a file of the same name is replaced.

    Raises:
        ValueError: the run's checklist has no requirement that the suite is about.
        StoreError: the file cannot be read, or the folder not be written.
    """
    if inference_suite.REQUIREMENT not in [one.id for one in run.requirements]:
        raise ValueError(
            f"checklist {run.info.kubernetes_minor} has no {inference_suite.REQUIREMENT}, which "
            f"the {inference_suite.NAME} is about"
        )
    found = [
        Official(
            test=one.name,
            requirement=inference_suite.REQUIREMENT,
            outcome=one.outcome,
            suite=results.suite,
            note=one.note,
            source=_place(file),
            added=now().isoformat(timespec="seconds"),
        )
        for one in results.tests
    ]
    _replace(run, file, found)
    return found


def _place(file: Path) -> str:
    return f"{OFFICIAL}/{file.name.lower()}"


def _replace(run: StoredRun, file: Path, found: list[Official]) -> None:
    """Put a file and its results in the place of earlier ones; on a full disk those stay."""
    kept = [one for one in official(run.folder) if one.source != _place(file)]
    target = run.folder / _place(file)
    before = target.read_bytes() if target.exists() else None
    _copy(file, target)
    try:
        _write(run.folder / OFFICIAL / _INDEX, [*kept, *found])
    except StoreError:
        if before is None:
            target.unlink(missing_ok=True)
        else:
            write_atomically(target, before)
        raise


def _outcome(results: dict[str, str], test: str) -> Literal["pass", "fail", "skip"] | None:
    """Return a test's result; subtests that say worse than their parent count, too."""
    told = {one for name, one in results.items() if name == test or name.startswith(f"{test}/")}
    if "fail" in told:
        return "fail"
    own = results.get(test)
    if own == "skip" or told == {"skip"}:
        return "skip"
    return "pass" if told else None


def _copy(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
        if len(content) > _LARGEST:
            raise StoreError(f"{source} is larger than {_LARGEST >> 20} MiB")
    except OSError as error:
        raise StoreError(f"{source} cannot be added ({error.strerror})") from error
    write_atomically(target, content)


def _write(path: Path, rows: Sequence[Record]) -> None:
    plain = [one.model_dump(mode="json") for one in rows]
    write_atomically(path, json.dumps(plain, indent=1) + "\n")


def _read(path: Path, form: TypeAdapter[list[_R]]) -> list[_R]:
    try:
        return form.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path} was changed: {str(error).splitlines()[0]}") from error
