"""Starting, recognising and ending the cluster's processes."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups
from localcluster.errors import ClusterError

# Enter the control group, become the program, and tell the process id: as an orphan, so that
# whoever starts it need not wait for its end.
_LAUNCH = """
log=$1; shift
while [ "$1" != -- ]; do joins="$joins $1"; shift; done; shift
( for file in $joins; do echo 0 > "$file" || exit 70; done; exec "$@" ) \
    < /dev/null >> "$log" 2>&1 &
echo $!
"""


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same id by when it was started."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether the process still runs; a dead one that nobody waited for does not."""
        return _stat(self.pid) == (self.started, True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait_gone(self, timeout: float) -> bool:
        """Wait for the end; says whether it came in time."""
        deadline = time.monotonic() + timeout
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _stat(pid: int) -> tuple[int, bool] | None:
    """The start time of a process and whether it runs; nothing if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may contain anything, spaces and parentheses too.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]), fields[0] not in ("Z", "X")


def identify(pid: int) -> Process | None:
    """The process that has this id now."""
    stat = _stat(pid)
    return Process(pid, stat[0]) if stat else None


def launch(
    argv: Sequence[str], log: Path, cgroup: str, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a program in the background, within a control group, writing to a log."""
    log.touch(mode=0o600)
    joins = [str(path) for path in cgroups.join_files(cgroup)]
    done = subprocess.run(
        ["setsid", "sh", "-c", _LAUNCH, "sh", str(log), *joins, "--", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )
    process = identify(int(done.stdout)) if done.stdout.strip() else None
    if process is None:
        raise ClusterError(f"`{argv[0]}` could not be started: {done.stderr.strip()}", log)
    return process


def end(process: Process, grace: float) -> None:
    """End a process: kindly within the grace time, then for certain."""
    # A stopped process takes no kind word.
    process.signal(signal.SIGCONT)
    process.signal(signal.SIGTERM)
    if not process.wait_gone(grace):
        process.signal(signal.SIGKILL)
        if not process.wait_gone(10):
            raise ClusterError(f"process {process.pid} does not end")


def kill_all(recorded: Iterable[Process], cgroup_names: Sequence[str]) -> None:
    """Kill recorded processes and everything in our control groups, until nothing is left."""
    for process in recorded:
        process.signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        members = {pid for name in cgroup_names for pid in cgroups.processes(name)}
        alive = [found for pid in members if (found := identify(pid)) and found.alive]
        if not alive:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"these processes do not end: {sorted(p.pid for p in alive)}")
        for name in cgroup_names:
            cgroups.thaw(name)
        for process in alive:
            process.signal(signal.SIGKILL)
        time.sleep(0.05)
