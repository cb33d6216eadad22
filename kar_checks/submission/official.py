"""The official suite's results in a submission: its files, what they decide, how to get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kar_checks.added import TESTS, Official, official
from kar_checks.model import RequirementOutcome, RequirementResult
from kar_checks.store import StoredRun, write_atomically
from kar_checks.submission.fill import Entry
from kar_checks.submission.redaction import Redact
from kar_checks.submission.rules import ARTEFACTS, read_artefact

_TEST_OF = {requirement: test for test, requirement in TESTS.items()}
#: What each test of the suite needs to be told, from its README; without it the test is skipped.
_FLAGS = {
    "secure_accelerator_access": "-allocation-mode auto",
    "gang_scheduling": "-gang-job-labels kueue.x-k8s.io/queue-name=QUEUE",
    "cluster_autoscaling": "-autoscaler-node-pool-label KEY=VALUE -timeout 75m",
    "driver_runtime_management": "-driver-runtime-image ubuntu:22.04",
    "workload_sandboxing": "-sandbox-runtime-class CLASS",
    "robust_controller": "-operator kubeflow-trainer",
    "accelerator_metrics": "-metrics-namespace NAMESPACE -metrics-service-name SERVICE",
    "ai_service_metrics": "-service-metrics-prometheus-service NAMESPACE/NAME:PORT",
    "pod_autoscaling": "-hpa-custom-metric-name METRIC",
}


@dataclass(frozen=True)
class Results:
    """The newest results of the official suite by requirement, and why a file was left out."""

    by_requirement: dict[str, Official]
    refused: list[str]
    copied: dict[str, str]
    """Where an artefact of a run is in the product's folder, by its path inside the run."""


def command(requirement: str) -> str:
    """Return the command that runs the official test of a requirement; empty if it has none."""
    test = _TEST_OF.get(requirement)
    if test is None:
        return ""
    flags = _FLAGS[requirement]
    return f"go test ./test/... -v -run '^{test}$' -args -kubeconfig KUBECONFIG {flags}"


def collect(runs: Sequence[StoredRun], target: Path, redact: Redact) -> Results:
    """Copy the artefacts of the newest run that has them, and return what they decide.

    An artefact with a failing test stays out: it would refuse the whole submission. So does one
    that would replace a file of another content, which somebody put there.
    """
    found: dict[str, Official] = {}
    refused: list[str] = []
    copied: dict[str, str] = {}
    taken: set[str] = set()
    for run in runs:
        for one in official(run.folder):
            if one.suite:
                continue  # the inference extension's suite has no place in the programme's map
            name = Path(one.source).name
            found.setdefault(one.requirement, one)
            if name in taken or name not in ARTEFACTS:
                continue
            taken.add(name)
            why = _copy(run.folder / one.source, target / name, redact)
            if why:
                refused.append(f"{name} of run {run.info.id} is not copied: {why}")
            else:
                copied[one.source] = name
    return Results(found, refused, copied)


def _copy(source: Path, target: Path, redact: Redact) -> str:
    """Copy an artefact under its exact name; returns why not."""
    try:
        results = read_artefact(source)
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    failed = sorted(test for test, outcome in results.items() if outcome == "fail")
    if failed:
        return f"{failed[0]} failed in it, which would refuse the whole submission"
    if not results:
        return "it holds no test result"
    content = source.read_bytes()
    if redact is not str:
        content = redact(content.decode("utf-8", errors="replace")).encode()
    if target.exists() and target.read_bytes() != content:
        return f"{target} exists with another content; remove it first"
    write_atomically(target, content)
    return ""


def decided(entry: Entry, row: RequirementResult, results: Results) -> Entry:
    """Return what is written once the official suite has its say beside this one.

    A passed test makes Implemented unless this suite saw a failure. A skipped test, a failed one,
    or a contradiction leaves the requirement to the user, with both results cited.
    """
    known = results.by_requirement.get(row.id)
    if known is None:
        return entry
    place = results.copied.get(known.source)
    cited = (f"{place}#{known.test}",) if place else ()
    both = (
        f"{known.test} of the official suite: {known.outcome}. This suite: {row.outcome.value}. "
        f"{row.reason}"
    )
    ours_failed = row.outcome is RequirementOutcome.FAIL
    if known.outcome == "pass" and not ours_failed and place:
        ours = f" {entry.notes}" if entry.status == "Implemented" else ""
        return replace(
            entry,
            status="Implemented",
            notes=f"{known.test} of the official suite passed.{ours}",
            evidence=(*cited, *entry.evidence),
            why=f"{known.test} passed",
        )
    if known.outcome == "fail" and ours_failed:
        return replace(entry, notes=f"{entry.notes} {both}".strip())
    what = "was skipped" if known.outcome == "skip" else "and this suite disagree"
    if known.outcome == "pass" and not ours_failed:
        what = "passed, but its output was not copied"
    return Entry(
        row.id,
        notes=both,
        evidence=(*cited, *entry.evidence),
        why=f"left to you: {known.test} {what}",
    )
