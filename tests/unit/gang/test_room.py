"""What a pod takes, what changes on a node, and what a timeline shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks.checks.gang import arena, watching
from kar_checks.checks.gang.observation import Canary, PodTrace
from kar_checks.checks.gang.stage import _spans
from kar_checks.checks.gang.watching import NodeRoom, OwnPods, Surroundings, cpu_request
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

OURS = {"kar-checks.dev/run": "r1", "kar-checks.dev/gang": "g"}


def container(cpu: str, **more: Any) -> Object:
    return {"name": f"c{cpu}", "resources": {"requests": {"cpu": cpu}}, **more}


def pod(name: str, cpu: str = "100m", *, labels: Object | None = None, **more: Any) -> Object:
    meta = {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": labels or {}}
    status = {"phase": "Running", **more.pop("status", {})}
    meta |= more.pop("metadata", {})
    return {"metadata": meta, "spec": {"containers": [container(cpu)], **more}, "status": status}


SIDECAR = {"restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container("100m"), container("0.2")]}, 300),
        ({"containers": [{"name": "a"}]}, 0),
        ({"containers": [container("100m")], "initContainers": [container("400m")]}, 400),
        ({"containers": [container("100m")], "initContainers": [container("50m")]}, 100),
        ({"containers": [container("100m")], "initContainers": [container("70m", **SIDECAR)]}, 170),
        (
            {
                "containers": [container("100m")],
                "initContainers": [container("70m", **SIDECAR), container("200m")],
            },
            270,
        ),
        ({"containers": [container("100m")], "overhead": {"cpu": "30m"}}, 130),
        (
            {"containers": [container("100m")], "resources": {"requests": {"cpu": "250m"}}},
            250,
        ),
    ],
)
def test_what_a_scheduler_counts_for_a_pod(spec: Object, expected: int) -> None:
    assert cpu_request({"spec": spec}) == expected


def test_during_a_resize_the_larger_request_counts() -> None:
    status = {"containerStatuses": [{"name": "c100m", "allocatedResources": {"cpu": "300m"}}]}
    assert cpu_request({"spec": {"containers": [container("100m")]}, "status": status}) == 300


class Feed:
    """Stands in for a followed collection: the test plays the server."""

    def __init__(self, *first: Object) -> None:
        self.first = first
        self.note: Callable[[str, Object], None] = lambda _change, _item: None
        self.alive = True
        self.misses = 0
        self.checked = 0

    def check(self) -> bool:
        self.checked += 1
        return True

    def __call__(self, *given: Any, **_: Any) -> Feed:
        self.note = given[3]
        for item in self.first:
            self.note("ADDED", item)
        return self


class Quiet:
    """A cluster that nobody interrupts."""

    class stopping:  # noqa: N801 - as the attribute is called
        @staticmethod
        def is_set() -> bool:
            return False


CLUSTER = cast("Cluster", Quiet())
NODE = {"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "600m", "pods": "110"}}}


def room(monkeypatch: pytest.MonkeyPatch, *first: Object) -> tuple[NodeRoom, Feed]:
    feed = Feed(*first)
    monkeypatch.setattr(watching, "Follower", feed)
    return NodeRoom(CLUSTER, NODE, "r1", 60), feed


def test_room_is_what_nobody_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    over = pod("done", "300m", status={"phase": "Succeeded"})
    found, feed = room(monkeypatch, pod("dns", "100m"), over)
    assert (found.free(), found.free_pods()) == (500, 109)
    feed.note("MODIFIED", pod("dns", "100m", status={"phase": "Failed"}))
    assert found.free() == 600


@pytest.mark.parametrize(
    ("change", "item", "reasons"),
    [
        ("ADDED", pod("new", "10m"), ["foreign_pod"]),
        ("ADDED", pod("member", "50m", labels=OURS), []),
        ("ADDED", pod("light", "0"), []),
        (
            "ADDED",
            pod("other-run", "50m", labels={**OURS, "kar-checks.dev/run": "r2"}),
            ["foreign_pod"],
        ),
        ("DELETED", pod("dns", "100m"), ["room_changed"]),
        ("MODIFIED", pod("dns", "100m", status={"phase": "Succeeded"}), ["room_changed"]),
        ("MODIFIED", pod("dns", "200m"), ["room_changed"]),
        ("MODIFIED", pod("dns", "100m", status={"podIP": "10.0.0.1"}), []),
    ],
)
def test_what_disturbs_a_room(
    monkeypatch: pytest.MonkeyPatch, change: str, item: Object, reasons: list[str]
) -> None:
    found, feed = room(monkeypatch, pod("dns", "100m"))
    found.arm(time.monotonic())
    feed.note(change, item)
    assert [one.reason for one in found.disarm()] == reasons
    feed.note("ADDED", pod("later", "10m"))
    assert len(found.disarm()) == len(reasons)


def node(name: str, cpu: str = "600m", **spec: Any) -> Object:
    ready = {"type": "Ready", "status": "True"}
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu}, "conditions": [ready]},
    }


@pytest.mark.parametrize(
    ("change", "item", "reasons"),
    [
        ("MODIFIED", node("n1"), []),
        ("MODIFIED", node("n1", unschedulable=True), ["node_changed"]),
        ("MODIFIED", node("n1", cpu="900m"), ["node_changed"]),
        ("MODIFIED", node("n2", cpu="900m"), []),
        ("DELETED", node("n1"), ["node_changed"]),
        ("ADDED", node("n3"), ["node_added"]),
    ],
)
def test_what_changes_around(
    monkeypatch: pytest.MonkeyPatch, change: str, item: Object, reasons: list[str]
) -> None:
    feed = Feed(node("n1"), node("n2"))
    monkeypatch.setattr(watching, "Follower", feed)
    around = Surroundings(CLUSTER, 60)
    zero = time.monotonic()
    feed.note(change, item)
    assert [one.reason for one in around.since(zero, "n1")] == reasons


def own_pods(monkeypatch: pytest.MonkeyPatch) -> tuple[OwnPods, Feed]:
    feed = Feed()
    monkeypatch.setattr(watching, "Follower", feed)
    return OwnPods(CLUSTER, "n", "r1", 60), feed


def test_a_pod_of_ours_that_somebody_deletes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own, feed = own_pods(monkeypatch)
    gone = {"deletionTimestamp": "2026-11-22T00:00:00Z"}
    target = {"type": "DisruptionTarget", "reason": "PreemptionByScheduler", "message": "m"}
    for name in ("a", "b", "c"):
        own.expect(pod(name))
    own.dismiss("a")
    feed.note("MODIFIED", pod("a", metadata=gone))
    feed.note("MODIFIED", pod("b", metadata=gone))
    feed.note("MODIFIED", pod("c", metadata=gone, status={"conditions": [target]}))
    feed.note("DELETED", pod("c", metadata=gone))
    assert [one.reason for one in own.losses(["a", "b", "c"], 0)] == ["pod_deleted", "preempted"]
    assert own.losses(["a"], 0) == []
    assert own.gone("c") and not own.gone("b")


def test_a_filler_that_ends_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own, feed = own_pods(monkeypatch)
    role = "kar-checks.dev/role"
    for name in ("filler", "gang"):
        own.expect(pod(name, labels={role: name}))
        feed.note("MODIFIED", pod(name, labels={role: name}, status={"phase": "Failed"}))
    assert [one.reason for one in own.losses(["filler", "gang"], 0)] == ["filler_ended"]


def test_the_moment_of_binding_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    own, feed = own_pods(monkeypatch)
    zero = time.monotonic()
    own.expect(pod("a"))
    assert own.bound(["a"], zero) == []
    feed.note("MODIFIED", pod("a", nodeName="n1"))
    (first,) = own.bound(["a"], zero)
    time.sleep(0.02)
    feed.note("MODIFIED", pod("a", nodeName="n1"))
    assert own.bound(["a"], zero) == [first]
    assert own.trace("a", zero).node == "n1"


def test_waiting_ends_with_the_goal_or_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    own, _ = own_pods(monkeypatch)
    assert own.wait(lambda: True, 5)
    assert not own.wait(lambda: False, 0.05)


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        ({}, [("pending", 1, None)]),
        ({"bound": 2.0}, [("pending", 1, 2), ("bound", 2, None)]),
        (
            {"bound": 2.0, "running": 3.0, "ended": 4.0, "succeeded": True, "gone": 5.0},
            [("pending", 1, 2), ("bound", 2, 3), ("running", 3, 4), ("completed", 4, 5)],
        ),
        ({"gone": 3.0}, [("pending", 1, 3)]),
    ],
)
def test_a_life_as_a_timeline(
    life: dict[str, Any], expected: list[tuple[str, float, float | None]]
) -> None:
    trace = PodTrace(name="a", created=1, **life)
    spans = _spans(trace.model_dump(), 10)
    assert [(one.state, one.start, one.end) for one in spans] == expected


def chosen(monkeypatch: pytest.MonkeyPatch, *nodes: tuple[str, int, int, int]) -> Any:
    """Choose among nodes of which (name, free CPU, free pods, lowest priority) are known."""
    known = {name: values for name, *values in nodes}
    closed: list[str] = []

    def look(_: object, node: Object, *__: object) -> Any:
        name = node["metadata"]["name"]
        cpu, places, priority = known[name]
        return SimpleNamespace(
            node=name,
            settle=lambda _: None,
            free=lambda: cpu,
            free_pods=lambda: places,
            lowest_priority=lambda: priority,
            close=lambda: closed.append(name),
        )

    monkeypatch.setattr(arena, "NodeRoom", look)
    lacking: list[list[str]] = []

    def no_room(message: str, wanted: dict[str, Decimal]) -> HarnessError:
        lacking.append([*wanted])
        return HarnessError(Reason.NO_ROOM, message)

    listed = [
        {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "1"}},
        }
        for name in known
    ]
    trial: Any = SimpleNamespace(
        cluster=None,
        number=lambda _: 50,
        workspace=SimpleNamespace(target=None, run_id="r1"),
        facts=SimpleNamespace(usable_nodes=lambda _: listed),
        no_room=no_room,
    )
    canary = Canary(priority=5, preempts=True)
    try:
        found = arena.choose(trial, 4, 2, canaries=[canary], seconds=1)
    except HarnessError as error:
        return error.fault, lacking
    return [name for name, _ in found], closed


def test_nodes_with_room_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    full, crowded, busy = ("full", 9, 99, 5), ("crowded", 900, 3, 5), ("busy", 900, 99, 0)
    good = ("good", 900, 99, 5)
    assert chosen(monkeypatch, full, crowded, busy, good) == (
        ["good"],
        ["full", "crowded", "busy"],
    )


@pytest.mark.parametrize(
    ("nodes", "reason", "lacking", "told"),
    [
        ([("full", 9, 99, 5)], Reason.NO_ROOM, [["cpu"]], "275m of CPU and 12 pods"),
        ([("crowded", 900, 3, 5)], Reason.NO_ROOM, [["pods"]], "275m of CPU and 12 pods"),
        ([("full", 9, 3, 5), ("busy", 900, 99, 0)], Reason.NO_ROOM, [["cpu", "pods"]],
         "12 pods: busy runs pods of priority 0, which ours (5) could preempt"),
        ([("busy", 900, 99, 0)], Reason.UNSCHEDULABLE, [], "can be used for the gangs: busy runs"),
        ([], Reason.UNSCHEDULABLE, [], "can be used for the gangs: there is none"),
    ],
)  # fmt: skip
def test_without_a_node_for_a_gang_it_is_said_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[tuple[str, int, int, int]],
    reason: Reason,
    lacking: list[list[str]],
    told: str,
) -> None:
    fault, asked = chosen(monkeypatch, *nodes)
    assert (fault.reason, asked) == (reason, lacking)
    assert told in fault.message
