"""The verdicts on the Gateway API: observation and profile in, findings out. Pure.

A finding per GatewayClass, but for the API itself. First whether there was a Gateway and whether
the route worked at all, then whether names and counts agree, only then the claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from kar_checks.checks.gateway.observation import (
    Api,
    ClassObservation,
    Features,
    GatewayObservation,
    HeaderRule,
    Phase,
    Reach,
    Routes,
    Sent,
    Slow,
    Stream,
    Streaming,
    Unmatched,
    Weights,
)
from kar_checks.checks.ingress.records import Parent, Sample, told
from kar_checks.checks.ingress.ruling import (
    NOT_MEASURED,
    ROUTES_ELSEWHERE,
    disagreeing,
    error,
    failed,
    missing_classes,
    mutated,
    passed,
    unanswered,
    undecided,
    unsettled,
    without_gateway,
)
from kar_checks.checks.ingress.statistics import interval
from kar_checks.checks.ruling import Ruling
from kar_checks.model import Fact, Fault, Finding, Observation, Outcome
from kar_checks.profile import Profile

REQUIRED = ("gatewayclasses", "gateways", "httproutes")
_INSTALL = "install the Gateway API's CRDs and an implementation"


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check, for every class that was assessed."""
    observed = cast("GatewayObservation", seen)
    if check == "gateway.api":
        rulings = {"": _api(observed)}
    else:
        rulings = {
            name: _rule(check, one, observed, profile) for name, one in observed.classes.items()
        }
        rulings |= _missing(observed)
    return [
        ruling.finding(
            check,
            [*_where(observed.classes.get(name)), *ruling.facts],
            observed.evidence,
            observed.trial,
            variant=name,
        )
        for name, ruling in rulings.items()
    ]


def _where(seen: ClassObservation | Fault | None) -> list[Fact]:
    if not isinstance(seen, ClassObservation):
        return []
    return [Fact(name="controller", value=seen.controller, source="spec.controllerName")]


def _missing(seen: GatewayObservation) -> dict[str, Ruling]:
    """Return a verdict for each class that the user named and that is not there."""
    if not seen.served:
        said = "the Gateway API is not served in version v1"
        return {"": undecided("no_gateway_api", said, _INSTALL)}
    return missing_classes(seen.wanted, seen.classes, _INSTALL)


def _rule(
    check: str, seen: ClassObservation | Fault, observed: GatewayObservation, profile: Profile
) -> Ruling:
    if isinstance(seen, Fault):
        return error(seen)
    if check == "gateway.class_accepted":
        return _class_accepted(seen)
    if seen.accepted is None or not seen.accepted.holds:
        return undecided("class_not_accepted", "no controller accepts the class")
    if ruling := mutated(observed.mutations):
        return ruling
    if check == "gateway.programmed" and (ruling := _not_programmed(seen)):
        return ruling
    if ruling := without_gateway(seen.gateway):
        return ruling
    part, rule = _RULES[check]
    found = getattr(seen, part)
    if isinstance(found, Fault):
        return error(found)
    if found is None:
        return NOT_MEASURED
    return rule(found, seen, profile)


# -- the API and what controllers say -------------------------------------------------------


def _api(seen: GatewayObservation) -> Ruling:
    if seen.api is None:
        return NOT_MEASURED
    required = [one for one in seen.api.crds if one.name.partition(".")[0] in REQUIRED]
    if not any(one.present for one in seen.api.crds):
        return undecided("no_gateway_api", "the Gateway API is not installed", _INSTALL)
    wrong = [
        f"{one.name} {why}"
        for one in required
        if (
            why := "is missing"
            if not one.present
            else "is not established"
            if not one.established
            else f"serves {', '.join(one.served) or 'nothing'}, and not v1"
            if "v1" not in one.served
            else ""
        )
    ]
    facts = _api_facts(seen.api)
    if wrong:
        return failed("incomplete_api", "; ".join(wrong), "all three established with v1", facts)
    versions = sorted({one.bundle_version for one in required})
    channels = sorted({one.channel for one in required})
    return passed(
        "established",
        f"the CRDs are established and serve v1: bundle {', '.join(versions) or 'not told'}, "
        f"channel {', '.join(channels) or 'not told'}",
        "one of the CRDs missing, not established or without v1",
        facts,
    )


def _api_facts(api: Api) -> list[Fact]:
    crds = [
        Fact(
            name=one.name,
            value=f"serves {', '.join(one.served)}; bundle {one.bundle_version or 'not told'}, "
            f"{one.channel or 'channel not told'}"
            if one.present
            else "not installed",
            source="CustomResourceDefinition",
        )
        for one in api.crds
    ]
    mesh = ", ".join(api.mesh) or "none"
    return [*crds, Fact(name="service mesh (recorded only)", value=mesh, source="discovery")]


def _class_accepted(seen: ClassObservation) -> Ruling:
    found = seen.accepted
    if found is None or found.status == "Unknown":
        return undecided("controller_silent", "no controller has said anything about the class")
    fact = Fact(name="condition", value=str(found), source="status.conditions of the class")
    if found.status != "True":
        return failed("not_accepted", str(found), "Accepted=True", [fact])
    if not found.current:
        return undecided("stale_condition", f"the condition is old: {found}")
    features = f"{len(seen.features)} features" if seen.features else "no features"
    return passed(
        "accepted",
        f"{seen.controller} accepts the class and claims {features}",
        "Accepted=False",
        [fact, Fact(name="claims", value=", ".join(seen.features), source="supportedFeatures")],
    )


def _not_programmed(seen: ClassObservation) -> Ruling | None:
    found = seen.gateway
    if found is None or found.programmed:
        return None
    said = [one for kind in ("Accepted", "Programmed") if (one := found.condition(kind))]
    facts = [Fact(name="condition", value=str(one), source="Gateway status") for one in said]
    denied = [one for one in said if one.status == "False" and one.current]
    if denied:
        return failed(
            "not_programmed",
            f"after {found.seconds:.0f} s: {denied[0]}",
            "Accepted=True, Programmed=True and an address",
            facts,
        )
    programmed = found.condition("Programmed")
    if programmed and programmed.holds and not found.address:
        return failed("no_address", "the Gateway is programmed, and has no address", facts=facts)
    return undecided(
        "controller_silent",
        f"nobody said anything about the Gateway's present generation in {found.seconds:.0f} s",
        "look whether the controller runs and watches this namespace",
    )


def _programmed(reach: Reach, seen: ClassObservation, _: Profile) -> Ruling:
    if ruling := unsettled(reach.settled):
        return ruling
    found = seen.gateway
    if found is None or reach.gateway.attached_routes < 1:
        return failed(
            "no_routes_attached",
            "traffic flows, and the listener's status counts no attached route",
            "attachedRoutes of at least 1",
        )
    return passed(
        "programmed",
        f"programmed in {found.seconds:.1f} s, steady answers {reach.settled.seconds:.1f} s later",
        "Programmed=False, or answers that come from no backend",
        [
            Fact(
                name="answers in a row",
                value=str(reach.settled.asked),
                source="each over a new connection, each with a backend's name",
            ),
            Fact(
                name="attached routes",
                value=str(reach.gateway.attached_routes),
                expected="at least 1",
                source="status.listeners",
            ),
        ],
    )


def _route_status(found: Routes, seen: ClassObservation, _: Profile) -> Ruling:
    good, bad = _ours(found.good, seen.controller), _ours(found.bad, seen.controller)
    if good is None or bad is None:
        return failed(
            "no_status",
            f"{seen.controller} says nothing about a route on a Gateway of its own",
            "conditions Accepted and ResolvedRefs under this controller",
        )
    facts = [
        Fact(name=name, value=str(one), source=f"status.parents of {seen.controller}")
        for name, parent in (("good route", good), ("route to a missing Service", bad))
        for one in parent.conditions
    ]
    for kind in ("Accepted", "ResolvedRefs"):
        said = good.condition(kind)
        if said is None or not said.holds:
            return failed("good_route_refused", f"{kind}: {said or 'missing'}", facts=facts)
    resolved = bad.condition("ResolvedRefs")
    if resolved is None or resolved.status != "False":
        return failed(
            "missing_backend_resolved",
            f"a route to a Service that does not exist: {resolved or 'ResolvedRefs is missing'}",
            "ResolvedRefs=False",
            facts,
        )
    return passed(
        "status_is_true",
        "a good route is accepted and resolved, and one without its backend is reported: "
        f"{resolved.reason}",
        "a good route refused, or a bad one resolved",
        facts,
    )


def _ours(parents: list[Parent], controller: str) -> Parent | None:
    return next((one for one in parents if one.controller == controller), None)


# -- traffic --------------------------------------------------------------------------------


def _weighted_split(found: Weights, _: ClassObservation, profile: Profile) -> Ruling:
    facts: list[Fact] = []
    for index, phase in enumerate(found.phases):
        if ruling := unsettled(phase.settled) or _phase(phase, str(index + 1), profile, facts):
            return ruling
    if len(found.phases) < 2:
        return undecided("not_observed", "the weights were not changed")
    confidence = profile.number("gateway.confidence")
    return passed(
        "follows_weights",
        "; then ".join(_shares(one) for one in found.phases),
        f"a share whose {confidence:.1%} interval excludes its weight (a correct split does so "
        f"in at most {1 - confidence:.1%} of all samples)",
        facts,
    )


def _phase(phase: Phase, revision: str, profile: Profile, facts: list[Fact]) -> Ruling | None:
    sample = phase.sample
    if sample is None:
        return undecided("not_observed", "the split was not measured")
    if ruling := unanswered(sample) or disagreeing(sample):
        return ruling
    stale = sample.sent - sample.good(revision=revision)
    if stale:
        return undecided(
            "not_converged", f"{stale} of {sample.sent} answers came by the rule as it was before"
        )
    confidence = profile.number("gateway.confidence")
    tolerance = profile.number("gateway.weight_tolerance")
    total = sum(phase.weights.values())
    for pod, weight in phase.weights.items():
        hits, wanted = sample.good(pod=pod), weight / total
        low, high = interval(hits, sample.sent, confidence)
        facts.append(
            Fact(
                name=f"share of {pod} at weight {weight} of {total}",
                value=f"{hits} of {sample.sent}, {hits / sample.sent:.1%} "
                f"({low:.1%} to {high:.1%})",
                expected=f"{wanted:.0%}",
                source=f"named in the answers and counted by the backend; exact binomial interval "
                f"at {confidence:.1%}",
            )
        )
        if not low <= wanted <= high:
            return failed(
                "split_is_off",
                f"{pod} has weight {weight} of {total} and answered {hits} of {sample.sent}: "
                f"between {low:.1%} and {high:.1%} of the traffic",
                f"a share whose interval includes {wanted:.0%}",
                list(facts),
            )
        if low < wanted - tolerance or high > wanted + tolerance:
            return undecided(
                "too_few_requests",
                f"the share of {pod} is only known to be between {low:.1%} and {high:.1%}",
                "raise gateway.requests",
            )
    return None


def _shares(phase: Phase) -> str:
    sample = cast("Sample", phase.sample)
    weights = ":".join(str(weight) for weight in phase.weights.values())
    return f"{weights} gave " + ":".join(str(sample.good(pod=pod)) for pod in phase.weights)


def _header_rule(found: HeaderRule, _: ClassObservation, __: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    facts: list[Fact] = []
    wanted = (
        ("requests with the header", found.matching, found.special),
        ("requests without it", found.without, found.default),
        ("requests with another value", found.other_value, found.default),
    )
    for what, sample, pod in wanted:
        if sample is None:
            return undecided("not_observed", f"{what} were not sent")
        if ruling := unanswered(sample) or disagreeing(sample):
            return ruling
        right = sample.good(pod=pod)
        facts.append(
            Fact(
                name=what,
                value=f"{right} of {sample.sent} to {pod}",
                expected=f"{sample.sent} of {sample.sent}",
                source="named in the answers and counted by the backend",
            )
        )
        if right < sample.sent:
            return failed(
                "rule_not_followed",
                f"{what}: {told(sample.tallies)}, instead of all from {pod}",
                f"all answers from {pod}",
                facts,
            )
    return passed(
        "rule_wins",
        "; ".join(f"{one.name}: {one.value}" for one in facts),
        "one answer of the other backend",
        facts,
    )


def _unmatched(found: Unmatched, _: ClassObservation, __: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    facts: list[Fact] = []
    for what, sample in (("unknown path", found.path), ("unknown host", found.host)):
        if sample is None:
            return undecided("not_observed", f"requests to an {what} were not sent")
        arrived = sum(sample.counted.values())
        facts.append(
            Fact(
                name=f"requests to an {what}",
                value=f"{told(sample.tallies)}; {arrived} arrived at a backend",
                expected="404, and none at a backend",
                source="the answers, and the backends' own counts",
            )
        )
        if arrived:
            return failed(
                "reached_a_backend",
                f"{arrived} of {sample.sent} requests to an {what} arrived at a backend",
                "no request at a backend",
                facts,
            )
        if any(200 <= one.status < 400 for one in sample.tallies):
            return failed(
                "answered_with_success",
                f"requests to an {what}: {told(sample.tallies)}",
                "an answer that says that there is no such route",
                facts,
            )
        if not all(one.status for one in sample.tallies):
            return undecided(
                "gateway_not_reached",
                f"requests to an {what}: {told(sample.tallies)}",
                ROUTES_ELSEWHERE,
            )
    return passed(
        "refused",
        "; ".join(f"{one.name}: {one.value}" for one in facts),
        "one request at a backend, or an answer of success",
        facts,
    )


def _streaming(found: Streaming, seen: ClassObservation, profile: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    if found.direct is None or found.through is None:
        return undecided("not_observed", "no stream was read")
    limit = profile.number("gateway.stream_pause_seconds")
    through, direct = _events(found.through), _events(found.direct)
    if not _flowed(found.direct, found.expected, limit):
        return undecided(
            "control_was_late",
            f"directly from the backend came {direct}: the measurement is too noisy here",
            "run again at a quieter time",
        )
    facts = [
        Fact(
            name="events through the gateway",
            value=through,
            expected=f"{found.expected}, no pause of more than {limit:g} s",
            source="server-sent events, each with the time of its production",
        ),
        Fact(name="events without it", value=direct, source="the same, directly"),
        *_informational(seen.slow),
    ]
    if len(found.through.events) < found.expected:
        return failed(
            "stream_cut",
            f"of {found.expected} events came {through} (status {found.through.status}) "
            f"{found.through.error}".rstrip(),
            "all events",
            facts,
        )
    # Whoever collects an answer passes it on at once; a busy node only stumbles.
    if found.through.arrived() < found.through.produced() / 2:
        return failed(
            "stream_held_back",
            f"through the gateway came {through}, directly {direct}",
            "events as soon as they are produced",
            facts,
        )
    if not _flowed(found.through, found.expected, limit):
        return undecided(
            "stream_stumbled",
            f"through the gateway came {through}, directly {direct}",
            "run again at a quieter time",
        )
    return passed(
        "arrives_as_produced",
        f"through the gateway came {through}",
        "events that come together although they were produced apart",
        facts,
    )


def _flowed(stream: Stream, expected: int, limit: float) -> bool:
    return (
        len(stream.events) == expected
        and stream.arrived() > stream.produced() * 3 / 4
        and stream.pause() <= limit
    )


def _events(stream: Stream) -> str:
    if not stream.events:
        return "no event"
    return (
        f"{len(stream.events)} events in {stream.arrived():.1f} s, produced in "
        f"{stream.produced():.1f} s, longest pause {stream.pause():.1f} s"
    )


def _informational(slow: Slow | Fault | None) -> list[Fact]:
    source = "not in the requirement, decides nothing; the route's own timeout allows it"
    name = "informational"
    if slow is None:
        return []
    if isinstance(slow, Fault) or slow.why_not:
        why = slow.message if isinstance(slow, Fault) else slow.why_not
        value = f"large body and long answer were not tried: {why}"
        return [Fact(name=name, value=value, source=source)]
    return [Fact(name=f"{name}: {one.what}", value=_went(one), source=source) for one in slow.sent]


def _went(one: Sent) -> str:
    if one.status == 200 and one.got in (None, one.sent):
        return f"passed, {one.seconds:.1f} s"
    return f"did not pass: status {one.status} after {one.seconds:.1f} s {one.error}".rstrip()


def _claimed_features(found: Features, _: ClassObservation, __: Profile) -> Ruling:
    if not found.claimed:
        return Ruling(
            Outcome.NOT_APPLICABLE,
            "nothing_claimed",
            "the class's supportedFeatures name neither timeouts, nor retries, nor mirroring",
        )
    facts = [
        Fact(name=one.name, value=one.seen, source="supportedFeatures; measured")
        for one in found.tried
    ]
    broken = [one for one in found.tried if one.works is False]
    if broken:
        return failed(
            "claim_not_kept",
            "; ".join(f"{one.name}: {one.seen}" for one in broken),
            "the effect that the API describes",
            facts,
        )
    worked = [one.name for one in found.tried if one.works]
    if not worked or len(found.tried) < len(found.claimed):
        return Ruling(
            Outcome.INCONCLUSIVE,
            "not_tried",
            "; ".join(f"{one.name}: {one.seen}" for one in found.tried) or "nothing was tried",
            facts=facts,
        )
    untried = [one.name for one in found.tried if one.works is None]
    return passed(
        "claims_kept",
        f"works: {', '.join(worked)}" + (f"; not tried: {', '.join(untried)}" if untried else ""),
        "a claimed feature without effect",
        facts,
    )


_RULES: dict[str, tuple[str, Callable[..., Ruling]]] = {
    "gateway.programmed": ("reach", _programmed),
    "gateway.route_status": ("routes", _route_status),
    "gateway.weighted_split": ("weights", _weighted_split),
    "gateway.header_rule": ("headers", _header_rule),
    "gateway.unmatched": ("unmatched", _unmatched),
    "gateway.streaming": ("streaming", _streaming),
    "gateway.claimed_features": ("claims", _claimed_features),
}
