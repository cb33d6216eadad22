"""Why a network that exists cannot be measured, though nothing shows that it is broken. Pure.

Each of these is inconclusive, for a reason of its own that names who holds what, or where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kar_checks.kit.judging import not_recorded
from kar_checks.kit.networks.records import Attempt, Elsewhere, Measured
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact

verdict = Reasons(__package__)

_MOST = 4
"""So many are named in a sentence; the facts have more."""
_MOST_FACTS = 12
_ISOLATED = re.compile(r"namespace isolation|refers to target namespace", re.I)
"""What Multus says where pods may not use another namespace's definitions."""
_NO_ADDRESS = re.compile(
    r"no (?:free |available )?(?:ip )?address(?:es)? (?:is |are )?(?:available|left|free)"
    r"|could not allocate ip|no ?available ?address|no more (?:free )?addresses"
    r"|(?:address|range|pool|subnet)\w* (?:is |are )?(?:exhausted|full)",
    re.I,
)
_NO_LINK = re.compile(
    r"link not found|lookup master|find host device|no such (?:network )?(?:device|interface)"
    r"|(?:link|interface|device|master|bridge)\s+\S*\s*(?:was |is )?not (?:be )?found"
    r"|failed to find (?:the )?(?:link|interface|device)",
    re.I,
)
_BROKEN_CLASS = re.compile(r"class (\S+): selector #\d+(?: on device \S+)?: (.*)")
"""What the scheduler says of a DeviceClass whose expression fails."""


def unavailable(seen: Measured) -> Ruling | None:
    """Return why nothing could be started, if so: no usable node has something left for us."""
    if seen.free is None or seen.free:
        return None
    name = provider(seen)
    if seen.capable and seen.held:
        return _held(seen)
    if seen.tainted:
        named = [f"{device} ({taint})" for device, taint in seen.tainted.items()]
        return verdict(
            "only_tainted_devices",
            name=name,
            devices=", ".join(named[:_MOST]),
            options=_options(seen.tainted.values()),
        )
    if seen.capable:
        return verdict("devices_in_use.counters", name=name, nodes=_listed(seen.capable))
    if seen.unfinished:
        return verdict("unfinished_pool", name=name, pools=_listed(seen.unfinished))
    if seen.elsewhere:
        return _elsewhere(seen, f"{name}: no usable node has it", "it exists on")
    if seen.bare:
        return verdict("no_network_interface.published", name=name, devices=_listed(seen.bare))
    return verdict("no_device", name=name, offered=seen.offered, nodes=len(seen.incapable))


def one_node(seen: Measured) -> Ruling:
    """Return why there is only one pod: only one node has something left for us."""
    if len(seen.capable) > 1 and seen.held:
        return _held(seen)
    found = facts(seen)
    if not seen.elsewhere:
        return verdict("one_capable_node", found, count=len(seen.capable))
    options = _options_for(seen.elsewhere)
    return verdict(
        "one_capable_node.tainted" if options else "one_capable_node.unusable",
        found,
        count=len(seen.capable),
        nodes=", ".join(other.node for other in seen.elsewhere[:_MOST]),
        options=options,
    )


def unallocated(seen: Measured, tried: Attempt) -> Ruling | None:
    """Return why no pod got a device, if nothing shows that one was to be had."""
    if found := _BROKEN_CLASS.search(tried.scheduler):
        return verdict(
            "broken_device_class", pod=tried.pod, device_class=found[1], why=found[2][:200]
        )
    if seen.free is None:
        return not_recorded("who held the network's devices")
    if seen.held is None:
        return verdict(
            "holders_not_seen", pod=tried.pod, seconds=tried.seconds, scheduler=tried.scheduler
        )
    if seen.held and len(seen.free) < min(2, len(seen.capable)):
        return _held(seen)
    return None


def unattached(seen: Measured, tried: Attempt) -> Ruling | None:
    """Return why a pod with a node did not get onto the network, if it is no fault of it."""
    said = " ".join([*tried.events, tried.state])
    name = provider(seen)
    if _ISOLATED.search(said):
        event = _matching(tried, _ISOLATED)
        return verdict("not_for_this_namespace.isolated", name=name, event=event)
    if _NO_ADDRESS.search(said):
        users = _listed([user for held in seen.held or [] for user in held.by])
        return verdict(
            "addresses_in_use.by" if users else "addresses_in_use",
            facts(seen),
            name=name,
            pod=tried.pod,
            event=_matching(tried, _NO_ADDRESS),
            users=users,
        )
    if seen.steers or not _NO_LINK.search(said):
        return None
    return _without_link(seen, _matching(tried, _NO_LINK))


def refused(seen: Measured) -> Ruling | None:
    """Return that a policy keeps pods of our namespace from the network, if so."""
    if seen.refused is None:
        return None
    message = seen.refused.message
    return verdict("not_for_this_namespace.policy", name=provider(seen), message=message)


def facts(seen: Measured) -> list[Fact]:
    """Return who holds what of a network, and where else it is."""
    out = [
        Fact(
            name=f"held on {held.node}",
            value=f"{held.what}: {_listed(held.by)}",
            source="claims and pods",
        )
        for held in (seen.held or [])[:_MOST_FACTS]
    ]
    out += [
        Fact(
            name=f"not usable: {other.node}",
            value=other.why,
            source="the node's spec and conditions",
        )
        for other in seen.elsewhere[:_MOST_FACTS]
    ]
    return out


def provider(seen: Measured) -> str:
    """Return what offers the network, without how it is asked for."""
    return seen.offered.partition(", ")[0]


def _without_link(seen: Measured, event: str) -> Ruling | None:
    """Return why what a definition needs is missing where it was tried, if that is no failure."""
    if seen.free is None:
        return not_recorded("which other nodes may have the network")
    tried = {one.node for one in seen.attempts if one.node} | {pod.node for pod in seen.pods}
    if mine := [held for held in seen.held or [] if held.node in tried]:
        return _held(seen.model_copy(update={"held": mine}))
    why = f"{provider(seen)}: what it needs is missing on {', '.join(sorted(tried))} ({event})"
    if untried := [node for node in seen.free if node not in tried]:
        return verdict("not_on_tried_nodes", why=why, nodes=_listed(untried))
    return _elsewhere(seen, why, "not tried:") if seen.elsewhere else None


def _held(seen: Measured) -> Ruling:
    named = [f"{held.node}: {held.what} by {_listed(held.by)}" for held in seen.held or []]
    rest = f"; and {len(named) - _MOST} more" if len(named) > _MOST else ""
    options = _options_for(seen.elsewhere)
    return verdict(
        "devices_in_use.or_tainted" if options else "devices_in_use",
        facts(seen),
        name=provider(seen),
        free=", ".join(seen.free or []) or "no node",
        held="; ".join(named[:_MOST]) + rest,
        options=options,
    )


def _elsewhere(seen: Measured, why: str, where: str) -> Ruling:
    found = facts(seen)
    if tainted := [f"{one.node} ({', '.join(one.taints)})" for one in seen.elsewhere if one.taints]:
        return verdict(
            "only_on_tainted_nodes",
            found,
            why=why,
            where=where,
            nodes=_listed(tainted),
            options=_options_for(seen.elsewhere),
        )
    nodes = _listed([f"{one.node} ({one.why})" for one in seen.elsewhere])
    return verdict("only_on_unusable_nodes", found, why=why, where=where, nodes=nodes)


def _options_for(nodes: Sequence[Elsewhere]) -> str:
    return _options(taint for node in nodes for taint in node.taints)


def _options(taints: Iterable[str]) -> str:
    return " ".join(f"--toleration {taint}" for taint in dict.fromkeys(taints))


def _matching(tried: Attempt, pattern: re.Pattern[str]) -> str:
    found = next((event for event in reversed(tried.events) if pattern.search(event)), tried.state)
    return found[-300:]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
