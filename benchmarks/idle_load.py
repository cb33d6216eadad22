#!/usr/bin/env python3
"""Print what a running local cluster uses while nobody asks anything of it.

Processor seconds per minute, by program, of the cluster that runs now (root; `kar cluster up` with
the add-ons in question first). The sum is the kernel's account of the cluster's control groups;
what ran too shortly to be seen (probes, `runc`) is the difference to the programs that were.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from localcluster import LocalCluster, cgroups
from localcluster.layout import CGROUPS

SHORT = "(ended meanwhile)"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Moment:
    """Processor seconds so far: of each process, and of all control groups by the kernel."""

    processes: dict[int, float]
    total: float
    at: float


def look(groups: tuple[str, ...] = CGROUPS) -> Moment:
    """Read the accounts."""
    processes: dict[int, float] = {}
    for group in groups:
        for pid in cgroups.processes(group):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            processes[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    # One tree: a machine may show the same account in several places.
    accounts = [
        [found for group in groups if (found := _account(tree, group)) is not None]
        for tree in cgroups.hierarchies()
    ]
    total = sum(next(one for one in accounts if one))
    return Moment(processes, total, time.monotonic())


def _account(tree: cgroups.Hierarchy, group: str) -> float | None:
    """The kernel's processor seconds of a group, if this tree keeps that account."""
    folder = tree.root / group
    if tree.unified:
        lines = (folder / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec")) / 1e6
    if "cpuacct" in tree.options:
        return int((folder / "cpuacct.usage").read_text()) / 1e9
    return None


def program(pid: int, components: dict[int, str]) -> str:
    """What a process is: the component of the cluster, or the program of a container."""
    if pid in components:
        return components[pid]
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return Path(words[0].decode()).name or Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return SHORT


def measure(seconds: float) -> dict[str, float]:
    """Processor seconds per minute of each program; with their sum as `all`."""
    record = LocalCluster.load()
    names = {record.pid(name): name.partition("@")[0] for name in record.components}
    before = look()
    time.sleep(seconds)
    after = look()
    minutes = (after.at - before.at) / 60
    found: dict[str, float] = defaultdict(float)
    for pid, used in after.processes.items():
        found[program(pid, names)] += (used - before.processes.get(pid, 0.0)) / minutes
    total = (after.total - before.total) / minutes
    found[SHORT] += total - sum(found.values())
    return {**found, "all": total}


def main() -> None:
    """Measure and print a table, the greediest first."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=120)
    words.add_argument("--settle", type=float, default=30, help="wait that long before")
    asked = words.parse_args()
    time.sleep(asked.settle)
    print(LocalCluster.load().settings.describe())
    print("| program | CPU seconds per minute |\n|---|---|")
    for name, used in sorted(measure(asked.seconds).items(), key=lambda one: -one[1]):
        print(f"| {name} | {used:.2f} |")


if __name__ == "__main__":
    main()
