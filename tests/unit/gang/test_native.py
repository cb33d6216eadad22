"""The native API: found by discovery, read back, and its words understood."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks.checks.gang.native import Native
from kar_checks.checks.gang.pods import Shape, filler, manifests, pod
from kar_checks.cluster.client import Object
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import Trial

SHAPE = Shape(hostname="n1", image="image", probe="probe", millicores=50)


def facts(*versions: str) -> Facts:
    served = {("scheduling.k8s.io", one, "podgroups") for one in versions}
    served |= {("scheduling.volcano.sh", "v1beta1", "podgroups"), ("", "v1", "pods")}
    return Facts("v1.37.0", "me", "uid", [], frozenset(served))


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["v1beta1", "v1alpha3"], "scheduling.k8s.io/v1beta1"),
        (["v1alpha3"], "scheduling.k8s.io/v1alpha3"),
        (["v1alpha2"], "scheduling.k8s.io/v1alpha2"),
        (["v1alpha1"], ""),
        ([], ""),
    ],
)
def test_the_newest_known_version_is_taken(versions: list[str], expected: str) -> None:
    assert Native().detect(facts(*versions)) == expected


def test_a_member_differs_from_a_plain_pod_by_its_group_only() -> None:
    plain = pod(SHAPE, group="g", role="gang", rank=1, size=4)
    member = Native().join(plain, "g")
    assert member["spec"].pop("schedulingGroup") == {"podGroupName": "g"}
    assert member == plain


@pytest.mark.parametrize(
    ("spec", "joined"),
    [
        ({"schedulingGroup": {"podGroupName": "g"}}, True),
        ({"schedulingGroup": {"podGroupName": "other"}}, False),
        ({"schedulingGroup": None}, False),
        ({}, False),
    ],
)
def test_the_field_is_read_back(spec: Object, joined: bool) -> None:
    assert Native().joined({"spec": spec}, "g") is joined


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (200, 'kubernetes_feature_enabled{name="GenericWorkload",stage="BETA"} 1', "mutated"),
        (200, 'kubernetes_feature_enabled{name="GenericWorkload",stage="BETA"} 0', "field_dropped"),
        (200, 'kubernetes_feature_enabled{name="Other",stage="BETA"} 1', "field_dropped"),
        (403, "forbidden", "field_dropped"),
    ],
)
def test_who_took_the_field(status: int, text: str, reason: str) -> None:
    cluster = SimpleNamespace(raw=lambda *_args, **_more: (status, f"# HELP\n{text}\n"))
    trial = cast("Trial", SimpleNamespace(cluster=cluster))
    assert Native().why_not_joined(trial, {}).reason == reason


def condition(kind: str, status: str, reason: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": "m"}


@pytest.mark.parametrize(
    ("conditions", "refused", "broken"),
    [
        ([condition("PodGroupInitiallyScheduled", "False", "Unschedulable")], True, False),
        ([condition("PodGroupScheduled", "False", "Unschedulable")], True, False),
        ([condition("PodGroupInitiallyScheduled", "False", "SchedulerError")], False, True),
        ([condition("PodGroupInitiallyScheduled", "True", "Scheduled")], False, False),
        ([condition("DisruptionTarget", "True", "PreemptionByScheduler")], False, False),
        ([], False, False),
    ],
)
def test_what_the_scheduler_says(conditions: list[Object], refused: bool, broken: bool) -> None:
    events = [
        {"involvedObject": {"name": "g-0"}, "message": "0/3 nodes are available"},
        {"involvedObject": {"name": "g-0"}, "message": "pod group is unschedulable"},
        {"involvedObject": {"name": "other-0"}, "message": "not ours"},
    ]
    cluster: Any = SimpleNamespace(
        find=lambda *_: {"status": {"conditions": conditions}},
        list=lambda *_args, **_more: SimpleNamespace(items=events),
    )
    trial = cast("Trial", SimpleNamespace(cluster=cluster, namespace="n"))
    found = Native().refusal(trial, "g", ["g-0"])
    assert (found.refused, found.scheduler_error) == (refused, broken)
    assert found.events == ["pod group is unschedulable", "0/3 nodes are available"]


def test_a_filler_takes_what_it_is_told() -> None:
    resources = filler(SHAPE, group="f", millicores=12345)["spec"]["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == "12345m"


def test_every_manifest_renders() -> None:
    assert {body["kind"] for _, body in manifests(Target())} == {"Pod", "Service"}
