"""What a run may say in a checklist, and what only a person may.

``Implemented`` is written only for a requirement that passed with evidence that counts, in a run
that is complete, recent, of this Kubernetes minor and of the platform itself, and whose verdicts
follow from its stored observations. What a person wrote is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kar_checks import plain_yaml, programme
from kar_checks.checks.registry import topics
from kar_checks.model import Finding, Outcome, Record, RequirementOutcome, RequirementResult
from kar_checks.profile import Profile
from kar_checks.store import StoredRun
from kar_checks.submission.document import Checklist, ChecklistError, Edit, Item, plain
from kar_checks.submission.rules import METADATA, minor_of

#: Requirements whose own words make them conditional; the others cannot be N/A.
CONDITIONAL = (
    "cluster_autoscaling",
    "pod_autoscaling",
    "gpu_sharing",
    "virtualized_accelerator",
    "high_performance_networking",
)


BY = "attested by a person"
"""Why a status stands that no run decided."""


class AttestedItem(Record):
    """What a person says of one requirement."""

    status: str
    evidence: list[str] = []
    notes: str = ""


class Answers(Record):
    """What only a person knows: the product's metadata, and attested requirements."""

    metadata: dict[str, str] = {}
    items: dict[str, AttestedItem] = {}


@dataclass(frozen=True)
class Entry:
    """What is to be written for one requirement; an empty status leaves it to a person."""

    id: str
    status: str = ""
    notes: str = ""
    evidence: tuple[str, ...] = ()
    why: str = ""
    """Why nothing is written, or what to know about what is."""


@dataclass(frozen=True)
class Written:
    """The three fields of an item, as this suite wrote them."""

    status: str
    evidence: tuple[str, ...]
    notes: str
    attested: bool = field(default=False, compare=False)
    """Whether the status is a person's, who gave it in a file of answers or at the terminal."""

    def fields(self) -> tuple[tuple[str, str | tuple[str, ...]], ...]:
        """Return the fields by name."""
        return ("status", self.status), ("evidence", self.evidence), ("notes", self.notes)


@dataclass(frozen=True)
class Filled:
    """A filled checklist and what was done about each requirement."""

    text: str
    entries: list[Entry]
    written: dict[str, Written] = field(default_factory=dict[str, "Written"])
    """What this suite wrote, by requirement: as long as nobody edits it, it can be replaced."""


def read_answers(path: Path | None) -> Answers:
    """Read an answers file.

    Raises:
        ChecklistError: it cannot be read, or has fields that nobody knows.
    """
    if path is None:
        return Answers()
    known = {plain(one) for one in (*METADATA, "repoUrl")}
    try:
        raw: Any = plain_yaml.parse(path.read_text("utf-8"))
        answers = Answers.model_validate(raw or {})
    except OSError as error:
        raise ChecklistError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ChecklistError(f"{path}: {place}: {first['msg']}") from error
    except yaml.YAMLError as error:
        raise ChecklistError(f"{path} is not valid YAML") from error
    strange = [one for one in answers.metadata if plain(one) not in known]
    strange += [one for one in answers.items if one not in programme.all_ids()]
    if strange:
        raise ChecklistError(f"{path}: no checklist has {strange[0]!r}")
    return answers


def distrust(run: StoredRun, version: str, now: datetime, max_age: timedelta) -> str:
    """Say why nothing of this run may stand as evidence; empty if it may."""
    info = run.info
    if info.environment.local_cluster:
        return "the run assessed the embedded local cluster, which is nobody's platform"
    if info.kubernetes_minor != version:
        return f"the run is of Kubernetes {info.kubernetes_minor}, the checklist of {version}"
    if info.finished is None or info.interrupted:
        return "the run did not finish"
    if info.started > now or info.finished < info.started:
        return "the run's times cannot be right: it starts in the future or ends before it starts"
    if now - info.finished > max_age:
        return f"the run is older than {max_age.days} days"
    return _not_following(run)


def _not_following(run: StoredRun) -> str:
    """Judge the stored observations once more: verdicts that do not follow were edited."""
    for why in run.damaged.values():
        return why
    profile = Profile.model_validate(run.info.profile)
    for topic in topics():
        mine = [one for one in run.findings if one.trial == topic.id]
        text = run.observation_text(topic.id)
        if not mine:
            continue
        if text is None:
            return f"the observation of {topic.id} is missing from the run folder"
        try:
            seen = topic.parse_observation(text)
        except ValidationError:
            return f"the observation of {topic.id} is not what this version of the suite stores"
        known = {one.id for one in topic.checks}
        for check in sorted({one.check for one in mine}):
            if check not in known:
                return f"this version of the suite has no check {check} to judge it again by"
            stored = [_verdict(one) for one in mine if one.check == check]
            again = [_verdict(one) for one in topic.judge_check(check, seen, profile)]
            if sorted(stored) != sorted(again):
                return f"the verdict of {check} does not follow from what was observed"
    return ""


def _verdict(finding: Finding) -> tuple[str, str, str]:
    return finding.variant, finding.outcome.value, finding.reason


def decide(
    run: StoredRun,
    row: RequirementResult,
    distrusted: str,
    findings: Sequence[Finding] | None = None,
) -> Entry:
    """Return what may be said of a requirement; evidence paths come later.

    ``findings`` are the verdicts that the row rests on; by default those of the run.
    """
    if distrusted:
        return Entry(row.id, why=f"left to you: {distrusted}")
    at = run.info.finished or run.info.started
    measured = (
        f"Measured by kar-checks {run.info.suite_version} on {at:%Y-%m-%d}, run {run.info.id}."
    )
    match row.outcome:
        case RequirementOutcome.PASS if row.counts:
            return Entry(row.id, "Implemented", f"{row.reason} {measured}")
        case RequirementOutcome.PASS:
            level = row.evidence.value if row.evidence else "no"
            return Entry(row.id, why=f"left to you: it passed with {level} evidence only")
        case RequirementOutcome.FAIL:
            passed = any(
                one.outcome is Outcome.PASS
                for one in (run.findings if findings is None else findings)
                if _of(run, one) == row.id
            )
            status = "Partially Implemented" if passed else "Not Implemented"
            return Entry(row.id, status, f"{row.reason} {measured}")
        case RequirementOutcome.NOT_APPLICABLE if row.id in CONDITIONAL:
            return Entry(row.id, "N/A", f"{row.reason} {measured}")
        case RequirementOutcome.UNKNOWN:
            return Entry(row.id, why="needs manual evidence: no check here decides it")
        case _:
            return Entry(row.id, why=f"left to you: {row.outcome.value}. {row.reason}")


def _of(run: StoredRun, finding: Finding) -> str:
    return next((one.requirement for one in run.info.checks if one.id == finding.check), "")


def fill(
    document: Checklist,
    entries: Sequence[Entry],
    answers: Answers,
    attested: Mapping[str, Entry],
    beside: Mapping[str, Entry] | None = None,
    written: Mapping[str, Written] | None = None,
) -> Filled:
    """Return the checklist with every field filled that somebody can fill.

    ``attested`` are what persons said; they stand where the run says nothing. ``beside`` is
    evidence that persons added to the run: it joins whatever stands, and never makes a status.
    ``written`` is what this suite wrote earlier: where nobody edited it since, it is replaced.

    Raises:
        ChecklistError: what was written cannot be read back as it was meant.
    """
    edits: list[Edit] = []
    done: list[Entry] = []
    records: dict[str, Written] = {}
    for entry in entries:
        item = document.item(entry.id)
        if item is None:
            done.append(Entry(entry.id, why="not in this checklist"))
            continue
        used = entry if entry.status else attested.get(entry.id, entry)
        used = _joined(used, (beside or {}).get(entry.id))
        ours = (written or {}).get(entry.id)
        unedited = ours is not None and ours == _now(item)
        says_something = bool(used.status or used.evidence or used.notes)
        if unedited and ours is not None and ours.attested and not used.status:
            used = Entry(entry.id, why="kept as it was attested")
        elif unedited and not says_something:
            used = replace(used, why=f"kept as an earlier run decided; now {used.why}")
        elif unedited:
            wanted = Written(used.status, used.evidence, used.notes)
            edits += [
                document.replaced(item, name, value)
                for name, value in wanted.fields()
                if name in item.fields and value != getattr(ours, name)
            ]
        elif says_something and not item.text("status").strip():
            edits += [
                document.filled(item, name, value)
                for name, value in Written(used.status, used.evidence, used.notes).fields()
                if value and (name in item.fields and item.fields[name].empty)
            ]
        elif says_something:
            used = Entry(entry.id, why=f"kept as a person wrote it: {item.text('status')}")
        done.append(used)
    for name, value in answers.metadata.items():
        if _open(document, name):
            edits.append(document.with_metadata(name, value))
    text = document.edited(edits)
    again = _read_back(text, document)
    for one in done:
        item = again.item(one.id)
        if item is None:
            continue
        now = _now(item)
        if one.status and now.status != one.status:
            raise ChecklistError(f"{document.name}: the status of {one.id} did not arrive in it")
        ours = (written or {}).get(one.id)
        mine = Written(one.status, one.evidence, one.notes, attested=one.why.startswith(BY))
        if ours is not None and ours == now and not one.status:
            records[one.id] = ours
        elif now == mine and mine != _NOTHING:
            records[one.id] = mine
    return Filled(text, done, records)


_NOTHING = Written("", (), "")


def _now(item: Item) -> Written:
    """Return what an item holds."""
    field = item.fields.get("evidence")
    listed = field.value if field is not None and isinstance(field.value, list) else []
    return Written(item.text("status"), tuple(map(str, listed)), item.text("notes"))


def _read_back(text: str, document: Checklist) -> Checklist:
    """Read what will be written, and see that nothing else changed."""
    again = Checklist(text, f"{document.name}, as it was filled")
    if [one.id for one in again.items] != [one.id for one in document.items]:
        raise ChecklistError(f"{document.name}: its requirements changed while it was filled")
    return again


def _joined(entry: Entry, more: Entry | None) -> Entry:
    """Put manual evidence behind what stands; without a status that is all there is."""
    if more is None:
        return entry
    return Entry(
        entry.id,
        entry.status,
        " ".join(one for one in (entry.notes, more.notes) if one),
        (*entry.evidence, *more.evidence),
        "; ".join(one for one in (entry.why, more.why) if one),
    )


def missing_metadata(document: Checklist, answers: Answers) -> list[str]:
    """Return the metadata that the validator wants and that nobody has given."""
    given = {plain(name) for name in answers.metadata}
    wanted = [*METADATA, *(["repoUrl"] if document.metadata_field("repoUrl") else [])]
    return [one for one in wanted if _open(document, one) and plain(one) not in given]


def _open(document: Checklist, name: str) -> bool:
    known = document.metadata_field(name)
    return known is None or known.empty or known.placeholder


def attested_entries(answers: Answers) -> dict[str, Entry]:
    """Return what persons said, marked as such."""
    return {
        requirement: Entry(
            requirement,
            one.status,
            f"Attested by the submitter: {one.notes}".rstrip(": "),
            tuple(one.evidence),
            BY,
        )
        for requirement, one in answers.items.items()
    }


def version_of(document: Checklist) -> str:
    """Return the Kubernetes minor of a checklist, such as ``1.37``.

    Raises:
        ChecklistError: it names none, or one that has no checklist here.
    """
    known = document.metadata_field("kubernetesVersion")
    version = minor_of(str(known.value)) if known else ""
    if version not in programme.versions():
        raise ChecklistError(
            f"{document.name}: metadata `kubernetesVersion` is {version or 'missing'}; there are "
            f"checklists for {', '.join(programme.versions())}"
        )
    return version


def strange_items(document: Checklist, version: str) -> list[str]:
    """Return a sentence for each item that is not as the programme's checklist has it."""
    wanted = {one.id: one for one in programme.requirements(version)}
    out: list[str] = []
    for item in document.items:
        known = wanted.get(item.id)
        place = f"line {item.line}: {item.id}"
        if known is None:
            out.append(f"{place} is not in the checklist of this version; it was left as it is")
        elif item.text("level") != known.level:
            out.append(f"{place} is a {known.level} in the programme's checklist, not here")
        elif programme.digest(item.text("description")) != known.text:
            out.append(f"{place} is not described as in the programme's checklist; read both")
    return out
