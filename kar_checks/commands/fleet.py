"""``kar fleet``: many clusters, each by a `kar run` of its own, and all of them on a page."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from kar_checks import words
from kar_checks.exits import MEANING, Exit
from kar_checks.history import fleet as fleets
from kar_checks.history.fleet import LOG, REPORTED, Attempt, Fleet, FleetError, Member, Overview
from kar_checks.report import fleet_page
from kar_checks.store import StoreError, now

GRACE_SECONDS = 600.0
"""For a run that was told to end: what it measured is stored and its objects are removed."""


def run(file: Path, output: Path, only: Sequence[str], resume_hours: float) -> int:
    """Assess the clusters of a file, write the overview, and return the exit code.

    ``only`` names the clusters to assess; none means all. Those that reported within
    ``resume_hours``, asked the same, are left out; 0 leaves out none.

    Raises:
        FleetError: the file cannot be used.
        StoreError: the results cannot be written.
    """
    fleet = fleets.read(file)
    known = {one.name for one in fleet.clusters}
    if strange := [one for one in only if one not in known]:
        raise FleetError(f"{file} names no cluster {strange[0]!r}")
    chosen = [one for one in fleet.clusters if not only or one.name in only]
    recent = [
        one.name
        for one in chosen
        if _is_recent(words_of(fleet, one), output / one.name, resume_hours)
    ]
    for name in recent:
        print(f"{name}: left out, it reported within the last {resume_hours:g} h")
    workers = _Workers(fleet, output)
    with _signals(workers):
        troubles = workers.work([one for one in chosen if one.name not in recent])
    with contextlib.suppress(OSError):
        output.mkdir(parents=True, exist_ok=True)
    found = fleets.survey(
        [output],
        now(),
        fleet=fleet,
        stale_after_hours=fleet.stale_after_hours,
        troubles=troubles,
    )
    _tell(found, fleet_page.write_all(found, output))
    if workers.stopped:
        return int(Exit.INTERRUPTED)
    return int(exit_code(found, {one.name for one in chosen}))


def report(
    folders: Sequence[Path], file: Path | None, into: Path, stale_after_hours: float | None
) -> int:
    """Write the overview of results that lie there already, and return the exit code.

    Raises:
        FleetError: the file cannot be used.
        StoreError: a folder is not there, or has no results.
    """
    fleet = fleets.read(file) if file else None
    hours = stale_after_hours or (fleet.stale_after_hours if fleet else fleets.STALE_HOURS)
    found = fleets.survey(folders, now(), fleet=fleet, stale_after_hours=hours)
    if not found.rows:
        raise StoreError(
            f"there is no run in {', '.join(map(str, folders))}: results are in FOLDER/CLUSTER/RUN"
        )
    _tell(found, fleet_page.write_all(found, into))
    return int(exit_code(found, {one.name for one in found.rows}))


def exit_code(found: Overview, chosen: set[str]) -> Exit:
    """Return what the chosen clusters come to: 10, then 1, then 11, then 0."""
    states = {one.state for one in found.rows if one.name in chosen}
    if states & {"not reported", "stale", "harness"}:
        return Exit.HARNESS
    if "failed" in states:
        return Exit.FAILED
    return Exit.UNDECIDED if "undecided" in states else Exit.OK


def words_of(fleet: Fleet, member: Member) -> list[str]:
    """Return the words of a cluster's `kar run`, but for the place of its results."""
    kubeconfig = member.kubeconfig or fleet.kubeconfig
    context = member.context or ("" if member.kubeconfig else member.name)
    given = {"kubeconfig": kubeconfig, "context": context, "cluster-name": member.name}
    options = [f"--{name}={value}" for name, value in given.items() if value]
    return ["run", *fleet.arguments, *member.arguments, *options]


def _is_recent(asked: Sequence[str], folder: Path, hours: float) -> bool:
    last = fleets.last_attempt(folder)
    if last is None or last.exit_code not in REPORTED or last.arguments != list(asked):
        return False
    return timedelta(0) <= now() - last.started <= timedelta(hours=hours)


class _Workers:
    """Runs one process a cluster, a bounded number at a time; no trouble of one ends another."""

    def __init__(self, fleet: Fleet, output: Path) -> None:
        self.fleet = fleet
        self.output = output
        self.stopped = False
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def work(self, members: Sequence[Member]) -> dict[str, str]:
        """Assess each; returns by name why one could not even be started or noted."""
        with ThreadPoolExecutor(self.fleet.parallel) as pool:
            said = list(pool.map(self._guarded, members))
        return {one.name: told for one, told in zip(members, said, strict=True) if told}

    def stop(self) -> None:
        """Start no more, and tell the runs at work to end; a second time ends their cleanup."""
        with self._lock:
            self.stopped = True
            for process in self._alive:
                process.terminate()

    def _guarded(self, member: Member) -> str:
        try:
            self._assess(member)
        except (OSError, StoreError) as error:
            print(f"{member.name}: {error}", flush=True)
            return str(error)
        return ""

    def _assess(self, member: Member) -> None:
        if self.stopped:
            return
        folder = self.output / member.name
        folder.mkdir(parents=True, exist_ok=True)
        asked = words_of(self.fleet, member)
        attempt = Attempt(started=now(), arguments=asked)
        attempt.write(folder)
        with (folder / LOG).open("wb") as log:
            code, told = self._run([*asked, f"--output={folder}"], log.fileno())
        told = told or fleets.said((folder / LOG).read_text("utf-8", errors="replace"))
        ended = now()
        attempt.model_copy(update={"ended": ended, "exit_code": code, "told": told}).write(folder)
        seconds = words.seconds((ended - attempt.started).total_seconds())
        print(f"{member.name}: exit {code} ({_meaning(code)}) after {seconds}", flush=True)

    def _run(self, asked: Sequence[str], log: int) -> tuple[int, str]:
        """Return a `kar run`'s exit code, and what was done to it."""
        # A session of its own: an interrupt at the terminal reaches it through stop() alone, and
        # nothing that it starts, such as a credential plugin, can ask a person.
        with self._lock:
            if self.stopped:
                return Exit.INTERRUPTED, "it was not started: interrupted"
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "kar_checks.cli", *asked],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._alive.add(process)
        told = ""
        try:
            try:
                process.wait(self.fleet.deadline_minutes * 60)
            except subprocess.TimeoutExpired:
                told = f"it was stopped after {self.fleet.deadline_minutes:g} minutes"
                process.terminate()
                try:
                    process.wait(GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    told += ", and killed, because it did not end"
                    os.killpg(process.pid, signal.SIGKILL)
            return process.wait(), told
        finally:
            with self._lock:
                self._alive.discard(process)


@contextlib.contextmanager
def _signals(workers: _Workers) -> Iterator[None]:
    """Let an interrupt end the runs kindly, as one of `kar run` does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Not from the handler itself: it may have stopped the thread that holds the lock.
        threading.Thread(target=workers.stop, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _meaning(code: int) -> str:
    known = {int(one): told for one, told in MEANING.items()}
    return known.get(code, f"killed by signal {-code}" if code < 0 else "an unknown code")


def _tell(found: Overview, written: Sequence[Path]) -> None:
    console = Console(highlight=False)
    parts = [f"{number} {fleet_page.WORDS[state]}" for state, number in found.states.items()]
    console.print(f"{words.count(len(found.rows), 'cluster')}: {', '.join(parts)}")
    for one in found.rows:
        if one.state != "met":
            told = f"{one.name}: {fleet_page.WORDS[one.state]}: {one.told}"
            console.print(Text(words.safe(told, 500)), soft_wrap=True)
    for path in written:
        console.print(Text(str(path)), soft_wrap=True)
