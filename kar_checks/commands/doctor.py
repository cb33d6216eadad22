"""`kar doctor`: blockers and notes, each with what helps, and the `kar run` to paste."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from kar_checks.commands import remarks
from kar_checks.commands.doctor_probe import probed
from kar_checks.commands.remarks import Remark
from kar_checks.exits import Exit
from kar_checks.options import Options
from kar_checks.runner import Preflight, prepare

Line = Callable[[list[str]], str]


def examine(options: Options, *, probe: bool, line: Line) -> int:
    """Print what to know before a run; 0 if nothing blocks it, 12 otherwise.

    ``line`` gives the `kar run` with the options of this command and some more.
    """
    before = prepare(options, options.selection)
    console = Console(highlight=False)
    console.print(f"[bold]Target[/]  {escape(before.target_line)}", soft_wrap=True)
    found = _looked(before, options)
    if probe:
        found += probed(before, options, console)
    blockers = [one for one in found if one.blocks]
    for one in sorted(found, key=lambda one: not one.blocks):
        _show(one, console)
    if not blockers:
        # Notes do not count: they block nothing.
        notes = len(found)
        told = f" ({notes} note{'s' if notes > 1 else ''} above)" if notes else ""
        more = "" if probe else "; `kar doctor --probe` also starts real pods"
        console.print(f"[green]✔[/] no blockers{told}{more}", soft_wrap=True)
    wanted = list(dict.fromkeys(word for one in found for word in one.options))
    then = "then" if blockers else "now"
    console.print(f"\n[bold]Run it {then}[/]\n  {escape(line(wanted))}", soft_wrap=True)
    return int(Exit.PREFLIGHT if blockers else Exit.OK)


def _show(one: Remark, console: Console) -> None:
    mark = "[red]✘[/]" if one.blocks else "[yellow]![/] note:"
    console.print(f"{mark} {escape(one.text)}", soft_wrap=True)
    if one.advice:
        console.print(f"  [bold]→[/] {escape(one.advice)}", soft_wrap=True)


def _looked(before: Preflight, options: Options) -> list[Remark]:
    out = [
        *remarks.of_rights(before),
        *remarks.of_cluster(before, options),
        *remarks.of_nodes(before, options),
        *remarks.of_plan(before),
    ]
    if options.target.namespace:
        out += remarks.of_policies(before, before.namespace)
    return out
