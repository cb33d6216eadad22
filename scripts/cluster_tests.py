#!/usr/bin/env python3
"""Run the tests on the local cluster in two halves, each on a machine of its own, side by side.

A test on a cluster mostly waits: two clusters at once take little more than one, and half the time.
What they need is built before, since a machine of its own has no way to the network.

A few tests that failed run once more, alone: two clusters on a small machine can starve each other.
What passes only then is named in the last lines, with why it failed; what fails twice fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.addons import ADDONS
from localcluster.images import debian_image
from localcluster.progress import Progress
from scripts.runner_image import BASE

# What no test needs: it is for whoever runs the official suite.
UNTESTED = ("inference-conformance",)
ROOT = Path(__file__).parents[1]
PYTEST = (
    sys.executable,
    *("-m", "pytest", "-v", "--tb=short", "--durations=10"),
    *("-m", "not earlier_minor"),
)
SABOTAGES = "tests/cluster/test_sabotages.py"
HALVES = {
    "sabotages": (SABOTAGES,),
    "the rest": ("tests/cluster", f"--ignore={SABOTAGES}"),
}
# More failures than this are no accident of a busy machine.
WORTH_ANOTHER_TRY = 3
TESTS_FAILED = 1  # pytest's exit status
# Each kubelet, containerd and controller watches files; Debian allows 128 watchers in all.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024


@contextmanager
def enough_watchers() -> Iterator[None]:
    """Allow two clusters' file watchers for as long as the tests run."""
    before = int(INOTIFY.read_text())
    INOTIFY.write_text(str(max(before, INOTIFY_INSTANCES)))
    try:
        yield
    finally:
        INOTIFY.write_text(str(before))


class Group:
    """Tests that run on a machine of their own, from now on."""

    def __init__(self, name: str, words: tuple[str, ...]) -> None:
        self.failed: dict[str, str] = {}
        self._name = name
        self._process = subprocess.Popen(
            [ROOT / "scripts" / "apart", name.replace(" ", "-"), *PYTEST, *words],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "180"},  # else pytest cuts the reasons short
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def status(self) -> int:
        """Pytest's exit status, when the tests are through."""
        try:
            found = self._process.wait()
        except KeyboardInterrupt:
            # The tests got it, too: they end their cluster first.
            found = self._process.wait() or 1
        self._reader.join()
        return abs(found)

    def _follow(self) -> None:
        """Print each line with its origin and age; keep which test failed, and why."""
        begin = time.monotonic()
        for line in self._process.stdout or ():
            print(f"[{self._name} {time.monotonic() - begin:5.0f}s] {line}", end="", flush=True)
            word, _, told = line.rstrip().partition(" ")
            if word in ("FAILED", "ERROR") and told.startswith("tests/"):
                test, _, why = told.partition(" - ")
                self.failed.setdefault(test, why)


def build() -> None:
    """Build what the tests' clusters are made of."""
    needed = [addon.name for addon in ADDONS if addon.name not in UNTESTED]
    addons = [word for name in needed for word in ("--addon", name)]
    subprocess.run([sys.executable, "-m", "localcluster", "build", *addons], cwd=ROOT, check=True)
    debian_image(BASE, Progress())


def main() -> int:
    """Build, run both halves to their end, try a few failures again, and fail when one stays."""
    build()
    with enough_watchers():
        halves = [Group(name, words) for name, words in HALVES.items()]
        status = max([half.status() for half in halves])
        failed = {test: why for half in halves for test, why in half.failed.items()}
        stayed = failed
        if status == TESTS_FAILED and 0 < len(failed) <= WORTH_ANOTHER_TRY:
            second = Group("once more", tuple(failed))
            status = second.status()
            if status in (0, TESTS_FAILED):
                stayed = second.failed
    for test, why in failed.items():
        outcome = "failed" if test in stayed else "passed only at the second try, alone; first"
        print(f"{test}: {outcome}: {why}")
    return status


if __name__ == "__main__":
    sys.exit(main())
