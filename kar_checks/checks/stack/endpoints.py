"""Which of a pod's endpoints tell the same, and what all of them tell together. Pure.

The ranks of an engine have a server each, and each counts its own work: their series are summed. A
sidecar may pass the metrics of the engine through at a port of its own: those count once. Only
several readings tell the two apart, since ranks that have done nothing yet look alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kar_checks.checks.stack.engines import Sample, known

Reading = Mapping[str, Sequence[Sample]]
"""The samples of each endpoint at one moment."""


def together(readings: Sequence[Reading]) -> list[list[Sample]]:
    """Return what a pod tells at each moment, each thing once."""
    endpoints = list(dict.fromkeys(name for one in readings for name in one))
    kept: list[list[Sample]] = [[] for _ in readings]
    for number, endpoint in enumerate(endpoints):
        told = {
            sample.name
            for other in endpoints[:number]
            if _passes_on(endpoint, other, readings)
            for one in readings
            for sample in one.get(other, ())
        }
        for out, one in zip(kept, readings, strict=True):
            out += [sample for sample in one.get(endpoint, ()) if sample.name not in told]
    return kept


def _passes_on(endpoint: str, other: str, readings: Sequence[Reading]) -> bool:
    """Say whether an endpoint tells what the other does: the same values at every moment."""
    both = [one for one in readings if endpoint in one and other in one]
    if not both or not all(_starts(one[other]) <= _starts(one[endpoint]) for one in both):
        return False
    shared = {one.name for one in both[-1][endpoint]} & {one.name for one in both[-1][other]}
    shared.discard(known().start)
    return bool(shared) and all(
        _twin(sample, one[other])
        for one in both
        for sample in one[endpoint]
        if sample.name in shared
    )


def _starts(samples: Sequence[Sample]) -> set[float]:
    return {one.value for one in samples if one.name == known().start}


def _twin(sample: Sample, others: Sequence[Sample]) -> bool:
    """Say whether the sample is among others; who passes it on may add labels."""
    return any(
        one.name == sample.name
        and one.value == sample.value
        and all(
            one.labels[key] == sample.labels[key]
            for key in one.labels.keys() & sample.labels.keys()
        )
        for one in others
    )
