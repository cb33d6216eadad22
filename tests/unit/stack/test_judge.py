"""What the judge of the user's own stack makes of every observation, as tables."""

from __future__ import annotations

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
    Batch,
    Counters,
    LogCount,
    StackObservation,
    StackPod,
    Traffic,
)
from kar_checks.checks.stack.proof import Grade, Proof, evidence, size
from kar_checks.model import Finding

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
MOMENTS = ("first", "quiet", "before", "after")
SENT, LENGTH = 20, 1000
TOKENS = SENT * LENGTH
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
            zero = Traffic(received=1000, sent=1000, devices=["eth0"])
            traffic = {
                "traffic_before": zero,
                "traffic_after": Traffic(
                    received=1000 + self.received, sent=1000 + self.sent, devices=["eth0"]
                ),
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
    good = {"status": 200, "seconds": 0.5, "text": "words", "prompt_tokens": LENGTH}
    return [
        Answer.model_validate({"number": n, "id": f"kar-{n:03}", **good, **(bad if n < 3 else {})})
        for n in range(count)
    ]


def observed(*sides: Side, **changes: Any) -> StackObservation:
    batch = Batch(
        path="/v1/completions",
        model="m",
        warm_up=2,
        warm_up_tokens=2000,
        quiet_seconds=4,
        answers=changes.pop("answers", answers()),
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


NO_ACCOUNTS = (without(PREFILL, BY_SOURCE), without(DECODE, BY_SOURCE))


@pytest.mark.parametrize(
    ("sides", "expected", "outcome"),
    [
        ((PREFILL, DECODE), Grade.ALL, ("pass", "transferred")),
        # Ids that are hidden in one of the logs.
        ((replace(PREFILL, **MUTE), DECODE), Grade.ACCOUNTS_AND_BYTES, ("pass", "transferred")),
        ((PREFILL, replace(DECODE, **MUTE)), Grade.ACCOUNTS_AND_BYTES, ("pass", "transferred")),
        (NO_ACCOUNTS, Grade.IDS_AND_BYTES, ("pass", "transferred")),
        # No engine counts bytes, and the interfaces carried far more than text.
        ((PREFILL, without(DECODE, BYTES)), Grade.ALL, ("pass", "transferred")),
        (
            tuple(without(one, BYTES) for one in NO_ACCOUNTS),
            Grade.IDS_AND_BYTES,
            ("pass", "transferred"),
        ),
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


# -- simulators ---------------------------------------------------------------------------------

SIGNS: list[dict[str, Any]] = [
    {"images": ["ghcr.io/llm-d/llm-d-inference-sim:v0.10.2"]},
    {"commands": ["/app/llm-d-inference-sim"]},
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
def test_no_name_condemns_a_stack_whose_bytes_moved(more: dict[str, Any]) -> None:
    found = finding("transferred", observed(PREFILL, replace(DECODE, more=more)))
    assert (found.outcome.value, found.evidence) == ("pass", "real")


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
