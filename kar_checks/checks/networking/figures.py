"""The picture of a transfer: which interface of which pod counted the bytes."""

from __future__ import annotations

from typing import Any

from kar_checks.kit.networks.records import PodOnNetwork, Transfer
from kar_checks.model import Figure, Series

MIB = 1 << 20


def counters(
    network: str, transfer: Transfer, raw: dict[str, Any], pods: list[PodOnNetwork]
) -> Figure:
    """Return the bytes that each interface of both pods counted, both ways together, over time."""
    series: list[Series] = []
    for side, pod in zip(("client", "server"), pods, strict=True):
        samples: list[Any] = (raw.get(side) or {}).get("samples") or []
        names = dict.fromkeys([pod.told.name if pod.told else "", pod.look.default])
        for name in names:
            points = [(float(at), sum(found[name])) for at, found in samples if name in found]
            if points:
                first = points[0][1]
                series.append(
                    Series(
                        name=f"{name} in the {side}'s pod on {pod.node}",
                        points=[(at, round((value - first) / MIB, 3)) for at, value in points],
                    )
                )
    return Figure(
        kind="trace",
        title=f"Bytes counted by each interface while {transfer.bytes / MIB:g} MiB went each way",
        checks=["networking.data_path"],
        variant=network,
        unit="MiB",
        seconds=max((point[0] for one in series for point in one.points), default=0.0),
        series=series,
    )
