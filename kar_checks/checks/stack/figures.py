"""What the page draws: what went between the parts of the stack, and what each pod counted when."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from kar_checks.checks.stack.engines import Quantity, quantities
from kar_checks.checks.stack.observation import Counters, StackObservation, StackPod
from kar_checks.checks.stack.proof import Carried, Proof, counting, size
from kar_checks.model import Figure, Hop, Lane, Mark, Series, Span, Stop
from kar_checks.profile import Profile

_CHECKS = ["stack.separate_phases", "stack.transferred"]
_MOST_PODS = 2
"""Pods of a phase with a line of their own; of more, the sum is drawn."""


def draw(seen: StackObservation, profile: Profile) -> list[Figure]:
    """Return every figure for which something was seen."""
    proof = Proof(seen, profile)
    if not proof.answered:
        return []
    found = [_way(proof, urlsplit(profile.text("stack.url")).hostname or "")]
    if traces := _series(proof):
        found.append(_counted(proof, *traces))
    return [*found, _answers(seen)]


def _way(proof: Proof, host: str) -> Figure:
    """Return what went where in the whole batch, as far as somebody counted it."""
    client, front, prefill, decode = range(4)
    tokens = "of unknown length" if proof.tokens is None else f"{proof.tokens:,.0f} tokens"
    total = len(proof.answered)
    carried, claimed = proof.bytes.moved, proof.bytes.claimed
    state = "not seen" if carried is None else f"{size(carried)} carried"
    if claimed:
        state += f", {size(claimed)} claimed"
    return Figure(
        kind="way",
        title=f"What went between the parts for {total} requests; the bytes include the warm-up",
        checks=_CHECKS,
        seconds=max(one.at + one.seconds for one in proof.answered),
        stops=[
            Stop(name="our client", detail="a pod in the cluster"),
            Stop(name="your stack", detail=host),
            _phase("prefill", proof.prefill),
            _phase("decode", proof.decode),
        ],
        hops=[
            Hop(source=client, target=front, label=f"{total} prompts, {tokens}"),
            Hop(source=front, target=prefill, label=_told(proof, proof.prefill)),
            Hop(
                source=prefill,
                target=decode,
                label=state,
                heavy=proof.bytes.verdict is Carried.YES,
            ),
            Hop(source=decode, target=front, label=_told(proof, proof.decode)),
            Hop(source=front, target=client, label=f"{total} answers"),
        ],
    )


def _phase(name: str, pods: list[StackPod]) -> Stop:
    nodes = sorted({one.node for one in pods})
    where = f"on {nodes[0]}" if len(nodes) == 1 else f"on {len(nodes)} nodes"
    count = "no pod" if not pods else "1 pod" if len(pods) == 1 else f"{len(pods)} pods"
    return Stop(name=name, detail=f"{count} {where}" if pods else count)


def _told(proof: Proof, pods: list[StackPod]) -> str:
    """Say what a phase counted; what it does not export is not mentioned."""
    words: dict[Quantity, str] = {"computed": "computed", "received": "received"}
    parts = [
        f"{number:,.0f} {word}"
        for quantity, word in words.items()
        if (number := proof.total(pods, quantity)) is not None
    ]
    if parts:
        return f"tokens: {', '.join(parts)}"
    requests = proof.total(pods, "requests")
    return "nothing counted" if requests is None else f"{requests:,.0f} requests counted"


def _series(proof: Proof) -> tuple[list[Series], str] | None:
    """Return a line for each pod and quantity, by tokens or else by requests."""
    told: dict[str, list[tuple[Quantity, str, list[StackPod]]]] = {
        "prompt tokens": [
            ("computed", "prefill", proof.prefill),
            ("received", "decode", proof.decode),
            ("computed", "decode", proof.decode),
        ],
        "requests": [
            ("requests", "prefill", proof.prefill),
            ("requests", "decode", proof.decode),
        ],
    }
    for unit, wanted in told.items():
        lines = [
            line
            for quantity, word, pods in wanted
            for name, group in _groups(word, pods)
            if (line := _line(f"{name}: {quantity}", group, quantity)) is not None
        ]
        if lines:
            return lines, unit
    return None


def _groups(word: str, pods: list[StackPod]) -> list[tuple[str, list[StackPod]]]:
    told = counting(pods)
    if len(told) > _MOST_PODS:
        return [(f"{len(told)} {word} pods", told)]
    return [(one.name, [one]) for one in told]


def _line(name: str, pods: list[StackPod], quantity: Quantity) -> Series | None:
    """Return the sum over pods since the first moment, ``None`` where one never counts it."""
    moments: tuple[Literal["first", "quiet", "before", "after"], ...]
    moments = ("first", "quiet", "before", "after")
    points: list[tuple[float, float]] = []
    for moment in moments:
        values = [_since(one, getattr(one, moment), quantity) for one in pods]
        numbers = [one for one in values if one is not None]
        if len(numbers) == len(values):
            points.append((getattr(pods[0], moment).at, sum(numbers)))
    return Series(name=name, points=points) if len(points) > 1 else None


def _since(pod: StackPod, now: Counters, quantity: Quantity) -> float | None:
    values = [
        quantities(one.families, one.samples).get(quantity) for one in (pod.first, now, pod.after)
    ]
    if values[-1] is None or not pod.first.endpoint or not now.endpoint:
        return None
    # A counter that appears with its first event was not there before it.
    return (values[1] or 0) - (values[0] or 0)


def _counted(proof: Proof, lines: list[Series], unit: str) -> Figure:
    pod = next(one for one in proof.seen.pods if one.after.endpoint)
    return Figure(
        kind="trace",
        title="What the pods counted since the client began",
        checks=_CHECKS,
        unit=unit,
        seconds=pod.after.at,
        series=lines,
        marks=[
            Mark(at=pod.quiet.at, label="nothing sent until here"),
            Mark(at=pod.before.at, label="warm-up counted"),
        ],
    )


def _answers(seen: StackObservation) -> Figure:
    """Return how long each request of ours waited for its answer."""
    answers = seen.batch.answers
    begun = min(one.at for one in answers)
    return Figure(
        kind="timeline",
        title=f"{len(answers)} requests, each with an id of its own",
        checks=["stack.served"],
        seconds=max(one.at + one.seconds for one in answers) - begun,
        lanes=[
            Lane(
                name=one.id,
                spans=[
                    Span(
                        start=one.at - begun,
                        end=one.at - begun + one.seconds,
                        state="waits" if one.answered else "failed",
                    )
                ],
            )
            for one in answers
        ],
    )
