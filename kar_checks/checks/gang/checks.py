"""The checks of gang scheduling, as data."""

from __future__ import annotations

from dataclasses import replace

from kar_checks.checks.gang.kueue import CONFIG_NAME, CONFIG_NAMESPACE
from kar_checks.kit.topic import Check, Needs, Right, Topic

_KUEUE = "kueue.x-k8s.io"
_POD_GROUPS = {
    "native": "scheduling.k8s.io",
    "volcano": "scheduling.volcano.sh",
    "coscheduling": "scheduling.x-k8s.io",
}
"""Three APIs have a kind ``PodGroup``."""
_PLACING = ("native", "volcano", "coscheduling", "custom")
"""Those that place pods; Kueue asks no node."""


def _of(variants: tuple[str, ...], verbs: tuple[str, ...], group: str, resource: str) -> Right:
    """Return a right that only these variants need; without it only they are not measured."""
    return Right(verbs, group, resource, optional=True, variants=variants)


_NEEDS = Needs(
    rights=(
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("get",), "", "pods/log"),
        Right(("create", "get", "delete"), "", "services"),
        Right(("create", "get", "delete"), "", "configmaps"),
        Right(("list",), "", "events"),
        *(
            _of((name,), ("create", "get", "list", "watch", "delete"), group, "podgroups")
            for name, group in _POD_GROUPS.items()
        ),
        # The room on a node follows from all pods on it, and what happens there must be seen.
        Right(("list", "watch"), "", "pods", cluster=True, variants=_PLACING),
        Right(("list", "watch"), "", "nodes", cluster=True, variants=_PLACING),
        _of(("kueue",), ("list", "watch", "delete"), _KUEUE, "workloads"),
        _of(("kueue",), ("get", "list", "watch"), _KUEUE, "localqueues"),
        _of(("kueue",), ("create", "get", "watch", "delete"), "batch", "jobs"),
        *(
            replace(
                _of(("kueue",), ("create", "get", "list", "watch", "delete"), _KUEUE, resource),
                cluster=resource != "localqueues",
                unless="gang.kueue_local_queue",
            )
            for resource in ("localqueues", "clusterqueues", "resourceflavors", "topologies")
        ),
    ),
)

_KUEUES_CONFIG = Right(
    ("get",),
    "",
    "configmaps",
    optional=True,
    variants=("kueue",),
    namespace=CONFIG_NAMESPACE,
    name=CONFIG_NAME,
    only_for="whether Kueue takes back a gang that does not start as a whole",
    api=_KUEUE,
)

TOPIC = Topic(
    id="gang",
    title="Gang scheduling",
    label="KAR-53",
    requirement="gang_scheduling",
    any_of=True,
    variants="gang.backends",
    official_link="https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars/0053-gang-scheduling",
    trial="kar_checks.checks.gang.trial:run",
    judge="kar_checks.checks.gang.judge:judge",
    observation="kar_checks.checks.gang.observation:GangObservation",
    tests="kar_checks.checks.gang.test_gang",
    manifests="kar_checks.checks.gang.pods:manifests",
    common_needs=_NEEDS,
    checks=(
        Check(
            id="gang.all_or_nothing",
            title="A gang that does not fit starts nothing",
            proves="On a node with room for two of four pods, four plain pods start two; the same "
            "four pods as a gang start none during the whole window, the scheduler reports that "
            "the group does not fit, and two plain pods bind at once beside it: there was room.",
            fails_when="A pod of the gang is bound to a node while there is no room for all.",
            needs=Needs(rights=(_KUEUES_CONFIG,)),
            budget_seconds=120,
            disruption="capacity",
        ),
        Check(
            id="gang.release",
            title="A waiting gang starts as a whole when there is room",
            proves="When the pod that filled the node is gone, all members of the waiting gang "
            "are bound, are connected to each other at the same instant, and complete.",
            fails_when="There is room for all, and only some of the members are bound, or none "
            "are although plain pods of the same shape are.",
            budget_seconds=120,
            disruption="capacity",
        ),
        Check(
            id="gang.fits",
            title="A gang that fits runs, completes and gives the room back",
            proves="A gang in a room of exactly its size is bound as a whole, its members meet and "
            "complete, and as many plain pods then bind at once in the room that it left.",
            fails_when="There is room for all, and only some of the members are bound, or none "
            "are although plain pods of the same shape are.",
            budget_seconds=120,
            disruption="capacity",
        ),
        Check(
            id="gang.incomplete_waits",
            title="A gang with a member missing waits for it",
            proves="Three members of a gang of four wait although there is room for all four; "
            "with the fourth all are bound: nothing but the missing member held them.",
            fails_when="A member is bound before the gang is complete, or the complete gang is "
            "bound only in part.",
            budget_seconds=120,
            disruption="capacity",
        ),
        Check(
            id="gang.two_gangs",
            title="Two gangs that compete run one after the other",
            proves="Two gangs of three, created in turns, wait for the same four places. When the "
            "places become free one gang takes three of them, the other starts nothing though a "
            "plain pod fits beside it, and runs when the first is done.",
            fails_when="Both gangs hold some of the places and neither can go on, or the second "
            "one starts in part, or it does not start after the first is done.",
            budget_seconds=120,
            disruption="capacity",
        ),
    ),
)
