"""What runs are compared by: how long gangs take to start once there is room for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kar_checks.checks.gang.observation import (
    BackendObservation,
    Contest,
    Fits,
    Incomplete,
    Squeeze,
    Start,
)
from kar_checks.model import Fault, Measure


def of(backends: Mapping[str, BackendObservation | Fault]) -> list[Measure]:
    """Return a measure for each gang scheduler that started a whole gang."""
    samples = {
        name: [
            max(pod.at for pod in one.bound) - one.room_at
            for one in _starts(seen)
            # What was bound before there was room did not wait for it.
            if len(one.bound) == one.size and min(pod.at for pod in one.bound) >= one.room_at
        ]
        for name, seen in backends.items()
        if isinstance(seen, BackendObservation)
    }
    return [
        Measure(
            name="a gang starts",
            variant=name,
            unit="s",
            better="lower",
            samples=found,
            how="from room until the last member has a node, one sample for each gang",
        )
        for name, found in samples.items()
        if found
    ]


def _starts(seen: BackendObservation) -> Iterator[Start]:
    """Return the starts of scenarios that nobody disturbed."""
    for part in (seen.squeeze, seen.fits, seen.incomplete):
        if isinstance(part, Squeeze | Fits | Incomplete) and part.start and not part.disturbances:
            yield part.start
    if isinstance(seen.contest, Contest) and not seen.contest.disturbances:
        yield from filter(None, (seen.contest.first, seen.contest.second))
