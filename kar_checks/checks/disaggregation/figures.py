"""What the page draws: the way of one request in time, and the rate of the transfers."""

from __future__ import annotations

from kar_checks.checks.disaggregation.observation import (
    Batch,
    DisaggregationObservation,
    PhaseSeen,
    RequestSeen,
    Scaling,
)
from kar_checks.checks.disaggregation.workload import CLIENT
from kar_checks.model import Figure, Hop, Lane, Mark, Series, Span, Stop

_BUCKETS = 60


def draw(seen: DisaggregationObservation) -> list[Figure]:
    """Return every figure for which something was seen."""
    figures: list[Figure] = []
    if isinstance(seen.main, Batch):
        done = sorted((one for one in seen.main.requests if _followed(one)), key=_length)
        if done:
            one = done[len(done) // 2]
            figures += [_way(one, seen), _waterfall(one), _rate(done)]
    if isinstance(seen.scaling, Scaling):
        figures.append(_scaling(seen.scaling))
    return figures


def _followed(request: RequestSeen) -> bool:
    phases = ("route", "decode", "prefill", "handover")
    return request.right and all(len(request.of(one)) == 1 for one in phases)


def _length(request: RequestSeen) -> float:
    return request.seconds


def _way(request: RequestSeen, seen: DisaggregationObservation) -> Figure:
    """Return the way of one request between the pods, with what each step took and carried."""
    route, decode, prefill = (request.of(one)[0] for one in ("route", "decode", "prefill"))
    nodes = {one.name: one.node for one in seen.pods}
    # A Gateway is a stop between client and router.
    entrance = [Stop(name="Gateway")] if seen.route.startswith("Gateway") else []
    client, before = 0, len(entrance)
    router, decoder, prefiller = (before + number for number in (1, 2, 3))

    def hop(source: int, target: int, label: str, *, heavy: bool = False) -> Hop:
        return Hop(source=source, target=target, label=label, heavy=heavy)

    words = len(request.text.split())
    state = f"{decode.bytes / 2**20:.0f} MiB in {decode.transfer_seconds:.2f} s"
    return Figure(
        kind="way",
        title=f"The way of request {request.id}",
        checks=["disaggregation.separate_pods", "disaggregation.state_transferred"],
        seconds=request.seconds,
        stops=[
            Stop(name="client", detail=nodes.get(CLIENT, "")),
            *entrance,
            Stop(name="router", detail=nodes.get(route.pod, "")),
            Stop(name="decode", detail=nodes.get(decode.pod, "")),
            Stop(name="prefill", detail=nodes.get(prefill.pod, "")),
        ],
        hops=[
            hop(client, client + 1, f"prompt, {request.tokens} tokens"),
            *([hop(before, router, "the same")] if entrance else []),
            hop(router, decoder, "prompt + prefill address"),
            hop(decoder, prefiller, "prefill leg"),
            hop(prefiller, decoder, f"block ids, {prefill.seconds:.2f} s"),
            hop(decoder, prefiller, "pull"),
            hop(prefiller, decoder, state, heavy=True),
            hop(decoder, router, f"{words} words"),
            *([hop(router, before, "answer")] if entrance else []),
            hop(client + 1, client, f"answer, {request.seconds:.2f} s"),
        ],
    )


def _waterfall(request: RequestSeen) -> Figure:
    """Who worked on a request when.

    Clocks of different nodes are not compared: each step lies in the middle of the one that waited
    for it.
    """
    route, decode, prefill = (request.of(one)[0] for one in ("route", "decode", "prefill"))
    at_router = (request.seconds - route.seconds) / 2
    at_decode = at_router + (route.seconds - decode.seconds) / 2
    at_prefill = at_decode + (decode.prefill_seconds - prefill.seconds) / 2
    pulling = at_decode + decode.prefill_seconds
    filled = at_decode + decode.filled_seconds

    def lane(name: str, start: float, seconds: float, state: str) -> Lane:
        begin = max(0.0, start)
        return Lane(name=name, spans=[Span(start=begin, end=begin + seconds, state=state)])

    return Figure(
        kind="timeline",
        title=f"A request of {request.tokens} tokens, {decode.bytes / 2**20:.0f} MiB of state",
        checks=["disaggregation.request_ids", "disaggregation.separate_pods"],
        seconds=max(request.seconds, filled),
        lanes=[
            lane("client", 0, request.seconds, "waits"),
            lane("router", at_router, route.seconds, "passes on"),
            lane("prefill", at_prefill, prefill.seconds, "computes"),
            lane("state", pulling, decode.transfer_seconds, "moves"),
            lane("decode", filled, decode.seconds - decode.filled_seconds, "answers"),
        ],
    )


def _rate(requests: list[RequestSeen]) -> Figure:
    """How much state moved when, by decode's clock: each transfer spread over its own time."""
    pulls = [_pull(line) for one in requests for line in one.of("decode")]
    zero = min(start for start, _, _ in pulls)
    total = max(end for _, end, _ in pulls) - zero
    width = total / _BUCKETS
    points: list[tuple[float, float]] = []
    for number in range(_BUCKETS):
        low, high = number * width, (number + 1) * width
        moved = sum(
            size * max(0.0, min(end - zero, high) - max(start - zero, low)) / (end - start)
            for start, end, size in pulls
        )
        points.append((round(low, 3), round(moved / width / 2**20, 1)))
    return Figure(
        kind="trace",
        title=f"State moved from prefill to decode: {sum(s for _, _, s in pulls) / 2**20:,.0f} MiB",
        checks=["disaggregation.state_transferred"],
        unit="MiB/s",
        seconds=round(total, 3),
        series=[Series(name="all transfers together", points=points, stepped=True)],
    )


def _pull(decode: PhaseSeen) -> tuple[float, float, int]:
    """Return start, end and bytes of a transfer; the line is written when the answer is done."""
    end = decode.at - (decode.seconds - decode.filled_seconds)
    return end - max(decode.transfer_seconds, 1e-4), end, decode.bytes


def _scaling(seen: Scaling) -> Figure:
    """Which pod answered how many requests in each second."""
    requests = sorted(seen.batch.requests, key=lambda one: one.at)
    zero = requests[0].at if requests else 0.0
    total = max((one.at + one.seconds - zero for one in requests), default=0.0)
    series: list[Series] = []
    for pod in sorted({one.pod for one in requests if one.pod}):
        counts = [0] * (int(total) + 1)
        for one in requests:
            if one.pod == pod:
                counts[int(one.at + one.seconds - zero)] += 1
        points = [(float(second), float(count)) for second, count in enumerate(counts)]
        series.append(Series(name=pod, points=points, stepped=True))
    marks = [
        Mark(at=at, label=label)
        for at, label in (
            (seen.added_seconds, "second pod Ready"),
            (seen.removed_seconds, "one pod again"),
        )
        if at is not None
    ]
    return Figure(
        kind="trace",
        title="Answers of each decode pod while decode was scaled up and down",
        checks=["disaggregation.decode_scaling"],
        unit="answers/s",
        seconds=round(total, 2),
        series=series,
        marks=marks,
    )
