"""What both trials on traffic rest on: counts, intervals, and the chance of a wrong verdict."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from kar_checks import profile
from kar_checks.kit.http_testbed.figures import shares
from kar_checks.kit.http_testbed.records import (
    Sample,
    Tally,
    failures,
    tallied,
    told,
    unwanted,
)
from kar_checks.kit.stats import chance_of_fall, chance_of_split, fewer, interval

SETTINGS = profile.default()
REQUESTS = int(SETTINGS.number("gateway.requests"))
CONFIDENCE = SETTINGS.number("gateway.confidence")


def test_an_interval_is_exact_and_nothing_counted_says_nothing() -> None:
    assert interval(0, 0, 0.95) == (0, 1)
    assert interval(0, 10, 0.95) == pytest.approx((0, 0.3085), abs=1e-4)
    assert interval(5, 10, 0.95) == pytest.approx((0.1871, 0.8129), abs=1e-4)


@pytest.mark.parametrize("of", [1, 7, 150])
@pytest.mark.parametrize("confidence", [0.9, 0.9999])
def test_an_interval_is_that_of_the_exact_test(of: int, confidence: float) -> None:
    for hits in range(of + 1):
        wanted = binomtest(hits, of).proportion_ci(confidence, method="exact")
        assert interval(hits, of, confidence) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_the_chances_are_those_that_the_settings_promise() -> None:
    assert chance_of_split(REQUESTS, 0.2, 0.2, CONFIDENCE) < 0.001
    assert chance_of_split(REQUESTS, 0.2, 0.32, CONFIDENCE) > 0.98
    assert chance_of_split(REQUESTS, 0.2, 0.5, CONFIDENCE) > 0.999999
    low, high = interval(REQUESTS // 5, REQUESTS, CONFIDENCE)
    assert (round(low, 2), round(high, 2)) == (0.14, 0.27)
    assert 0.9 ** SETTINGS.number("gateway.rule_requests") < 0.002


def test_a_fall_is_told_from_chance() -> None:
    assert fewer(0, 150, 150, 450) < 1e-15
    assert fewer(50, 150, 150, 450) > 0.4


def test_the_sample_of_a_phase_tells_a_picker_that_follows_load_from_one_that_does_not() -> None:
    of = int(SETTINGS.number("routing.requests"))
    more = {
        "effect": SETTINGS.number("routing.effect"),
        "confidence": SETTINGS.number("routing.confidence"),
    }
    assert chance_of_fall(1 / 3, of, 1 / 3, 3 * of, **more) < 1e-6
    assert chance_of_fall(0, of, 1 / 3, 3 * of, **more) > 0.999
    assert chance_of_fall(0, of, 1 / 3, 3 * of, **{**more, "effect": 1.0}) == 0.0
    low, high = interval(120, 3 * of, more["confidence"])[0], interval(0, of, more["confidence"])[1]
    reached = chance_of_fall(0, of, 1.0, 3 * of, **{**more, "effect": low - high})
    assert reached == pytest.approx(1.0)


def test_answers_are_counted_by_what_they_have_in_common() -> None:
    answers = [[200, "a", "1", 0.1, True, ""], [200, "a", "1", 0.2, True, ""]]
    answers.append([0, "", "", 5.0, False, "TimeoutError"])
    found = tallied(answers)
    assert [(one.status, one.pod, one.count) for one in found] == [(0, "", 1), (200, "a", 2)]
    assert told(found) == "2 x 200 from a, 1 x no answer (TimeoutError)"
    assert told([]) == "nothing"


@pytest.mark.parametrize(
    ("counted", "agrees"),
    [({"a": 2, "b": 0}, True), ({"a": 1, "b": 1}, False), ({"b": 2}, False), ({"a": 3}, False)],
)
def test_names_must_be_what_the_servers_counted(counted: dict[str, int], agrees: bool) -> None:
    tallies = [Tally(status=200, pod="a", count=2), Tally(status=404, count=1)]
    assert Sample(sent=3, seconds=1, tallies=tallies, counted=counted).agrees is agrees


def test_an_answer_without_a_name_is_no_good_answer() -> None:
    tallies = [Tally(status=200, count=5), Tally(status=200, pod="a", revision="2", count=3)]
    found = Sample(sent=8, seconds=1, tallies=tallies, counted={"a": 3})
    assert (found.good(), found.good(revision="2"), found.good(revision="1")) == (3, 3, 0)


def test_an_answer_by_an_older_rule_fails_only_where_the_new_one_is_waited_for() -> None:
    older = [200, "a", "1", 0.1, True, "", 0.3, False, False]
    refused = [503, "", "", 0.1, True, "", 0.4, None, False]
    assert [one.status for one in failures([older, refused])] == [503]
    found = unwanted([older, refused])
    assert [(one.at, one.status, one.error) for one in found] == [
        (0.3, 200, "by an older rule"),
        (0.4, 503, ""),
    ]


def test_shares_have_their_intervals() -> None:
    one, other = shares("phase", {"a": 30, "b": 70}, 0.95, {"a": 0.3})
    assert (one.value, one.expected, other.expected) == (0.3, 0.3, None)
    assert one.low < 0.3 < one.high
    assert [part.value for part in shares("none", {"a": 0}, 0.95)] == [0]
