"""The scorecard: one HTML file that needs no network, no script and not this suite either."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from kar_checks import paths, words
from kar_checks.model import Command, Figure
from kar_checks.report import figures
from kar_checks.report.view import Scorecard
from kar_checks.store import StoredRun, write_atomically

MOST_FIGURE_BYTES = 900_000
"""Together; what comes after has its table only, so that the page stays under 2 MB."""

SHORT, LONG = 160, 1500
MOST_LONG_TEXT = 400_000

LIMITS = {
    "nodes": 60,
    "commands": 12,
    "objects": 30,
    "facts": 40,
    "files": 80,
    "notes": 30,
    "output": 1200,
    "names": 24,
}


def render(run: StoredRun, base: str = "") -> str:
    """Return the page; ``base`` leads from it to the run folder, for links to raw files."""
    template = environment().get_template("scorecard.html.j2")
    page = template.render(
        card=Scorecard(run),
        css=css("scorecard.css"),
        draw=_Drawer(),
        rows=figures.rows,
        alternative=figures.alternative,
        href=lambda path: f"{base}{quote(str(path))}",
        count=words.count,
        option=_option,
        exit_code=words.exit_code,
        evidence=words.EVIDENCE,
        limit=LIMITS,
    )
    return page.lstrip()


def environment() -> Environment:
    """Return what renders a page: everything that it prints is redacted, escaped and cut."""
    printer = _Printer()
    made = Environment(
        loader=FileSystemLoader(paths.data("reports")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever a template prints goes through here, so that none can forget to redact.
        finalize=printer,
    )
    made.filters.update(
        word=words.outcome,
        date=_date,
        seconds=words.seconds,
        size=words.size,
        command=_command,
        prose=printer.prose,
    )
    return made


def css(*names: str) -> Markup:
    """Return style sheets of ours, to stand inside a page."""
    texts = (paths.data("reports", one).read_text("utf-8") for one in names)
    return Markup("\n".join(texts))  # noqa: S704 - ours


def write(run: StoredRun, path: Path) -> None:
    """Render the page into ``path``."""
    folder = os.path.relpath(run.folder.resolve(), path.parent.resolve())
    base = "" if folder == "." else f"{quote(folder)}/"
    write_atomically(path, render(run, base))


class _Drawer:
    """Draws figures until the page has as many as it may hold."""

    def __init__(self) -> None:
        self.left = MOST_FIGURE_BYTES

    def __call__(self, figure: Figure, anchor: str) -> Markup | None:
        if self.left <= 0:
            return None
        drawn = figures.svg(figure, anchor)
        self.left -= len(drawn)
        return Markup(drawn)  # noqa: S704 - names in it are escaped by matplotlib, see the tests


class _Printer:
    """Makes every value safe to show; cuts long ones short once the page holds enough of them."""

    def __init__(self) -> None:
        self.left = MOST_LONG_TEXT

    def __call__(self, value: Any) -> Any:  # any: Jinja gives whatever a template prints
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        shown = words.safe(value, LONG if self.left > 0 else SHORT)
        if len(shown) > SHORT:
            self.left -= len(shown)
        return shown

    def prose(self, text: str) -> Markup:
        """Return a sentence of ours in which `commands` stand out."""
        parts = [escape(part) for part in self(text).split("`")]
        if len(parts) % 2 == 0:
            return Markup("`").join(parts)
        code = Markup("<code>{}</code>")
        return Markup("").join(code.format(one) if n % 2 else one for n, one in enumerate(parts))


def _date(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "—"


def _option(name: str, value: object) -> str:
    """Return an option's value; its name decides whether the value is a secret."""
    told = (
        ", ".join(str(one) for one in cast("list[object]", value))
        if isinstance(value, list)
        else value
    )
    return words.safe(f"{name}={told}").partition("=")[2]


def _command(command: Command) -> str:
    """Return a command as one would type it; a program that was passed inline is cut short."""
    parts = [part if len(part) < 300 else f"{part[:300]}…" for part in command.argv]
    return " ".join(f"'{part}'" if set(part) & set(" \n\"';|&<>$") else part for part in parts)
