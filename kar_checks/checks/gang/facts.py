"""The facts that the verdicts on gang scheduling show. Pure."""

from __future__ import annotations

from kar_checks.checks.gang.kueue import CONFIG_NAME, CONFIG_NAMESPACE
from kar_checks.checks.gang.observation import (
    BackendObservation,
    BoundPod,
    Fragmented,
    Guarantee,
    Problem,
    Refusal,
    Scenario,
    Start,
    Witness,
)
from kar_checks.model import Fact


def place(seen: BackendObservation, scenario: Scenario | None) -> list[Fact]:
    """Return the facts that every verdict on a scenario rests on."""
    facts = [Fact(name="API", value=seen.version, source="discovery")]
    if scenario is None:
        return facts
    asked = {
        pod.scheduler for group in scenario.groups if group.role == "gang" for pod in group.pods
    }
    facts += [
        Fact(name="scheduler asked", value=name, source="spec.schedulerName as it was stored")
        for name in sorted(asked)
    ]
    arena = scenario.arena
    if arena.kind == "quota":
        where, source = "in the quota of", f"{arena.free} m is all that it can give"
    else:
        where = "on"
        source = f"{arena.free} m free before: allocatable minus the requests of its pods"
    value = f"{arena.places:g} places of {arena.member} m CPU {where} {arena.node}"
    return [*facts, Fact(name="room", value=value, source=source)]


def guarantee(seen: Guarantee) -> list[Fact]:
    """Return how far the guarantee goes, which the requirement does not ask for."""
    source = "a gang of ours with quota for all, and a node for all but one; for information"
    facts = [Fact(name="level of the guarantee", value=_level(seen), source=source)]
    name = "topology-aware scheduling"
    if isinstance(seen.by_topology, Fragmented):
        value = f"the same gang in a queue of ours with a topology: {_admitted(seen.by_topology)}"
        source = seen.by_topology.said or "conditions of the Workload"
        facts.append(Fact(name=name, value=value, source=source))
    elif isinstance(seen.by_topology, Problem):
        value = f"could not be tried: {seen.by_topology.text}"
        facts.append(Fact(name=name, value=value, source="a queue of ours"))
    facts.append(
        Fact(name="waitForPodsReady", value=_pods_ready(seen), source="Kueue's configuration")
    )
    if seen.nodes is not None and seen.quota > seen.nodes:
        facts.append(
            Fact(
                name="quota larger than the cluster",
                value=f"{seen.quota} m CPU can be given, and the nodes have {seen.nodes} m: a gang "
                "may be admitted that has no room",
                source="the queue's refusal of more; allocatable of the nodes",
            )
        )
    return facts


def _level(seen: Guarantee) -> str:
    if not seen.by_quota.admitted:
        return f"placement: the gang was {_admitted(seen.by_quota)}"
    if seen.pods_ready is not None and seen.pods_ready.on:
        name = "quota, and a timeout until all pods are ready"
    elif seen.pods_ready is not None:
        name = "quota only"
    else:
        name = "quota; whether a timeout applies until all pods are ready is unknown"
    return f"{name}: the gang was {_admitted(seen.by_quota)}"


def _admitted(seen: Fragmented) -> str:
    if not seen.admitted:
        return "held back as a whole"
    return f"admitted, and {seen.bound} of its {seen.size} pods got a node"


def _pods_ready(seen: Guarantee) -> str:
    found = seen.pods_ready
    if found is None:
        return f"could not be read in the ConfigMap {CONFIG_NAME} of {CONFIG_NAMESPACE}"
    if not found.on:
        return "off: nothing takes back an admitted gang that does not start as a whole"
    return f"on: such a gang is taken back after {found.timeout}" + (
        ", and nothing else is admitted meanwhile" if found.blocks else ""
    )


def started(seen: Start) -> list[Fact]:
    """Return how a whole gang started."""
    first, last = seen.bound[0].at, seen.bound[-1].at
    return [
        Fact(
            name="members bound",
            value=f"{len(seen.bound)}, {first - seen.room_at:.1f} s after there was room, "
            f"{last - first:.2f} s apart",
            expected=str(seen.size),
            source="spec.nodeName, watched",
        ),
        Fact(
            name="members connected to all others at once",
            value=str(seen.met),
            expected=str(seen.size),
            source="what each member printed",
        ),
        Fact(
            name="members completed",
            value=str(seen.completed),
            expected=str(seen.size),
            source="status.phase",
        ),
    ]


def refused(seen: Refusal) -> list[Fact]:
    """Return how the gang scheduler explained that a gang waits."""
    return [
        Fact(name="refusal", value=seen.condition, source=seen.source),
        *(Fact(name="event", value=text, source=seen.source) for text in seen.events[:1]),
    ]


def witnessed(seen: Witness | None) -> list[Fact]:
    """Return how fast plain pods were bound."""
    if seen is None or seen.seconds is None:
        return []
    return [
        Fact(
            name="plain pods bound beside the waiting gang",
            value=f"{seen.bound} in {seen.seconds:.1f} s",
            expected=str(seen.asked),
            source="spec.nodeName, watched",
        )
    ]


def moments(bound: list[BoundPod]) -> str:
    """Return when pods were bound, in words."""
    return ", ".join(f"{pod.name} at {pod.at:.1f} s" for pod in bound[:6])
