"""What the judge of the Gateway API makes of every observation, as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.gateway.checks import TOPIC
from kar_checks.checks.gateway.figures import draw
from kar_checks.checks.gateway.judge import judge
from kar_checks.checks.gateway.observation import (
    Api,
    ClassObservation,
    CrdSeen,
    Feature,
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
from kar_checks.checks.ingress.records import (
    Condition,
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Tally,
)
from kar_checks.model import Evidence, Fault, Finding, Mutation, Reason, Record

CHECKS = [one.id for one in TOPIC.checks]
OF_A_CLASS = [one for one in CHECKS if one != "gateway.api"]
MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
BLUE, GREEN = "gateway-blue", "gateway-green"
OURS = "example.org/controller"
Ruled = tuple[str, str]


def said(kind: str, status: str = "True", *, current: bool = True) -> Condition:
    return Condition(type=kind, status=status, reason=kind, current=current)


def parent(*conditions: Condition, controller: str = OURS) -> list[Parent]:
    return [Parent(controller=controller, gateway="g", conditions=list(conditions))]


def sample(blue: int, green: int, revision: str = "", counted: Any = None) -> Sample:
    """A sample whose backends counted what the answers name, unless told otherwise."""
    own = {BLUE: blue, GREEN: green}
    tallies = [
        Tally(status=200, pod=pod, revision=revision, count=count)
        for pod, count in own.items()
        if count
    ]
    return Sample(sent=blue + green, seconds=1, tallies=tallies, counted=counted or own)


def refused(status: int, count: int = 60, arrived: int = 0) -> Sample:
    tally = Tally(status=status, count=count, error="" if status else "TimeoutError")
    return Sample(sent=count, seconds=1, tallies=[tally], counted={BLUE: arrived, GREEN: 0})


GOOD = Settled(settled=True, seconds=1, asked=10, last=[Tally(status=200, pod=BLUE, count=10)])


def never(tally: Tally) -> Settled:
    return Settled(settled=False, seconds=60, asked=100, last=[tally])


GATEWAY = GatewaySeen(
    name="g",
    address="192.0.2.1",
    conditions=[said("Accepted"), said("Programmed")],
    attached_routes=2,
    seconds=11,
)
FINE = parent(said("Accepted"), said("ResolvedRefs"))
ROUTES = Routes(good=FINE, bad=parent(said("Accepted"), said("ResolvedRefs", "False")))
FIRST = Phase(weights={BLUE: 80, GREEN: 20}, settled=GOOD, sample=sample(318, 82, "1"))
SECOND = Phase(weights={BLUE: 20, GREEN: 80}, settled=GOOD, sample=sample(85, 315, "2"))
RULE = HeaderRule(
    settled=GOOD,
    special=GREEN,
    default=BLUE,
    matching=sample(0, 60),
    without=sample(60, 0),
    other_value=sample(60, 0),
)
UNMATCHED = Unmatched(settled=GOOD, path=refused(404), host=refused(404))
PROMPT = Stream(status=200, events=[(k / 2, k / 2 + 0.05) for k in range(8)])
HELD = Stream(status=200, events=[(k / 2, 3.6) for k in range(8)])
LATE = Stream(status=200, events=[(k / 2, k / 2 + 1.3) for k in range(8)])
BUSY = Stream(status=200, events=[(k / 2, k / 2 + 1.3 * (k > 3)) for k in range(8)])
NONE = Stream(status=502, events=[])
STREAMING = Streaming(settled=GOOD, expected=8, direct=PROMPT, through=PROMPT)
SLOW = Slow(
    sent=[
        Sent(what="body of 10 MiB", status=413, seconds=1, sent=10),
        Sent(what="answer after 60 s", status=200, pod=BLUE, seconds=60, got=0),
    ],
)
WORKS = Feature(name="HTTPRouteRequestTimeout", works=True, seen="504 after 1.0 s")
BROKEN = Feature(name="HTTPRouteRequestMirror", works=False, seen="0 copies")
UNTRIED = Feature(name="HTTPRouteRetry", works=None, seen="unknown field")
PARTS: dict[str, tuple[str, Record]] = {
    "gateway.programmed": ("reach", Reach(settled=GOOD, gateway=GATEWAY)),
    "gateway.route_status": ("routes", ROUTES),
    "gateway.weighted_split": ("weights", Weights(phases=[FIRST, SECOND])),
    "gateway.header_rule": ("headers", RULE),
    "gateway.unmatched": ("unmatched", UNMATCHED),
    "gateway.streaming": ("streaming", STREAMING),
    "gateway.claimed_features": ("claims", Features(claimed=["a"], tried=[WORKS])),
}
CLASS = ClassObservation(
    controller=OURS, accepted=said("Accepted"), features=["a"], gateway=GATEWAY, slow=SLOW
).model_copy(update=dict(PARTS.values()))


def crd(plural: str, **more: Any) -> CrdSeen:
    fine: dict[str, Any] = {"present": True, "established": True, "served": ["v1", "v1beta1"]}
    return CrdSeen(name=f"{plural}.gateway.networking.k8s.io", **{**fine, **more})


NAMES = ("gatewayclasses", "gateways", "httproutes")
ALL = [crd(one) for one in (*NAMES, "grpcroutes")]


def observation(seen: ClassObservation | Fault | None = CLASS, **more: Any) -> GatewayObservation:
    known: dict[str, Any] = {
        "trial": "gateway",
        "evidence": Evidence.SYNTHETIC,
        "started": MOMENT,
        "finished": MOMENT,
        "served": True,
        "api": Api(crds=ALL, mesh=["networking.istio.io"]),
        "wanted": "",
        "classes": {} if seen is None else {"good": seen},
    }
    return GatewayObservation(**{**known, **more})


def changed(check: str, part: Record | None) -> GatewayObservation:
    """An observation in which one part is another."""
    return observation(CLASS.model_copy(update={PARTS[check][0]: part}))


def verdict(check: str, seen: GatewayObservation) -> Finding:
    (found,) = judge(check, seen, profile.default())
    return found


def ruled(check: str, seen: GatewayObservation) -> Ruled:
    found = verdict(check, seen)
    return found.outcome.value, found.reason


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_right_passes_with_its_numbers(check: str) -> None:
    found = verdict(check, observation())
    assert (found.outcome.value, found.evidence) == ("pass", Evidence.SYNTHETIC)
    assert found.facts
    assert found.would_change
    assert found.variant == ("" if check == "gateway.api" else "good")


@pytest.mark.parametrize(
    ("crds", "expected"),
    [
        ([crd(one, present=False) for one in NAMES], ("inconclusive", "no_gateway_api")),
        ([*ALL[:2], crd("httproutes", present=False)], ("fail", "incomplete_api")),
        ([*ALL[:2], crd("httproutes", established=False)], ("fail", "incomplete_api")),
        ([*ALL[:2], crd("httproutes", served=["v1beta1"])], ("fail", "incomplete_api")),
        ([*ALL[:3], crd("grpcroutes", present=False)], ("pass", "established")),
    ],
)
def test_the_api(crds: list[CrdSeen], expected: Ruled) -> None:
    assert ruled("gateway.api", observation(api=Api(crds=crds, mesh=[]))) == expected


def test_the_api_was_not_looked_at() -> None:
    assert ruled("gateway.api", observation(api=None)) == ("not_run", "not_measured")


@pytest.mark.parametrize("check", OF_A_CLASS)
def test_without_a_class_nothing_is_decided(check: str) -> None:
    assert ruled(check, observation(None)) == ("inconclusive", "no_gateway_class")
    named = observation(None, wanted=" mine,")
    assert ruled(check, named) == ("inconclusive", "no_gateway_class")
    assert "mine" in verdict(check, named).summary
    assert ruled(check, observation(None, served=False)) == ("inconclusive", "no_gateway_api")


@pytest.mark.parametrize("check", OF_A_CLASS)
def test_each_class_that_was_named_has_its_verdict(check: str) -> None:
    found = judge(check, observation(wanted="good, mispelt"), profile.default())
    ruled = {one.variant: (one.outcome.value, one.reason) for one in found}
    assert ruled["mispelt"] == ("inconclusive", "no_gateway_class")
    assert ruled["good"][0] == "pass"


@pytest.mark.parametrize("check", OF_A_CLASS)
def test_a_fault_of_the_harness_is_an_error(check: str) -> None:
    fault = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image")
    assert ruled(check, observation(fault)) == ("error", "image_unavailable")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (None, ("inconclusive", "controller_silent")),
        (said("Accepted", "Unknown"), ("inconclusive", "controller_silent")),
        (said("Accepted", "False"), ("fail", "not_accepted")),
        (said("Accepted", current=False), ("inconclusive", "stale_condition")),
    ],
)
def test_the_class(accepted: Condition | None, expected: Ruled) -> None:
    seen = observation(CLASS.model_copy(update={"accepted": accepted, "gateway": None}))
    assert ruled("gateway.class_accepted", seen) == expected
    assert ruled("gateway.weighted_split", seen) == ("inconclusive", "class_not_accepted")


SILENT = ("inconclusive", "controller_silent")
NO_GATEWAY = ("fail", "not_programmed")


@pytest.mark.parametrize(
    ("conditions", "address", "expected"),
    [
        ([], "", SILENT),
        ([said("Accepted"), said("Programmed", "False", current=False)], "", SILENT),
        ([said("Accepted"), said("Programmed", "Unknown")], "", SILENT),
        ([said("Accepted", "False")], "", NO_GATEWAY),
        ([said("Accepted"), said("Programmed", "False")], "192.0.2.1", NO_GATEWAY),
        ([said("Accepted"), said("Programmed")], "", ("fail", "no_address")),
    ],
)
def test_a_gateway_that_is_not_programmed(
    conditions: list[Condition], address: str, expected: Ruled
) -> None:
    found = GATEWAY.model_copy(update={"conditions": conditions, "address": address})
    seen = observation(CLASS.model_copy(update={"gateway": found, "reach": None, "weights": None}))
    assert ruled("gateway.programmed", seen) == expected
    assert ruled("gateway.weighted_split", seen) == ("inconclusive", "no_gateway")


@pytest.mark.parametrize("check", PARTS)
def test_a_part_that_is_missing_or_broken_is_no_verdict(check: str) -> None:
    assert ruled(check, changed(check, None)) == ("not_run", "not_measured")
    fault = Fault(reason=Reason.TIMEOUT, message="too slow")
    assert ruled(check, changed(check, fault)) == ("error", "timeout")
    mutation = Mutation(object="HTTPRoute/x", field="spec.rules")
    assert ruled(check, observation(mutations=[mutation])) == ("inconclusive", "mutated")


@pytest.mark.parametrize(
    "check", [one for one in PARTS if one.endswith(("ed", "split", "rule", "streaming"))]
)
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (Tally(status=0, error="TimeoutError", count=3), ("inconclusive", "gateway_not_reached")),
        (Tally(status=503, count=20), ("fail", "not_routed")),
        (Tally(status=200, count=20), ("fail", "answered_by_another")),
        (Tally(status=200, pod=BLUE, revision="1", count=9), ("fail", "change_not_followed")),
    ],
)
def test_a_route_that_never_works(check: str, last: Tally, expected: Ruled) -> None:
    part: Record = FIRST if check == "gateway.weighted_split" else PARTS[check][1]
    part = part.model_copy(update={"settled": never(last)})
    whole = Weights(phases=[part]) if isinstance(part, Phase) else part
    assert ruled(check, changed(check, whole)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"good": []}, ("fail", "no_status")),
        ({"good": parent(said("Accepted"), controller="other")}, ("fail", "no_status")),
        ({"bad": []}, ("fail", "no_status")),
        (
            {"good": parent(said("Accepted", "False"), said("ResolvedRefs"))},
            ("fail", "good_route_refused"),
        ),
        ({"good": parent(said("Accepted"))}, ("fail", "good_route_refused")),
        ({"bad": FINE}, ("fail", "missing_backend_resolved")),
    ],
)
def test_the_status_of_routes(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("gateway.route_status", ROUTES.model_copy(update=change))
    assert ruled("gateway.route_status", seen) == expected


def test_a_gateway_that_counts_no_route() -> None:
    bare = Reach(settled=GOOD, gateway=GATEWAY.model_copy(update={"attached_routes": 0}))
    seen = changed("gateway.programmed", bare)
    assert ruled("gateway.programmed", seen) == ("fail", "no_routes_attached")


@pytest.mark.parametrize(
    ("claimed", "tried", "expected"),
    [
        ([], [], ("not_applicable", "nothing_claimed")),
        (["a", "b"], [WORKS, BROKEN], ("fail", "claim_not_kept")),
        (["a", "b"], [WORKS, UNTRIED], ("pass", "claims_kept")),
        (["a"], [UNTRIED], ("inconclusive", "not_tried")),
        (["a", "b"], [WORKS], ("inconclusive", "not_tried")),
    ],
)
def test_claims(claimed: list[str], tried: list[Feature], expected: Ruled) -> None:
    seen = changed("gateway.claimed_features", Features(claimed=claimed, tried=tried))
    assert ruled("gateway.claimed_features", seen) == expected


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (None, ("inconclusive", "not_observed")),
        (sample(200, 200, "2"), ("fail", "split_is_off")),
        (sample(400, 0, "2"), ("fail", "split_is_off")),
        (sample(318, 82, "2"), ("fail", "split_is_off")),
        (sample(128, 272, "2"), ("fail", "split_is_off")),
        (sample(4, 16, "2"), ("inconclusive", "too_few_requests")),
        (sample(85, 315, "1"), ("inconclusive", "not_converged")),
        (sample(85, 315, "2", {BLUE: 400, GREEN: 0}), ("inconclusive", "identity_disagrees")),
        (refused(503, 400), ("inconclusive", "not_all_answered")),
    ],
)
def test_the_second_split(second: Sample | None, expected: Ruled) -> None:
    phases = [FIRST, SECOND.model_copy(update={"sample": second})]
    seen = changed("gateway.weighted_split", Weights(phases=phases))
    assert ruled("gateway.weighted_split", seen) == expected


def test_weights_that_were_never_changed_are_not_followed() -> None:
    seen = changed("gateway.weighted_split", Weights(phases=[FIRST]))
    assert ruled("gateway.weighted_split", seen) == ("inconclusive", "not_observed")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"matching": sample(1, 59)}, ("fail", "rule_not_followed")),
        ({"without": sample(59, 1)}, ("fail", "rule_not_followed")),
        ({"other_value": sample(0, 60)}, ("fail", "rule_not_followed")),
        (
            {"matching": sample(0, 60, counted={BLUE: 60, GREEN: 0})},
            ("inconclusive", "identity_disagrees"),
        ),
        ({"without": refused(503)}, ("inconclusive", "not_all_answered")),
        ({"other_value": None}, ("inconclusive", "not_observed")),
    ],
)
def test_the_header_rule(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("gateway.header_rule", RULE.model_copy(update=change))
    assert ruled("gateway.header_rule", seen) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"path": sample(60, 0)}, ("fail", "reached_a_backend")),
        ({"host": refused(404, arrived=1)}, ("fail", "reached_a_backend")),
        ({"host": refused(200)}, ("fail", "answered_with_success")),
        ({"path": refused(302)}, ("fail", "answered_with_success")),
        ({"path": refused(0)}, ("inconclusive", "gateway_not_reached")),
        ({"host": None}, ("inconclusive", "not_observed")),
        ({"host": refused(500)}, ("pass", "refused")),
    ],
)
def test_unmatched_requests(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("gateway.unmatched", UNMATCHED.model_copy(update=change))
    assert ruled("gateway.unmatched", seen) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"through": HELD}, ("fail", "stream_held_back")),
        ({"through": NONE}, ("fail", "stream_cut")),
        ({"through": BUSY}, ("inconclusive", "stream_stumbled")),
        ({"through": LATE}, ("pass", "arrives_as_produced")),
        ({"direct": BUSY}, ("inconclusive", "control_was_late")),
        ({"through": HELD, "direct": HELD}, ("inconclusive", "control_was_late")),
        ({"direct": NONE}, ("inconclusive", "control_was_late")),
        ({"direct": None}, ("inconclusive", "not_observed")),
    ],
)
def test_streams(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("gateway.streaming", STREAMING.model_copy(update=change))
    assert ruled("gateway.streaming", seen) == expected


def test_what_is_informational_is_told_and_decides_nothing() -> None:
    facts = {one.name: one.value for one in verdict("gateway.streaming", observation()).facts}
    assert facts["informational: body of 10 MiB"] == "did not pass: status 413 after 1.0 s"
    assert facts["informational: answer after 60 s"] == "passed, 60.0 s"


def test_every_class_has_a_verdict_of_its_own() -> None:
    bad = CLASS.model_copy(update={"routes": ROUTES.model_copy(update={"good": []})})
    seen = observation(classes={"good": CLASS, "bad": bad})
    found = judge("gateway.route_status", seen, profile.default())
    assert [(one.variant, one.outcome.value) for one in found] == [
        ("good", "pass"),
        ("bad", "fail"),
    ]


@pytest.mark.parametrize(
    ("slow", "told"),
    [
        (Slow(why_not="refused"), "large body and long answer were not tried: refused"),
        (Fault(reason=Reason.TIMEOUT, message="late"), "were not tried: late"),
    ],
)
def test_that_nothing_slow_was_tried_is_told_and_decides_nothing(
    slow: Slow | Fault, told: str
) -> None:
    found = verdict("gateway.streaming", observation(CLASS.model_copy(update={"slow": slow})))
    assert found.outcome.value == "pass"
    assert told in next(one.value for one in found.facts if one.name == "informational")


def test_figures_show_counts_as_the_backends_had_them() -> None:
    servers = {BLUE: "10.0.0.1", GREEN: "10.0.0.2"}
    drawn = draw({"good": CLASS, "bad": Fault(reason=Reason.TIMEOUT, message="x")}, servers, 0.999)
    by_check = {one.checks[0]: one for one in drawn}
    assert {one.variant for one in drawn} == {"good"}
    assert [one.value for one in by_check["gateway.weighted_split"].shares] == [
        318 / 400,
        82 / 400,
        85 / 400,
        315 / 400,
    ]
    rule = by_check["gateway.header_rule"]
    way = [(rule.stops[one.source].name, rule.stops[one.target].name) for one in rule.hops]
    assert way[:3] == [("client", "Gateway"), ("Gateway", GREEN), ("Gateway", "client")]
    assert len(way) == 9
    # What was refused arrived nowhere.
    assert len(by_check["gateway.unmatched"].hops) == 4
    produced, through, direct = by_check["gateway.streaming"].series
    assert produced.points[-1] == (3.5, 8)
    assert through.points == direct.points
