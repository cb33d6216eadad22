"""What byte counters say of an exchange, be it over interfaces or over RDMA ports. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kar_checks.kit.networks.records import Bytes, PodOnNetwork
from kar_checks.model import Fact

_MIB = 1 << 20


def risen(before: Bytes, after: Bytes) -> Bytes:
    """Return the bytes by which the counters rose; without those that are not in both."""
    return {
        name: (after[name][0] - was[0], after[name][1] - was[1])
        for name, was in before.items()
        if name in after
    }


def elsewhere(deltas: Bytes, own: str, least: float) -> dict[str, int]:
    """Return what every other interface counted the one way or the other, if above ``least``."""
    return {
        name: max(delta)
        for name, delta in deltas.items()
        if name not in (own, "lo") and max(delta) > least
    }


def listed(counted: dict[str, int]) -> str:
    """Return bytes by interface in words; empty if there are none."""
    return ", ".join(f"{name} {most / _MIB:.1f} MiB" for name, most in counted.items())


def facts(
    pod: PodOnNetwork, deltas: Bytes, names: Iterable[str], source: str, prefix: str = ""
) -> list[Fact]:
    """Return a fact for each of these counters that the pod has."""
    return [
        Fact(
            name=f"{prefix}{name} in {pod.name} on {pod.node}",
            value=f"received {deltas[name][0]:,} bytes, sent {deltas[name][1]:,} bytes",
            source=source,
        )
        for name in names
        if name in deltas
    ]
