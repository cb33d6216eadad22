"""The verdicts on disaggregated serving: observation and profile in, findings out. Pure.

First whether anything was answered at all, then the claim, then the controls that a pass needs: a
failure that was seen holds without them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import cast

from kar_checks.checks.disaggregation.moved import Moved, mib, summed
from kar_checks.checks.disaggregation.observation import (
    Batch,
    DisaggregationObservation,
    Loss,
    PodSeen,
    Policy,
    RequestSeen,
    Scaling,
)
from kar_checks.cluster.pods import OPT_OUT, opt_out, relevant
from kar_checks.kit.judging import Case, Judge, Rule, unless_beside
from kar_checks.kit.pulse import too_short
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact
from kar_checks.profile import Profile

LEAST_SCALING_REQUESTS = 10
_BROKEN = re.compile(r"kv_|prefill_")
"""How the codes begin with which decode refuses a request whose state did not come."""
_PROGRAM = re.compile(r"(^|\.)spec\.(containers|initContainers)(?!.*\.resources)")
_SLOWED = ("too_slow", "not_streamed")
"""Failures by time, which another run takes."""
_POLICY = "with prefill shut off by a NetworkPolicy"

_Case = Case[DisaggregationObservation, DisaggregationObservation]
verdict = Reasons(__package__)


# -- where the phases ran ---------------------------------------------------------------------


def _separate_pods(case: _Case) -> Ruling:
    requests = _sent(case.seen.main)
    answered = _answered(requests)
    if ruling := _none_answered(requests) or _ids_hidden(case.seen, answered):
        return ruling
    if alone := [one for one in answered if not one.of("prefill")]:
        return verdict("no_prefill", alone=len(alone), total=len(answered))
    if lost := [one for one in answered if not one.of("decode")]:
        return verdict("ids_not_logged.decode", lost=len(lost), total=len(answered))
    names = {
        phase: {line.pod for one in answered for line in one.of(phase)}
        for phase in ("prefill", "decode")
    }
    if both := names["prefill"] & names["decode"]:
        return verdict("same_pod", pods=_names(both))
    pods = {one.name: one for one in case.seen.pods}
    worked = {phase: [pods[one] for one in sorted(found)] for phase, found in names.items()}
    facts = [
        Fact(
            name=f"pods that did {phase}",
            value=", ".join(f"{one.name} on {one.node}" for one in found),
            source="their own logs, spec.nodeName",
        )
        for phase, found in worked.items()
    ]
    nodes = {phase: {one.node for one in found} for phase, found in worked.items()}
    if ruling := (
        _labels(worked, facts)
        or _same_node(nodes, case.seen.nodes_usable, facts)
        or _not_all_answered(requests)
    ):
        return ruling
    where = {phase: _names(found) for phase, found in nodes.items()}
    return verdict("separate", facts, total=len(answered), **where)


def _labels(worked: Mapping[str, list[PodSeen]], facts: list[Fact]) -> Ruling | None:
    """Return that labels are missing, or name another phase than the one that a pod did."""
    if bare := {one.name for found in worked.values() for one in found if not one.role}:
        return verdict("role_label_missing", pods=_names(bare), opt_out=OPT_OUT)
    wrong = [
        f"{one.name} did {phase} and is labelled {one.role}"
        for phase, found in worked.items()
        for one in found
        if one.role != phase
    ]
    return verdict("labels_contradict_phases", facts, pods=", ".join(wrong)) if wrong else None


def _same_node(
    nodes: Mapping[str, set[str]], usable: int | None, facts: list[Fact]
) -> Ruling | None:
    shared = nodes["prefill"] & nodes["decode"]
    if not shared:
        return None
    if usable is None or usable < 2:
        return verdict("same_node.only_one", nodes=_names(shared))
    return verdict("same_node", facts, nodes=_names(shared), usable=usable)


def _request_ids(case: _Case) -> Ruling:
    requests = _sent(case.seen.main)
    answered = _answered(requests)
    if ruling := (
        _none_answered(requests)
        or _ids_hidden(case.seen, answered)
        or _not_in_one_log(answered)
        or _phases_twice(answered)
        or _not_all_answered(requests)
    ):
        return ruling
    one = answered[0]
    way = Fact(
        name=f"one of them, {one.id}",
        value=f"{one.of('prefill')[0].pod}, then {one.of('decode')[0].pod}",
        source="JSON lines of their logs",
    )
    return verdict("followed", [way], total=len(answered))


def _not_in_one_log(answered: list[RequestSeen]) -> Ruling | None:
    for phase in ("prefill", "decode"):
        pods = {one.id: {line.pod for line in one.of(phase)} for one in answered}
        total = len(answered)
        if missing := [one for one, found in pods.items() if not found]:
            return verdict(
                "id_missing", missing=len(missing), total=total, phase=phase, example=missing[0]
            )
        if several := [one for one, found in pods.items() if len(found) > 1]:
            return verdict(
                "id_in_several", several=len(several), total=total, phase=phase, example=several[0]
            )
    return None


# -- whether the state moved ------------------------------------------------------------------


def _state_transferred(case: _Case) -> Ruling:
    batch, straight = cast("Batch", case.seen.main), cast("Batch", case.seen.straight)
    moved = Moved.of(case.seen, batch)
    return (
        _none_answered(batch.requests)
        or _transfers_broke(batch.requests)
        or _not_all_answered(batch.requests)
        or _no_counters(batch)
        or _unread(moved)
        or _wrong_size(batch, moved, case.profile)
        or _control_unanswered(straight.requests)
        or _control_transferred(straight)
        or _pace(batch, moved, case.profile)
    )


def _transfers_broke(requests: list[RequestSeen]) -> Ruling | None:
    """Return that requests were refused because their state did not come."""
    broken = [one for one in requests if one.status != 200 and _BROKEN.match(one.code)]
    if not broken:
        return None
    one = broken[0]
    values = {"example": one.id, "code": one.code, "error": one.error}
    return verdict("transfer_failed", failed=len(broken), total=len(requests), **values)


def _no_counters(batch: Batch) -> Ruling | None:
    """Return why the counters of a batch show nothing about its state."""
    if reset := {one.pod for one in batch.counters if one.reset}:
        return verdict("counters_reset", pods=_names(reset))
    if cached := summed(one.cached_tokens for one in batch.counters):
        tokens = sum(one.tokens for one in batch.requests)
        return verdict("served_from_cache", cached=cached, tokens=tokens)
    return None


def _unread(moved: Moved) -> Ruling | None:
    unread = ", ".join(moved.unread)
    return verdict("metric_missing", moved.facts, unread=unread) if unread else None


def _wrong_size(batch: Batch, moved: Moved, profile: Profile) -> Ruling | None:
    most = profile.number("disaggregation.most_moved") * moved.size
    facts, requests, size = moved.facts, len(batch.requests), mib(moved.size)
    for meter, amount in moved.known.items():
        if amount < moved.size:
            values = {"meter": meter, "moved": mib(amount), "requests": requests, "size": size}
            if not any(moved.counted.values()):
                return verdict("nothing_transferred", facts, **values)
            return verdict(
                "bytes_missing" if meter in moved.counted else "interface_disagrees",
                facts,
                **values,
            )
    for meter, amount in moved.known.items():
        if amount > most:
            values = {"meter": meter, "moved": mib(amount), "requests": requests, "size": size}
            return verdict("moved_twice", facts, most=mib(most), **values)
    return None


def _control_unanswered(straight: list[RequestSeen]) -> Ruling | None:
    """Return that the control shows nothing: decode refused to answer by itself."""
    if straight and all(one.status == 200 for one in straight):
        return None
    error = next((one.error for one in straight if one.status != 200), "none was sent")
    return verdict("control_unanswered", error=error)


def _control_transferred(straight: Batch) -> Ruling | None:
    received = summed(one.received for one in straight.counters)
    if received == 0 and not any(one.of("prefill") for one in straight.requests):
        return None
    shown = "was not read" if received is None else f"grew by {mib(received)}"
    return verdict("control_transferred", counter=shown)


def _pace(batch: Batch, moved: Moved, profile: Profile) -> Ruling:
    """Return the pass, unless the profile judges rate or latency and they are not met."""
    lines = [line for one in batch.requests for line in one.of("decode") if line.transfer_seconds]
    if not lines:
        return verdict("ids_not_logged.transfers")
    rate = median(one.bytes / one.transfer_seconds / 2**20 for one in lines)
    seconds = median(one.transfer_seconds for one in lines)
    least = profile.number("disaggregation.min_mib_per_second")
    most = profile.number("disaggregation.max_transfer_seconds")
    wanted = [f"at least {least:g} MiB/s"] * bool(least) + [f"at most {most:g} s"] * bool(most)
    facts = [
        *moved.facts,
        Fact(
            name="rate of one transfer, verified",
            value=f"{rate:,.0f} MiB/s (median of {len(lines)})",
            expected=f"at least {least:g} MiB/s" if least else "not judged",
            source="decode's log",
        ),
        Fact(
            name="added latency of one transfer",
            value=f"{seconds:.2f} s (median)",
            expected=f"at most {most:g} s" if most else "not judged",
            source="decode's log",
        ),
        Fact(
            name="transferred for a request straight to decode",
            value="0",
            expected="0",
            source="decode's counter, control",
        ),
    ]
    if (least and rate < least) or (most and seconds > most):
        return verdict("too_slow", facts, rate=rate, seconds=seconds, wanted=" and ".join(wanted))
    size = mib(sum(one.bytes for one in lines))
    return verdict("transferred", facts, size=size, requests=len(batch.requests), rate=rate)


# -- whether answers are right ----------------------------------------------------------------


def _correct_output(case: _Case) -> Ruling:
    batch, straight = cast("Batch", case.seen.main), _sent(case.seen.straight)
    policy = cast("Policy", case.seen.policy)
    moved = Moved.of(case.seen, batch)
    if ruling := (
        _not_right(case, batch.requests)
        or _no_counters(batch)
        or _unread(moved)
        or _without_transfer(batch, moved)
        or _control_unanswered(straight)
        or _policy_unclear(policy, case.profile)
    ):
        return ruling
    controls = {
        "straight to decode": straight,
        "without a prefill pod": _sent(case.seen.without_prefill),
        **({_POLICY: [policy.request]} if policy.request is not None else {}),
    }
    if right := [name for name, found in controls.items() if any(one.right for one in found)]:
        return verdict("control_answered_right", controls=" and ".join(right))
    facts = [
        _all_right_fact(batch.requests),
        *(
            Fact(
                name=f"right answers {name}",
                value=f"0 of {len(found)}",
                expected="0",
                source=_how(found),
            )
            for name, found in controls.items()
        ),
        Fact(
            name="NetworkPolicy",
            value="enforced" if _POLICY in controls else "not enforced here, so it proves nothing",
            source="a plain request to prefill under a policy that forbids it",
        ),
    ]
    return verdict("right", facts, total=len(batch.requests), controls=", ".join(controls))


def _without_transfer(batch: Batch, moved: Moved) -> Ruling | None:
    for meter, amount in moved.known.items():
        if amount < moved.size:
            values = {"meter": meter, "moved": mib(amount), "size": mib(moved.size)}
            return verdict(
                "right_without_transfer", moved.facts, total=len(batch.requests), **values
            )
    return None


def _policy_unclear(policy: Policy, profile: Profile) -> Ruling | None:
    """Return why nobody knows whether the NetworkPolicy shut prefill off, if so."""
    if not policy.enforced:
        # Whoever enforces it must have heard of it first.
        return too_short(policy.window, profile.number("disaggregation.policy_seconds"), profile)
    return verdict("policy_did_not_hold") if policy.held is False else None


def _concurrency(case: _Case) -> Ruling:
    requests = _sent(case.seen.concurrent)
    if ruling := (
        _mixed(requests)
        or _not_right(case, requests)
        or _ids_hidden(case.seen, requests)
        or _not_decoded_once(requests)
        or _phases_twice(requests)
        or _other_sizes(case, requests)
    ):
        return ruling
    overlap = _overlap(requests)
    if overlap < 2:
        return verdict("not_concurrent", total=len(requests))
    at_once = Fact(name="at once", value=str(overlap), expected="more than 1", source="the client")
    facts = [_all_right_fact(requests), at_once]
    return verdict("kept_apart", facts, total=len(requests), at_once=overlap)


def _mixed(requests: list[RequestSeen]) -> Ruling | None:
    owners = {one.expected: one.id for one in requests}
    mixed = [one for one in requests if not one.right and owners.get(one.text, one.id) != one.id]
    if not mixed:
        return None
    values = {"example": mixed[0].id, "other": owners[mixed[0].text]}
    return verdict("answers_mixed", mixed=len(mixed), total=len(requests), **values)


def _not_decoded_once(requests: list[RequestSeen]) -> Ruling | None:
    wrong = [one for one in requests if len(one.of("decode")) != 1]
    if not wrong:
        return None
    values = {"example": wrong[0].id, "times": len(wrong[0].of("decode"))}
    return verdict("id_in_several.decode", wrong=len(wrong), total=len(requests), **values)


def _other_sizes(case: _Case, requests: list[RequestSeen]) -> Ruling | None:
    """Return that a request moved less than its state, or much more, as its decode logged it."""
    most = case.profile.number("disaggregation.most_moved")
    for one in requests:
        size = one.tokens * case.seen.shape.token_bytes
        moved = sum(line.bytes for line in one.of("decode"))
        if not size <= moved <= most * size:
            return verdict(
                "bytes_missing.request" if moved < size else "moved_twice.request",
                request=one.id,
                moved=mib(moved),
                size=mib(size),
            )
    return None


def _streaming(case: _Case) -> Ruling:
    requests, profile = _sent(case.seen.streamed), case.profile
    if ruling := _not_right(case, requests):
        return ruling
    pace = profile.number("disaggregation.token_seconds")
    wanted = pace * (profile.number("disaggregation.words") - 1) / 2
    if not wanted:
        return verdict("no_pace")
    facts: list[Fact] = []
    for one in requests:
        parts = one.parts or [0.0]
        spread = parts[-1] - parts[0]
        if len(one.parts) < 2 or spread < wanted:
            return verdict(
                "not_streamed",
                parts=len(one.parts),
                spread=spread,
                made=2 * wanted,
                wanted=wanted,
                route=case.seen.route,
            )
        facts.append(
            Fact(
                name="parts of an answer",
                value=f"{len(parts)}, the first after {parts[0]:.2f} s, the last {spread:.2f} s "
                "later",
                expected=f"spread over at least {wanted:.2f} s",
                source="the client",
            )
        )
    return verdict("streamed", facts)


# -- when parts come and go -------------------------------------------------------------------


def _decode_scaling(case: _Case) -> Ruling:
    part = cast("Scaling", case.seen.scaling)
    requests = part.batch.requests
    total = len(requests)
    if total < LEAST_SCALING_REQUESTS:
        return verdict("too_few_requests", total=total, least=LEAST_SCALING_REQUESTS)
    if ruling := _not_right(case, requests):
        return ruling
    values = {"pod": part.pod_added, "seconds": part.added_seconds, "total": total}
    if part.served_seconds is None or not part.added_served:
        return verdict("new_pod_not_used", **values)
    facts = [
        _all_right_fact(requests),
        Fact(
            name="answers of the new pod",
            value=str(part.added_served),
            expected="at least 1",
            source="x-inference-pod",
        ),
        Fact(
            name="first answer of the new pod",
            value=f"{part.served_seconds:.1f} s after the start",
            source="its log",
        ),
        Fact(
            name="one pod again",
            value=f"{part.removed_seconds:.1f} s after the start",
            source="watch",
        ),
    ]
    return verdict("scaled", facts, served=part.added_served, **values)


def _prefill_lost(case: _Case) -> Ruling:
    part = cast("Loss", case.seen.loss)
    one = part.request
    if not part.began or one.right:
        return verdict("not_interrupted", pod=part.pod)
    facts = [
        Fact(
            name="prefill pod deleted",
            value=f"{part.deleted_seconds:.1f} s after the request, in the middle of its transfer",
            source="decode's log",
        ),
        Fact(
            name="what the client got",
            value=f"HTTP {one.status} after {one.seconds:.1f} s: "
            f"{one.error or one.text or 'nothing'}",
            expected="an error, a fallback that names itself, or the right answer",
        ),
    ]
    values = {"pod": part.pod, "seconds": one.seconds}
    if one.status >= 400:
        return verdict("clear_error", facts, status=one.status, code=one.code, **values)
    if one.status == 200 and one.source == "local_compute":
        return verdict("declared_fallback", facts)
    if one.status == 200 and not one.error:
        return verdict("silent_wrong_answer", facts, **values)
    return verdict("no_clear_error", facts, error=one.error, **values)


# -- a corrupted block ------------------------------------------------------------------------


def _unflipped_failed(case: _Case) -> Ruling | None:
    """Return that the request without a flipped bit was not answered either."""
    if case.check != "disaggregation.corrupted_block":
        return None
    _, sound = _sent(case.seen.corrupted)
    if sound.right:
        return None
    return verdict("control_failed", status=sound.status, error=sound.error or "a wrong answer")


def _corrupted_block(case: _Case) -> Ruling:
    spoiled, _ = _sent(case.seen.corrupted)
    facts = [
        Fact(
            name="with a flipped bit",
            value=f"HTTP {spoiled.status} {spoiled.code}: {spoiled.error or spoiled.text}",
            expected="an error that names the block",
            source="the client",
        ),
        Fact(name="without", value="HTTP 200, the right answer", source="the client"),
    ]
    if spoiled.right:
        return verdict("not_corrupted", source=spoiled.source or "a source that it does not name")
    if spoiled.status == 200:
        return verdict("corrupted_accepted", facts, request=spoiled.id)
    if spoiled.code != "kv_corrupted":
        return verdict("refused_otherwise", status=spoiled.status, error=spoiled.error)
    size = mib(spoiled.tokens * case.seen.shape.token_bytes)
    return verdict("refused", facts, size=size, error=spoiled.error)


# -- what they have in common -----------------------------------------------------------------


def _sent(part: object) -> list[RequestSeen]:
    return cast("Batch", part).requests


def _answered(requests: list[RequestSeen]) -> list[RequestSeen]:
    return [one for one in requests if one.status == 200]


def _none_answered(requests: list[RequestSeen]) -> Ruling | None:
    return None if _answered(requests) else verdict("nothing_answered", total=len(requests))


def _not_all_answered(requests: list[RequestSeen]) -> Ruling | None:
    """Return that what is true of the answered requests is not shown for the others."""
    silent = _silent(requests)
    if not silent:
        return None
    values = {"example": silent[0].id, "status": silent[0].status, "error": silent[0].error}
    return verdict("not_all_answered", silent=len(silent), total=len(requests), **values)


def _silent(requests: list[RequestSeen]) -> list[RequestSeen]:
    return [one for one in requests if one.status != 200 or one.error]


def _phases_twice(requests: list[RequestSeen]) -> Ruling | None:
    """Return that requests were worked on more than once, by the same pods."""
    for phase, done in (
        ("prefill", "prefilled"),
        ("handover", "handed over"),
        ("decode", "decoded"),
    ):
        if twice := [one for one in requests if len(one.of(phase)) > 1]:
            values = {"done": done, "example": twice[0].id, "times": len(twice[0].of(phase))}
            return verdict("moved_twice.phases", twice=len(twice), total=len(requests), **values)
    return None


def _ids_hidden(seen: DisaggregationObservation, requests: list[RequestSeen]) -> Ruling | None:
    """Return that the logs hide the ids: then they show nothing, which is no failure."""
    nameless = sum(one.lines_without_id for one in seen.pods if one.part != "router")
    if not nameless or all(one.of("prefill") and one.of("decode") for one in requests):
        return None
    return verdict("ids_not_logged", lines=nameless)


def _not_right(case: _Case, requests: list[RequestSeen]) -> Ruling | None:
    """Return what is wrong with answers that should all be right, if anything."""
    silent, total = _silent(requests), len(requests)
    if wrong := [one for one in requests if one not in silent and not one.right]:
        one = wrong[0]
        answer = Fact(name="answer", value=one.text, expected=one.expected, source=one.id)
        source = one.source or "nowhere that the answer names"
        values = {"example": one.id, "source": source, "check": case.check}
        return verdict("wrong_answer", [answer], wrong=len(wrong), total=total, **values)
    if silent:
        one = silent[0]
        values = {"example": one.id, "error": one.error, "route": case.seen.route}
        return verdict(
            "no_answer",
            silent=len(silent),
            total=total,
            status=one.status,
            check=case.check,
            **values,
        )
    return None if requests else verdict("nothing_sent")


def _all_right_fact(requests: list[RequestSeen]) -> Fact:
    return Fact(name="right answers", value=str(len(requests)), expected=str(len(requests)))


def _overlap(requests: list[RequestSeen]) -> int:
    """Return how many requests were under way at the busiest moment, by the client's clock."""
    # Times are rounded: one that follows another at once does not overlap with it.
    ends = [(one.at + one.seconds - 0.001, -1) for one in requests]
    events = [(one.at, 1) for one in requests] + ends
    most = now = 0
    for _, step in sorted(events):
        now += step
        most = max(most, now)
    return most


def _how(found: list[RequestSeen]) -> str:
    kinds = Counter(
        f"HTTP {one.status}{' ' + one.code if one.code else ', a wrong answer'}" for one in found
    )
    return ", ".join(f"{number} x {kind}" for kind, number in kinds.items())


def _names(found: set[str]) -> str:
    return ", ".join(sorted(found))


def _mutated(case: _Case) -> Ruling | None:
    found = [one for one in relevant(case.run.mutations) if _PROGRAM.search(one.field)]
    if not found:
        return None
    what = ", ".join(f"{one.object} {one.field}" for one in found[:3])
    return verdict("mutated", changes=what, opt_out=opt_out(found))


def _forms(case: _Case) -> list[Fact]:
    route = Fact(name="way to the router", value=case.run.route, source="disaggregation.gateway")
    form = Fact(
        name="prefill and decode deployed as",
        value=case.run.workload,
        source="disaggregation.workload",
    )
    return [route, form]


def _unless_slowed(case: _Case, ruling: Ruling) -> Ruling:
    return unless_beside(ruling, case.run) if ruling.reason in _SLOWED else ruling


judge = Judge[DisaggregationObservation, DisaggregationObservation](
    rules={
        "disaggregation.separate_pods": Rule(("main",), _separate_pods),
        "disaggregation.state_transferred": Rule(("main", "straight"), _state_transferred),
        "disaggregation.request_ids": Rule(("main",), _request_ids),
        "disaggregation.correct_output": Rule(
            ("main", "straight", "policy", "without_prefill"), _correct_output
        ),
        "disaggregation.concurrency": Rule(("concurrent",), _concurrency),
        "disaggregation.streaming": Rule(("streamed",), _streaming),
        "disaggregation.decode_scaling": Rule(("scaling",), _decode_scaling),
        "disaggregation.prefill_lost": Rule(("loss",), _prefill_lost),
        "disaggregation.corrupted_block": Rule(("corrupted",), _corrupted_block),
    },
    mutated=_mutated,
    control_failed=_unflipped_failed,
    revise=_unless_slowed,
    context=_forms,
)
