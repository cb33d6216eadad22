"""The verdicts on advanced inference ingress: observation and profile in, findings out. Pure.

A finding per GatewayClass. First whether the pool served at all, then whether names, counts and
picks agree in every phase, then whether the balanced phases were even; only then the cause.
"""

from __future__ import annotations

from kar_checks.checks.routing.observation import (
    Adapters,
    ClassObservation,
    Failure,
    Load,
    Phase,
    Prefixes,
    RoutingObservation,
    Status,
    Unready,
)
from kar_checks.kit import judging
from kar_checks.kit.http_testbed import steady
from kar_checks.kit.http_testbed.records import Sample, told
from kar_checks.kit.http_testbed.ruling import (
    conditions,
    miscounted,
    missing_pools,
    ours,
    part,
    traffic_judge,
    unanswered,
    unsettled,
    waited,
    without_gateway,
)
from kar_checks.kit.http_testbed.steady import Steady
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.stats import chance_of_fall, fewer, interval
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact

verdict = Reasons(__package__)
Case = judging.Case[RoutingObservation, ClassObservation]

_COUNTED = "named in the answers and counted by the servers; exact binomial interval"
TESTS = 2
"""Each trial tests the fall of two shares; p values are multiplied by it (Bonferroni)."""
ONE_GETS_ALL = 0.9
_LEAST = 1e-9
"""No smaller chance is shown: it would be one of numbers, not of clusters."""
SAME_SERVER = 0.6
"""Repeated prefixes that chance alone spreads over three servers meet their first one in 1/3."""


def _picker(case: Case) -> str:
    built_in = case.run.picker == "built-in"
    return "the gateway's built-in picker" if built_in else "the endpoint picker"


# -- what is reported -----------------------------------------------------------------------


def _pool_status(found: Status, case: Case) -> Ruling:
    who = case.seen.controller
    good = ours(found.good, who)
    if good is None:
        route = ours(found.route, who)
        why = route.condition("ResolvedRefs") if route else None
        more = f"; its route has {why}" if why else ""
        return verdict("pool_not_supported", controller=who, route=more)
    facts = conditions("good pool", good)
    for kind in ("Accepted", "ResolvedRefs"):
        said = good.condition(kind)
        if said is None or not said.holds:
            refusal = {"kind": kind, "condition": said or "missing"}
            return verdict("good_pool_refused", facts, controller=who, **refusal)
    if found.bad is None:
        return verdict("status_is_true", facts)
    bad = ours(found.bad, who)
    resolved = bad.condition("ResolvedRefs") if bad else None
    facts += conditions("pool without its picker", bad) if bad else []
    if resolved is None or resolved.status != "False":
        condition = resolved or "no ResolvedRefs"
        return verdict("missing_picker_resolved", facts, controller=who, condition=condition)
    traffic = found.bad_traffic
    if traffic is None:
        return verdict("not_observed", what="requests to the pool without its endpoint picker")
    answers = told(traffic.tallies)
    facts.append(Fact(name="requests to it", value=answers, expected="no server answers"))
    if traffic.good() or any(traffic.counted.values()):
        return verdict("answered_without_picker", facts, answers=answers)
    return _not_refused(traffic, found.bad_control, facts) or verdict(
        "status_is_true.both", facts, why=resolved.reason
    )


def _not_refused(sample: Sample, control: Sample | None, facts: list[Fact]) -> Ruling | None:
    """Ask whether errors are refusals: a gateway that is out of order gives them to everybody."""
    if control is None:
        return not_recorded("requests to a Service before the same servers at the same time")
    facts.append(
        Fact(
            name="a Service before the same servers, meanwhile",
            value=told(control.tallies),
            expected="answers",
            source="the control: the gateway refuses the pool, and not everybody",
        )
    )
    if why := unanswered(control, facts):
        return why
    if not all(one.status >= 400 for one in sample.tallies):
        return verdict("not_refused", facts, answers=told(sample.tallies))
    return None


# -- load -----------------------------------------------------------------------------------


def _follows_load(found: Load, case: Case) -> Ruling:
    for phase in (*found.phases, *found.held):
        if why := _miscounted(phase):
            return why
    confidence = case.profile.number("routing.confidence")
    facts = [_order(found), *_phase_facts([*found.phases, *found.held], confidence)]
    if why := _uneven(found, case, confidence, facts):
        return why
    effect = case.profile.number("routing.effect")
    facts.append(_chances(found, effect, confidence))
    loaded = (found.first, found.second)
    falls = {server: _fall(server, found.phases, confidence, facts) for server in loaded}
    reads = sum(sum(phase.read.values()) for phase in found.phases)
    facts.append(
        Fact(
            name="load reports read",
            value=f"{reads} times",
            source="counted by the servers at /metrics",
        )
    )
    kept = [server for server, fall in falls.items() if fall < effect]
    if not kept:
        what = {"servers": " and ".join(loaded), "effect": effect, "confidence": confidence}
        return verdict("follows_reported_load", facts, reads=reads, **what)
    if not reads:
        return _own_count(found, case, facts)
    limit = case.profile.number("routing.convergence_seconds")
    if late := [one.name for one in found.phases if one.loaded and not _in_time(one, limit)]:
        what = {"seconds": limit, "phases": ", ".join(late)}
        return verdict("stale_reports", facts, picker=_picker(case), **what)
    return verdict(
        "no_reaction" if len(kept) == len(falls) else "one_sided_reaction",
        facts,
        picker=_picker(case),
        reads=reads,
        servers=" and ".join(kept),
    )


def _in_time(phase: Phase, limit: float) -> bool:
    after = phase.read_after.get(phase.loaded)
    return after is not None and after <= limit


def _own_count(found: Load, case: Case, facts: list[Fact]) -> Ruling:
    """Judge a picker that reads nothing: it may count its own requests in flight."""
    if not found.held:
        what = "a server that is really slow, although nothing read the servers' load reports"
        return verdict("not_observed", what=what)
    confidence = case.profile.number("routing.confidence")
    effect = case.profile.number("routing.effect")
    phases = [*found.held, *(phase for phase in found.phases if not phase.loaded)]
    falls = [_fall(one, phases, confidence, facts) for one in (found.first, found.second)]
    if all(fall >= effect for fall in falls):
        return verdict("follows_own_count", facts)
    if found.read_before:
        reads = found.read_before
        return verdict("stale_reports.never_again", facts, picker=_picker(case), reads=reads)
    return verdict("load_is_ignored", facts, picker=_picker(case))


def _miscounted(phase: Phase) -> Ruling | None:
    sample = phase.sample
    if why := miscounted(sample):
        return why
    # A request that was sent again, as its kept connection was closed, may have been picked twice.
    most = sample.sent + sample.again
    if phase.decisions is not None and not sample.sent <= phase.decisions <= most:
        picks = {"sent": sample.sent, "picks": phase.decisions}
        return verdict("picks_differ", phase=phase.name, **picks)
    return None


def _uneven(found: Load, case: Case, confidence: float, facts: list[Fact]) -> Ruling | None:
    """Without load no server may have all, and each must have something."""
    balanced = [phase.sample for phase in found.phases if not phase.loaded]
    counts = {pod: _hits(balanced, pod) for pod in balanced[0].counted}
    shares = {pod: interval(hits, of, confidence) for pod, (hits, of) in counts.items()}
    # Asked first: beside a server that gets everything, the others get nothing.
    for pod, (low, _) in shares.items():
        what = {"pod": pod, "hits": counts[pod][0], "sent": counts[pod][1]}
        if low > ONE_GETS_ALL:
            return verdict("always_the_same_server", facts, picker=_picker(case), **what)
    for pod, (_, high) in shares.items():
        what = {"pod": pod, "hits": counts[pod][0], "sent": counts[pod][1]}
        if high < 0.5 / len(shares):
            return verdict("uneven_without_load", facts, picker=_picker(case), **what)
    return None


def _fall(server: str, phases: list[Phase], confidence: float, facts: list[Fact]) -> float:
    """Return how far the share fell at least: lower bound without load minus upper bound with."""
    hits, of = _hits([one.sample for one in phases if one.loaded == server], server)
    base_hits, base_of = _hits([one.sample for one in phases if one.loaded != server], server)
    fall = interval(base_hits, base_of, confidence)[0] - interval(hits, of, confidence)[1]
    chance = min(1.0, TESTS * fewer(hits, of, base_hits, base_of))
    seen = f"falls by at least {fall:.0%}" if fall > 0 else "no fall beyond chance"
    facts.append(
        Fact(
            name=f"{server}: share with load, and without",
            value=f"{hits} of {of} ({hits / of:.0%}), {base_hits} of {base_of} "
            f"({base_hits / base_of:.0%}); {seen}; p = {chance:.1e}",
            source="Fisher's exact test, one-sided, corrected for two tests; bounds of exact "
            f"binomial intervals at {confidence:.1%}",
        )
    )
    return fall


def _chances(found: Load, effect: float, confidence: float) -> Fact:
    """Return how probable a wrong verdict is with this many requests, whatever was seen."""
    of, servers = found.phases[0].sample.sent, len(found.phases[0].sample.counted)
    base_of, even = of * (len(found.phases) - 1), 1 / servers
    # Of a picker that follows load: in one of the other phases another server is left alone.
    follows = (even * (len(found.phases) - 2) + 1 / (servers - 1)) / (len(found.phases) - 1)

    def chance(true: float, base: float) -> float:
        return chance_of_fall(true, of, base, base_of, effect=effect, confidence=confidence)

    wrong_pass, wrong_fail = chance(even, even), TESTS * (1 - chance(0.0, follows))

    return Fact(
        name="chance of a wrong verdict",
        value=f"a picker that ignores load is taken for one that follows it: less than "
        f"{max(wrong_pass, _LEAST):.0e}; one that leaves a loaded server alone fails: less than "
        f"{max(wrong_fail, _LEAST):.0e}",
        source=f"exact binomial sums for {of} requests a phase, fixed beforehand by "
        "routing.requests",
    )


def _hits(samples: list[Sample], server: str) -> tuple[int, int]:
    return sum(one.good(pod=server) for one in samples), sum(one.sent for one in samples)


def _order(found: Load) -> Fact:
    return Fact(
        name="order of the phases",
        value=" → ".join(one.name for one in (*found.phases, *found.held)),
        source=f"drawn with seed {found.seed}; repeat with --set routing.seed={found.seed}",
    )


def _phase_facts(phases: list[Phase], confidence: float) -> list[Fact]:
    out: list[Fact] = []
    for phase in phases:
        shares: list[str] = []
        for pod in phase.sample.counted:
            hits = phase.sample.good(pod=pod)
            low, high = interval(hits, phase.sample.sent, confidence)
            shares.append(f"{pod} {hits} ({low:.0%} to {high:.0%})")
        after = phase.read_after.get(phase.loaded)
        read = f"; the change was read after {after:.2f} s" if after is not None else ""
        picks = "" if phase.decisions is None else f"; {phase.decisions} picks by its own count"
        out.append(Fact(name=phase.name, value=", ".join(shares) + picks + read, source=_COUNTED))
    return out


# -- prefixes and adapters ------------------------------------------------------------------


def _prefix_affinity(found: Prefixes, case: Case) -> Ruling:
    if why := miscounted(found.first) or miscounted(found.repeats):
        return why
    confidence = case.profile.number("routing.confidence")
    home = {one.revision: one.pod for one in found.first.tallies}
    same = sum(one.count for one in found.repeats.tallies if home.get(one.revision) == one.pod)
    total = found.repeats.sent
    low, high = interval(same, total, confidence)
    firsts = sorted(set(home.values()))
    facts = [
        Fact(
            name="repeats answered where the first one was",
            value=f"{same} of {total}, {same / total:.0%} ({low:.0%} to {high:.0%})",
            expected=f"at least {SAME_SERVER:.0%}; by chance a third",
            source=_COUNTED,
        ),
        Fact(
            name="servers of different prefixes",
            value=f"{len(home)} prefixes on {', '.join(firsts)}",
            expected="more than one",
            source="named in the answers",
        ),
    ]
    counts = {"same": same, "total": total}
    if low >= SAME_SERVER and len(firsts) == 1:
        return verdict("all_on_one_server", facts, prefixes=len(home), server=firsts[0])
    if low >= SAME_SERVER:
        spread = {"prefixes": len(home), "servers": len(firsts)}
        return verdict("same_prefix_same_server", facts, **counts, **spread)
    if high >= SAME_SERVER:
        return verdict("too_few_requests.prefixes", low=low, high=high)
    if found.declared:
        return verdict("no_affinity", facts, picker=_picker(case), **counts)
    return verdict("no_affinity_offered", facts, **counts)


def _adapter_affinity(found: Adapters, case: Case) -> Ruling:
    confidence = case.profile.number("routing.confidence")
    facts = _phase_facts(found.phases, confidence)
    bounds: list[tuple[float, float]] = []
    for phase in found.phases:
        if why := _miscounted(phase):
            return why
        bounds.append(interval(*_hits([phase.sample], phase.loaded), confidence))
    counts = " and ".join(
        f"{phase.sample.good(pod=phase.loaded)} of {phase.sample.sent} went to {phase.loaded}"
        for phase in found.phases
    )
    if all(low >= SAME_SERVER for low, _ in bounds):
        return verdict("follows_adapters", facts, counts=counts, least=SAME_SERVER)
    if not found.declared:
        return verdict("no_adapters_offered", facts, counts=counts)
    if all(high >= SAME_SERVER for _, high in bounds):
        return verdict("too_few_requests.adapters", counts=counts)
    return verdict("adapter_ignored", facts, picker=_picker(case), counts=counts)


# -- a server that is not ready, a picker that is gone, and outages ---------------------------


def _avoids_unready(found: Unready, case: Case) -> Ruling:
    if why := miscounted(found.before):
        return why
    server, before, meanwhile = found.server, found.before, found.meanwhile
    if not before.good(pod=server):
        return verdict("server_got_nothing_before", server=server)
    arrived = meanwhile.counted.get(server, 0)
    facts = [
        Fact(name="while it was ready", value=told(before.tallies), source=_COUNTED),
        Fact(
            name="while it was not",
            value=f"{told(meanwhile.tallies)}; {arrived} arrived at {server}",
            expected="none there, all answered",
            source=_COUNTED,
        ),
    ]
    if arrived:
        what = {"server": server, "arrived": arrived, "sent": meanwhile.sent}
        return verdict("reached_unready_server", facts, picker=_picker(case), **what)
    if why := unanswered(meanwhile, facts):
        return why
    counts = {"hits": before.good(pod=server), "before": before.sent, "meanwhile": meanwhile.sent}
    return verdict("unready_is_avoided", facts, server=server, **counts)


def _failure_mode(found: Failure, _: Case) -> Ruling:
    if why := unanswered(found.close_before) or unanswered(found.open_before):
        return why
    if not found.gone or found.close_after is None or found.open_after is None:
        return verdict("picker_not_gone", picker=found.picker)
    closed, opened = found.close_after, found.open_after
    refusals, answers = told(closed.tallies), told(opened.tallies)
    facts = [
        Fact(name="picker", value=f"pod {found.picker} was gone", source="the API server"),
        Fact(name="FailClose, without picker", value=refusals, expected="errors"),
        Fact(name="FailOpen, without picker", value=answers, expected="answers"),
    ]
    if closed.good() or any(closed.counted.values()):
        return verdict("closed_pool_answers", facts, answers=refusals)
    if why := _not_refused(closed, found.control_after, facts):
        return why
    if opened.good() < opened.sent:
        counts = {"good": opened.good(), "sent": opened.sent}
        return verdict("open_pool_refuses", facts, answers=answers, **counts)
    return verdict("fails_as_it_says", facts, closed=closed.sent, opened=opened.sent)


def _steady(found: Steady, case: Case) -> Ruling:
    others = [
        (sample.began, failure)
        for sample in _over_the_pool(case.seen)
        if sample.began is not None
        for failure in sample.failures
    ]
    return steady.rule(found, others, case.profile, "the route to an InferencePool")


def _over_the_pool(seen: ClassObservation) -> list[Sample]:
    """Return the samples of which every request had to be answered, over the steady route."""
    found: list[Sample] = []
    if isinstance(seen.load, Load):
        found += [one.sample for one in (*seen.load.phases, *seen.load.held)]
    if isinstance(seen.prefixes, Prefixes):
        found += [seen.prefixes.first, seen.prefixes.repeats]
    if isinstance(seen.adapters, Adapters):
        found += [one.sample for one in seen.adapters.phases]
    if isinstance(seen.unready, Unready):
        found.append(seen.unready.before)
    return found


# -- the judge ------------------------------------------------------------------------------


def _stopped(case: Case) -> Ruling | None:
    """Return why nothing of the pool could be measured; its status needs no steady answers."""
    if why := without_gateway(case.seen.gateway, case.variant):
        return why
    settled = case.seen.settled
    if case.check != "routing.pool_status" and settled and (why := unsettled(settled)):
        return why
    built_in = case.check == "routing.failure_mode" and case.run.picker == "built-in"
    return verdict("built_in_picker") if built_in else None


def _context(case: Case) -> list[Fact]:
    source = "routing.picker, routing.picker_image"
    return [Fact(name="picker", value=case.run.picker, source=source)]


def _waits(case: Case) -> list[Fact]:
    seen = case.seen
    found = [waited(seen.settled, "the pool's route was made")] if seen.settled else []
    return found + [waited(one, f"the route {host} was made") for host, one in seen.others.items()]


judge = traffic_judge(
    {
        "routing.pool_status": part("status", _pool_status),
        "routing.follows_load": part("load", _follows_load),
        "routing.prefix_affinity": part("prefixes", _prefix_affinity),
        "routing.adapter_affinity": part("adapters", _adapter_affinity),
        "routing.avoids_unready": part("unready", _avoids_unready),
        "routing.steady": part("steady", _steady),
        "routing.failure_mode": part("failure", _failure_mode),
    },
    accepted=lambda seen: seen.accepted,
    stopped=_stopped,
    missing=lambda seen: missing_pools(seen.served, seen.wanted, seen.classes),
    waits=_waits,
    context=_context,
)
