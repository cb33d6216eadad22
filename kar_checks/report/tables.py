"""Tables for a person: columns on a terminal, one line per row elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kar_checks import words


def show(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    wrap: Collection[str],
) -> None:
    """Print a table; a terminal may break the columns ``wrap`` over several lines.

    Elsewhere nothing is broken: cells are two spaces apart, and an empty one is ``-``.
    """
    shown = [[words.safe(cell, 500) for cell in row] for row in rows]
    if console.is_terminal:
        table = Table(title=title or None, title_justify="left", box=None)
        for name in columns:
            table.add_column(name, overflow="fold", no_wrap=name not in wrap)
        for row in shown:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        return
    for line in (*([title] if title else []), *map(_line, shown)):
        console.print(Text(line), soft_wrap=True)


def _line(cells: Iterable[str]) -> str:
    return "  ".join(" ".join(cell.split()) or "-" for cell in cells)
