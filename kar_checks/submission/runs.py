"""Several runs of one cluster as the source of one submission: a certification takes days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kar_checks.model import Finding, Outcome, RequirementOutcome, RequirementResult
from kar_checks.store import StoredRun, StoreError, requirement_rows

_DECIDED = (Outcome.PASS, Outcome.FAIL, Outcome.NOT_APPLICABLE)


class MixedRunsError(ValueError):
    """Runs that cannot stand in one submission together, in one sentence."""


@dataclass(frozen=True)
class Row:
    """What several runs say of a requirement, and which of them it rests on."""

    result: RequirementResult
    runs: tuple[StoredRun, ...]
    """The runs whose verdicts it rests on, the newest first."""
    findings: tuple[Finding, ...] = ()
    """Those verdicts."""
    distrusted: str = ""
    """Why nothing may be written from them; empty if something may."""


def in_order(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Return runs of one cluster, minor and suite version, the newest first.

    Raises:
        MixedRunsError: they differ in one of these.
    """
    ordered = sorted(runs, key=lambda one: one.info.started, reverse=True)
    newest = ordered[0]
    for run in ordered[1:]:
        for what, mine, its in (
            ("cluster", _cluster(newest), _cluster(run)),
            ("Kubernetes minor", newest.info.kubernetes_minor, run.info.kubernetes_minor),
            ("suite version", newest.info.suite_version, run.info.suite_version),
        ):
            if mine != its:
                raise MixedRunsError(
                    f"runs {newest.info.id} and {run.info.id} differ in the {what} ({mine} and "
                    f"{its}): a submission is about one; leave one of them out"
                )
    return ordered


def _cluster(run: StoredRun) -> str:
    return run.info.environment.cluster_uid or run.info.environment.cluster


def rows(ordered: Sequence[StoredRun], distrust: Mapping[str, str]) -> list[Row]:
    """Return a row for each requirement of the checklist of the runs.

    ``ordered`` is from :func:`in_order`; ``distrust`` says by run id why a run may not stand as
    evidence. Each check's verdict is that of the newest trusted run that decided it, so that a
    check that was run again alone is enough, and a newer failure always wins over an older pass.
    A failure in a newer run that is not trusted leaves the requirement open.
    """
    trusted = [one for one in ordered if not distrust[one.info.id]]
    if not trusted:
        newest = ordered[0]
        why = distrust[newest.info.id]
        return [Row(one, (newest,), distrusted=why) for one in newest.requirements]
    merged = _merged(trusted)
    found = [run_finding[1] for run_finding in merged]
    requirement_of = {one.id: one.requirement for one in trusted[0].info.checks}
    out: list[Row] = []
    for result in requirement_rows(trusted[0].info, found):
        mine = [(run, one) for run, one in merged if requirement_of.get(one.check) == result.id]
        used = [run for run in trusted if any(run is one for one, _ in mine)] or [trusted[0]]
        why = _contradicted(result, used[0], ordered, distrust)
        out.append(Row(result, tuple(used), tuple(one for _, one in mine), why))
    return out


def _contradicted(
    result: RequirementResult,
    used: StoredRun,
    ordered: Sequence[StoredRun],
    distrust: Mapping[str, str],
) -> str:
    """Say which newer run that is not trusted failed a requirement; empty if none did."""
    for run in ordered:
        if run is used:
            break
        why = distrust[run.info.id]
        failed = any(
            one.id == result.id and one.outcome is RequirementOutcome.FAIL
            for one in run.requirements
        )
        if why and failed:
            return f"the newer run {run.info.id} failed it, but {why}"
    return ""


def _merged(trusted: Sequence[StoredRun]) -> list[tuple[StoredRun, Finding]]:
    """Return the newest decided verdict of each check and variant, else the newest of any kind."""
    best: dict[tuple[str, str], tuple[StoredRun, Finding]] = {}
    for run in trusted:
        for finding in run.findings:
            key = finding.check, finding.variant
            known = best.get(key)
            if known is None or (known[1].outcome not in _DECIDED and finding.outcome in _DECIDED):
                best[key] = run, finding
    return list(best.values())


def of_same_cluster(given: Sequence[StoredRun], parent: Path) -> list[StoredRun]:
    """Return the given runs and every other one of their cluster and minor in the history.

    What a person attested, and what the official suite said, outlives the run it was added to.
    """
    known = {one.info.id: one for one in given}
    newest = given[0]
    for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
        if folder.is_symlink() or not (folder / "evidence").is_dir():
            continue
        if not (folder / "run.json").is_file():
            continue
        try:
            run = StoredRun(folder)
        except StoreError:
            continue  # a run that cannot be read is not one of those that were asked for
        same = _cluster(run) == _cluster(newest)
        if same and run.info.kubernetes_minor == newest.info.kubernetes_minor and not run.is_copy:
            known.setdefault(run.info.id, run)
    return sorted(known.values(), key=lambda one: one.info.started, reverse=True)
