"""The verdicts on the user's own stack: observation and profile in, findings out. Pure.

What may have spoiled the batch (nobody answered, a pod restarted, somebody else's requests) goes
before every claim; then whether decode worked alone, which is the most common lie; then whether the
servers are a simulator; then what no interface carried; then the grade of proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import cast

from kar_checks.checks.stack.carried import Moved
from kar_checks.checks.stack.observation import StackObservation, StackPod
from kar_checks.checks.stack.proof import (
    Carried,
    Grade,
    Proof,
    evidence,
    foreign,
    restarted,
    size,
)
from kar_checks.kit.judging import not_recorded, unless_beside
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Finding, Observation, Outcome
from kar_checks.profile import Profile

_COUNTED = ("bytes_not_carried", "nothing_moved", "decode_only")
"""Failures by counters, to which the requests of another run may have added."""


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check."""
    observed = cast("StackObservation", seen)
    proof = Proof(observed, profile)
    ruling = _RULES[check](observed, proof, profile)
    if ruling.reason in _COUNTED:
        ruling = unless_beside(ruling, seen)
    return [
        ruling.finding(
            check,
            [*ruling.facts, *_facts(check, observed, proof)],
            evidence(observed, profile),
            observed.trial,
        )
    ]


# -- does it answer ---------------------------------------------------------------------------


def _served(seen: StackObservation, proof: Proof, _: Profile) -> Ruling:
    answers = seen.batch.answers
    if seen.problem or not answers:
        return _undecided(
            "not_reached",
            f"the stack could not be asked: {seen.problem or 'no request was sent'}",
            "look whether the URL is reached from a pod in the cluster, and give --target-model",
        )
    total, good = len(answers), len(proof.answered)
    bad = [one for one in answers if not one.answered]
    if not bad:
        return Ruling(
            Outcome.PASS,
            "answered",
            f"all {total} requests with prompts of {seen_tokens(proof)} were answered",
            would_change="a request without an answer",
        )
    told = f"{good} of {total} requests were answered; first problem: {_problem(seen)}"
    if all(one.status == 0 for one in bad) and not good:
        return _undecided(
            "not_reached", told, "look whether the URL is reached from a pod in the cluster"
        )
    # A redirect is not followed: it would hand the credential to somebody else.
    if all(300 <= one.status < 500 for one in bad):
        return _undecided(
            "refused",
            told,
            "give what the stack wants: the address to which a redirect points, --target-model, "
            "--target-credential, a shorter prompt by "
            "--set stack.prompt_words=…, fewer requests at once by --set stack.at_once=…",
        )
    return Ruling(
        Outcome.FAIL, "requests_failed", told, would_change="an answer with text to each request"
    )


def _problem(seen: StackObservation) -> str:
    bad = next(one for one in seen.batch.answers if not one.answered)
    status = f"HTTP {bad.status}" if bad.status else "no answer"
    return f"{status} {bad.problem}".strip()[:200]


# -- separate pods ----------------------------------------------------------------------------


def _separate(seen: StackObservation, proof: Proof, profile: Profile) -> Ruling:
    if not proof.prefill and proof.decode and all(one.role == "both" for one in proof.decode):
        return Ruling(
            Outcome.FAIL,
            "same_pods",
            f"the same {len(proof.decode)} pods serve prefill and decode: {_names(proof.decode)}",
            would_change="pods that serve one of the phases each",
        )
    if ruling := _spoiled(seen, proof, profile) or _decode_only(proof):
        return ruling
    worked = {
        word: _worked(proof, group)
        for word, group in (("prefill", proof.prefill), ("decode", proof.decode))
    }
    if not all(worked.values()) and not proof.ids_agree:
        missing = " and ".join(word for word, there in worked.items() if not there)
        return _undecided(
            "not_attributed",
            f"neither counters nor logs tell that {missing} pods worked on our requests",
            "let the engines export their metrics, or log request ids",
        )
    nodes = {one.node for one in proof.prefill} & {one.node for one in proof.decode}
    shared = f"; they share {', '.join(sorted(nodes))}" if nodes else ", on different nodes"
    return Ruling(
        Outcome.PASS,
        "separate",
        f"{len(proof.prefill)} prefill and {len(proof.decode)} decode pods, none of them both, "
        f"worked on {len(proof.answered)} requests{shared}",
        would_change="a prompt that decode computed itself, or a pod of both phases",
    )


def _worked(proof: Proof, group: list[StackPod]) -> bool:
    """Say whether a phase counted something for about all of the batch."""
    wanted = (1 - proof.tolerance) * len(proof.answered)
    requests = proof.total(group, "requests")
    tokens = proof.total(group, "computed") or 0
    return (requests is not None and requests >= wanted) or bool(
        proof.tokens and tokens >= (1 - proof.tolerance) * proof.tokens
    )


# -- state moved ------------------------------------------------------------------------------


def _transferred(seen: StackObservation, proof: Proof, profile: Profile) -> Ruling:
    if ruling := _spoiled(seen, proof, profile) or _decode_only(proof):
        return ruling
    if proof.signs:
        return _undecided(
            "simulator",
            f"this is a simulator, whose KV transfer is invented: {proof.simulator}",
            "assess a stack with a real engine",
        )
    carried = proof.bytes
    if carried.verdict is Carried.NO:
        if not proof.seen_by_decode:
            return _elsewhere(proof)
        if carried.claimed:
            return Ruling(
                Outcome.FAIL,
                "bytes_not_carried",
                f"the engines claim to have moved {size(carried.claimed)}, and the interfaces "
                f"carried {_moved(proof)}: the transfer is invented",
                would_change="interfaces that carried what the engines claim",
            )
        return Ruling(
            Outcome.FAIL,
            "nothing_moved",
            f"prompts of {seen_tokens(proof)} were answered, and the interfaces carried "
            f"{_moved(proof)}: that is text, and no KV state",
            would_change=f"at least {profile.number('stack.floor_bytes'):g} bytes for each prompt "
            "token between prefill and decode",
        )
    if carried.verdict is Carried.UNRECORDED:
        return not_recorded("what the interfaces carried for each request, and without any")
    if proof.accounts is False:
        return _undecided(
            "accounts_disagree",
            "the engines' token accounts do not agree with what was sent: "
            f"{_accounts(proof) or 'nothing was counted'}",
            "look at the versions of the engines: some count wrongly",
        )
    least = Grade(max(1, min(4, round(profile.number("stack.least_grade")))))
    if proof.grade is Grade.NONE or proof.grade > least:
        return _undecided(
            "not_proven",
            f"all requests were answered; grade of proof: {proof.grade.words}, and wanted is "
            f"{least.words}. {_missing(proof)}",
            "let the engines export their metrics and log request ids, allow exec into their pods "
            "so that interfaces can be read, or accept a lower grade by --set stack.least_grade=4",
        )
    return Ruling(
        Outcome.PASS,
        "transferred",
        f"proved by {proof.grade.words}: {_proved(proof)}. {_missing(proof)}".strip(),
        would_change="decode that computes the prompts itself, or interfaces that carried less",
    )


def _spoiled(seen: StackObservation, proof: Proof, profile: Profile) -> Ruling | None:
    served = _served(seen, proof, profile)
    if served.outcome is not Outcome.PASS:
        return _undecided(
            "not_served",
            f"without answers to all requests nothing can be said: {served.summary}",
            served.help,
        )
    for word, group in (("prefill", proof.prefill), ("decode", proof.decode)):
        if not group:
            return _undecided(
                f"no_{word}_pods",
                f"no running {word} pod was found in {seen.namespace}",
                "name the pods by --target-prefill and --target-decode, and their namespace by "
                "--target-namespace",
            )
    changes = [told for one in seen.pods if (told := restarted(one))]
    changes += [f"pod {name} is new" for name in seen.new_pods]
    if changes:
        return _undecided(
            "pods_changed",
            f"the stack changed meanwhile, so that its counters do not add up: {changes[0]}",
            "run again when it is at rest",
        )
    if told := foreign(seen, proof):
        return _undecided(
            "foreign_traffic",
            f"somebody else used the stack meanwhile: {told}",
            "run again at a quieter time, or against a copy that nobody else uses",
        )
    return None


def _decode_only(proof: Proof) -> Ruling | None:
    share = proof.remote_share
    if (received := proof.prefilled_elsewhere) is not None:
        return _undecided(
            "not_these_pods",
            f"decode received {size(received)} while it served {len(proof.answered)} requests, and "
            f"{_names(proof.prefill)} neither sent it nor saw the requests: other pods do the "
            "prefill",
            "name the prefill pods that decode uses by --target-prefill",
        )
    if proof.unseen_by_decode:
        return _elsewhere(proof)
    if share is not None and share < 1 - proof.tolerance:
        if proof.uncounted:
            return _undecided(
                "counters_incomplete",
                f"the logs of {_names(proof.uncounted)} have our request ids, and the counters "
                "that were found there do not have the requests: servers in these pods tell their "
                "metrics elsewhere",
                "declare the ports of all servers with metrics in the pods' containers",
            )
        if not proof.seen_by_decode:
            return _elsewhere(proof)
        if share <= proof.tolerance:
            return Ruling(
                Outcome.FAIL,
                "decode_only",
                f"all {len(proof.answered)} requests were answered, and decode did the prefill "
                f"itself: {_accounts(proof) or 'the prefill pods finished no request'}",
                would_change="prompts that prefill pods compute",
            )
        return _partly(
            f"{share:.0%} of the prompts came from prefill, the rest decode computed itself: "
            f"{_accounts(proof)}"
        )
    if short := proof.fell_short:
        number = sum(len(one.asked) for one in short)
        total = sum(len(one.asked) for one in proof.carriage.moved)
        return _partly(
            f"{number} of {total} requests, the warm-up included, moved less KV state than others "
            f"of their length ({_each(short)}), whatever the engines count: decode computed the "
            "rest itself"
        )
    return None


def _elsewhere(proof: Proof) -> Ruling:
    """Return that others answered: what these pods did says nothing about the stack."""
    reached = proof.reached
    told = (
        "nothing shows that the decode pods saw any of them"
        if reached is None
        else f"the decode pods saw {reached:.0%} of them"
    )
    return _undecided(
        "not_these_pods",
        f"all {len(proof.answered)} requests were answered, and {told} ({_names(proof.decode)}): a "
        "cache before the stack answered, or the URL leads to other pods",
        "name the pods behind the URL by --target-namespace, --target-prefill and --target-decode, "
        "and give an address behind the cache",
    )


def _partly(summary: str) -> Ruling:
    return _undecided(
        "partly_decode_only",
        summary,
        "raise the length of the prompts by --set stack.prompt_words=… if the router decides by "
        "it, and look whether prefill has enough room and whether transfers fail",
    )


def _each(moved: Sequence[Moved]) -> str:
    low, high = min(one.likely for one in moved), max(one.likely for one in moved)
    return size(high) if size(low) == size(high) else f"{size(low)} to {size(high)}"


# -- words and facts --------------------------------------------------------------------------


def _proved(proof: Proof) -> str:
    parts = [_accounts(proof)] if proof.accounts else []
    if proof.bytes.verdict is Carried.YES:
        claimed = proof.bytes.claimed
        said = f"{size(claimed)} claimed and " if claimed else ""
        gained = proof.carriage.gained
        more = f", {size(gained)} for each further prompt token" if gained else ""
        parts.append(f"{said}{_moved(proof)} carried by the interfaces{more}")
    if proof.ids_agree:
        parts.append(
            f"{proof.ids} of {len(proof.answered)} request ids in the logs of exactly one pod of "
            "each phase"
        )
    return "; ".join(parts)


def _missing(proof: Proof) -> str:
    """Say plainly which kinds of proof are not there."""
    out: list[str] = []
    if proof.accounts is None:
        out.append("the engines keep no token accounts")
    if proof.bytes.verdict is Carried.UNSEEN:
        out.append(f"bytes were not seen to move ({proof.bytes.why})")
    if proof.bytes.verdict is Carried.UNATTRIBUTED:
        out.append(
            f"{_moved(proof)} that the interfaces carried cannot be attributed to the prompts "
            f"({proof.bytes.why})"
        )
    if not proof.ids_agree:
        out.append(
            f"{proof.ids} of {len(proof.answered)} request ids were found in the logs of both "
            "phases: they may be hidden there"
        )
    return f"Missing: {'; '.join(out)}." if out else ""


def _accounts(proof: Proof) -> str:
    parts = [
        f"{word} {verb} {number:,.0f}"
        for word, group, quantity, verb in (
            ("prefill", proof.prefill, "computed", "computed"),
            ("decode", proof.decode, "received", "received"),
            ("decode", proof.decode, "computed", "computed"),
        )
        if (number := proof.total(group, quantity)) is not None  # type: ignore[arg-type]
    ]
    if not parts or not proof.tokens:
        return ""
    return f"of {proof.tokens:,.0f} prompt tokens {', '.join(parts)}"


def seen_tokens(proof: Proof) -> str:
    """Return how long the prompts were."""
    if not proof.tokens:
        return "unknown length"
    return f"{proof.tokens / len(proof.answered):,.0f} tokens on average"


def _moved(proof: Proof) -> str:
    moved = proof.bytes.moved
    return "an unknown amount" if moved is None else size(moved)


def _names(pods: list[StackPod]) -> str:
    return ", ".join(one.name for one in pods[:6])


def _facts(check: str, seen: StackObservation, proof: Proof) -> list[Fact]:
    general = [
        Fact(
            name="requests answered",
            value=f"{len(proof.answered)} of {len(seen.batch.answers)}, model {seen.batch.model}",
            expected=str(len(seen.batch.answers)),
            source=f"POST {seen.batch.path} from a pod in the cluster",
        )
    ]
    if check == "stack.served":
        return general
    out = [
        Fact(
            name="metrics",
            value=f"named as by {proof.engines}",
            source=", ".join(sorted({one.after.endpoint for one in seen.pods})) or "none",
        ),
        *(_pod_fact(proof, one) for one in seen.pods),
    ]
    if check == "stack.separate_phases":
        return [*general, *out]
    return [*_grade_facts(proof), *general, *out]


def _grade_facts(proof: Proof) -> list[Fact]:
    accounts = {True: "agree", False: "disagree", None: "not kept"}[proof.accounts]
    carried = proof.bytes
    sums = _accounts(proof)
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
            value=f"{carried.verdict.value}: "
            f"{size(carried.claimed) if carried.claimed else 'nothing'} claimed, "
            f"{_moved(proof)} carried" + (f" ({carried.why})" if carried.why else ""),
            expected="carried",
            source="/proc/net/dev (and RDMA ports) of the pods around each request, warm-up "
            "included, less what they carry without requests",
        ),
        *_carriage_facts(proof),
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


def _carriage_facts(proof: Proof) -> list[Fact]:
    found = proof.carriage
    alone = {
        "short": [one for one in found.moved if one.alone and one.asked[0].short],
        "long": [one for one in found.moved if one.alone and not one.asked[0].short],
    }
    out = [
        Fact(
            name=f"carried for one {word} prompt",
            value=f"{_each(windows)} ({len(windows)} requests)",
            source=f"prompts of about {median(one.asked[0].tokens for one in windows):,.0f} tokens",
        )
        for word, windows in alone.items()
        if windows
    ]
    if found.beside:
        told = ", ".join(
            f"{'decode' if side == 'received' else 'prefill'} {side} {size(one.rate)} "
            f"(± {size(one.spread)})"
            for side, one in found.beside.items()
        )
        out.append(Fact(name="carried a second without requests", value=told))
    return out


def _pod_fact(proof: Proof, pod: StackPod) -> Fact:
    told: list[str] = []
    for quantity, word in (
        ("requests", "requests"),
        ("computed", "prompt tokens computed"),
        ("received", "prompt tokens received"),
        ("failures", "failed transfers"),
    ):
        number = proof.delta(pod, quantity)  # type: ignore[arg-type]
        if number is not None:
            told.append(f"{number:,.0f} {word}")
    moved = proof.delta(pod, "bytes")
    told += [f"{size(moved)} of KV state counted"] if moved is not None else []
    if pod.traffic_before and pod.traffic_after:
        received = pod.traffic_after.received - pod.traffic_before.received
        sent = pod.traffic_after.sent - pod.traffic_before.sent
        told.append(f"interface received {size(received)}, sent {size(sent)}")
    if pod.log is not None:
        told.append(f"{len(pod.log.ids)} of our ids in its log")
    return Fact(
        name=f"{pod.role} pod {pod.name}",
        value="; ".join(told) or "nothing was counted",
        source=f"on {pod.node}, by {pod.role_by}",
    )


def _undecided(reason: str, summary: str, advice: str = "") -> Ruling:
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice)


_RULES: dict[str, Callable[[StackObservation, Proof, Profile], Ruling]] = {
    "stack.served": _served,
    "stack.separate_phases": _separate,
    "stack.transferred": _transferred,
}
