"""The verdict where no secondary network was found: the nodes' own interfaces decide. Pure."""

from __future__ import annotations

from kar_checks.checks.networking.observation import Host, NetworkingObservation
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Fault

verdict = Reasons(__package__)

_MADE = ("macvlan", "macvtap", "ipvlan", "vlan", "bond", "team", "ipoib")
"""Kinds of made interfaces of a host that lead to a network outside of it."""


def none_found(seen: NetworkingObservation) -> Ruling:
    """Judge a cluster without a secondary network."""
    facts = [Fact(name="looked at", value=place) for place in seen.looked_at]
    looked = "; ".join(seen.looked_at)
    if seen.declared_none:
        return verdict("declared_none", facts)
    if seen.left_out:
        others = len(seen.left_out) - 1
        more = f" and {others} more" if others else ""
        return verdict("no_network_found.unreadable", facts, first=seen.left_out[0], more=more)
    if isinstance(seen.hosts, Fault):
        why = seen.hosts.message
        return verdict("no_network_found.hosts_unseen", facts, looked=looked, why=why)
    facts += [_host_fact(host) for host in seen.hosts]
    if extra := {host.node: names for host in seen.hosts if (names := idle_interfaces(host))}:
        found = "; ".join(f"{node}: {', '.join(names)}" for node, names in extra.items())
        return verdict("not_offered", facts, interfaces=found)
    if len(seen.hosts) < seen.nodes or not seen.hosts:
        some, every = len(seen.hosts), seen.nodes
        return verdict("no_network_found", facts, looked=looked, some=some, every=every)
    return verdict("no_special_interface", facts, nodes=len(seen.hosts))


def idle_interfaces(host: Host) -> list[str]:
    """Return a node's interfaces that could be a network of their own, and its RDMA devices."""
    out: list[str] = []
    for name, nic in host.look.interfaces.items():
        hardware = bool(nic.pci) or nic.hardware == "32"
        made = nic.kind in _MADE
        ours = name == host.look.default or nic.master == host.look.default != ""
        if name != "lo" and not ours and (hardware or made):
            out.append(name)
        out += [device for device in nic.rdma if device not in out]
    return out


def _host_fact(host: Host) -> Fact:
    names = ", ".join(
        f"{name} ({nic.kind or nic.pci or 'virtual'})"
        for name, nic in host.look.interfaces.items()
        if name != "lo"
    )
    return Fact(name=f"interfaces of {host.node}", value=names, source="sysfs on the host")
