"""The verdicts on the user's own stack: observation and profile in, findings out. Pure.

What may have spoiled the batch (nobody answered, a pod restarted, somebody else's requests) goes
before every claim; then whether decode worked alone, which is the most common lie; then whether the
servers are a simulator; then what no interface carried; then the grade of proof.
"""

from __future__ import annotations

from collections.abc import Sequence

from kar_checks.checks.stack.carried import Moved
from kar_checks.checks.stack.facts import each, facts, length, moved, names, token_accounts
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
from kar_checks.kit.judging import Case, Judge, Rule, not_recorded, unless_beside
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Outcome

_COUNTED = ("bytes_not_carried", "nothing_moved", "decode_only")
"""Failures by counters, to which the requests of another run may have added."""

_Case = Case[StackObservation, Proof]
verdict = Reasons(__package__)


# -- does it answer ---------------------------------------------------------------------------


def _served(case: _Case) -> Ruling:
    seen, proof = case.run, case.seen
    answers = seen.batch.answers
    if seen.problem or not answers:
        return verdict("not_reached", problem=seen.problem or "the client sent none")
    bad = [one for one in answers if not one.answered]
    total, good = len(answers), len(proof.answered)
    if not bad:
        return verdict("answered", total=total, length=length(proof))
    status = f"HTTP {bad[0].status}" if bad[0].status else "no answer"
    problem = f"{status} {bad[0].problem}".strip()[:200]
    if all(one.status == 0 for one in bad) and not good:
        return verdict("not_reached.no_answer", total=total, problem=problem)
    # A redirect is not followed: it would hand the credential to somebody else.
    if all(300 <= one.status < 500 for one in bad):
        return verdict("refused", refused=len(bad), total=total, problem=problem)
    values = {"failed": len(bad), "total": total, "problem": problem}
    return verdict("requests_failed", namespace=seen.namespace, **values)


# -- separate pods ----------------------------------------------------------------------------


def _separate(case: _Case) -> Ruling:
    proof = case.seen
    if _one_for_both(proof):
        return verdict("same_pods", count=len(proof.decode), pods=names(proof.decode))
    if ruling := _decode_only(proof):
        return ruling
    idle = [
        phase
        for phase, group in (("prefill", proof.prefill), ("decode", proof.decode))
        if not _worked(proof, group)
    ]
    if idle and not proof.ids_agree:
        return verdict("not_attributed", phases=" and ".join(idle))
    nodes = {one.node for one in proof.prefill} & {one.node for one in proof.decode}
    where = f"they share {', '.join(sorted(nodes))}" if nodes else "they are on different nodes"
    counts = {"prefill": len(proof.prefill), "decode": len(proof.decode)}
    return verdict("separate", total=len(proof.answered), where=where, **counts)


def _one_for_both(proof: Proof) -> bool:
    """Return whether all pods serve both phases: that shows before anything is counted."""
    return bool(
        not proof.prefill and proof.decode and all(one.role == "both" for one in proof.decode)
    )


def _worked(proof: Proof, group: list[StackPod]) -> bool:
    """Return whether a phase counted something for about all of the batch."""
    wanted = (1 - proof.tolerance) * len(proof.answered)
    requests = proof.total(group, "requests")
    tokens = proof.total(group, "computed") or 0
    return (requests is not None and requests >= wanted) or bool(
        proof.tokens and tokens >= (1 - proof.tolerance) * proof.tokens
    )


# -- state moved ------------------------------------------------------------------------------


def _transferred(case: _Case) -> Ruling:
    proof = case.seen
    if ruling := _decode_only(proof):
        return ruling
    if proof.signs:
        return verdict("simulator", signs=proof.simulator)
    if proof.bytes.verdict is Carried.NO:
        return _not_carried(case, proof)
    if proof.bytes.verdict is Carried.UNRECORDED:
        return not_recorded("what the interfaces carried for each request, and without any")
    if proof.accounts is False:
        return verdict("accounts_disagree", accounts=token_accounts(proof) or "nothing was counted")
    least = Grade(max(1, min(4, round(case.profile.number("stack.least_grade")))))
    missing = _missing(proof)
    if proof.grade is Grade.NONE or proof.grade > least:
        return verdict("not_proven", grade=proof.grade.words, least=least.words, missing=missing)
    proved = _proved(proof)
    return verdict("transferred", grade=proof.grade.words, proved=proved, missing=missing)


def _not_carried(case: _Case, proof: Proof) -> Ruling:
    if not proof.seen_by_decode:
        return _elsewhere(proof)
    carried, namespace = moved(proof), case.run.namespace
    if claimed := proof.bytes.claimed:
        values = {"claimed": size(claimed), "carried": carried, "namespace": namespace}
        return verdict("bytes_not_carried", **values)
    return verdict(
        "nothing_moved",
        length=length(proof),
        carried=carried,
        namespace=namespace,
        floor=case.profile.number("stack.floor_bytes"),
    )


# -- what goes before every claim about phases ------------------------------------------------


def _about_phases(case: _Case) -> bool:
    """Return whether the check needs answers and counters of two kinds of pod."""
    return case.check != "stack.served" and not (
        case.check == "stack.separate_phases" and _one_for_both(case.seen)
    )


def _unusable(case: _Case) -> Ruling | None:
    if not _about_phases(case):
        return None
    served, proof = _served(case), case.seen
    if served.outcome is not Outcome.PASS:
        return verdict("not_served", why=served.summary, remedy=served.help)
    for phase, group in (("prefill", proof.prefill), ("decode", proof.decode)):
        if not group:
            return verdict(
                "no_prefill_pods" if phase == "prefill" else "no_decode_pods",
                namespace=case.run.namespace,
            )
    return None


def _changed(case: _Case) -> Ruling | None:
    """Return that pods were replaced, or that others used them."""
    if not _about_phases(case):
        return None
    changes = [change for one in case.run.pods if (change := restarted(one))]
    changes += [f"pod {name} is new" for name in case.run.new_pods]
    if changes:
        return verdict("pods_changed", change=changes[0])
    use = foreign(case.run, case.seen)
    return verdict("foreign_traffic", use=use) if use else None


# -- decode alone -----------------------------------------------------------------------------


def _decode_only(proof: Proof) -> Ruling | None:
    total = len(proof.answered)
    if (received := proof.prefilled_elsewhere) is not None:
        values = {"received": size(received), "pods": names(proof.prefill)}
        return verdict("not_these_pods.prefill", total=total, **values)
    if proof.unseen_by_decode:
        return _elsewhere(proof)
    share = proof.remote_share
    if share is not None and share < 1 - proof.tolerance:
        return _without_prefill(proof, share)
    return _fell_short(proof, proof.fell_short) if proof.fell_short else None


def _without_prefill(proof: Proof, share: float) -> Ruling:
    """Return what it means that decode received only this share of the prompts."""
    if proof.uncounted:
        return verdict("counters_incomplete", pods=names(proof.uncounted))
    if not proof.seen_by_decode:
        return _elsewhere(proof)
    accounts = token_accounts(proof)
    if share > proof.tolerance:
        return verdict("partly_decode_only", share=share, accounts=accounts)
    return verdict(
        "decode_only",
        total=len(proof.answered),
        accounts=accounts or "the prefill pods finished no request",
        namespace=proof.seen.namespace,
    )


def _fell_short(proof: Proof, short: Sequence[Moved]) -> Ruling:
    number = sum(len(one.asked) for one in short)
    total = sum(len(one.asked) for one in proof.carriage.moved)
    return verdict("partly_decode_only.bytes", number=number, total=total, carried=each(short))


def _elsewhere(proof: Proof) -> Ruling:
    """Return that others answered: what these pods did shows nothing about the stack."""
    return verdict(
        "not_these_pods" if proof.reached is None else "not_these_pods.partly",
        total=len(proof.answered),
        share=proof.reached or 0,
        pods=names(proof.decode),
    )


# -- what is proved ---------------------------------------------------------------------------


def _proved(proof: Proof) -> str:
    parts = [token_accounts(proof)] if proof.accounts else []
    if proof.bytes.verdict is Carried.YES:
        claimed, gained = proof.bytes.claimed, proof.carriage.gained
        counted = f"{size(claimed)} claimed and " if claimed else ""
        more = f", {size(gained)} for each further prompt token" if gained else ""
        parts.append(f"{counted}{moved(proof)} carried by the interfaces{more}")
    if proof.ids_agree:
        parts.append(
            f"{proof.ids} of {len(proof.answered)} request ids in the logs of exactly one pod of "
            "each phase"
        )
    return "; ".join(parts)


def _missing(proof: Proof) -> str:
    """Return which kinds of proof were not found, as a sentence after another one."""
    out: list[str] = []
    if proof.accounts is None:
        out.append("the engines keep no token accounts")
    if proof.bytes.verdict is Carried.UNSEEN:
        out.append(f"bytes were not seen to move ({proof.bytes.why})")
    if proof.bytes.verdict is Carried.UNATTRIBUTED:
        out.append(
            f"{moved(proof)} that the interfaces carried cannot be attributed to the prompts "
            f"({proof.bytes.why})"
        )
    if not proof.ids_agree:
        out.append(
            f"{proof.ids} of {len(proof.answered)} request ids were found in the logs of both "
            "phases: they may be hidden there"
        )
    return f". Missing: {'; '.join(out)}" if out else ""


def _unless_shared(case: _Case, ruling: Ruling) -> Ruling:
    return unless_beside(ruling, case.run) if ruling.reason in _COUNTED else ruling


judge = Judge[StackObservation, Proof](
    rules={
        "stack.served": Rule((), _served),
        "stack.separate_phases": Rule((), _separate),
        "stack.transferred": Rule((), _transferred),
    },
    # What an observation proves, and how real it is, is up to the profile.
    variants=lambda run, profile: {"": Proof(run, profile)},
    evidence=evidence,
    unusable=_unusable,
    changed_by_others=_changed,
    revise=_unless_shared,
    context=lambda case: facts(case.check, case.seen),
)
