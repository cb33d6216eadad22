"""Measures what a user waits for; see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from kar_checks.report import write_all
from kar_checks.store import StoredRun

KAR = [sys.executable, "-m", "kar_checks.cli"]
COLLECT = [sys.executable, "-m", "pytest", "kar_checks/checks", "--collect-only", "-q"]


def seconds(argv: list[str], times: int) -> float:
    """Return the median wall time of a command."""
    took: list[float] = []
    for _ in range(times):
        began = time.monotonic()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        took.append(time.monotonic() - began)
    return round(statistics.median(took), 3)


def runs(times: int) -> tuple[dict[str, dict[str, float]], Path | None]:
    """Return medians of real runs on the local cluster, per topic, and the last run's folder."""
    costs: dict[str, list[tuple[float, int]]] = defaultdict(list)
    folder: Path | None = None
    parent = Path(tempfile.mkdtemp(prefix="kar-bench-"))
    for _ in range(times):
        began = time.monotonic()
        subprocess.run(
            [*KAR, "run", "--local-cluster", "--quiet", "--output", str(parent)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        whole = time.monotonic() - began
        folder = (parent / "latest").resolve()
        info = StoredRun(folder).info
        costs["whole run"].append((whole, sum(one.requests for one in info.costs)))
        for one in info.costs:
            costs[one.topic].append((one.seconds, one.requests))
    return {
        name: {
            "seconds": round(statistics.median(one for one, _ in found), 1),
            "requests": statistics.median(one for _, one in found),
        }
        for name, found in costs.items()
    }, folder


def main() -> None:
    """Print everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--up", action="store_true", help="take the local cluster down and up, too")
    given = parser.parse_args()
    out: dict[str, object] = {}
    if given.up:
        out["down_seconds"] = seconds([*KAR, "cluster", "down"], 1)
        out["warm_up_seconds"] = seconds([*KAR, "cluster", "up"], 1)
        out["up_again_seconds"] = seconds([*KAR, "cluster", "up"], 3)
    out |= {
        "help_seconds": seconds([*KAR, "--help"], 7),
        "collect_seconds": seconds(COLLECT, 5),
    }
    topics, folder = runs(given.runs)
    out["topics"] = topics
    if folder:
        began = time.monotonic()
        page = write_all(folder)[0]
        out["render_seconds"] = round(time.monotonic() - began, 2)
        out["page_bytes"] = page.stat().st_size
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
