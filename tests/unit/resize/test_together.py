"""What cases do together: once, as soon as each has come or has left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kar_checks.checks.resize.together import Meeting
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason


def test_all_get_their_part_of_what_is_done_once() -> None:
    done: list[dict[str, int]] = []

    def act(items: dict[str, int]) -> dict[str, int]:
        done.append(items)
        return {name: number * 10 for name, number in items.items()}

    meeting: Meeting[int, int] = Meeting(["a", "b", "c"], act)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(meeting.meet, "a", 1)
        second = pool.submit(meeting.meet, "b", 2)
        assert not first.done()
        meeting.leave("c")
        assert (first.result(5), second.result(5)) == (10, 20)
    assert done == [{"a": 1, "b": 2}]
    meeting.leave("a")


def test_what_fails_fails_for_all() -> None:
    def act(_: dict[str, int]) -> dict[str, int]:
        raise HarnessError(Reason.UNSCHEDULABLE, "no room")

    meeting: Meeting[int, int] = Meeting(["a", "b"], act)
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(meeting.meet, name, 1) for name in ("a", "b")]:
            with pytest.raises(HarnessError, match="no room"):
                one.result(5)


def test_who_is_alone_waits_for_nobody() -> None:
    meeting: Meeting[int, int] = Meeting(["a"], lambda items: items)
    assert meeting.meet("a", 7) == 7
