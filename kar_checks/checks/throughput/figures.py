"""Figures of the throughput trial: interval series with their median, the mesh as a heat map."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from kar_checks.checks.throughput.observation import Cell, Mesh, NetworkSeen, TcpRun, judged_cells
from kar_checks.checks.throughput.statistics import node_figures, outliers
from kar_checks.kit.stats import summarise
from kar_checks.model import Band, Figure, Series

MOST_BLOCKS = 25
"""A heat map has at most so many rows: a larger mesh is shown as blocks of nodes."""
MOST_DETAILS = 12
_MOST_SERIES = 4


def of(network: str, seen: NetworkSeen, seed: int) -> list[Figure]:
    """Return what the page shows of a network."""
    found = [
        figure for cell in judged_cells(seen.tcp) if (figure := _intervals(network, cell, seen.tcp))
    ]
    return found + (mesh_figures(network, seen.mesh, seed) if seen.mesh else [])


def _intervals(network: str, cell: Cell, runs: Sequence[TcpRun]) -> Figure | None:
    mine = [one for one in runs if one.cell == cell and one.judged and one.received is not None]
    if not mine:
        return None
    found = summarise([one.received / 1e9 for one in mine if one.received is not None])
    series = [
        Series(
            name=f"repeat {one.repeat + 1}",
            points=[(at, speed / 1e9) for at, speed in one.intervals],
        )
        for one in sorted(mine, key=lambda one: one.repeat)[:_MOST_SERIES]
    ]
    return Figure(
        kind="trace",
        title=f"TCP, {cell.name}: {_of_all(len(series), len(mine))}, median and 95 % interval",
        checks=["throughput.tcp"],
        variant=network,
        unit="Gbit/s",
        seconds=max((at for one in series for at, _ in one.points), default=1.0),
        series=series,
        bands=[
            Band(
                low=found.low,
                high=found.high,
                label=f"median {found.median:.3g}, interval {found.low:.3g} to {found.high:.3g}",
            )
        ],
    )


def _of_all(shown: int, all_: int) -> str:
    return f"{all_} repeats" if shown == all_ else f"{shown} of {all_} repeats"


def mesh_figures(network: str, mesh: Mesh, seed: int) -> list[Figure]:
    """Return the heat map of a mesh, in blocks if it is large, and one of its outlying nodes."""
    count = len(mesh.nodes)
    known = node_figures(mesh.megabits)
    if all(one is None for one in known):
        return []
    slow = outliers(known)
    size = math.ceil(count / MOST_BLOCKS)
    blocks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    sample = (
        ""
        if mesh.rounds == mesh.all_rounds
        else f", {mesh.rounds} of {mesh.all_rounds} rounds drawn by seed {seed}"
    )
    told = f", medians of blocks of {size} nodes" if size > 1 else ""
    found = [
        _heat(
            network,
            f"Mesh of {count} nodes, one stream for each pair{sample}{told}",
            [_block(mesh.nodes, one) for one in blocks],
            _medians(mesh, blocks),
        )
    ]
    if size > 1 and slow.nodes:
        worst = sorted(slow.nodes, key=lambda one: known[one] or 0)[:MOST_DETAILS]
        best = sorted(set(range(count)) - set(slow.nodes), key=lambda one: -(known[one] or 0))
        shown = [*worst, *best[: MOST_DETAILS - len(worst) + 4]]
        one_each = [range(one, one + 1) for one in shown]
        found.append(
            _heat(
                network,
                f"The {len(worst)} slowest of {len(slow.nodes)} outlying nodes, beside good ones",
                [mesh.nodes[one] for one in shown],
                _medians(mesh, one_each),
            )
        )
    return found


def _heat(network: str, title: str, names: list[str], values: list[list[float | None]]) -> Figure:
    return Figure(
        kind="heat",
        title=title,
        checks=["throughput.mesh"],
        variant=network,
        unit="Gbit/s",
        seconds=0,
        names=names,
        values=values,
    )


def _block(names: Sequence[str], block: range) -> str:
    first, last = names[block[0]], names[block[-1]]
    return first if len(block) == 1 else f"{first} to {last}"


def _medians(mesh: Mesh, blocks: Sequence[range]) -> list[list[float | None]]:
    """Return the median of each two blocks; it is the same for both orders of the two."""
    found: list[list[float | None]] = [[None] * len(blocks) for _ in blocks]
    for one, rows in enumerate(blocks):
        for other, columns in enumerate(blocks[: one + 1]):
            found[one][other] = found[other][one] = _median(mesh, rows, columns)
    return found


def _median(mesh: Mesh, rows: range, columns: range) -> float | None:
    """Return the median of the pairs between two blocks, whoever sent, in Gbit/s."""
    both = [
        value
        for one in rows
        for other in columns
        for value in (mesh.megabits[one][other], mesh.megabits[other][one])
        if value is not None
    ]
    return statistics.median(both) / 1000 if both else None
