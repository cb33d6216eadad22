"""Measures what a process of ours costs before it does anything; see README.md beside this file."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

KAR = (sys.executable, "-m", "kar_checks.cli")
LIBRARIES = (
    *("pydantic", "rich.progress", "pytest", "jinja2", "kubernetes.client", "iperf3"),
    *("scipy.special", "scipy.stats", "matplotlib.figure"),
)
Cost = tuple[float, float]
"""Seconds of the clock, and of a core."""


def whole(argv: tuple[str, ...]) -> Cost:
    """Return what a command costs from start to end."""
    began = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _ended(process, began)


def until_the_first_request(*checks: str) -> Cost:
    """Return what ``kar run`` costs until it asks an API server for the first time."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "kubeconfig"
        file.write_text(_kubeconfig(server.getsockname()[1]), "utf-8")
        words = ("run", "--kubeconfig", str(file), "--output", scratch, *checks)
        began = time.monotonic()
        process = subprocess.Popen(
            [*KAR, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        connection, _ = server.accept()
        process.send_signal(signal.SIGKILL)
        cost = _ended(process, began)
        connection.close()
    return cost


def _kubeconfig(port: int) -> str:
    where = {"server": f"http://127.0.0.1:{port}"}
    return yaml.safe_dump(
        {
            "clusters": [{"name": "none", "cluster": where}],
            "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
            "users": [{"name": "none", "user": {}}],
            "current-context": "none",
        }
    )


def _ended(process: subprocess.Popen[bytes], began: float) -> Cost:
    _, _, used = os.wait4(process.pid, 0)
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def median(measure: Callable[[], Cost], times: int) -> Cost:
    """Return the medians of some measurements, after one that fills the machine's caches."""
    measure()
    found = [measure() for _ in range(times)]
    return statistics.median(one for one, _ in found), statistics.median(one for _, one in found)


def heaviest(count: int, *words: str) -> list[tuple[float, str]]:
    """Return the modules that take longest to import, each with all that it imports itself."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=False
    )
    rows = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2]
    found = [(int(row[1]) / 1e6, row[2].strip()) for row in rows if row[1].strip().isdigit()]
    return sorted(found, reverse=True)[:count]


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7, help="measurements of each row")
    times: int = parser.parse_args().times
    rows: dict[str, Callable[[], Cost]] = {
        "`python -c pass`": lambda: whole((sys.executable, "-c", "pass")),
        "`kar --help`": lambda: whole((*KAR, "--help")),
        "`kar list`": lambda: whole((*KAR, "list")),
        "`kar run resize`, until its first request": lambda: until_the_first_request("resize"),
        "`kar run`, until its first request": until_the_first_request,
    }
    print("| process | seconds | of a core |\n|---|---|---|")
    for name, measure in rows.items():
        print("| {} | {:.2f} | {:.2f} |".format(name, *median(measure, times)))
    print("\n| import alone | seconds | of a core |\n|---|---|---|")
    for name in LIBRARIES:
        cost = median(lambda name=name: whole((sys.executable, "-c", f"import {name}")), times)  # type: ignore[misc]
        print("| `{}` | {:.2f} | {:.2f} |".format(name, *cost))
    print("\n| slowest imports of `kar run` | seconds |\n|---|---|")
    for seconds, name in heaviest(14, "-c", "import kar_checks.commands.run"):
        print(f"| `{name}` | {seconds:.3f} |")


if __name__ == "__main__":
    main()
