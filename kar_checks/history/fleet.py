"""Many clusters: the file that names them, what became of each attempt, and all of them at once.

Layout of a results folder: ``NAME/RUN/…`` with the runs of each cluster; where `kar fleet run` made
it, also ``NAME/attempt.json`` and ``NAME/attempt.log`` of the last attempt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from kar_checks import plain_yaml, words
from kar_checks.model import Outcome, Record, RequirementOutcome
from kar_checks.store import StoredRun, StoreError, write_atomically

ATTEMPT, LOG = "attempt.json", "attempt.log"
REPORTED = (0, 1, 10, 11)
"""Exit codes of a `kar run` that went to its end."""
STALE_HOURS = 36.0
"""A night, and half a day for one that was late."""
_OURS = (
    "--output",
    "--kubeconfig",
    "--context",
    "--cluster-name",
    "--local-cluster",
    "--in-cluster",
)
_ADDRESS = re.compile(
    r"https?://[^\s,)]+|(?<=host=')[^']*|(?<=resolve ')[^']*|(?<=connection to )[^\s,)]+"
    r"|(?<=connections to )[^\s,)]+|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"
)
_CLOCKS_DIFFER = timedelta(minutes=5)

State = Literal["met", "failed", "undecided", "harness", "stale", "not reported"]
WORST_FIRST: tuple[State, ...] = (
    "not reported",
    "stale",
    "harness",
    "failed",
    "undecided",
    "met",
)


class FleetError(ValueError):
    """A fleet's file that cannot be used, in one sentence."""


def _not_ours(given: list[str]) -> list[str]:
    for one in given:
        if one.partition("=")[0] in _OURS:
            raise ValueError(f"{one.partition('=')[0]} is for the fleet to give")
    return given


class Member(Record):
    """A cluster of a fleet."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """Its name on the pages, and its folder's."""
    kubeconfig: str = ""
    context: str = ""
    """Default: the current one of its own kubeconfig, else the one that is called as it is."""
    arguments: list[str] = []
    """More words for its `kar run`, after those of all."""

    _check = field_validator("arguments")(_not_ours)


class Fleet(Record):
    """What a fleet's file says."""

    clusters: Annotated[list[Member], Field(min_length=1)]
    kubeconfig: str = ""
    """For clusters that name none; default: as `kar run` finds it."""
    arguments: list[str] = []
    """Words for every `kar run`: a selection and options."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    deadline_minutes: Annotated[float, Field(gt=0)] = 240
    """A `kar run` that takes longer is told to end."""
    stale_after_hours: Annotated[float, Field(gt=0)] = STALE_HOURS

    _check = field_validator("arguments")(_not_ours)

    @field_validator("clusters")
    @classmethod
    def _names_differ(cls, given: list[Member]) -> list[Member]:
        twice = [name for name, n in Counter(one.name for one in given).items() if n > 1]
        if twice:
            raise ValueError(f"two clusters are called {twice[0]}")
        return given


def read(path: Path) -> Fleet:
    """Read a fleet's file; paths in it are relative to its folder.

    Raises:
        FleetError: it cannot be read, or says what nobody understands.
    """
    try:
        raw: Any = plain_yaml.parse(path.read_text("utf-8"))
        found = Fleet.model_validate(raw)
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise FleetError(f"{path}: {place}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise FleetError(f"{path} is not valid YAML{where}") from error

    def placed(given: str) -> str:
        return str(path.resolve().parent / Path(given).expanduser()) if given else ""

    members = [
        one.model_copy(update={"kubeconfig": placed(one.kubeconfig)}) for one in found.clusters
    ]
    return found.model_copy(update={"clusters": members, "kubeconfig": placed(found.kubeconfig)})


class Attempt(Record):
    """The last time that a cluster was to be assessed by `kar fleet run`."""

    started: datetime
    arguments: list[str]
    ended: datetime | None = None
    """``None`` while it is at work, and for ever if all of us were killed."""
    exit_code: int | None = None
    """Of its `kar run`; below 0: minus the signal that killed it."""
    told: str = ""
    """What it said last about itself, or what was done to it."""

    def write(self, folder: Path) -> None:
        """Write it into a cluster's folder.

        Raises:
            StoreError: it cannot be written.
        """
        write_atomically(folder / ATTEMPT, self.model_dump_json(indent=1) + "\n")


def last_attempt(folder: Path) -> Attempt | None:
    """Return a cluster's last attempt, ``None`` if there is none that can be read."""
    try:
        return Attempt.model_validate_json((folder / ATTEMPT).read_bytes())
    except (OSError, ValidationError):
        return None


class Row(Record):
    """A cluster in the overview."""

    name: str
    state: State
    told: str
    """Why the state is as it is, in one sentence."""
    exit_code: int | None = None
    """Of the attempt that brought no run, else of the run."""
    run: str = ""
    """Id of the last run that went to its end; empty if there is none."""
    folder: str = ""
    finished: datetime | None = None
    hours: float | None = None
    """Since it ended."""
    cluster_uid: str = ""
    kubernetes: str = ""
    nodes: int | None = None
    suite: str = ""
    outcomes: dict[str, int] = {}
    """Checks by outcome; variants count one by one."""
    failed: list[str] = []
    errors: list[str] = []
    undecided: list[str] = []
    must: dict[str, int] = {}
    """Requirements of level MUST by outcome, those without a check here left out."""
    notes: list[str] = []


class Overview(Record):
    """All clusters of a fleet, the worst first."""

    made: datetime
    stale_after_hours: float
    rows: list[Row]
    notes: list[str] = []

    @property
    def states(self) -> dict[State, int]:
        """Return how many clusters are in each state, the worst first."""
        counted = Counter(one.state for one in self.rows)
        return {state: counted[state] for state in WORST_FIRST if counted[state]}


def survey(
    folders: Sequence[Path],
    moment: datetime,
    *,
    fleet: Fleet | None = None,
    stale_after_hours: float = STALE_HOURS,
    troubles: Mapping[str, str] | None = None,
) -> Overview:
    """Return what results folders say of each cluster.

    With a fleet exactly its clusters are told, whether they reported or not. ``troubles`` says by
    name why an attempt could not even be made.

    Raises:
        StoreError: a folder is not there.
    """
    for one in folders:
        if not one.is_dir():
            raise StoreError(f"there is no folder {one} with results")
    there: dict[str, list[Path]] = {}
    for parent in folders:
        for one in sorted(parent.iterdir()):
            if one.is_dir() and not one.is_symlink() and (_runs([one]) or (one / ATTEMPT).exists()):
                there.setdefault(one.name, []).append(one)
    names = [one.name for one in fleet.clusters] if fleet else list(there)
    made = [
        _row(
            name,
            there.get(name, []),
            moment,
            timedelta(hours=stale_after_hours),
            (troubles or {}).get(name, ""),
        )
        for name in names
    ]
    strange = [name for name in there if name not in names]
    return Overview(
        made=moment,
        stale_after_hours=stale_after_hours,
        rows=sorted(_with_twins(made), key=lambda one: (WORST_FIRST.index(one.state), one.name)),
        notes=[f"Left out, since the file does not name them: {', '.join(strange)}"]
        if strange
        else [],
    )


def _runs(folders: Sequence[Path]) -> list[Path]:
    """Return the run folders, the newest first; their names begin with the time."""
    found = [
        one
        for folder in folders
        for one in folder.iterdir()
        if not one.is_symlink() and (one / "run.json").is_file()
    ]
    return sorted(found, key=lambda one: one.name, reverse=True)


def _row(
    name: str, folders: Sequence[Path], moment: datetime, stale: timedelta, trouble: str
) -> Row:
    run, before, notes = _last(folders)
    attempts = [one for one in map(last_attempt, folders) if one]
    attempt = max(attempts, key=lambda one: one.started, default=None)
    if run and before and _uid(run) != _uid(before):
        notes.append(f"another cluster than in run {before.info.id}, by its UID")
    # Runs that others stored since then, such as a CronJob, tell more than it.
    if attempt and run and attempt.started <= run.info.started:
        attempt = None
    state, told = _state(run, attempt, moment, stale)
    if trouble:
        state, told = "not reported", trouble
    if run is None:
        code = attempt.exit_code if attempt else None
        return Row(name=name, state=state, told=told, exit_code=code, notes=notes)
    names: dict[Outcome, list[str]] = {}
    for one in run.findings:
        key = f"{one.check}[{one.variant}]" if one.variant else one.check
        names.setdefault(one.outcome, []).append(key)
    must = Counter(
        one.outcome.value
        for one in run.requirements
        if one.level == "MUST" and one.outcome is not RequirementOutcome.UNKNOWN
    )
    place, finished = run.info.environment, _finished(run)
    return Row(
        name=name,
        state=state,
        told=told,
        exit_code=attempt.exit_code if attempt else run.info.exit_code,
        run=run.info.id,
        folder=str(run.folder),
        finished=finished,
        hours=(moment - finished).total_seconds() / 3600,
        cluster_uid=place.cluster_uid,
        kubernetes=place.server_version,
        nodes=len(place.nodes) or None,
        suite=run.info.suite_version,
        outcomes={one.value: len(found) for one, found in names.items()},
        failed=names.get(Outcome.FAIL, []),
        errors=names.get(Outcome.ERROR, []),
        undecided=names.get(Outcome.INCONCLUSIVE, []),
        must=dict(must),
        notes=notes,
    )


def _last(folders: Sequence[Path]) -> tuple[StoredRun | None, StoredRun | None, list[str]]:
    """Return the last run that went to its end, the one before it, and what lies after it."""
    found: list[StoredRun] = []
    notes: list[str] = []
    for folder in _runs(folders):
        try:
            run = StoredRun(folder)
        except StoreError as error:
            if not found:
                notes.append(str(error))
            continue
        if run.is_copy:
            continue
        if run.damaged and not found:
            notes += [f"run {run.info.id} is damaged: {why}" for why in run.damaged.values()]
        if run.info.finished and not run.info.interrupted:
            found.append(run)
        elif not found:
            notes.append(f"run {run.info.id} did not finish")
        if len(found) == 2:
            break
    return found[0] if found else None, found[1] if len(found) > 1 else None, notes


def _finished(run: StoredRun) -> datetime:
    return run.info.finished or run.info.started


def _uid(run: StoredRun) -> str:
    return run.info.environment.cluster_uid


def _state(
    run: StoredRun | None, attempt: Attempt | None, moment: datetime, stale: timedelta
) -> tuple[State, str]:
    """Return a cluster's state and why; an attempt is one that no run has followed."""
    if attempt:
        if attempt.ended is None:
            return "not reported", (
                f"the run that was started at {attempt.started:%Y-%m-%d %H:%M} UTC has not ended, "
                "or was killed"
            )
        return "not reported", attempt.told or _code(attempt.exit_code)
    if run is None:
        return "not reported", "there is no finished run"
    finished = _finished(run)
    if finished > moment + _CLOCKS_DIFFER:
        return "stale", f"its last run is dated in the future: {finished:%Y-%m-%d %H:%M} UTC"
    if moment - finished > stale:
        hours = (moment - finished).total_seconds() / 3600
        return "stale", f"its last run ended {hours:.0f} hours ago"
    told = _code(run.info.exit_code)
    match run.info.exit_code:
        case 0:
            return "met", told
        case 1:
            return "failed", told
        case 11:
            return "undecided", told
        case _:
            return "harness", told


def _code(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was killed by signal {-code}"
    return words.exit_code(code)


def said(log: str) -> str:
    """Return the last sentence that a `kar` said about a trouble of its own; empty if none.

    Addresses stay in the log: as in a run folder, none of them comes to a page.
    """
    found = re.findall(r"^kar: (.+)$", log, re.MULTILINE)
    return _ADDRESS.sub("[address]", found[-1]) if found else ""


def _with_twins(rows: Sequence[Row]) -> list[Row]:
    """Note where two names are one cluster."""
    by_uid: dict[str, list[str]] = {}
    for one in rows:
        if one.cluster_uid:
            by_uid.setdefault(one.cluster_uid, []).append(one.name)
    out: list[Row] = []
    for one in rows:
        twins = [name for name in by_uid.get(one.cluster_uid, []) if name != one.name]
        more = [f"the same cluster as {', '.join(twins)}, by its UID"] if twins else []
        out.append(one.model_copy(update={"notes": [*one.notes, *more]}))
    return out
