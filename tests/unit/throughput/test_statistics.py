from __future__ import annotations

import random
from typing import Any

import pytest

from kar_checks.checks.throughput import statistics
from tests.unit.throughput.samples import UDP, tcp


def test_the_loss_of_runs_is_taken_together() -> None:
    runs = [
        UDP[0].model_copy(update={"lost": 4, "overrun": 3, "jitter_ms": 0.4}),
        UDP[0].model_copy(update={"lost": 6}),
    ]
    found = statistics.loss(runs)
    assert (found.packets, found.lost, found.share) == (10000, 10, 0.001)
    assert found.low < 0.001 < found.high < 0.002
    assert (found.overrun, found.overrun_known) == (3, False)
    assert found.jitter_ms == 0.4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"error": "refused"}, "refused"),
        ({"lost": -3}, "iperf3 reports -3 of 5000 packets as lost"),
        ({"lost": 5001}, "iperf3 reports 5001 of 5000 packets as lost"),
        ({"packets": 0}, "iperf3 reports 0 of 0 packets as lost"),
        ({"lost": None}, "iperf3 reports None of 5000 packets as lost"),
    ],
)
def test_impossible_numbers_show_no_loss(changes: dict[str, Any], why: str) -> None:
    assert statistics.no_loss(UDP[0].model_copy(update=changes)) == why


@pytest.mark.parametrize(
    ("received", "why"),
    [
        (1e9, ""),
        (0.0, "iperf3 reports 0.0 bit/s received"),
        (None, "iperf3 reports None bit/s received"),
        (float("nan"), "iperf3 reports nan bit/s received"),
    ],
)
def test_nothing_received_is_no_rate(received: float | None, why: str) -> None:
    assert statistics.no_rate(tcp(1.0, received=received)) == why


def test_of_two_directions_the_slower_one_is_the_rate() -> None:
    assert statistics.rates([tcp(1.0, received_back=4e8), tcp(1.0)]).least == 4e8


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
