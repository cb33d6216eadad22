"""Run folders: complete without the cluster, written so that nothing measured is ever lost.

Layout of a run::

    run.json             the head: environment, plan, check metadata, costs, cleanup, exit code
    observations/T.json  what trial T stored
    findings.json        the verdicts, rewritten atomically after each of them
    requirements.json    the rows derived from them
    partial/T/…          finished parts of a trial that was killed before its end
    evidence/…           raw files, named by the observation that cites them
    scorecard.html, kar-junit.xml, summary.md   rendered; can be made again from the rest
    pytest.html          pytest's own report
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kar_checks import programme
from kar_checks.model import (
    SCHEMA,
    Finding,
    Observation,
    Outcome,
    Reason,
    Record,
    RequirementResult,
    RunInfo,
)
from kar_checks.outcome import requirement_result

_MOST_LEVELS = 60
DAMAGED = 10
"""Exit code of a run that lost an observation, as of any other error."""


class StoreError(Exception):
    """A run folder that cannot be read or written, in one sentence."""


def now() -> datetime:
    """Return the current time in UTC; every record uses it."""
    return datetime.now(UTC)


def new_run_id() -> str:
    """Return an id that sorts by time and is a valid Kubernetes label and name part."""
    return f"{now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write ``text`` so that ``path`` holds either the old or the new content.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            # Made by open, and not by mkstemp, so that the user's umask decides who may read it.
            with temporary.open("xb") as stream:
                stream.write(text.encode() if isinstance(text, str) else text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}); what was measured before is kept in "
            f"{path.parent}"
        ) from error


class Run:
    """A run folder that is being written."""

    def __init__(self, folder: Path, info: RunInfo) -> None:
        self.folder = folder
        self.info = info
        self.findings: list[Finding] = []
        self.save()

    @classmethod
    def create(cls, parent: Path, info: RunInfo) -> Run:
        """Make ``parent/ID``, with ``parent/latest`` pointing to it."""
        folder = parent / info.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the run folder {folder} cannot be made ({error.strerror}); "
                "give another place with --output"
            ) from error
        link = parent / "latest"
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
            link.symlink_to(info.id)
        return cls(folder, info)

    def update(self, **changes: Any) -> None:
        """Change fields of the head and write it."""
        self.info = self.info.model_copy(update=changes)
        self.save()

    def save(self) -> None:
        """Write the head."""
        write_atomically(self.folder / "run.json", self.info.model_dump_json(indent=1) + "\n")

    def add_observation(self, seen: Observation) -> None:
        """Store what a trial observed, before it is judged."""
        path = self.folder / "observations" / f"{seen.trial}.json"
        write_atomically(path, seen.model_dump_json(indent=1) + "\n")
        shutil.rmtree(self.folder / "partial" / seen.trial, ignore_errors=True)

    def keep_part(self, trial: str, name: str, part: Record) -> None:
        """Put a finished part of a running trial aside, in case that the run is killed."""
        text = part.model_dump_json(indent=1)
        write_atomically(self.folder / "partial" / trial / f"{name}.json", text + "\n")

    def add_findings(self, found: Iterable[Finding]) -> None:
        """Store verdicts; one of the same check and variant is replaced."""
        for finding in found:
            self.findings = [
                one
                for one in self.findings
                if (one.check, one.variant) != (finding.check, finding.variant)
            ]
            self.findings.append(finding)
        write_findings(self.folder, self.findings)
        write_requirements(self.folder, requirement_rows(self.info, self.findings))

    def evidence(self, name: str, text: str) -> str:
        """Store a raw file and return its path inside the run folder.

        ``name`` is ours, or made of the cluster's by :func:`folder_name`: it must stay inside the
        folder.
        """
        path = (self.folder / "evidence" / name).resolve()
        if not path.is_relative_to((self.folder / "evidence").resolve()):
            raise StoreError(f"evidence name {name!r} leaves the run folder")
        write_atomically(path, text)
        return str(path.relative_to(self.folder.resolve()))


def folder_name(variant: str) -> str:
    """Return what the folder of a variant's raw files is called; names are often the cluster's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", variant).strip(".") or "unnamed"


class StoredRun:
    """A run folder as it lies on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = _read_info(folder)
        stored = _read_findings(folder, ended=self.ended)
        self.damaged = _damaged(folder, self.info, stored)
        """By topic, why its verdicts rest on nothing: they are errors in ``findings``."""
        self.findings = _believed(self.info, stored, self.damaged)
        if self.damaged and self.info.exit_code is not None:
            self.info = self.info.model_copy(update={"exit_code": DAMAGED})
        try:
            self.requirements = requirement_rows(self.info, self.findings)
        except ValueError as error:
            raise StoreError(f"{folder}/run.json was changed: {error}") from error

    @property
    def ended(self) -> bool:
        """Whether the run went to its end."""
        return self.info.finished is not None and not self.info.interrupted

    @property
    def is_copy(self) -> bool:
        """Whether `kar judge` made it from another run, whose id it still has."""
        return self.info.judged_with is not None or self.folder.name.startswith(
            f"{self.info.id}-judged-"
        )

    def observation_text(self, trial: str) -> str | None:
        """Return the stored JSON of a trial's observation; ``None`` if there is none to rely on."""
        path = _observation(self.folder, trial)
        return path.read_text("utf-8") if path.exists() and trial not in self.damaged else None

    def files(self) -> list[tuple[str, str, int]]:
        """Return (path, SHA-256, bytes) of every raw file: observations and evidence.

        Links are no files of a run: what they point to may be anything of this machine.
        """
        found: list[tuple[str, str, int]] = []
        inside = self.folder.resolve()
        for room in ("observations", "partial", "evidence"):
            for path in sorted((self.folder / room).rglob("*")):
                linked = path.resolve() != inside / path.relative_to(self.folder)
                if path.is_file() and not linked:
                    content = path.read_bytes()
                    name = str(path.relative_to(self.folder))
                    found.append((name, hashlib.sha256(content).hexdigest(), len(content)))
        return found


def _observation(folder: Path, trial: str) -> Path:
    return folder / "observations" / f"{trial}.json"


def _damaged(folder: Path, info: RunInfo, findings: list[Finding]) -> dict[str, str]:
    """Return a sentence for each topic whose verdicts lack the observation that they rest on."""
    topic_of = {one.id: one.topic for one in info.checks}
    out: dict[str, str] = {}
    for finding in findings:
        topic = finding.trial or topic_of.get(finding.check, "")
        rests = bool(finding.trial) or finding.outcome in (Outcome.PASS, Outcome.FAIL)
        if topic and rests and topic not in out and (why := _unusable(_observation(folder, topic))):
            out[topic] = why
    return out


def _unusable(path: Path) -> str:
    """Return why a stored observation cannot be relied on; empty if it can."""
    try:
        raw: Any = parse_json(path.read_bytes())
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except ValueError as error:
        return f"{path} is truncated or was changed: {error}"
    if not isinstance(raw, dict) or {"trial", "evidence", "started"} - set(raw):  # pyright: ignore[reportUnknownArgumentType]
        return f"{path} is not an observation"
    return ""


def _believed(info: RunInfo, findings: list[Finding], damaged: dict[str, str]) -> list[Finding]:
    """Return the findings, with an error for each one that rests on nothing."""
    if not damaged:
        return findings
    topic_of = {one.id: one.topic for one in info.checks}
    kept = [one for one in findings if (one.trial or topic_of.get(one.check)) not in damaged]
    chosen = [one for one in info.selection if topic_of.get(one) in damaged]
    return [*kept, *(damage(check, damaged[topic_of[check]]) for check in chosen)]


def damage(check: str, why: str) -> Finding:
    """Return the verdict on a check whose stored observation cannot be used."""
    return Finding(
        check=check,
        outcome=Outcome.ERROR,
        reason=Reason.RECORD_DAMAGED.value,
        summary=why,
        help="restore the run folder from a copy, or measure again with kar run",
    )


def find_run(given: str, parent: Path) -> Path:
    """Return the folder of a run that is given by path, by id or as ``latest``.

    Raises:
        StoreError: there is none.
    """
    for candidate in (Path(given), parent / given):
        if (candidate / "run.json").is_file():
            return candidate.resolve()
    raise StoreError(f"there is no run {given!r}, neither as a folder nor in {parent}/")


def requirement_rows(info: RunInfo, findings: list[Finding]) -> list[RequirementResult]:
    """Return a row for every requirement of the run's checklist."""
    return [
        requirement_result(one, info.topics, info.checks, findings)
        for one in programme.requirements(info.kubernetes_minor)
    ]


def write_findings(folder: Path, findings: list[Finding]) -> None:
    """Write ``findings.json``."""
    rows = [one.model_dump(mode="json") for one in findings]
    write_atomically(folder / "findings.json", json.dumps(rows, indent=1) + "\n")


def write_requirements(folder: Path, rows: list[RequirementResult]) -> None:
    """Write ``requirements.json``."""
    plain = [one.model_dump(mode="json") for one in rows]
    write_atomically(folder / "requirements.json", json.dumps(plain, indent=1) + "\n")


def _read_info(folder: Path) -> RunInfo:
    raw = _json(folder / "run.json", None)
    if not isinstance(raw, dict):
        raise StoreError(f"{folder} is not a run folder: it has no run.json")
    version: Any = raw.get("schema_version")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if version != SCHEMA:
        raise StoreError(
            f"{folder} was written with schema version {version}, this suite reads {SCHEMA}"
        )
    try:
        return RunInfo.model_validate(raw)
    except ValidationError as error:
        raise _changed(folder / "run.json", error) from error


_FINDINGS = TypeAdapter(list[Finding])


def _read_findings(folder: Path, *, ended: bool) -> list[Finding]:
    path = folder / "findings.json"
    found = _json(path, None if ended else [])
    if found is None:
        raise StoreError(f"{path} is missing, although the run finished")
    try:
        return _FINDINGS.validate_python(found)
    except ValidationError as error:
        raise _changed(path, error) from error


def _changed(path: Path, error: ValidationError) -> StoreError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return StoreError(f"{path} was changed: {place or 'the whole'}: {first['msg']}")


def _json(path: Path, missing: Any) -> Any:
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        return missing
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def parse_json(text: bytes | str) -> Any:
    """Return what JSON says; nothing that we write is nested as deeply as is refused here.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        found: Any = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level: list[Any] = [found]
    for _ in range(_MOST_LEVELS):
        level = [
            below
            for one in level
            if isinstance(one, dict | list)
            for below in (one.values() if isinstance(one, dict) else one)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        ]
        if not level:
            return found
    raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
