"""Followed collections: what a watch did not deliver is noticed, and asked for without it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kar_checks.cluster import follow, kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.follow import Follower
from tests.unit.apiserver import ApiServer, event, refusal


def pod(name: str, **labels: str) -> Object:
    meta = {"name": name, "namespace": "n", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}}


@pytest.fixture
def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def begin(cluster: Cluster, seen: list[tuple[str, str]]) -> Callable[[], Follower]:
    def note(change: str, item: Object) -> None:
        seen.append((change, item["metadata"]["name"]))

    return lambda: Follower(cluster, kinds.POD, "n", note, seconds=20)


def until(goal: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not goal():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_watch_that_keeps_up_agrees_with_every_list(
    api: ApiServer, begin: Callable[[], Follower], seen: list[tuple[str, str]]
) -> None:
    api.add(pod("first"), "pods")
    found = begin()
    api.add(pod("second"), "pods")
    assert found.check()
    assert seen == [("LISTED", "first"), ("ADDED", "second")]
    api.put("DELETED", ("v1", "n", "pods", "first"), api.objects["v1", "n", "pods", "first"])
    assert found.check()
    assert seen[2:] == [("DELETED", "first")]
    assert (found.misses, found.alive) == (0, True)
    found.close()
    assert not found.alive


def test_what_a_proxy_swallows_is_listed_and_the_watch_begins_anew(
    api: ApiServer,
    begin: Callable[[], Follower],
    seen: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "_BEHIND_SECONDS", 0.1)
    api.add(pod("first"), "pods")
    api.streams.append([60.0])
    found = begin()
    until(lambda: not api.streams)
    api.add(pod("second"), "pods")
    api.put("DELETED", ("v1", "n", "pods", "first"), api.objects["v1", "n", "pods", "first"])
    assert not found.check()
    assert seen == [("LISTED", "first"), ("LISTED", "second"), ("DELETED", "first")]
    assert (found.misses, found.alive) == (1, True)
    until(lambda: len([one for one in api.requests if one.query.get("watch")]) == 2)
    api.add(pod("third"), "pods")
    until(lambda: seen[-1] == ("ADDED", "third"))
    assert found.check()
    found.close()


def test_a_version_that_the_server_has_forgotten_is_a_miss(
    api: ApiServer, begin: Callable[[], Follower]
) -> None:
    gone = event("ERROR", {"kind": "Status", "code": 410, "metadata": {}})
    api.streams.append([gone])
    found = begin()
    until(lambda: found.misses == 1)
    api.add(pod("one"), "pods")
    assert found.check()
    assert found.alive
    found.close()


def test_a_watch_that_is_refused_is_not_alive(
    api: ApiServer, begin: Callable[[], Follower]
) -> None:
    api.streams.append([0.05, event("ERROR", refusal(403, "Forbidden", "no").body)])
    found = begin()
    until(lambda: not found.alive)
    assert found.fault is not None
