"""Shares as figures have them."""

from __future__ import annotations

from collections.abc import Mapping

from kar_checks.kit.stats import interval
from kar_checks.model import Share


def shares(
    group: str,
    hits: Mapping[str, int],
    confidence: float,
    expected: Mapping[str, float] | None = None,
) -> list[Share]:
    """Return the share of each name in a phase, with its exact interval."""
    of = sum(hits.values())
    out: list[Share] = []
    for name, count in hits.items():
        low, high = interval(count, of, confidence)
        out.append(
            Share(
                group=group,
                name=name,
                value=count / of if of else 0.0,
                low=low,
                high=high,
                expected=(expected or {}).get(name),
            )
        )
    return out
