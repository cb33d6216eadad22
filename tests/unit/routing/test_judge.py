"""What the judge of inference routing makes of every observation, as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.routing.checks import TOPIC
from kar_checks.checks.routing.judge import judge
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
from kar_checks.kit.http_testbed.records import (
    Condition,
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Surroundings,
    Tally,
)
from kar_checks.kit.http_testbed.records import (
    Failure as Bad,
)
from kar_checks.kit.http_testbed.steady import Steady, Watch
from kar_checks.model import Evidence, Fault, Finding, Mutation, Reason, Record

CHECKS = [one.id for one in TOPIC.checks]
MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
A, B, C = "routing-a", "routing-b", "routing-c"
OURS = "example.org/controller"
Ruled = tuple[str, str]


def said(kind: str, status: str = "True") -> Condition:
    return Condition(type=kind, status=status, reason=kind, current=True)


def parent(*conditions: Condition, controller: str = OURS) -> list[Parent]:
    return [Parent(controller=controller, gateway="g", conditions=list(conditions))]


def sample(a: int, b: int, c: int, counted: dict[str, int] | None = None) -> Sample:
    own = {A: a, B: b, C: c}
    tallies = [Tally(status=200, pod=pod, count=count) for pod, count in own.items() if count]
    return Sample(sent=a + b + c, seconds=1, tallies=tallies, counted=counted or own)


def refused(status: int = 503, count: int = 20, arrived: int = 0) -> Sample:
    tally = Tally(status=status, count=count)
    return Sample(sent=count, seconds=1, tallies=[tally], counted={A: arrived, B: 0, C: 0})


def phase(loaded: str, found: Sample, *, read: int = 60, after: float | None = 0.05) -> Phase:
    return Phase(
        name=f"load on {loaded}" if loaded else "balanced",
        loaded=loaded,
        sample=found,
        decisions=found.sent,
        read=dict.fromkeys((A, B, C), read),
        read_after=dict.fromkeys((A, B, C), after if read else None),
    )


EVEN = sample(52, 47, 51)
GOOD = Settled(settled=True, seconds=1, asked=10, last=[Tally(status=200, pod=A, count=10)])
GATEWAY = GatewaySeen(
    name="g",
    address="192.0.2.1",
    conditions=[said("Accepted"), said("Programmed")],
    attached_routes=3,
    seconds=11,
)


def load(
    on_a: Sample,
    on_b: Sample,
    *,
    balanced: Sample = EVEN,
    held: Any = (),
    before: int = 0,
    **more: Any,
) -> Load:
    phases = [
        phase("", balanced, **more),
        phase(A, on_a, **more),
        phase(B, on_b, **more),
        phase("", balanced, **more),
    ]
    return Load(seed="5eed", first=A, second=B, read_before=before, phases=phases, held=list(held))


NOT_A, NOT_B = sample(0, 77, 73), sample(74, 0, 76)
FOLLOWS = load(NOT_A, NOT_B)
FINE = parent(said("Accepted"), said("ResolvedRefs"))
BAD = parent(said("Accepted"), said("ResolvedRefs", "False"))
STATUS = Status(good=FINE, route=FINE, bad=BAD, bad_traffic=refused(), bad_control=sample(7, 7, 6))


def spread(*hits: tuple[int, int, int], counted: dict[str, int] | None = None) -> Sample:
    """Requests of several prefixes, told by the servers that answered each."""
    tallies = [
        Tally(status=200, pod=pod, revision=str(group), count=count)
        for group, row in enumerate(hits)
        for pod, count in zip((A, B, C), row, strict=True)
        if count
    ]
    own = {pod: sum(one.count for one in tallies if one.pod == pod) for pod in (A, B, C)}
    return Sample(sent=sum(map(sum, hits)), seconds=1, tallies=tallies, counted=counted or own)


def prefixes(first: Sample, repeats: Sample, *, declared: bool = True) -> Prefixes:
    return Prefixes(declared=declared, first=first, repeats=repeats)


HOMES = spread(*[(1, 0, 0), (0, 1, 0)] * 4)
AFFINE = spread(*[(12, 0, 0), (0, 12, 0)] * 4)
PREFIXES = prefixes(HOMES, AFFINE)


def adapters(on_a: Sample, on_b: Sample, *, declared: bool = True) -> Adapters:
    return Adapters(declared=declared, phases=[phase(A, on_a), phase(B, on_b)])


ALL_A, ALL_B = sample(150, 0, 0), sample(0, 150, 0)
ADAPTERS = adapters(ALL_A, ALL_B)
UNREADY = Unready(server=A, before=sample(20, 20, 20), meanwhile=sample(0, 31, 29))
FAILURE = Failure(
    picker="p",
    gone=True,
    close_before=sample(7, 7, 6),
    open_before=sample(7, 7, 6),
    close_after=refused(),
    open_after=sample(7, 7, 6),
    control_after=sample(7, 7, 6),
)
START = 1_790_000_000.0


def watches(*bad: float) -> Steady:
    """Four watches of 8 s with pauses of 2 s between them; requests at some moments fail."""
    found = [
        Watch(
            began=START + 10 * number,
            rate=5,
            answers=[
                (k / 5, 0.02, 503 if 10 * number + k / 5 in bad else 200, A, "") for k in range(40)
            ],
        )
        for number in range(4)
    ]
    return Steady(settled=GOOD, watches=found)


PARTS: dict[str, tuple[str, Record]] = {
    "routing.pool_status": ("status", STATUS),
    "routing.follows_load": ("load", FOLLOWS),
    "routing.prefix_affinity": ("prefixes", PREFIXES),
    "routing.adapter_affinity": ("adapters", ADAPTERS),
    "routing.avoids_unready": ("unready", UNREADY),
    "routing.steady": ("steady", watches()),
    "routing.failure_mode": ("failure", FAILURE),
}
CLASS = ClassObservation(controller=OURS, accepted=True, gateway=GATEWAY, settled=GOOD).model_copy(
    update=dict(PARTS.values())
)


def observation(seen: ClassObservation | Fault | None = CLASS, **more: Any) -> RoutingObservation:
    known: dict[str, Any] = {
        "trial": "routing",
        "evidence": Evidence.SYNTHETIC,
        "started": MOMENT,
        "finished": MOMENT,
        "served": True,
        "picker": "example.org/epp:v1",
        "wanted": "",
        "classes": {} if seen is None else {"good": seen},
    }
    return RoutingObservation(**{**known, **more})


def changed(check: str, part: Record | None) -> RoutingObservation:
    return observation(CLASS.model_copy(update={PARTS[check][0]: part}))


def verdict(check: str, seen: RoutingObservation) -> Finding:
    (found,) = judge(check, seen, profile.default())
    return found


def ruled(check: str, seen: RoutingObservation) -> Ruled:
    found = verdict(check, seen)
    return found.outcome.value, found.reason


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_right_passes_with_its_numbers(check: str) -> None:
    found = verdict(check, observation())
    assert (found.outcome.value, found.variant) == ("pass", "good")
    assert found.facts
    assert found.would_change


@pytest.mark.parametrize("check", CHECKS)
def test_each_class_that_was_named_has_its_verdict(check: str) -> None:
    found = judge(check, observation(wanted="good, mispelt"), profile.default())
    ruled = {one.variant: (one.outcome.value, one.reason) for one in found}
    assert ruled["mispelt"] == ("inconclusive", "no_gateway_class")
    assert ruled["good"][0] == "pass"


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_no_verdict(check: str) -> None:
    assert ruled(check, observation(None)) == ("inconclusive", "no_gateway_class")
    assert ruled(check, observation(None, served=False)) == (
        "inconclusive",
        "no_inference_pool_api",
    )
    fault = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image")
    assert ruled(check, observation(fault)) == ("error", "image_unavailable")
    assert ruled(check, changed(check, fault)) == ("error", "image_unavailable")
    assert ruled(check, changed(check, None)) == ("not_run", "not_measured")
    refusing = observation(CLASS.model_copy(update={"accepted": False}))
    assert ruled(check, refusing) == ("inconclusive", "class_not_accepted")
    without = observation(CLASS.model_copy(update={"gateway": None}))
    assert ruled(check, without) == ("inconclusive", "no_gateway")
    mutation = Mutation(object="InferencePool/x", field="spec.selector")
    assert ruled(check, observation(mutations=[mutation])) == ("inconclusive", "mutated")


@pytest.mark.parametrize("check", [one for one in CHECKS if one != "routing.pool_status"])
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (Tally(status=0, error="TimeoutError", count=3), ("inconclusive", "gateway_not_reached")),
        (Tally(status=500, count=20), ("fail", "not_routed")),
        (Tally(status=200, count=20), ("fail", "answered_by_another")),
    ],
)
def test_a_pool_that_never_serves(check: str, last: Tally, expected: Ruled) -> None:
    never = Settled(settled=False, seconds=60, asked=100, last=[last])
    seen = observation(CLASS.model_copy(update={"settled": never}))
    assert ruled(check, seen) == expected


UNSUPPORTED = ("inconclusive", "pool_not_supported")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"good": []}, UNSUPPORTED),
        (
            {"good": parent(said("Accepted"), controller="x")},
            ("inconclusive", "pool_not_supported"),
        ),
        ({"good": BAD}, ("fail", "good_pool_refused")),
        ({"good": parent(said("ResolvedRefs"))}, ("fail", "good_pool_refused")),
        ({"bad": FINE}, ("fail", "missing_picker_resolved")),
        ({"bad": []}, ("fail", "missing_picker_resolved")),
        ({"bad": None}, ("pass", "status_is_true")),
        ({"bad_traffic": None}, ("inconclusive", "not_observed")),
        ({"bad_traffic": sample(20, 0, 0)}, ("fail", "answered_without_picker")),
        ({"bad_traffic": refused(arrived=1)}, ("fail", "answered_without_picker")),
        ({"bad_traffic": refused(0)}, ("inconclusive", "not_refused")),
        # A gateway that is out of order gives errors to everybody.
        ({"bad_control": refused()}, ("inconclusive", "not_all_answered")),
        ({"bad_control": None}, ("inconclusive", "not_recorded")),
    ],
)
def test_the_status_of_pools(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("routing.pool_status", STATUS.model_copy(update=change))
    assert ruled("routing.pool_status", seen) == expected


SLOW = [phase(A, sample(7, 72, 71), read=0), phase(B, sample(71, 7, 72), read=0)]
SLOW_KEPT = [phase(A, sample(30, 30, 30), read=0), phase(B, sample(30, 30, 30), read=0)]
ALWAYS_A = sample(150, 0, 0)
ALWAYS_B = sample(0, 150, 0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (load(EVEN, EVEN), ("fail", "no_reaction")),
        (load(NOT_A, EVEN), ("fail", "one_sided_reaction")),
        (load(sample(30, 60, 60), sample(60, 30, 60)), ("fail", "no_reaction")),
        (load(ALWAYS_A, ALWAYS_A, balanced=ALWAYS_A), ("fail", "always_the_same_server")),
        (load(ALWAYS_B, ALWAYS_B, balanced=ALWAYS_B), ("fail", "always_the_same_server")),
        (load(NOT_A, NOT_B, balanced=sample(75, 73, 2)), ("inconclusive", "uneven_without_load")),
        (load(EVEN, EVEN, after=8.0), ("fail", "stale_reports")),
        (load(EVEN, EVEN, after=None), ("fail", "stale_reports")),
        (load(EVEN, EVEN, read=0), ("inconclusive", "not_observed")),
        (load(EVEN, EVEN, read=0, held=SLOW), ("pass", "follows_own_count")),
        (load(EVEN, EVEN, read=0, held=SLOW_KEPT), ("fail", "load_is_ignored")),
        (load(EVEN, EVEN, read=0, held=SLOW_KEPT, before=3), ("fail", "stale_reports")),
        (load(EVEN, EVEN, read=0, held=SLOW, before=3), ("pass", "follows_own_count")),
        (load(NOT_A, NOT_B, read=0), ("pass", "follows_reported_load")),
        (load(refused(503, 150), NOT_B), ("inconclusive", "not_all_answered")),
        (
            load(NOT_A, sample(74, 0, 76, {A: 76, B: 0, C: 74})),
            ("inconclusive", "identity_disagrees"),
        ),
    ],
)
def test_load(found: Load, expected: Ruled) -> None:
    assert ruled("routing.follows_load", changed("routing.follows_load", found)) == expected


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        (None, ("pass", "follows_reported_load")),
        (149, ("inconclusive", "picks_differ")),
        (0, ("inconclusive", "picks_differ")),
        (151, ("inconclusive", "picks_differ")),
    ],
)
def test_picks_must_be_as_many_as_requests(decisions: int | None, expected: Ruled) -> None:
    last = FOLLOWS.phases[-1].model_copy(update={"decisions": decisions})
    found = FOLLOWS.model_copy(update={"phases": [*FOLLOWS.phases[:-1], last]})
    assert ruled("routing.follows_load", changed("routing.follows_load", found)) == expected


def test_a_failure_names_the_picker_and_no_negative_fall() -> None:
    found = verdict("routing.follows_load", changed("routing.follows_load", load(EVEN, EVEN)))
    assert "the endpoint picker reads their load reports and ignores them" in found.broken
    facts = {one.name: one.value for one in found.facts}
    assert "no fall beyond chance" in facts[f"{A}: share with load, and without"]
    built_in = changed("routing.follows_load", load(EVEN, EVEN))
    built_in = built_in.model_copy(update={"picker": "built-in"})
    assert "built-in picker" in verdict("routing.follows_load", built_in).broken


def test_the_numbers_of_a_verdict_on_load_are_told() -> None:
    facts = {one.name: one for one in verdict("routing.follows_load", observation()).facts}
    assert "5eed" in facts["order of the phases"].source
    fall = facts[f"{A}: share with load, and without"].value
    assert "0 of 150" in fall
    assert "p = " in fall
    assert "0.05 s" in facts[f"load on {A}"].value
    assert "150 picks" in facts[f"load on {A}"].value


ANYWHERE = spread(*[(4, 4, 4), (4, 5, 3)] * 4)
HALF = spread(*[(8, 2, 2), (2, 7, 3)] * 4)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (PREFIXES, ("pass", "same_prefix_same_server")),
        (prefixes(HOMES, ANYWHERE), ("fail", "no_affinity")),
        (prefixes(HOMES, ANYWHERE, declared=False), ("not_applicable", "no_affinity_offered")),
        (
            prefixes(spread(*[(1, 0, 0)] * 8), spread(*[(12, 0, 0)] * 8)),
            ("fail", "all_on_one_server"),
        ),
        (prefixes(spread((1, 0, 0)), spread((6, 0, 0))), ("inconclusive", "too_few_requests")),
        (prefixes(HOMES, HALF), ("inconclusive", "too_few_requests")),
        (prefixes(refused(), AFFINE), ("inconclusive", "not_all_answered")),
        (prefixes(HOMES, refused()), ("inconclusive", "not_all_answered")),
        (
            prefixes(HOMES, spread((12, 0, 0), counted={A: 0, B: 12, C: 0})),
            ("inconclusive", "identity_disagrees"),
        ),
    ],
)
def test_prefixes(found: Prefixes, expected: Ruled) -> None:
    seen = changed("routing.prefix_affinity", found)
    assert ruled("routing.prefix_affinity", seen) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ADAPTERS, ("pass", "follows_adapters")),
        (adapters(ALL_A, ALL_B, declared=False), ("pass", "follows_adapters")),
        (adapters(EVEN, EVEN), ("fail", "adapter_ignored")),
        (adapters(EVEN, EVEN, declared=False), ("not_applicable", "no_adapters_offered")),
        (adapters(ALL_A, ALL_A), ("fail", "adapter_ignored")),
        (adapters(sample(6, 0, 0), sample(0, 6, 0)), ("inconclusive", "too_few_requests")),
        (adapters(refused(), ALL_B), ("inconclusive", "not_all_answered")),
        (
            adapters(ALL_A, sample(0, 150, 0, counted={A: 150, B: 0, C: 0})),
            ("inconclusive", "identity_disagrees"),
        ),
        (
            ADAPTERS.model_copy(
                update={"phases": [phase(A, ALL_A).model_copy(update={"decisions": 149})]}
            ),
            ("inconclusive", "picks_differ"),
        ),
    ],
)
def test_adapters(found: Adapters, expected: Ruled) -> None:
    seen = changed("routing.adapter_affinity", found)
    assert ruled("routing.adapter_affinity", seen) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("pass", "unready_is_avoided")),
        ({"meanwhile": sample(20, 20, 20)}, ("fail", "reached_unready_server")),
        ({"meanwhile": refused(arrived=1)}, ("fail", "reached_unready_server")),
        ({"meanwhile": refused()}, ("inconclusive", "not_all_answered")),
        ({"before": sample(0, 30, 30)}, ("inconclusive", "server_got_nothing_before")),
        ({"before": refused()}, ("inconclusive", "not_all_answered")),
    ],
)
def test_an_unready_server(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("routing.avoids_unready", UNREADY.model_copy(update=change))
    assert ruled("routing.avoids_unready", seen) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("pass", "fails_as_it_says")),
        ({"gone": False}, ("inconclusive", "picker_not_gone")),
        ({"close_after": None}, ("inconclusive", "picker_not_gone")),
        ({"close_before": refused()}, ("inconclusive", "not_all_answered")),
        ({"open_before": refused()}, ("inconclusive", "not_all_answered")),
        ({"close_after": sample(7, 7, 6)}, ("fail", "closed_pool_answers")),
        ({"close_after": refused(arrived=1)}, ("fail", "closed_pool_answers")),
        ({"open_after": refused()}, ("fail", "open_pool_refuses")),
        ({"close_after": refused(0)}, ("inconclusive", "not_refused")),
        ({"control_after": refused()}, ("inconclusive", "not_all_answered")),
        (
            {"control_after": refused(), "open_after": refused()},
            ("inconclusive", "not_all_answered"),
        ),
        ({"control_after": None}, ("inconclusive", "not_recorded")),
    ],
)
def test_without_its_picker(change: dict[str, Any], expected: Ruled) -> None:
    seen = changed("routing.failure_mode", FAILURE.model_copy(update=change))
    assert ruled("routing.failure_mode", seen) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (watches(4.0), ("inconclusive", "one_outage")),
        (watches(4.0, 6.8), ("inconclusive", "one_outage")),
        (watches(4.0, 15.0), ("fail", "outages")),
        # The gap between two watches is no time of good answers, but longer ones are.
        (watches(7.8, 10.0), ("inconclusive", "one_outage")),
    ],
)
def test_outages_between_samples(found: Steady, expected: Ruled) -> None:
    assert ruled("routing.steady", changed("routing.steady", found)) == expected


def test_outages_within_samples_count_as_those_between_them() -> None:
    bad = EVEN.model_copy(update={"began": START + 20, "failures": [Bad(at=0.5, status=503)]})
    one = CLASS.model_copy(update={"load": load(NOT_A, NOT_B, balanced=bad)})
    assert ruled("routing.steady", observation(one)) == ("inconclusive", "one_outage")
    more = one.model_copy(update={"steady": watches(4.0)})
    assert ruled("routing.steady", observation(more)) == ("fail", "outages")


def test_a_policy_of_the_network_explains_servers_that_nobody_reaches() -> None:
    around = Surroundings(policies=["NetworkPolicy deny-in"], unreached=[A, B, C])
    fault = Fault(reason=Reason.POD_FAILED, message="does not answer its client directly")
    seen = observation(fault, around=around)
    assert ruled("routing.follows_load", seen) == ("inconclusive", "network_policy")
    assert "NetworkPolicy deny-in" in verdict("routing.follows_load", seen).summary


def test_a_request_that_had_to_be_sent_again_may_have_been_picked_twice() -> None:
    again = NOT_B.model_copy(update={"again": 1})
    last = phase(B, again).model_copy(update={"decisions": 151})
    phases = [last if one.loaded == B else one for one in FOLLOWS.phases]
    found = FOLLOWS.model_copy(update={"phases": phases})
    seen = changed("routing.follows_load", found)
    assert ruled("routing.follows_load", seen) == ("pass", "follows_reported_load")


def test_a_built_in_picker_cannot_be_missing() -> None:
    none = CLASS.model_copy(update={"failure": None})
    seen = observation(none, picker="built-in")
    assert ruled("routing.failure_mode", seen) == ("not_applicable", "built_in_picker")
