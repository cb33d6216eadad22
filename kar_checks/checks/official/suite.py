"""The official suite as a program of this machine: started, watched and ended."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

NAMESPACES = ("inference-conformance-infra", "inference-conformance-app-backend")
"""The suite's own, of these names whoever runs it."""
LEAVE_SECONDS = 180.0
"""Until they are gone: its pickers have 130 s to end, and need them where they have just begun."""

_POLL_SECONDS = 0.5
_END_SECONDS = 10


@dataclass(frozen=True)
class Ended:
    """A program that ended, or was ended."""

    code: int | None
    seconds: float
    printed: str
    report: str
    """What it wrote to the file of ``-report-output``; empty if it did not come to that."""


def unusable(why: str) -> HarnessError:
    """Return the error of a command that does not start the suite."""
    return HarnessError(
        Reason.UNUSABLE_SETTING,
        f"official.suite: {why}",
        "docs/gateway.md shows how to build the suite's program",
    )


def words(command: str) -> list[str]:
    """Split the user's command as a shell would.

    Raises:
        HarnessError: it has no words, or a quotation without an end.
    """
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise unusable(str(error)) from error
    if not found:
        raise unusable("it has no words")
    return found


def run(
    command: Sequence[str],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    watch: Callable[[str], None],
    stopping: threading.Event,
    seconds: float,
) -> Ended:
    """Run the suite until it ends, the time is over, or somebody wants to stop.

    ``watch`` gets what was printed since it was called last; whatever it raises ends the suite.

    Raises:
        HarnessError: the program cannot be started.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, report = Path(folder) / "suite.log", Path(folder) / "report.yaml"
        began = time.monotonic()
        with output.open("wb") as written, output.open(encoding="utf-8", errors="replace") as read:
            process = _start(
                [*command, *arguments, f"-report-output={report}"], environment, written
            )
            try:
                while process.poll() is None and time.monotonic() < began + seconds:
                    watch(read.read())
                    if stopping.wait(_POLL_SECONDS):
                        break
                code = process.poll()
            finally:
                _end(process)
        return Ended(
            code,
            time.monotonic() - began,
            output.read_text("utf-8", "replace"),
            report.read_text("utf-8") if report.exists() else "",
        )


def _start(
    argv: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for us, who end it and clean up behind it, with all that it started.
            start_new_session=True,
        )
    except OSError as error:
        raise unusable(f"{argv[0]} cannot be started ({error.strerror})") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, how)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                continue
