from __future__ import annotations

import random

import pytest

from kar_checks.checks.throughput import statistics


def test_the_interval_of_the_median_is_repeatable_and_holds_it() -> None:
    source = random.Random(1)  # noqa: S311
    values = [10 + source.gauss(0, 1) for _ in range(30)]
    found = statistics.summarise(values)
    assert found == statistics.summarise(values)
    assert found.low < found.median < found.high
    assert found.high - found.low < 2
    assert found.least == min(values)
    assert 0.05 < found.variation < 0.2


def test_the_bootstrap_covers_the_true_median_about_as_often_as_it_says() -> None:
    source = random.Random(2)  # noqa: S311
    samples = [[source.gauss(10, 1) for _ in range(15)] for _ in range(100)]
    hit = [one.low <= 10 <= one.high for one in map(statistics.summarise, samples)]
    assert sum(hit) >= 85


def test_three_repeats_give_an_interval_as_wide_as_they_are() -> None:
    found = statistics.summarise([9.0, 11.0, 10.0])
    assert (found.low, found.median, found.high) == (9.0, 10.0, 11.0)


def test_equal_or_single_repeats_have_no_width_and_none_is_an_error() -> None:
    assert statistics.summarise([5.0, 5.0]).variation == 0
    assert statistics.summarise([5.0]).low == 5.0
    with pytest.raises(ValueError, match="no repeats"):
        statistics.summarise([])


def test_a_quantile_keeps_the_largest_sample_and_has_an_open_bound_where_samples_are_few() -> None:
    many = [float(one) for one in range(1, 10001)]
    found = statistics.quantile(many, 0.99)
    assert found.value == 9900
    assert 9850 < found.low < 9900 < found.high < 9950
    assert statistics.quantile(many[:100], 0.999).value == 100
    assert statistics.quantile(many[:100], 0.999).high == float("inf")
    with pytest.raises(ValueError, match="no samples"):
        statistics.quantile([], 0.5)


def test_the_interval_of_no_loss_is_not_zero() -> None:
    low, high = statistics.share_interval(0, 1000)
    assert low == 0
    assert high == pytest.approx(0.0037, abs=0.0001)


def mesh(count: int, slow: dict[int, int], noise: float = 0.05) -> list[list[int | None]]:
    """Return a mesh in which a pair is as fast as its slower node."""
    source = random.Random(3)  # noqa: S311
    can = [slow.get(one, 10000) for one in range(count)]
    return [
        [
            round(min(can[row], can[column]) * (1 + source.uniform(-noise, noise)))
            if row < column
            else None
            for column in range(count)
        ]
        for row in range(count)
    ]


@pytest.mark.parametrize("count", [3, 4, 10, 60])
def test_a_slow_node_is_outlying_and_its_partners_are_not(count: int) -> None:
    found = statistics.outliers(statistics.node_figures(mesh(count, {1: 500})))
    assert found.nodes == [1]
    assert statistics.outliers(statistics.node_figures(mesh(count, {}))).nodes == []


def test_several_slow_nodes_are_found_and_of_two_nodes_none() -> None:
    found = statistics.outliers(statistics.node_figures(mesh(20, {3: 500, 4: 2000, 9: 5000})))
    assert found.nodes == [3, 4, 9]
    assert statistics.outliers(statistics.node_figures(mesh(2, {1: 500}))).nodes == []


def test_a_node_without_a_pair_has_no_figure() -> None:
    found = statistics.node_figures([[None, 5, None], [None] * 3, [None] * 3])
    assert found == [5.0, 5.0, None]
    assert statistics.outliers(found).nodes == []
    with pytest.raises(ValueError, match="no node"):
        statistics.outliers([None])
