"""``kar run``: pytest as the driver, with our own face."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from kar_checks import exits
from kar_checks.exits import Exit
from kar_checks.options import Options
from kar_checks.pytest_plugin import KarPlugin
from kar_checks.report import text
from kar_checks.store import StoredRun, StoreError, new_run_id, write_atomically
from kar_checks.view import ConsoleView


def run_checks(options: Options, *, quiet: bool) -> int:
    """Run the selected checks, print the summary, and return the exit code.

    Raises:
        HarnessError: the cluster could not be assessed at all.
        StoreError: the run folder could not be made.
    """
    topics = {topic.id: topic for topic, _ in options.selection}
    run_id = new_run_id()
    folder = options.output / run_id
    console = Console(highlight=False)
    plugin = KarPlugin(options, ConsoleView(console, quiet=quiet), run_id)
    files = [_file_of(topic.tests) for topic in topics.values()]
    trouble: StoreError | None = None
    with tempfile.TemporaryDirectory() as scratch:
        # pytest-html makes its folder at once; a run that is refused must leave none.
        page = Path(scratch, "pytest.html")
        code = _run_pytest(page if options.render else None, files, plugin)
        if plugin.refused:
            raise plugin.refused
        if plugin.code is None:
            return int(Exit.INTERNAL if plugin.broken else code)
        if page.exists():
            try:
                write_atomically(folder / page.name, page.read_text("utf-8"))
            except StoreError as error:
                console.print(str(error), markup=False, soft_wrap=True)
                trouble = error
    run = StoredRun(folder)
    # A full disk may have kept the last word out of the folder.
    last = exits.of_run(run.info, run.findings, trouble=trouble) if trouble else plugin.code
    run.info = run.info.model_copy(update={"exit_code": int(last)})
    text.summary(run, console, quiet=quiet)
    return int(last)


def _run_pytest(page: Path | None, files: list[str], plugin: KarPlugin) -> int:
    """Run pytest so that the user's own settings, conftests and plugins have no say.

    pytest's report goes to ``page``, if there is one.
    """
    os.environ.pop("PYTEST_ADDOPTS", None)
    package = str(Path(__file__).resolve().parents[2])
    return pytest.main(
        [
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
            "--disable-plugin-autoload",
            *(_page_options(page) if page else ()),
            *files,
        ],
        plugins=[plugin],
    )


def _page_options(page: Path) -> tuple[str, ...]:
    plugins = ("pytest_metadata.plugin", "pytest_html.plugin", "pytest_html.fixtures")
    loaded = (word for name in plugins for word in ("-p", name))
    return (*loaded, f"--html={page}", "--self-contained-html")


def _file_of(module: str) -> str:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise FileNotFoundError(module)
    return found.origin
