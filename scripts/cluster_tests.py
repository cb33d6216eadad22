#!/usr/bin/env python3
"""Run the tests on the local cluster in two halves, each on a machine of its own, side by side.

A test on a cluster mostly waits: two clusters at once take little more than one, and half the time.
What they need is built before, since a machine of its own has no way to the network.
"""

from __future__ import annotations

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
    *("-m", "pytest", "-v", "--tb=short", "--durations=15"),
    *("-m", "not earlier_minor"),
)
SABOTAGES = "tests/cluster/test_sabotages.py"
HALVES = {
    "sabotages": (*PYTEST, SABOTAGES),
    "the rest": (*PYTEST, "tests/cluster", f"--ignore={SABOTAGES}"),
}
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


def follow(name: str, process: subprocess.Popen[str]) -> None:
    """Print what a half says, each line with its name and the time since the start."""
    begin = time.monotonic()
    for line in process.stdout or ():
        print(f"[{name} {time.monotonic() - begin:5.0f}s] {line}", end="", flush=True)


def main() -> int:
    """Build, run both halves to their end, and fail when one did."""
    needed = [addon.name for addon in ADDONS if addon.name not in UNTESTED]
    addons = [word for name in needed for word in ("--addon", name)]
    subprocess.run([sys.executable, "-m", "localcluster", "build", *addons], cwd=ROOT, check=True)
    debian_image(BASE, Progress())
    with enough_watchers():
        started = {
            name: subprocess.Popen(
                [ROOT / "scripts" / "apart", name.replace(" ", "-"), *words],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for name, words in HALVES.items()
        }
        readers = [threading.Thread(target=follow, args=one) for one in started.items()]
        for reader in readers:
            reader.start()
        try:
            codes = [process.wait() for process in started.values()]
        except KeyboardInterrupt:
            # The halves got it, too: they end their clusters first.
            codes = [process.wait() or 1 for process in started.values()]
        for reader in readers:
            reader.join()
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
