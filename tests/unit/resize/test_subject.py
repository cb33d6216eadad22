"""A pod under test against a small API server: what a proxy holds back is looked up."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.resize import kernel, plans
from kar_checks.checks.resize.subject import Subject
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import Trial
from tests.unit.apiserver import ApiServer
from tests.unit.resize import cases as c

PLAN = plans.plan_of("limits_only")
STEP = PLAN.steps[0]
KEY = ("v1", "ns", "pods", PLAN.pod)
SMALL = PLAN.containers[0].resources
RAISED = kernel.merged(SMALL, STEP.change[plans.MAIN])


def pod(resources: Any, generation: int) -> Object:
    name = {"name": plans.MAIN}
    status = {
        **name,
        "resources": resources,
        "allocatedResources": resources["requests"],
        "containerID": "containerd://one",
        "state": {"running": {"startedAt": "2026-11-22T11:59:00Z"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": PLAN.pod,
            "namespace": "ns",
            "uid": "ours",
            "generation": generation,
            "labels": {"app.kubernetes.io/name": "kar-resize"},
        },
        "spec": {"nodeName": "n1", "containers": [{**name, "resources": resources}]},
        "status": {
            "phase": "Running",
            "observedGeneration": generation,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [status],
        },
    }


@pytest.fixture
def trial(cluster: Cluster, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Trial:
    settings = profile.default()
    made = Trial(
        cluster=cluster,
        workspace=Workspace(cluster, Target(namespace="ns"), run_id="r1", until=time.time() + 60),
        facts=Facts(version="v1.37.0", user="", cluster_uid="", nodes=None, served=frozenset()),
        profile=settings,
        selected=frozenset({PLAN.check}),
    )

    def answer(_: Trial, _name: str, argv: Sequence[str], **_more: Any) -> str:
        question = json.loads(argv[-1])
        held = api.objects[KEY]["spec"]["containers"][0]["resources"]
        said = {
            "now": time.time(),
            "clock": time.monotonic(),
            "started": 100,
            "proof": c.proof(question["keep"]) if "keep" in question else "",
            "version": "v1",
            "page": 4096,
            "values": c.kernel_of(held).files,
            "counters": {"memory_bytes": 9},
            "changes": [(time.monotonic(), c.kernel_of(held).files)],
            "work": {},
        }
        return json.dumps(said)

    def start(_: Trial, _body: Object) -> Object:
        return copy.deepcopy(api.add(pod(SMALL, 1), "pods"))

    def number(_: Trial, key: str) -> float:
        return 1.5 if key == "resize.settle_seconds" else settings.number(key)

    monkeypatch.setattr(Trial, "output", answer)
    monkeypatch.setattr(Trial, "start_pod", start)
    monkeypatch.setattr(Trial, "number", number)
    return made


def resized(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server accepts a resize and still shows the old status; then the kubelet is done."""

    def patch(*_: Any, **__: Any) -> Object:
        asked = pod(RAISED, 2)
        asked["status"] = pod(SMALL, 1)["status"]
        api.put("MODIFIED", KEY, asked)
        accepted = copy.deepcopy(asked)
        api.put("MODIFIED", KEY, pod(RAISED, 2))
        return accepted

    monkeypatch.setattr(Cluster, "patch", patch)


def test_a_watch_that_a_proxy_swallows_is_no_failure(
    trial: Trial, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(trial, PLAN)
    subject.start()
    resized(api, monkeypatch)
    api.streams.append([60.0])  # open, and silent
    step = subject.resize(STEP.name, STEP.change)
    assert step.settled
    assert step.looks[-1].containers[plans.MAIN].status == RAISED


def test_a_pod_that_really_stays_behind_is_not_settled(
    trial: Trial, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(trial, PLAN)
    subject.start()
    resized(api, monkeypatch)
    behind = pod(RAISED, 2)
    behind["status"] = pod(SMALL, 1)["status"]
    monkeypatch.setattr(Cluster, "patch", lambda *_, **__: _put(api, behind))
    step = subject.resize(STEP.name, STEP.change)
    assert not step.settled
    assert trial.cluster.get(kinds.POD, PLAN.pod, "ns")["status"]["observedGeneration"] == 1


def test_a_resize_that_need_not_wait_for_room_has_settled(
    trial: Trial, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(trial, PLAN)
    subject.start()
    resized(api, monkeypatch)
    step, waits = subject.defer(STEP.name, STEP.change)
    assert waits is None
    assert step.settled
    assert subject.settled


def test_a_node_answers_although_a_resize_neither_waits_nor_happens(
    trial: Trial, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook undid it: nobody may take the node for lost."""
    subject = Subject(trial, PLAN)
    subject.start()
    monkeypatch.setattr(Cluster, "patch", lambda *_, **__: _put(api, pod(SMALL, 1)))
    step, waits = subject.defer(STEP.name, STEP.change)
    assert waits is None
    assert not step.settled
    assert step.signs
    assert step.signs.exec_answered


@pytest.mark.parametrize(
    ("reason", "waits"), [("Deferred", True), ("Infeasible", False)], ids=["waits", "refused"]
)
def test_what_the_kubelet_says_of_a_resize_ends_the_wait_for_it(
    trial: Trial, api: ApiServer, monkeypatch: pytest.MonkeyPatch, reason: str, waits: bool
) -> None:
    subject = Subject(trial, PLAN)
    subject.start()
    asked = pod(RAISED, 2)
    asked["status"] = pod(SMALL, 1)["status"]
    asked["status"]["conditions"].append(
        {"type": "PodResizePending", "status": "True", "reason": reason, "message": "no"}
    )
    monkeypatch.setattr(Cluster, "patch", lambda *_, **__: _put(api, asked))
    step, last = subject.defer(STEP.name, STEP.change)
    assert (last is not None) == waits
    assert (step.after is None) == waits
    assert not step.settled


def _put(api: ApiServer, item: Object) -> Object:
    api.put("MODIFIED", KEY, item)
    return copy.deepcopy(item)
