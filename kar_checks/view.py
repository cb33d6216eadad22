"""What a person sees while a run goes on: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kar_checks import words
from kar_checks.model import Finding


def _safe(text: str, longest: int = words.LONGEST) -> str:
    """Return text of a cluster that moves no cursor and is no markup."""
    return escape(words.safe(text, longest))


class View(Protocol):
    """What a run tells while it goes on."""

    def target(self, line: str) -> None:
        """Name the target, before the first write."""
        ...

    def progress(self, text: str) -> None:
        """Report a change of state."""
        ...

    def measuring(self, title: str, budget: int) -> AbstractContextManager[None]:
        """Surround a trial that may take ``budget`` seconds."""
        ...

    def findings(self, found: Sequence[Finding]) -> None:
        """Report verdicts."""
        ...

    def done(self, folder: Path) -> None:
        """Say where the run is stored."""
        ...


class PlainView:
    """Lines without colour or movement; for plain pytest and for logs."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def target(self, line: str) -> None:
        """Name the target."""
        self._write(words.safe(f"target: {line}"))

    def progress(self, text: str) -> None:
        """Report nothing: pytest has its own way of telling progress."""

    @contextmanager
    def measuring(self, title: str, budget: int) -> Iterator[None]:
        """Report nothing."""
        yield

    def findings(self, found: Sequence[Finding]) -> None:
        """Report nothing: the test's own line tells it."""

    def done(self, folder: Path) -> None:
        """Say where the run is stored."""
        self._write(f"run: {folder}")


class ConsoleView:
    """The face of ``kar run``; ``quiet`` leaves only the target and the verdicts that matter."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self._began = time.monotonic()
        self._live: Progress | None = None
        self._said = ""

    def target(self, line: str) -> None:
        """Name the target."""
        self.console.print(f"[bold]Target[/]  {_safe(line)}", highlight=False)

    def progress(self, text: str) -> None:
        """Report a change of state: in place on a terminal, as a line with its time elsewhere."""
        if text == self._said:
            return
        self._said = text
        if self._live is not None:
            self._live.update(self._live.task_ids[0], state=_safe(text, 70))
        elif not self.quiet:
            elapsed = time.monotonic() - self._began
            self.console.print(f"{elapsed:7.1f}s  {_safe(text)}", highlight=False)

    @contextmanager
    def measuring(self, title: str, budget: int) -> Iterator[None]:
        """Show elapsed time and budget while a trial runs."""
        if self.quiet or not self.console.is_terminal:
            self.progress(f"{title}: measuring, at most {budget} s")
            yield
            return
        columns = (
            SpinnerColumn(),
            TextColumn("[bold]{task.description}[/]"),
            TimeElapsedColumn(),
            TextColumn("[dim]of at most {task.fields[budget]} s  {task.fields[state]}[/]"),
        )
        with Progress(*columns, console=self.console, transient=True) as live:
            live.add_task(_safe(title), total=None, budget=budget, state="")
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def findings(self, found: Sequence[Finding]) -> None:
        """Print a line for each verdict on a terminal; elsewhere, the summary has the only one."""
        if self.quiet or not self.console.is_terminal:
            return
        for one in found:
            outcome = one.outcome.value
            shown = f"{words.SIGN[outcome]} {words.outcome(outcome):<14}"
            about = f" ({one.variant})" if one.variant else ""
            self.console.print(
                f"[{words.STYLE[outcome]}]{shown}[/] {_safe(one.check + about)}", highlight=False
            )

    def done(self, folder: Path) -> None:
        """Leave the last word to the summary."""
