"""The verdicts on throughput and latency: observation and profile in, findings out. Pure.

A finding for each network. First whether the two pods were where they had to be and as they were
sent, then whether enough was measured and validly, and only then what the profile demands. A
threshold is compared with the unfavourable bound of the 95 % interval. A profile that demands
nothing makes a pass mean: this was measured validly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

from kar_checks.checks.throughput import statistics
from kar_checks.checks.throughput.observation import (
    BASELINE,
    POD_NETWORK,
    Cell,
    NetworkSeen,
    TcpRun,
    ThroughputObservation,
    UdpRun,
    Unmeasured,
    judged_cells,
)
from kar_checks.checks.throughput.statistics import Summary
from kar_checks.kit.judging import unless_beside
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Finding, Observation, Outcome, Reason
from kar_checks.profile import Profile

_ORDER = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASS)
_THREADED = (3, 16)
"""The first iperf3 that gives every stream a thread of its own."""
_NEAR_CAP = 0.97
_LEAST_COUNTED = 0.9
"""Of a payload; what a counter misses beyond that took another interface."""
_RATE_REACHED = 0.9
_MOST_NAMED = 8
_SHARED = ("below_floor", "loses_packets", "above_ceiling", "node_below_share")
"""Failures by figures that another run's traffic makes worse."""


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check for every network that was measured."""
    observed = cast("ThroughputObservation", seen)
    found: list[Finding] = []
    for name, network in observed.networks.items():
        ruling = _rule(check, network, profile)
        if ruling.reason in _SHARED:
            ruling = unless_beside(ruling, seen)
        where: list[Fact] = []
        if isinstance(network, NetworkSeen):
            where = _where(network, observed.seed)
        if name == POD_NETWORK:
            where += _others(check, observed)
        found.append(
            ruling.finding(
                check,
                [*ruling.facts, *where],
                observed.evidence,
                observed.trial,
                variant=name,
            )
        )
    return found


def _rule(check: str, seen: NetworkSeen | Unmeasured | Fault, profile: Profile) -> Ruling:
    if isinstance(seen, Fault):
        return Ruling(Outcome.ERROR, seen.reason.value, seen.message, seen.help)
    if isinstance(seen, Unmeasured):
        return _undecided(seen.word, seen.text, seen.help)
    return _misplaced(seen) or _astray(seen) or _RULES[check](seen, profile)


def _others(check: str, observed: ThroughputObservation) -> list[Fact]:
    """Return what is known beside the pod network: its baseline, and the secondary networks."""
    found: list[Fact] = []
    baseline = observed.networks.get(BASELINE)
    if check == "throughput.tcp" and isinstance(baseline, NetworkSeen):
        pods = observed.networks[POD_NETWORK]
        for cell in judged_cells(baseline.tcp):
            both = [
                [one for one in seen.tcp if one.judged and one.cell == cell and not one.error]
                for seen in (pods, baseline)
                if isinstance(seen, NetworkSeen)
            ]
            if len(both) == 2 and all(both):
                ours, whole = (summarise_cell(runs).median for runs in both)
                found.append(
                    Fact(
                        name=f"share of the host network, {cell.name}",
                        value=f"{ours / whole:.0%} of {_speed(whole)}",
                        source="medians of the same runs between the same kind of pods",
                    )
                )
    if observed.looked_at:
        found.append(
            Fact(
                name="secondary networks looked for",
                value="; ".join(observed.looked_at)
                + (f"; not measured: {', '.join(observed.more)}" if observed.more else ""),
                source="the API server",
            )
        )
    return found


def _misplaced(seen: NetworkSeen) -> Ruling | None:
    nodes = [one.node for one in seen.ends if one.name != "beside"]
    if len(nodes) < 2 or len(set(nodes)) < len(nodes):
        return _undecided(
            "same_node",
            f"the pods were to run on {' and '.join(seen.asked)}, and all that came ran on "
            f"{', '.join(sorted(set(nodes))) or 'other nodes'}: nothing passed between two nodes",
            "look which policy or webhook changes where pods run",
        )
    if seen.injected:
        return _undecided(
            "container_injected",
            f"the cluster added {', '.join(seen.injected)} to the pods: its proxy would be "
            "measured instead of the network",
            "opt out of the injection by --annotation or --label",
        )
    return None


def _astray(seen: NetworkSeen) -> Ruling | None:
    """See that a secondary network was measured, and no other one in its place."""
    if not seen.secondary:
        return None
    for end in seen.ends:
        told = seen.told.get(end.node)
        if not end.address:
            return _undecided(
                "no_address",
                f"the pod on {end.node} got no IP address on the network: iperf3 needs one",
                "give the network addresses, or name them by networking.subnet",
            )
        if told is None or not (told.addresses or told.name):
            return _undecided(
                "not_told",
                f"nothing tells which interface the pod on {end.node} got: {end.interface} "
                f"({end.address}) may be another network's",
                "look at the driver's or the plugin's logs on that node",
            )
        stray = bool(told.addresses) and end.address not in told.addresses
        if stray or told.name not in ("", end.interface):
            return _undecided(
                "another_interface",
                f"{told.source} says {told.name} {', '.join(told.addresses)}, and on {end.node} "
                f"{end.interface or 'another interface'} ({end.address}) was measured",
                "look what changes the pods of this network",
            )
    for one in seen.carried:
        if one.client is None or one.server is None:
            return _undecided(
                "not_counted",
                f"the interface has no byte counters in both pods ({one.step}): nothing shows "
                "that the bytes took it",
            )
        if min(one.client, one.server) < _LEAST_COUNTED * one.payload:
            return _undecided(
                "another_interface",
                f"{one.payload} bytes arrived ({one.step}), and the interface counted "
                f"{one.client} and {one.server} in the two pods: they took another way",
                "look at routes and address translation in the pods, and run the topic networking",
            )
    return None


def _where(seen: NetworkSeen, seed: int) -> list[Fact]:
    found = [
        Fact(
            name=f"{place} node",
            value=f"{one.node}, {one.instance_type or 'instance type not told'}, "
            f"{f'zone {one.zone}' if one.zone else 'zone not told'}; interface "
            f"{one.interface or 'unknown'}, MTU {one.mtu or 'unknown'}; {one.iperf3}, "
            f"{one.cores} cores",
            source="the node's labels; the pod itself",
        )
        for place, one in zip(("first", "second"), seen.ends, strict=False)
    ]
    zones = {one.zone for one in seen.ends[:2] if one.zone}
    if len(zones) > 1:
        found.append(
            Fact(
                name="traffic between zones",
                value=f"{_gigabytes(seen)} went between zones {' and '.join(sorted(zones))}, "
                "and what the mesh sent on top; providers charge for it",
                source="byte counters of the first node's pod; topology.kubernetes.io/zone",
            )
        )
    found.append(Fact(name="order of the repeats", value=f"seed {seed}", source="the run"))
    return found


def _gigabytes(seen: NetworkSeen) -> str:
    return "an unknown number of GB" if seen.crossed is None else f"{seen.crossed / 1e9:.2f} GB"


# -- TCP ------------------------------------------------------------------------------------------


def _tcp(seen: NetworkSeen, profile: Profile) -> Ruling:
    judged = judged_cells(seen.tcp)
    if not judged:
        return _not_measured()
    rulings = [
        _cell(cell, [one for one in seen.tcp if one.judged and one.cell == cell], seen, profile)
        for cell in judged
    ]
    worst = min(rulings, key=lambda one: _ORDER.index(one.outcome))
    alike = [one.summary for one in rulings if one.reason == worst.reason]
    return Ruling(
        worst.outcome,
        worst.reason,
        "; ".join(alike) + (_demand(profile) if worst.outcome is Outcome.PASS else ""),
        worst.help,
        worst.would_change,
        [*(fact for one in rulings for fact in one.facts), *_beside(seen)],
    )


def _demand(profile: Profile) -> str:
    floor = profile.number("throughput.tcp_floor_mbit")
    if floor:
        return f". The floor of profile {profile.name} is {_speed(floor * 1e6)}"
    return f". {_record(profile)}"


def _record(profile: Profile) -> str:
    return f"Profile {profile.name} demands nothing here: passed means measured validly"


def _cell(cell: Cell, runs: Sequence[TcpRun], seen: NetworkSeen, profile: Profile) -> Ruling:
    valid = [one for one in runs if not one.error and _above_zero(one.received)]
    errors = list(dict.fromkeys(one.error for one in runs if one.error))
    if not valid:
        return Ruling(
            Outcome.ERROR,
            Reason.MEASUREMENT_FAILED.value,
            f"{cell.name}: no run of iperf3 succeeded: {'; '.join(errors[:3])}",
            "see that nothing else uses the ports 7010 to 7013 of the pods, and run again",
        )
    found = summarise_cell(valid)
    facts = _cell_facts(cell, valid, found)
    if len(valid) < len(runs):
        return _undecided(
            "too_few_repeats",
            f"{cell.name}: {len(valid)} of {len(runs)} planned repeats are valid: "
            f"{'; '.join(errors[:3])}",
            facts=facts,
        )
    versions = {one.iperf3 for one in valid} | {one.iperf3 for one in seen.ends}
    if len(versions) > 1:
        return _undecided(
            "mixed_versions",
            f"the pods run {', '.join(sorted(versions))}: their figures are not of one kind",
            "give one image for all architectures by --image net=",
            facts=facts,
        )
    throttled = sum(one.throttled or 0 for one in valid)
    if throttled:
        return _undecided(
            "throttled",
            f"{cell.name}: the kernel throttled the sender's container {throttled} times: a CPU "
            "limit was measured, and not the network",
            "our pods have no CPU limit: look for a LimitRange or a webhook that sets one",
            facts=facts,
        )
    limit = profile.number("throughput.unstable_percent")
    if found.variation * 100 > limit:
        return _undecided(
            "unstable",
            f"{cell.name}: the repeats vary by {found.variation:.0%} (coefficient of variation, "
            f"at most {limit:g} %): {_speeds(valid)}",
            "run again at a quieter time, or with longer runs (throughput.seconds)",
            facts=facts,
        )
    return _compare(cell, valid, found, seen, profile, facts)


def _compare(
    cell: Cell,
    valid: Sequence[TcpRun],
    found: Summary,
    seen: NetworkSeen,
    profile: Profile,
    facts: list[Fact],
) -> Ruling:
    floor = profile.number("throughput.tcp_floor_mbit") * 1e6
    busy = [one for one in valid if _cpu_bound(one, seen, profile)]
    capped = seen.cap is not None and found.median > _NEAR_CAP * seen.cap
    told = f"{cell.name}: {_told(found)}"
    if floor and found.low < floor:
        short = (
            f"{told}; the interval's lower bound is below the floor of {_speed(floor)} of profile "
            f"{profile.name}"
        )
        if busy:
            return _undecided(
                "cpu_bound",
                f"{short}, but the sender used up its CPU "
                f"({max(one.sender_cpu or 0 for one in busy):.0f} % of a core): the network may "
                "carry more",
                "measure from nodes with faster cores, or with more streams",
                facts=facts,
            )
        if capped:
            return _undecided(
                "capped",
                f"{short}, but --max-bytes let no run send more than {_speed(seen.cap or 0)}",
                "allow more bytes",
                facts=facts,
            )
        return Ruling(
            Outcome.FAIL,
            "below_floor",
            short,
            would_change=f"repeats whose 95 % interval begins at {_speed(floor)} or above",
            facts=facts,
        )
    least = ""
    if busy:
        least = ", a lower bound: the sender used up its CPU"
    elif capped:
        least = ", a lower bound: --max-bytes paced it"
    return Ruling(
        Outcome.PASS,
        "floor_met" if floor else "measured",
        told + least,
        would_change="a floor in the profile (throughput.tcp_floor_mbit) above the lower bound",
        facts=facts,
    )


def summarise_cell(runs: Sequence[TcpRun]) -> Summary:
    """Return the summary of a cell's runs; of a run in both directions the slower one counts."""
    return statistics.summarise(
        [
            min(one.received, one.received_back or one.received)
            for one in runs
            if one.received is not None
        ]
    )


def _cpu_bound(run: TcpRun, seen: NetworkSeen, profile: Profile) -> bool:
    if run.sender_cpu is None:
        return False
    sender = seen.ends[1 if run.cell.direction == "reverse" else 0]
    threads = run.cell.streams if _version(run.iperf3) >= _THREADED else 1
    usable = max(1, min(threads, sender.cores or 1))
    return run.sender_cpu >= profile.number("throughput.cpu_percent") * usable


def _version(told: str) -> tuple[int, ...]:
    digits = told.rpartition(" ")[2].split("+")[0].split(".")
    return tuple(int(one) for one in digits if one.isdigit())


def _cell_facts(cell: Cell, valid: Sequence[TcpRun], found: Summary) -> list[Fact]:
    resent = [one.retransmits for one in valid if one.retransmits is not None]
    sent = sum(one.sent_bytes or 0 for one in valid)
    cpu = [one.sender_cpu for one in valid if one.sender_cpu is not None]
    retransmits = f"{sum(resent) / (sent / 1e9):.1f} per GB" if resent and sent else "not told"
    return [
        Fact(
            name=f"TCP, {cell.name}",
            value=f"{_told(found)}, minimum {_speed(found.least)}, variation "
            f"{found.variation:.1%}, {found.count} repeats",
            source="iperf3: end.sum_received, bootstrap of the median",
        ),
        Fact(
            name=f"beside it, {cell.name}",
            value=f"retransmits {retransmits}; sender's CPU at most "
            f"{max(cpu, default=0):.0f} % of a core",
            source="iperf3: end.sum_sent, end.cpu_utilization_percent",
        ),
    ]


def _beside(seen: NetworkSeen) -> list[Fact]:
    found: list[Fact] = []
    for one in seen.tcp:
        if one.judged:
            continue
        back = f" and {_speed(one.received_back)} back" if one.received_back else ""
        value = one.error or f"{_speed(one.received or 0)}{back}"
        found.append(
            Fact(
                name=f"TCP, {one.cell.name}",
                value=f"{value} (once, only recorded)",
                source="iperf3: end.sum_received",
            )
        )
    return found


# -- UDP ------------------------------------------------------------------------------------------


def _udp(seen: NetworkSeen, profile: Profile) -> Ruling:
    if not seen.udp:
        return _not_measured()
    errors = list(dict.fromkeys(one.error for one in seen.udp if one.error))
    valid = [one for one in seen.udp if not one.error and _possible(one)]
    errors += [
        f"iperf3 reports {one.lost} of {one.packets} packets as lost"
        for one in seen.udp
        if not one.error and not _possible(one)
    ]
    if not valid:
        return _failed("no run of iperf3 with UDP succeeded", errors)
    asked = seen.udp_rate
    packets = sum(one.packets or 0 for one in valid)
    lost = sum(one.lost or 0 for one in valid)
    low, high = statistics.share_interval(min(lost, packets), packets)
    overrun = min(lost, sum(one.overrun or 0 for one in valid))
    jitter = max(one.jitter_ms or 0 for one in valid)
    facts = [
        Fact(
            name=f"UDP, {way}",
            value=f"{sum(one.lost or 0 for one in mine)} of {sum(one.packets or 0 for one in mine)}"
            f" packets lost, {_overrun(mine)} of them in the receiving pod's full buffer; jitter "
            f"up to {max(one.jitter_ms or 0 for one in mine):.3f} ms",
            source="iperf3: end.sum; RcvbufErrors of the receiving pod's kernel",
        )
        for way in ("forward", "reverse")
        if (mine := [one for one in valid if one.direction == way])
    ]
    told = (
        f"{lost} of {packets} packets lost at {_speed(asked)} ({lost / packets:.2%}, interval "
        f"{low:.2%} to {high:.2%}), jitter up to {jitter:.2f} ms"
    )
    if overrun:
        told += f"; {overrun} of them had arrived and found the receiving pod's buffer full"
    if len(valid) < len(seen.udp):
        return _undecided(
            "too_few_repeats",
            f"{len(valid)} of {len(seen.udp)} planned runs are valid: {'; '.join(errors[:3])}",
            facts=facts,
        )
    slowest = min(one.sent or 0 for one in valid)
    if slowest < _RATE_REACHED * asked:
        return _undecided(
            "rate_not_reached",
            f"the sender came to {_speed(slowest)} of the {_speed(asked)} asked for: {told}",
            "ask for less by throughput.udp_mbit",
            facts=facts,
        )
    ceiling = profile.number("throughput.udp_loss_ceiling_percent") / 100
    if lost / packets <= ceiling < high:
        return _undecided(
            "too_few_packets",
            f"{told}; so few packets cannot show that no more than the {ceiling:.2%} of profile "
            f"{profile.name} are lost",
            "send more by throughput.udp_repeats or throughput.udp_mbit",
            facts=facts,
        )
    if high > ceiling and (lost - overrun) / packets <= ceiling:
        return _undecided(
            "receiver_overrun",
            f"{told}: its iperf3 got too little CPU, and the network's own loss may lie within "
            f"the {ceiling:.2%} of profile {profile.name}",
            "run again at a quieter time, or ask for less by throughput.udp_mbit",
            facts=facts,
        )
    if high > ceiling:
        return Ruling(
            Outcome.FAIL,
            "loses_packets",
            f"{told}; the ceiling of profile {profile.name} is {ceiling:.2%}",
            would_change=f"an interval of the loss that ends at {ceiling:.2%} or below",
            facts=facts,
        )
    demanded = ceiling < 1
    end = f"; the ceiling of profile {profile.name} is {ceiling:.2%}" if demanded else ""
    return Ruling(
        Outcome.PASS,
        "ceiling_met" if demanded else "measured",
        told + (end or f". {_record(profile)}"),
        would_change="a ceiling in the profile (throughput.udp_loss_ceiling_percent) below it",
        facts=facts,
    )


def _above_zero(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _possible(run: UdpRun) -> bool:
    """Say whether a run's numbers can be; version 0.1 stored what iperf3 reported."""
    return run.packets is not None and run.lost is not None and 0 <= run.lost <= run.packets != 0


def _overrun(runs: Sequence[UdpRun]) -> str:
    known = [one.overrun for one in runs if one.overrun is not None]
    return str(sum(known)) if len(known) == len(runs) else "an unknown number"


# -- latency --------------------------------------------------------------------------------------


def _latency(seen: NetworkSeen, profile: Profile) -> Ruling:
    if not seen.latency:
        return _not_measured()
    errors = list(dict.fromkeys(one.error for one in seen.latency if one.error))
    samples = [sample for one in seen.latency for sample in one.samples_us]
    planned = sum(one.planned for one in seen.latency)
    if not samples:
        return _failed("no request was answered", errors)
    found = {p: statistics.quantile(samples, p) for p in (0.5, 0.9, 0.99, 0.999)}
    worst = found[0.99]
    facts = [
        Fact(
            name=f"p{100 * p:g}",
            value=f"{one.value / 1000:.3f} ms (interval {one.low / 1000:.3f} to "
            f"{one.high / 1000:.3f}), {len(samples)} samples",
            source="requests of 64 bytes over one connection, timed in the pod",
        )
        for p, one in found.items()
    ]
    longest = f"{max(samples) / 1000:.3f} ms"
    facts.append(Fact(name="longest", value=longest, source="the same samples"))
    told = (
        f"p50 {found[0.5].value / 1000:.2f} ms, p99 {worst.value / 1000:.2f} ms, p99.9 "
        f"{found[0.999].value / 1000:.2f} ms of {len(samples)} requests"
    )
    if errors or len(samples) < planned * 0.8:
        return _undecided(
            "too_few_samples",
            f"{len(samples)} of {planned} planned requests were answered"
            + (f": {'; '.join(errors[:3])}" if errors else f" in time: {told}"),
            facts=facts,
        )
    ceiling = profile.number("throughput.p99_ceiling_ms")
    if ceiling and worst.high / 1000 > ceiling:
        return Ruling(
            Outcome.FAIL,
            "above_ceiling",
            f"{told}; the upper bound of p99, {worst.high / 1000:.2f} ms, is above the ceiling of "
            f"{ceiling:g} ms of profile {profile.name}",
            would_change=f"a p99 whose interval ends at {ceiling:g} ms or below",
            facts=facts,
        )
    end = f"; the ceiling of profile {profile.name} for p99 is {ceiling:g} ms" if ceiling else ""
    return Ruling(
        Outcome.PASS,
        "ceiling_met" if ceiling else "measured",
        told + (end or f". {_record(profile)}"),
        would_change="a ceiling in the profile (throughput.p99_ceiling_ms) below the upper bound",
        facts=facts,
    )


# -- MTU ------------------------------------------------------------------------------------------


def _path_mtu(seen: NetworkSeen, _: Profile) -> Ruling:
    if not seen.whole:
        return _not_measured()
    mtus = {one.node: one.mtu for one in seen.ends[:2]}
    facts = [
        Fact(
            name=f"datagram of {one.mtu} bytes, {one.direction}",
            value="arrived whole" if one.whole_arrived else f"did not arrive {one.error}".strip(),
            expected="arrived whole",
            source="UDP with the don't-fragment bit, answered by the other pod",
        )
        for one in seen.whole
    ]
    broken = [one.error for one in seen.whole if one.error and not one.mtu]
    if broken:
        return _failed("no datagram was sent", broken)
    if None in mtus.values():
        return _undecided("mtu_unknown", "a pod did not tell the MTU of its interface", facts=facts)
    told = ", ".join(f"{mtu} on {node}" for node, mtu in mtus.items())
    if len(set(mtus.values())) > 1:
        return Ruling(
            Outcome.FAIL,
            "mtu_differs",
            f"the pods have different MTUs on one network: {told}",
            "give the CNI of all nodes the same MTU",
            "the same MTU on both nodes",
            facts,
        )
    lost = [one.direction for one in seen.whole if not one.small_arrived]
    if lost:
        return _undecided(
            "control_lost",
            f"even a small datagram was not answered ({', '.join(lost)}): the path's MTU cannot "
            "be told",
            "look for a NetworkPolicy or a firewall that refuses UDP",
            facts=facts,
        )
    cut = [one for one in seen.whole if not one.whole_arrived]
    if cut:
        why = cut[0].error or "nothing came back"
        return Ruling(
            Outcome.FAIL,
            "path_mtu_smaller",
            f"the pods believe in an MTU of {cut[0].mtu}, and a datagram of that size does not "
            f"pass {' and '.join(one.direction for one in cut)} ({why}), while small ones do",
            "lower the MTU of the CNI to what the network between the nodes carries",
            "datagrams of the full MTU that arrive in both directions",
            facts,
        )
    return Ruling(
        Outcome.PASS,
        "passes_whole",
        f"datagrams of the full MTU pass unfragmented in both directions ({told})",
        would_change="another MTU on one of the nodes, or a smaller one on the way",
        facts=facts,
    )


# -- the mesh -------------------------------------------------------------------------------------


def _mesh(seen: NetworkSeen, profile: Profile) -> Ruling:
    mesh = seen.mesh
    if mesh is None:
        return _not_measured()
    known = statistics.node_figures(mesh.megabits)
    pairs = sum(one is not None for row in mesh.megabits for one in row)
    if not pairs:
        return _failed("no pair of nodes could be measured", mesh.errors)
    told_pairs = "1 pair" if pairs == 1 else f"{pairs} pairs"
    found = statistics.outliers(known)
    slow = [f"{mesh.nodes[one]} ({_speed((known[one] or 0) * 1e6)})" for one in found.nodes]
    facts = [
        Fact(
            name="mesh",
            value=f"{told_pairs} of {len(mesh.nodes)} of {mesh.of} nodes in {mesh.rounds} of "
            f"{mesh.all_rounds} rounds, {sum(mesh.round_seconds):.0f} s; the median node can do "
            f"{_speed(found.median * 1e6)}",
            source="iperf3, one stream, pairs of a round at once",
        ),
        Fact(
            name="outlying nodes",
            value=_named(slow) or "none",
            expected=f"at least {_speed(found.limit * 1e6)}",
            source="upper quartile of a node's pairs; median of all minus 3.5 robust standard "
            "deviations, at least a fifth",
        ),
    ]
    if pairs < mesh.planned_pairs:
        return _undecided(
            "pairs_missing",
            f"{pairs} of {mesh.planned_pairs} pairs were measured: {'; '.join(mesh.errors[:3])}",
            "look at the nodes that are named",
            facts=facts,
        )
    share = profile.number("throughput.mesh_floor_share")
    limit = share * found.median
    below = [
        f"{mesh.nodes[index]} ({_speed(one * 1e6)})"
        for index, one in enumerate(known)
        if one is not None and one < limit
    ]
    if below:
        return Ruling(
            Outcome.FAIL,
            "node_below_share",
            f"{_named(below)} can do less than {share:.0%} of the median node "
            f"({_speed(found.median * 1e6)}), as profile {profile.name} demands",
            "look at the network of these nodes",
            f"every node at {_speed(limit * 1e6)} or above",
            facts,
        )
    told = f"; outlying: {_named(slow)}" if slow else "; no node is outlying"
    end = f"; profile {profile.name} demands {share:.0%}" if share else f". {_record(profile)}"
    return Ruling(
        Outcome.PASS,
        "share_met" if share else "measured",
        f"{told_pairs} of {len(mesh.nodes)} nodes, the median node can do "
        f"{_speed(found.median * 1e6)}{told}{end}",
        would_change="a share in the profile (throughput.mesh_floor_share) that a node misses",
        facts=facts,
    )


def _named(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - _MOST_NAMED} more" if len(nodes) > _MOST_NAMED else ""
    return ", ".join(nodes[:_MOST_NAMED]) + more


_RULES: dict[str, Callable[[NetworkSeen, Profile], Ruling]] = {
    "throughput.tcp": _tcp,
    "throughput.udp": _udp,
    "throughput.latency": _latency,
    "throughput.path_mtu": _path_mtu,
    "throughput.mesh": _mesh,
}


# -- what they have in common ---------------------------------------------------------------------


def _told(found: Summary) -> str:
    return f"median {_speed(found.median)} (interval {_speed(found.low)} to {_speed(found.high)})"


def _speeds(runs: Sequence[TcpRun]) -> str:
    return ", ".join(_speed(one.received or 0) for one in runs)


def _speed(bits: float) -> str:
    if bits >= 1e9:
        return f"{bits / 1e9:.2f} Gbit/s"
    return f"{bits / 1e6:.3g} Mbit/s"


def _failed(what: str, errors: Sequence[str]) -> Ruling:
    return Ruling(
        Outcome.ERROR,
        Reason.MEASUREMENT_FAILED.value,
        f"{what}: {'; '.join(list(dict.fromkeys(errors))[:3]) or 'nobody says why'}",
        "look at the raw files of the run, and run again",
    )


def _not_measured() -> Ruling:
    return Ruling(Outcome.NOT_RUN, "not_measured", "the trial was not asked to measure this")


def _undecided(reason: str, summary: str, advice: str = "", facts: Sequence[Fact] = ()) -> Ruling:
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice, facts=list(facts))
