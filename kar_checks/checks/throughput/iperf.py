"""From what iperf3 printed to the records of a run.

``iperf3.TestResult`` of the package of that name reads the JSON; it needs no libiperf (only its
``Client`` and ``Server`` load one). What it leaves out, intervals and the second direction of
``--bidir``, is read from its ``json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from iperf3 import TestResult

from kar_checks.checks.throughput.agenda import LATENCY_BYTES, UDP_BYTES, UDP_SECONDS
from kar_checks.checks.throughput.observation import Cell, Direction, TcpRun, UdpRun
from kar_checks.model import Record

Answer = dict[str, Any]
_UNKNOWN = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What reading a result of an unknown form ends in."""


class Numbers(Record):
    """What both protocols tell. ``forward`` names the direction from the client."""

    version: str
    seconds: float
    local_cpu: float
    remote_cpu: float


def tcp_run(answer: Answer, cell: Cell, repeat: int, *, judged: bool, evidence: str) -> TcpRun:
    """Return the record of a step; an ``error``, whatever the exit code, leaves numbers missing."""
    empty = TcpRun(cell=cell, repeat=repeat, judged=judged, evidence=evidence)
    try:
        found = _read(answer)
        total = found.json["end"]
        reverse = cell.direction == "reverse"
        back: Answer = total.get("sum_received_bidir_reverse") or {}
        cpu = found.remote_cpu_total if reverse else found.local_cpu_total
        if cell.direction == "both" and not back:
            raise ValueError("iperf3 did not measure the other direction")
        return empty.model_copy(
            update={
                "received": _positive(found.received_bps),
                "received_back": _positive(back["bits_per_second"]) if back else None,
                "sent_bytes": int(_least_zero("bytes sent", found.sent_bytes)),
                "retransmits": _count_or_none(found.retransmits),
                "seconds": _least_zero("seconds", total["sum_sent"]["seconds"]),
                "intervals": _intervals(found.json["intervals"]),
                "sender_cpu": _figure_or_none(cpu),
                "throttled": throttled(answer, "server" if reverse else "client"),
                "iperf3": str(found.version),
            }
        )
    except _UNKNOWN as error:
        return empty.model_copy(update={"error": _words(error)})


def udp_run(answer: Answer, direction: Direction, repeat: int, *, evidence: str) -> UdpRun:
    """Return the record of a step with UDP."""
    empty = UdpRun(direction=direction, repeat=repeat, evidence=evidence)
    try:
        found = _read(answer)
        packets, lost = _datagrams(found.packets, found.lost_packets)
        receiver = "client" if direction == "reverse" else "server"
        return empty.model_copy(
            update={
                "packets": packets,
                "lost": lost,
                "jitter_ms": _least_zero("ms of jitter", found.jitter_ms),
                # A client that is woken late at the end counts more seconds than it sent for.
                "sent": packets * UDP_BYTES * 8 / UDP_SECONDS,
                "overrun": _risen(answer, receiver, "udp_overrun"),
            }
        )
    except _UNKNOWN as error:
        return empty.model_copy(update={"error": _words(error)})


def throttled(answer: Answer, side: str) -> int | None:
    """Return how often the kernel throttled a side's container during a step."""
    return _risen(answer, side, "nr_throttled")


def _risen(answer: Answer, side: str, counter: str) -> int | None:
    counts = [
        ((answer.get(when) or {}).get(side) or {}).get(counter) for when in ("before", "after")
    ]
    if counts[0] is None or counts[1] is None or counts[1] < counts[0]:
        return None
    return int(counts[1] - counts[0])


def payload(answer: Answer) -> int | None:
    """Return how many bytes a step carried to the other side; ``None`` if it does not say."""
    if "samples_us" in answer:
        return len(answer["samples_us"]) * LATENCY_BYTES
    if "sizes" in answer:
        return sum(int(one["bytes"]) for one in answer["sizes"] if one["answered"])
    try:
        total: Answer = (answer.get("json") or {}).get("end") or {}
        if "packets" in (total.get("sum") or {}):
            packets, lost = _datagrams(total["sum"]["packets"], total["sum"]["lost_packets"])
            return (packets - lost) * UDP_BYTES
        if "sum_received" in total:
            return int(_least_zero("bytes received", total["sum_received"]["bytes"]))
    except _UNKNOWN:
        return None
    return None


def counted(answer: Answer, side: str, interface: str) -> int | None:
    """Return the bytes, in and out, that an interface of a side counted during a step."""
    before, after = (
        (((answer.get(when) or {}).get(side) or {}).get("bytes") or {}).get(interface)
        for when in ("before", "after")
    )
    if before is None or after is None or sum(after) < sum(before):
        return None
    return int(sum(after) - sum(before))


def crossed(
    steps: Sequence[Answer], answers: Mapping[str, Answer], node: str, interface: str
) -> int | None:
    """Return the bytes, in and out, that a node's pod counted in all steps with another node."""
    counts = [
        counted(
            answers.get(str(one["id"])) or {},
            "client" if one["client"] == node else "server",
            interface,
        )
        for one in steps
        if one["server"] != "beside"
    ]
    known = [one for one in counts if one is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def _read(answer: Answer) -> Any:
    """Return iperf3's result.

    Raises:
        ValueError: there is none, or it is an error.
    """
    if answer.get("error"):
        raise ValueError(answer["error"])
    found: Any = TestResult(json.dumps(answer["json"]))
    if found.error is not None:
        raise ValueError(found.error)
    return found


def _positive(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"iperf3 reports {number} bit/s")
    if number <= 0:
        raise ValueError("nothing was received")
    return number


def _least_zero(what: str, value: Any) -> float:
    """Return a figure that is never negative.

    Raises:
        TypeError, ValueError: it is, or it is no number.
    """
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"iperf3 reports {number:g} {what}")
    return number


def _datagrams(packets: Any, lost: Any) -> tuple[int, int]:
    """Return how many were sent, and how many of them were lost.

    iperf3 has reported fewer lost than none, where datagrams came in another order around the end
    of what it leaves out: nobody knows then how many were lost.

    Raises:
        OverflowError, TypeError, ValueError: such numbers cannot be.
    """
    sent, missing = int(packets), int(lost)
    if sent <= 0:
        raise ValueError("iperf3 sent no packet")
    if not 0 <= missing <= sent:
        raise ValueError(f"iperf3 reports {missing} of {sent} packets as lost")
    return sent, missing


def _figure_or_none(value: Any) -> float | None:
    """Return a figure beside the result; ``None`` if it cannot be."""
    known = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if known else None


def _count_or_none(value: Any) -> int | None:
    found = _figure_or_none(value)
    return None if found is None else int(found)


def _intervals(found: list[Answer]) -> list[tuple[float, float]]:
    """Return the series after the warm-up, which starts at zero."""
    kept = [cast("Answer", one["sum"]) for one in found]
    kept = [one for one in kept if not one.get("omitted")]
    both = [(float(one["end"]), float(one["bits_per_second"])) for one in kept]
    return [(round(at, 3), round(speed)) for at, speed in both if math.isfinite(at + speed)]


def _words(error: Exception) -> str:
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return str(error)[:300]
    return f"iperf3's JSON does not have the known form: {type(error).__name__} {error}"[:300]
