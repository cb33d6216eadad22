"""``kar run``: pytest as the driver, with our own face."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from rich.console import Console

from kar_checks.exits import Exit
from kar_checks.options import Options, selected
from kar_checks.pytest_plugin import KarPlugin
from kar_checks.report import text
from kar_checks.store import StoredRun, new_run_id
from kar_checks.view import ConsoleView


def run_checks(options: Options, *, quiet: bool) -> int:
    """Run the selected checks, print the summary, and return the exit code."""
    topics = {topic.id: topic for topic, _ in selected(options.select)}
    run_id = new_run_id()
    folder = options.output / run_id
    console = Console(highlight=False)
    plugin = KarPlugin(options, ConsoleView(console, quiet=quiet), run_id)
    files = [_file_of(topic.tests) for topic in topics.values()]
    package = str(Path(__file__).resolve().parents[2])
    code = pytest.main(
        [
            # The user's own pytest settings and conftests have no say in an assessment.
            "-c",
            os.devnull,
            f"--rootdir={package}",
            "--noconftest",
            "--import-mode=importlib",
            "--capture=no",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:terminal",
            f"--html={folder / 'pytest.html'}",
            "--self-contained-html",
            *files,
        ],
        plugins=[plugin],
    )
    if plugin.code is None:
        return int(code)
    text.summary(StoredRun(folder), console)
    return int(plugin.code if code != Exit.INTERNAL else code)


def _file_of(module: str) -> str:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise FileNotFoundError(module)
    return found.origin
