"""The verdicts on disaggregated serving: observation and profile in, findings out. Pure.

What the cluster changed in the workload goes before every verdict, then whether anything was
answered at all, then the claim, then the controls that make it worth something.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import cast

from kar_checks.checks.disaggregation.observation import (
    Batch,
    DisaggregationObservation,
    Loss,
    PodSeen,
    Policy,
    RequestSeen,
    Scaling,
)
from kar_checks.checks.pulse import too_short
from kar_checks.cluster.pods import OPT_OUT, opt_out, relevant
from kar_checks.kit.judging import unless_beside
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Finding, Observation, Outcome
from kar_checks.profile import Profile

LEAST_SCALING_REQUESTS = 10
_BROKEN = re.compile(r"kv_|prefill_")
"""How the codes begin with which decode refuses a request whose state did not come."""
_PROGRAM = re.compile(r"(^|\.)spec\.(containers|initContainers)(?!.*\.resources)")


_SLOWED = ("too_slow", "not_streamed")
"""Failures by time, which another run takes."""

Rule = Callable[[DisaggregationObservation, Profile], Ruling]


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check."""
    observed = cast("DisaggregationObservation", seen)
    parts, rule = _RULES[check]
    facts = [
        Fact(name="way to the router", value=observed.route, source="disaggregation.gateway"),
        Fact(
            name="prefill and decode deployed as",
            value=observed.workload,
            source="disaggregation.workload",
        ),
    ]
    ruling = _measured(observed, parts) or _mutated(observed) or rule(observed, profile)
    if ruling.reason in _SLOWED:
        ruling = unless_beside(ruling, seen)
    return [ruling.finding(check, [*facts, *ruling.facts], observed.evidence, observed.trial)]


def _measured(seen: DisaggregationObservation, parts: Sequence[str]) -> Ruling | None:
    for one in parts:
        part = getattr(seen, one)
        if isinstance(part, Fault):
            return Ruling(Outcome.ERROR, part.reason.value, part.message, part.help)
        if part is None:
            text = "the trial was not asked to measure this"
            return Ruling(Outcome.NOT_RUN, "not_measured", text)
    return None


def _mutated(seen: DisaggregationObservation) -> Ruling | None:
    found = [one for one in relevant(seen.mutations) if _PROGRAM.search(one.field)]
    if not found:
        return None
    what = ", ".join(f"{one.object} {one.field}" for one in found[:3])
    return _undecided(
        "mutated", f"the cluster changed what runs in pods of ours: {what}", opt_out(found)
    )


# -- the checks -----------------------------------------------------------------------------


def _separate_pods(seen: DisaggregationObservation, _: Profile) -> Ruling:
    requests = cast("Batch", seen.main).requests
    answered = _answered(seen.main)
    if ruling := _some_answered(answered) or _ids_hidden(seen, answered):
        return ruling
    without = [one for one in answered if not one.of("prefill")]
    if without:
        return Ruling(
            Outcome.FAIL,
            "no_prefill",
            f"{len(without)} of {len(answered)} requests were answered without that any pod "
            "prefilled them: decode did everything",
            would_change="a line about prefill for every request",
        )
    did = {
        phase: {line.pod for one in answered for line in one.of(phase)}
        for phase in ("prefill", "decode")
    }
    if both := did["prefill"] & did["decode"]:
        return Ruling(
            Outcome.FAIL,
            "same_pod",
            f"{', '.join(sorted(both))} did both phases",
            would_change="no pod with both phases in its log",
        )
    pods = {one.name: one for one in seen.pods}
    roles = {phase: [pods[one] for one in sorted(names)] for phase, names in did.items()}
    facts = [
        Fact(
            name=f"pods that did {phase}",
            value=", ".join(f"{one.name} on {one.node}" for one in found),
            source="their own logs, spec.nodeName",
        )
        for phase, found in roles.items()
    ]
    if any(not one.role for found in roles.values() for one in found):
        return _undecided("role_label_missing", "a pod came without its role label", OPT_OUT)
    wrong = [one for phase, found in roles.items() for one in found if one.role != phase]
    if wrong:
        told = ", ".join(f"{one.name} is labelled {one.role}" for one in wrong)
        return Ruling(
            Outcome.FAIL,
            "labels_contradict_phases",
            f"what the pods did is not what their labels say: {told}",
            would_change="role labels that agree with the phases in the logs",
            facts=facts,
        )
    nodes = {phase: {one.node for one in found} for phase, found in roles.items()}
    if shared := nodes["prefill"] & nodes["decode"]:
        text = f"prefill and decode share {', '.join(sorted(shared))}"
        if seen.nodes_usable is None or seen.nodes_usable < 2:
            return _undecided("same_node", text, "give a second node")
        return Ruling(Outcome.FAIL, "same_node", text, would_change="different nodes", facts=facts)
    if ruling := _all_answered(requests):
        return ruling
    return Ruling(
        Outcome.PASS,
        "separate",
        f"{len(answered)} requests were prefilled on {_names(nodes['prefill'])} and decoded on "
        f"{_names(nodes['decode'])}, in different pods",
        would_change="a pod with both phases in its log, or a shared node",
        facts=facts,
    )


def _state_transferred(seen: DisaggregationObservation, profile: Profile) -> Ruling:
    batch, control = cast("Batch", seen.main), cast("Batch", seen.straight)
    answered = _answered(batch)
    if ruling := _some_answered(answered) or _transfers_broke(batch.requests):
        return ruling
    if ruling := _all_answered(batch.requests) or _no_counters(batch):
        return ruling
    size, carried = _size(seen, batch), _by_all(seen, batch)
    facts = _size_facts(seen, batch, carried)
    if ruling := _metric_missing(carried, facts):
        return ruling
    for name, one in carried.items():
        if cast("float", one) < size:
            nothing = not any(_counted(batch).values())
            return Ruling(
                Outcome.FAIL,
                "nothing_transferred"
                if nothing
                else ("bytes_missing" if name in _counted(batch) else "interface_disagrees"),
                f"{len(answered)} requests were answered whose state is {_mib(size)}; "
                f"{name}: {_mib(cast('float', one))}",
                would_change=f"at least {_mib(size)} by every counter and interface",
                facts=facts,
            )
    most = profile.number("disaggregation.most_moved") * size
    for name, one in carried.items():
        if cast("float", one) > most:
            return Ruling(
                Outcome.FAIL,
                "moved_twice",
                f"the state of {len(answered)} requests is {_mib(size)}, and more moved; {name}: "
                f"{_mib(cast('float', one))}",
                would_change=f"at most {_mib(most)} by every counter and interface",
                facts=facts,
            )
    if ruling := _straight_unanswered(control.requests):
        return ruling
    still = _sum([one.received for one in control.counters])
    if still != 0 or any(one.of("prefill") for one in control.requests):
        told = "missing" if still is None else _mib(still)
        return _undecided(
            "control_transferred",
            f"requests straight to decode moved the transfer counter, too ({told}), so that it "
            "does not tell",
        )
    return _fast_enough(seen, answered, batch, facts, profile)


def _no_counters(batch: Batch) -> Ruling | None:
    """Return why the counters of a batch tell nothing about its state."""
    if any(one.reset for one in batch.counters):
        return _undecided("counters_reset", "a pod started again during the batch")
    cached = _sum([one.cached_tokens for one in batch.counters])
    if cached:
        tokens = sum(one.tokens for one in batch.requests)
        return _undecided(
            "served_from_cache",
            f"{cached:.0f} of {tokens} tokens came from a cache of decode, so that their state had "
            "no need to move",
            "switch prefix caching off, or see who sent the same prompts before",
        )
    return None


def _metric_missing(carried: dict[str, float | None], facts: list[Fact]) -> Ruling | None:
    if all(one is not None for one in carried.values()):
        return None
    return Ruling(
        Outcome.INCONCLUSIVE,
        "metric_missing",
        "not every counter and interface could be read",
        facts=facts,
    )


def _size(seen: DisaggregationObservation, batch: Batch) -> int:
    """Return the bytes of the state of all requests that were sent."""
    return sum(one.tokens for one in batch.requests) * seen.shape.token_bytes


def _counted(batch: Batch) -> dict[str, float | None]:
    """Return what the servers of both sides counted; ``None`` where one tells nothing."""
    return {
        "decode received, by its counter": _sum([one.received for one in batch.counters]),
        "prefill sent, by its counter": _sum([one.sent for one in batch.counters]),
    }


def _by_all(seen: DisaggregationObservation, batch: Batch) -> dict[str, float | None]:
    return {**_counted(batch), **_carried(seen, batch)}


def _size_facts(
    seen: DisaggregationObservation, batch: Batch, carried: dict[str, float | None]
) -> list[Fact]:
    size = _size(seen, batch)
    tokens = sum(one.tokens for one in batch.requests)
    return [
        Fact(
            name="size of the KV state",
            value=_mib(size),
            source=f"{tokens} tokens of {seen.shape.token_bytes // 1024} KiB: 2 x layers x KV "
            "heads x head dimension x bytes per number",
        ),
        *(
            Fact(name=name, value="missing" if one is None else _mib(one), expected=_mib(size))
            for name, one in carried.items()
        ),
    ]


def _fast_enough(
    seen: DisaggregationObservation,
    answered: list[RequestSeen],
    batch: Batch,
    facts: list[Fact],
    profile: Profile,
) -> Ruling:
    """Return the pass, unless the profile judges rate or latency and they are not met."""
    lines = [line for one in answered for line in one.of("decode") if line.transfer_seconds]
    if not lines:
        return _undecided("ids_not_logged", "no transfer is logged under the id of a request")
    rate = median(one.bytes / one.transfer_seconds / 2**20 for one in lines)
    slow = median(one.transfer_seconds for one in lines)
    least = profile.number("disaggregation.min_mib_per_second")
    most = profile.number("disaggregation.max_transfer_seconds")
    facts = [
        *facts,
        Fact(
            name="rate of one transfer, verified",
            value=f"{rate:,.0f} MiB/s (median of {len(lines)})",
            expected=f"at least {least:g} MiB/s" if least else "not judged",
            source="decode's log",
        ),
        Fact(
            name="added latency of one transfer",
            value=f"{slow:.2f} s (median)",
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
    if (least and rate < least) or (most and slow > most):
        return Ruling(
            Outcome.FAIL,
            "too_slow",
            f"a transfer ran at {rate:,.0f} MiB/s and took {slow:.2f} s; the profile asks for "
            + " and ".join(
                [f"{least:g} MiB/s"] * bool(least) + [f"at most {most:g} s"] * bool(most)
            ),
            would_change="a faster network between the pods, or another profile",
            facts=facts,
        )
    size = sum(one.bytes for one in lines)
    return Ruling(
        Outcome.PASS,
        "transferred",
        f"{_mib(size)} of state of {len(answered)} requests moved between the pods, by the "
        f"counters of both and by the kernel's on their interfaces, at {rate:,.0f} MiB/s a request",
        would_change="a counter or interface that shows less than the size of the state",
        facts=facts,
    )


def _request_ids(seen: DisaggregationObservation, _: Profile) -> Ruling:
    requests = cast("Batch", seen.main).requests
    answered = _answered(seen.main)
    if ruling := _some_answered(answered) or _ids_hidden(seen, answered):
        return ruling
    for phase in ("prefill", "decode"):
        pods = {one.id: {line.pod for line in one.of(phase)} for one in answered}
        counts = Counter(len(found) for found in pods.values())
        if counts[0]:
            missing = next(one for one, found in pods.items() if not found)
            return Ruling(
                Outcome.FAIL,
                "id_missing",
                f"{counts[0]} of {len(answered)} ids stand in no log of a {phase} pod, e.g. "
                f"{missing}",
                would_change=f"each id in the log of one {phase} pod",
            )
        if counts[1] < len(answered):
            several = next(one for one, found in pods.items() if len(found) > 1)
            return Ruling(
                Outcome.FAIL,
                "id_in_several",
                f"{len(answered) - counts[1]} ids stand in the logs of several {phase} pods, e.g. "
                f"{several}",
                would_change=f"each id in the log of one {phase} pod",
            )
    if ruling := _phases_twice(answered) or _all_answered(requests):
        return ruling
    one = answered[0]
    return Ruling(
        Outcome.PASS,
        "followed",
        f"each of {len(answered)} request ids stands in the log of one prefill pod and of one "
        "decode pod",
        would_change="an id that is missing in one of them, or stands in several",
        facts=[
            Fact(
                name=f"one of them, {one.id}",
                value=f"{one.of('prefill')[0].pod}, then {one.of('decode')[0].pod}",
                source="JSON lines of their logs",
            )
        ],
    )


def _correct_output(seen: DisaggregationObservation, profile: Profile) -> Ruling:
    requests = cast("Batch", seen.main).requests
    if ruling := _all_right(requests):
        return ruling
    batch = cast("Batch", seen.main)
    if ruling := _no_counters(batch):
        return ruling
    size, carried = _size(seen, batch), _by_all(seen, batch)
    facts = _size_facts(seen, batch, carried)
    if ruling := _metric_missing(carried, facts):
        return ruling
    for name, one in carried.items():
        if cast("float", one) < size:
            return Ruling(
                Outcome.FAIL,
                "right_without_transfer",
                f"all {len(requests)} answers are right although not all of their state moved, "
                f"which is {_mib(size)}; {name}: {_mib(cast('float', one))}. Decode has it from "
                "elsewhere",
                would_change="right answers that follow from state that moved",
                facts=facts,
            )
    straight = cast("Batch", seen.straight).requests
    if ruling := _straight_unanswered(straight):
        return ruling
    controls = {
        "straight to decode": straight,
        "without a prefill pod": cast("Batch", seen.without_prefill).requests,
    }
    policy = seen.policy
    if ruling := _policy_unclear(policy, profile):
        return ruling
    if policy is not None and not isinstance(policy, Fault) and policy.request is not None:
        controls["with prefill shut off by a NetworkPolicy"] = [policy.request]
    if right := [name for name, found in controls.items() if any(one.right for one in found)]:
        return _undecided(
            "control_answered_right",
            f"requests {' and '.join(right)} were answered right, too: the answer does not take "
            "the transfer",
        )
    enforced = "with prefill shut off by a NetworkPolicy" in controls
    return Ruling(
        Outcome.PASS,
        "right",
        f"all {len(requests)} answers follow from the transferred state; "
        + ", ".join(controls)
        + " no answer was right",
        would_change="one wrong answer, or a right one without the transfer",
        facts=[
            Fact(name="right answers", value=str(len(requests)), expected=str(len(requests))),
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
                value="enforced" if enforced else "not enforced here, so that it is no control",
                source="a plain request to prefill under a policy that forbids it",
            ),
        ],
    )


def _policy_unclear(policy: Policy | Fault | None, profile: Profile) -> Ruling | None:
    """Return why nobody knows whether the NetworkPolicy shut prefill off, if so."""
    if policy is None or isinstance(policy, Fault):
        return None
    if not policy.enforced:
        # Whoever enforces it has to be told first.
        return too_short(policy.window, profile.number("disaggregation.policy_seconds"), profile)
    if policy.held is False:
        return _undecided(
            "policy_did_not_hold",
            "a NetworkPolicy shut prefill off, and no longer did after the request under it: "
            "whether that request could reach prefill is unknown",
            "run again; look whether somebody changes or deletes NetworkPolicies here",
        )
    return None


def _concurrency(seen: DisaggregationObservation, profile: Profile) -> Ruling:
    requests = cast("Batch", seen.concurrent).requests
    owners = {one.expected: one.id for one in requests}
    mixed = [one for one in requests if not one.right and owners.get(one.text, one.id) != one.id]
    if mixed:
        one = mixed[0]
        return Ruling(
            Outcome.FAIL,
            "answers_mixed",
            f"{len(mixed)} of {len(requests)} requests got the answer to another one, e.g. "
            f"{one.id} that to {owners[one.text]}",
            would_change="to each request its own answer",
        )
    if ruling := _all_right(requests) or _ids_hidden(seen, requests):
        return ruling
    twice = [one for one in requests if len(one.of("decode")) != 1]
    if twice:
        return Ruling(
            Outcome.FAIL,
            "id_in_several",
            f"{len(twice)} of {len(requests)} ids were decoded more than once or never, by the "
            f"logs, e.g. {twice[0].id}",
            would_change="one line about decode for every id",
        )
    if ruling := _phases_twice(requests) or _other_sizes(seen, requests, profile):
        return ruling
    overlap = _overlap(requests)
    if overlap < 2:
        return _undecided("not_concurrent", "no two of the requests were under way at once")
    return Ruling(
        Outcome.PASS,
        "kept_apart",
        f"{len(requests)} requests, up to {overlap} at once, got each its own right answer",
        would_change="a wrong answer, or one that belongs to another request",
        facts=[
            Fact(name="right answers", value=str(len(requests)), expected=str(len(requests))),
            Fact(name="at once", value=str(overlap), expected="more than 1", source="the client"),
        ],
    )


def _streaming(seen: DisaggregationObservation, profile: Profile) -> Ruling:
    requests = cast("Batch", seen.streamed).requests
    if ruling := _all_right(requests):
        return ruling
    pace = profile.number("disaggregation.token_seconds")
    facts: list[Fact] = []
    for one in requests:
        spread = one.parts[-1] - one.parts[0] if one.parts else 0.0
        wanted = pace * (profile.number("disaggregation.words") - 1) / 2
        if not wanted:
            return _undecided("no_pace", "the profile lets answers come without any pace")
        if len(one.parts) < 2 or spread < wanted:
            return Ruling(
                Outcome.FAIL,
                "not_streamed",
                f"an answer came in {len(one.parts)} parts within {spread:.2f} s although it takes "
                f"{2 * wanted:.2f} s to make: something on the way holds it back",
                would_change=f"parts that are spread over at least {wanted:.2f} s",
            )
        facts.append(
            Fact(
                name="parts of an answer",
                value=f"{len(one.parts)}, the first after {one.parts[0]:.2f} s, the last "
                f"{spread:.2f} s later",
                expected=f"spread over at least {wanted:.2f} s",
                source="the client",
            )
        )
    return Ruling(
        Outcome.PASS,
        "streamed",
        "a completion and a chat completion came in parts, as they were made, and are right",
        would_change="all parts at once",
        facts=facts,
    )


def _decode_scaling(seen: DisaggregationObservation, _: Profile) -> Ruling:
    part = cast("Scaling", seen.scaling)
    requests = part.batch.requests
    if len(requests) < LEAST_SCALING_REQUESTS:
        return _undecided("too_few_requests", f"only {len(requests)} requests were sent meanwhile")
    if ruling := _all_right(requests):
        return ruling
    if part.served_seconds is None or not part.added_served:
        return Ruling(
            Outcome.FAIL,
            "new_pod_not_used",
            f"{part.pod_added} was Ready after {part.added_seconds:.1f} s, and none of "
            f"the {len(requests)} answers meanwhile came from it",
            would_change="an answer that names the new pod",
        )
    return Ruling(
        Outcome.PASS,
        "scaled",
        f"a second decode pod was Ready after {part.added_seconds:.1f} s and gave "
        f"{part.added_served} of {len(requests)} answers; up and down again, all were right",
        would_change="a wrong or a lost answer, or a new pod that never answers",
        facts=[
            Fact(name="right answers", value=str(len(requests)), expected=str(len(requests))),
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
        ],
    )


def _prefill_lost(seen: DisaggregationObservation, _: Profile) -> Ruling:
    part = cast("Loss", seen.loss)
    one = part.request
    if not part.began or one.right:
        return _undecided(
            "not_interrupted",
            "the transfer was over before the prefill pod was gone, or had not begun: nothing was "
            "lost in the middle",
        )
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
    if one.status >= 400:
        return Ruling(
            Outcome.PASS,
            "clear_error",
            f"the client got HTTP {one.status} {one.code} {one.seconds:.1f} s after its request",
            would_change="status 200 with a wrong answer, or no answer at all",
            facts=facts,
        )
    if one.status == 200 and one.source == "local_compute":
        return Ruling(
            Outcome.PASS,
            "declared_fallback",
            "decode computed the state itself, and the answer says so",
            would_change="status 200 with a wrong answer that does not say so",
            facts=facts,
        )
    if one.status == 200 and not one.error:
        return Ruling(
            Outcome.FAIL,
            "silent_wrong_answer",
            "the client got a wrong answer with status 200, and nothing says so",
            would_change="an error, or a fallback that names itself",
            facts=facts,
        )
    return Ruling(
        Outcome.FAIL,
        "no_clear_error",
        f"the client got no answer: {one.error}",
        would_change="an error that says what happened",
        facts=facts,
    )


def _corrupted_block(seen: DisaggregationObservation, _: Profile) -> Ruling:
    spoiled, sound = cast("Batch", seen.corrupted).requests
    if not sound.right:
        return _undecided(
            "control_failed",
            f"the same request without a flipped bit was not answered right: HTTP {sound.status} "
            f"{sound.error}",
        )
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
        return _undecided("not_corrupted", "the answer was right, so that no bit was flipped")
    if spoiled.status == 200:
        return Ruling(
            Outcome.FAIL,
            "corrupted_accepted",
            "the request was answered from the corrupted state",
            would_change="an error instead of an answer",
            facts=facts,
        )
    if spoiled.code != "kv_corrupted":
        return _undecided(
            "refused_otherwise",
            f"it was refused for another reason: HTTP {spoiled.status} {spoiled.error}",
        )
    return Ruling(
        Outcome.PASS,
        "refused",
        f"one flipped bit in {_mib(spoiled.tokens * seen.shape.token_bytes)} was found, and the "
        f"client told: {spoiled.error}",
        would_change="an answer from the corrupted state",
        facts=facts,
    )


_RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    "disaggregation.separate_pods": (("main",), _separate_pods),
    "disaggregation.state_transferred": (("main", "straight"), _state_transferred),
    "disaggregation.request_ids": (("main",), _request_ids),
    "disaggregation.correct_output": (
        ("main", "straight", "policy", "without_prefill"),
        _correct_output,
    ),
    "disaggregation.concurrency": (("concurrent",), _concurrency),
    "disaggregation.streaming": (("streamed",), _streaming),
    "disaggregation.decode_scaling": (("scaling",), _decode_scaling),
    "disaggregation.prefill_lost": (("loss",), _prefill_lost),
    "disaggregation.corrupted_block": (("corrupted",), _corrupted_block),
}


# -- what they have in common ---------------------------------------------------------------


def _answered(part: object) -> list[RequestSeen]:
    return [one for one in cast("Batch", part).requests if one.status == 200]


def _some_answered(answered: list[RequestSeen]) -> Ruling | None:
    if answered:
        return None
    return _undecided(
        "nothing_answered", "no request was answered, so that there is nothing to see"
    )


def _all_answered(requests: list[RequestSeen]) -> Ruling | None:
    """Return that what is true of the answered requests is not shown for the others."""
    silent = [one for one in requests if one.status != 200 or one.error]
    if not silent:
        return None
    one = silent[0]
    return _undecided(
        "not_all_answered",
        f"{len(silent)} of {len(requests)} requests got no answer, and nothing is shown for them, "
        f"e.g. {one.id}: HTTP {one.status} {one.error}",
        "see what disaggregation.correct_output says about them",
    )


def _transfers_broke(requests: list[RequestSeen]) -> Ruling | None:
    """Return that requests were refused because their state did not come."""
    broken = [one for one in requests if one.status != 200 and _BROKEN.match(one.code)]
    if not broken:
        return None
    one = broken[0]
    return Ruling(
        Outcome.FAIL,
        "transfer_failed",
        f"the state of {len(broken)} of {len(requests)} requests did not come to decode, e.g. "
        f"{one.id}: {one.code}, {one.error}",
        would_change="a transfer for every request",
    )


def _phases_twice(requests: list[RequestSeen]) -> Ruling | None:
    """Return that requests were worked on more than once, by the same pods."""
    for phase, done in (
        ("prefill", "prefilled"),
        ("handover", "handed over"),
        ("decode", "decoded"),
    ):
        if twice := [one for one in requests if len(one.of(phase)) > 1]:
            return Ruling(
                Outcome.FAIL,
                "moved_twice",
                f"{len(twice)} of {len(requests)} requests were {done} more than once, e.g. "
                f"{twice[0].id}, {len(twice[0].of(phase))} times",
                would_change="one line about each phase for every id",
            )
    return None


def _other_sizes(
    seen: DisaggregationObservation, requests: list[RequestSeen], profile: Profile
) -> Ruling | None:
    """Return that a request moved less than its state, or much more, as its decode logged it."""
    for one in requests:
        size = one.tokens * seen.shape.token_bytes
        moved = sum(line.bytes for line in one.of("decode"))
        if moved < size:
            reason = "bytes_missing"
        elif moved > profile.number("disaggregation.most_moved") * size:
            reason = "moved_twice"
        else:
            continue
        return Ruling(
            Outcome.FAIL,
            reason,
            f"decode received {_mib(moved)} for {one.id}, whose state is {_mib(size)}",
            would_change="for every request the bytes of its state",
        )
    return None


def _straight_unanswered(straight: list[RequestSeen]) -> Ruling | None:
    """Return that the control shows nothing: decode refused to answer by itself."""
    if straight and all(one.status == 200 for one in straight):
        return None
    error = next((one.error for one in straight if one.status != 200), "none was sent")
    return _undecided(
        "control_unanswered",
        "decode did not answer a request straight to it, so that this control shows nothing: "
        f"{error}",
    )


def _ids_hidden(seen: DisaggregationObservation, requests: list[RequestSeen]) -> Ruling | None:
    """Return that the logs hide the ids: then they tell nothing, which is no failure."""
    engines: list[PodSeen] = [one for one in seen.pods if one.part != "router"]
    nameless = sum(one.lines_without_id for one in engines)
    if not nameless or all(one.of("prefill") and one.of("decode") for one in requests):
        return None
    return _undecided(
        "ids_not_logged",
        f"{nameless} lines of the logs tell of a request and not of which, so that none can be "
        "followed",
        "let the servers log request ids",
    )


def _all_right(requests: list[RequestSeen]) -> Ruling | None:
    """Return what is wrong with answers that should all be right, if anything."""
    silent = [one for one in requests if one.status != 200 or one.error]
    wrong = [one for one in requests if one not in silent and not one.right]
    if wrong:
        one = wrong[0]
        return Ruling(
            Outcome.FAIL,
            "wrong_answer",
            f"{len(wrong)} of {len(requests)} answers are wrong, e.g. to {one.id} (its state came "
            f"from {one.source or 'nowhere that it names'})",
            would_change="the answers that follow from prompt and secret",
            facts=[Fact(name="answer", value=one.text, expected=one.expected, source=f"{one.id}")],
        )
    if silent:
        one = silent[0]
        return Ruling(
            Outcome.FAIL,
            "no_answer",
            f"{len(silent)} of {len(requests)} requests got no answer, e.g. {one.id}: HTTP "
            f"{one.status} {one.error}",
            would_change="an answer to every request",
        )
    if not requests:
        return _undecided("nothing_sent", "no request was sent")
    return None


def _carried(seen: DisaggregationObservation, batch: Batch) -> dict[str, float | None]:
    """Return what the interfaces of both sides carried; ``None`` where none was read."""
    found: dict[str, float | None] = {}
    for part, field_name, told in (
        ("decode", "received", "interfaces of decode received"),
        ("prefill", "sent", "interfaces of prefill sent"),
    ):
        numbers = [
            float(getattr(one, field_name))
            for one in batch.interfaces
            if one.part == part and seen.interface in ("", one.device)
        ]
        found[f"{told}, by the kernel"] = sum(numbers) if numbers else None
    return found


def _sum(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) if known else None


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


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _names(found: set[str]) -> str:
    return ", ".join(sorted(found))


def _undecided(reason: str, summary: str, advice: str = "") -> Ruling:
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice)
