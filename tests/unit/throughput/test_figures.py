from __future__ import annotations

import random

import pytest

from kar_checks.checks.throughput.figures import MOST_BLOCKS, mesh_figures, of
from kar_checks.checks.throughput.observation import Mesh
from kar_checks.report import figures
from tests.unit.throughput.samples import MESH, REVERSE, network, runs


def big(count: int, slow: int) -> Mesh:
    source = random.Random(1)  # noqa: S311
    can = [500 if one == slow else 10000 for one in range(count)]
    return MESH.model_copy(
        update={
            "nodes": [f"node-{one:04}" for one in range(count)],
            "megabits": [
                [
                    round(min(can[row], can[column]) * source.uniform(0.95, 1))
                    if row < column
                    else None
                    for column in range(count)
                ]
                for row in range(count)
            ],
        }
    )


def test_each_judged_cell_has_its_intervals_with_median_and_band() -> None:
    found = of("pod network", network(mesh=None), 7)
    assert [one.kind for one in found] == ["trace", "trace"]
    first = found[0]
    assert (first.checks, first.variant) == (["throughput.tcp"], "pod network")
    assert [one.name for one in first.series] == ["repeat 1", "repeat 2", "repeat 3"]
    (band,) = first.bands
    assert (band.low, band.high) == (9.5, 10.5)
    assert band.label == "median 10, interval 9.5 to 10.5"
    assert "band" in figures.svg(first, "f")


def test_a_cell_without_a_valid_run_has_no_figure() -> None:
    failed = runs(0, 0, cell=REVERSE, received=None, error="busy")
    assert of("pod network", network(tcp=failed, mesh=None), 7) == []


def test_a_small_mesh_is_shown_whole_and_both_ways() -> None:
    (found,) = mesh_figures("pod network", MESH, 7)
    assert found.names == ["a", "b", "c"]
    assert found.values == [[None, 9.0, 9.1], [9.0, None, 9.2], [9.1, 9.2, None]]
    assert found.title == "Mesh of 3 nodes, one stream for each pair"


def test_a_large_mesh_is_shown_in_blocks_with_its_outlying_nodes_in_detail() -> None:
    whole, detail = mesh_figures("pod network", big(120, 77), 7)
    assert len(whole.values) == len(whole.names) <= MOST_BLOCKS
    assert whole.names[0] == "node-0000 to node-0004"
    assert detail.names[0] == "node-0077"
    assert detail.values[0][1] is not None
    assert detail.values[0][1] < 1
    sampled = big(120, 77).model_copy(update={"all_rounds": 119})
    assert "3 of 119 rounds drawn by seed 7" in mesh_figures("n", sampled, 7)[0].title


@pytest.mark.parametrize("mesh", [MESH, big(120, 77)])
def test_a_heat_map_is_drawn_small_with_its_data_in_a_table(mesh: Mesh) -> None:
    for figure in mesh_figures("pod network", mesh, 7):
        drawn = figures.svg(figure, "f")
        assert "--figure-heat-5" in drawn
        assert len(drawn) < 400_000
        assert "heat map of" in figures.alternative(figure)
        head, rows, _ = figures.rows(figure)
        assert head == ["Row", "Column", "Value (Gbit/s)"]
        assert rows


def test_a_mesh_without_a_pair_has_no_figure() -> None:
    empty = MESH.model_copy(update={"megabits": [[None] * 3] * 3})
    assert mesh_figures("n", empty, 1) == []


def test_where_all_are_equal_the_legend_has_one_colour() -> None:
    alike = [[None, 9000, 9000], [None, None, 9000], [None, None, None]]
    (found,) = mesh_figures("pod network", MESH.model_copy(update={"megabits": alike}), 7)
    drawn = figures.svg(found, "h")
    assert "--figure-heat-5" in drawn
    assert "--figure-heat-1" not in drawn
