"""The commands of the local cluster."""

import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from localcluster.addons import ADDONS, CORE_ADDONS
from localcluster.cluster import LocalCluster
from localcluster.costs import cost
from localcluster.disk import summary
from localcluster.errors import ClusterError
from localcluster.paths import cache
from localcluster.progress import Progress
from localcluster.settings import parse_settings
from localcluster.startup import bring_down, bring_up, build_only, prune_cache

app = typer.Typer(
    name="cluster",
    help="A real Kubernetes cluster of three nodes on this machine, without a container engine.",
    no_args_is_help=True,
)

_FOLLOW_SECONDS = 0.3


@contextmanager
def _sentences() -> Generator[None]:
    """Show an expected failure as one sentence and exit code 1."""
    try:
        yield
    except ClusterError as error:
        print(f"kar cluster: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def _show(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table on a terminal, and one line per row, with tabs, elsewhere."""
    console = Console()
    if not console.is_terminal:
        for row in (*([(title,)] if title else []), columns, *rows):
            print("\t".join(cell or "-" for cell in row))
        return
    table = Table(*columns, title=title or None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


_Kubernetes = Annotated[
    str | None, typer.Option(help="Kubernetes version, such as 1.37 or 1.36.3.")
]
_Addons = Annotated[list[str] | None, typer.Option(metavar="NAME", help="With this add-on too.")]


@app.command()
def up(
    kubernetes: _Kubernetes = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="gang=on, gang=off or gang=api-only."),
    ] = None,
    addon: _Addons = None,
) -> None:
    """Build and start the cluster, or say that it runs already."""
    with _sentences():
        bring_up(parse_settings(kubernetes, set_ or (), addon or ()), Progress())


@app.command("build")
def build_(kubernetes: _Kubernetes = None, addon: _Addons = None) -> None:
    """Build what a start would build, and start nothing."""
    with _sentences():
        build_only(parse_settings(kubernetes, (), addon or ()), Progress())


@app.command()
def status() -> None:
    """Show what runs; fails when there is no cluster or it is not ready."""
    with _sentences():
        cluster = LocalCluster.load()
        rows = [(name, "runs" if cluster.alive(name) else "ended") for name in cluster.components]
        _show(("component", "state"), rows, title=cluster.settings.describe())
        if reason := cluster.unready_reason():
            raise ClusterError(f"the cluster is not ready: {reason}")
        print(f"ready; kubeconfig {cluster.kubeconfig}")


@app.command()
def down() -> None:
    """End the cluster and remove everything but what was built."""
    with _sentences():
        progress = Progress()
        progress.say("done" if bring_down(progress) else "there is no local cluster")


@app.command()
def logs(
    component: Annotated[
        str | None, typer.Argument(help="Such as kube-scheduler or kubelet@kar1.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
) -> None:
    """Print a component's log; without a name, list the logs."""
    with _sentences():
        cluster = LocalCluster.load()
        if component is None:
            for name in cluster.components:
                print(f"{name}\t{cluster.log(name)}")
            return
        _print_log(cluster.log(component), follow=follow)


def _print_log(log: Path, *, follow: bool) -> None:
    with log.open(errors="replace") as stream:
        while True:
            text = stream.read()
            if text:
                sys.stdout.write(text)
                sys.stdout.flush()
            elif not follow:
                return
            else:
                time.sleep(_FOLLOW_SECONDS)


@app.command()
def addons() -> None:
    """List the add-ons, and what each takes to build and to keep."""
    rows = [
        (
            one.name,
            f"{sum(cost(build).cpu_seconds for build in one.builds):.0f}",
            "?" if one.idle_cpu_seconds is None else f"{one.idle_cpu_seconds:.2f}",
            " ".join(one.requires),
        )
        for one in (*CORE_ADDONS, *ADDONS)
    ]
    _show(("add-on", "build, CPU s", "idle, CPU s/min", "requires"), rows)
    print(f"{CORE_ADDONS[0].name} is on every cluster; the others with --addon NAME")


@app.command("prune")
def prune_() -> None:
    """Give back the disk that later starts do not need."""
    with _sentences():
        found = prune_cache()
        for what, size in found.items():
            print(f"{size / 1e9:6.1f} GB  {what}")
        print(f"{sum(found.values()) / 1e9:6.1f} GB  given back; {cache()} keeps what starts need")


@app.command(hidden=True)
def took(since: Annotated[float, typer.Argument(help="Seconds since 1970.")]) -> None:
    """Print how long everything since a moment took, and what disk a build in it took."""
    print(summary(since, time.time()))


@app.command()
def kubeconfig() -> None:
    """Print the path of the kubeconfig."""
    with _sentences():
        print(LocalCluster.load().kubeconfig)
