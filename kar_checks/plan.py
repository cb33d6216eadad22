"""One place answers "why will this not run here?", before anything is created."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from kar_checks.cluster.access import BASE_OWN_NAMESPACE, NeededRight
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts, may, why_unusable
from kar_checks.cluster.target import Target
from kar_checks.kit.topic import DISRUPTIONS, Check, Cost, Disruption, Right, Topic, load
from kar_checks.model import Outcome, PlannedCheck, Reason
from kar_checks.profile import Profile

Allowed = Callable[[NeededRight], bool]


def why_not(
    topic: Topic,
    check: Check,
    facts: Facts,
    target: Target,
    profile: Profile,
    *,
    allowed: Allowed,
    max_disruption: Disruption = "network",
) -> PlannedCheck:
    """Return the plan of one check: it runs, or the outcome it gets instead and the reason."""
    if DISRUPTIONS.index(check.disruption) > DISRUPTIONS.index(max_disruption):
        return _not(
            check,
            Outcome.SKIPPED,
            "max_disruption",
            f"it may disturb {check.disruption}, and --max-disruption {max_disruption} forbids it",
        )
    for since in (topic.common_needs.since, check.needs.since):
        if since and facts.minor < _minor(since):
            return _not(
                check,
                Outcome.NOT_APPLICABLE,
                "kubernetes_version",
                f"the capability exists since Kubernetes {since}, this server runs {facts.version}",
            )
    needed = needed_rights([(topic, check)], target, profile)
    absent = [one for one in needed if not one.optional and not allowed(one)]
    if absent:
        return _not(
            check,
            Outcome.ERROR,
            Reason.FORBIDDEN.value,
            f"missing rights: {'; '.join(str(one) for one in absent)}",
            "grant what `kar rbac` prints for this selection",
        )
    return _enough_nodes(check, facts, target) or PlannedCheck(check=check.id, runs=True)


def _enough_nodes(check: Check, facts: Facts, target: Target) -> PlannedCheck | None:
    if facts.nodes is None:
        return None  # not allowed to look; a check that needs nodes says so by its rights
    usable = facts.usable_nodes(target)
    if len(usable) >= check.needs.nodes:
        return None
    why = "; ".join(
        f"{one['metadata']['name']}: {reason}"
        for one in facts.nodes[:8]
        if (reason := why_unusable(one, target))
    )
    return _not(
        check,
        Outcome.ERROR,
        Reason.UNSCHEDULABLE.value,
        f"it needs {check.needs.nodes} usable nodes and there are {len(usable)}"
        + (f" ({why})" if why else ""),
        "choose nodes with --node-selector and --toleration" if facts.nodes else "add a node",
    )


def _not(
    check: Check, outcome: Outcome, reason: str, message: str, advice: str = ""
) -> PlannedCheck:
    return PlannedCheck(
        check=check.id, runs=False, outcome=outcome, reason=reason, message=message, help=advice
    )


def _minor(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def needed_rights(
    selection: Iterable[tuple[Topic, Check]], target: Target, profile: Profile
) -> list[NeededRight]:
    """Return every right that a selection uses, one verb at a time, each once."""
    rights: dict[NeededRight, None] = {}
    if not target.namespace:
        rights.update(dict.fromkeys(BASE_OWN_NAMESPACE))
    for topic, check in selection:
        for right in topic.rights(check, profile):
            where = target.stack_namespace if right.stack else right.namespace
            rights.update(dict.fromkeys(_verbs(right, where)))
    return list(rights)


def _verbs(right: Right, where: str) -> list[NeededRight]:
    return [
        NeededRight(
            verb=verb,
            group=right.group,
            resource=right.resource,
            cluster=right.cluster,
            optional=right.optional,
            namespace=where,
            name=right.name,
            only_for=right.only_for,
            api=right.api,
        )
        for verb in right.verbs
    ]


def most_seconds(topic: Topic, chosen: frozenset[str], profile: Profile, nodes: int) -> float:
    """Return how long measuring a topic may take.

    That is the largest budget of its chosen checks, which share it, or what the profile's choices
    make of it if that is longer. Choices that cannot be used are left for the trial to tell.
    """
    budget = float(max(one.budget_seconds for one in topic.checks if one.id in chosen))
    if not topic.estimate:
        return budget
    try:
        cost: Cost = load(topic.estimate)(profile, nodes, chosen)
    except HarnessError:
        return budget
    return max(budget, cost.seconds)


def longest(selection: Iterable[tuple[Topic, Check]], profile: Profile, nodes: int) -> float:
    """Return how long a run of these checks may take in seconds, without cleaning up."""
    chosen = list(selection)
    topics = {topic.id: topic for topic, _ in chosen}
    seconds = {
        name: most_seconds(
            topic, frozenset(check.id for one, check in chosen if one.id == name), profile, nodes
        )
        for name, topic in topics.items()
    }
    return max(float(sum(check.budget_seconds for _, check in chosen)), sum(seconds.values()))


def needed_images(selection: Iterable[tuple[Topic, Check]], target: Target) -> dict[str, str]:
    """Return the images that a selection uses, by name, as this target refers to them."""
    names: dict[str, None] = {}
    for topic, check in selection:
        names.update(dict.fromkeys((*topic.common_needs.images, *check.needs.images)))
    return {name: target.image(name) for name in names}


def ask_server(cluster: Cluster, namespace: str, rights: Iterable[NeededRight]) -> Allowed:
    """Ask the server for each right once, several at a time, and return the answers."""
    wanted = list(dict.fromkeys(rights))

    def ask(one: NeededRight) -> bool:
        where = "" if one.cluster else one.namespace or namespace
        return may(cluster, one.verb, one.group, one.resource, where, one.name)

    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = dict(zip(wanted, pool.map(ask, wanted), strict=True))
    return lambda one: answers[one]
