"""``kar report`` and ``kar judge``: from a stored run, without a cluster."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from kar_checks import exits, report
from kar_checks import profile as profiles
from kar_checks.checks.registry import topics
from kar_checks.exits import Exit
from kar_checks.kit.topic import Topic
from kar_checks.model import Finding, Observation
from kar_checks.profile import Profile
from kar_checks.report import text
from kar_checks.statement import FILE as SIGNATURE
from kar_checks.store import (
    StoredRun,
    damage,
    find_run,
    requirement_rows,
    write_atomically,
    write_findings,
    write_requirements,
)


def render_again(given: str, parent: Path) -> int:
    """Render a run's files again, print where they are, and return 10 if the run is damaged."""
    folder = find_run(given, parent)
    for path in report.write_all(folder):
        print(path)
    run = StoredRun(folder)
    for why in run.damaged.values():
        print(f"The run is damaged: {why}. Its checks are errors.", file=sys.stderr)
    return int(Exit.HARNESS if run.damaged else Exit.OK)


def judge_again(given: str, parent: Path, profile_path: Path | None) -> int:
    """Judge a run's observations with another profile, into a folder beside it.

    Only thresholds change: what was measured keeps the settings that it was measured with.
    Findings that rest on no observation (errors, what did not run) are taken over as they are.
    """
    folder = find_run(given, parent)
    stored = StoredRun(folder)
    measured = profiles.stored(stored.info.profile)
    wanted = profiles.load(profile_path)
    profile = wanted.judging(measured)
    findings, damaged = judged(stored, profile)
    code = exits.of_run(
        stored.info.model_copy(
            # A killed run has no word of how it ended.
            update={"interrupted": stored.info.interrupted or "" if stored.ended else "unknown"}
        ),
        findings,
        damaged=damaged,
    )
    target = folder.with_name(f"{folder.name}-judged-{profile.name}")
    shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SIGNATURE))
    info = stored.info.model_copy(
        update={"judged_with": profile.model_dump(mode="json"), "exit_code": int(code)}
    )
    write_atomically(target / "run.json", info.model_dump_json(indent=1) + "\n")
    write_findings(target, findings)
    write_requirements(target, requirement_rows(info, findings))
    report.write_all(target)
    console = Console(highlight=False)
    text.summary(StoredRun(target), console)
    if kept := _kept(wanted, profile):
        told = f"Kept as measured: {', '.join(kept)}"
        console.print(told, markup=False, soft_wrap=True)
    return int(code)


def judged(stored: StoredRun, profile: Profile) -> tuple[list[Finding], bool]:
    """Return the verdicts of today's judges on a stored run, and whether it is damaged.

    A topic whose observation is lost, or is not one of this topic, gives errors.
    """
    findings = [one for one in stored.findings if not _judged(stored, one)]
    damaged = bool(stored.damaged)
    for topic in topics():
        raw = stored.observation_text(topic.id)
        if raw is None:
            continue
        seen = _observation(topic, raw)
        damaged = damaged or seen is None
        for check in topic.checks:
            mine = check.id in stored.info.selection
            if not mine or any(one.check == check.id for one in findings):
                continue
            if seen is None:
                why = f"{stored.folder}/observations/{topic.id}.json is not an observation of it"
                findings.append(damage(check.id, why))
            else:
                findings.extend(topic.judge_check(check.id, seen, profile))
    return findings, damaged


def _observation(topic: Topic, raw: str) -> Observation | None:
    try:
        return topic.parse_observation(raw)
    except ValidationError:
        return None


def _kept(wanted: Profile, used: Profile) -> list[str]:
    """Return what the profile asked for and the measurement had decided already."""
    return [
        f"{key} {used.settings[key].value} (the profile has {setting.value})"
        for key, setting in sorted(wanted.settings.items())
        if used.settings[key].value != setting.value
    ]


def _judged(stored: StoredRun, finding: Finding) -> bool:
    topic = next((one.topic for one in stored.info.checks if one.id == finding.check), "")
    if topic in stored.damaged:
        return False
    return bool(finding.trial) or (
        stored.observation_text(topic) is not None
        and not any(one.check == finding.check and not one.runs for one in stored.info.plan)
    )
