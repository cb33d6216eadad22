from __future__ import annotations

import math

import numpy as np
import pytest

from kar_checks.history import statistics


def test_three_against_three_can_never_show_a_difference() -> None:
    found = statistics.compare([1.0, 1.1, 1.2], [9.0, 9.1, 9.2])
    assert found.p == pytest.approx(0.1)
    assert found.least_p == pytest.approx(0.1) and found.least_p > statistics.ALPHA


def test_four_against_four_can_and_the_shift_is_a_share_of_the_first() -> None:
    found = statistics.compare([10.0, 10.1, 10.2, 10.3], [12.0, 12.1, 12.2, 12.3])
    assert found.p == pytest.approx(2 / 70) and found.least_p == pytest.approx(2 / 70)
    assert found.shift == pytest.approx(2 / 10.15)


def test_the_same_values_are_no_difference_and_an_empty_sample_is_an_error() -> None:
    assert statistics.compare([1.0] * 5, [1.0] * 5).p == 1
    with pytest.raises(ValueError, match="empty"):
        statistics.compare([], [1.0])


def test_ties_are_counted_exactly() -> None:
    # Of the 70 orders of these values 2 are as extreme on each side's end, with a tie of halves.
    found = statistics.compare([1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0])
    assert found.p == pytest.approx(2 / 70)


def test_many_comparisons_are_corrected_together() -> None:
    assert statistics.adjusted([0.01, 0.02, 0.5]) == pytest.approx([0.03, 0.03, 0.5])
    assert statistics.adjusted([]) == []


QUIET = [10.0, 10.2, 9.9, 10.1, 10.3, 9.8, 10.0, 10.1, 9.9, 10.2]


def test_a_new_level_is_told_with_the_third_value_and_dated_to_the_first() -> None:
    (found,) = statistics.shifts([*QUIET, 8.0, 8.1, 7.9, 8.0])
    assert (found.at, found.said) == (10, 12)
    assert found.before == pytest.approx(10.05)
    assert found.after == 8.0
    assert found.false_alarm == pytest.approx(2 / math.comb(13, 3))


def test_an_odd_value_just_before_a_change_is_not_its_first() -> None:
    level = [10.0, 10.1, 10.2, 10.3] * 3
    (found,) = statistics.shifts([*level, 11.5, 20.0, 20.1, 20.2])
    assert (found.at, found.said) == (13, 15)


@pytest.mark.parametrize(
    "values",
    [
        [*QUIET, 5.0, 10.0, 10.1],  # one odd night
        [*QUIET, 5.0, 15.0, 5.0],  # three odd nights that do not agree
        [*QUIET, 10.35, 10.4, 10.36],  # certain, and less than a twentieth
        [*QUIET[1:], 5.0, 5.0, 5.0],  # too few before
        [],
    ],
    ids=["outlier", "disagree", "tiny", "short", "nothing"],
)
def test_what_is_no_change_of_level(values: list[float]) -> None:
    assert statistics.shifts(values) == []


def test_after_a_change_the_new_level_is_learnt_before_another_is_told() -> None:
    again = [*QUIET, *(x - 3 for x in QUIET), 10.0, 10.1, 10.2]
    assert [one.at for one in statistics.shifts(again)] == [10, 20]
    soon = [*QUIET, *(x - 3 for x in QUIET[:5]), 10.0, 10.1, 10.2]
    assert [one.at for one in statistics.shifts(soon)] == [10]


def test_nothing_is_compared_across_a_break() -> None:
    assert statistics.shifts([*QUIET, 5.0, 5.0, 5.0], breaks=[10]) == []


@pytest.mark.parametrize("kind", ["normal", "heavy", "two humps"])
def test_the_stated_rate_of_false_alarms_holds_for_any_distribution(kind: str) -> None:
    rng = np.random.default_rng(7)
    nights = {
        "normal": rng.normal(10, 1, (1500, 13)),
        "heavy": rng.standard_cauchy((1500, 13)) + 10,
        "two humps": rng.choice([5.0, 15.0], (1500, 13)) + rng.normal(0, 1, (1500, 13)),
    }[kind]
    alarms = sum(bool(statistics.shifts(one)) for one in nights.tolist())
    allowed = statistics.false_alarm(10) * 1500
    assert alarms <= allowed + 3 * math.sqrt(allowed)
