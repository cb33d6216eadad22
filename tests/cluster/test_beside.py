"""Two clusters beside each other on one machine: what one does, the other must not feel."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localcluster.node import STANDARD_PATHS
from localcluster.paths import KUBECONFIG

pytestmark = pytest.mark.localcluster

ROOT = Path(__file__).parents[2]
# Short windows: whether gangs work at all is the question here.
GANG = ("gang", "--set", "gang.window_seconds=6", "--set", "gang.incomplete_seconds=4")
# Folders that the test may change: whatever else runs on this machine has its own.
OWN_FOLDERS = """
mount -n -t tmpfs own /mnt && cp -a /etc/. /mnt && mount -n --move /mnt /etc
for folder in /opt /var/log; do mount -n -t tmpfs own $folder || exit 1; done
mkdir -p "$@"
"""
# Runs the commands that it reads, one a line, and answers each with its exit code and output.
LISTENS = """
import json, subprocess, sys
for line in sys.stdin:
    words, stdin = json.loads(line)
    done = subprocess.run(
        words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(json.dumps([done.returncode, done.stdout]), flush=True)
"""
COUNTER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"namespace": "default"},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": "docker.io/kar-checks/net:local",
                "command": ["sh", "-c", "while n=$((n+1)); do echo line $n; sleep 0.2; done"],
            }
        ],
    },
}


class Side:
    """A machine of its own with a cluster of its own, by `scripts/apart`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.kubectl: list[str] = []

    def run(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """Run a command on this side to its end; returns its output."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([words, stdin]) + "\n")
        self._process.stdin.flush()
        found, output = json.loads(self._process.stdout.readline())
        assert found == code, f"{' '.join(words)}: exit code {found}\n{output}"
        return str(output)

    def python(self, *words: str) -> str:
        """Run Python with these words."""
        return self.run(sys.executable, *words)

    def up(self) -> None:
        """Start the cluster."""
        self.python("-m", "localcluster", "up")
        program = "from localcluster import LocalCluster; print(LocalCluster.load().kubectl[0])"
        self.kubectl = [self.python("-c", program).strip(), f"--kubeconfig={KUBECONFIG}"]

    def count(self, name: str) -> None:
        """Start a pod on each node that prints numbered lines."""
        for node in ("kar1", "kar2", "kar3"):
            pod = json.loads(json.dumps(COUNTER))
            pod["metadata"]["name"] = f"{name}-{node}"
            pod["spec"]["nodeName"] = node
            self.run(*self.kubectl, "create", "-f", "-", stdin=json.dumps(pod))
        for node in ("kar1", "kar2", "kar3"):
            wait = ("wait", "--for=condition=Ready", f"pod/{name}-{node}", "--timeout=60s")
            self.run(*self.kubectl, *wait)

    def lines(self, name: str) -> list[list[int]]:
        """Read the numbers that each of these pods has printed so far."""
        found: list[list[int]] = []
        for node in ("kar1", "kar2", "kar3"):
            log = self.run(*self.kubectl, "logs", f"{name}-{node}")
            found.append([int(line.split()[1]) for line in log.splitlines()])
        return found


@contextmanager
def side(name: str) -> Iterator[Side]:
    """Start a side; everything of it ends with the block."""
    with subprocess.Popen(
        [ROOT / "scripts" / "apart", name, sys.executable, "-c", LISTENS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Side(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 0


def assert_undisturbed(one: Side, name: str) -> None:
    """Assert that pods which were running still do, and that their logs are whole and grow."""
    before = one.lines(name)
    time.sleep(1)
    after = one.lines(name)
    for then, now in zip(before, after, strict=True):
        assert now == list(range(1, len(now) + 1))
        assert len(now) > len(then) > 0


def test_one_cluster_does_not_feel_the_start_and_end_of_another() -> None:
    with side("first") as first, side("second") as second:
        first.up()
        first.count("early")
        second.up()
        assert_undisturbed(first, "early")
        second.count("early")
        first.python("-m", "localcluster", "down")
        assert_undisturbed(second, "early")
        second.count("late")
        assert_undisturbed(second, "late")
        second.python("-m", "kar_checks.cli", "run", "--local-cluster", *GANG)
        assert_undisturbed(second, "early")
        second.python("-m", "localcluster", "down")


def test_nothing_of_a_node_is_mounted_on_a_folder_of_the_machine() -> None:
    with side("folders") as one:
        one.run("sh", "-c", OWN_FOLDERS, "sh", *STANDARD_PATHS)
        one.up()
        one.count("early")
        # `ip` mounts something there.
        one.run("rmdir", *(path for path in STANDARD_PATHS if path != "/run/netns"))
        assert_undisturbed(one, "early")
        one.count("late")
        assert_undisturbed(one, "late")
        one.python("-m", "localcluster", "down")
