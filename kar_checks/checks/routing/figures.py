"""What the page draws: shares by phase, and the way that the requests of one phase went."""

from __future__ import annotations

from kar_checks.checks.routing.observation import Adapters, ClassObservation, Load, Phase
from kar_checks.kit.http_testbed.figures import shares
from kar_checks.kit.http_testbed.steady import Steady, figure
from kar_checks.model import Fault, Figure, Hop, Stop

_CHECK = "routing.follows_load"
_ADAPTERS = "routing.adapter_affinity"


def draw(
    classes: dict[str, ClassObservation | Fault], picker: str, confidence: float
) -> list[Figure]:
    """Return the figures of every class whose load was changed; ``picker`` names its image."""
    found: list[Figure] = []
    for name, one in classes.items():
        if not isinstance(one, ClassObservation):
            continue
        if isinstance(one.load, Load) and one.gateway:
            phase = next(phase for phase in one.load.phases if phase.loaded)
            title = f"Share of each server by phase, {name}, in the order that was drawn"
            phases = [*one.load.phases, *one.load.held]
            found += [
                _shares(_CHECK, name, title, phases, confidence),
                _way(name, phase, one.gateway.address, picker),
            ]
        if isinstance(one.steady, Steady) and (drawn := figure(one.steady, "routing.steady", name)):
            found.append(drawn)
        if isinstance(one.adapters, Adapters):
            title = f"Share of the requests for an adapter, {name}"
            found.append(_shares(_ADAPTERS, name, title, one.adapters.phases, confidence))
    return found


def _shares(check: str, name: str, title: str, phases: list[Phase], confidence: float) -> Figure:
    return Figure(
        kind="shares",
        title=title,
        checks=[check],
        variant=name,
        unit="share of the answers",
        seconds=0,
        shares=[
            share
            for phase in phases
            for share in shares(
                phase.name,
                {pod: phase.sample.good(pod=pod) for pod in phase.sample.counted},
                confidence,
            )
        ],
    )


def _way(name: str, phase: Phase, address: str, picker: str) -> Figure:
    """Return who asked whom in a phase with load, by everybody's own count.

    Without a picker's own count the gateway picks by itself, and reads the reports itself.
    """
    sample = phase.sample
    stops = [Stop(name="client"), Stop(name="gateway", detail=address)]
    if phase.decisions is not None:
        stops.append(Stop(name="picker", detail=picker.rpartition("/")[2]))
    picks, servers = len(stops) - 1, len(stops)
    stops += [
        Stop(name=pod, detail="reports load" if pod == phase.loaded else "")
        for pod in sample.counted
    ]
    hops = [
        Hop(source=servers + number, target=picks, label=f"report, read {phase.read[pod]} times")
        for number, pod in enumerate(sample.counted)
        if phase.read[pod]
    ]
    hops.append(Hop(source=0, target=1, label=f"{sample.sent} requests"))
    if phase.decisions is not None:
        hops += [
            Hop(source=1, target=picks, label="which server?"),
            Hop(source=picks, target=1, label=f"{phase.decisions} picks"),
        ]
    hops += [
        Hop(source=1, target=servers + number, label=f"{count} requests", heavy=count > 0)
        for number, count in enumerate(sample.counted.values())
    ]
    hops.append(Hop(source=1, target=0, label=f"{sample.good()} answers"))
    return Figure(
        kind="way",
        title=f"The way of the requests, {name}, {phase.name}",
        checks=[_CHECK],
        variant=name,
        seconds=sample.seconds,
        stops=stops,
        hops=hops,
    )
