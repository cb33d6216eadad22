"""What runs are compared by: the repeats of each judged TCP cell, and each repeat's latency."""

from __future__ import annotations

import statistics

from kar_checks.checks.throughput.observation import NetworkSeen
from kar_checks.model import Measure


def of(network: str, seen: NetworkSeen) -> list[Measure]:
    """Return the measures of a network; what failed gives no sample, and none gives no measure."""
    found = [
        Measure(
            name=f"TCP, {cell.name}",
            variant=network,
            unit="Gbit/s",
            better="higher",
            samples=[
                one.received / 1e9
                for one in seen.tcp
                if one.cell == cell and one.judged and not one.error and one.received is not None
            ],
            how="iperf3 at the receiver, one sample for each repeat",
        )
        for cell in dict.fromkeys(one.cell for one in seen.tcp if one.judged)
    ]
    found.append(
        Measure(
            name="latency of a small request",
            variant=network,
            unit="µs",
            better="lower",
            samples=[
                statistics.median(one.samples_us)
                for one in seen.latency
                if one.samples_us and not one.error
            ],
            how="the median of each repeat's requests over one connection",
        )
    )
    return [one for one in found if one.samples]
