from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kar_checks.checks.registry import topics
from kar_checks.cluster.access import NeededRight
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.target import Target, Toleration
from kar_checks.kit.topic import Check, Cost, Disruption, Needs, Right, Topic
from kar_checks.kit.topic import load as entry_point
from kar_checks.model import Outcome, PlannedCheck, Reason
from kar_checks.plan import ask_server, longest, most_seconds, needed_images, needed_rights, why_not
from kar_checks.profile import Profile, default, load
from tests.unit.apiserver import ApiServer

PODS = Right(("create", "get"), "", "pods")
NODES = Right(("list",), "", "nodes", cluster=True)
CHECK = Check(
    id="toy.works",
    title="t",
    proves="p",
    fails_when="f",
    budget_seconds=1,
    disruption="capacity",
    needs=Needs(since="1.34", nodes=2, rights=(NODES,)),
)
TOPIC = Topic(
    id="toy",
    title="t",
    label="l",
    checks=(CHECK,),
    trial="",
    judge="",
    observation="",
    tests="",
    manifests="",
    common_needs=Needs(since="1.33", rights=(PODS,)),
)


def node(name: str, **more: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **more.pop("labels", {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": more,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


FACTS = Facts(
    version="v1.37.0",
    user="somebody",
    cluster_uid="u",
    nodes=[node("a"), node("b")],
    served=frozenset(),
)


def plan(
    facts: Facts = FACTS,
    *,
    target: Target | None = None,
    refused: str = "",
    most: Disruption = "network",
) -> PlannedCheck:
    return why_not(
        TOPIC,
        CHECK,
        facts,
        target or Target(),
        default(),
        allowed=lambda one: one.resource != refused,
        max_disruption=most,
    )


def test_where_nothing_is_in_the_way_it_runs() -> None:
    assert plan() == PlannedCheck(check="toy.works", runs=True)


@pytest.mark.parametrize(("most", "runs"), [("none", False), ("capacity", True), ("network", True)])
def test_a_check_that_may_disturb_too_much_is_skipped(most: Disruption, runs: bool) -> None:
    found = plan(most=most)
    assert found.runs is runs
    assert runs or (found.outcome, found.reason) == (Outcome.SKIPPED, "max_disruption")


@pytest.mark.parametrize(
    ("version", "since"), [("v1.32.9", "1.33"), ("v1.33.1-gke.2", "1.34"), ("v1.34.0", "")]
)
def test_before_the_capability_existed_it_does_not_apply(version: str, since: str) -> None:
    found = plan(replace(FACTS, version=version))
    assert found.runs is (since == "")
    if since:
        assert (found.outcome, found.reason) == (Outcome.NOT_APPLICABLE, "kubernetes_version")
        assert f"since Kubernetes {since}, this server runs {version}" in found.message


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("pods", "create pods in the namespace; get pods in the namespace"),
        ("nodes", "list nodes cluster-wide"),
        ("namespaces", "create namespaces cluster-wide"),
    ],
)
def test_a_missing_right_is_an_error_that_names_it(refused: str, told: str) -> None:
    found = plan(refused=refused)
    assert (found.outcome, found.reason) == (Outcome.ERROR, "forbidden")
    assert told in found.message
    assert "kar rbac" in found.help


def test_in_a_namespace_that_exists_none_need_be_made() -> None:
    assert plan(target=Target(namespace="team-a"), refused="namespaces").runs


UNUSABLE = [
    (node("b", unschedulable=True), "b: it is cordoned"),
    (node("b", labels={"kubernetes.io/os": "windows"}), "b: it does not run Linux"),
    (node("b", labels={"kubernetes.io/arch": "s390x"}), "b: its architecture is s390x"),
    (
        node("b", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
        "give --toleration gpu=yes:NoSchedule",
    ),
    ({**node("b"), "status": {}}, "b: it is not Ready"),
]


@pytest.mark.parametrize(("other", "why"), UNUSABLE)
def test_too_few_usable_nodes_are_an_error_that_says_why(other: dict[str, Any], why: str) -> None:
    found = plan(replace(FACTS, nodes=[node("a"), other]))
    assert (found.outcome, found.reason) == (Outcome.ERROR, "unschedulable")
    assert "needs 2 usable nodes and there are 1" in found.message
    assert why in found.message


def test_a_soft_taint_and_a_tolerated_one_leave_a_node_usable() -> None:
    soft = node("b", taints=[{"key": "busy", "effect": "PreferNoSchedule"}])
    assert plan(replace(FACTS, nodes=[node("a"), soft])).runs
    target = Target(tolerations=[Toleration(key="gpu", operator="Equal", value="yes")])
    assert plan(replace(FACTS, nodes=[node("a"), UNUSABLE[3][0]]), target=target).runs


def test_the_node_selector_leaves_nodes_out() -> None:
    found = plan(target=Target(node_selector={"pool": "ai"}))
    assert "a: it lacks the label pool=ai of --node-selector" in found.message


def test_nodes_that_may_not_be_seen_stop_nothing() -> None:
    assert plan(replace(FACTS, nodes=None)).runs


def test_without_any_node_the_advice_is_to_add_one() -> None:
    assert plan(replace(FACTS, nodes=[])).help == "add a node"


def test_reasons_come_in_order() -> None:
    """What the user chose, what never applies, what is refused, and what lacks room."""
    everything = replace(FACTS, version="v1.32.0", nodes=[])
    assert plan(everything, refused="pods", most="none").reason == "max_disruption"
    assert plan(everything, refused="pods").reason == "kubernetes_version"
    assert plan(replace(everything, version="v1.37.0"), refused="pods").reason == "forbidden"
    assert plan(replace(everything, version="v1.37.0")).reason == "unschedulable"


def test_a_check_runs_without_an_optional_right() -> None:
    groups = Right(("create",), "scheduling.example", "podgroups", optional=True)
    check = replace(CHECK, needs=replace(CHECK.needs, rights=(NODES, groups)))
    without = why_not(
        TOPIC, check, FACTS, Target(), default(), allowed=lambda one: one.resource != "podgroups"
    )
    assert without.runs
    assert NeededRight("create", "scheduling.example", "podgroups", False, True) in needed_rights(
        [(TOPIC, check)], Target(), default()
    )


def test_rights_are_needed_once_and_verb_by_verb() -> None:
    selection = [(TOPIC, CHECK), (TOPIC, CHECK)]
    found = needed_rights(selection, Target(namespace="team-a"), default())
    assert [str(one) for one in found] == [
        "create pods in the namespace",
        "get pods in the namespace",
        "list nodes cluster-wide",
    ]
    more = needed_rights(selection, Target(), default())
    own = {str(one) for one in more} - {str(one) for one in found}
    assert own == {f"{verb} namespaces cluster-wide" for verb in _NAMESPACE_VERBS}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ((), ["podgroups", "clusterqueues"]),
        (("gang.backends=native",), ["podgroups"]),
        (("gang.backends=kueue, volcano",), ["clusterqueues"]),
        (("gang.kueue_local_queue=mine",), ["podgroups"]),
    ],
)
def test_rights_follow_from_what_was_chosen(settings: tuple[str, ...], wanted: list[str]) -> None:
    rights = (
        Right(("get",), "scheduling.k8s.io", "podgroups", variants=("native",)),
        Right(
            ("get",), "kueue.x-k8s.io", "clusterqueues", cluster=True, variants=("kueue",),
            unless="gang.kueue_local_queue",
        ),
    )  # fmt: skip
    topic = replace(TOPIC, common_needs=Needs(rights=rights), variants="gang.backends")
    check = replace(CHECK, needs=Needs())
    found = needed_rights([(topic, check)], Target(namespace="n"), load(None, settings))
    assert [one.resource for one in found] == wanted


_NAMESPACE_VERBS = ("create", "delete", "get", "list", "watch")


def test_images_are_those_of_the_target() -> None:
    target = Target(images={"python": "mirror/python:1"})
    assert needed_images([(TOPIC, CHECK)], target) == {"python": "mirror/python:1"}


def slow(_: Profile, nodes: int, __: frozenset[str]) -> Cost:
    if not nodes:
        raise HarnessError(Reason.UNUSABLE_SETTING, "none")
    return Cost(seconds=40.0 * nodes, told="")


def test_a_run_may_last_as_long_as_the_profile_makes_it() -> None:
    quick = replace(TOPIC, id="quick", checks=(CHECK, CHECK))
    both = replace(TOPIC, estimate=f"{__name__}:slow")
    chosen = frozenset([CHECK.id])
    assert most_seconds(quick, chosen, default(), 3) == 1
    assert most_seconds(both, chosen, default(), 3) == 120
    assert most_seconds(both, chosen, default(), 0) == 1
    assert longest([(both, CHECK), (quick, CHECK)], default(), 3) == 121
    assert longest([(quick, CHECK), (quick, CHECK)], default(), 3) == 2


def test_every_topic_that_estimates_says_seconds_and_a_sentence() -> None:
    costing = [topic for topic in topics() if topic.estimate]
    assert {topic.id for topic in costing} == {"throughput", "official"}
    for topic in costing:
        checks = frozenset(one.id for one in topic.checks)
        cost: Cost = entry_point(topic.estimate)(default(), 3, checks)
        assert cost.told
        assert most_seconds(topic, checks, default(), 3) >= cost.seconds > 0


def test_the_server_is_asked_for_each_right_once(cluster: Cluster, api: ApiServer) -> None:
    api.denied = {"nodes"}
    pods = NeededRight("create", "", "pods/resize", cluster=False)
    nodes = NeededRight("list", "", "nodes", cluster=True)
    one_map = NeededRight("get", "", "configmaps", cluster=False, namespace="far", name="config")
    allowed = ask_server(cluster, "team-a", [pods, nodes, pods, one_map])
    assert (allowed(pods), allowed(nodes), allowed(one_map)) == (True, False, True)
    asked = [one.body["spec"]["resourceAttributes"] for one in api.requests]
    assert sorted(asked, key=lambda one: str(one["resource"])) == [
        {
            "verb": "get",
            "group": "",
            "resource": "configmaps",
            "namespace": "far",
            "name": "config",
        },
        {"verb": "list", "group": "", "resource": "nodes", "namespace": ""},
        {
            "verb": "create",
            "group": "",
            "resource": "pods",
            "subresource": "resize",
            "namespace": "team-a",
        },
    ]
