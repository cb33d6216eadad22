from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.wait import wait_for, wait_gone
from kar_checks.model import Reason
from tests.unit.apiserver import ApiServer, refusal

KEY = ("v1", "ns", "pods", "one")


def pod(phase: str = "Pending", **status: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "ns", "uid": "u1"},
        "spec": {},
        "status": {"phase": phase, **status},
    }


def later(work: Callable[[], object], seconds: float = 0.2) -> threading.Timer:
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer


def running(item: Object) -> bool:
    return pods.phase(item) == "Running"


def wait(cluster: Cluster, seconds: float = 20.0, **more: Any) -> Object:
    given: dict[str, Any] = {"goal": running, "hopeless": pods.hopeless, "describe": pods.describe}
    return wait_for(
        cluster, kinds.POD, "one", "ns", seconds=seconds, what="pod one", **{**given, **more}
    )


def test_a_goal_that_holds_already_needs_no_watch(cluster: Cluster, api: ApiServer) -> None:
    api.add(pod("Running"), "pods")
    assert running(wait(cluster))
    assert len(api.requests) == 1


def test_a_change_ends_the_wait_and_others_are_reported_once(
    cluster: Cluster, api: ApiServer
) -> None:
    begin = api.add(pod(), "pods")
    told: list[str] = []

    def live() -> None:
        creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
        for _ in range(2):
            api.put("MODIFIED", KEY, pod(containerStatuses=[creating]))
        api.put("MODIFIED", KEY, pod("Running"))

    later(live)
    found = wait(cluster, begin=begin, report=told.append)
    assert running(found)
    assert told == ["pod one: Pending", "pod one: Pending, ContainerCreating", "pod one: Running"]
    assert {one.query["fieldSelector"] for one in api.asked("GET")} == {"metadata.name=one"}


def test_a_pod_that_can_never_start_ends_the_wait_at_once(cluster: Cluster, api: ApiServer) -> None:
    api.add(pod(), "pods")
    stuck = {"name": "main", "state": {"waiting": {"reason": "ErrImagePull"}}}
    later(lambda: api.put("MODIFIED", KEY, pod(containerStatuses=[stuck])))
    began = time.monotonic()
    with pytest.raises(HarnessError, match="ErrImagePull") as caught:
        wait(cluster, seconds=60)
    assert caught.value.fault.reason is Reason.IMAGE_UNAVAILABLE
    assert time.monotonic() - began < 30


def test_a_timeout_holds_the_last_state(cluster: Cluster, api: ApiServer) -> None:
    api.add(pod(), "pods")
    with pytest.raises(HarnessError, match="not within 0 s; last state: Pending") as caught:
        wait(cluster, seconds=0.3)
    assert caught.value.fault.reason is Reason.TIMEOUT


def test_a_pod_that_somebody_deletes_is_an_error(cluster: Cluster, api: ApiServer) -> None:
    item = api.add(pod(), "pods")
    later(lambda: api.put("DELETED", KEY, item))
    with pytest.raises(HarnessError, match="Pod one was deleted by somebody"):
        wait(cluster)


def test_an_interruption_ends_the_wait(cluster: Cluster, api: ApiServer) -> None:
    api.add(pod(), "pods")
    later(cluster.stop)
    with pytest.raises(HarnessError, match="interrupted") as caught:
        wait(cluster, seconds=60)
    assert caught.value.fault.reason is Reason.INTERRUPTED


def test_a_forgotten_version_is_read_anew(cluster: Cluster, api: ApiServer) -> None:
    begin = api.add(pod(), "pods")
    api.put("MODIFIED", KEY, pod("Running"))
    api.answers.append(refusal(410, "Expired", "too old resource version"))
    assert running(wait(cluster, begin=begin))


def test_a_refused_watch_is_an_error(cluster: Cluster, api: ApiServer) -> None:
    begin = api.add(pod(), "pods")
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot watch resource "pods"'))
    with pytest.raises(ApiError) as caught:
        wait(cluster, begin=begin)
    assert caught.value.fault.reason is Reason.FORBIDDEN


# -- until gone --------------------------------------------------------------------------------


def gone(cluster: Cluster, seconds: float = 20.0) -> bool:
    return wait_gone(cluster, kinds.POD, "one", "ns", uid="u1", seconds=seconds)


def test_what_is_not_there_is_gone(cluster: Cluster) -> None:
    assert gone(cluster)


def test_another_object_of_the_same_name_is_not_waited_for(
    cluster: Cluster, api: ApiServer
) -> None:
    item = pod()
    item["metadata"]["uid"] = "u2"
    api.add(item, "pods")
    assert gone(cluster)


def test_a_deletion_ends_the_wait(cluster: Cluster, api: ApiServer) -> None:
    item = api.add(pod(), "pods")
    later(lambda: api.put("DELETED", KEY, item))
    assert gone(cluster)


def test_what_stays_is_not_gone(cluster: Cluster, api: ApiServer) -> None:
    api.add(pod(), "pods")
    assert not gone(cluster, seconds=0.3)


def test_a_deletion_that_no_watch_tells_of_is_seen(cluster: Cluster, api: ApiServer) -> None:
    item = api.add(pod(), "pods")
    expired = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    api.streams.append([0.3, json.dumps(expired).encode() + b"\n"])
    later(lambda: api.put("DELETED", KEY, item), 0.1)
    assert gone(cluster)
    assert len(api.asked("GET")) == 3


def test_an_interruption_is_not_taken_for_an_object_that_stays(
    cluster: Cluster, api: ApiServer
) -> None:
    api.add(pod(), "pods")
    later(cluster.stop)
    with pytest.raises(HarnessError) as caught:
        gone(cluster, seconds=3)
    assert caught.value.fault.reason is Reason.INTERRUPTED
    assert len(api.requests) < 10


# -- watches that something swallows -----------------------------------------------------------


def test_before_a_wait_is_given_up_the_object_is_read_once_more(
    cluster: Cluster, api: ApiServer
) -> None:
    api.add(pod(), "pods")
    api.streams.append([60.0])
    later(lambda: api.put("MODIFIED", KEY, pod("Running")))
    assert running(wait(cluster, seconds=1))


def test_an_object_that_went_unseen_is_told_as_deleted(cluster: Cluster, api: ApiServer) -> None:
    item = api.add(pod(), "pods")
    api.streams.append([60.0])
    later(lambda: api.put("DELETED", KEY, item))
    with pytest.raises(HarnessError, match="Pod one was deleted by somebody"):
        wait(cluster, seconds=1)


def test_a_silent_watch_does_not_hold_a_wait_up(
    cluster: Cluster, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kar_checks.cluster.client.SILENT_SECONDS", 0.3)
    api.add(pod(), "pods")
    api.streams.extend([[60.0]] * 5)
    later(lambda: api.put("MODIFIED", KEY, pod("Running")))
    began = time.monotonic()
    assert running(wait(cluster, seconds=30))
    assert time.monotonic() - began < 10


def test_what_holds_an_object_back_is_the_error_of_an_overdue_one(
    cluster: Cluster, api: ApiServer
) -> None:
    stuck = {
        "name": "main",
        "state": {"waiting": {"reason": "ErrImagePull", "message": "pull QPS exceeded"}},
    }
    api.add(pod(containerStatuses=[stuck]), "pods")
    with pytest.raises(HarnessError, match="pull QPS exceeded") as caught:
        wait(cluster, seconds=0.3, overdue=pods.overdue)
    assert caught.value.fault.reason is Reason.IMAGE_UNAVAILABLE
