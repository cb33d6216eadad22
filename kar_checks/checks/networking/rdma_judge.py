"""The verdicts on pods that have an RDMA device and no IP interface. Pure."""

from __future__ import annotations

from kar_checks.checks.networking import counters
from kar_checks.checks.networking.counters import elsewhere, listed, risen
from kar_checks.checks.networking.rdma import port_of, reported, ways
from kar_checks.kit.networks.records import Exchange, Measured, PodOnNetwork, RdmaEnd
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact
from kar_checks.profile import Profile

verdict = Reasons(__package__)

_MEMORY = ("allocate mr", "create mr", "create cq", "create qp", "cannot allocate memory")
"""What ib_write_bw and its library say where memory cannot be pinned, in small letters."""
_UNSENT = "completion with error"
"""What it says where the device gives up a message."""
_MIB = 1 << 20


def exchanged(seen: Measured, profile: Profile) -> Ruling:
    """Judge whether two pods exchanged data over their RDMA devices."""
    if seen.exchange is None:
        return _lacking(seen.pods)
    facts = _facts(seen.pods, seen.exchange)
    one, other = (pod.node for pod in seen.pods)
    return (
        _not_run(seen.pods, seen.exchange, facts)
        or _not_counted(seen.pods, seen.exchange, profile, facts)
        or verdict("carried.rdma", facts, mib=seen.exchange.bytes / _MIB, one=one, other=other)
    )


def _lacking(pods: list[PodOnNetwork]) -> Ruling:
    """Return what an exchange needs and does not exist."""
    if without := [pod.name for pod in pods if not pod.look.verbs.program]:
        names = ", ".join(sorted({port.name for pod in pods for port in pod.look.verbs.ports}))
        return verdict("rdma_without_ip.no_program", devices=names, pods=", ".join(without))
    for pod in pods:
        if port_of(pod) is None:
            ports = "; ".join(
                f"{port.name}: state {port.state or 'unknown'}, "
                + ("can be opened" if port.openable else "may not be opened by the pod's user")
                for port in pod.look.verbs.ports
            )
            return verdict("no_usable_port", pod=pod.name, ports=ports)
    first, second = (port_of(pod) for pod in pods)
    if first and second and not ways(first, second):
        return verdict(
            "no_common_gid",
            one=f"{first.name} in {pods[0].name}",
            other=f"{second.name} in {pods[1].name}",
        )
    return verdict("not_observed.rdma")


def _not_run(pods: list[PodOnNetwork], exchange: Exchange, facts: list[Fact]) -> Ruling | None:
    """Return why the program did not exchange data, if so."""
    ends = list(zip(pods, exchange.ends, strict=True))
    for pod, end in ends:
        limit = pod.look.verbs.locked_memory
        said = end.stderr.lower()
        if end.exit_code != 0 and limit >= 0 and any(words in said for words in _MEMORY):
            return verdict("locked_memory", facts, pod=pod.name, limit=limit, output=_last(end))
    failed = "; ".join(
        f"in {pod.name} {_ended(end)}: {_last(end)}"
        for pod, end in ends
        if end.exit_code != 0 or reported(end, exchange.size, exchange.count) is None
    )
    if not failed:
        return None
    if not any(_UNSENT in end.stderr.lower() for end in exchange.ends):
        return verdict("verbs_failed", facts, failed=failed)
    client, server = pods
    return verdict(
        "no_exchange.rdma",
        facts,
        client=client.name,
        client_node=client.node,
        server=server.name,
        server_node=server.node,
        failed=failed,
    )


def _not_counted(
    pods: list[PodOnNetwork], exchange: Exchange, profile: Profile, facts: list[Fact]
) -> Ruling | None:
    """Return why the counters do not show that the data went over the devices, if so."""
    least = profile.number("networking.stray_share") * exchange.bytes
    stray: list[str] = []
    for pod, end in zip(pods, exchange.ends, strict=True):
        deltas = risen(end.before, end.after)
        if end.on not in deltas:
            return verdict("no_counters.port", facts, port=end.on, pod=pod.name)
        if pod.look.default not in deltas:
            return verdict("no_counters.interfaces", pod=pod.name)
        if any(way < 0 for delta in deltas.values() for way in delta):
            return verdict("counters_reset", pod=pod.name)
        quiet = max(risen(end.before, end.quiet).get(end.on, (0, 0)))
        if quiet > least:
            stray.append(f"{end.on} in {pod.name} {quiet / _MIB:.1f} MiB before we sent anything")
        others = elsewhere(deltas, end.on, least)
        if min(deltas[end.on]) < exchange.bytes:
            return _short(pod, end, exchange.bytes, others, facts)
        if others:
            stray.append(f"{pod.name}: {listed(others)}")
    return verdict("stray_bytes", facts, stray="; ".join(stray)) if stray else None


def _short(
    pod: PodOnNetwork, end: RdmaEnd, wanted: int, others: dict[str, int], facts: list[Fact]
) -> Ruling:
    """Return the verdict on a port that counted less than the program reports."""
    received, sent = risen(end.before, end.after)[end.on]
    said = {
        "mib": wanted / _MIB,
        "port": end.on,
        "pod": pod.name,
        "node": pod.node,
        "received": received / _MIB,
        "sent": sent / _MIB,
        "others": listed(others) or "nothing",
    }
    if carriers := [name for name, most in others.items() if most >= wanted]:
        return verdict("another_interface.rdma", facts, carrier=" and ".join(carriers), **said)
    one_way = max(received, sent) >= wanted
    return verdict("one_direction" if one_way else "not_counted", facts, **said)


def _ended(end: RdmaEnd) -> str:
    if end.exit_code is None:
        return "did not end in time"
    return f"exited with {end.exit_code}" if end.exit_code else "reported nothing"


def _last(end: RdmaEnd) -> str:
    lines = [one.strip(" -*") for one in (end.stderr.strip() or end.stdout).splitlines()]
    return " / ".join([one for one in lines if one][-2:])[-300:] or "it printed nothing"


def _facts(pods: list[PodOnNetwork], exchange: Exchange) -> list[Fact]:
    out: list[Fact] = []
    for pod, end in zip(pods, exchange.ends, strict=True):
        out += counters.facts(
            pod,
            risen(end.before, end.after),
            (end.on, pod.look.default),
            f"sysfs around {exchange.bytes:,} bytes each way"
            + (f", GIDs: {exchange.gids}" if exchange.gids else ""),
        )
        average = reported(end, exchange.size, exchange.count)
        out.append(
            Fact(
                name=f"ib_write_bw in {pod.name}",
                value=_last(end) if average is None else f"{average:g} Gbit/s, both ways together",
                source=" ".join(end.argv),
            )
        )
    return out
