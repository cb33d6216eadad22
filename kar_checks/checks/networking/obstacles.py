"""Why a network that exists cannot be measured, though nothing shows that it is broken. Pure.

Each of these is undecided, for a reason of its own that names who holds what, or where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kar_checks.checks.networking.observation import Attempt, Elsewhere, Held, Measured
from kar_checks.checks.networking.rulings import broken, undecided
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact

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
    if seen.capable and seen.held:
        return _held(seen)
    if seen.tainted:
        named = ", ".join(f"{one} ({taint})" for one, taint in list(seen.tainted.items())[:_MOST])
        return undecided(
            "only_tainted_devices",
            f"{_name(seen)}: every free device has a taint: {named}",
            "give " + " ".join(f"--toleration {one}" for one in _unique(seen.tainted.values())),
        )
    if seen.capable:
        return undecided(
            "devices_in_use",
            f"{_name(seen)}: nothing is free on {', '.join(seen.capable[:_MOST])}: the counters "
            "that its devices share are used up",
            "run again when the workloads that use them have ended",
        )
    if seen.unfinished:
        return undecided(
            "unfinished_pool",
            f"{_name(seen)} is still publishing its devices: {', '.join(seen.unfinished[:_MOST])}",
            "run again; if it stays like this, look at the driver's pods and logs",
        )
    if seen.elsewhere:
        return _elsewhere(seen, f"{_name(seen)}: no usable node has it", "it exists on")
    if seen.bare:
        return undecided(
            "no_network_interface",
            f"{_name(seen)} publishes devices without a network interface: "
            f"{', '.join(seen.bare[:_MOST])}",
            "programs drive such devices themselves (DPDK, VFIO); to measure a network, bind a "
            "device to its kernel driver on two nodes",
        )
    return broken(
        "no_device",
        f"{seen.offered} is there, and none of {len(seen.incapable)} usable nodes offers a "
        "network device that has an interface",
        "look at the driver's pods and logs; devices need a network interface that is up",
    )


def one_node(seen: Measured) -> Ruling:
    """Return why there is only one pod: only one node has something left for us."""
    more = ""
    if seen.elsewhere:
        named = ", ".join(one.node for one in seen.elsewhere[:_MOST])
        more = f"; pods of ours may not use further nodes that offer it: {named}"
    if len(seen.capable) > 1 and seen.held:
        return _held(seen)
    return undecided(
        "one_capable_node",
        f"{len(seen.capable)} usable node offers the network, and two are needed{more}",
        _advice(seen.elsewhere),
        facts=facts(seen),
    )


def unallocated(seen: Measured, told: Attempt) -> Ruling | None:
    """Return why no pod got a device, if nothing shows that one was to be had."""
    if found := _BROKEN_CLASS.search(told.scheduler):
        return undecided(
            "broken_device_class",
            f"{told.pod} got no node, since the selector of DeviceClass {found[1]} fails: "
            f"{found[2][:200]}",
            f"correct or delete DeviceClass {found[1]}; without it the suite makes one of its own",
        )
    if seen.free is None:
        return not_recorded("who held the network's devices")
    if seen.held is None:
        return undecided(
            "holders_not_seen",
            f"{told.pod} got no node in {told.seconds:.0f} s ({told.scheduler}); whether others "
            "hold the devices is unknown, since their claims and pods may not be listed",
            "grant the right to list resourceclaims and pods in all namespaces (see `kar rbac`)",
        )
    wanted = min(2, len(seen.capable))
    if seen.held and len(seen.free) < wanted:
        return _held(seen)
    return None


def unattached(seen: Measured, told: Attempt) -> Ruling | None:
    """Return why a pod with a node did not get onto the network, if it is no fault of it."""
    said = " ".join([*told.events, told.state])
    if _ISOLATED.search(said):
        return undecided(
            "not_for_this_namespace",
            f"{_name(seen)} belongs to another namespace, and pods of ours may not use it: "
            f"{_words(told, _ISOLATED)}",
            "run in its namespace with --namespace, or add it to globalNamespaces of Multus",
        )
    if _NO_ADDRESS.search(said):
        users = _by(seen.held or [])
        return undecided(
            "addresses_in_use",
            f"{_name(seen)} has no free address for {told.pod}: {_words(told, _NO_ADDRESS)}"
            + (f"; pods that use it: {users}" if users else ""),
            "enlarge its range, or release addresses of pods that no longer exist",
            facts=facts(seen),
        )
    if seen.steers or not _NO_LINK.search(said):
        return None
    if seen.free is None:
        return not_recorded("which other nodes may have the network")
    tried = {one.node for one in seen.attempts if one.node} | {one.node for one in seen.pods}
    mine = [one for one in seen.held or [] if one.node in tried]
    if mine:
        return _held(seen.model_copy(update={"held": mine}))
    why = (
        f"{_name(seen)}: what it needs is missing on {', '.join(sorted(tried))} "
        f"({_words(told, _NO_LINK)})"
    )
    untried = [one for one in seen.free if one not in tried]
    if untried:
        return undecided(
            "not_on_tried_nodes",
            f"{why}; not tried, since nothing says which nodes have it: "
            f"{', '.join(untried[:_MOST])}"
            + (f" and {len(untried) - _MOST} more" if len(untried) > _MOST else ""),
            "select nodes that have it with --node-selector, or annotate the definition with "
            "k8s.v1.cni.cncf.io/resourceName",
        )
    return _elsewhere(seen, why, "not tried:") if seen.elsewhere else None


def refused(seen: Measured) -> Ruling | None:
    """Return that a policy keeps pods of our namespace from the network, if so."""
    if seen.refused is None:
        return None
    return undecided(
        "not_for_this_namespace",
        f"a policy admitted a pod and refused the same pod with {_name(seen)}: "
        f"{seen.refused.message}",
        "run in a namespace that may use the network: --namespace",
    )


def facts(seen: Measured) -> list[Fact]:
    """Return who holds what of a network, and where else it is."""
    out = [
        Fact(
            name=f"held on {one.node}",
            value=f"{one.what}: {_listed(one.by)}",
            source="claims and pods",
        )
        for one in (seen.held or [])[:_MOST_FACTS]
    ]
    out += [
        Fact(name=f"not usable: {one.node}", value=one.why, source="the node's spec and conditions")
        for one in seen.elsewhere[:_MOST_FACTS]
    ]
    return out


def _held(seen: Measured) -> Ruling:
    held = seen.held or []
    named = "; ".join(f"{one.node}: {one.what} by {_listed(one.by)}" for one in held[:_MOST])
    rest = f"; and {len(held) - _MOST} more" if len(held) > _MOST else ""
    free = ", ".join(seen.free or []) or "no node"
    advice = "run again when these workloads have ended"
    if more := _advice(seen.elsewhere):
        advice += f"; or use the tainted nodes that offer it, too: {more}"
    return undecided(
        "devices_in_use",
        f"{_name(seen)}: others hold its devices, and {free} has a free one. Held on {named}{rest}",
        advice,
        facts=facts(seen),
    )


def _elsewhere(seen: Measured, why: str, where: str) -> Ruling:
    tainted = [one for one in seen.elsewhere if one.taints]
    if tainted:
        return undecided(
            "only_on_tainted_nodes",
            f"{why}; {where} tainted nodes {_tainted(tainted)}",
            _advice(seen.elsewhere),
            facts=facts(seen),
        )
    named = ", ".join(f"{one.node} ({one.why})" for one in seen.elsewhere[:_MOST])
    more = len(seen.elsewhere) - _MOST
    return undecided(
        "only_on_unusable_nodes",
        f"{why}; {where} {named}{f' and {more} more' if more > 0 else ''}",
        "make one of these nodes usable: uncordon it, or select it with --node-selector",
        facts=facts(seen),
    )


def _name(seen: Measured) -> str:
    """Return what offers the network, without how it is asked for."""
    return seen.offered.partition(", ")[0]


def _tainted(nodes: Sequence[Elsewhere]) -> str:
    named = ", ".join(f"{one.node} ({', '.join(one.taints)})" for one in nodes[:_MOST])
    return f"{named} and {len(nodes) - _MOST} more" if len(nodes) > _MOST else named


def _advice(nodes: Sequence[Elsewhere]) -> str:
    taints = _unique(taint for one in nodes for taint in one.taints)
    return "give " + " ".join(f"--toleration {one}" for one in taints) if taints else ""


def _unique(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))


def _words(told: Attempt, pattern: re.Pattern[str]) -> str:
    found = next((one for one in reversed(told.events) if pattern.search(one)), told.state)
    return found[-300:]


def _listed(by: Sequence[str]) -> str:
    more = f" and {len(by) - _MOST} more" if len(by) > _MOST else ""
    return ", ".join(by[:_MOST]) + more


def _by(held: Sequence[Held]) -> str:
    return _listed([each for one in held for each in one.by])
