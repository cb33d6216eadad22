#!/usr/bin/env python3
"""Close a run of ``.ci/run``: print its numbers, and keep them if it was good.

``last_ci.py SUMMARY SECONDS STATUS``: the file that the cluster tests wrote, how long everything
took, and the exit status. The line that is kept has four words, in ``kar-checks/last-ci`` of the
per-user cache: commit, minutes, ``cold`` or ``warm``, number of second tries. A run is cold if
something of the local cluster had to be built.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localcluster.paths import cache

ROOT = Path(__file__).parents[1]


def close(summary: Path, seconds: float, status: int) -> str:
    """Return the closing lines; keep the line of a run that succeeded."""
    minutes = f"{seconds / 60:.1f}"
    text = summary.read_text("utf-8") if summary.exists() else ""
    if not text:
        return f"CI failed after {minutes} minutes, before or in the cluster tests"
    told: dict[str, Any] = json.loads(text)
    heat = "cold" if told["built"] else "warm"
    share = told["ran"] / max(1, told["rows"])
    if status == 0:
        words = [_commit(), minutes, heat, str(told["second_tries"])]
        file = cache() / "last-ci"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(" ".join(words) + "\n", "utf-8")
    line = (
        f"CI {'passed' if status == 0 else 'failed'} after {minutes} minutes, {heat}: "
        f"{told['ran']} of {told['rows']} rows of the cluster tests ran ({share:.0%}); "
        f"second tries: {told['second_tries'] or 'none'}"
    )
    return "\n".join([line, *told["wrong"]])


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main(words: Sequence[str]) -> None:
    """Print the closing lines."""
    summary, seconds, status = words
    print(close(Path(summary), float(seconds), int(status)))


if __name__ == "__main__":
    main(sys.argv[1:])
