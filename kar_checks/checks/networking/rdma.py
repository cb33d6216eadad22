"""What pods see of RDMA devices, and what perftest's ib_write_bw says of them. Pure."""

from __future__ import annotations

import ipaddress

from kar_checks.kit.networks.records import Control, Gid, Nic, PodOnNetwork, RdmaEnd, RdmaPort

_KINDS = ("RoCE v2, link-local", "RoCE v2, IPv4", "RoCE v2, IPv6", "RoCE v1")
"""Kinds of GIDs in the order in which they are tried.

What has no IP address has a link-local GID. Others of the table may be those of other pods, whose
interfaces share the device.
"""


def without_address(pods: list[PodOnNetwork]) -> bool:
    """Say whether all pods were given an RDMA device, and no interface with an address."""
    return all(
        one.look.verbs.ports and not (one.told and one.told.addresses) for one in pods
    ) and bool(pods)


def devices(pod: PodOnNetwork, control: Control) -> list[str]:
    """Return the RDMA devices that a pod was given and a pod without the network was not."""
    usual = {port.device for port in control.look.verbs.ports}
    return sorted({port.device for port in pod.look.verbs.ports} - usual)


def port_of(pod: PodOnNetwork) -> RdmaPort | None:
    """Return a port that can be used: its device can be opened, and its link is up."""
    return next(
        (one for one in pod.look.verbs.ports if one.openable and one.state.startswith("4:")), None
    )


def kind(gid: Gid) -> str:
    """Return which of the kinds a GID is; a RoCE v1 one carries no IP and needs no more."""
    if gid.type != "RoCE v2":
        return "RoCE v1"
    address = ipaddress.IPv6Address(gid.gid)
    family = "IPv4" if address.ipv4_mapped else "link-local" if address.is_link_local else "IPv6"
    return f"RoCE v2, {family}"


def ways(one: RdmaPort, other: RdmaPort) -> list[tuple[str, int | None, int | None]]:
    """Return the ways to address each other: a kind of GID, and each port's first index of it.

    InfiniBand needs no GID. Empty if the two have no kind in common.
    """
    if "Ethernet" not in (one.link_layer, other.link_layer):
        return [("", None, None)]
    ours, theirs = ({kind(gid): gid.index for gid in reversed(port.gids)} for port in (one, other))
    return [(each, ours[each], theirs[each]) for each in _KINDS if each in ours and each in theirs]


def reported(end: RdmaEnd, size: int, count: int) -> float | None:
    """Return the average in Gbit/s that ib_write_bw reports, both ways together.

    Its report is a line of five columns under a heading that begins with ``#bytes``: size,
    messages, peak, average, rate of messages. ``None`` if it has none about all messages.
    """
    _, heading, rest = end.stdout.partition("#bytes")
    for line in rest.splitlines() if heading else []:
        fields = line.split()
        if len(fields) >= 5 and fields[:2] == [str(size), str(count)]:
            try:
                average = float(fields[3])
            except ValueError:
                return None
            return average if average > 0 else None
    return None


def as_interface(port: RdmaPort) -> Nic:
    """Return a port in the form of an interface, to compare what is published about it."""
    return Nic(
        mac="",
        addresses=[],
        mtu="",
        speed="",
        operstate="",
        hardware="",
        kind=port.link_layer.lower(),
        pci=port.pci,
        numa_node=port.numa_node,
        rdma=[port.device],
    )
