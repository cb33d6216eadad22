"""Options that several commands share, declared once.

``shared`` lets a command take a whole group as one parameter: typer sees the group's fields.
"""

import functools
import inspect
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from kar_checks.options import Options

_CLUSTER = "Which cluster"
_TARGET = "What reaches every object"
_CHECKS = "Which checks, and how"
_STACK = "Your own serving stack (KAR-41)"


@dataclass
class ClusterOptions:
    """Names the cluster and what its objects need."""

    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="The cluster to assess.", rich_help_panel=_CLUSTER),
    ] = None
    context: Annotated[
        str | None, typer.Option(help="Context of the kubeconfig.", rich_help_panel=_CLUSTER)
    ] = None
    local_cluster: Annotated[
        bool,
        typer.Option(
            "--local-cluster", help="Assess the embedded cluster.", rich_help_panel=_CLUSTER
        ),
    ] = False
    in_cluster: Annotated[
        bool,
        typer.Option(
            "--in-cluster",
            help="Assess the cluster whose pod this is, by its account.",
            rich_help_panel=_CLUSTER,
        ),
    ] = False
    cluster_name: Annotated[
        str, typer.Option(help="Name of the cluster on the page.", rich_help_panel=_CLUSTER)
    ] = ""
    namespace: Annotated[
        str,
        typer.Option(help="Work in this existing namespace; makes none.", rich_help_panel=_TARGET),
    ] = ""
    node_selector: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only these nodes.", rich_help_panel=_TARGET),
    ] = None
    toleration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=VALUE][:EFFECT]",
            help="Tolerate a taint; * tolerates all.",
            rich_help_panel=_TARGET,
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Add a label.", rich_help_panel=_TARGET),
    ] = None
    annotation: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Add an annotation.", rich_help_panel=_TARGET),
    ] = None
    image_prefix: Annotated[
        str,
        typer.Option(help="Registry that mirrors the images.", rich_help_panel=_TARGET),
    ] = ""
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=REFERENCE", help="Use another image.", rich_help_panel=_TARGET),
    ] = None
    pull_secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="imagePullSecrets.", rich_help_panel=_TARGET),
    ] = None
    runtime_class: Annotated[
        str, typer.Option(help="runtimeClassName of every pod.", rich_help_panel=_TARGET)
    ] = ""
    platform_user: Annotated[
        bool,
        typer.Option(
            "--platform-user",
            help="Leave runAsUser to the platform (OpenShift).",
            rich_help_panel=_TARGET,
        ),
    ] = False


@dataclass
class SelectionOptions:
    """Chooses checks and thresholds."""

    select: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHECK|TOPIC|REQUIREMENT|KAR]...",
            help="What to run; nothing means everything.",
            show_default=False,
        ),
    ] = None
    kar: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER", help="A KAR number.", rich_help_panel=_CHECKS),
    ] = None
    profile: Annotated[
        Path | None,
        typer.Option(help="Thresholds and choices (YAML).", rich_help_panel=_CHECKS),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting; `kar explain profile` lists them.",
            rich_help_panel=_CHECKS,
        ),
    ] = None
    max_bytes: Annotated[
        float | None,
        typer.Option(
            metavar="BYTES",
            help="The most that throughput sends through each network.",
            rich_help_panel=_CHECKS,
        ),
    ] = None
    max_disruption: Annotated[
        str,
        typer.Option(
            metavar="none|capacity|network",
            help="Leave out checks that may disturb more.",
            rich_help_panel=_CHECKS,
        ),
    ] = "network"
    target_url: Annotated[
        str,
        typer.Option(help="Assess this stack, as reached in the cluster.", rich_help_panel=_STACK),
    ] = ""
    target_model: Annotated[
        str, typer.Option(help="Its model; default: the first served.", rich_help_panel=_STACK)
    ] = ""
    target_namespace: Annotated[
        str, typer.Option(help="Where its pods are; default: by the URL.", rich_help_panel=_STACK)
    ] = ""
    target_prefill: Annotated[
        str,
        typer.Option(
            metavar="SELECTOR",
            help="Its prefill pods; default: by well-known labels.",
            rich_help_panel=_STACK,
        ),
    ] = ""
    target_decode: Annotated[
        str,
        typer.Option(metavar="SELECTOR", help="Its decode pods.", rich_help_panel=_STACK),
    ] = ""
    target_credential: Annotated[
        str,
        typer.Option(
            metavar="VARIABLE",
            help="Environment variable with a bearer token; stored nowhere.",
            rich_help_panel=_STACK,
        ),
    ] = ""

    @property
    def assignments(self) -> list[str]:
        """Settings as ``KEY=VALUE``: those of ``--set``, and those with an option of their own."""
        named = {
            "stack.url": self.target_url,
            "stack.model": self.target_model,
            "stack.namespace": self.target_namespace,
            "stack.prefill": self.target_prefill,
            "stack.decode": self.target_decode,
            "stack.credential": self.target_credential,
        }
        given = [f"{key}={value}" for key, value in named.items() if value]
        if self.max_bytes is not None:
            given.append(f"throughput.max_bytes={self.max_bytes:.0f}")
        return [*(self.set_ or ()), *given]


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter whose type is a group by the fields of the group."""
    hints = get_type_hints(command, include_extras=True)
    groups = {
        name: kind for name, kind in hints.items() if kind in (ClusterOptions, SelectionOptions)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(annotation=hints[name]))
            continue
        types = get_type_hints(groups[name], include_extras=True)
        parameters.extend(
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=one.default,
                annotation=types[one.name],
            )
            for one in fields(groups[name])
        )

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        built = {
            name: kind(**{one.name: given.pop(one.name) for one in fields(kind)})
            for name, kind in groups.items()
        }
        command(**built, **given)

    ordered = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    expanded.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    expanded.__annotations__ = {one.name: one.annotation for one in ordered}
    return expanded


_NAMES_A_CLUSTER = ("kubeconfig", "context", "local_cluster", "in_cluster")


def words(
    cluster: ClusterOptions, selection: SelectionOptions, options: "Options"
) -> tuple[str, ...]:
    """Return the words by which a `kar run` elsewhere gets the same choices, but for the cluster.

    Images are those of the target, so that the local cluster's own come along.
    """
    images = [f"{name}={reference}" for name, reference in options.target.images.items()]
    name = [f"--cluster-name={options.cluster_name}"] if options.cluster_name else []
    found = [*(selection.select or ()), *name, *(f"--image={one}" for one in images)]
    for group in (cluster, selection):
        for one in fields(group):
            if one.name in (*_NAMES_A_CLUSTER, "cluster_name", "image", "select"):
                continue
            option = "--" + one.name.strip("_").replace("_", "-")
            value = getattr(group, one.name)
            for each in value if isinstance(value, list) else [value]:
                if each is True:
                    found.append(option)
                elif each not in (None, False, "", one.default):
                    found.append(f"{option}={each}")
    return tuple(found)


def run_line(
    cluster: ClusterOptions, selection: SelectionOptions, options: "Options", more: list[str]
) -> str:
    """Return the `kar run` with the same choices, and ``more`` options, as a line to paste."""
    named = [f"--kubeconfig={cluster.kubeconfig}"] if cluster.kubeconfig else []
    named += [f"--context={cluster.context}"] if cluster.context else []
    named += ["--local-cluster"] if cluster.local_cluster else []
    named += ["--in-cluster"] if cluster.in_cluster else []
    given = words(cluster, selection, options)
    own = {f"--image={one}" for one in cluster.image or ()}
    # The local cluster and a profile bring their images themselves.
    kept = [one for one in given if not one.startswith("--image=") or one in own]
    if options.local_cluster and not cluster.cluster_name:
        kept = [one for one in kept if not one.startswith("--cluster-name=")]
    return shlex.join(["kar", "run", *named, *kept, *(one for one in more if one not in kept)])


def build(
    cluster: ClusterOptions,
    selection: SelectionOptions | None = None,
    earlier: Mapping[str, Any] | None = None,
    **more: Any,
) -> "Options":
    """Turn what the command line gave into the options of a run; a profile's target comes first.

    ``earlier`` are target options of a run that is repeated; the command line wins over them.

    Raises:
        ValueError: an option cannot be used (``UsageError`` and ``ProfileError`` among them).
        HarnessError: the local cluster does not run.
    """
    from pydantic import ValidationError

    from kar_checks import profile as profiles
    from kar_checks.checks.registry import DISRUPTIONS, topics
    from kar_checks.checks.stack import address
    from kar_checks.cluster.target import Target, parse_pairs, parse_toleration
    from kar_checks.local import local_images, local_kubeconfig
    from kar_checks.options import Options, UsageError

    chosen = selection or SelectionOptions()
    if chosen.max_disruption not in DISRUPTIONS:
        raise UsageError(f"--max-disruption must be one of {', '.join(DISRUPTIONS)}")
    loaded = profiles.load(chosen.profile, chosen.assignments)
    images = parse_pairs(cluster.image or (), "--image")
    kubeconfig = cluster.kubeconfig
    if cluster.in_cluster and (kubeconfig or cluster.context or cluster.local_cluster):
        raise UsageError("--in-cluster and another cluster were given: name one")
    if cluster.local_cluster:
        kubeconfig = local_kubeconfig()
        images = {**local_images(), **images}
    given: dict[str, Any] = {
        "namespace": cluster.namespace,
        "node_selector": parse_pairs(cluster.node_selector or (), "--node-selector"),
        "tolerations": [parse_toleration(one) for one in cluster.toleration or ()],
        "labels": parse_pairs(cluster.label or (), "--label"),
        "annotations": parse_pairs(cluster.annotation or (), "--annotation"),
        "image_prefix": cluster.image_prefix,
        "images": images,
        "pull_secrets": cluster.pull_secret or [],
        "runtime_class": cluster.runtime_class,
        "stack_namespace": address.namespace(loaded),
    }
    if cluster.platform_user:
        given["run_as_user"] = None
    own = {key: value for key, value in given.items() if value or key == "run_as_user"}
    try:
        target = Target.model_validate({**(earlier or {}), **loaded.target, **own})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("target", *first["loc"]))
        raise UsageError(f"the profile {chosen.profile}: {place}: {first['msg']}") from error
    selectors = [*(chosen.select or ()), *(f"KAR-{one}" for one in chosen.kar or ())]
    return Options(
        kubeconfig=kubeconfig,
        context=cluster.context,
        local_cluster=cluster.local_cluster,
        in_cluster=cluster.in_cluster,
        cluster_name=cluster.cluster_name or ("local cluster" if cluster.local_cluster else ""),
        select=selectors or loaded.select,
        profile=chosen.profile,
        settings=chosen.assignments,
        unasked=frozenset(
            one.id for one in topics() if one.asked_by and not loaded.text(one.asked_by)
        ),
        max_disruption=chosen.max_disruption,
        target=target,
        **more,
    )
