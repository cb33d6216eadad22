"""``kar report`` and ``kar judge``: from a stored run, without a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from kar_checks import profile as profiles
from kar_checks import report
from kar_checks.checks.registry import all_checks, topics
from kar_checks.exits import Exit, objective
from kar_checks.model import Finding, Outcome
from kar_checks.report import text
from kar_checks.store import (
    StoredRun,
    StoreError,
    find_run,
    requirement_rows,
    write_atomically,
    write_findings,
    write_requirements,
)


def render_again(given: str, parent: Path) -> None:
    """Render a run's files anew and print where they are."""
    folder = find_run(given, parent)
    for path in report.write_all(folder):
        print(path)


def judge_again(given: str, parent: Path, profile_path: Path | None) -> int:
    """Judge a run's observations by another profile, into a folder beside it.

    Findings that rest on no observation (errors, what did not run) are taken over as they are.
    """
    folder = find_run(given, parent)
    stored = StoredRun(folder)
    profile = profiles.load(profile_path)
    findings = [one for one in stored.findings if not _judged(stored, one)]
    for topic in topics():
        raw = stored.observation_text(topic.id)
        if raw is None:
            continue
        try:
            seen = topic.parse_observation(raw)
        except ValidationError as error:
            raise StoreError(
                f"{folder}/observations/{topic.id}.json is not what this version stores: "
                f"{error.errors()[0]['msg']}"
            ) from error
        chosen = [one.id for one in topic.checks if one.id in stored.info.selection]
        for check in chosen:
            if not any(one.check == check for one in findings):
                findings.extend(topic.judge_check(check, seen, profile))
    fail_on = [Outcome(one) for one in stored.info.objective]
    topic_of = {check.id: topic.id for topic, check in all_checks()}
    code = objective(findings, stored.info.topics, topic_of, stored.info.cleanup, fail_on)
    target = folder.with_name(f"{folder.name}-judged-{profile.name}")
    shutil.copytree(folder, target, dirs_exist_ok=True)
    info = stored.info.model_copy(
        update={"profile": profile.model_dump(mode="json"), "exit_code": int(code)}
    )
    write_atomically(target / "run.json", info.model_dump_json(indent=1) + "\n")
    write_findings(target, findings)
    write_requirements(target, requirement_rows(info, findings))
    report.write_all(target)
    text.summary(StoredRun(target), Console(highlight=False))
    return int(Exit(code))


def _judged(stored: StoredRun, finding: Finding) -> bool:
    topic = next((one.topic for one in stored.info.checks if one.id == finding.check), "")
    return bool(finding.trial) or (
        stored.observation_text(topic) is not None
        and not any(one.check == finding.check and not one.runs for one in stored.info.plan)
    )
