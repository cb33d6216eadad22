"""What can be known before a run without writing to the cluster: plan and rights."""

from __future__ import annotations

import yaml
from rich.console import Console
from rich.markup import escape

from kar_checks.checks.registry import topics
from kar_checks.cluster.access import NeededRight, rbac_objects
from kar_checks.cluster.facts import node_info
from kar_checks.commands import remarks
from kar_checks.commands.cleanup import SEARCHED
from kar_checks.exits import Exit
from kar_checks.kit.topic import Cost, load
from kar_checks.options import Options
from kar_checks.plan import needed_images, needed_rights
from kar_checks.report.tables import show
from kar_checks.runner import Preflight, prepare


def show_plan(options: Options) -> int:
    """Print what would run here; 0 if everything would, 12 if nothing would, 11 else."""
    before = prepare(options, options.selection)
    console = Console(highlight=False)
    console.print(f"[bold]Target[/]  {escape(before.target_line)}", soft_wrap=True)
    infos = {check.id: check for _, check in before.selection}
    rows = [
        (
            one.check,
            "runs" if one.runs else str(one.outcome),
            infos[one.check].disruption,
            f"{infos[one.check].budget_seconds} s",
            f"{one.message}{f' → {one.help}' if one.help else ''}",
        )
        for one in before.plan
    ]
    columns = ("Check", "Here", "Disruption", "At most", "Why not")
    show(console, columns, rows, wrap={"Disruption", "Why not"})
    known = remarks.of_cluster(before, options)
    if options.target.namespace:
        known += remarks.of_policies(before, before.namespace)
    for remark in known:
        console.print(f"\n[yellow]![/] {escape(remark.text)}", soft_wrap=True)
        console.print(f"  [bold]→[/] {escape(remark.advice)}", soft_wrap=True)
    console.print("\n[bold]Rights[/]")
    for right in before.rights:
        missing = "  [red]missing[/]" if right in before.missing else ""
        console.print(f"  {right}{missing}", soft_wrap=True)
    console.print("\n[bold]Images[/]")
    for name, reference in needed_images(before.selection, options.target).items():
        console.print(f"  {name}: {escape(reference)}", soft_wrap=True)
    _print_costs(before, options, console)
    running = sum(one.runs for one in before.plan)
    console.print(f"\n{running} of {len(before.plan)} checks would run. Nothing was touched.")
    if running == len(before.plan):
        return int(Exit.OK)
    return int(Exit.UNDECIDED if running else Exit.PREFLIGHT)


def _print_costs(before: Preflight, options: Options, console: Console) -> None:
    """Print what measuring sends through the network, which somebody may have to pay for."""
    chosen = frozenset(one.check for one in before.plan if one.runs)
    nodes = before.facts.usable_nodes(options.target)
    zones = sorted({node_info(one).zone for one in nodes} - {""})
    for topic in topics():
        mine = chosen & {check.id for check in topic.checks}
        if not topic.estimate or not mine:
            continue
        cost: Cost = load(topic.estimate)(before.profile, len(nodes), mine)
        console.print(f"\n[bold]Costs[/]\n  {topic.id}: {escape(cost.told)}", soft_wrap=True)
        if len(zones) > 1:
            console.print(
                f"  The nodes are in the zones {escape(', '.join(zones))}: providers charge "
                "for traffic between zones.",
                soft_wrap=True,
            )


def print_rbac(options: Options, account_namespace: str, *, cleanup: bool) -> None:
    """Print the rights of a selection as YAML documents."""
    rights = needed_rights(options.selection, options.target, options.profile)
    if cleanup:
        rights += [
            NeededRight(verb, kind.group, kind.plural, cluster=True)
            for kind in SEARCHED
            for verb in ("list", "get", "watch", "delete")
        ]
    objects = rbac_objects(
        rights, namespace=options.target.namespace, subject_namespace=account_namespace
    )
    print(yaml.safe_dump_all(objects, sort_keys=False), end="")
