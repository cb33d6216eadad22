"""Described gang schedulers (Volcano, coscheduling, the user's own), with objects as seen."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks import profile
from kar_checks.checks.gang.described import Described, coscheduling, custom, volcano
from kar_checks.checks.gang.pods import Shape, pod
from kar_checks.cluster import kinds, wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason
from kar_checks.profile import Profile, Setting

SHAPE = Shape(hostname="n1", image="image", probe="probe", millicores=50)
GROUP = "volcano-squeeze-gang"


def settings(**given: str) -> Profile:
    base = profile.default()
    own = {
        f"gang.{key}": Setting(value=value, origin="test", date=date(2026, 11, 22))
        for key, value in given.items()
    }
    return base.model_copy(update={"settings": {**base.settings, **own}})


def facts(*served: tuple[str, str, str]) -> Facts:
    return Facts("v1.37.0", "me", "uid", [], frozenset({("", "v1", "pods"), *served}))


class Api:
    """Keeps what is created, changed as an admission webhook would, and answers for the trial."""

    namespace = "n"

    def __init__(self, change: Any = lambda _: None, **stored: Object) -> None:
        self.change, self.stored = change, stored
        self.calls: list[tuple[str, str, str]] = []
        self.events: list[Object] = []
        self.resources: list[Object] = []
        self.workspace = self.cluster = self

    def create(self, kind: Kind, body: Object) -> Object:
        self.calls.append(("create", kind.path(), body["metadata"]["name"]))
        self.change(body)
        return body

    def delete(self, kind: Kind, name: str, *, seconds: float) -> bool:
        self.calls.append(("delete", kind.path(), name))
        return seconds == 0

    def get(self, kind: Kind, name: str, _: str) -> Object:
        return self.stored[name.replace("-", "_")]

    find = get

    def list(self, kind: Kind, _: str, *, fields: str) -> Any:
        assert (kind, "reason=FailedScheduling" in fields) == (kinds.EVENT, True)
        return SimpleNamespace(items=self.events)

    def call(self, method: str, path: str) -> Object:
        self.calls.append((method, path, ""))
        return {"resources": self.resources}

    @property
    def trial(self) -> Trial:
        return cast("Trial", self)


@pytest.mark.parametrize(
    ("describe", "served", "expected"),
    [
        (
            volcano,
            ("scheduling.volcano.sh", "v1beta1", "podgroups"),
            "scheduling.volcano.sh/v1beta1",
        ),
        (
            coscheduling,
            ("scheduling.x-k8s.io", "v1alpha1", "podgroups"),
            "scheduling.x-k8s.io/v1alpha1",
        ),
        (volcano, ("scheduling.x-k8s.io", "v1alpha1", "podgroups"), ""),
        (coscheduling, ("scheduling.k8s.io", "v1beta1", "podgroups"), ""),
        (custom, ("scheduling.x-k8s.io", "v1alpha1", "podgroups"), ""),
    ],
)
def test_three_apis_have_a_pod_group(
    describe: Any, served: tuple[str, str, str], expected: str
) -> None:
    assert Described(describe(settings())).detect(facts(served)) == expected


def test_of_the_users_own_the_user_says_that_it_is_there() -> None:
    found = Described(custom(settings(custom_scheduler="mine")))
    assert found.detect(facts()) == "schedulerName mine"
    assert found.scheduler == "mine"


@pytest.mark.parametrize(
    ("describe", "place", "mark"),
    [
        (volcano, "annotations", {"scheduling.k8s.io/group-name": GROUP}),
        (coscheduling, "labels", {"scheduling.x-k8s.io/pod-group": GROUP}),
    ],
)
def test_a_member_differs_from_a_plain_pod_by_its_mark_only(
    describe: Any, place: str, mark: dict[str, str]
) -> None:
    backend = Described(describe(settings()))
    plain = pod(SHAPE, group=GROUP, role="gang", rank=1, size=4)
    member = backend.join(plain, GROUP)
    assert backend.joined(member, GROUP)
    assert not backend.joined(plain, GROUP)
    (key, value), found = *mark.items(), member["metadata"][place]
    assert found.pop(key) == value
    assert {**member, "metadata": {**member["metadata"], place: found}} == {
        **plain,
        "metadata": {**plain["metadata"], place: plain["metadata"].get(place, {})},
    }


def test_a_mark_that_got_lost_is_named() -> None:
    backend = Described(volcano(settings()))
    stored = backend.join(pod(SHAPE, group=GROUP, role="gang", rank=1, size=4), GROUP)
    stored["metadata"]["annotations"]["scheduling.k8s.io/group-name"] = "another"
    assert not backend.joined(stored, GROUP)
    problem = backend.why_not_joined(Api().trial, stored)
    assert problem.reason == "mutated"
    assert "annotation scheduling.k8s.io/group-name" in problem.text


@pytest.mark.parametrize(
    ("describe", "path", "spec"),
    [
        (
            volcano,
            "/apis/scheduling.volcano.sh/v1beta1/podgroups",
            {"minMember": 4, "queue": "default"},
        ),
        (
            coscheduling,
            "/apis/scheduling.x-k8s.io/v1alpha1/podgroups",
            {"minMember": 4, "scheduleTimeoutSeconds": 5},
        ),
    ],
)
def test_the_group_is_made_read_back_and_removed(describe: Any, path: str, spec: Object) -> None:
    backend = Described(describe(settings()))
    seen: list[Object] = []
    api = Api(change=seen.append)
    assert backend.create_group(api.trial, "g", 4) == 4
    assert seen[0]["spec"] == spec
    backend.delete_group(api.trial, "g")
    backend.delete_group(api.trial, "g")
    assert api.calls == [("create", path, "g"), ("delete", path, "g")]


@pytest.mark.parametrize(("stored", "size"), [(1, 1), (None, 0), ("4", 0)])
def test_a_group_whose_size_was_changed_is_noticed(stored: Any, size: int) -> None:
    api = Api(change=lambda body: body["spec"].update(minMember=stored))
    assert Described(volcano(settings())).create_group(api.trial, "g", 4) == size


def test_groups_wait_longer_than_coscheduling_holds_places() -> None:
    backend = Described(coscheduling(settings()))
    seen: list[Object] = []
    backend.create_group(Api(change=seen.append).trial, "g", 4)
    held = seen[0]["spec"]["scheduleTimeoutSeconds"]
    windows = ("gang.window_seconds", "gang.incomplete_seconds", "gang.bind_seconds")
    assert all(held < profile.default().number(one) for one in windows)


INSUFFICIENT = (
    "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node "
    "affinity/selector. preemption: 0/3 nodes are available: 1 No preemption victims found for "
    "incoming pod, 2 Preemption is not helpful for scheduling., PodGroup n/g gets rejected due to "
    "Pod g-1 is unschedulable even after PostFilter"
)
OPTIMISTIC = "0/1 nodes are available: 1 optimistic rejection in PostFilter."


def refused(message: str, **more: str) -> Object:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", **more}
    return {"status": {"conditions": [{**said, "message": message}]}}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([refused(OPTIMISTIC), refused(INSUFFICIENT)], True),
        ([refused(INSUFFICIENT), {"status": {}}], False),
        ([refused(INSUFFICIENT), refused(OPTIMISTIC, reason="SchedulerError")], False),
        ([refused(INSUFFICIENT), refused("", status="True")], False),
    ],
)
def test_without_a_condition_of_the_group_every_member_must_be_refused(
    pods: list[Object], expected: bool
) -> None:
    backend = Described(coscheduling(settings()))
    api = Api(**{f"g_{rank}": one for rank, one in enumerate(pods)})
    api.events = [
        {"involvedObject": {"name": "g-0"}, "message": OPTIMISTIC},
        {"involvedObject": {"name": "g-1"}, "message": INSUFFICIENT},
        {"involvedObject": {"name": "other-1"}, "message": "not ours"},
    ]
    found = backend.refusal(api.trial, "g", ["g-0", "g-1"])
    assert found.refused is expected
    assert found.events == [INSUFFICIENT, OPTIMISTIC]
    assert INSUFFICIENT in found.condition


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([("Unschedulable", "True", "NotEnoughResources")], True),
        ([("Unschedulable", "False", "")], False),
        ([("Scheduled", "True", "tasks in gang are ready to be scheduled")], False),
        ([], False),
    ],
)
def test_a_group_says_by_its_condition_that_it_does_not_fit(
    conditions: list[tuple[str, str, str]], expected: bool
) -> None:
    said = [{"type": t, "status": s, "reason": r, "message": "m"} for t, s, r in conditions]
    backend = Described(volcano(settings()))
    api = Api(g={"status": {"conditions": said}})
    backend.create_group(api.trial, "g", 4)
    found = backend.refusal(api.trial, "g", [])
    assert found.refused is expected
    assert found.condition == ("Unschedulable=True, NotEnoughResources: m" if expected else "")


OBJECTS = """
apiVersion: gangs.example/v1
kind: Gang
metadata: {name: "{{ group }}"}
spec: {members: {least: {{ size }}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ group }}-more"}
"""


def mine(**more: str) -> Described:
    return Described(custom(settings(custom_scheduler="mine", **more)))


def test_the_users_own_objects_are_made_as_described() -> None:
    backend = mine(custom_objects=OBJECTS, custom_size_field="spec.members.least")
    api = Api()
    api.resources = [
        {"name": "gangs/status", "kind": "Gang", "namespaced": True},
        {"name": "gangs", "kind": "Gang", "namespaced": True},
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
    ]
    assert backend.create_group(api.trial, "g", 4) == 4
    backend.delete_group(api.trial, "g")
    assert api.calls == [
        ("GET", "/apis/gangs.example/v1", ""),
        ("create", "/apis/gangs.example/v1/gangs", "g"),
        ("GET", "/api/v1", ""),
        ("create", "/api/v1/configmaps", "g-more"),
        ("delete", "/api/v1/configmaps", "g-more"),
        ("delete", "/apis/gangs.example/v1/gangs", "g"),
    ]


def test_a_size_that_cannot_be_read_back_is_taken_as_sent() -> None:
    assert mine().create_group(Api().trial, "g", 4) == 4


@pytest.mark.parametrize(
    ("given", "namespaced", "words"),
    [
        ({"custom_objects": "a: ["}, True, "cannot be used"),
        ({"custom_objects": "just words"}, True, "no Kubernetes object"),
        ({"custom_objects": OBJECTS.replace("group", "grop")}, True, "undefined"),
        ({"custom_objects": OBJECTS}, False, "whole cluster"),
        ({"custom_objects": OBJECTS.replace("Gang", "Band")}, True, "knows no Band"),
    ],
)
def test_a_description_that_cannot_be_used_says_why(
    given: dict[str, str], namespaced: bool, words: str
) -> None:
    api = Api()
    api.resources = [{"name": "gangs", "kind": "Gang", "namespaced": namespaced}]
    with pytest.raises(HarnessError, match=words):
        mine(**given).create_group(api.trial, "g", 4)


def test_labels_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(HarnessError, match="labels are not a mapping"):
        mine(custom_labels="- group").join({"metadata": {}}, "g")


def test_waiting_for_a_refusal_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def wait_for(_: object, kind: Kind, name: str, *__: object, **more: Any) -> None:
        asked.append(name)
        assert more["goal"](refused(INSUFFICIENT))
        # A pod that was let in will never be refused, and nobody waits for it.
        assert more["goal"]({"spec": {"nodeName": "n1"}})
        assert not more["goal"]({"spec": {}})
        if name == "g-1":
            raise HarnessError(Reason.TIMEOUT, "late")

    monkeypatch.setattr(wait, "wait_for", wait_for)
    backend = Described(coscheduling(settings()))
    backend.await_refusal(Api().trial, "g", ["g-0", "g-1", "g-2"], 1)
    assert asked == ["g-0", "g-1"]
