"""The verdicts on secondary networks: observation and profile in, a finding per network out. Pure.

What kept the suite from a measurement goes first, then the control, then the claim.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kar_checks.checks.networking.absent import none_found
from kar_checks.checks.networking.carried import control_failed, data_path
from kar_checks.checks.networking.observation import NetworkingObservation
from kar_checks.checks.networking.present import (
    NetworkCase,
    characteristics,
    control_of,
    interface,
)
from kar_checks.cluster.pods import OPT_OUT
from kar_checks.kit.judging import Judge, Rule, error, not_recorded
from kar_checks.kit.networks import obstacles
from kar_checks.kit.networks.records import Measured
from kar_checks.kit.pulse import fact, too_short
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Fault, Reason

verdict = Reasons(__package__)

_FULL = re.compile(r"(\d+) (?:Insufficient (?:cpu|memory|ephemeral-storage)\b|Too many pods)")
_TAINT = "untolerated taint"
_WANTED = {
    "networking.interface": 1,
    "networking.characteristics": 1,
    "networking.data_path": 2,
}
"""How many pods on the network a check needs. Placement decides by other pods first."""
_WATCHED = (
    "spec.resourceClaims",
    "spec.nodeSelector",
    "spec.affinity",
    "spec.containers[probe].resources.claims",
    "spec.containers[probe].command",
    "spec.devices",
)
"""Fields of our objects without which they are not what the judgement takes them for."""


# -- before the rule ------------------------------------------------------------------------


def _unusable(case: NetworkCase) -> Ruling | None:
    seen = case.seen
    if seen.problem is not None:
        return not_recorded("which other nodes offer the network, and who held its devices")
    found = obstacles.unavailable(seen) or obstacles.refused(seen)
    return found or (verdict("not_observed.control") if seen.control is None else None)


def _on_one_node(case: NetworkCase) -> Ruling | None:
    """Return that the pods were put on one node; admission that does this is named so."""
    nodes = [pod.node for pod in case.seen.pods]
    if case.check != "networking.data_path" or len(nodes) < 2 or len(set(nodes)) > 1:
        return None
    return verdict("same_node", node=nodes[0])


def _mutated(case: NetworkCase) -> Ruling | None:
    for change in case.run.mutations:
        if change.field.startswith(_WATCHED):
            return verdict("mutated", object=change.object, field=change.field, opt_out=OPT_OUT)
    return None


def _too_few(case: NetworkCase) -> bool:
    return len(case.seen.pods) < _WANTED.get(case.check, 0)


def _no_room(case: NetworkCase) -> Ruling | None:
    return _crowded(case.seen) if _too_few(case) else None


def _crowded(seen: Measured) -> Ruling | None:
    """Return that a pod found no room on the nodes, where the network is no part of the reason."""
    if not seen.attempts or seen.attempts[0].node:
        return None
    tried = seen.attempts[0]
    said = tried.scheduler.partition(" preemption:")[0].rstrip(". ")
    of_network = "claim" in said or (seen.resource and seen.resource in said)
    full = max((int(count) for count in _FULL.findall(said)), default=0)
    if full and (not of_network or full >= len(_left(seen))):
        held = f"; {tried.held}" if tried.held else ""
        message = f"pod {tried.pod} has no room: {said}{held}"
        return error(Fault(reason=Reason.NO_ROOM, message=message))
    if of_network or _TAINT not in said:
        return None
    return verdict("unschedulable", pod=tried.pod, scheduler=said)


def _left(seen: Measured) -> set[str]:
    """Return the nodes that had a device for the next pod.

    If fewer are full, one of them has room, and the network is what keeps the pod from it.
    """
    offering = seen.capable if seen.free is None else seen.free
    return set(offering) - {pod.node for pod in seen.pods}


# -- the rules ------------------------------------------------------------------------------


def _on_network(ask: Callable[[NetworkCase], Ruling]) -> Rule[NetworkingObservation, Measured]:
    """Return a rule that is asked once enough pods are on the network."""
    return Rule((), lambda case: _off_network(case.seen) if _too_few(case) else ask(case))


def _off_network(seen: Measured) -> Ruling:
    """Return why too few pods are on the network."""
    if not seen.attempts:
        return obstacles.one_node(seen)
    tried = seen.attempts[0]
    provider = obstacles.provider(seen)
    facts = [
        Fact(name="event", value=event, source=f"events of {tried.pod}")
        for event in tried.events[:2]
    ]
    about = {"pod": tried.pod, "seconds": tried.seconds, "provider": provider}
    if tried.node:
        event = tried.events[-1] if tried.events else tried.state
        return obstacles.unattached(seen, tried) or verdict(
            "not_attached", facts, node=tried.node, event=event, **about
        )
    if not tried.scheduler:
        return verdict("scheduler_silent", facts, pod=tried.pod, seconds=tried.seconds)
    capable = ", ".join(seen.capable)
    return obstacles.unallocated(seen, tried) or verdict(
        "not_allocated", facts, capable=capable, scheduler=tried.scheduler, **about
    )


def _placement(case: NetworkCase) -> Ruling:
    seen, refusal = case.seen, case.seen.refusal
    if not seen.steers:
        return verdict("does_not_steer", offered=seen.offered)
    if isinstance(refusal, Fault):
        return error(refusal)
    placed = [(pod.name, pod.node) for pod in seen.pods]
    placed += [(tried.pod, tried.node) for tried in seen.attempts if tried.node]
    capable = ", ".join(seen.capable)
    for pod, node in placed:
        if node not in seen.capable:
            return verdict("landed_astray", pod=pod, node=node, capable=capable or "no node")
    if refusal is None:
        return verdict("no_incapable_node", capable=capable)
    if refusal.bound:
        return verdict("bound_without_network", pod=refusal.pod, node=refusal.bound)
    if not placed:
        return _crowded(seen) or _off_network(seen)
    return _unattributed(case) or verdict(
        "kept_from_incapable",
        _placement_facts(case, placed),
        nodes=", ".join(sorted({node for _, node in placed})),
        node=refusal.node,
        seconds=refusal.seconds,
    )


def _unattributed(case: NetworkCase) -> Ruling | None:
    """Return why the pinned pod may have waited for another reason than the network."""
    refusal = case.seen.refusal
    if refusal is None or isinstance(refusal, Fault):
        return None
    if control_of(case).node != refusal.node:
        return verdict("control_elsewhere", node=refusal.node)
    wanted = f"Insufficient {case.seen.resource}" if case.seen.resource else "claim"
    if wanted not in refusal.message:
        message = refusal.message or "it reported nothing"
        return verdict("not_attributed", pod=refusal.pod, node=refusal.node, message=message)
    return too_short(refusal.pulse, case.profile.number("networking.refused_seconds"), case.profile)


def _placement_facts(case: NetworkCase, placed: list[tuple[str, str]]) -> list[Fact]:
    refusal = case.seen.refusal
    if refusal is None or isinstance(refusal, Fault):
        return []
    return [
        Fact(
            name=f"pod that asks for the network, pinned to {refusal.node}",
            value=f"no node in {refusal.seconds:.1f} s",
            expected="no node",
            source="spec.nodeName, watched",
        ),
        Fact(
            name="the scheduler's message",
            value=refusal.message,
            expected="names the mechanism",
            source="condition PodScheduled",
        ),
        Fact(
            name=f"the same pod without the network on {control_of(case).node}",
            value="Ready",
            expected="Ready",
            source="condition Ready",
        ),
        *fact(refusal.pulse, case.profile),
        *(Fact(name=f"{pod} ran on", value=node, source="spec.nodeName") for pod, node in placed),
    ]


# -- around every verdict -------------------------------------------------------------------


def _context(case: NetworkCase) -> list[Fact]:
    seen, more = case.seen, case.run.more
    out = [Fact(name="network", value=seen.offered, source="what the cluster publishes")]
    if seen.steers:
        offer = f"{', '.join(seen.capable) or 'none'}; not on {', '.join(seen.incapable) or 'none'}"
        out.append(Fact(name="offered on", value=offer, source="read before anything was started"))
    if more:
        out.append(
            Fact(
                name="further networks, not measured",
                value=", ".join(more[:8]),
                source="measure one with --set networking.network=…",
            )
        )
    return out


def _left_out(run: NetworkingObservation) -> list[Fact]:
    return [
        Fact(name="left out because it cannot be read", value=why, source="the API server")
        for why in run.left_out[:8]
    ]


def _missing(run: NetworkingObservation) -> dict[str, Ruling]:
    return {} if run.networks else {"": none_found(run)}


judge = Judge[NetworkingObservation, Measured](
    rules={
        "networking.interface": _on_network(interface),
        "networking.characteristics": _on_network(characteristics),
        "networking.placement": Rule((), _placement),
        "networking.data_path": _on_network(data_path),
    },
    variants=lambda run, _: run.networks,
    missing=_missing,
    unusable=_unusable,
    changed_by_others=_on_one_node,
    mutated=_mutated,
    no_room=_no_room,
    control_failed=control_failed,
    about=_left_out,
    context=_context,
)
