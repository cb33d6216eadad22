"""The verdicts on the Gateway API: observation and profile in, findings out. Pure.

A finding per GatewayClass, but for the API itself. First whether there was a Gateway and whether
the route worked at all, then whether names and counts agree, only then the claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from kar_checks.checks.gateway.observation import (
    Api,
    Bodies,
    ClassObservation,
    CrdSeen,
    Delivery,
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
    posts,
)
from kar_checks.kit import judging
from kar_checks.kit.http_testbed import steady
from kar_checks.kit.http_testbed.records import Sample, Settled, told
from kar_checks.kit.http_testbed.ruling import (
    conditions,
    miscounted,
    missing_classes,
    old,
    ours,
    part,
    redirected,
    traffic_judge,
    unanswered,
    unsettled,
    waited,
    without_gateway,
)
from kar_checks.kit.http_testbed.steady import Steady
from kar_checks.kit.judging import Judge, Rule, not_recorded
from kar_checks.kit.stats import interval
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Fault, Finding, Observation
from kar_checks.profile import Profile

REQUIRED = ("gatewayclasses", "gateways", "httproutes")
verdict = Reasons(__package__)
Case = judging.Case[GatewayObservation, ClassObservation]


# -- the API and what controllers report ----------------------------------------------------


def _api(case: judging.Case[GatewayObservation, GatewayObservation]) -> Ruling:
    api = cast("Api", case.seen.api)
    if not any(crd.present for crd in api.crds):
        return verdict("no_gateway_api.no_crds")
    mesh = ", ".join(api.mesh) or "none"
    facts = [
        Fact(name=crd.name, value=_crd(crd), source="CustomResourceDefinition") for crd in api.crds
    ]
    facts.append(Fact(name="service mesh (recorded only)", value=mesh, source="discovery"))
    required = [crd for crd in api.crds if crd.name.partition(".")[0] in REQUIRED]
    if wrong := [f"{crd.name} {why}" for crd in required if (why := _wrong(crd))]:
        return verdict("incomplete_api", facts, wrong="; ".join(wrong))
    return verdict(
        "established",
        facts,
        versions=", ".join(sorted({crd.bundle_version for crd in required})) or "unknown",
        channels=", ".join(sorted({crd.channel for crd in required})) or "unknown",
    )


def _wrong(crd: CrdSeen) -> str:
    if not crd.present:
        return "is missing"
    if not crd.established:
        return "is not established"
    return "" if "v1" in crd.served else f"serves {', '.join(crd.served) or 'nothing'}, and not v1"


def _crd(crd: CrdSeen) -> str:
    if not crd.present:
        return "not installed"
    bundle, channel = crd.bundle_version or "unknown", crd.channel or "unknown"
    return f"serves {', '.join(crd.served)}; bundle {bundle}, channel {channel}"


def _class_accepted(case: Case) -> Ruling:
    seen, found = case.seen, case.seen.accepted
    if found is None or found.status == "Unknown":
        return verdict("controller_silent", name=case.variant)
    facts = [Fact(name="condition", value=str(found), source="status.conditions of the class")]
    if found.status != "True":
        who = {"controller": seen.controller, "name": case.variant}
        return verdict("not_accepted", facts, condition=found, **who)
    if not found.current:
        return verdict("stale_condition", condition=found, name=case.variant)
    features = ", ".join(seen.features)
    facts.append(Fact(name="claims", value=features, source="supportedFeatures"))
    count = f"{len(seen.features)} features" if features else "no features"
    return verdict("accepted", facts, controller=seen.controller, features=count)


_PENDING = ("AddressNotAssigned", "Pending", "Scheduled")
"""A load balancer that is still being made shows nothing about the Gateway API."""


def _not_programmed(case: Case) -> Ruling | None:
    found, who = case.seen.gateway, case.seen.controller
    if case.check != "gateway.programmed" or found is None or found.programmed:
        return None
    said = [one for kind in ("Accepted", "Programmed") if (one := found.condition(kind))]
    facts = [Fact(name="condition", value=str(one), source="Gateway status") for one in said]
    programmed = found.condition("Programmed")
    ready = programmed is not None and programmed.status == "True"
    if programmed and not ready and not found.address and programmed.reason in _PENDING:
        return verdict("address_pending", facts[-1:], seconds=found.seconds, condition=programmed)
    if denied := [one for one in said if one.status == "False" and one.current]:
        why = {"seconds": found.seconds, "condition": denied[0]}
        return verdict("not_programmed", facts, controller=who, name=case.variant, **why)
    if programmed and programmed.holds and not found.address:
        return verdict("no_address", facts, controller=who)
    return verdict("controller_silent.gateway", controller=who, seconds=found.seconds)


def _programmed(reach: Reach, case: Case) -> Ruling:
    found, attached = case.seen.gateway, reach.gateway.attached_routes
    if found is None or attached < 1:
        if reach.looked_seconds is None:
            return not_recorded("whether the listeners counted the route later")
        who = case.seen.controller
        return verdict("no_routes_attached", controller=who, seconds=reach.looked_seconds)
    facts = [
        Fact(
            name="answers in a row",
            value=str(reach.settled.asked),
            source="each over a new connection, each with a backend's name",
        ),
        Fact(
            name="attached routes",
            value=str(attached),
            expected="at least 1",
            source="status.listeners",
        ),
    ]
    return verdict("programmed", facts, seconds=found.seconds, later=reach.settled.seconds)


def _route_status(found: Routes, case: Case) -> Ruling:
    who = case.seen.controller
    good, bad = ours(found.good, who), ours(found.bad, who)
    if good is None or bad is None:
        return verdict("no_status", controller=who)
    facts = [*conditions("good route", good), *conditions("route to a missing Service", bad)]
    for kind in ("Accepted", "ResolvedRefs"):
        said = good.condition(kind)
        if said is None or not said.holds:
            why = {"kind": kind, "condition": said or "missing"}
            return verdict("good_route_refused", facts, controller=who, **why)
    resolved = bad.condition("ResolvedRefs")
    if resolved is None or resolved.status != "False":
        condition = resolved or "no ResolvedRefs"
        return verdict("missing_backend_resolved", facts, controller=who, condition=condition)
    return verdict("status_is_true", facts, why=resolved.reason)


# -- traffic --------------------------------------------------------------------------------


def _weighted_split(found: Weights, case: Case) -> Ruling:
    facts: list[Fact] = []
    for number, phase in enumerate(found.phases, 1):
        why = unsettled(phase.settled) or _phase(phase, str(number), case.profile, facts)
        if why:
            return why
    if len(found.phases) < 2:
        return verdict("not_observed", what="the split after a change of the weights")
    for phase in found.phases:
        if phase.sample and (why := old(phase.sample)):
            return why
    confidence = case.profile.number("gateway.confidence")
    split = "; then ".join(_shares(phase) for phase in found.phases)
    wrong = 1 - confidence
    return verdict("follows_weights", facts, shares=split, confidence=confidence, wrong=wrong)


def _phase(phase: Phase, revision: str, profile: Profile, facts: list[Fact]) -> Ruling | None:
    sample = phase.sample
    if sample is None:
        return verdict("not_observed", what="the split")
    if why := miscounted(sample):
        return why
    if stale := sample.sent - sample.good(revision=revision):
        return verdict("not_converged", stale=stale, sent=sample.sent)
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
        bounds = {"pod": pod, "low": low, "high": high}
        if not low <= wanted <= high:
            counts = {"weight": weight, "total": total, "hits": hits, "sent": sample.sent}
            return verdict("split_is_off", list(facts), wanted=wanted, **counts, **bounds)
        if low < wanted - tolerance or high > wanted + tolerance:
            return verdict("too_few_requests", **bounds)
    return None


def _shares(phase: Phase) -> str:
    sample = cast("Sample", phase.sample)
    weights = ":".join(str(weight) for weight in phase.weights.values())
    return f"{weights} gave " + ":".join(str(sample.good(pod=pod)) for pod in phase.weights)


def _header_rule(found: HeaderRule, _: Case) -> Ruling:
    facts: list[Fact] = []
    wanted = [
        ("requests with the header", found.matching, found.special),
        ("requests without it", found.without, found.default),
        ("requests with another value", found.other_value, found.default),
        *(
            (f"requests with {one.sent}, where a rule has {one.rule}", one.sample, one.to)
            for one in found.other_cases or []
        ),
    ]
    for what, sample, pod in wanted:
        if sample is None:
            return verdict("not_observed", what=what)
        if why := miscounted(sample):
            return why
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
            answers = told(sample.tallies)
            return verdict("rule_not_followed", facts, what=what, answers=answers, pod=pod)
    if found.other_cases is None:
        return not_recorded("requests with POST, and headers in another case than the rule's")
    return verdict("rule_wins", facts, counts=_counts(facts))


def _counts(facts: Iterable[Fact]) -> str:
    return "; ".join(f"{one.name}: {one.value}" for one in facts)


_NO_ROUTE = 404
"""What the API demands where no rule matches; a 5xx may be a gateway that is out of order."""


def _unmatched(found: Unmatched, _: Case) -> Ruling:
    facts: list[Fact] = []
    for what, sample in (("unknown path", found.path), ("unknown host", found.host)):
        if sample is None:
            return verdict("not_observed", what=f"requests to an {what}")
        if why := _not_left_alone(what, sample, facts):
            return why
    if found.served is None:
        return not_recorded("requests with POST, and what is served at the same time")
    if why := unanswered(found.served, facts):
        return why
    for what, sample in (("unknown path", found.path), ("unknown host", found.host)):
        if sample and any(one.status != _NO_ROUTE for one in sample.tallies):
            return verdict("not_refused", facts, what=what, answers=told(sample.tallies))
    return verdict("refused", facts, counts=_counts(facts))


def _not_left_alone(what: str, sample: Sample, facts: list[Fact]) -> Ruling | None:
    """Ask whether requests without a route arrived, succeeded, or met no gateway at all."""
    arrived, answers = sum(sample.counted.values()), told(sample.tallies)
    statuses = {one.status for one in sample.tallies}
    facts.append(
        Fact(
            name=f"requests to an {what}",
            value=f"{answers}; {arrived} arrived at a backend",
            expected="404, and none at a backend",
            source="the answers, and the backends' own counts",
        )
    )
    if arrived:
        return verdict("reached_a_backend", facts, arrived=arrived, sent=sample.sent, what=what)
    if any(200 <= status < 300 for status in statuses):
        return verdict("answered_with_success", facts, what=what, answers=answers)
    if why := redirected(sample.tallies):
        return why
    if any(300 <= status < 400 for status in statuses):
        return verdict("answered_with_success.redirected", facts, what=what, answers=answers)
    return verdict("gateway_not_reached", what=what, answers=answers) if 0 in statuses else None


def _steady(found: Steady, case: Case) -> Ruling:
    return steady.rule(found, [], case.profile, "an HTTPRoute that never changes")


def _exactly_once(found: Delivery, _: Case) -> Ruling:
    if found.sample is None or not found.audited:
        return verdict("not_observed", what="how often each POST arrived")
    facts = [
        Fact(
            name=one.what,
            value=f"{one.sent} sent, {one.answered} answered, {one.arrived} arrived, "
            f"{one.repeated} of them more than once",
            expected="each once",
            source="counted by the backends, by an id in each request, at the end of the trial",
        )
        for one in found.audited
    ]
    sent = sum(one.sent for one in found.audited)
    if twice := sum(one.repeated for one in found.audited):
        first = found.repeats[0]
        where = ", ".join(f"{times} times at {pod}" for pod, times in first.arrived.items())
        return verdict("delivered_twice", facts, twice=twice, sent=sent, where=where)
    for one in found.audited:
        if one.answered > one.arrived:
            counts = {"sent": one.sent, "answered": one.answered, "arrived": one.arrived}
            return verdict("answered_without_arriving", facts, what=one.what, **counts)
    return unanswered(found.sample, facts) or verdict("once", facts, sent=sent)


def _bodies(found: Bodies, case: Case) -> Ruling:
    if not found.sent:
        return verdict("not_observed", what="any body")
    facts = [
        Fact(
            name=f"{'answer' if one.answer else 'body'} of {one.what}",
            value=_went(one),
            expected="arrives whole",
            source="SHA-256 of what was sent and of what the other side got",
        )
        for one in found.sent
    ]
    facts += [
        Fact(
            name=f"informational: body of {one.what}",
            value=_went(one),
            source="larger than what is required: it may be refused, but not changed",
        )
        for one in found.larger
    ]
    for one in (*found.sent, *found.larger):
        what = {"what": one.what, "status": one.status}
        if one.whole is False:
            changed = ", changed" if one.got == one.sent else ""
            sizes = {"sent": one.sent, "got": one.got, "changed": changed}
            return verdict("body_changed", facts, **what, **sizes)
        if one.answered_whole is False:
            return verdict("answer_changed", facts, **what)
    for name, sample in posts(case.seen.weights, case.seen.headers, case.seen.delivery):
        if sample.altered:
            counts = {"altered": sample.altered, "sent": sample.sent}
            return verdict("body_changed.short", facts, what=name, **counts)
    largest = max(found.sent, key=lambda one: one.sent)
    return _not_through(found.sent, facts) or verdict("whole", facts, largest=largest.what)


def _not_through(sent: list[Sent], facts: list[Fact]) -> Ruling | None:
    """Return the verdict on bodies or answers that did not come through."""
    missing = [one for one in sent if not _through(one)]
    if not missing:
        return None
    first = missing[0]
    what = f"{'an answer' if first.answer else 'a body'} of {first.what}"
    went = {"what": what, "went": _went(first)}
    alike = [one for one in sent if (one.sent, one.answer) == (first.sent, first.answer)]
    smaller = [one for one in sent if max(one.sent, one.answer) < max(first.sent, first.answer)]
    if not any(map(_through, alike)) and all(map(_through, smaller)):
        if all(_refused_size(one) for one in alike):
            return verdict("body_refused", facts, **went)
        if smaller:
            return verdict("body_not_delivered", facts, **went)
    counts = {"missing": len(missing), "sent": len(sent)}
    return verdict("not_all_answered.bodies", facts, **counts, **went)


def _through(one: Sent) -> bool:
    return one.status == 200 and bool(one.whole) and (not one.answer or bool(one.answered_whole))


def _refused_size(one: Sent) -> bool:
    """Return whether a body was refused for its size: by 413, or by a closed connection."""
    return one.status == 413 or one.error.startswith(
        ("BrokenPipeError", "ConnectionReset", "RemoteDisconnected")
    )


GROUPED = 1 / 3
"""More of the events than this that come together with the one before, in several groups, are
no stumbling of a busy node, after which a single group comes."""


def _streaming(found: Streaming, case: Case) -> Ruling:
    if found.direct is None or found.through is None:
        return verdict("not_observed", what="a stream")
    limit = case.profile.number("gateway.stream_pause_seconds")
    streams, direct = [found.through, *(found.others or [])], _events(found.direct)
    if not _flowed(found.direct, found.expected, limit) or _grouped(found.direct):
        return verdict("control_was_late", direct=direct)
    facts = [
        *(
            Fact(
                name="events through the gateway",
                value=_events(one),
                expected=f"{found.expected}, no pause of more than {limit:g} s, none together",
                source="server-sent events, each with the time of its production",
            )
            for one in streams
        ),
        Fact(name="events without it", value=direct, source="the same, directly"),
        *_informational(case.seen.slow),
    ]
    for one in streams:
        # A stream without any event shows nothing of its pace; it may be a moment's outage.
        if one.status != 200 and not one.events:
            if found.plain is None:
                return not_recorded("plain requests at the same time as the stream")
            if why := unanswered(found.plain, facts):
                return why
        if why := _not_as_produced(one, found.expected, direct, facts):
            return why
    if found.settled.usual is None or found.others is None:
        return not_recorded("how long a plain answer through the gateway takes")
    late = min(one.lateness() for one in streams) - found.direct.lateness() - found.settled.usual
    allowed = case.profile.number("gateway.stream_late_seconds")
    facts.append(
        Fact(
            name="events later than a plain answer",
            value=f"{max(0.0, late):.2f} s",
            expected=f"at most {allowed:g} s",
            source="median over the events, without the time that a plain POST takes there",
        )
    )
    if late > allowed:
        return verdict("stream_late", facts, late=late)
    events = "; ".join(map(_events, streams))
    if not all(_flowed(one, found.expected, limit) for one in streams):
        return verdict("stream_stumbled", events=events, direct=direct)
    return verdict("arrives_as_produced", facts, events=_events(found.through))


def _not_as_produced(
    stream: Stream, expected: int, direct: str, facts: list[Fact]
) -> Ruling | None:
    events = _events(stream)
    if len(stream.events) < expected:
        error = f", {stream.error}" if stream.error else ""
        came = {"events": events, "expected": expected, "status": stream.status}
        return verdict("stream_cut", facts, error=error, **came)
    # Whoever collects an answer passes it on at once; a busy node only stumbles.
    if stream.arrived() < stream.produced() / 2:
        return verdict("stream_held_back", facts, events=events, direct=direct)
    if _grouped(stream):
        sizes = ", ".join(map(str, stream.groups()))
        return verdict("stream_in_groups", facts, sizes=sizes, events=events)
    return None


def _grouped(stream: Stream) -> bool:
    """Return whether events came in several groups, as from a proxy that collects some."""
    groups = stream.groups()
    return len(groups) > 1 and sum(groups) - len(groups) > GROUPED * (len(stream.events) - 1)


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
        value = f"a long answer was not tried: {why}"
        return [Fact(name=name, value=value, source=source)]
    return [Fact(name=f"{name}: {one.what}", value=_went(one), source=source) for one in slow.sent]


def _went(one: Sent) -> str:
    if one.status == 200 and one.whole is False:
        return f"changed: {one.got} of {one.sent} bytes arrived"
    if one.status == 200 and one.answered_whole is False:
        return "changed on its way back"
    if one.status == 200 and (one.whole or one.got in (None, one.sent)):
        return f"passed, {one.seconds:.1f} s"
    return f"did not pass: status {one.status} after {one.seconds:.1f} s {one.error}".rstrip()


def _claimed_features(found: Features, case: Case) -> Ruling:
    if not found.claimed:
        return verdict("nothing_claimed")
    facts = [
        Fact(name=one.name, value=one.seen, source="supportedFeatures; measured")
        for one in found.tried
    ]
    if broken := [one for one in found.tried if one.works is False]:
        features = ", ".join(one.name for one in broken)
        seen = "; ".join(f"{one.name}: {one.seen}" for one in broken)
        return verdict("claim_not_kept", facts, name=case.variant, features=features, seen=seen)
    if disturbed := [one for one in found.tried if one.disturbed]:
        seen = "; ".join(f"{one.name}: {one.seen}" for one in disturbed)
        return verdict("not_all_answered.features", facts, seen=seen)
    worked = ", ".join(one.name for one in found.tried if one.works)
    if not worked or len(found.tried) < len(found.claimed):
        seen = "; ".join(f"{one.name}: {one.seen}" for one in found.tried) or "nothing was tried"
        return verdict("not_tried", facts, seen=seen)
    untried = ", ".join(one.name for one in found.tried if one.works is None)
    return verdict(
        "claims_kept", facts, worked=worked, untried=f"; not tried: {untried}" if untried else ""
    )


# -- the judges -----------------------------------------------------------------------------


def _waits(case: Case) -> list[Fact]:
    """Return how long a part waited for steady answers, and which of them failed."""
    found = getattr(case.seen, next(iter(_classes.rules[case.check].parts), ""), None)
    if isinstance(found, Weights):
        changes = ("the route was made", "the weights were changed")
        pairs = zip(found.phases, changes, strict=False)
        return [waited(phase.settled, change) for phase, change in pairs]
    settled = getattr(found, "settled", None)
    return [waited(settled, "the route was made")] if isinstance(settled, Settled) else []


def _missing(seen: GatewayObservation) -> dict[str, Ruling]:
    """Return a verdict for each class that the user named and that does not exist."""
    if not seen.served:
        return {"": verdict("no_gateway_api")}
    what = "an implementation of the Gateway API"
    return missing_classes(seen.wanted, seen.classes, what)


_installed = Judge[GatewayObservation, GatewayObservation](
    rules={"gateway.api": Rule(("api",), _api)}
)
_classes = traffic_judge(
    {
        "gateway.class_accepted": Rule[GatewayObservation, ClassObservation]((), _class_accepted),
        "gateway.programmed": part("reach", _programmed),
        "gateway.route_status": part("routes", _route_status),
        "gateway.weighted_split": part("weights", _weighted_split),
        "gateway.header_rule": part("headers", _header_rule),
        "gateway.unmatched": part("unmatched", _unmatched),
        "gateway.steady": part("steady", _steady),
        "gateway.exactly_once": part("delivery", _exactly_once),
        "gateway.bodies": part("bodies", _bodies),
        "gateway.streaming": part("streaming", _streaming),
        "gateway.claimed_features": part("claims", _claimed_features),
    },
    accepted=lambda seen: seen.accepted is not None and seen.accepted.holds,
    stopped=lambda case: _not_programmed(case) or without_gateway(case.seen.gateway, case.variant),
    missing=_missing,
    waits=_waits,
)


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check: the API once, everything else for each class that was assessed."""
    asked = _installed if check in _installed.rules else _classes
    return asked(check, seen, profile)
