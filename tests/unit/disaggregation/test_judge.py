"""What the judge of disaggregated serving makes of every observation, as tables."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.disaggregation.checks import TOPIC
from kar_checks.checks.disaggregation.judge import judge
from kar_checks.checks.disaggregation.observation import DisaggregationObservation, Policy
from kar_checks.model import Evidence, Finding, Mutation, OtherRun
from tests.unit.disaggregation import cases
from tests.unit.disaggregation.cases import (
    ANSWERED,
    CORRUPTED,
    DECODE,
    FAULT,
    INTERFACES,
    LOSS,
    MAIN,
    PARTS,
    PODS,
    SCALING,
    SIZE,
    STRAIGHT,
    batch,
    counted,
    local,
    moved,
    pod,
    pulsed,
    refused,
    request,
    seen,
    without,
)

CHECKS = [one.id for one in TOPIC.checks]
PASSES = {
    "separate_pods": "separate",
    "state_transferred": "transferred",
    "request_ids": "followed",
    "correct_output": "right",
    "concurrency": "kept_apart",
    "streaming": "streamed",
    "decode_scaling": "scaled",
    "prefill_lost": "clear_error",
    "corrupted_block": "refused",
}


def rule(check: str, observed: DisaggregationObservation, **settings: float) -> Finding:
    used = profile.default()
    for name, value in settings.items():
        setting = profile.Setting(value=value, origin="test", date=date(2026, 11, 22))
        used.settings[f"disaggregation.{name}"] = setting
    (found,) = judge(f"disaggregation.{check}", observed, used)
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_all_went_well(check: str) -> None:
    found = rule(check.partition(".")[2], seen())
    assert (found.outcome, found.reason) == ("pass", PASSES[check.partition(".")[2]])
    assert found.evidence is Evidence.SYNTHETIC
    assert found.would_change
    assert found.facts


@pytest.mark.parametrize("check", CHECKS)
def test_what_was_not_measured_is_no_verdict(check: str) -> None:
    for part in judge.rules[check].parts:
        name = check.partition(".")[2]
        assert rule(name, seen(**{part: None})).outcome == "not_run"
        found = rule(name, seen(**{part: FAULT}))
        assert (found.outcome, found.reason) == ("error", "image_unavailable")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "field",
    [
        "spec.template.spec.containers[server].command[1]",
        "spec.containers[istio-proxy]",
        "spec.initContainers[istio-init]",
        "spec.containers[server].env[KAR_PORT].value",
    ],
)
def test_another_program_in_the_pods_proves_nothing(check: str, field: str) -> None:
    changed = [Mutation(object="Pod/d1", field=field, sent="a", stored="b")]
    found = rule(check.partition(".")[2], seen(mutations=changed))
    assert (found.outcome, found.reason) == ("inconclusive", "mutated")


@pytest.mark.parametrize(
    "field",
    ["metadata.labels.team", "spec.containers[server].resources.requests.cpu", "spec.selector.x"],
)
def test_other_changes_do_no_harm(field: str) -> None:
    changed = [Mutation(object="Pod/d1", field=field, sent="a", stored="b")]
    assert rule("separate_pods", seen(mutations=changed)).outcome == "pass"


SURVIVORS = [request(0), request(1), *(refused(n, "kv_transfer_failed") for n in range(2, 16))]
"""Two of sixteen were answered: the transfers of the others broke."""
TIMED_OUT = [*(request(number) for number in range(4)), request(4, status=0, error="timed out")]


@pytest.mark.parametrize(
    ("check", "requests", "expected"),
    [
        ("separate_pods", SURVIVORS, "inconclusive not_all_answered"),
        ("state_transferred", SURVIVORS, "fail transfer_failed"),
        ("request_ids", SURVIVORS, "inconclusive not_all_answered"),
        ("correct_output", SURVIVORS, "fail no_answer"),
        ("concurrency", SURVIVORS, "fail no_answer"),
        ("separate_pods", TIMED_OUT, "inconclusive not_all_answered"),
        ("state_transferred", TIMED_OUT, "inconclusive not_all_answered"),
        ("request_ids", TIMED_OUT, "inconclusive not_all_answered"),
    ],
)
def test_the_answered_requests_do_not_speak_for_the_others(
    check: str, requests: list[Any], expected: str
) -> None:
    found = rule(check, seen(main=batch(*requests), concurrent=batch(*requests)))
    assert f"{found.outcome} {found.reason}" == expected
    if check == "state_transferred":
        assert f"{len(requests)} requests" in found.summary


def twice(number: int, *phases: str) -> Any:
    sound = request(number)
    return request(number, phases=[*sound.phases, *(sound.of(one)[0] for one in phases)])


@pytest.mark.parametrize("again", [("prefill",), ("handover",), ("prefill", "handover")])
@pytest.mark.parametrize("check", ["request_ids", "concurrency"])
def test_a_request_that_was_worked_on_twice_is_not_followed(
    check: str, again: tuple[str, ...]
) -> None:
    requests = batch(request(0), twice(1, *again))
    found = rule(check, seen(main=requests, concurrent=requests))
    assert (found.outcome, found.reason) == ("fail", "moved_twice")


UNANSWERED = batch(refused(0), refused(1))
NAMELESS = [one.model_copy(update={"lines_without_id": 8}) for one in PODS]
BLANK = batch(*(request(number, phases=[]) for number in range(4)))
SWAPPED = [pod("p1", "prefill", "n1", role="decode"), pod("d1", "decode", "n2", role="prefill")]
SAME_NODE = [pod("p1", "prefill", "n2"), pod("d1", "decode", "n2")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"main": UNANSWERED}, "inconclusive nothing_answered"),
        ({"main": batch(request(0), without(1, "prefill"))}, "fail no_prefill"),
        ({"main": BLANK}, "fail no_prefill"),
        ({"main": batch(request(0), without(1, "decode"))}, "inconclusive ids_not_logged"),
        (
            {"main": batch(without(0, "decode"), without(1, "decode"))},
            "inconclusive ids_not_logged",
        ),
        ({"main": BLANK, "pods": NAMELESS}, "inconclusive ids_not_logged"),
        ({"main": batch(request(0), moved(1, "prefill", "d1"))}, "fail same_pod"),
        ({"pods": SWAPPED}, "fail labels_contradict_phases"),
        (
            {"pods": [pod("p1", "prefill", "n1", role=""), PODS[1]]},
            "inconclusive role_label_missing",
        ),
        ({"pods": SAME_NODE}, "fail same_node"),
        ({"pods": SAME_NODE, "nodes_usable": 1}, "inconclusive same_node"),
        ({"pods": SAME_NODE, "nodes_usable": None}, "inconclusive same_node"),
    ],
)
def test_separate_pods(changes: dict[str, Any], expected: str) -> None:
    found = rule("separate_pods", seen(**changes))
    assert f"{found.outcome} {found.reason}" == expected


def carried(prefill: int, decode: int) -> dict[str, Any]:
    changed = [
        INTERFACES[0].model_copy(update={"sent": prefill}),
        INTERFACES[1].model_copy(update={"received": decode}),
    ]
    return {"main": MAIN.model_copy(update={"interfaces": changed})}


NONE_MOVED = counted(prefill={"sent": 0.0}, decode={"received": 0.0})
CONTROL_MOVED = STRAIGHT.model_copy(update={"counters": [DECODE]})
CONTROL_PREFILLED = STRAIGHT.model_copy(update={"requests": [request(10)]})
CONTROL_BLIND = STRAIGHT.model_copy(update={"counters": []})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"main": UNANSWERED}, "inconclusive nothing_answered"),
        ({"main": counted(decode={"reset": True})}, "inconclusive counters_reset"),
        ({"main": counted(decode={"cached_tokens": 1.0})}, "inconclusive served_from_cache"),
        ({"main": NONE_MOVED}, "fail nothing_transferred"),
        ({"main": counted(decode={"received": 4.0 * SIZE - 1})}, "fail bytes_missing"),
        ({"main": counted(prefill={"sent": 3.0 * SIZE})}, "fail bytes_missing"),
        (
            {"main": counted(prefill={"sent": None}, decode={"sent": None})},
            "inconclusive metric_missing",
        ),
        ({"main": MAIN.model_copy(update={"interfaces": []})}, "inconclusive metric_missing"),
        ({"main": MAIN, "interface": "net1"}, "inconclusive metric_missing"),
        ({"main": MAIN, "interface": "eth0"}, "pass transferred"),
        (carried(5 * SIZE, 2 * SIZE), "fail interface_disagrees"),
        (carried(0, 5 * SIZE), "fail interface_disagrees"),
        ({"main": counted(decode={"received": 8.0 * SIZE})}, "fail moved_twice"),
        ({"main": counted(prefill={"sent": 8.0 * SIZE})}, "fail moved_twice"),
        (carried(8 * SIZE, 4 * SIZE), "fail moved_twice"),
        (carried(4 * SIZE, 8 * SIZE), "fail moved_twice"),
        (carried(5 * SIZE, 5 * SIZE), "pass transferred"),
        ({"straight": batch(refused(10), refused(11))}, "inconclusive control_unanswered"),
        ({"straight": batch()}, "inconclusive control_unanswered"),
        ({"straight": CONTROL_MOVED}, "inconclusive control_transferred"),
        ({"straight": CONTROL_PREFILLED}, "inconclusive control_transferred"),
        ({"straight": CONTROL_BLIND}, "inconclusive control_transferred"),
    ],
)
def test_state_transferred(changes: dict[str, Any], expected: str) -> None:
    found = rule("state_transferred", seen(**changes))
    assert f"{found.outcome} {found.reason}" == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "transferred"),
        ({"min_mib_per_second": 100}, "transferred"),
        ({"min_mib_per_second": 200}, "too_slow"),
        ({"max_transfer_seconds": 0.6}, "transferred"),
        ({"max_transfer_seconds": 0.4}, "too_slow"),
    ],
)
def test_rate_and_latency_are_judged_only_on_the_wish_of_the_profile(
    settings: dict[str, float], expected: str
) -> None:
    found = rule("state_transferred", seen(), **settings)
    assert found.reason == expected
    assert any("128 MiB/s" in one.value for one in found.facts)


TWICE = request(
    1, phases=[*request(1).phases, request(1).of("prefill")[0].model_copy(update={"pod": "p2"})]
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"main": UNANSWERED}, "inconclusive nothing_answered"),
        ({"main": batch(request(0), without(1, "prefill"))}, "fail id_missing"),
        ({"main": batch(request(0), without(1, "decode"))}, "fail id_missing"),
        ({"main": batch(request(0), TWICE)}, "fail id_in_several"),
        ({"main": BLANK, "pods": NAMELESS}, "inconclusive ids_not_logged"),
        ({"main": BLANK}, "fail id_missing"),
    ],
)
def test_request_ids(changes: dict[str, Any], expected: str) -> None:
    found = rule("request_ids", seen(**changes))
    assert f"{found.outcome} {found.reason}" == expected


def control(part: str, *requests: Any) -> dict[str, Any]:
    return {part: batch(*requests)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"main": batch(request(0), local(1))}, "fail wrong_answer"),
        ({"main": UNANSWERED}, "fail no_answer"),
        ({"main": batch()}, "inconclusive nothing_sent"),
        ({"main": NONE_MOVED}, "fail right_without_transfer"),
        ({"main": counted(decode={"received": 3.0 * SIZE})}, "fail right_without_transfer"),
        (carried(5 * SIZE, 0), "fail right_without_transfer"),
        ({"main": counted(decode={"cached_tokens": 9.0})}, "inconclusive served_from_cache"),
        ({"main": counted(decode={"reset": True})}, "inconclusive counters_reset"),
        ({"main": MAIN.model_copy(update={"interfaces": []})}, "inconclusive metric_missing"),
        (control("straight"), "inconclusive control_unanswered"),
        (control("straight", request(10)), "inconclusive control_answered_right"),
        (control("straight", refused(10)), "inconclusive control_unanswered"),
        (control("without_prefill", request(20)), "inconclusive control_answered_right"),
        (control("without_prefill", local(20)), "pass right"),
        (
            {"policy": Policy(enforced=True, seconds=1, request=request(70))},
            "inconclusive control_answered_right",
        ),
        ({"policy": Policy(enforced=True, seconds=1, request=refused(70))}, "pass right"),
        (
            {"policy": Policy(enforced=True, seconds=1, request=request(70), held=False)},
            "inconclusive policy_did_not_hold",
        ),
        # Who enforces policies was not told of ours while the API server hung.
        (
            {"policy": Policy(enforced=False, seconds=9, window=pulsed(9, 0, 8))},
            "inconclusive window_too_short",
        ),
        ({"policy": Policy(enforced=False, seconds=4.2)}, "inconclusive not_recorded"),
    ],
)
def test_correct_output(changes: dict[str, Any], expected: str) -> None:
    found = rule("correct_output", seen(**changes))
    assert f"{found.outcome} {found.reason}" == expected


def test_pace_beside_another_run_fails_nobody() -> None:
    slow = {"disaggregation.max_transfer_seconds": 0.001}
    limits = profile.load(None, [f"{key}={value}" for key, value in slow.items()])
    alone = seen()
    beside = alone.model_copy(update={"beside": [OtherRun(id="20261101-000000-aaaa")]})
    found = [judge("disaggregation.state_transferred", one, limits)[0] for one in (alone, beside)]
    assert [one.reason for one in found] == ["too_slow", "other_run"]


def test_it_is_told_whether_policies_are_enforced() -> None:
    enforced = Policy(enforced=True, seconds=1, request=refused(70))
    told = [
        rule("correct_output", seen(policy=one)).facts[-1].value
        for one in (enforced, Policy(enforced=False, seconds=4.2, window=pulsed(4.2)))
    ]
    assert [one.startswith("enforced") for one in told] == [True, False]


def test_every_control_that_was_answered_right_is_named() -> None:
    policy = Policy(enforced=True, seconds=1, request=request(70))
    found = rule("correct_output", seen(policy=policy, without_prefill=batch(request(20))))
    assert found.summary.startswith(
        "requests without a prefill pod and with prefill shut off by a NetworkPolicy also got "
        "the right answer"
    )


def decoded(number: int, size: int) -> Any:
    sound = request(number)
    phases = [
        one.model_copy(update={"bytes": size}) if one.phase == "decode" else one
        for one in sound.phases
    ]
    return request(number, phases=phases)


LATE = [request(0), request(1, text=request(0).text), request(2, text=request(1).text)]
ALONE = [request(number, at=100.0 + 2 * number) for number in range(4)]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (LATE, "fail answers_mixed"),
        ([request(0), local(1)], "fail wrong_answer"),
        ([request(0), refused(1)], "fail no_answer"),
        ([request(0), request(1, error="the stream ended before [DONE]")], "fail no_answer"),
        ([request(0), without(1, "decode")], "fail id_in_several"),
        (ALONE, "inconclusive not_concurrent"),
        ([request(0), decoded(1, SIZE // 2)], "fail bytes_missing"),
        ([request(0), decoded(1, 0)], "fail bytes_missing"),
        ([request(0), decoded(1, 2 * SIZE)], "fail moved_twice"),
    ],
)
def test_concurrency(requests: list[Any], expected: str) -> None:
    found = rule("concurrency", seen(concurrent=batch(*requests)))
    assert f"{found.outcome} {found.reason}" == expected


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([request(0, parts=PARTS), request(1, parts=[0.8] * 16)], "fail not_streamed"),
        ([request(0, parts=[]), request(1, parts=PARTS)], "fail not_streamed"),
        ([request(0, parts=PARTS, text="cut", error="ended early")], "fail no_answer"),
        ([local(0, parts=PARTS)], "fail wrong_answer"),
    ],
)
def test_streaming(requests: list[Any], expected: str) -> None:
    found = rule("streaming", seen(streamed=batch(*requests)))
    assert f"{found.outcome} {found.reason}" == expected


def test_without_a_pace_streaming_cannot_be_seen() -> None:
    found = rule("streaming", seen(), token_seconds=0)
    assert (found.outcome, found.reason) == ("inconclusive", "no_pace")


def scaled(*requests: Any) -> dict[str, Any]:
    several = [*SCALING.batch.requests, *requests]
    return {"batch": SCALING.batch.model_copy(update={"requests": several})}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"served_seconds": None}, "fail new_pod_not_used"),
        ({"added_served": 0}, "fail new_pod_not_used"),
        (scaled(local(70)), "fail wrong_answer"),
        (scaled(refused(70)), "fail no_answer"),
        ({"batch": batch(*ANSWERED)}, "inconclusive too_few_requests"),
    ],
)
def test_decode_scaling(changes: dict[str, Any], expected: str) -> None:
    found = rule("decode_scaling", seen(scaling=SCALING.model_copy(update=changes)))
    assert f"{found.outcome} {found.reason}" == expected


WRONG = {"text": "something else"}
HANGS = {"status": 0, "text": "", "error": "TimeoutError: timed out"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"began": False}, "inconclusive not_interrupted"),
        ({"request": request(60)}, "inconclusive not_interrupted"),
        ({"request": local(60)}, "pass declared_fallback"),
        ({"request": request(60, **WRONG)}, "fail silent_wrong_answer"),
        ({"request": request(60, **HANGS)}, "fail no_clear_error"),
        ({"request": request(60, **WRONG, error="the stream ended")}, "fail no_clear_error"),
    ],
)
def test_prefill_lost(changes: dict[str, Any], expected: str) -> None:
    found = rule("prefill_lost", seen(loss=LOSS.model_copy(update=changes)))
    assert f"{found.outcome} {found.reason}" == expected


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([request(40, **WRONG), request(41)], "fail corrupted_accepted"),
        ([request(40), request(41)], "inconclusive not_corrupted"),
        ([refused(40, "kv_gone"), request(41)], "inconclusive refused_otherwise"),
        ([refused(40), refused(41)], "inconclusive control_failed"),
        ([refused(40), local(41)], "inconclusive control_failed"),
    ],
)
def test_corrupted_block(requests: list[Any], expected: str) -> None:
    spoiled = CORRUPTED.model_copy(update={"requests": requests})
    found = rule("corrupted_block", seen(corrupted=spoiled))
    assert f"{found.outcome} {found.reason}" == expected


def test_the_sample_is_what_the_checks_are_about() -> None:
    assert cases.SIZE == 64 << 20
    assert set(judge.rules) == set(CHECKS)
