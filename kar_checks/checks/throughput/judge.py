"""The verdicts on throughput and latency: observation and profile in, findings out. Pure.

A finding for each network. First whether the two pods were where they had to be and as they were
sent, then whether the bytes took this network, and only then the figure itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from kar_checks.checks.throughput import facts, statistics
from kar_checks.checks.throughput.facts import speed
from kar_checks.checks.throughput.observation import (
    BASELINE,
    POD_NETWORK,
    Carried,
    Cell,
    End,
    Mesh,
    NetworkSeen,
    TcpRun,
    ThroughputObservation,
    Unmeasured,
    Whole,
    judged_cells,
)
from kar_checks.kit.judging import Case, Judge, Rule, error, measured, unless_beside
from kar_checks.kit.limits import Limit, Repeats, Standing
from kar_checks.kit.stats import quantile
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Fault, Outcome

_ORDER = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASS)
_THREADED = (3, 16)
"""The first iperf3 that gives every stream a thread of its own."""
_NEAR_CAP = 0.97
_RATE_REACHED = 0.9
_LEAST_ANSWERED = 0.8
_LEAST_COUNTED = 0.9
"""Of a payload; what a counter misses beyond that took another interface."""
_SHARED = ("below_floor", "loses_packets", "above_ceiling", "node_below_share")
"""Failures by figures that another run's traffic makes worse."""

Seen = Case[ThroughputObservation, NetworkSeen]
verdict = Reasons(__package__)


def _unmeasured(run: ThroughputObservation) -> dict[str, Ruling]:
    """Return why nothing was measured on some networks."""
    found: dict[str, Ruling] = {}
    for name, seen in run.networks.items():
        if isinstance(seen, NetworkSeen):
            continue
        ruling = error(seen) if isinstance(seen, Fault) else _reason(seen)
        found[name] = replace(ruling, facts=_looked_for(run, name))
    return found


def _reason(seen: Unmeasured) -> Ruling:
    return Ruling(Outcome.INCONCLUSIVE, seen.word, seen.text, help=seen.help)


def _not_asked_for(case: Seen) -> Ruling | None:
    """Return that the check's part is empty."""
    parts = judge.rules[case.check].parts
    return None if all(getattr(case.seen, part) for part in parts) else measured(None)


def _misplaced(case: Seen) -> Ruling | None:
    seen = case.seen
    nodes = [one.node for one in seen.ends if one.name != "beside"]
    if len(nodes) < 2 or len(set(nodes)) < len(nodes):
        ran_on = ", ".join(sorted(set(nodes))) or "none of them"
        return verdict("same_node", wanted=" and ".join(seen.asked), ran_on=ran_on)
    if seen.injected:
        return verdict("container_injected", containers=", ".join(seen.injected))
    return None


def _astray(case: Seen) -> Ruling | None:
    """Return why a secondary network may not be what was measured."""
    if not case.seen.secondary:
        return None
    questions = [_another_interface(case.seen, end) for end in case.seen.ends]
    questions += [_another_way(one) for one in case.seen.carried]
    return next((ruling for ruling in questions if ruling), None)


def _another_interface(seen: NetworkSeen, end: End) -> Ruling | None:
    if not end.address:
        return verdict("no_address", node=end.node)
    given = seen.told.get(end.node)
    interface = end.interface or "another interface"
    where = {"node": end.node, "interface": interface, "address": end.address}
    if given is None or not (given.addresses or given.name):
        return verdict("not_told", **where)
    stray = bool(given.addresses) and end.address not in given.addresses
    if stray or given.name not in ("", end.interface):
        announced = " ".join(one for one in (given.name, ", ".join(given.addresses)) if one)
        return verdict("another_interface.named", source=given.source, announced=announced, **where)
    return None


def _another_way(one: Carried) -> Ruling | None:
    if one.client is None or one.server is None:
        return verdict("not_counted", step=one.step)
    if min(one.client, one.server) >= _LEAST_COUNTED * one.payload:
        return None
    counted = {"payload": one.payload, "client": one.client, "server": one.server}
    return verdict("another_interface.counted", step=one.step, **counted)


# -- the rules ------------------------------------------------------------------------------------


def _words(case: Seen) -> dict[str, Any]:
    """Return what every text may name: the nodes, the network, the profile and the check."""
    name = case.variant
    network = f"the {name}" if name in (POD_NETWORK, BASELINE) else f"network {name}"
    values = {"nodes": " and ".join(case.seen.asked), "network": network, "check": case.check}
    return {**values, "profile": case.profile.name}


def _tcp(case: Seen) -> Ruling:
    """Return the worst cell's verdict, with the words of all cells that share it."""
    floor = case.profile.number("throughput.tcp_floor_mbit") * 1e6
    rulings = [_cell(case, cell, floor) for cell in judged_cells(case.seen.tcp)]
    worst = min(rulings, key=lambda one: _ORDER.index(one.outcome))
    summary = "; ".join(one.summary for one in rulings if one.reason == worst.reason)
    found = [fact for one in rulings for fact in one.facts]
    found += facts.measured_once(case.seen)
    if worst.outcome is not Outcome.PASS:
        return replace(worst, summary=summary, facts=found)
    values = {"figures": summary, "floor": speed(floor), "setting": "throughput.tcp_floor_mbit"}
    return verdict("floor_met" if floor else "measured", found, **values, **_words(case))


def _cell(case: Seen, cell: Cell, floor: float) -> Ruling:
    seen, profile = case.seen, case.profile
    values = _words(case) | {"what": f"TCP, {cell.name}"}
    repeats = Repeats.of([one for one in seen.judged_tcp if one.cell == cell], statistics.no_rate)
    runs = repeats.usable
    if not runs:
        return verdict("measurement_failed.iperf3", errors=repeats.why, **values)
    rates = statistics.rates(runs)
    found = facts.tcp(cell, runs, rates)
    most = profile.number("throughput.unstable_percent") / 100
    limit = Limit(floor=floor or None, variation=most)
    standing = repeats.against(limit, (rates.low, rates.high), variation=rates.variation)
    if standing is Standing.TOO_FEW:
        return _too_few(repeats, found, values)
    versions = {one.iperf3 for one in runs} | {one.iperf3 for one in seen.ends}
    if len(versions) > 1:
        return verdict("mixed_versions", found, versions=", ".join(sorted(versions)))
    if times := sum(one.throttled or 0 for one in runs):
        return verdict("throttled", found, times=times, **values)
    if standing is Standing.UNSTABLE:
        shown = ", ".join(speed(one.received or 0) for one in runs)
        varies = {"variation": rates.variation, "most": most, "rates": shown}
        return verdict("unstable", found, **varies, **values)
    cpu = max((one.sender_cpu or 0 for one in runs if _cpu_bound(one, case)), default=None)
    capped = seen.cap is not None and rates.median > _NEAR_CAP * seen.cap
    values |= {"figures": f"{cell.name}: {facts.median(rates)}", "floor": speed(floor)}
    if standing is Standing.BELOW and cpu is not None:
        return verdict("cpu_bound", found, cpu=cpu, **values)
    if standing is Standing.BELOW:
        values["cap"] = speed(seen.cap or 0)
        return verdict("capped" if capped else "below_floor", found, **values)
    if cpu is not None:
        values["figures"] += ", a lower bound: the sender used up its CPU"
    elif capped:
        values["figures"] += ", a lower bound: --max-bytes paced it"
    return verdict("floor_met.cell", found, **values)


def _too_few(repeats: Repeats[Any], found: list[Fact], values: dict[str, Any]) -> Ruling:
    counts = {"usable": len(repeats.usable), "planned": repeats.planned}
    return verdict("too_few_repeats", found, errors=repeats.why, **counts, **values)


def _cpu_bound(run: TcpRun, case: Seen) -> bool:
    if run.sender_cpu is None:
        return False
    sender = case.seen.ends[1 if run.cell.direction == "reverse" else 0]
    threads = run.cell.streams if _version(run.iperf3) >= _THREADED else 1
    usable = max(1, min(threads, sender.cores or 1))
    return run.sender_cpu >= case.profile.number("throughput.cpu_percent") * usable


def _version(shown: str) -> tuple[int, ...]:
    digits = shown.rpartition(" ")[2].split("+")[0].split(".")
    return tuple(int(one) for one in digits if one.isdigit())


def _udp(case: Seen) -> Ruling:
    values = _words(case) | {"what": "UDP", "setting": "throughput.udp_loss_ceiling_percent"}
    repeats = Repeats.of(case.seen.udp, statistics.no_loss)
    if not repeats.usable:
        return verdict("measurement_failed.iperf3", errors=repeats.why, **values)
    loss, found = statistics.loss(repeats.usable), facts.udp(repeats.usable)
    asked, slowest = case.seen.udp_rate, min(one.sent or 0 for one in repeats.usable)
    ceiling = case.profile.number("throughput.udp_loss_ceiling_percent") / 100
    limit = Limit(ceiling=ceiling if ceiling < 1 else None)
    standing = repeats.against(limit, (loss.low, loss.high))
    values |= {"figures": facts.loss(loss, asked), "ceiling": f"{ceiling:.2%}"}
    if standing is Standing.TOO_FEW:
        return _too_few(repeats, found, values)
    if slowest < _RATE_REACHED * asked:
        rates = {"slowest": speed(slowest), "asked": speed(asked)}
        return verdict("rate_not_reached", found, **rates, **values)
    if standing is not Standing.ABOVE:
        recorded = standing is Standing.RECORDED
        return verdict("measured" if recorded else "ceiling_met", found, **values)
    if loss.share <= ceiling:
        return verdict("too_few_packets", found, **values)
    overrun = (loss.lost - loss.overrun) / loss.packets <= ceiling
    return verdict("receiver_overrun" if overrun else "loses_packets", found, **values)


def _latency(case: Seen) -> Ruling:
    runs, ceiling = case.seen.latency, case.profile.number("throughput.p99_ceiling_ms")
    samples = [sample for one in runs for sample in one.samples_us]
    errors = [one.error for one in runs if one.error]
    repeats = Repeats(samples, sum(one.planned for one in runs), errors)
    values = _words(case) | {"setting": "throughput.p99_ceiling_ms", "ceiling": f"{ceiling:g} ms"}
    if not samples:
        return verdict("measurement_failed.latency", errors=repeats.why, **values)
    quantiles = {p: quantile(samples, p) for p in (0.5, 0.9, 0.99, 0.999)}
    worst, found = quantiles[0.99], facts.latency(quantiles, samples)
    values["figures"] = facts.requests(quantiles, len(samples))
    limit = Limit(ceiling=ceiling * 1000 or None)
    standing = repeats.against(limit, (worst.low, worst.high), least=_LEAST_ANSWERED)
    if errors or standing is Standing.TOO_FEW:
        values |= {"answered": len(samples), "planned": repeats.planned}
        why = repeats.why if errors else f"{values['figures']} came in time"
        return verdict("too_few_samples", found, why=why, **values)
    if standing is Standing.ABOVE:
        return verdict("above_ceiling", found, high=worst.high / 1000, **values)
    return verdict("measured" if standing is Standing.RECORDED else "ceiling_met", found, **values)


def _mesh(case: Seen) -> Ruling:
    mesh, share = cast("Mesh", case.seen.mesh), case.profile.number("throughput.mesh_floor_share")
    pairs = [one for row in mesh.megabits for one in row if one is not None]
    repeats = Repeats(pairs, mesh.planned_pairs, mesh.errors)
    values = _words(case) | {"setting": "throughput.mesh_floor_share", "errors": repeats.why}
    if not pairs:
        return verdict("measurement_failed.mesh", **values)
    reached = statistics.node_figures(mesh.megabits)
    known = {name: one for name, one in zip(mesh.nodes, reached, strict=True) if one is not None}
    outliers = statistics.outliers(reached)
    floor = share * outliers.median
    limit = Limit(floor=floor or None)
    standing = repeats.against(limit, (min(known.values()), max(known.values())))
    values |= {"figures": facts.nodes(mesh, outliers, known), "share": share}
    found = facts.mesh(mesh, outliers, known)
    if standing is Standing.TOO_FEW:
        counts = {"usable": len(pairs), "planned": repeats.planned}
        return verdict("pairs_missing", found, **counts, **values)
    if standing is Standing.BELOW:
        slow = [name for name, one in known.items() if one < floor]
        rates = {"median": speed(outliers.median * 1e6), "floor": speed(floor * 1e6)}
        names = {"names": facts.named(slow), "slow": facts.named(slow, known)}
        return verdict("node_below_share", found, **names, **rates, **values)
    return verdict("measured" if standing is Standing.RECORDED else "share_met", found, **values)


def _path_mtu(case: Seen) -> Ruling:
    seen, found = case.seen, facts.path_mtu(case.seen)
    if unsent := [one.error for one in seen.whole if one.error and not one.mtu]:
        return verdict(
            "measurement_failed.mtu", errors="; ".join(dict.fromkeys(unsent)), **_words(case)
        )
    mtus = {one.node: one.mtu for one in seen.ends[:2]}
    if None in mtus.values():
        lacking = ", ".join(node for node, mtu in mtus.items() if mtu is None)
        return verdict("mtu_unknown", found, lacking=lacking)
    shown = ", ".join(f"{mtu} on {node}" for node, mtu in mtus.items())
    if len(set(mtus.values())) > 1:
        return verdict("mtu_differs", found, mtus=shown, **_words(case))
    if lost := [one for one in seen.whole if not one.small_arrived]:
        return verdict("control_lost", found, ways=_ways(seen, lost), **_words(case))
    if cut := [one for one in seen.whole if not one.whole_arrived]:
        why = cut[0].error or "nothing came back"
        values = {"mtu": cut[0].mtu, "ways": _ways(seen, cut), "why": why, **_words(case)}
        return verdict("path_mtu_smaller", found, **values)
    return verdict("passes_whole", found, mtus=shown)


def _ways(seen: NetworkSeen, datagrams: Sequence[Whole]) -> str:
    """Return from which node to which datagrams were sent."""
    first, second = (one.node for one in seen.ends[:2])
    ways = {"forward": f"from {first} to {second}", "reverse": f"from {second} to {first}"}
    return " and ".join(ways[one.direction] for one in datagrams)


def _shared(case: Seen, ruling: Ruling) -> Ruling:
    return unless_beside(ruling, case.run) if ruling.reason in _SHARED else ruling


def _remarks(case: Seen) -> list[Fact]:
    share = facts.share_of_host(case.run) if case.check == "throughput.tcp" else ()
    return [
        *facts.around(case.seen, case.run.seed),
        *(share if case.variant == POD_NETWORK else ()),
        *_looked_for(case.run, case.variant),
    ]


def _looked_for(run: ThroughputObservation, network: str) -> list[Fact]:
    return list(facts.looked_for(run)) if network == POD_NETWORK else []


judge = Judge[ThroughputObservation, NetworkSeen](
    rules={
        "throughput.tcp": Rule(("judged_tcp",), _tcp),
        "throughput.udp": Rule(("udp",), _udp),
        "throughput.latency": Rule(("latency",), _latency),
        "throughput.path_mtu": Rule(("whole",), _path_mtu),
        "throughput.mesh": Rule(("mesh",), _mesh),
    },
    variants=lambda run, _: {
        name: seen for name, seen in run.networks.items() if isinstance(seen, NetworkSeen)
    },
    missing=_unmeasured,
    unusable=_not_asked_for,
    mutated=_misplaced,
    control_failed=_astray,
    revise=_shared,
    remarks=_remarks,
)
