"""What is drawn of the user's own stack, and what is left out because nobody saw it."""

from __future__ import annotations

from dataclasses import replace

from kar_checks import profile
from kar_checks.checks.stack.figures import draw
from kar_checks.checks.stack.observation import StackObservation
from kar_checks.model import Figure
from tests.unit.stack.test_judge import (
    ALONE,
    DECODE,
    IDLE,
    PREFILL,
    SENT,
    SILENT,
    TOKENS,
    UNREAD,
    Side,
    answers,
    observed,
)


def drawn(seen: StackObservation) -> dict[str, Figure]:
    settings = profile.load(None, ["stack.url=http://router.serving.svc:8000"])
    return {one.kind: one for one in draw(seen, settings)}


def labels(*sides: Side) -> list[str]:
    return [one.label for one in drawn(observed(*sides))["way"].hops]


def test_the_way_tells_what_was_computed_carried_and_received() -> None:
    way = drawn(observed(PREFILL, DECODE))["way"]
    assert [one.label for one in way.hops] == [
        "20 prompts, 20,000 tokens",
        "tokens: 20,000 computed, 0 received",
        "96.3 MiB carried, 95.4 MiB claimed",
        "tokens: 20 computed, 19,980 received",
        "20 answers",
    ]
    assert [one.heavy for one in way.hops] == [False, False, True, False, False]
    assert [(one.name, one.detail) for one in way.stops] == [
        ("our client", "a pod in the cluster"),
        ("your stack", "router.serving.svc"),
        ("prefill", "1 pod on node-prefill"),
        ("decode", "1 pod on node-decode"),
    ]


def test_decode_that_works_alone_is_drawn_without_a_transfer() -> None:
    way = drawn(observed(IDLE, ALONE))["way"]
    assert [one.label for one in way.hops][1:3] == ["0 requests counted", "1,000 B carried"]
    assert not any(one.heavy for one in way.hops)


def test_what_cannot_be_read_is_called_so() -> None:
    blind = [replace(one, **UNREAD, **SILENT) for one in (PREFILL, DECODE)]
    assert labels(*blind)[1:4] == ["nothing counted", "not seen", "nothing counted"]
    assert "trace" not in drawn(observed(*blind))


def test_each_pod_counts_from_nothing_at_four_moments() -> None:
    trace = drawn(observed(PREFILL, DECODE))["trace"]
    assert trace.unit == "prompt tokens"
    values = {one.name: [value for _, value in one.points] for one in trace.series}
    assert values == {
        "p: computed": [0, 0, 2000, 2000 + TOKENS],
        "d: received": [0, 0, 2000, 2000 + TOKENS - SENT],
        "d: computed": [0, 0, 2, 2 + SENT],
    }


def test_without_token_accounts_requests_are_drawn() -> None:
    pods = [
        replace(one, series={key: v for key, v in one.series.items() if "request" in key[0]})
        for one in (PREFILL, DECODE)
    ]
    trace = drawn(observed(*pods))["trace"]
    assert (trace.unit, [one.name for one in trace.series]) == (
        "requests",
        ["p: requests", "d: requests"],
    )


def test_many_pods_of_a_phase_are_drawn_as_their_sum() -> None:
    pods = [replace(DECODE, name=f"d{number}") for number in range(3)]
    trace = drawn(observed(PREFILL, *pods))["trace"]
    assert [one.name for one in trace.series] == [
        "p: computed",
        "3 decode pods: received",
        "3 decode pods: computed",
    ]
    assert trace.series[1].points[-1][1] == 3 * (2000 + TOKENS - SENT)


def test_requests_without_an_answer_are_marked() -> None:
    lanes = drawn(observed(PREFILL, DECODE, answers=answers(status=502, text="")))["timeline"].lanes
    assert [lane.spans[0].state for lane in lanes] == ["failed"] * 3 + ["waits"] * 17


def test_nothing_is_drawn_of_a_stack_that_never_answered() -> None:
    assert not drawn(observed(PREFILL, DECODE, answers=[]))
