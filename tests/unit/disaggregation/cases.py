"""An observation of disaggregated serving in which all went well, and ways to spoil it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kar_checks.checks.disaggregation.kv import Shape
from kar_checks.checks.disaggregation.observation import (
    Batch,
    Counters,
    DisaggregationObservation,
    Interface,
    Loss,
    PhaseSeen,
    PodSeen,
    Policy,
    RequestSeen,
    Scaling,
)
from kar_checks.kit.pulse import Beat, Pulsed
from kar_checks.model import Evidence, Fault, Reason

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
SHAPE = Shape(layers=32, kv_heads=8, head_dim=128, dtype_bytes=2, block_tokens=16)
TOKENS = 512
SIZE = TOKENS * SHAPE.token_bytes
FAULT = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image")


def pulsed(seconds: float, *moments: float) -> Pulsed:
    """The time that a NetworkPolicy had, with pulses all through it or at these moments."""
    beats = [Beat(asked=one, answered=one) for one in moments or (-1, 1, 3, 5)]
    return Pulsed(began=0, ended=seconds, beats={"the scheduler x": beats}, lost=0)


def request(number: int, **changes: Any) -> RequestSeen:
    """A request that went the whole way."""
    text = f"the answer to {number}"
    sound = RequestSeen(
        id=f"r-{number}",
        tokens=TOKENS,
        status=200,
        text=text,
        expected=text,
        pod="d1",
        source="external_kv_transfer",
        at=100.0 + number / 10,
        seconds=1.0,
        headers_seconds=0.9,
        phases=[
            PhaseSeen(pod="r1", phase="route", at=101, seconds=0.98),
            PhaseSeen(pod="p1", phase="prefill", at=100.3, seconds=0.3, bytes=SIZE, tokens=TOKENS),
            PhaseSeen(pod="p1", phase="handover", at=100.8, seconds=0.45, bytes=SIZE),
            PhaseSeen(
                pod="d1",
                phase="decode",
                at=101,
                seconds=0.96,
                bytes=SIZE,
                tokens=TOKENS,
                source="external_kv_transfer",
                prefill_seconds=0.35,
                transfer_seconds=0.5,
                filled_seconds=0.86,
            ),
        ],
    )
    return sound.model_copy(update=changes)


def local(number: int, **changes: Any) -> RequestSeen:
    """A request that decode answered without any transfer."""
    given = {"text": "something else", "source": "local_compute", "phases": []}
    return request(number, **{**given, **changes})


def refused(number: int, code: str = "kv_corrupted", **changes: Any) -> RequestSeen:
    """A request that was answered with an error."""
    given = {"status": 502, "text": "", "code": code, "error": "block 1 is bad", "phases": []}
    return request(number, **{**given, **changes})


def without(number: int, phase: str) -> RequestSeen:
    """A request of which one kind of log tells nothing."""
    sound = request(number)
    return request(number, phases=[one for one in sound.phases if one.phase != phase])


def moved(number: int, phase: str, pod: str) -> RequestSeen:
    """A request one phase of which ran in another pod."""
    return request(
        number,
        phases=[
            one.model_copy(update={"pod": pod}) if one.phase == phase else one
            for one in request(number).phases
        ],
    )


def pod(name: str, part: str, node: str, **changes: Any) -> PodSeen:
    """A pod of the workload."""
    role = part if part != "router" else ""
    sound = PodSeen(name=name, uid=f"uid-{name}", part=part, role=role, node=node)
    return sound.model_copy(update=changes)


PODS = [pod("p1", "prefill", "n1"), pod("d1", "decode", "n2"), pod("r1", "router", "n1")]
ANSWERED = [request(number) for number in range(4)]
TOTAL = 4 * SIZE
PREFILL = Counters(
    pod="p1",
    part="prefill",
    reset=False,
    sent=TOTAL,
    received=0,
    failed=0,
    computed_tokens=4 * TOKENS,
    transferred_tokens=0,
    cached_tokens=0,
)
DECODE = Counters(
    pod="d1",
    part="decode",
    reset=False,
    sent=0,
    received=TOTAL,
    failed=0,
    computed_tokens=0,
    transferred_tokens=4 * TOKENS,
    cached_tokens=0,
)
INTERFACES = [
    Interface(pod="p1", part="prefill", device="eth0", received=9000, sent=TOTAL + 70_000),
    Interface(pod="d1", part="decode", device="eth0", received=TOTAL + 70_000, sent=9000),
]
MAIN = Batch(requests=ANSWERED, counters=[PREFILL, DECODE], interfaces=INTERFACES, seconds=4.0)
STILL = DECODE.model_copy(update={"received": 0.0, "transferred_tokens": 0.0})
STRAIGHT = Batch(requests=[local(10), local(11)], counters=[STILL])
WITHOUT_PREFILL = Batch(requests=[refused(20, "prefill_unreachable"), refused(21)])
PARTS = [0.5 + 0.02 * number for number in range(16)]
STREAMED = Batch(requests=[request(30, parts=PARTS), request(31, parts=PARTS)])
CORRUPTED = Batch(requests=[refused(40), request(41)])
SCALING = Scaling(
    batch=Batch(requests=[request(50 + number) for number in range(12)]),
    pods_before=["d1"],
    pod_added="d2",
    added_served=3,
    pod_removed="d2",
    added_seconds=3.4,
    served_seconds=4.2,
    removed_seconds=5.4,
)
LOSS = Loss(request=refused(60, "kv_truncated"), pod="p1", began=True, deleted_seconds=1.4)


def seen(**changes: Any) -> DisaggregationObservation:
    """The observation, with some of it changed."""
    sound = DisaggregationObservation(
        trial="disaggregation",
        evidence=Evidence.SYNTHETIC,
        started=MOMENT,
        finished=MOMENT,
        shape=SHAPE,
        route="Service",
        network="",
        interface="",
        nodes_usable=3,
        pods=PODS,
        main=MAIN,
        straight=STRAIGHT,
        without_prefill=WITHOUT_PREFILL,
        policy=Policy(enforced=False, seconds=4.2, window=pulsed(4.2)),
        concurrent=MAIN,
        streamed=STREAMED,
        corrupted=CORRUPTED,
        scaling=SCALING,
        loss=LOSS,
    )
    return sound.model_copy(update=changes)


def batch(*requests: RequestSeen) -> Batch:
    """The main batch with other requests."""
    return MAIN.model_copy(update={"requests": list(requests)})


def counted(
    *, prefill: dict[str, Any] | None = None, decode: dict[str, Any] | None = None
) -> Batch:
    """The main batch with other counters."""
    counters = [PREFILL.model_copy(update=prefill or {}), DECODE.model_copy(update=decode or {})]
    return MAIN.model_copy(update={"counters": counters})
