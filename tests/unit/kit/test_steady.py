"""What a steady client's answers come to: episodes, pauses, and time in which it was asleep."""

from __future__ import annotations

import pytest

from kar_checks import profile
from kar_checks.kit.http_testbed.records import Settled
from kar_checks.kit.http_testbed.steady import (
    Steady,
    Watch,
    episodes,
    figure,
    rule,
    stalls,
    watch,
    watched,
)

Row = tuple[float, float, int, str, str]
START = 1_790_000_000.0
RATE = 5.0


def row(at: float, *, took: float = 0.02, status: int = 200, pod: str = "blue") -> Row:
    return (at, took, status, pod if status == 200 else "", "" if status else "TimeoutError")


def seen(rows: list[Row]) -> Watch:
    return Watch(began=START, rate=RATE, answers=rows)


def good(seconds: float = 32) -> list[Row]:
    return [row(k / RATE) for k in range(round(seconds * RATE))]


def without(rows: list[Row], start: float, end: float) -> list[Row]:
    return [one for one in rows if not start <= one[0] < end]


def refusing(*spans: tuple[float, float], seconds: float = 32, status: int = 503) -> list[Row]:
    return [
        row(one[0], status=status) if any(a <= one[0] < b for a, b in spans) else one
        for one in good(seconds)
    ]


def ruled(rows: list[Row]) -> tuple[str, str]:
    found = rule(
        Steady(settled=Settled(settled=True, seconds=1, asked=10, last=[]), watches=[seen(rows)]),
        [],
        profile.default(),
        "a route",
    )
    return found.outcome.value, found.reason


SHORT, FAIL, PASS = ("inconclusive", "one_outage"), ("fail", "outages"), ("pass", "steady")
HANGING = [
    row(one[0], took=max(one[1], 16.0 - one[0])) if 10 <= one[0] < 16 else one for one in good()
]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (good(), PASS),
        # 503 for 2 s of every 10 s.
        (refusing((0, 2), (10, 12), (20, 22), (30, 32)), FAIL),
        (refusing((8, 10), (18, 20)), FAIL),
        (refusing((8, 10)), SHORT),
        (refusing((8, 14)), FAIL),
        (refusing((8, 8.2)), SHORT),
        # Less than 3 s of good answers between them: one episode, and a long one.
        (refusing((8, 9), (11, 12)), SHORT),
        (refusing((8, 9), (11, 12), (14, 15)), FAIL),
        (refusing((8, 9), (13, 14)), FAIL),
        (refusing((0, 32)), FAIL),
        (refusing((8, 10), status=0), SHORT),
        (refusing((8, 10), status=404), SHORT),
        # A success that no backend of ours gave.
        ([row(one[0], pod="" if one[0] == 8 else "blue") for one in good()], SHORT),
        # All answers of 6 s come at once: a pause of 6 s.
        (HANGING, FAIL),
        # One answer of ten is slow, or all are: no pause.
        ([row(k / RATE, took=3.0 if k % 10 == 0 else 0.02) for k in range(160)], PASS),
        ([row(k / RATE, took=2.5) for k in range(160)], PASS),
        (good(20), ("inconclusive", "window_too_short")),
        ([], ("inconclusive", "window_too_short")),
        # The client slept from second 8 to second 11: it saw nothing, and nothing bad.
        (without(good(36), 8, 11), PASS),
        (without(good(32), 8, 12), ("inconclusive", "window_too_short")),
    ],
)
def test_outages(rows: list[Row], expected: tuple[str, str]) -> None:
    assert ruled(rows) == expected


def test_the_finding_names_the_second() -> None:
    found = rule(
        Steady(
            settled=Settled(settled=True, seconds=1, asked=10, last=[]),
            watches=[seen(refusing((8, 10)))],
        ),
        [],
        profile.default(),
        "a route",
    )
    assert "from second 8.0 (14:13:28 UTC) for 1.8 s: 10 x 503" in found.summary


def test_time_asleep_is_no_time_watched() -> None:
    sleepy = seen(without(good(10), 2, 5))
    assert stalls(sleepy) == [pytest.approx((2.0, 5.0))]
    assert watched(sleepy) == pytest.approx(7.0)
    assert watched(seen([])) == 0


def test_a_pause_is_measured_from_answer_to_answer() -> None:
    (found,) = episodes([seen(HANGING)], [], pause=1, good=3)
    assert (found.start - START, found.seconds) == pytest.approx((9.82, 6.18))
    assert found.what == "1 x no answer at all"


def test_answers_of_the_client_are_put_in_the_order_of_their_sending() -> None:
    late = [200, "blue", "", 1.0, True, "", 0.0, False, False]
    early = [503, "", "", 0.1, False, "to https://x/", 0.2, None, False]
    found = watch(START, RATE, [early, late])
    assert found.answers == [
        (0.0, 1.0, 200, "blue", ""),
        (0.2, 0.1, 503, "", "to https://x/"),
    ]


def test_the_figure_shows_good_and_other_answers_of_each_second() -> None:
    settled = Settled(settled=True, seconds=1, asked=10, last=[])
    drawn = figure(
        Steady(settled=settled, watches=[seen(refusing((2, 3), seconds=4))]), "gateway.steady", "c"
    )
    assert drawn is not None
    fine, other = drawn.series
    assert [value for _, value in fine.points] == [5, 5, 0, 5]
    assert [value for _, value in other.points] == [0, 0, 5, 0]
    assert figure(Steady(settled=settled), "gateway.steady", "c") is None
