"""What the page draws: shares by weight, the way requests went, and when events arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kar_checks.checks.gateway.observation import (
    ClassObservation,
    HeaderRule,
    Stream,
    Streaming,
    Unmatched,
    Weights,
)
from kar_checks.kit.http_testbed.figures import shares
from kar_checks.kit.http_testbed.records import Sample
from kar_checks.kit.http_testbed.steady import Steady, figure
from kar_checks.model import Fault, Figure, Hop, Series, Stop

_CLIENT, _GATEWAY = 0, 1


def draw(
    seen: Mapping[str, ClassObservation | Fault],
    servers: Mapping[str, str],
    confidence: float,
) -> list[Figure]:
    """Return the figures of every class.

    Args:
        seen: What was observed of each class, by its name.
        servers: Address of each backend, by its name.
        confidence: Of the intervals of shares, 0 to 1.
    """
    found: list[Figure] = []
    for name, one in seen.items():
        if isinstance(one, Fault):
            continue
        if isinstance(one.weights, Weights):
            found.append(_split(name, one.weights, confidence))
        if isinstance(one.headers, HeaderRule):
            sent = [
                ("with the header", one.headers.matching),
                ("without it", one.headers.without),
                ("with another value", one.headers.other_value),
                *((f"with {case.sent}", case.sample) for case in one.headers.other_cases or []),
            ]
            found.append(_way("gateway.header_rule", name, one, servers, sent))
        if isinstance(one.unmatched, Unmatched):
            sent = [
                ("to an unknown path", one.unmatched.path),
                ("to an unknown host", one.unmatched.host),
            ]
            found.append(_way("gateway.unmatched", name, one, servers, sent))
        if isinstance(one.steady, Steady) and (drawn := figure(one.steady, "gateway.steady", name)):
            found.append(drawn)
        if isinstance(one.streaming, Streaming) and one.streaming.through:
            found.append(_events(name, one.streaming, one.streaming.through))
    return found


def _split(name: str, weights: Weights, confidence: float) -> Figure:
    return Figure(
        kind="shares",
        title=f"Share of each backend, {name}",
        checks=["gateway.weighted_split"],
        variant=name,
        unit="share of the answers",
        seconds=0,
        shares=[
            share
            for phase in weights.phases
            if phase.sample
            for share in shares(
                f"weights {':'.join(map(str, phase.weights.values()))}",
                {pod: phase.sample.good(pod=pod) for pod in phase.weights},
                confidence,
                {pod: w / sum(phase.weights.values()) for pod, w in phase.weights.items()},
            )
        ],
    )


def _way(
    check: str,
    name: str,
    seen: ClassObservation,
    servers: Mapping[str, str],
    sent: list[tuple[str, Sample | None]],
) -> Figure:
    """Return how many requests of each kind went where, by the backends' own counts."""
    backends = list(servers)
    hops: list[Hop] = []
    for what, sample in sent:
        if sample is None:
            continue
        hops.append(Hop(source=_CLIENT, target=_GATEWAY, label=f"{sample.sent} {what}"))
        hops += [
            Hop(
                source=_GATEWAY,
                target=2 + backends.index(pod),
                label=f"{count} arrived",
                heavy=True,
            )
            for pod, count in sample.counted.items()
            if count
        ]
        hops.append(Hop(source=_GATEWAY, target=_CLIENT, label=_answers(sample)))
    return Figure(
        kind="way",
        title=f"The way of the requests, {name}",
        checks=[check],
        variant=name,
        seconds=0,
        stops=[
            Stop(name="client"),
            Stop(name="Gateway", detail=seen.gateway.address if seen.gateway else ""),
            *(Stop(name=pod, detail=address) for pod, address in servers.items()),
        ],
        hops=hops,
    )


def _answers(sample: Sample) -> str:
    found = Counter((one.status, one.pod) for one in sample.tallies for _ in range(one.count))
    return ", ".join(
        f"{count} x {status or 'no answer'} {pod}".rstrip()
        for (status, pod), count in found.most_common()
    )


def _events(name: str, streaming: Streaming, through: Stream) -> Figure:
    """Return how many events there were at each moment, at the server and at the client."""
    series = [_counted("produced", [at for at, _ in through.events])]
    series.append(_counted("arrived through the gateway", [at for _, at in through.events]))
    if streaming.direct:
        arrived = [at for _, at in streaming.direct.events]
        series.append(_counted("arrived without it", arrived))
    return Figure(
        kind="trace",
        title=f"Events of a streamed answer, {name}",
        checks=["gateway.streaming"],
        variant=name,
        unit="events",
        seconds=max((at for one in series for at, _ in one.points), default=0.0),
        series=series,
    )


def _counted(name: str, times: list[float]) -> Series:
    points = [(at, float(number)) for number, at in enumerate(times, 1)]
    return Series(name=name, points=points, stepped=True)
