"""What runs are compared by: how long a class takes to do what its routes demand."""

from __future__ import annotations

from collections.abc import Mapping

from kar_checks.checks.gateway.observation import ClassObservation, Weights
from kar_checks.model import Fault, Measure


def of(classes: Mapping[str, ClassObservation | Fault]) -> list[Measure]:
    """Return the measures of each class; what never came to its end gives no sample."""
    found: list[Measure] = []
    for name, seen in classes.items():
        if isinstance(seen, Fault):
            continue
        ready = [seen.gateway.seconds] if seen.gateway and seen.gateway.programmed else []
        phases = seen.weights.phases if isinstance(seen.weights, Weights) else []
        changed = [one.settled.seconds for one in phases[1:] if one.settled.settled]
        found += [
            Measure(
                name="a Gateway is programmed",
                variant=name,
                unit="s",
                better="lower",
                samples=ready,
                how="from its creation",
            ),
            Measure(
                name="new weights are in effect",
                variant=name,
                unit="s",
                better="lower",
                samples=changed,
                how="from the change of the route until answers follow it steadily",
            ),
        ]
    return [one for one in found if one.samples]
