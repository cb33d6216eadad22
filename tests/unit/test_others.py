"""Other runs that start, or start and end, while one measures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.others import OtherRuns
from kar_checks.cluster.ownership import owner_mark
from kar_checks.model import Environment, RunInfo
from kar_checks.store import now
from tests.unit.apiserver import ApiServer, refusal

RUN = "20261122-101504-9f3a"
DEAD = f"{os.uname().nodename}/1/2/3"


def made(kind: str, run: str, *, owner: str = "", namespace: str = "") -> Object:
    meta: Object = {
        "name": f"kar-{run}",
        "labels": {"app.kubernetes.io/managed-by": "kar-checks", "kar-checks.dev/run": run},
        "annotations": {"kar-checks.dev/owner": owner or owner_mark(time.time() + 60)},
    }
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": "v1", "kind": kind, "metadata": meta}


def until(goal: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not goal():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def others(cluster: Cluster) -> Iterator[OtherRuns]:
    found = OtherRuns(cluster, RUN)
    yield found
    found.close()


def ids(found: OtherRuns, since: float = 0) -> list[str]:
    return [one.id for one in found.seen(since)]


def remove(api: ApiServer, item: Object, plural: str) -> None:
    meta = item["metadata"]
    key = ("v1", str(meta.get("namespace", "")), plural, str(meta["name"]))
    api.put("DELETED", key, item)


def test_one_that_starts_and_ends_meanwhile_is_noticed(api: ApiServer, others: OtherRuns) -> None:
    assert ids(others) == []
    short = api.add(made("Namespace", "short", owner=DEAD), "namespaces")
    until(lambda: ids(others) == ["short"])
    remove(api, short, "namespaces")
    time.sleep(0.2)
    (found,) = others.seen()
    assert found.first is not None
    assert found.last is not None
    assert found.first <= found.last
    assert ids(others, since=time.monotonic()) == []
    api.add(made("Pod", "in-a-named-namespace", namespace="team"), "pods")
    until(lambda: len(ids(others)) == 2)


def test_it_is_at_work_as_long_as_it_lives_and_has_objects(
    api: ApiServer, others: OtherRuns
) -> None:
    api.add(made("Namespace", "long"), "namespaces")
    until(lambda: ids(others) == ["long"])
    assert ids(others, since=time.monotonic()) == ["long"]


def test_neither_its_own_objects_nor_what_a_dead_run_left_is_another_run(
    api: ApiServer, cluster: Cluster
) -> None:
    left = api.add(made("Namespace", "dead", owner=DEAD), "namespaces")
    others = OtherRuns(cluster, RUN)
    pod = api.add(made("Pod", "dead", owner=DEAD, namespace="kar-dead"), "pods")
    api.add(made("Namespace", RUN), "namespaces")
    remove(api, pod, "pods")
    remove(api, left, "namespaces")
    time.sleep(0.3)
    assert ids(others) == []
    others.close()


def test_with_rights_in_one_namespace_runs_there_are_noticed(
    api: ApiServer, cluster: Cluster
) -> None:
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot list resource "pods"'))
    others = OtherRuns(cluster, RUN, "team")
    asked = [(one.path, bool(one.query.get("watch"))) for one in api.requests]
    assert asked[:2] == [("/api/v1/pods", False), ("/api/v1/namespaces/team/pods", False)]
    api.add(made("Pod", "second", namespace="team"), "pods")
    until(lambda: ids(others) == ["second"])
    others.close()


def test_without_any_right_nothing_is_noticed(api: ApiServer, cluster: Cluster) -> None:
    api.answers += [refusal(403, "Forbidden", "no")] * 2
    others = OtherRuns(cluster, RUN)
    assert ids(others) == []
    others.close()


def test_ids_that_version_0_1_stored_are_read() -> None:
    head = RunInfo(
        id=RUN,
        suite_version="0.1.0",
        started=now(),
        kubernetes_minor="1.37",
        profile={},
        selection=[],
        environment=Environment(cluster="c"),
        topics=[],
        checks=[],
        plan=[],
    )
    stored = {**head.model_dump(mode="json"), "beside": ["20261101-000000-aaaa"]}
    (found,) = RunInfo.model_validate(stored).beside
    assert (found.id, found.first, found.last) == ("20261101-000000-aaaa", None, None)
