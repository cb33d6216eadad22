"""Groups of ours that somebody changes or deletes while a scenario is measured."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kar_checks.checks.gang import groups
from kar_checks.checks.gang.groups import OwnGroups, await_state, group_changed
from kar_checks.checks.gang.native import Native
from kar_checks.checks.gang.observation import Arena, Fits, Problem, Start
from kar_checks.checks.gang.stage import ProblemError, Stage
from kar_checks.cluster import wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import VOLCANO_POD_GROUP
from kar_checks.model import Reason


def group(
    least: int = 4, *, uid: str = "u", status: str = "", annotation: str = "", **meta: Any
) -> Object:
    """A PodGroup in a list, where items name no kind."""
    return {
        "metadata": {"name": "g", "uid": uid, "annotations": {"a": annotation}, **meta},
        "spec": {"policy": {"gang": {"minCount": least}}, "levels": [{"key": "zone"}]},
        "status": {"phase": status},
    }


GOING: dict[str, Any] = {"deletionTimestamp": "2026-11-25T00:00:00Z"}
OTHER_LEVEL = {**group(), "spec": {**group()["spec"], "levels": [{"key": "rack"}]}}
TWO_LEVELS = {**group(), "spec": {**group()["spec"], "levels": [{"key": "zone"}, {"key": "rack"}]}}
WITHOUT = {**group(), "spec": {"levels": [{"key": "zone"}]}}
MORE = {**group(), "spec": {**group()["spec"], "minResources": {"cpu": "9"}}}


class Feed:
    """Stands in for a watch: the test plays the server."""

    def __init__(self) -> None:
        self.note: Callable[[str, Object], None] = lambda _change, _item: None
        self.alive, self.misses, self.closed, self.checked = True, 0, False, 0
        self.fields = ""

    def __call__(self, *given: Any, fields: str, seconds: float) -> Feed:
        self.note, self.fields = given[3], fields
        self.note("LISTED", group())
        return self

    def check(self) -> None:
        self.checked += 1

    def close(self) -> None:
        self.closed = True


TRIAL: Any = SimpleNamespace(cluster=None, namespace="n")


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    made = Feed()
    monkeypatch.setattr(groups, "Follower", made)
    return made


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("MODIFIED", group(1))], ["PodGroup g was changed: minCount went from 4 to 1"]),
        ([("MODIFIED", group(**GOING))], ["PodGroup g was deleted"]),
        ([("MODIFIED", group(**GOING)), ("DELETED", group(**GOING))], ["PodGroup g was deleted"]),
        ([("DELETED", group())], ["PodGroup g was deleted"]),
        ([("LISTED", group(uid="v"))], ["PodGroup g was deleted and created again"]),
        ([("MODIFIED", OTHER_LEVEL)],
         ["PodGroup g was changed: levels[0].key went from zone to rack"]),
        ([("MODIFIED", TWO_LEVELS)],
         ["PodGroup g was changed: levels went from [{'key': 'zone'}] to [{'key': 'zone'}, "
          "{'key': 'rack'}]"]),
        ([("MODIFIED", WITHOUT)], ["PodGroup g was changed: policy was removed"]),
        ([("MODIFIED", MORE)], ["PodGroup g was changed: minResources was set to {'cpu': '9'}"]),
        ([("MODIFIED", group(1)), ("MODIFIED", group())],
         ["PodGroup g was changed: minCount went from 4 to 1",
          "PodGroup g was changed: minCount went from 1 to 4"]),
        ([("MODIFIED", group(status="Pending")), ("MODIFIED", group(annotation="b"))], []),
    ],
)  # fmt: skip
def test_what_somebody_does_to_a_group(
    feed: Feed, changes: list[tuple[str, Object]], expected: list[str]
) -> None:
    own = OwnGroups(TRIAL, 1)
    own.follow(VOLCANO_POD_GROUP, group())
    assert feed.fields == "metadata.name=g"
    for change, item in changes:
        feed.note(change, item)
    found = own.changed(0)
    assert [one.text for one in found] == expected
    assert {one.reason for one in found} <= {"group_changed"}


def test_its_watches_are_asked_and_end_with_the_scenario(feed: Feed) -> None:
    own = OwnGroups(TRIAL, 1)
    assert (own.alive, own.misses) == (True, 0)
    own.follow(VOLCANO_POD_GROUP, group())
    feed.misses = 2
    own.check()
    assert (own.alive, own.misses, feed.checked, feed.closed) == (True, 2, 1, False)
    own.close()
    assert feed.closed


@pytest.mark.parametrize(("status", "raised"), [(403, False), (500, True)])
def test_whoever_may_not_list_groups_does_not_follow_them(
    monkeypatch: pytest.MonkeyPatch, status: int, raised: bool
) -> None:
    message = "User x cannot list resource" if status == 403 else "oops"

    def refuse(*_: object, **__: object) -> None:
        raise ApiError(status, {"message": message}, "GET /apis/x")

    monkeypatch.setattr(groups, "Follower", refuse)
    own = OwnGroups(TRIAL, 1)
    if raised:
        with pytest.raises(HarnessError):
            own.follow(VOLCANO_POD_GROUP, group())
    else:
        own.follow(VOLCANO_POD_GROUP, group())
    assert own.alive and own.changed(0) == []


GONE = ApiError(404, {"message": 'podgroups "g" not found'}, "GET /apis/x/podgroups/g")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (GONE, False),
        (HarnessError(Reason.POD_FAILED, "PodGroup g was deleted by somebody"), False),
        (HarnessError(Reason.TIMEOUT, "not within 9 s"), False),
        (HarnessError(Reason.INTERRUPTED, "interrupted"), True),
        (ApiError(500, None, "GET /apis/x"), True),
    ],
)
def test_a_wait_for_a_group_that_is_gone_is_over(
    monkeypatch: pytest.MonkeyPatch, error: HarnessError, raised: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(wait, "wait_for", fail)
    if raised:
        with pytest.raises(HarnessError):
            await_state(TRIAL, VOLCANO_POD_GROUP, "g", lambda _: True, 1)
    else:
        assert not await_state(TRIAL, VOLCANO_POD_GROUP, "g", lambda _: True, 1)


def test_a_group_that_is_gone_refuses_nothing() -> None:
    cluster = SimpleNamespace(
        find=lambda *_: None, list=lambda *_args, **_more: SimpleNamespace(items=[])
    )
    trial: Any = SimpleNamespace(cluster=cluster, namespace="n")
    assert not Native().refusal(trial, "g", ["g-0"]).refused


ARENA = Arena(node="n1", free=600, member=50, places=4.5)
SEEN = Fits(arena=ARENA, groups=[], start=Start(room_at=0, size=4, bound=[]))
MUTATED = ProblemError(Problem(reason="mutated", text="the pod was changed"))
STOPPED = HarnessError(Reason.INTERRUPTED, "interrupted")


@pytest.mark.parametrize(
    ("end", "changed", "expected"),
    [
        (SEEN, True, SEEN),
        (GONE, True, "group_changed"),
        (MUTATED, True, "group_changed"),
        (MUTATED, False, "mutated"),
        (GONE, False, GONE),
        (STOPPED, True, STOPPED),
    ],
)
def test_what_fails_after_a_group_was_changed_shows_only_that(
    end: Any, changed: bool, expected: Any
) -> None:
    stage = object.__new__(Stage)
    text = "PodGroup g was deleted"
    found: Any = SimpleNamespace(changed=lambda _: [group_changed(3, text)] if changed else [])
    stage._objects, stage.zero = found, 0
    stage.completed = lambda seen: seen  # type: ignore[method-assign]

    def script(_: Stage) -> Fits:
        if isinstance(end, Exception):
            raise end
        return SEEN

    if isinstance(expected, HarnessError):
        with pytest.raises(HarnessError) as raised:
            stage.play(script)
        assert raised.value is expected
        return
    seen = stage.play(script)
    if isinstance(expected, str):
        assert isinstance(seen, Problem) and seen.reason == expected
        assert (text in seen.text) is changed
        assert "/apis/" not in seen.text
    else:
        assert seen is expected
