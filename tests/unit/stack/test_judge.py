"""What the judge of the user's own stack makes of every observation, as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.stack.checks import TOPIC
from kar_checks.checks.stack.engines import Role, Sample
from kar_checks.checks.stack.judge import judge
from kar_checks.checks.stack.observation import (
    Answer,
    Asked,
    Batch,
    Counters,
    LogCount,
    StackObservation,
    StackPod,
    Step,
    Traffic,
)
from kar_checks.checks.stack.proof import Grade, Proof, evidence, size
from kar_checks.model import Finding
from probes import stack_client

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
MOMENTS = ("first", "quiet", "before", "after")
SENT = 20
LENGTHS = {True: 667, False: 1333}
"""Tokens of short and of long prompts."""
TOKENS = SENT * 1000
QUIET, ASKED_AT = 4, 6
"""Windows without requests, and the first window with one."""
TURNS = [
    *([Asked(status=200, words=500, prompt_tokens=LENGTHS[False])] for _ in range(2)),
    *(
        [
            Asked(status=200, words=500, prompt_tokens=LENGTHS[short], short=short)
            for _, short in turn
        ]
        for turn in stack_client.plan(SENT, 4)
    ),
]
"""The requests of each window: two to warm up, twelve one by one, two times four at once."""
STEPS = [
    Step(did="other"),
    *(Step(did="nothing") for _ in range(QUIET)),
    Step(did="other"),
    *(Step(did="asked", requests=one) for one in TURNS),
    Step(did="nothing"),
]
SHARES = [sum(one.tokens for one in turn) for turn in TURNS]
Carry = Callable[[int, list[Asked]], float]
"""Bytes of one window with requests, by its number and its requests."""


def window(step: Step, number: int, total: float, carry: Carry | None) -> float:
    """Return the bytes of one window: by ``carry``, or the part of the prompts in the total."""
    if step.did != "asked":
        return 0
    turn = number - ASKED_AT
    if carry is not None:
        return carry(turn, step.requests)
    return total * SHARES[turn] / sum(SHARES)


KV = 100_000_000
REQUESTS = "vllm:request_success_total"
BY_SOURCE = "vllm:prompt_tokens_by_source_total"
BYTES = "vllm:nixl_bytes_transferred_sum"
Series = dict[tuple[str, str], tuple[float, float, float, float]]
"""(metric, source) to its value at each moment."""


@dataclass(frozen=True)
class Side:
    """One pod: what it exports at each moment, and what else is known of it."""

    name: str
    role: Role
    series: Series
    received: int | None = 0
    sent: int | None = 0
    carry: Carry | None = None
    """What it carries in each window instead of a part of the total."""
    others: Carry = lambda number, _: 0
    """What it carries beside it in any window, without requests as well."""
    to: str = ""
    """The pod with which its open connections carried all."""
    ids: range = range(SENT)
    starts: tuple[float, float, float, float] = (1, 1, 1, 1)
    families: tuple[str, ...] = ("process_", "vllm:")
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    def pod(self) -> StackPod:
        counters = {
            moment: Counters(
                endpoint="10.0.0.1:8000/metrics",
                families=list(self.families),
                samples=[
                    Sample(name="process_start_time_seconds", value=self.starts[at]),
                    *(
                        Sample(
                            name=metric,
                            labels={"source": source} if source else {},
                            value=values[at],
                        )
                        for (metric, source), values in self.series.items()
                    ),
                ],
            )
            for at, moment in enumerate(MOMENTS)
        }
        traffic: dict[str, Any] = {"traffic_why_not": "no cat"}
        if self.received is not None and self.sent is not None:
            readings = self.readings(self.received, self.sent)
            traffic = {
                "traffic_before": readings[0],
                "traffic_after": readings[-1],
                "readings": readings,
            }
        fields: dict[str, Any] = {
            "name": self.name,
            "uid": f"uid-{self.name}",
            "role": self.role,
            "role_by": f"llm-d.ai/role={self.role}",
            "node": f"node-{self.role}",
            "images": ["example.org/vllm:1"],
            "restarts": 0,
            "restarts_after": 0,
            "ready_after": True,
            "log": LogCount(lines=100, ids=list(self.ids)),
            "version": '{"version": "0.11.0"}',
            **counters,
            **traffic,
        }
        return StackPod.model_validate({**fields, **self.more})

    def readings(self, received: int, sent: int) -> list[Traffic]:
        out: list[Traffic] = []
        got, gave, kept = 1000.0, 1000.0, 0.0
        for number, step in enumerate(STEPS):
            if number:
                beside = self.others(number, step.requests)
                more = window(step, number, received, self.carry)
                got += beside + more * (self.role != "prefill")
                gave += beside + (
                    more
                    if self.carry and self.role == "prefill"
                    else window(step, number, sent, None)
                )
                kept += more if self.role != "prefill" else window(step, number, sent, self.carry)
            peers = {self.to: (round(kept), round(kept))} if self.to else None
            out.append(
                Traffic(
                    received=round(got),
                    sent=round(gave),
                    devices=["eth0"],
                    at=5000.0 + number,
                    peers=peers,
                )
            )
        return out


def counted(total: float, warm: float = 0) -> tuple[float, float, float, float]:
    """A counter that was at 7 before: two warm-up requests, then the batch."""
    return (7, 7, 7 + warm, 7 + warm + total)


PREFILL = Side(
    "p",
    "prefill",
    {
        (REQUESTS, ""): counted(SENT, 2),
        (BY_SOURCE, "local_compute"): counted(TOKENS, 2000),
        (BY_SOURCE, "external_kv_transfer"): counted(0),
    },
    sent=KV + 1_000_000,
)
DECODE = Side(
    "d",
    "decode",
    {
        (REQUESTS, ""): counted(SENT, 2),
        (BY_SOURCE, "local_compute"): counted(SENT, 2),
        (BY_SOURCE, "external_kv_transfer"): counted(TOKENS - SENT, 2000),
        (BYTES, ""): counted(KV * 10 / 11, KV / 11),
    },
    received=KV + 1_000_000,
)
ALONE = replace(
    DECODE,
    series={
        (REQUESTS, ""): counted(SENT, 2),
        (BY_SOURCE, "local_compute"): counted(TOKENS, 2000),
    },
    received=200_000,
)
IDLE = replace(PREFILL, series={(REQUESTS, ""): counted(0)}, sent=1000, ids=range(0))
SOME = replace(
    DECODE,
    series={
        **DECODE.series,
        (BY_SOURCE, "local_compute"): counted(TOKENS / 2),
        (BY_SOURCE, "external_kv_transfer"): counted(TOKENS / 2),
    },
)
MUTE: dict[str, Any] = {"ids": range(0)}
UNREAD: dict[str, Any] = {"received": None, "sent": None}
WORKER = Side(
    "d-1",
    "decode",
    {},
    received=KV // 2 + 1_000_000,
    ids=range(0),
    more={"worker": True, **dict.fromkeys(MOMENTS, Counters())},
)
SILENT: dict[str, Any] = {"series": {}, "families": ()}


def answers(count: int = SENT, **bad: Any) -> list[Answer]:
    good = {"status": 200, "seconds": 0.5, "text": "words"}
    return [
        Answer.model_validate(
            {
                "number": n,
                "id": f"kar-{n:03}",
                "prompt_tokens": LENGTHS[short],
                **good,
                **(bad if n < 3 else {}),
            }
        )
        for turn in stack_client.plan(count, 4)
        for n, short in turn
    ]


def observed(*sides: Side, **changes: Any) -> StackObservation:
    batch = Batch(
        path="/v1/completions",
        model="m",
        warm_up=2,
        warm_up_tokens=2000,
        quiet_seconds=4,
        answers=changes.pop("answers", answers()),
        steps=changes.pop("steps", STEPS),
        steps_why_not=changes.pop("steps_why_not", ""),
    )
    seen = StackObservation.model_validate(
        {
            "trial": "stack",
            "evidence": "real",
            "started": MOMENT,
            "finished": MOMENT,
            "namespace": "serving",
            "pods": [one.pod() for one in sides],
            "batch": batch,
            **changes,
        }
    )
    return seen.model_copy(update={"evidence": evidence(seen, profile.default())})


def finding(check: str, seen: StackObservation, *settings: str) -> Finding:
    stored = StackObservation.model_validate_json(seen.model_dump_json())
    (found,) = judge(f"stack.{check}", stored, profile.load(None, settings))
    assert found.summary
    return found


def verdict(check: str, seen: StackObservation, *settings: str) -> tuple[str, str]:
    found = finding(check, seen, *settings)
    return found.outcome.value, found.reason


def grade(*sides: Side) -> Grade:
    return Proof(observed(*sides), profile.default()).grade


# -- grades -----------------------------------------------------------------------------------


def without(side: Side, *metrics: str) -> Side:
    left = {key: one for key, one in side.series.items() if key[0] not in metrics}
    return replace(side, series=left)


UNPROVEN = ("inconclusive", "not_proven")
NO_ACCOUNTS = (without(PREFILL, BY_SOURCE), without(DECODE, BY_SOURCE))


@pytest.mark.parametrize(
    ("sides", "expected", "outcome"),
    [
        ((PREFILL, DECODE), Grade.ALL, ("pass", "transferred")),
        # Ids that are hidden in one of the logs.
        ((replace(PREFILL, **MUTE), DECODE), Grade.ACCOUNTS_AND_BYTES, ("pass", "transferred")),
        ((PREFILL, replace(DECODE, **MUTE)), Grade.ACCOUNTS_AND_BYTES, ("pass", "transferred")),
        (NO_ACCOUNTS, Grade.IDS_AND_BYTES, ("pass", "transferred")),
        # No engine counts bytes, and open connections between the pods carried them.
        ((PREFILL, replace(without(DECODE, BYTES), to="p")), Grade.ALL, ("pass", "transferred")),
        (
            tuple(
                replace(without(one, BYTES), to=to)
                for one, to in zip(NO_ACCOUNTS, "dp", strict=True)
            ),
            Grade.IDS_AND_BYTES,
            ("pass", "transferred"),
        ),
        # Nobody knows with whom they were exchanged.
        ((PREFILL, without(DECODE, BYTES)), Grade.IDS, ("inconclusive", "not_proven")),
        ((PREFILL, replace(without(DECODE, BYTES), to="x")), Grade.IDS, UNPROVEN),
        # The worker of a group has no metrics, and an interface that carries its part.
        ((PREFILL, replace(DECODE, received=KV // 2), WORKER), Grade.ALL, ("pass", "transferred")),
        # A pod that should count and does not is a hole.
        (
            (PREFILL, DECODE, replace(WORKER, more={**WORKER.more, "worker": False})),
            Grade.IDS_AND_BYTES,
            ("pass", "transferred"),
        ),
        # One side that can be read is enough.
        ((replace(PREFILL, **UNREAD), DECODE), Grade.ALL, ("pass", "transferred")),
        # Nothing but ids: the programme's own wording, and by default not enough here.
        (
            (replace(PREFILL, **UNREAD), replace(DECODE, **UNREAD)),
            Grade.IDS,
            ("inconclusive", "not_proven"),
        ),
        (
            (replace(PREFILL, **SILENT, **UNREAD), replace(DECODE, **SILENT, **UNREAD)),
            Grade.IDS,
            ("inconclusive", "not_proven"),
        ),
        (
            tuple(replace(one, **MUTE, **UNREAD) for one in NO_ACCOUNTS),
            Grade.NONE,
            ("inconclusive", "not_proven"),
        ),
        # Bytes alone attribute nothing.
        (
            tuple(replace(one, **MUTE) for one in NO_ACCOUNTS),
            Grade.NONE,
            ("inconclusive", "not_proven"),
        ),
    ],
)
def test_the_grade_of_proof(
    sides: tuple[Side, ...], expected: Grade, outcome: tuple[str, str]
) -> None:
    assert grade(*sides) is expected
    found = finding("transferred", observed(*sides))
    assert (found.outcome.value, found.reason) == outcome
    assert expected.words in found.summary
    assert found.facts[0].value == expected.words


def test_a_lower_grade_says_what_is_missing() -> None:
    found = finding("transferred", observed(replace(PREFILL, **MUTE), DECODE))
    assert "Missing: 0 of 20 request ids" in found.summary
    assert "Missing" not in finding("transferred", observed(PREFILL, DECODE)).summary


@pytest.mark.parametrize(
    ("least", "expected"), [(1, "inconclusive"), (2, "pass"), (3, "pass"), (4, "pass"), (9, "pass")]
)
def test_the_profile_says_which_grade_is_enough(least: int, expected: str) -> None:
    seen = observed(replace(PREFILL, **MUTE), DECODE)
    assert verdict("transferred", seen, f"stack.least_grade={least}")[0] == expected
    ids_only = observed(replace(PREFILL, **UNREAD), replace(DECODE, **UNREAD))
    wanted = "pass" if least >= 4 else "inconclusive"
    assert verdict("transferred", ids_only, f"stack.least_grade={least}")[0] == wanted


def test_no_grade_makes_no_proof_a_pass() -> None:
    sides = tuple(replace(one, **MUTE, **UNREAD) for one in NO_ACCOUNTS)
    assert verdict("transferred", observed(*sides), "stack.least_grade=9")[0] == "inconclusive"


# -- what goes before the grade -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "separate", "transferred"),
    [
        # The most common lie, with and without counters on the idle side.
        ((IDLE, ALONE), ("fail", "decode_only"), ("fail", "decode_only")),
        ((replace(IDLE, **SILENT), ALONE), ("fail", "decode_only"), ("fail", "decode_only")),
        (
            (IDLE, without(ALONE, BY_SOURCE)),
            ("fail", "decode_only"),
            ("fail", "decode_only"),
        ),
        ((IDLE, replace(ALONE, **SILENT)), ("fail", "decode_only"), ("fail", "decode_only")),
        (
            (PREFILL, SOME),
            ("inconclusive", "partly_decode_only"),
            ("inconclusive", "partly_decode_only"),
        ),
        # Claimed, counted and logged, and never carried.
        (
            (replace(PREFILL, sent=300_000), replace(DECODE, received=300_000)),
            ("pass", "separate"),
            ("fail", "bytes_not_carried"),
        ),
        (
            (replace(PREFILL, sent=300_000), replace(without(DECODE, BYTES), received=300_000)),
            ("pass", "separate"),
            ("fail", "nothing_moved"),
        ),
        (
            (
                replace(
                    PREFILL, series={**PREFILL.series, (BY_SOURCE, "local_compute"): counted(5)}
                ),
                DECODE,
            ),
            ("pass", "separate"),
            ("inconclusive", "accounts_disagree"),
        ),
        (
            (replace(PREFILL, role="both"), replace(DECODE, role="both")),
            ("fail", "same_pods"),
            ("inconclusive", "no_prefill_pods"),
        ),
        ((DECODE,), ("inconclusive", "no_prefill_pods"), ("inconclusive", "no_prefill_pods")),
        ((PREFILL,), ("inconclusive", "no_decode_pods"), ("inconclusive", "no_decode_pods")),
        ((), ("inconclusive", "no_prefill_pods"), ("inconclusive", "no_prefill_pods")),
        # Neither counters nor ids: nobody knows who worked.
        (
            (replace(PREFILL, **SILENT, **MUTE), replace(DECODE, **SILENT, **MUTE)),
            ("inconclusive", "not_attributed"),
            ("inconclusive", "not_proven"),
        ),
    ],
)
def test_who_did_the_work(
    sides: tuple[Side, ...], separate: tuple[str, str], transferred: tuple[str, str]
) -> None:
    seen = observed(*sides)
    assert verdict("served", seen) == ("pass", "answered")
    assert verdict("separate_phases", seen) == separate
    assert verdict("transferred", seen) == transferred


CHANGED = [
    replace(DECODE, more={"restarts_after": 1}),
    replace(DECODE, more={"restarts_after": None}),
    replace(DECODE, starts=(1, 1, 9, 9)),
    replace(DECODE, series={**DECODE.series, (REQUESTS, ""): (50, 50, 52, 20)}),
    replace(DECODE, series={**DECODE.series, (BYTES, ""): (1e9, 1e9, 0, KV)}),
]
BUSY = [
    replace(DECODE, series={**DECODE.series, (REQUESTS, ""): (7, 8, 10, 30)}),
    replace(DECODE, series={**DECODE.series, (REQUESTS, ""): counted(SENT + 1, 2)}),
    replace(PREFILL, series={**PREFILL.series, (REQUESTS, ""): counted(SENT + 5, 2)}),
]


@pytest.mark.parametrize("check", ["separate_phases", "transferred"])
def test_a_stack_that_changed_or_served_others_is_not_judged(check: str) -> None:
    for side in CHANGED:
        assert verdict(check, observed(PREFILL, side)) == ("inconclusive", "pods_changed")
        assert verdict(check, observed(IDLE, side)) == ("inconclusive", "pods_changed")
    gone = observed(PREFILL, replace(DECODE, more={"after": Counters()}))
    assert verdict(check, gone) == ("inconclusive", "pods_changed")
    assert verdict(check, observed(PREFILL, DECODE, new_pods=["d2"])) == (
        "inconclusive",
        "pods_changed",
    )
    for side in BUSY:
        pair = (side, DECODE) if side.role == "prefill" else (PREFILL, side)
        assert verdict(check, observed(*pair)) == ("inconclusive", "foreign_traffic")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"answers": []}, ("inconclusive", "not_reached")),
        ({"answers": [], "problem": "no model"}, ("inconclusive", "not_reached")),
        ({"answers": answers(2, status=0, text="")}, ("inconclusive", "not_reached")),
        ({"answers": answers(3, status=401, text="")}, ("inconclusive", "refused")),
        ({"answers": answers(status=429, text="")}, ("inconclusive", "refused")),
        ({"answers": answers(status=502, text="")}, ("fail", "requests_failed")),
        ({"answers": answers(status=0, text="")}, ("fail", "requests_failed")),
        ({"answers": answers(text="")}, ("fail", "requests_failed")),
        ({}, ("pass", "answered")),
    ],
)
def test_without_answers_nothing_else_is_said(
    changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    seen = observed(PREFILL, DECODE, **changes)
    assert verdict("served", seen) == expected
    if expected[0] != "pass":
        for check in ("separate_phases", "transferred"):
            assert verdict(check, seen) == ("inconclusive", "not_served")


# -- where bytes cannot be seen -----------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [{"devices": ["rdma/hca"]}, {"node": "node-prefill"}, {"devices": ["claim net1"]}],
)
def test_bytes_that_may_move_past_the_interface_are_not_called_invented(
    more: dict[str, Any],
) -> None:
    small = replace(DECODE, received=300_000, more=more)
    seen = observed(replace(PREFILL, sent=300_000), small)
    found = finding("transferred", seen)
    assert (found.outcome.value, found.reason) == ("inconclusive", "not_proven")
    assert found.evidence == "real"
    assert Proof(seen, profile.default()).bytes.why


# -- whose bytes they are -----------------------------------------------------------------------

PER_TOKEN = KV / sum(SHARES)


def kv(*recomputed: int) -> Carry:
    """KV state of every request but those with these numbers; the warm-up has -2 and -1."""
    numbers = [[-2], [-1], *([n for n, _ in turn] for turn in stack_client.plan(SENT, 4))]

    def carry(turn: int, asked: list[Asked]) -> float:
        return sum(
            PER_TOKEN * one.tokens
            for number, one in zip(numbers[turn], asked, strict=True)
            if number not in recomputed
        )

    return carry


def carrying(carry: Carry, *, claims: float = KV, **more: Any) -> StackObservation:
    """Both sides carry this; decode claims that, or exports no such counter without any claim."""
    decode = DECODE if claims else without(DECODE, BYTES)
    series = {**decode.series, (BYTES, ""): counted(claims * 10 / 11, claims / 11)}
    decode = replace(decode, series=series if claims else decode.series, carry=carry, **more)
    return observed(replace(PREFILL, carry=carry, **more), decode)


def bursts(size: float, every: int) -> Carry:
    return lambda number, _: size * (number % every == 0)


NOTHING: Carry = lambda turn, asked: 0  # noqa: E731
ONCE_EACH: Carry = lambda turn, asked: 5e6 * len(asked)  # noqa: E731
LATER_MORE: Carry = lambda turn, asked: 1e6 * turn  # noqa: E731


@pytest.mark.parametrize(
    ("carry", "others", "claims", "expected"),
    [
        # A sidecar that is always busy, whatever the engines claim.
        (NOTHING, lambda *_: 9e6, KV, UNPROVEN),
        (NOTHING, lambda *_: 9e6, 0, UNPROVEN),
        (NOTHING, lambda *_: 1e5, KV, ("fail", "bytes_not_carried")),
        (NOTHING, lambda *_: 1e5, 0, ("fail", "nothing_moved")),
        (NOTHING, lambda number, _: 9e6 + 1e5 * (number % 3), 0, UNPROVEN),
        # One that is busy at times.
        (NOTHING, bursts(20e6, 3), KV, UNPROVEN),
        (NOTHING, bursts(20e6, 3), 0, UNPROVEN),
        # As much for each request, short or long; or more and more as time passes.
        (ONCE_EACH, None, 0, UNPROVEN),
        (ONCE_EACH, None, 22 * 5e6, UNPROVEN),
        (ONCE_EACH, lambda *_: 2e6, 22 * 5e6, UNPROVEN),
        (LATER_MORE, None, 0, ("inconclusive", "partly_decode_only")),
        (NOTHING, lambda number, _: 1e6 * number, 0, UNPROVEN),
        # Made-up counters: the pods exchange something, and not what is claimed.
        (kv(), None, KV / 3, UNPROVEN),
        (kv(), None, KV * 3, ("fail", "bytes_not_carried")),
        # Real state, beside others' traffic.
        (kv(), lambda *_: 2e6, KV, ("pass", "transferred")),
        (kv(), bursts(1e6, 2), KV, ("pass", "transferred")),
    ],
)
@pytest.mark.parametrize("to", ["", "elsewhere"])
def test_only_state_of_the_prompts_counts(
    carry: Carry, others: Carry | None, claims: float, expected: tuple[str, str], to: str
) -> None:
    more: dict[str, Any] = {"to": to, **({"others": others} if others else {})}
    seen = carrying(carry, claims=claims, **more)
    found = finding("transferred", seen, "stack.least_grade=3")
    assert (found.outcome.value, found.reason) == expected, found.summary
    if expected == UNPROVEN:
        assert "cannot be attributed" in found.summary


@pytest.mark.parametrize("carry", [NOTHING, ONCE_EACH])
def test_a_connection_with_the_other_phase_is_not_enough(carry: Carry) -> None:
    prefill = replace(PREFILL, carry=carry, others=lambda *_: 9e6, to="d")
    decode = replace(without(DECODE, BYTES), carry=carry, others=lambda *_: 9e6, to="p")
    assert verdict("transferred", observed(prefill, decode))[0] != "pass"


def test_traffic_of_one_side_is_no_transfer() -> None:
    downloads = replace(without(DECODE, BYTES), carry=kv(), to="p")
    assert verdict("transferred", observed(replace(PREFILL, sent=1000), downloads)) == (
        "fail",
        "nothing_moved",
    )
    # What prefill sends to somebody else beside real state does no harm.
    busy = replace(PREFILL, carry=kv(), others=bursts(50e6, 2))
    assert verdict("transferred", observed(busy, replace(DECODE, carry=kv()))) == (
        "pass",
        "transferred",
    )


def test_ranks_of_one_engine_may_exchange_more_than_state() -> None:
    more: Carry = lambda turn, asked: 3 * kv()(turn, asked)  # noqa: E731
    decode, worker = replace(DECODE, carry=more), replace(WORKER, received=0)
    assert verdict("transferred", observed(replace(PREFILL, carry=more), decode, worker)) == (
        "pass",
        "transferred",
    )


@pytest.mark.parametrize(
    "changes", [{"steps_why_not": "exec was refused"}, {"steps": [*STEPS, Step(did="nothing")]}]
)
def test_without_readings_between_the_requests_bytes_are_not_seen(changes: dict[str, Any]) -> None:
    found = finding("transferred", observed(PREFILL, DECODE, **changes))
    assert (found.outcome.value, found.reason) == UNPROVEN
    assert "bytes were not seen to move" in found.summary


def test_a_run_of_version_0_1_proves_no_bytes_and_refutes_some() -> None:
    old = observed(PREFILL, DECODE, steps=[])
    assert verdict("transferred", old) == ("inconclusive", "not_recorded")
    assert verdict("separate_phases", old) == ("pass", "separate")
    claimed = observed(replace(PREFILL, sent=1000), replace(DECODE, received=1000), steps=[])
    assert verdict("transferred", claimed) == ("fail", "bytes_not_carried")
    unread = observed(replace(PREFILL, **UNREAD), replace(DECODE, **UNREAD), steps=[])
    assert verdict("transferred", unread) == UNPROVEN


# -- decode that computes a part again ------------------------------------------------------------

SHORT = [n for turn in stack_client.plan(SENT, 4) for n, short in turn if short]
LONG = [-2, -1, *(n for n in range(SENT) if n not in SHORT)]


@pytest.mark.parametrize(
    "recomputed",
    [
        range(5, SENT),
        range(6),
        range(7, 14),
        range(0, SENT, 2),
        range(1, SENT, 2),
        SHORT,
        LONG,
        [SENT - 1],
        [3],
    ],
)
@pytest.mark.parametrize("claims", [KV, 0])
def test_a_part_of_the_requests_that_moved_nothing_is_seen(
    recomputed: list[int], claims: float
) -> None:
    seen = carrying(kv(*recomputed), claims=claims, to="p")
    for check in ("transferred", "separate_phases"):
        found = finding(check, seen)
        assert (found.outcome.value, found.reason) == ("inconclusive", "partly_decode_only")
        assert "of 22 requests" in found.summary


def test_state_that_may_move_through_memory_is_not_called_recomputed() -> None:
    # Two pairs of pods, one of them on the same node.
    carry = kv(*range(0, SENT, 2))
    decode = replace(DECODE, carry=carry, more={"node": "node-prefill"})
    found = finding("transferred", observed(replace(PREFILL, carry=carry), decode))
    assert (found.outcome.value, found.reason) == UNPROVEN
    assert "share a node" in found.summary


def test_without_a_trace_of_the_requests_nobody_is_blamed_for_bytes_that_are_missing() -> None:
    silent = [replace(one, **SILENT, **MUTE) for one in (PREFILL, DECODE)]
    seen = observed(replace(silent[0], sent=300_000), replace(silent[1], received=300_000))
    assert verdict("transferred", seen) == ("inconclusive", "not_these_pods")
    assert verdict("separate_phases", seen) == ("inconclusive", "not_attributed")


@pytest.mark.parametrize("accounts", [True, False])
@pytest.mark.parametrize("check", ["separate_phases", "transferred"])
def test_prefill_pods_that_are_not_those_of_decode_are_not_judged(
    accounts: bool, check: str
) -> None:
    decode = DECODE if accounts else without(DECODE, BY_SOURCE)
    for prefill in (IDLE, replace(IDLE, **SILENT)):
        found = finding(check, observed(prefill, decode))
        assert (found.outcome.value, found.reason) == ("inconclusive", "not_these_pods")
        assert "other pods do the prefill" in found.summary


def test_state_that_does_not_grow_in_proportion_is_not_called_recomputed() -> None:
    # A model with a state of fixed size beside a cache that grows.
    carry: Carry = lambda turn, asked: kv()(turn, asked) + 4e6 * len(asked)  # noqa: E731
    seen = carrying(carry, claims=KV + 22 * 4e6)
    assert verdict("transferred", seen) == ("pass", "transferred")


# -- others answered ------------------------------------------------------------------------------

HALF = {(REQUESTS, ""): counted(SENT / 2, 2), (BY_SOURCE, "local_compute"): counted(TOKENS / 2)}


def part(side: Side, share: float) -> Side:
    """A pod of which one server's metrics were found, and not those of the others."""
    series = {
        key: (7.0, 7.0, 7 + (values[2] - 7) * share, 7 + (values[3] - 7) * share)
        for key, values in side.series.items()
    }
    return replace(side, series=series)


@pytest.mark.parametrize("share", [0, 1 / 8, 1 / 2])
@pytest.mark.parametrize("check", ["separate_phases", "transferred"])
def test_servers_whose_metrics_were_not_found_are_not_taken_for_idle(
    share: float, check: str
) -> None:
    for sides in (
        (part(PREFILL, share), part(DECODE, share)),
        (without(part(PREFILL, share), BY_SOURCE), without(DECODE, BY_SOURCE)),
    ):
        assert verdict(check, observed(*sides)) == ("inconclusive", "counters_incomplete")


@pytest.mark.parametrize(
    ("prefill", "decode"),
    [
        # A cache, or the URL of another deployment: these pods did nothing.
        (IDLE, replace(IDLE, name="d", role="decode", received=1000)),
        (IDLE, replace(DECODE, **SILENT, **MUTE, received=1000)),
        # Counters and series that appear with the first request only.
        (replace(IDLE, **SILENT), replace(DECODE, **SILENT, **MUTE, received=1000)),
        # A cache that answered half of the requests.
        (
            replace(PREFILL, series=HALF),
            replace(
                DECODE,
                series={
                    (REQUESTS, ""): counted(SENT / 2, 2),
                    (BY_SOURCE, "external_kv_transfer"): counted(TOKENS / 2),
                },
                ids=range(10),
            ),
        ),
    ],
)
@pytest.mark.parametrize("check", ["separate_phases", "transferred"])
def test_pods_that_never_saw_the_requests_did_not_compute_them(
    prefill: Side, decode: Side, check: str
) -> None:
    found = finding(check, observed(prefill, decode))
    assert (found.outcome.value, found.reason) == ("inconclusive", "not_these_pods")
    assert "cache" in found.summary


# -- simulators ---------------------------------------------------------------------------------

SIGNS: list[dict[str, Any]] = [
    {"images": ["ghcr.io/llm-d/llm-d-inference-sim:v0.10.2"]},
    {"commands": ["/app/llm-d-inference-sim"]},
    {"flags": ["--kv-cache-transfer-latency"]},
    {"version": "404"},
]


@pytest.mark.parametrize("more", SIGNS)
def test_a_simulator_is_named_and_never_passes(more: dict[str, Any]) -> None:
    # It counts requests as vLLM does, knows no bytes, and its image has nothing that reads them.
    sides = [
        replace(without(one, BY_SOURCE, BYTES), more=more, **UNREAD) for one in (PREFILL, DECODE)
    ]
    found = finding("transferred", observed(*sides), "stack.least_grade=4")
    assert (found.outcome.value, found.reason) == ("inconclusive", "simulator")
    assert found.evidence == "simulated"


@pytest.mark.parametrize("more", SIGNS)
def test_no_bytes_make_up_for_a_sign_of_a_simulator(more: dict[str, Any]) -> None:
    found = finding("transferred", observed(PREFILL, replace(DECODE, more=more)))
    assert (found.outcome.value, found.reason) == ("inconclusive", "simulator")
    assert found.evidence == "simulated"
    quiet = [replace(PREFILL, sent=1000), replace(DECODE, received=1000, more=more)]
    assert verdict("transferred", observed(*quiet)) == ("inconclusive", "simulator")


def test_metrics_that_a_framework_renamed_are_no_sign() -> None:
    more = {"version": "404"}
    renamed = replace(DECODE, families=("process_", "ray_vllm_"), more=more)
    assert finding("transferred", observed(PREFILL, renamed)).evidence == "real"


def test_what_invents_bytes_is_simulated_whatever_its_name() -> None:
    seen = observed(replace(PREFILL, sent=300_000), replace(DECODE, received=300_000))
    assert finding("transferred", seen).evidence == "simulated"
    assert seen.evidence == "simulated"


def test_a_framework_that_passes_metrics_on_need_not_serve_the_engines_version() -> None:
    sides = [
        replace(one, families=("dynamo_", "vllm:"), more={"version": "404"}, **UNREAD)
        for one in (PREFILL, DECODE)
    ]
    assert finding("transferred", observed(*sides)).evidence == "real"


# -- the rest -----------------------------------------------------------------------------------


def test_every_pod_is_told_with_what_it_counted() -> None:
    facts = {one.name: one for one in finding("transferred", observed(PREFILL, DECODE)).facts}
    assert "20 requests; 20,000 prompt tokens computed" in facts["prefill pod p"].value
    assert "19,980 prompt tokens received" in facts["decode pod d"].value
    assert "interface received 96.3 MiB" in facts["decode pod d"].value
    assert "20 of our ids in its log" in facts["decode pod d"].value
    assert facts["decode pod d"].source == "on node-decode, by llm-d.ai/role=decode"


def test_a_pod_without_metrics_counts_nothing_rather_than_zero() -> None:
    facts = {
        one.name: one.value
        for one in finding("transferred", observed(replace(PREFILL, **SILENT), DECODE)).facts
    }
    assert "requests" not in facts["prefill pod p"]


def test_every_check_has_a_rule() -> None:
    for one in TOPIC.checks:
        assert judge(one.id, observed(PREFILL, DECODE), profile.default())[0].outcome == "pass"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (3 * 2**20, "3.0 MiB"), (2**31, "2.00 GiB")],
)
def test_sizes_are_readable(value: float, expected: str) -> None:
    assert size(value) == expected
