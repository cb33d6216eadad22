"""The facts of every verdict on throughput: figures, nodes, how they were measured. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kar_checks.checks.throughput import statistics
from kar_checks.checks.throughput.observation import (
    BASELINE,
    POD_NETWORK,
    Cell,
    Mesh,
    NetworkSeen,
    TcpRun,
    ThroughputObservation,
    UdpRun,
    judged_cells,
)
from kar_checks.checks.throughput.statistics import Loss, Outliers
from kar_checks.kit.stats import Quantile, Summary
from kar_checks.model import Fact

_MOST_NAMED = 8


def speed(bits: float) -> str:
    """Return bit/s in a unit for people."""
    return f"{bits / 1e9:.2f} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:.3g} Mbit/s"


def median(found: Summary) -> str:
    """Return a median of rates with its interval."""
    return f"median {speed(found.median)} (interval {speed(found.low)} to {speed(found.high)})"


def loss(found: Loss, rate: float) -> str:
    """Return what was lost at a rate in bit/s, and what the receiving pod lost by itself."""
    shown = (
        f"{found.lost} of {found.packets} packets lost at {speed(rate)} ({found.share:.2%}, "
        f"interval {found.low:.2%} to {found.high:.2%}), jitter up to {found.jitter_ms:.2f} ms"
    )
    if not found.overrun:
        return shown
    return f"{shown}; {found.overrun} of them arrived and found the receiving pod's buffer full"


def requests(found: Mapping[float, Quantile], count: int) -> str:
    """Return three quantiles of so many requests."""
    p50, p99, p999 = (found[p].value / 1000 for p in (0.5, 0.99, 0.999))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms of {count} requests"


def nodes(seen: Mesh, found: Outliers, known: Mapping[str, float]) -> str:
    """Return what the median node of a mesh reaches, and which nodes are outlying."""
    slow = [seen.nodes[one] for one in found.nodes]
    outlying = f"outlying: {named(slow, known)}" if slow else "no node is outlying"
    of = f"{_pairs(seen)} of {len(seen.nodes)} nodes"
    return f"{of}, the median node reaches {speed(found.median * 1e6)}; {outlying}"


def _pairs(seen: Mesh) -> str:
    pairs = sum(one is not None for row in seen.megabits for one in row)
    return "1 pair" if pairs == 1 else f"{pairs} pairs"


def named(nodes: Sequence[str], megabits: Mapping[str, float] | None = None) -> str:
    """Return the first nodes, with what each reaches, and how many there are beyond them."""
    shown = [
        f"{one} ({speed(megabits[one] * 1e6)})" if megabits else one for one in nodes[:_MOST_NAMED]
    ]
    more = f" and {len(nodes) - _MOST_NAMED} more" if len(nodes) > _MOST_NAMED else ""
    return ", ".join(shown) + more


# -- beside every figure --------------------------------------------------------------------------


def around(seen: NetworkSeen, seed: int) -> Iterator[Fact]:
    """Give the two nodes, what went between their zones, and the order of the repeats."""
    for place, one in zip(("first", "second"), seen.ends, strict=False):
        yield Fact(
            name=f"{place} node",
            value=f"{one.node}, {one.instance_type or 'unknown instance type'}, "
            f"{f'zone {one.zone}' if one.zone else 'unknown zone'}; interface "
            f"{one.interface or 'unknown'}, MTU {one.mtu or 'unknown'}; {one.iperf3}, "
            f"{one.cores} cores",
            source="the node's labels; the pod itself",
        )
    zones = {one.zone for one in seen.ends[:2] if one.zone}
    if len(zones) > 1:
        known = seen.crossed is not None
        crossed = f"{(seen.crossed or 0) / 1e9:.2f} GB" if known else "an unknown number of GB"
        yield Fact(
            name="traffic between zones",
            value=f"{crossed} went between zones {' and '.join(sorted(zones))}, "
            "and what the mesh sent on top; providers charge for it",
            source="byte counters of the first node's pod; topology.kubernetes.io/zone",
        )
    yield Fact(name="order of the repeats", value=f"seed {seed}", source="the run")


def share_of_host(run: ThroughputObservation) -> Iterator[Fact]:
    """Give what pods get of the nodes' own network, where both were measured."""
    pods, host = run.networks.get(POD_NETWORK), run.networks.get(BASELINE)
    if not (isinstance(pods, NetworkSeen) and isinstance(host, NetworkSeen)):
        return
    for cell in judged_cells(host.tcp):
        mine, whole = (_good(cell, seen.tcp) for seen in (pods, host))
        if mine and whole:
            least, most = (statistics.rates(one).median for one in (mine, whole))
            yield Fact(
                name=f"share of the host network, {cell.name}",
                value=f"{least / most:.0%} of {speed(most)}",
                source="medians of the same runs between the same kind of pods",
            )


def _good(cell: Cell, runs: Sequence[TcpRun]) -> list[TcpRun]:
    return [one for one in runs if one.judged and one.cell == cell and not one.error]


def looked_for(run: ThroughputObservation) -> Iterator[Fact]:
    """Give where secondary networks were looked for."""
    if run.looked_at:
        more = f"; not measured: {', '.join(run.more)}" if run.more else ""
        yield Fact(
            name="secondary networks looked for",
            value="; ".join(run.looked_at) + more,
            source="the API server",
        )


# -- the figures ----------------------------------------------------------------------------------


def tcp(cell: Cell, usable: Sequence[TcpRun], found: Summary) -> list[Fact]:
    """Return the figures of a cell's repeats."""
    resent = [one.retransmits for one in usable if one.retransmits is not None]
    sent = sum(one.sent_bytes or 0 for one in usable)
    cpu = [one.sender_cpu for one in usable if one.sender_cpu is not None]
    retransmits = f"{sum(resent) / (sent / 1e9):.1f} per GB" if resent and sent else "unknown"
    return [
        Fact(
            name=f"TCP, {cell.name}",
            value=f"{median(found)}, minimum {speed(found.least)}, variation "
            f"{found.variation:.1%}, {found.count} repeats",
            source="iperf3: end.sum_received, bootstrap of the median",
        ),
        Fact(
            name=f"retransmits and CPU, {cell.name}",
            value=f"retransmits {retransmits}; sender's CPU at most "
            f"{max(cpu, default=0):.0f} % of a core",
            source="iperf3: end.sum_sent, end.cpu_utilization_percent",
        ),
    ]


def measured_once(seen: NetworkSeen) -> Iterator[Fact]:
    """Give the cells that decide nothing."""
    for one in seen.tcp:
        if not one.judged:
            back = f" and {speed(one.received_back)} back" if one.received_back else ""
            value = one.error or f"{speed(one.received or 0)}{back}"
            yield Fact(
                name=f"TCP, {one.cell.name}",
                value=f"{value} (once, only recorded)",
                source="iperf3: end.sum_received",
            )


def udp(usable: Sequence[UdpRun]) -> list[Fact]:
    """Return the loss of each direction."""
    ways = {way: [one for one in usable if one.direction == way] for way in ("forward", "reverse")}
    losses = {way: statistics.loss(runs) for way, runs in ways.items() if runs}
    return [
        Fact(
            name=f"UDP, {way}",
            value=f"{lost.lost} of {lost.packets} packets lost, "
            f"{lost.overrun if lost.overrun_known else 'an unknown number'} of them in the "
            f"receiving pod's full buffer; jitter up to {lost.jitter_ms:.3f} ms",
            source="iperf3: end.sum; RcvbufErrors of the receiving pod's kernel",
        )
        for way, lost in losses.items()
    ]


def latency(found: Mapping[float, Quantile], samples: Sequence[float]) -> list[Fact]:
    """Return every quantile of the samples, and the longest of them, in µs."""
    quantiles = [
        Fact(
            name=f"p{100 * p:g}",
            value=f"{one.value / 1000:.3f} ms (interval {one.low / 1000:.3f} to "
            f"{one.high / 1000:.3f}), {len(samples)} samples",
            source="requests of 64 bytes over one connection, timed in the pod",
        )
        for p, one in found.items()
    ]
    longest = f"{max(samples) / 1000:.3f} ms"
    return [*quantiles, Fact(name="longest", value=longest, source="the same samples")]


def path_mtu(seen: NetworkSeen) -> list[Fact]:
    """Return what became of each large datagram."""
    return [
        Fact(
            name=f"datagram of {one.mtu} bytes, {one.direction}",
            value="arrived whole" if one.whole_arrived else f"did not arrive {one.error}".strip(),
            expected="arrived whole",
            source="UDP with the don't-fragment bit, answered by the other pod",
        )
        for one in seen.whole
    ]


def mesh(seen: Mesh, found: Outliers, known: Mapping[str, float]) -> list[Fact]:
    """Return what was measured of a mesh, and its outlying nodes."""
    return [
        Fact(
            name="mesh",
            value=f"{_pairs(seen)} of {len(seen.nodes)} of {seen.of} nodes in {seen.rounds} of "
            f"{seen.all_rounds} rounds, {sum(seen.round_seconds):.0f} s; the median node reaches "
            f"{speed(found.median * 1e6)}",
            source="iperf3, one stream, pairs of a round at once",
        ),
        Fact(
            name="outlying nodes",
            value=named([seen.nodes[one] for one in found.nodes], known) or "none",
            expected=f"at least {speed(found.limit * 1e6)}",
            source="upper quartile of a node's pairs; median of all minus 3.5 robust standard "
            "deviations, at least a fifth",
        ),
    ]
