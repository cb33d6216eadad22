#!/usr/bin/env python3
"""Run the rows of the cluster tests in groups, each on a machine of its own, within a budget.

A row mostly waits: two clusters at once take little more than one, and half the time. What they
need is built before, since a machine of its own has no way to the network; that is not counted.

``KAR_TEST_MINUTES`` is the budget. Some rows run always (see :mod:`scripts.rows`); if these do not
fit, the tests fail. The others follow until it is spent, others first for each commit. The last
lines report what did not run, and the command that runs it. ``--all`` runs every row.

A few tests that failed run once more, alone: two clusters on a small machine can starve each other.
What passes only then is named, and kept in ``second_tries.yaml``; what fails twice fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from localcluster.addons import ADDONS
from localcluster.images import debian_image
from localcluster.paths import cache
from localcluster.progress import Progress
from scripts import second_tries
from scripts.rows import Group, Plan, Row, how_many_groups, plan
from scripts.runner_image import BASE

# What no test needs: it is for whoever runs the official suite.
UNTESTED = ("inference-conformance",)
HERE = Path(__file__).parents[1]
ROOT = HERE
TESTS = "tests/cluster"
SECONDS = "tests/cluster/seconds.yaml"
LEDGER = "tests/cluster/second_tries.yaml"
PYTEST = (
    *(sys.executable, "-m", "pytest", "-p", "scripts.row_plugin"),
    *("-m", "not earlier_minor"),
)

BUDGET = "KAR_TEST_MINUTES"
DEFAULT_MINUTES = 21.0
"""The rows that always run take 14 of these in the fuller of two groups, on a quiet machine. Lint,
unit tests and pages take about seven more."""
SUMMARY = "KAR_TEST_SUMMARY"
"""Names a file that gets the numbers of a run, for ``.ci/run``."""

# A row, and the start of a cluster, of which no time was recorded.
UNKNOWN_SECONDS, UNKNOWN_START = 25.0, 40.0
# Asking a running cluster whether it is the right one is no start.
SHORTEST_START = 5.0
CLUSTER_BYTES = 6 * 2**30
# More failures than this are no accident of a busy machine.
WORTH_ANOTHER_TRY = 3
TESTS_FAILED = 1  # pytest's exit status
# Each kubelet, containerd and controller watches files; Debian allows 128 watchers in all.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 512


class RefusedError(Exception):
    """Nothing can be run, for a reason in one sentence."""


@dataclass(frozen=True)
class Done:
    """What became of a row."""

    id: str
    outcome: str
    """``passed``, ``failed``, ``skipped``, or ``not run`` for want of time."""
    why: str = ""
    seconds: float = 0.0
    start: float = 0.0
    """Seconds for which it waited for its cluster to start."""
    ended: float = 0.0


@contextmanager
def enough_watchers(clusters: int) -> Iterator[None]:
    """Allow the file watchers of some clusters for as long as the tests run."""
    before = int(INOTIFY.read_text())
    INOTIFY.write_text(str(max(before, INOTIFY_INSTANCES * clusters)))
    try:
        yield
    finally:
        INOTIFY.write_text(str(before))


# -- what there is -----------------------------------------------------------------------------


def collect() -> list[Row]:
    """Return every row there is, with the seconds that were recorded for it.

    Raises:
        RefusedError: pytest could not collect them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "rows.json"
        done = subprocess.run(
            [*PYTEST, "--collect-only", "--quiet", f"--rows-found={found}", TESTS],
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RefusedError(f"pytest cannot collect the tests:\n{done.stdout}{done.stderr}")
        described: list[dict[str, Any]] = json.loads(found.read_text("utf-8"))
    seconds = recorded()["rows"]
    return [
        Row(
            id=one["id"],
            seconds=seconds.get(one["id"], UNKNOWN_SECONDS),
            cluster=one["cluster"],
            guard=one["guard"],
            shows=frozenset(one["shows"]),
        )
        for one in described
    ]


def recorded() -> dict[str, dict[str, float]]:
    """Return the recorded seconds: of ``rows`` by their ids, and of ``starts`` by cluster."""
    path = ROOT / SECONDS
    told: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    return {"starts": told.get("starts") or {}, "rows": told.get("rows") or {}}


def starts(rows: Sequence[Row]) -> dict[str, float]:
    """Return the seconds that the start of each cluster of the rows takes."""
    told = recorded()["starts"]
    return {row.cluster: told.get(row.cluster, UNKNOWN_START) for row in rows}


def record(rows: Sequence[Row], done: Sequence[Done]) -> None:
    """Write the seconds of the rows that passed; what did not run keeps what it had."""
    before = recorded()
    known = {row.id: row.cluster for row in rows}
    passed = [one for one in done if one.outcome == "passed" and one.id in known]
    seconds = {name: value for name, value in before["rows"].items() if name in known}
    seconds |= {one.id: one.seconds for one in passed}
    began: dict[str, list[float]] = defaultdict(list)
    for one in passed:
        if one.start >= SHORTEST_START:
            began[known[one.id]].append(one.start)
    means = {name: round(fmean(measured), 1) for name, measured in began.items()}
    head = (
        "# Seconds that each row of the cluster tests takes, and the start of each cluster, as\n"
        "# `make sabotages ARGS=--record` measured them on two cores.\n"
    )
    told = {
        "starts": dict(sorted((before["starts"] | means).items())),
        "rows": dict(sorted(seconds.items())),
    }
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=1000)
    (ROOT / SECONDS).write_text(head + text, "utf-8")


def commit_number() -> int:
    """Return how many commits led here; on the main line each has the number after the last.

    A clone without history has no number: its commit's name stands in, so that the rows still
    differ from commit to commit.
    """
    if _git("rev-parse", "--is-shallow-repository") == "true":
        return int(_git("rev-parse", "HEAD") or "0", 16)
    return int(_git("rev-list", "--count", "--first-parent", "HEAD") or "0")


def commit() -> str:
    """Return the name of the commit, and whether the files are others."""
    name = _git("rev-parse", "HEAD") or "unknown"
    return f"{name} with local changes" if _git("status", "--porcelain", "-uno") else name


def _git(*words: str) -> str:
    """Return what git prints; nothing outside of a repository, or without git."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def budget() -> float:
    """Return the budget in seconds.

    Raises:
        RefusedError: it is not a number.
    """
    given = os.environ.get(BUDGET, "")
    try:
        return 60 * float(given or DEFAULT_MINUTES)
    except ValueError as error:
        raise RefusedError(f"{BUDGET} is a number of minutes, not {given!r}") from error


def groups_at_once() -> int:
    """Return how many clusters this machine carries."""
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            memory = int(line.split()[1]) * 1024
    return how_many_groups(len(os.sched_getaffinity(0)), memory, CLUSTER_BYTES)


def build() -> bool:
    """Build what the tests' clusters are made of; return whether anything had to be built."""
    before = _built()
    needed = [addon.name for addon in ADDONS if addon.name not in UNTESTED]
    addons = [word for name in needed for word in ("--addon", name)]
    subprocess.run([sys.executable, "-m", "localcluster", "build", *addons], cwd=ROOT, check=True)
    debian_image(BASE, Progress())
    return _built() != before


def _built() -> set[Path]:
    rooms = [cache() / "go", cache() / "images"]
    found = (path for room in rooms for pattern in ("*", "*/*") for path in room.glob(pattern))
    made = {path for path in found if path.suffix not in (".lock", ".log")}
    return {path for path in made if not path.name.startswith(".")}


# -- running -----------------------------------------------------------------------------------


class Running:
    """A group of rows on a machine of its own, from now on."""

    def __init__(self, name: str, group: Group, deadline: float | None, folder: Path) -> None:
        self._name = name
        self._done = folder / f"{name}.jsonl"
        rows = [[row.id, turn, row.seconds] for row, turn in group.rows]
        given = folder / f"{name}.json"
        given.write_text(json.dumps({"deadline": deadline, "rows": rows}), "utf-8")
        # Two checkouts may run their tests side by side.
        machine = f"rows-{os.getpid()}-{name}"
        self._process = subprocess.Popen(
            [
                *(ROOT / "scripts" / "apart", machine, *PYTEST, "-v", "--tb=short"),
                *(f"--rows-plan={given}", f"--rows-done={self._done}", TESTS),
            ],
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def wait(self) -> tuple[int, list[Done]]:
        """Return pytest's exit status and what became of the rows, when they are through."""
        try:
            status = self._process.wait()
        except KeyboardInterrupt:
            # The tests got it, too: they end their cluster first.
            status = self._process.wait() or 1
        self._reader.join()
        lines = self._done.read_text("utf-8").splitlines() if self._done.exists() else []
        return abs(status), [Done(**json.loads(line)) for line in lines]

    def _follow(self) -> None:
        """Print each line with its origin and age."""
        begin = time.monotonic()
        for line in self._process.stdout or ():
            print(f"[{self._name} {time.monotonic() - begin:5.0f}s] {line}", end="", flush=True)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "COLUMNS": "180", "PYTHONPATH": path}


def run(groups: Sequence[Group], deadline: float | None, name: str) -> tuple[int, list[Done]]:
    """Run groups side by side; return the worst exit status, and what became of their rows."""
    with tempfile.TemporaryDirectory(prefix="kar-rows-") as scratch:
        names = [name if len(groups) == 1 else f"{name}-{n}" for n in range(1, len(groups) + 1)]
        running = [
            Running(one, group, deadline, Path(scratch))
            for one, group in zip(names, groups, strict=True)
        ]
        ended = [one.wait() for one in running]
    done = [row for _, rows in ended for row in rows]
    there = {one.id for one in done}
    lost = [row.id for group in groups for row, _ in group.rows if row.id not in there]
    done += [Done(one, "failed", "it did not run: its group ended early") for one in lost]
    status = max(status for status, _ in ended)
    return (status or TESTS_FAILED if lost else status), done


@dataclass(frozen=True)
class Tried:
    """The failures of a run after their second try."""

    status: int
    failed: list[Done]
    passed: list[second_tries.SecondTry]
    """New entries of the ledger."""


def try_again(status: int, failed: list[Done], rows: Sequence[Row]) -> Tried:
    """Run a few tests that failed once more, alone, but for those that the ledger bars."""
    if status != TESTS_FAILED or not 0 < len(failed) <= WORTH_ANOTHER_TRY:
        return Tried(status, failed, [])
    entries = second_tries.read(ROOT / LEDGER)
    barred = [
        replace(one, why=f"{one.why} (no second try: {why})")
        for one in failed
        if (why := second_tries.barred(one.id, entries))
    ]
    names = {one.id for one in failed} - {one.id for one in barred}
    again = [row for row in rows if row.id in names]
    if not again:
        return Tried(status, barred, [])
    second, done = run(plan(again, groups=1, starts={}).groups, None, "once-more")
    fine = {one.id for one in done if one.outcome == "passed"}
    passed = [second_tries.entry(one.id, one.why) for one in failed if one.id in fine]
    stayed = [one for one in failed if one.id in names - fine]
    return Tried(second or (TESTS_FAILED if barred else 0), [*stayed, *barred], passed)


def keep(passed: Sequence[second_tries.SecondTry]) -> None:
    """Add second tries to the ledger, and print what is to be committed."""
    for one in passed:
        print(f"{one.test}: passed only at the second try, alone; first: {one.reason}")
    if not passed:
        return
    print(f"Find the cause, add it, and commit this in {LEDGER}:")
    print(textwrap.indent(second_tries.block(passed), "  "), end="")
    try:
        second_tries.append(ROOT / LEDGER, passed)
    except OSError as error:
        print(f"{LEDGER} cannot be written ({error.strerror}): add it by hand")


# -- telling -----------------------------------------------------------------------------------


def overrun(made: Plan, seconds: float) -> str:
    """Return why the rows that run always do not fit the budget; empty if they do."""
    if made.needed <= seconds:
        return ""
    count = sum(turn == "always" for group in made.groups for _, turn in group.rows)
    which = "row that always runs needs" if count == 1 else f"{count} rows that always run need"
    return (
        f"the {which} {made.needed / 60:.1f} minutes in "
        f"{_count(len(made.groups), 'group')} side by side, and {BUDGET} is {seconds / 60:g}: "
        f"make rows faster, or raise it. Nothing was run."
    )


def late(made: Plan, done: Sequence[Done], deadline: float, seconds: float) -> str:
    """Return that the rows which run always took longer than the budget; empty if not."""
    needed = {row.id for group in made.groups for row, turn in group.rows if turn == "always"}
    last = max((one.ended for one in done if one.id in needed), default=0.0)
    if last <= deadline:
        return ""
    return (
        f"the rows that always run took {(last - deadline + seconds) / 60:.1f} minutes, and "
        f"{BUDGET} is {seconds / 60:g}: make rows faster, or raise it"
    )


def not_run(left: Sequence[str]) -> str:
    """Return the rows that did not run, by test, and the command that runs them."""
    by_test: dict[str, list[str]] = defaultdict(list)
    for row in left:
        test, _, parameters = row.partition("[")
        path, _, name = test.partition("::")
        if parameters:
            by_test[test].append(parameters.removesuffix("]"))
        else:
            by_test[path].append(name)
    lines = [
        textwrap.fill(
            f"{test}: {', '.join(names)}",
            width=100,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for test, names in by_test.items()
    ]
    file = cache() / "rows-not-run"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in left), "utf-8")
    python = Path(sys.executable)
    shown = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    lines.append(f"This runs them: {shown} -m scripts.cluster_tests --rows {file}")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def summary(rows: int, left: int, tried: int, *, whole: bool, minutes: float) -> str:
    """Return the closing sentence of a run."""
    second = f"second tries: {tried or 'none'}"
    if whole:
        return f"commit {commit()}: {_count(rows, 'row')} in {minutes:.1f} minutes; {second}"
    ran = rows - left
    return (
        f"{ran} of {_count(rows, 'row')} ran ({ran / max(1, rows):.0%}) in {minutes:.1f} minutes; "
        f"{second}; did not run: {left or 'none'}"
    )


def main(words: Sequence[str] = ()) -> int:
    """Build, run the groups to their end, try a few failures again, and fail when one stays."""
    parser = argparse.ArgumentParser(prog="cluster_tests", description=__doc__)
    parser.add_argument("--all", action="store_true", help="run every row, whatever it takes")
    parser.add_argument("--rows", type=Path, help="run the rows of this file, an id a line")
    parser.add_argument(
        "--record", action="store_true", help=f"write the seconds of the rows to {SECONDS}"
    )
    try:
        return _main(parser.parse_args(words))
    except (RefusedError, second_tries.LedgerError) as error:
        print(f"cluster tests: {error}")
        return 1


def _main(chosen: argparse.Namespace) -> int:
    rows = collect()
    if chosen.rows:
        names = chosen.rows.read_text("utf-8").split("\n")
        rows = [row for row in rows if row.id in names]
    second_tries.read(ROOT / LEDGER)  # not only when it is needed, after all the rows
    seconds = None if chosen.all or chosen.rows else budget()
    made = plan(
        rows, groups=groups_at_once(), starts=starts(rows), budget=seconds, number=commit_number()
    )
    if seconds is not None and (why := overrun(made, seconds)):
        raise RefusedError(why)
    built = build()
    with enough_watchers(len(made.groups)):
        began = time.monotonic()
        deadline = None if seconds is None else began + seconds
        status, done = run(made.groups, deadline, "rows")
        minutes = (time.monotonic() - began) / 60
        tried = try_again(status, [one for one in done if one.outcome == "failed"], rows)
    if chosen.record:
        record(collect(), done)
    status = tried.status
    left = [one.id for one in done if one.outcome == "not run"]
    for one in done:
        if one.outcome == "skipped":
            print(f"{one.id}: skipped: {one.why}")
    keep(tried.passed)
    if left:
        print(not_run(left))
    print(summary(len(rows), len(left), len(tried.passed), whole=bool(chosen.all), minutes=minutes))
    # Why it fails comes last: often only the end of the output is kept.
    wrong = [f"{one.id}: failed: {one.why}" for one in tried.failed]
    if (
        seconds is not None
        and deadline is not None
        and (why := late(made, done, deadline, seconds))
    ):
        wrong.append(f"cluster tests: {why}")
        status = status or TESTS_FAILED
    for line in wrong:
        print(line)
    if path := os.environ.get(SUMMARY):
        told = {
            "built": built,
            "rows": len(rows),
            "ran": len(rows) - len(left),
            "second_tries": len(tried.passed),
            "wrong": wrong,
        }
        Path(path).write_text(json.dumps(told), "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
