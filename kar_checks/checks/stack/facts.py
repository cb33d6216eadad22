"""What is shown beside each verdict on a stack: the counters, bytes and ids behind it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from kar_checks.checks.stack.carried import Moved
from kar_checks.checks.stack.engines import Quantity
from kar_checks.checks.stack.observation import StackPod
from kar_checks.checks.stack.proof import Proof, size
from kar_checks.model import Fact

_COUNTED: tuple[tuple[Quantity, str], ...] = (
    ("requests", "requests"),
    ("computed", "prompt tokens computed"),
    ("received", "prompt tokens received"),
    ("failures", "failed transfers"),
)


def facts(check: str, proof: Proof) -> list[Fact]:
    """Return the facts of a check."""
    batch = proof.seen.batch
    answered = Fact(
        name="requests answered",
        value=f"{len(proof.answered)} of {len(batch.answers)}, model {batch.model}",
        expected=str(len(batch.answers)),
        source=f"POST {batch.path} from a pod in the cluster",
    )
    if check == "stack.served":
        return [answered]
    metrics = Fact(
        name="metrics",
        value=f"named as by {proof.engines}",
        source=", ".join(sorted({one.after.endpoint for one in proof.seen.pods})) or "none",
    )
    pods = [_of_pod(proof, one) for one in proof.seen.pods]
    grade = _of_grade(proof) if check == "stack.transferred" else []
    return [*grade, answered, metrics, *pods]


def _of_grade(proof: Proof) -> list[Fact]:
    accounts = {True: "agree", False: "disagree", None: "not kept"}[proof.accounts]
    sums = token_accounts(proof)
    carried = proof.bytes
    claimed = size(carried.claimed) if carried.claimed else "nothing"
    why = f" ({carried.why})" if carried.why else ""
    out = [
        Fact(name="grade of proof", value=proof.grade.words, expected="3 or better by default"),
        Fact(
            name="token accounts",
            value=f"{accounts}: {sums}" if sums else accounts,
            expected="prefill computes them all, decode receives them all",
            source="counters of the engines, after minus before",
        ),
        Fact(
            name="bytes",
            value=f"{carried.verdict.value}: {claimed} claimed, {moved(proof)} carried{why}",
            expected="carried",
            source="/proc/net/dev (and RDMA ports) of the pods around each request, warm-up "
            "included, less what they carry without requests",
        ),
        *_of_carriage(proof),
        Fact(
            name="request ids",
            value=f"{proof.ids} of {len(proof.answered)}",
            expected=f"{len(proof.answered)} in exactly one log of each phase",
            source="logs of the pods",
        ),
    ]
    if proof.simulator:
        out.append(Fact(name="signs of a simulator", value=proof.simulator, expected="none"))
    return out


def _of_carriage(proof: Proof) -> list[Fact]:
    found = proof.carriage
    alone = {
        "short": [one for one in found.moved if one.alone and one.asked[0].short],
        "long": [one for one in found.moved if one.alone and not one.asked[0].short],
    }
    out = [
        Fact(
            name=f"carried for one {word} prompt",
            value=f"{each(windows)} ({len(windows)} requests)",
            source=f"prompts of about {median(one.asked[0].tokens for one in windows):,.0f} tokens",
        )
        for word, windows in alone.items()
        if windows
    ]
    if found.beside:
        rates = ", ".join(
            f"{'decode' if side == 'received' else 'prefill'} {side} {size(one.rate)} "
            f"(± {size(one.spread)})"
            for side, one in found.beside.items()
        )
        out.append(Fact(name="carried per second without requests", value=rates))
    return out


def _of_pod(proof: Proof, pod: StackPod) -> Fact:
    counted = [
        f"{number:,.0f} {word}"
        for quantity, word in _COUNTED
        if (number := proof.delta(pod, quantity)) is not None
    ]
    if (state := proof.delta(pod, "bytes")) is not None:
        counted.append(f"{size(state)} of KV state counted")
    if pod.traffic_before and pod.traffic_after:
        received = pod.traffic_after.received - pod.traffic_before.received
        sent = pod.traffic_after.sent - pod.traffic_before.sent
        counted.append(f"interface received {size(received)}, sent {size(sent)}")
    if pod.log is not None:
        counted.append(f"{len(pod.log.ids)} of our ids in its log")
    return Fact(
        name=f"{pod.role} pod {pod.name}",
        value="; ".join(counted) or "nothing was counted",
        source=f"on {pod.node}, by {pod.role_by}",
    )


# -- the same in words ------------------------------------------------------------------------


def token_accounts(proof: Proof) -> str:
    """Return the sums of the engines' token accounts; empty if they keep none."""
    accounts: tuple[tuple[str, list[StackPod], Quantity], ...] = (
        ("prefill computed", proof.prefill, "computed"),
        ("decode received", proof.decode, "received"),
        ("decode computed", proof.decode, "computed"),
    )
    parts = [
        f"{words} {number:,.0f}"
        for words, group, quantity in accounts
        if (number := proof.total(group, quantity)) is not None
    ]
    return (
        f"of {proof.tokens:,.0f} prompt tokens {', '.join(parts)}" if parts and proof.tokens else ""
    )


def length(proof: Proof) -> str:
    """Return how long the prompts were."""
    if not proof.tokens:
        return "unknown length"
    return f"{proof.tokens / len(proof.answered):,.0f} tokens on average"


def moved(proof: Proof) -> str:
    """Return how much the interfaces carried for all requests."""
    return "an unknown amount" if proof.bytes.moved is None else size(proof.bytes.moved)


def each(windows: Sequence[Moved]) -> str:
    """Return how much was moved for each of several requests."""
    low, high = min(one.likely for one in windows), max(one.likely for one in windows)
    return size(high) if size(low) == size(high) else f"{size(low)} to {size(high)}"


def names(pods: Sequence[StackPod]) -> str:
    """Return the names of pods, of the first few where they are many."""
    return ", ".join(one.name for one in pods[:6])
