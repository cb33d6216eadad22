"""The verdicts on the Gateway API: observation and profile in, findings out. Pure.

A finding per GatewayClass, but for the API itself. First whether there was a Gateway and whether
the route worked at all, then whether names and counts agree, only then the claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from kar_checks.checks.gateway.observation import (
    Api,
    Bodies,
    ClassObservation,
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
from kar_checks.checks.ingress import steady
from kar_checks.checks.ingress.records import GatewaySeen, Parent, Sample, Settled, told
from kar_checks.checks.ingress.ruling import (
    NOT_MEASURED,
    ROUTES_ELSEWHERE,
    disagreeing,
    error,
    failed,
    hindered,
    missing_classes,
    mutated,
    old,
    passed,
    redirected,
    unanswered,
    undecided,
    unsettled,
    waited,
    without_gateway,
)
from kar_checks.checks.ingress.steady import Steady
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.stats import interval
from kar_checks.kit.verdict import Ruling
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
        return hindered(error(found), observed.around)
    if found is None:
        return NOT_MEASURED
    ruling = hindered(rule(found, seen, profile), observed.around)
    return replace(ruling, facts=[*ruling.facts, *_waits(found)])


def _waits(found: object) -> list[Fact]:
    """Return how long a part waited for steady answers, and which of them failed."""
    if isinstance(found, Weights):
        changes = ("the route was made", "the weights were changed")
        return [
            waited(one.settled, change) for one, change in zip(found.phases, changes, strict=False)
        ]
    settled = getattr(found, "settled", None)
    return [waited(settled, "the route was made")] if isinstance(settled, Settled) else []


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
    if ruling := _address_pending(found):
        return ruling
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


_PENDING = ("AddressNotAssigned", "Pending", "Scheduled")


def _address_pending(found: GatewaySeen) -> Ruling | None:
    """A load balancer that is still being made says nothing about the Gateway API."""
    said = found.condition("Programmed")
    if found.address or said is None or said.status == "True" or said.reason not in _PENDING:
        return None
    return undecided(
        "address_pending",
        f"the Gateway has no address after {found.seconds:.0f} s: {said}",
        "look at the events of the Service of type LoadBalancer behind the Gateway; give a slow "
        "load balancer more time with --set gateway.programmed_seconds=600",
        [Fact(name="condition", value=str(said), source="Gateway status")],
    )


def _programmed(reach: Reach, seen: ClassObservation, _: Profile) -> Ruling:
    if ruling := unsettled(reach.settled):
        return ruling
    found = seen.gateway
    if found is None or reach.gateway.attached_routes < 1:
        if reach.looked_seconds is None:
            return not_recorded("whether the listeners counted the route later")
        return failed(
            "no_routes_attached",
            "traffic flows, and the listeners' status counts no attached route, "
            f"{reach.looked_seconds:.0f} s later either",
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
    for phase in found.phases:
        if phase.sample and (ruling := old(phase.sample)):
            return ruling
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
    if found.other_cases is None:
        return not_recorded("requests with POST, and headers in another case than the rule's")
    return passed(
        "rule_wins",
        "; ".join(f"{one.name}: {one.value}" for one in facts),
        "one answer of the other backend",
        facts,
    )


_NO_ROUTE = 404
"""What the API demands where no rule matches; a 5xx may be a gateway that is out of order."""


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
        if any(200 <= one.status < 300 for one in sample.tallies):
            return failed(
                "answered_with_success",
                f"requests to an {what}: {told(sample.tallies)}",
                "an answer that says that there is no such route",
                facts,
            )
        if ruling := redirected(sample.tallies):
            return ruling
        if any(300 <= one.status < 400 for one in sample.tallies):
            return failed(
                "answered_with_success",
                f"requests to an {what} are led elsewhere: {told(sample.tallies)}",
                "an answer that says that there is no such route",
                facts,
            )
        if not all(one.status for one in sample.tallies):
            return undecided(
                "gateway_not_reached",
                f"requests to an {what}: {told(sample.tallies)}",
                ROUTES_ELSEWHERE,
            )
    if found.served is None:
        return not_recorded("requests with POST, and what is served at the same time")
    if ruling := unanswered(found.served):
        return replace(ruling, facts=facts)
    for what, sample in (("unknown path", found.path), ("unknown host", found.host)):
        if sample and any(one.status != _NO_ROUTE for one in sample.tallies):
            return failed(
                "not_refused",
                f"requests to an {what} get {told(sample.tallies)}, while a served path is "
                f"answered: that is not the {_NO_ROUTE} by which a client learns that there is no "
                "such route",
                f"{_NO_ROUTE} to every request",
                facts,
            )
    return passed(
        "refused",
        "; ".join(f"{one.name}: {one.value}" for one in facts),
        "one request at a backend, or an answer of success",
        facts,
    )


def _steady(found: Steady, _: ClassObservation, profile: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    return steady.rule(found, [], profile, "a route that never changes")


def _exactly_once(found: Delivery, _: ClassObservation, __: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    if found.sample is None or not found.audited:
        return undecided("not_observed", "the backends' counts at the end are not known")
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
        return failed(
            "delivered_twice",
            f"{twice} of {sent} POSTs arrived more than once, the first of them {where}: "
            "somebody between the client and the backends repeats or copies requests",
            "one arrival for each request",
            facts,
        )
    for one in found.audited:
        if one.answered > one.arrived:
            return failed(
                "answered_without_arriving",
                f"{one.what}: {one.answered} of {one.sent} POSTs were answered in a backend's "
                f"name, and {one.arrived} arrived at a backend",
                "one arrival for each answer",
                facts,
            )
    if ruling := unanswered(found.sample):
        return replace(ruling, facts=facts)
    return passed(
        "once",
        f"each of {sent} POSTs arrived once",
        "one request that arrives twice, or is answered and never arrives",
        facts,
    )


def _bodies(found: Bodies, seen: ClassObservation, _: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    if not found.sent:
        return undecided("not_observed", "no body was sent")
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
            source="larger than what is demanded: it may be refused, but not changed",
        )
        for one in found.larger
    ]
    for one in (*found.sent, *found.larger):
        if one.whole is False:
            return failed(
                "body_changed",
                f"of a POST with a body of {one.what} ({one.sent} bytes) {one.got} bytes arrived "
                f"at the backend{', changed' if one.got == one.sent else ''}; the client was "
                f"answered {one.status}",
                "the bytes that were sent, or a refusal",
                facts,
            )
        if one.answered_whole is False:
            return failed(
                "answer_changed",
                f"an answer that holds {one.what} did not arrive as it was sent, with status "
                f"{one.status}",
                "the bytes that were sent",
                facts,
            )
    for what, sample in posts(seen.weights, seen.headers, seen.delivery):
        if sample.altered:
            return failed(
                "body_changed",
                f"{what}: of {sample.altered} of {sample.sent} POSTs with a short body the backend "
                "got other bytes than were sent",
                "the bytes that were sent",
                facts,
            )
    largest = max(found.sent, key=lambda one: one.sent)
    return _not_through(found.sent, facts) or passed(
        "whole",
        f"bodies and answers of up to {largest.what} arrived whole",
        "a byte that is missing or another",
        facts,
    )


def _not_through(sent: list[Sent], facts: list[Fact]) -> Ruling | None:
    """Return what it means that some bodies, or some answers, did not come through."""
    missing = [one for one in sent if not _through(one)]
    if not missing:
        return None
    first = missing[0]
    what = f"{'an answer' if first.answer else 'a body'} of {first.what}"
    alike = [one for one in sent if (one.sent, one.answer) == (first.sent, first.answer)]
    smaller = [one for one in sent if max(one.sent, one.answer) < max(first.sent, first.answer)]
    if not any(map(_through, alike)) and all(map(_through, smaller)):
        if all(_refused_size(one) for one in alike):
            return undecided(
                "body_refused",
                f"{what} is refused: {_went(first)}",
                "raise the gateway's limit for bodies, or state another size with "
                "--set gateway.whole_body_mib=1",
                facts,
            )
        if smaller:
            return failed(
                "body_not_delivered",
                f"{what} does not come through, and smaller ones do: {_went(first)}",
                "an answer of the backend to every size",
                facts,
            )
    return undecided(
        "not_all_answered",
        f"{len(missing)} of {len(sent)} requests were not answered by a backend; {what}: "
        f"{_went(first)}",
        "look at the gateway's and the backends' logs",
        facts,
    )


def _through(one: Sent) -> bool:
    return one.status == 200 and bool(one.whole) and (not one.answer or bool(one.answered_whole))


def _refused_size(one: Sent) -> bool:
    """Say whether a body was refused for its size: by 413, or by closing the connection on it."""
    return one.status == 413 or one.error.startswith(
        ("BrokenPipeError", "ConnectionReset", "RemoteDisconnected")
    )


GROUPED = 1 / 3
"""More of the events than this that come together with the one before, in several groups, are
no stumbling of a busy node, after which a single group comes."""


def _streaming(found: Streaming, seen: ClassObservation, profile: Profile) -> Ruling:
    if ruling := unsettled(found.settled):
        return ruling
    if found.direct is None or found.through is None:
        return undecided("not_observed", "no stream was read")
    limit = profile.number("gateway.stream_pause_seconds")
    streams = [found.through, *(found.others or [])]
    direct = _events(found.direct)
    if not _flowed(found.direct, found.expected, limit) or _grouped(found.direct):
        return undecided(
            "control_was_late",
            f"directly from the backend came {direct}: the measurement is too noisy here",
            "run again at a quieter time",
        )
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
        *_informational(seen.slow),
    ]
    for one in streams:
        # Without a stream there is nothing to be seen of its pace; it may be a moment's outage.
        if one.status != 200 and not one.events:
            if found.plain is None:
                return not_recorded("plain requests at the same time as the stream")
            if ruling := unanswered(found.plain):
                return replace(ruling, facts=facts)
        if ruling := _not_as_produced(one, found, facts):
            return ruling
    if found.settled.usual is None or found.others is None:
        return not_recorded("how long a plain answer through the gateway takes")
    late = min(one.lateness() for one in streams) - found.direct.lateness() - found.settled.usual
    allowed = profile.number("gateway.stream_late_seconds")
    facts.append(
        Fact(
            name="events later than a plain answer",
            value=f"{max(0.0, late):.2f} s",
            expected=f"at most {allowed:g} s",
            source="median over the events, without the time that a plain POST takes there",
        )
    )
    if late > allowed:
        return failed(
            "stream_late",
            f"events come {late:.1f} s later through the gateway than a plain answer does",
            "events as soon as they are produced",
            facts,
        )
    if not all(_flowed(one, found.expected, limit) for one in streams):
        return undecided(
            "stream_stumbled",
            f"through the gateway came {'; '.join(map(_events, streams))}, directly {direct}",
            "run again at a quieter time",
        )
    return passed(
        "arrives_as_produced",
        f"through the gateway came {_events(found.through)}",
        "events that come together, or late, although they were produced apart",
        facts,
    )


def _not_as_produced(stream: Stream, found: Streaming, facts: list[Fact]) -> Ruling | None:
    seen = _events(stream)
    if len(stream.events) < found.expected:
        return failed(
            "stream_cut",
            f"of {found.expected} events came {seen} (status {stream.status}) "
            f"{stream.error}".rstrip(),
            "all events",
            facts,
        )
    # Whoever collects an answer passes it on at once; a busy node only stumbles.
    if stream.arrived() < stream.produced() / 2:
        return failed(
            "stream_held_back",
            f"through the gateway came {seen}, directly {_events(cast('Stream', found.direct))}",
            "events as soon as they are produced",
            facts,
        )
    if _grouped(stream):
        sizes = ", ".join(map(str, stream.groups()))
        return failed(
            "stream_in_groups",
            f"events that were produced apart came together through the gateway, in groups of "
            f"{sizes}: {seen}",
            "events as soon as they are produced",
            facts,
        )
    return None


def _grouped(stream: Stream) -> bool:
    """Say whether events came in several groups, as from somebody who collects some of them."""
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
    if disturbed := [one for one in found.tried if one.disturbed]:
        return undecided(
            "not_all_answered",
            "; ".join(f"{one.name}: {one.seen}" for one in disturbed),
            "look at the gateway's and the backends' logs",
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
    "gateway.steady": ("steady", _steady),
    "gateway.exactly_once": ("delivery", _exactly_once),
    "gateway.bodies": ("bodies", _bodies),
    "gateway.streaming": ("streaming", _streaming),
    "gateway.claimed_features": ("claims", _claimed_features),
}
