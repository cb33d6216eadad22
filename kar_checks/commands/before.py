"""What can be known before a run: plan, doctor, rights."""

from __future__ import annotations

from typing import cast

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kar_checks import profile as profiles
from kar_checks.checks.registry import Cost, load, topics
from kar_checks.cluster import kinds
from kar_checks.cluster.access import NeededRight, rbac_objects
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.facts import node_info, why_unusable
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.ownership import Workspace
from kar_checks.commands.cleanup import SEARCHED
from kar_checks.exits import Exit
from kar_checks.model import Cleanup
from kar_checks.options import Options
from kar_checks.plan import needed_images, needed_rights
from kar_checks.runner import Preflight, prepare


def show_plan(options: Options) -> int:
    """Print what would run here; 0 if everything would, 12 if nothing would, 11 else."""
    before = prepare(options, options.selection)
    console = Console(highlight=False)
    console.print(f"[bold]Target[/]  {escape(before.target_line)}", soft_wrap=True)
    table = Table(box=None)
    for name in ("Check", "Here", "Disruption", "At most", "Why not"):
        table.add_column(name, overflow="fold")
    infos = {check.id: check for _, check in before.selection}
    for one in before.plan:
        check = infos[one.check]
        why = f"{one.message}{f' → {one.help}' if one.help else ''}"
        here = "runs" if one.runs else str(one.outcome)
        table.add_row(one.check, here, check.disruption, f"{check.budget_seconds} s", escape(why))
    console.print(table)
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
                f"  The nodes lie in the zones {escape(', '.join(zones))}: traffic between zones "
                "is charged for by providers.",
                soft_wrap=True,
            )


def examine(options: Options, *, probe: bool) -> int:
    """Print what stands in the way; 0 if nothing does, 12 otherwise."""
    before = prepare(options, options.selection)
    console = Console(highlight=False)
    console.print(f"[bold]Target[/]  {escape(before.target_line)}", soft_wrap=True)
    obstacles = _look(before, options)
    if probe:
        obstacles += _probe(before, options, console)
    for what, advice in obstacles:
        console.print(f"[yellow]✘[/] {escape(what)}", soft_wrap=True)
        if advice:
            console.print(f"  [bold]→[/] {escape(advice)}", soft_wrap=True)
    if obstacles:
        return int(Exit.PREFLIGHT)
    more = "" if probe else "; `kar doctor --probe` also sends every manifest as a dry run"
    console.print(f"[green]✔[/] nothing stands in the way{more}")
    return int(Exit.OK)


def _look(before: Preflight, options: Options) -> list[tuple[str, str]]:
    out = [
        (f"missing right: {one}", "grant what `kar rbac` prints")
        for one in before.missing
        if not one.only_for
    ]
    if before.facts.nodes is None:
        return out
    for node in before.facts.nodes:
        if why := why_unusable(node, options.target):
            what, _, advice = why.partition(", give ")
            name = node["metadata"]["name"]
            out.append((f"node {name} is not used: {what}", f"give {advice}" if advice else ""))
    if not before.facts.usable_nodes(options.target):
        out.append(("no node can run pods of ours", "see the reasons of the nodes above"))
    return out


def _probe(before: Preflight, options: Options, console: Console) -> list[tuple[str, str]]:
    """Send every manifest of the selection as a server-side dry run, in a real namespace."""
    workspace = Workspace(
        before.cluster, options.target, run_id=before.run_id, until=0, cleanup_seconds=60
    )
    out: dict[tuple[str, str], list[str]] = {}
    sent = 0
    cleanup = Cleanup(verdict="clean")
    try:
        workspace.open(before.profile.text("namespace.pod_security"))
        for kind, body in _manifests(before):
            name = f"{kind.kind}/{body['metadata']['name']}"
            sent += 1
            try:
                workspace.try_out(kind, body)
            except ApiError as error:
                told = f"{error.fault.reason.value}: {error.server_message}"
                told = told.replace(body["metadata"]["name"], "NAME")
                out.setdefault((told, error.fault.help), []).append(name)
        out.update(_standing_limits(before, workspace.namespace))
    except HarnessError as error:
        out[(error.fault.message, error.fault.help)] = []
    finally:
        cleanup = workspace.close()
    console.print(f"[dim]{sent} manifests were sent as a dry run into {workspace.namespace}[/]")
    if cleanup.verdict == "leaked":
        out[(cleanup.message, "")] = []
    return [
        (told + (f" [{', '.join(names[:4])}]" if names else ""), advice)
        for (told, advice), names in out.items()
    ]


def _manifests(before: Preflight) -> list[tuple[Kind, Object]]:
    chosen = {topic.id for topic, _ in before.selection}
    out: list[tuple[Kind, Object]] = []
    for topic in topics():
        if topic.id in chosen:
            out += cast("list[tuple[Kind, Object]]", load(topic.manifests)(before.options.target))
    return out


def _standing_limits(before: Preflight, namespace: str) -> dict[tuple[str, str], list[str]]:
    """A quota that has room for each manifest may still be too small for all of them at once."""
    out: dict[tuple[str, str], list[str]] = {}
    for kind in (kinds.QUOTA, kinds.LIMIT_RANGE):
        try:
            for item in before.cluster.list(kind, namespace).items:
                name = f"{kind.kind} {item['metadata']['name']}"
                hard = (item.get("spec") or {}).get("hard") or (item.get("spec") or {})
                out[
                    (
                        f"{name} limits the namespace: {hard}",
                        "if a run meets it, raise it or name another namespace by --namespace",
                    )
                ] = []
        except ApiError:
            continue  # not ours to see; the dry runs above tell what it refuses
    return out


def print_rbac(options: Options, account_namespace: str, *, cleanup: bool) -> None:
    """Print the rights of a selection as YAML documents."""
    profile = profiles.load(options.profile, options.settings)
    rights = needed_rights(options.selection, options.target, profile)
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
