"""The verdicts on advanced inference ingress: observation and profile in, findings out. Pure.

A finding per GatewayClass. First whether the pool served at all, then whether names, counts and
picks agree in every phase, then whether the balanced phases were even; only then the cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from kar_checks.checks.ingress import steady
from kar_checks.checks.ingress.records import Parent, Sample, told
from kar_checks.checks.ingress.ruling import (
    INSTALL_POOLS,
    NOT_MEASURED,
    disagreeing,
    error,
    failed,
    hindered,
    missing_pools,
    mutated,
    passed,
    unanswered,
    undecided,
    unsettled,
    waited,
    without_gateway,
)
from kar_checks.checks.ingress.steady import Steady
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
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.stats import chance_of_fall, fewer, interval
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Finding, Observation, Outcome
from kar_checks.profile import Profile

_COUNTED = "named in the answers and counted by the servers; exact binomial interval"
TESTS = 2
"""Each trial tests the fall of two shares; p values are multiplied by it (Bonferroni)."""
ONE_GETS_ALL = 0.9
_LEAST = 1e-9
"""No smaller chance is told: it would be one of numbers, not of clusters."""
SAME_SERVER = 0.6
"""Repeated prefixes that chance alone spreads over three servers meet their first one in 1/3."""


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check, for every class that was assessed."""
    observed = cast("RoutingObservation", seen)
    rulings = {
        name: _rule(check, one, observed, profile) for name, one in observed.classes.items()
    } | missing_pools(observed.served, observed.wanted, observed.classes)
    return [
        ruling.finding(
            check,
            [*_where(observed, observed.classes.get(name)), *ruling.facts],
            observed.evidence,
            observed.trial,
            variant=name,
        )
        for name, ruling in rulings.items()
    ]


def _where(seen: RoutingObservation, one: ClassObservation | Fault | None) -> list[Fact]:
    if not isinstance(one, ClassObservation):
        return []
    return [
        Fact(name="controller", value=one.controller, source="spec.controllerName"),
        Fact(name="picker", value=seen.picker, source="routing.picker, routing.picker_image"),
    ]


def _rule(
    check: str, seen: ClassObservation | Fault, observed: RoutingObservation, profile: Profile
) -> Ruling:
    if isinstance(seen, Fault):
        return hindered(error(seen), observed.around)
    if not seen.accepted:
        return undecided("class_not_accepted", "no controller accepts the class")
    if ruling := mutated(observed.mutations) or without_gateway(seen.gateway):
        return ruling
    part, rule = _RULES[check]
    found = getattr(seen, part)
    if isinstance(found, Fault):
        return hindered(error(found), observed.around)
    waits = [waited(seen.settled, "the pool's route was made")] if seen.settled else []
    waits += [waited(one, f"the route {host} was made") for host, one in seen.others.items()]
    if check != "routing.pool_status" and seen.settled and (ruling := unsettled(seen.settled)):
        return replace(hindered(ruling, observed.around), facts=waits)
    if check == "routing.failure_mode" and observed.picker == "built-in":
        return Ruling(
            Outcome.NOT_APPLICABLE,
            "built_in_picker",
            "the user declared by routing.picker that the gateway picks by itself: there is no "
            "picker that could be missing",
        )
    if found is None:
        return NOT_MEASURED
    ruling = hindered(rule(found, seen, profile), observed.around)
    return replace(ruling, facts=[*ruling.facts, *waits])


# -- what is said ---------------------------------------------------------------------------


def _pool_status(found: Status, seen: ClassObservation, _: Profile) -> Ruling:
    good = _ours(found.good, seen.controller)
    if good is None:
        route = _ours(found.route, seen.controller)
        why = route.condition("ResolvedRefs") if route else None
        return undecided(
            "pool_not_supported",
            f"{seen.controller} says nothing about an InferencePool on its Gateway"
            + (f"; of its route it says {why}" if why else ""),
            INSTALL_POOLS,
        )
    facts = _said("good pool", good)
    for kind in ("Accepted", "ResolvedRefs"):
        said = good.condition(kind)
        if said is None or not said.holds:
            return failed("good_pool_refused", f"{kind}: {said or 'missing'}", facts=facts)
    if found.bad is None:
        return passed(
            "status_is_true", "a good pool is accepted and resolved", "a good pool refused", facts
        )
    bad = _ours(found.bad, seen.controller)
    resolved = bad.condition("ResolvedRefs") if bad else None
    facts += _said("pool without its picker", bad) if bad else []
    if resolved is None or resolved.status != "False":
        return failed(
            "missing_picker_resolved",
            f"a pool whose picker does not exist: {resolved or 'nothing is said about it'}",
            "ResolvedRefs=False",
            facts,
        )
    traffic = found.bad_traffic
    if traffic is None:
        return undecided("not_observed", "nothing was sent to the pool without its picker")
    facts.append(
        Fact(name="requests to it", value=told(traffic.tallies), expected="no server answers")
    )
    if traffic.good() or any(traffic.counted.values()):
        return failed(
            "answered_without_picker",
            f"a pool with FailClose whose picker does not exist answers: {told(traffic.tallies)}",
            "errors, and nothing at a server",
            facts,
        )
    if ruling := _refused(traffic, found.bad_control, facts):
        return ruling
    return passed(
        "status_is_true",
        f"a good pool is accepted, and one without its picker is reported ({resolved.reason}) and "
        "serves nothing",
        "a good pool refused, or a bad one resolved or answering",
        facts,
    )


def _refused(sample: Sample, control: Sample | None, facts: list[Fact]) -> Ruling | None:
    """Ask whether errors are refusals: a gateway that is out of order gives them to everybody."""
    if control is None:
        return not_recorded("requests to a Service before the same servers at the same time")
    facts.append(
        Fact(
            name="a Service before the same servers, meanwhile",
            value=told(control.tallies),
            expected="answers",
            source="the control: what is refused is the pool, and not everybody",
        )
    )
    if ruling := unanswered(control):
        return replace(ruling, facts=facts)
    if not all(one.status >= 400 for one in sample.tallies):
        return undecided(
            "not_refused",
            f"the pool neither answers nor refuses: {told(sample.tallies)}",
            "look at the gateway's log",
            facts,
        )
    return None


def _said(what: str, parent: Parent) -> list[Fact]:
    source = f"status.parents of {parent.controller}"
    return [Fact(name=what, value=str(one), source=source) for one in parent.conditions]


def _ours(parents: list[Parent], controller: str) -> Parent | None:
    return next((one for one in parents if one.controller == controller), None)


# -- load -----------------------------------------------------------------------------------


def _follows_load(found: Load, _: ClassObservation, profile: Profile) -> Ruling:
    for phase in (*found.phases, *found.held):
        if ruling := _measured(phase):
            return ruling
    confidence = profile.number("routing.confidence")
    facts = [_order(found), *_phase_facts([*found.phases, *found.held], confidence)]
    balanced = [one for one in found.phases if not one.loaded]
    if ruling := _even(balanced, confidence, facts):
        return ruling
    effect = profile.number("routing.effect")
    facts.append(_chances(found, effect, confidence))
    falls = [_fall(one, found.phases, confidence, facts) for one in (found.first, found.second)]
    reads = sum(sum(phase.read.values()) for phase in found.phases)
    facts.append(
        Fact(
            name="reports read by somebody",
            value=f"{reads} times",
            source="counted by the servers at /metrics",
        )
    )
    if all(one >= effect for one in falls):
        return passed(
            "follows_reported_load",
            f"{found.first} and {found.second} each lost their share while they reported load, and "
            "had it again when they did not: the signal is what servers report, read "
            f"{reads} times",
            f"a share that falls by less than {effect:.0%} between the {confidence:.1%} bounds",
            facts,
        )
    if not reads:
        return _own_count(found, confidence, effect, facts)
    late = [
        phase.name
        for phase in found.phases
        if phase.loaded and not _in_time(phase, profile.number("routing.convergence_seconds"))
    ]
    if late:
        return failed(
            "stale_reports",
            f"the servers' reports are read, but after a change not within the window: "
            f"{', '.join(late)}",
            f"a read within {profile.number('routing.convergence_seconds'):g} s of each change",
            facts,
        )
    pairs = zip((found.first, found.second), falls, strict=True)
    kept = [name for name, fall in pairs if fall < effect]
    return failed(
        "no_reaction" if len(kept) == len(falls) else "one_sided_reaction",
        f"the picker reads the servers' reports ({reads} times), and the share of "
        f"{' and '.join(kept)} does not fall while it reports load",
        "a share that falls on both",
        facts,
    )


def _in_time(phase: Phase, limit: float) -> bool:
    after = phase.read_after.get(phase.loaded)
    return after is not None and after <= limit


def _own_count(found: Load, confidence: float, effect: float, facts: list[Fact]) -> Ruling:
    """Judge a picker that reads nothing: it may count its own requests in flight."""
    if not found.held:
        return undecided("not_observed", "nobody read the reports, and no server was slowed down")
    phases = [*found.held, *(one for one in found.phases if not one.loaded)]
    falls = [_fall(one, phases, confidence, facts) for one in (found.first, found.second)]
    if all(one >= effect for one in falls):
        return passed(
            "follows_own_count",
            "nobody reads what the servers report; a server that is really slow loses its share: "
            "the picker counts its own requests in flight",
            "a slow server that keeps its share",
            facts,
        )
    if found.read_before:
        return failed(
            "stale_reports",
            f"the servers' reports were read {found.read_before} times before the first phase and "
            "never again, and a server that is really slow keeps its share",
            "reports that are read again when they change",
            facts,
        )
    return failed(
        "load_is_ignored",
        "nobody reads what the servers report, and a server that is really slow keeps its share: "
        "this traffic is spread without regard to load",
        "a share that falls with reported or with real load",
        facts,
    )


def _measured(phase: Phase) -> Ruling | None:
    sample = phase.sample
    if ruling := unanswered(sample) or disagreeing(sample):
        return ruling
    # A request that was sent again, for its kept connection was closed, may have been picked twice.
    most = sample.sent + sample.again
    if phase.decisions is not None and not sample.sent <= phase.decisions <= most:
        return undecided(
            "picks_differ",
            f"{phase.name}: {sample.sent} requests were sent, and the picker counts "
            f"{phase.decisions} picks: others went past it, or it was asked by others",
            "a gateway that picks by itself is assessed with --set routing.picker=built-in; with "
            "FailOpen requests also go past a picker that is slow",
        )
    return None


def _even(balanced: list[Phase], confidence: float, facts: list[Fact]) -> Ruling | None:
    """Without load nobody may have all, and everybody something."""
    total = sum(one.sample.sent for one in balanced)
    answered = {
        pod: sum(one.sample.good(pod=pod) for one in balanced) for pod in balanced[0].sample.counted
    }
    shares = {pod: interval(hits, total, confidence) for pod, hits in answered.items()}
    # Asked first: beside a server that gets everything, the others get nothing.
    for pod, (low, _) in shares.items():
        if low > ONE_GETS_ALL:
            return failed(
                "always_the_same_server",
                f"{pod} answered {answered[pod]} of {total} requests while no server reported load",
                "shares for all servers that report the same",
                facts,
            )
    for pod, (_, high) in shares.items():
        if high < 0.5 / len(shares):
            return undecided(
                "uneven_without_load",
                f"{pod} answered only {answered[pod]} of {total} requests while all servers "
                "reported the same, so that something else than load decides",
                "look at the picker's configuration",
            )
    return None


def _fall(server: str, phases: list[Phase], confidence: float, facts: list[Fact]) -> float:
    """Return how far the share fell at least: lower bound without load minus upper bound with."""
    loaded = [one.sample for one in phases if one.loaded == server]
    others = [one.sample for one in phases if one.loaded != server]
    hits, of = _hits(loaded, server)
    base_hits, base_of = _hits(others, server)
    _, high = interval(hits, of, confidence)
    low, _ = interval(base_hits, base_of, confidence)
    chance = min(1.0, TESTS * fewer(hits, of, base_hits, base_of))
    facts.append(
        Fact(
            name=f"{server}: share with load, and without",
            value=f"{hits} of {of} ({hits / of:.0%}), {base_hits} of {base_of} "
            f"({base_hits / base_of:.0%}); falls by at least {low - high:.0%}; p = {chance:.1e}",
            source="Fisher's exact test, one-sided, corrected for two tests; bounds of exact "
            f"binomial intervals at {confidence:.1%}",
        )
    )
    return low - high


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
        source=f"drawn with seed {found.seed}; repeat by --set routing.seed={found.seed}",
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


# -- the other causes -----------------------------------------------------------------------


def _prefix_affinity(found: Prefixes, _: ClassObservation, profile: Profile) -> Ruling:
    for one in (found.first, found.repeats):
        if ruling := unanswered(one) or disagreeing(one):
            return ruling
    confidence = profile.number("routing.confidence")
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
    if low >= SAME_SERVER and len(firsts) == 1:
        return failed(
            "all_on_one_server",
            f"all {len(home)} prefixes went to {firsts[0]}: that is no affinity",
            "different prefixes on different servers",
            facts,
        )
    if low >= SAME_SERVER:
        return passed(
            "same_prefix_same_server",
            f"{same} of {total} repeats went where their prefix went first, and "
            f"{len(home)} prefixes went to {len(firsts)} servers",
            "repeats that are spread as by chance",
            facts,
        )
    if high >= SAME_SERVER:
        return undecided("too_few_requests", f"between {low:.0%} and {high:.0%} of the repeats")
    if found.declared:
        return failed(
            "no_affinity",
            f"only {same} of {total} repeats went where their prefix went first, although the "
            "picker is configured with a scorer for prefixes",
            "repeats on the server of their prefix",
            facts,
        )
    return Ruling(
        Outcome.NOT_APPLICABLE,
        "no_affinity_offered",
        f"{same} of {total} repeats went where their prefix went first: this picker was not said "
        "to look at prefixes, and does not",
        facts=facts,
    )


def _adapter_affinity(found: Adapters, _: ClassObservation, profile: Profile) -> Ruling:
    confidence = profile.number("routing.confidence")
    facts = _phase_facts(found.phases, confidence)
    bounds: list[tuple[float, float]] = []
    for phase in found.phases:
        if ruling := _measured(phase):
            return ruling
        hits, of = _hits([phase.sample], phase.loaded)
        bounds.append(interval(hits, of, confidence))
    told_of = " and ".join(
        f"{phase.sample.good(pod=phase.loaded)} of {phase.sample.sent} on {phase.loaded}"
        for phase in found.phases
    )
    if all(low >= SAME_SERVER for low, _ in bounds):
        return passed(
            "follows_adapters",
            f"requests for an adapter went to the server that reports it: {told_of}",
            f"a share below {SAME_SERVER:.0%} on the server that has the adapter",
            facts,
        )
    if not found.declared:
        return Ruling(
            Outcome.NOT_APPLICABLE,
            "no_adapters_offered",
            f"requests for an adapter are answered anywhere ({told_of}): this picker was not said "
            "to look at adapters, and does not",
            facts=facts,
        )
    if all(high >= SAME_SERVER for _, high in bounds):
        return undecided("too_few_requests", f"of the requests for an adapter {told_of}")
    return failed(
        "adapter_ignored",
        f"of the requests for an adapter only {told_of}, which reported it, although the picker "
        "is configured with a scorer for adapters",
        "such requests on the server that has the adapter",
        facts,
    )


def _avoids_unready(found: Unready, _: ClassObservation, __: Profile) -> Ruling:
    if ruling := unanswered(found.before) or disagreeing(found.before):
        return ruling
    if not found.before.good(pod=found.server):
        return undecided(
            "server_got_nothing_before",
            f"{found.server} got nothing while it was ready, so that nothing is told by its "
            "getting nothing now",
        )
    arrived = found.meanwhile.counted.get(found.server, 0)
    facts = [
        Fact(name="while it was ready", value=told(found.before.tallies), source=_COUNTED),
        Fact(
            name="while it was not",
            value=f"{told(found.meanwhile.tallies)}; {arrived} arrived at {found.server}",
            expected="none there, all answered",
            source=_COUNTED,
        ),
    ]
    if arrived:
        return failed(
            "reached_unready_server",
            f"{arrived} of {found.meanwhile.sent} requests reached {found.server} while it was "
            "not ready",
            "none at that server",
            facts,
        )
    if ruling := unanswered(found.meanwhile):
        return ruling
    return passed(
        "unready_is_avoided",
        f"{found.server} answered {found.before.good(pod=found.server)} of {found.before.sent} "
        f"requests while it was ready, and none of {found.meanwhile.sent} while it was not",
        "one request at that server",
        facts,
    )


def _failure_mode(found: Failure, _: ClassObservation, __: Profile) -> Ruling:
    if ruling := unanswered(found.close_before) or unanswered(found.open_before):
        return ruling
    if not found.gone or found.close_after is None or found.open_after is None:
        return undecided("picker_not_gone", f"the pod of {found.picker} could not be removed")
    closed, opened = found.close_after, found.open_after
    facts = [
        Fact(name="picker", value=f"pod {found.picker} was gone", source="the API server"),
        Fact(name="FailClose, without picker", value=told(closed.tallies), expected="errors"),
        Fact(name="FailOpen, without picker", value=told(opened.tallies), expected="answers"),
    ]
    if closed.good() or any(closed.counted.values()):
        return failed(
            "closed_pool_answers",
            f"without its picker the pool with FailClose answers: {told(closed.tallies)}",
            "errors, and nothing at a server",
            facts,
        )
    if ruling := _refused(closed, found.control_after, facts):
        return ruling
    if opened.good() < opened.sent:
        return failed(
            "open_pool_refuses",
            f"without its picker the pool with FailOpen answers {opened.good()} of "
            f"{opened.sent}: {told(opened.tallies)}",
            "an answer to every request",
            facts,
        )
    return passed(
        "fails_as_it_says",
        f"without their picker the closed pool refused all {closed.sent}, the open one answered "
        f"all {opened.sent}",
        "the closed pool answering, or the open one refusing",
        facts,
    )


# -- outages --------------------------------------------------------------------------------


def _steady(found: Steady, seen: ClassObservation, profile: Profile) -> Ruling:
    others = [
        (one.began, bad)
        for one in _over_the_pool(seen)
        if one.began is not None
        for bad in one.failures
    ]
    return steady.rule(found, others, profile, "the pool's route")


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


_RULES: dict[str, tuple[str, Callable[..., Ruling]]] = {
    "routing.pool_status": ("status", _pool_status),
    "routing.follows_load": ("load", _follows_load),
    "routing.prefix_affinity": ("prefixes", _prefix_affinity),
    "routing.adapter_affinity": ("adapters", _adapter_affinity),
    "routing.avoids_unready": ("unready", _avoids_unready),
    "routing.steady": ("steady", _steady),
    "routing.failure_mode": ("failure", _failure_mode),
}
