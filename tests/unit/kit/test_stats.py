from __future__ import annotations

import random

import pytest

from kar_checks.kit import stats


def test_the_interval_of_the_median_is_repeatable_and_holds_it() -> None:
    source = random.Random(1)  # noqa: S311
    values = [10 + source.gauss(0, 1) for _ in range(30)]
    found = stats.summarise(values)
    assert found == stats.summarise(values)
    assert found.low < found.median < found.high
    assert found.high - found.low < 2
    assert found.least == min(values)
    assert 0.05 < found.variation < 0.2


def test_the_bootstrap_covers_the_true_median_about_as_often_as_it_says() -> None:
    source = random.Random(2)  # noqa: S311
    samples = [[source.gauss(10, 1) for _ in range(15)] for _ in range(100)]
    hit = [one.low <= 10 <= one.high for one in map(stats.summarise, samples)]
    assert sum(hit) >= 85


def test_three_repeats_give_an_interval_as_wide_as_they_are() -> None:
    found = stats.summarise([9.0, 11.0, 10.0])
    assert (found.low, found.median, found.high) == (9.0, 10.0, 11.0)


def test_equal_or_single_repeats_have_no_width_and_none_is_an_error() -> None:
    assert stats.summarise([5.0, 5.0]).variation == 0
    assert stats.summarise([5.0]).low == 5.0
    with pytest.raises(ValueError, match="no repeats"):
        stats.summarise([])


def test_a_quantile_keeps_the_largest_sample_and_has_an_open_bound_where_samples_are_few() -> None:
    many = [float(one) for one in range(1, 10001)]
    found = stats.quantile(many, 0.99)
    assert found.value == 9900
    assert 9850 < found.low < 9900 < found.high < 9950
    assert stats.quantile(many[:100], 0.999).value == 100
    assert stats.quantile(many[:100], 0.999).high == float("inf")
    with pytest.raises(ValueError, match="no samples"):
        stats.quantile([], 0.5)


def test_the_interval_of_no_loss_is_not_zero() -> None:
    low, high = stats.interval(0, 1000)
    assert low == 0
    assert high == pytest.approx(0.0037, abs=0.0001)
