"""Every option of a run, declared once, and how a run's :class:`Options` follow from them.

``cli_options`` makes the command line of it, ``pytest_plugin`` the options of plain pytest,
``arguments`` and ``run_line`` the words of another ``kar run``. A topic declares its own
(``Topic.options``). Whatever needs the cluster's client is imported only when it is used.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kar_checks.kit.option import Given, Option, spelled, was_given

if TYPE_CHECKING:
    from kar_checks.cluster.target import Target
    from kar_checks.options import Options
    from kar_checks.profile import Profile

_WHERE = "Which cluster"
_OBJECTS = "Applied to every object we create"
_CHECKS = "Which checks, and how"
_PAIR = "KEY=VALUE"

WHERE = (
    Option(
        "--kubeconfig",
        "The cluster to assess.",
        Path,
        panel=_WHERE,
        environment="KUBECONFIG",
    ),
    Option("--context", "Context of the kubeconfig.", panel=_WHERE),
    Option("--local-cluster", "Assess the embedded cluster.", bool, panel=_WHERE),
    Option(
        "--in-cluster",
        "Assess the cluster of this pod, with its service account.",
        bool,
        panel=_WHERE,
    ),
)
"""Options that name the cluster; nothing touches one that was not named."""

CLUSTER_NAME = Option("--cluster-name", "Name of the cluster on the page.", panel=_WHERE)
IMAGE = Option(
    "--image",
    "Use another image.",
    many=True,
    metavar="NAME=REFERENCE",
    key="target.images",
    panel=_OBJECTS,
)
NAMESPACE = Option(
    "--namespace",
    "Work in this existing namespace and create none.",
    key="target.namespace",
    panel=_OBJECTS,
)
OBJECTS = (
    NAMESPACE,
    Option(
        "--node-selector",
        "Use only these nodes.",
        many=True,
        metavar=_PAIR,
        key="target.node_selector",
        panel=_OBJECTS,
    ),
    Option(
        "--toleration",
        "Tolerate a taint; * tolerates all.",
        many=True,
        metavar="KEY[=VALUE][:EFFECT]",
        key="target.tolerations",
        panel=_OBJECTS,
    ),
    Option(
        "--label", "Add a label.", many=True, metavar=_PAIR, key="target.labels", panel=_OBJECTS
    ),
    Option(
        "--annotation",
        "Add an annotation.",
        many=True,
        metavar=_PAIR,
        key="target.annotations",
        panel=_OBJECTS,
    ),
    Option(
        "--image-prefix",
        "Registry that mirrors the images.",
        key="target.image_prefix",
        panel=_OBJECTS,
    ),
    IMAGE,
    Option(
        "--pull-secret",
        "Add an imagePullSecret.",
        many=True,
        metavar="NAME",
        key="target.pull_secrets",
        panel=_OBJECTS,
    ),
    Option(
        "--runtime-class",
        "Set the runtimeClassName of every pod.",
        key="target.runtime_class",
        panel=_OBJECTS,
    ),
    Option(
        "--platform-user",
        "Leave runAsUser to the platform (OpenShift).",
        bool,
        key="target.run_as_user",
        panel=_OBJECTS,
    ),
)
CLUSTER = (*WHERE, CLUSTER_NAME, *OBJECTS)

SELECT = Option(
    "select",
    "What to run; default: everything.",
    many=True,
    metavar="[CHECK|TOPIC|REQUIREMENT|KAR]...",
    key="select",
    pytest_names=("--kar-select",),
)
_SELECTION = (
    SELECT,
    Option("--kar", "Run what a KAR number asks for.", many=True, metavar="NUMBER", panel=_CHECKS),
    Option("--profile", "Thresholds and choices (YAML).", Path, panel=_CHECKS),
    Option(
        "--set",
        "Change one setting; `kar explain profile` lists them.",
        many=True,
        metavar=_PAIR,
        panel=_CHECKS,
        pytest_names=("--set", "--kar-set"),
    ),
    Option(
        "--max-disruption",
        "Leave out checks that may disturb more.",
        default="network",
        metavar="none|capacity|network",
        panel=_CHECKS,
    ),
)
RUN = (
    Option("--output", "Where runs are stored.", Path, default=Path("runs")),
    Option("--keep-on-failure", "Keep the objects of checks that did not pass.", bool),
    Option(
        "--fail-on",
        "Outcomes that make the run exit with an error code.",
        default="fail,error,inconclusive",
        metavar="OUTCOME,...",
    ),
    Option("--again", "Repeat what did not pass in an earlier run.", metavar="RUN"),
    Option(
        "--no-report",
        "Store the run without page and JUnit; `kar report` renders them.",
        bool,
    ),
)
"""Options of a run alone, and of no command that only looks ahead."""


def selection_options() -> tuple[Option, ...]:
    """Return the options that choose checks and settings, those of the topics included."""
    from kar_checks.checks.registry import topics

    own = [
        replace(option, panel=option.panel or topic.title)
        for topic in topics()
        for option in topic.options
    ]
    return (*_SELECTION, *own)


def all_options() -> tuple[Option, ...]:
    """Return every option of ``kar run`` that plain pytest has, too."""
    return (*CLUSTER, *selection_options(), *RUN)


def arguments(given: Given, options: Options) -> tuple[str, ...]:
    """Return the words by which a `kar run` elsewhere gets the same choices, but for the cluster.

    Images are those of the target, so that the local cluster's own come along.
    """
    images = [f"{name}={reference}" for name, reference in options.target.images.items()]
    return (
        *spelled([SELECT], given),
        *CLUSTER_NAME.spelled(options.cluster_name),
        *IMAGE.spelled(images),
        *spelled([one for one in OBJECTS if one is not IMAGE], given),
        *spelled([one for one in selection_options() if one is not SELECT], given),
    )


def run_line(given: Given, options: Options, more: list[str]) -> str:
    """Return the `kar run` with the same choices, and ``more`` options, as a line to paste."""
    words = arguments(given, options)
    # The local cluster and a profile bring their images themselves.
    own = set(spelled([IMAGE], given))
    kept = [word for word in words if not word.startswith("--image=") or word in own]
    if options.local_cluster and not given.get("cluster_name"):
        kept = [word for word in kept if not word.startswith("--cluster-name=")]
    return shlex.join(
        ["kar", "run", *spelled(WHERE, given), *kept, *(one for one in more if one not in kept)]
    )


def build(given: Given) -> Options:
    """Turn what the user gave into the options of a run; a profile's target comes first.

    Raises:
        ValueError: an option cannot be used (``UsageError`` and ``ProfileError`` among them).
        NothingToRepeat: every check of the run that is to be repeated passed.
        HarnessError: the local cluster does not run.
        StoreError: there is no such run to repeat.
    """
    from kar_checks import profile as profiles
    from kar_checks import repeat
    from kar_checks.kit.topic import DISRUPTIONS
    from kar_checks.local import local_kubeconfig
    from kar_checks.options import Options, UsageError, parse_fail_on

    given = {one.dest: one.start for one in all_options()} | {**given}
    earlier: dict[str, Any] = {}
    if given["again"]:
        given, earlier = repeat.what_did_not_pass(given)
    if given["max_disruption"] not in DISRUPTIONS:
        raise UsageError(f"--max-disruption must be one of {', '.join(DISRUPTIONS)}")
    profile = profiles.load(given["profile"], _assignments(given))
    local = given["local_cluster"]
    kubeconfig = given["kubeconfig"]
    if given["in_cluster"] and (kubeconfig or given["context"] or local):
        raise UsageError("--in-cluster and another cluster were given: name one")
    if local:
        kubeconfig = local_kubeconfig()
    selectors = [*(given["select"] or ()), *(f"KAR-{one}" for one in given["kar"] or ())]
    return Options(
        kubeconfig=kubeconfig,
        context=given["context"] or None,
        local_cluster=local,
        in_cluster=given["in_cluster"],
        cluster_name=given["cluster_name"] or ("local cluster" if local else ""),
        select=selectors or profile.select,
        profile=profile,
        profile_file=given["profile"],
        output=given["output"],
        keep_on_failure=given["keep_on_failure"],
        fail_on=parse_fail_on(given["fail_on"]),
        render=not given["no_report"],
        max_disruption=given["max_disruption"],
        target=_target(given, profile, earlier),
    )


def _assignments(given: Given) -> list[str]:
    """Return settings as ``KEY=VALUE``: those of ``--set``, and those with an option."""
    out = list(given["set"] or ())
    for option in selection_options():
        value = given[option.dest]
        if option is SELECT or not option.key or not was_given(value):
            continue
        whole = isinstance(value, float) and value.is_integer()
        out.append(f"{option.key}={int(value) if whole else value}")
    return out


def _target(given: Given, profile: Profile, earlier: dict[str, Any]) -> Target:
    """Return what reaches every object; the user's options win over profile and earlier run."""
    from pydantic import ValidationError

    from kar_checks.checks.registry import topics
    from kar_checks.cluster.target import Target, parse_pairs, parse_toleration
    from kar_checks.kit.topic import load
    from kar_checks.local import local_images
    from kar_checks.options import UsageError

    read: dict[str, Callable[[Sequence[str], str], Any]] = {
        "node_selector": parse_pairs,
        "labels": parse_pairs,
        "annotations": parse_pairs,
        "images": parse_pairs,
        "tolerations": lambda values, _: [parse_toleration(one) for one in values],
        "run_as_user": lambda *_: None,
    }
    own: dict[str, Any] = {}
    for option in OBJECTS:
        field, value = option.key.removeprefix("target."), given[option.dest]
        if value:
            own[field] = read[field](value, option.name) if field in read else value
    if given["local_cluster"]:
        own["images"] = {**local_images(), **own.get("images", {})}
    for topic in topics():
        if topic.stack_namespace and (found := load(topic.stack_namespace)(profile)):
            own["stack_namespace"] = found
    try:
        return Target.model_validate({**earlier, **profile.target, **own})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("target", *first["loc"]))
        raise UsageError(f"the profile {given['profile']}: {place}: {first['msg']}") from error
