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
    Audited,
    Bodies,
    Cased,
    ClassObservation,
    CrdSeen,
    Delivery,
    Feature,
    Features,
    GatewayObservation,
    HeaderRule,
    Phase,
    Reach,
    Repeat,
    Routes,
    Sent,
    Slow,
    Stream,
    Streaming,
    Unmatched,
    Weights,
)
from kar_checks.kit.http_testbed.records import (
    Condition,
    Failure,
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Surroundings,
    Tally,
)
from kar_checks.kit.http_testbed.steady import Steady, Watch
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
    return Sample(
        sent=blue + green, seconds=1, tallies=tallies, counted=counted or own, method="POST"
    )


def refused(status: int, count: int = 60, arrived: int = 0, error: str = "") -> Sample:
    tally = Tally(status=status, count=count, error=error if status else "TimeoutError")
    return Sample(
        sent=count,
        seconds=1,
        tallies=[tally],
        counted={BLUE: arrived, GREEN: 0},
        method="POST",
    )


GOOD = Settled(
    settled=True,
    seconds=1,
    asked=10,
    last=[Tally(status=200, pod=BLUE, count=10)],
    failed=0,
    usual=0.02,
)


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
    other_cases=[
        Cased(
            rule="x-kar-model: special", sent="X-KAR-MODEL: special", to=GREEN, sample=sample(0, 60)
        ),
        Cased(
            rule="x-kar-model: special", sent="x-kar-model: SPECIAL", to=BLUE, sample=sample(60, 0)
        ),
    ],
)
UNMATCHED = Unmatched(settled=GOOD, path=refused(404), host=refused(404), served=sample(60, 0))


def watch(answers: list[tuple[float, float, int, str, str]]) -> Steady:
    return Steady(settled=GOOD, watches=[Watch(began=1_790_000_000, rate=5, answers=answers)])


STEADY = watch([(k / 5, 0.02, 200, BLUE, "") for k in range(160)])
DELIVERY = Delivery(
    settled=GOOD,
    sample=sample(100, 100),
    audited=[Audited(what="POSTs for this", sent=200, answered=200, arrived=200, repeated=0)],
)
MIB = 2**20


def sent(size: int, *, answer: int = 0, **more: Any) -> Sent:
    fine: dict[str, Any] = {"status": 200, "pod": BLUE, "seconds": 0.1, "got": size, "whole": True}
    fine |= {"answered_whole": True} if answer else {}
    return Sent(
        what=f"{(size or answer) / MIB:g} MiB", sent=size, answer=answer, **{**fine, **more}
    )


def lost(size: int, status: int, **more: Any) -> Sent:
    return sent(size, status=status, pod="", got=None, whole=None, **more)


BODIES = Bodies(
    settled=GOOD,
    sent=[sent(1024), sent(2 * MIB), sent(0, answer=2 * MIB), sent(2 * MIB), sent(1024)],
    larger=[lost(10 * MIB, 413)],
)
PROMPT = Stream(status=200, events=[(k / 2, k / 2 + 0.05) for k in range(8)])
HELD = Stream(status=200, events=[(k / 2, 3.6) for k in range(8)])
LATE = Stream(status=200, events=[(k / 2, k / 2 + 1.3) for k in range(8)])
BUSY = Stream(status=200, events=[(k / 2, k / 2 + 1.3 * (k > 3)) for k in range(8)])
NONE = Stream(status=502, events=[])
CUT_SHORT = Stream(status=0, events=PROMPT.events[:5], error="IncompleteRead")
PAIRS = Stream(status=200, events=[(k / 2, k // 2 + 1.55) for k in range(8)])
HALVES = Stream(status=200, events=[(k / 2, 2 * (k // 4) + 1.55) for k in range(8)])
STREAMING = Streaming(
    settled=GOOD,
    expected=8,
    direct=PROMPT,
    through=PROMPT,
    others=[PROMPT],
    plain=sample(10, 0),
)
SLOW = Slow(
    sent=[
        Sent(what="answer after 60 s", status=200, pod=BLUE, seconds=60, got=37, whole=True),
    ],
)
WORKS = Feature(name="HTTPRouteRequestTimeout", works=True, seen="504 after 1.0 s")
BROKEN = Feature(name="HTTPRouteRequestMirror", works=False, seen="0 copies")
UNTRIED = Feature(name="HTTPRouteRetry", works=None, seen="unknown field")
DISTURBED = Feature(name="HTTPRouteRequestMirror", works=None, seen="20 x 503", disturbed=True)
PARTS: dict[str, tuple[str, Record]] = {
    "gateway.programmed": ("reach", Reach(settled=GOOD, gateway=GATEWAY, looked_seconds=0)),
    "gateway.route_status": ("routes", ROUTES),
    "gateway.weighted_split": ("weights", Weights(phases=[FIRST, SECOND])),
    "gateway.header_rule": ("headers", RULE),
    "gateway.unmatched": ("unmatched", UNMATCHED),
    "gateway.steady": ("steady", STEADY),
    "gateway.exactly_once": ("delivery", DELIVERY),
    "gateway.bodies": ("bodies", BODIES),
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
def test_a_fault_of_a_class_is_an_error(check: str) -> None:
    fault = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image")
    assert ruled(check, observation(fault)) == ("error", "image_unavailable")


def test_an_error_of_the_suite_comes_before_what_admission_changed() -> None:
    fault = Fault(reason=Reason.TIMEOUT, message="too slow")
    mutation = Mutation(object="HTTPRoute/x", field="spec.rules")
    seen = changed("gateway.streaming", fault).model_copy(update={"mutations": [mutation]})
    assert ruled("gateway.streaming", seen) == ("error", "timeout")
    # Without a Gateway nothing was measured, and the change may be why.
    seen = observation(CLASS.model_copy(update={"gateway": None}), mutations=[mutation])
    assert ruled("gateway.programmed", seen) == ("inconclusive", "mutated")


def test_a_failure_names_what_is_broken_why_and_what_to_do() -> None:
    seen = changed("gateway.claimed_features", Features(claimed=["a"], tried=[BROKEN]))
    found = verdict("gateway.claimed_features", seen)
    assert found.broken == (
        "The GatewayClass good claims features that the gateway does not provide: "
        "HTTPRouteRequestMirror"
    )
    assert len(found.causes) > 1
    assert "`kubectl get gatewayclass good" in found.help


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
    "check", [one for one in PARTS if not one.endswith(("route_status", "features"))]
)
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (Tally(status=0, error="TimeoutError", count=3), ("inconclusive", "gateway_not_reached")),
        (Tally(status=503, count=20), ("fail", "not_routed")),
        (Tally(status=301, error="to https://a/", count=20), ("inconclusive", "redirected")),
        (Tally(status=301, count=20), ("inconclusive", "redirected")),
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
    none = GATEWAY.model_copy(update={"attached_routes": 0})
    seen = changed("gateway.programmed", Reach(settled=GOOD, gateway=none, looked_seconds=30))
    assert ruled("gateway.programmed", seen) == ("fail", "no_routes_attached")
    # A run that looked only once does not know whether the number came later.
    old = changed("gateway.programmed", Reach(settled=GOOD, gateway=none))
    assert ruled("gateway.programmed", old) == ("inconclusive", "not_recorded")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["AddressNotAssigned"], ("inconclusive", "address_pending")),
        (["Pending"], ("inconclusive", "address_pending")),
        (["NoResources"], ("fail", "not_programmed")),
    ],
)
def test_a_load_balancer_that_is_still_being_made_is_no_failure(
    conditions: list[str], expected: Ruled
) -> None:
    told = [
        Condition(type="Programmed", status="False", reason=one, current=True) for one in conditions
    ]
    found = GATEWAY.model_copy(update={"conditions": [said("Accepted"), *told], "address": ""})
    seen = observation(CLASS.model_copy(update={"gateway": found, "reach": None}))
    assert ruled("gateway.programmed", seen) == expected


@pytest.mark.parametrize(
    ("claimed", "tried", "expected"),
    [
        ([], [], ("not_applicable", "nothing_claimed")),
        (["a", "b"], [WORKS, BROKEN], ("fail", "claim_not_kept")),
        (["a", "b"], [WORKS, UNTRIED], ("pass", "claims_kept")),
        (["a"], [UNTRIED], ("inconclusive", "not_tried")),
        (["a", "b"], [WORKS], ("inconclusive", "not_tried")),
        (["a", "b"], [WORKS, DISTURBED], ("inconclusive", "not_all_answered")),
        (["a", "b"], [BROKEN, DISTURBED], ("fail", "claim_not_kept")),
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


NOT_FOLLOWED = ("fail", "rule_not_followed")


def cased(name: str, to: str, found: Sample) -> Cased:
    return Cased(rule="x-kar-model: special", sent=f"{name}: special", to=to, sample=found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("pass", "rule_wins")),
        ({"matching": sample(1, 59)}, ("fail", "rule_not_followed")),
        ({"without": sample(59, 1)}, ("fail", "rule_not_followed")),
        ({"other_value": sample(0, 60)}, ("fail", "rule_not_followed")),
        (
            {"matching": sample(0, 60, counted={BLUE: 60, GREEN: 0})},
            ("inconclusive", "identity_disagrees"),
        ),
        ({"without": refused(503)}, ("inconclusive", "not_all_answered")),
        ({"other_value": None}, ("inconclusive", "not_observed")),
        ({"other_cases": [cased("X-KAR-MODEL", GREEN, sample(60, 0))]}, NOT_FOLLOWED),
        ({"other_cases": [cased("x-kar-model", BLUE, sample(0, 60))]}, NOT_FOLLOWED),
        ({"other_cases": None}, ("inconclusive", "not_recorded")),
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
        ({"path": refused(302, error="to http://login/")}, ("fail", "answered_with_success")),
        ({"path": refused(301, error="to https://paths/")}, ("inconclusive", "redirected")),
        ({"path": refused(301)}, ("inconclusive", "redirected")),
        ({"path": refused(0)}, ("inconclusive", "gateway_not_reached")),
        ({"host": None}, ("inconclusive", "not_observed")),
        ({"host": refused(503)}, ("fail", "not_refused")),
        ({"host": refused(403)}, ("fail", "not_refused")),
        (
            {"host": refused(503), "served": refused(503)},
            ("inconclusive", "not_all_answered"),
        ),
        ({"served": refused(503)}, ("inconclusive", "not_all_answered")),
        ({"served": None}, ("inconclusive", "not_recorded")),
    ],
)
def test_unmatched_requests(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("gateway.unmatched", UNMATCHED.model_copy(update=change))
    assert ruled("gateway.unmatched", seen) == expected


SLUGGISH = GOOD.model_copy(update={"usual": 1.2})
UNTIMED = GOOD.model_copy(update={"usual": None})
PACE = ("pass", "arrives_as_produced")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"through": HELD}, ("fail", "stream_held_back")),
        ({"through": NONE}, ("fail", "stream_cut")),
        ({"through": NONE, "plain": refused(503)}, ("inconclusive", "not_all_answered")),
        ({"through": NONE, "plain": None}, ("inconclusive", "not_recorded")),
        ({"through": CUT_SHORT, "plain": refused(503)}, ("fail", "stream_cut")),
        ({"through": BUSY}, ("inconclusive", "stream_stumbled")),
        ({"through": PAIRS}, ("fail", "stream_in_groups")),
        ({"through": HALVES}, ("fail", "stream_in_groups")),
        ({"others": [PAIRS]}, ("fail", "stream_in_groups")),
        ({"through": LATE, "others": [LATE]}, ("fail", "stream_late")),
        # One of them may have met a busy moment.
        ({"through": LATE}, ("pass", "arrives_as_produced")),
        ({"through": LATE, "others": [LATE], "settled": SLUGGISH}, PACE),
        ({"others": None}, ("inconclusive", "not_recorded")),
        ({"settled": UNTIMED}, ("inconclusive", "not_recorded")),
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
    assert facts["informational: answer after 60 s"] == "passed, 60.0 s"
    facts = {one.name: one.value for one in verdict("gateway.bodies", observation()).facts}
    assert facts["informational: body of 10 MiB"] == "did not pass: status 413 after 0.1 s"


CUT = sent(2 * MIB, got=MIB, whole=False)
RESET = lost(2 * MIB, 0, error="ConnectionResetError: reset")


@pytest.mark.parametrize(
    ("bodies", "larger", "expected"),
    [
        ([sent(1024), CUT, CUT], [], ("fail", "body_changed")),
        ([sent(1024), sent(2 * MIB, status=400, whole=False)], [], ("fail", "body_changed")),
        ([sent(1024)], [sent(10 * MIB, got=MIB, whole=False)], ("fail", "body_changed")),
        (
            [sent(1024), sent(0, answer=MIB, answered_whole=False)],
            [],
            ("fail", "answer_changed"),
        ),
        ([sent(1024), *[lost(2 * MIB, 413)] * 2], [], ("inconclusive", "body_refused")),
        ([sent(1024), *[RESET] * 2], [], ("inconclusive", "body_refused")),
        ([sent(1024), *[lost(2 * MIB, 504)] * 2], [], ("fail", "body_not_delivered")),
        # Whoever lets one of two through, or refuses small ones, too, is out of order.
        (
            [sent(1024), lost(2 * MIB, 503), sent(2 * MIB)],
            [],
            ("inconclusive", "not_all_answered"),
        ),
        (
            [lost(1024, 503), lost(2 * MIB, 503), lost(1024, 503)],
            [],
            ("inconclusive", "not_all_answered"),
        ),
        ([], [], ("inconclusive", "not_observed")),
        ([sent(1024), sent(2 * MIB, whole=None)], [], ("fail", "body_not_delivered")),
    ],
)
def test_bodies(bodies: list[Sent], larger: list[Sent], expected: Ruled) -> None:
    seen = changed("gateway.bodies", Bodies(settled=GOOD, sent=bodies, larger=larger))
    assert ruled("gateway.bodies", seen) == expected


def test_a_short_body_that_another_measurement_saw_changed_counts() -> None:
    changed_body = FIRST.model_copy(
        update={"sample": sample(318, 82, "1").model_copy(update={"altered": 3})}
    )
    weights = Weights(phases=[changed_body, SECOND])
    seen = observation(CLASS.model_copy(update={"weights": weights}))
    assert ruled("gateway.bodies", seen) == ("fail", "body_changed")


def audited(answered: int, arrived: int, repeated: int) -> dict[str, Any]:
    found = Audited(what="weights", sent=200, answered=answered, arrived=arrived, repeated=repeated)
    repeats = [Repeat(what="weights", id="7", arrived={BLUE: 2})][:repeated]
    return {"audited": [found], "repeats": repeats}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (audited(200, 200, 1), ("fail", "delivered_twice")),
        (audited(200, 199, 0), ("fail", "answered_without_arriving")),
        (audited(199, 200, 0), ("pass", "once")),
        ({"audited": []}, ("inconclusive", "not_observed")),
        ({"sample": None}, ("inconclusive", "not_observed")),
        ({"sample": refused(503)}, ("inconclusive", "not_all_answered")),
    ],
)
def test_deliveries(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("gateway.exactly_once", DELIVERY.model_copy(update=change))
    assert ruled("gateway.exactly_once", seen) == expected


def test_repeats_at_one_backend_do_not_hide_the_weights() -> None:
    twice = sample(318, 82, "1", {BLUE: 636, GREEN: 164})
    assert ruled_split(twice) == ("inconclusive", "identity_disagrees")
    known = twice.model_copy(update={"distinct": {BLUE: 318, GREEN: 82}})
    assert ruled_split(known) == ("pass", "follows_weights")


def ruled_split(first: Sample) -> Ruled:
    phases = [FIRST.model_copy(update={"sample": first}), SECOND]
    return ruled(
        "gateway.weighted_split", changed("gateway.weighted_split", Weights(phases=phases))
    )


POLICY = Surroundings(policies=["NetworkPolicy deny-in"], unreached=[BLUE, GREEN])


@pytest.mark.parametrize("status", [503, 0])
def test_a_policy_in_the_namespace_explains_that_nobody_answers(status: int) -> None:
    part = RULE.model_copy(update={"settled": never(Tally(status=status, count=20))})
    seen = changed("gateway.header_rule", part).model_copy(update={"around": POLICY})
    found = verdict("gateway.header_rule", seen)
    assert (found.outcome.value, found.reason) == ("inconclusive", "network_policy")
    assert "NetworkPolicy deny-in" in found.summary
    assert "--namespace" in found.help


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (Surroundings(), ("fail", "not_routed")),
        (Surroundings(unreached=[BLUE]), ("inconclusive", "network_policy")),
        (Surroundings(policies=["NetworkPolicy x"]), ("inconclusive", "network_policy")),
        (None, ("fail", "not_routed")),
    ],
)
def test_what_keeps_traffic_from_the_backends(around: Surroundings | None, expected: Ruled) -> None:
    part = RULE.model_copy(update={"settled": never(Tally(status=503, count=20))})
    seen = changed("gateway.header_rule", part).model_copy(update={"around": around})
    assert ruled("gateway.header_rule", seen) == expected


def test_a_policy_explains_no_other_answer() -> None:
    part = RULE.model_copy(update={"matching": sample(60, 0)})
    seen = changed("gateway.header_rule", part).model_copy(update={"around": POLICY})
    assert ruled("gateway.header_rule", seen) == NOT_FOLLOWED
    fault = Fault(reason=Reason.POD_FAILED, message="the server does not answer its client")
    seen = changed("gateway.header_rule", fault).model_copy(update={"around": POLICY})
    assert ruled("gateway.header_rule", seen) == ("inconclusive", "network_policy")


def test_a_policy_explains_a_class_whose_backends_nobody_reaches() -> None:
    fault = Fault(reason=Reason.POD_FAILED, message="the server does not answer its client")
    seen = observation(fault, around=Surroundings(unreached=[BLUE]))
    assert ruled("gateway.header_rule", seen) == ("inconclusive", "network_policy")


def test_only_a_policy_that_came_later_explains_an_outage() -> None:
    bad = watch(
        [(k / 5, 0.02, 503 if k > 80 else 200, BLUE if k <= 80 else "", "") for k in range(160)]
    )
    for around, expected in (
        (Surroundings(policies=["NetworkPolicy x"]), ("fail", "outages")),
        (
            Surroundings(policies=["NetworkPolicy x"], later=["NetworkPolicy x"]),
            ("inconclusive", "network_policy"),
        ),
    ):
        seen = changed("gateway.steady", bad).model_copy(update={"around": around})
        assert ruled("gateway.steady", seen) == expected


SAME = "python@sha256:0123456789abcdef"


@pytest.mark.parametrize(
    ("object_", "field", "sent_", "stored", "expected"),
    [
        ("Pod/b", "spec.containers[server].image", f"docker.io/{SAME}", f"m.test/{SAME}", "pass"),
        ("Pod/b", "spec.affinity.nodeAffinity.x", "a", "b", "pass"),
        ("Pod/b", "spec.containers[server].imagePullPolicy", "IfNotPresent", "Always", "pass"),
        ("Pod/b", "spec.containers[server].image", f"docker.io/{SAME}", "m.test/other", "mutated"),
        ("Pod/b", "spec.containers[istio-proxy]", None, "added", "mutated"),
        ("HTTPRoute/r", "spec.rules[0].backendRefs", 1, 2, "mutated"),
        ("HTTPRoute/r", "spec.affinity", 1, 2, "mutated"),
    ],
)
def test_what_admission_changes(
    object_: str, field: str, sent_: Any, stored: Any, expected: str
) -> None:
    one = Mutation(object=object_, field=field, sent=sent_, stored=stored)
    found = verdict("gateway.weighted_split", observation(mutations=[one]))
    assert expected in (found.outcome.value, found.reason)
    assert (expected == "mutated" and field.endswith(".image")) == ("--image-prefix" in found.help)


def test_how_long_it_waited_and_which_answers_failed_is_told() -> None:
    waited = GOOD.model_copy(
        update={
            "seconds": 3.2,
            "asked": 14,
            "failed": 2,
            "failures": [
                Failure(at=0.1, status=503),
                Failure(at=1.9, status=0, error="TimeoutError"),
            ],
        }
    )
    seen = changed("gateway.header_rule", RULE.model_copy(update={"settled": waited}))
    told = {one.name: one.value for one in verdict("gateway.header_rule", seen).facts}
    assert told["wait for steady answers"] == (
        "3.2 s after the route was made, 14 requests; 2 failed from 0.1 to 1.9 s: "
        "1 x 503 from no backend of ours, 1 x no answer (TimeoutError)"
    )


def test_a_wait_of_which_no_failed_answer_was_kept_is_told() -> None:
    waited = GOOD.model_copy(update={"seconds": 0.5, "asked": 12, "failed": 2})
    phases = [FIRST, SECOND.model_copy(update={"settled": waited})]
    seen = changed("gateway.weighted_split", Weights(phases=phases))
    told = [one.value for one in verdict("gateway.weighted_split", seen).facts]
    assert told[-1] == "0.5 s after the weights were changed, 12 requests; 2 failed"


def test_a_run_of_the_first_version_passes_nothing_that_it_did_not_count_by_post() -> None:
    """It sent GETs, knew no control and no case, and stored fewer fields."""

    def as_then(one: Any) -> Any:
        new = ("method", "usual", "failed", "other_cases", "others", "looked_seconds")
        if isinstance(one, dict):
            return {key: as_then(value) for key, value in one.items() if key not in new}
        return [as_then(value) for value in one] if isinstance(one, list) else one

    stored = as_then(observation().model_dump(mode="json"))
    good = stored["classes"]["good"]
    for part in ("steady", "delivery", "bodies"):
        del good[part]
    del good["unmatched"]["served"]
    seen = GatewayObservation.model_validate(stored)
    found = {check: ruled(check, seen) for check in PARTS}
    assert found == {
        **dict.fromkeys(PARTS, ("inconclusive", "not_recorded")),
        **dict.fromkeys(
            ("gateway.steady", "gateway.exactly_once", "gateway.bodies"),
            ("not_run", "not_measured"),
        ),
        "gateway.programmed": ("pass", "programmed"),
        "gateway.route_status": ("pass", "status_is_true"),
        "gateway.claimed_features": ("pass", "claims_kept"),
    }


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
        (Slow(why_not="refused"), "a long answer was not tried: refused"),
        (Fault(reason=Reason.TIMEOUT, message="late"), "was not tried: late"),
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
    assert len(way) == 15
    # What was refused arrived nowhere.
    assert len(by_check["gateway.unmatched"].hops) == 4
    produced, through, direct = by_check["gateway.streaming"].series
    assert produced.points[-1] == (3.5, 8)
    assert through.points == direct.points
