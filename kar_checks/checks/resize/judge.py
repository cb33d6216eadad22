"""The verdicts on in-place resize: observation and profile in, findings out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import cast

from kar_checks.checks.pulse import too_short
from kar_checks.checks.resize import enforced, held, rules
from kar_checks.checks.resize.checks import TOPIC
from kar_checks.checks.resize.enforced import Reading
from kar_checks.checks.resize.observation import (
    PENDING,
    Burn,
    Case,
    ResizeObservation,
    Snapshot,
    Step,
)
from kar_checks.checks.resize.rules import fail, not_applicable, undecided
from kar_checks.cluster import quantity
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Finding, Observation, Outcome
from kar_checks.profile import Profile

_NAMES_QOS = re.compile(r"(?i)qos\s*class")
_NAMES_ROOM = re.compile(r"(?i)allocatable|exceeds? (the )?node|node.{0,40}(capacity|resources)")

_WAITED = {"not_settled", "not_completed", "generation_not_observed", "status_differs"}
"""Failures that rest on a state which did not come in time."""

_Judge = Callable[[Case, Profile], Ruling | None]


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check; without an observation of its case it stays undecided."""
    observed = cast("ResizeObservation", seen)
    info = next(one for one in TOPIC.checks if one.id == check)
    name = check.rpartition(".")[2]
    case = observed.cases.get(name)
    if isinstance(case, Case):
        start = rules.start_ruling(
            case, observed.mutations, all_containers=name == "qos_change_refused"
        )
        ruling = start or _case_ruling(name, case, profile) or _good(case, profile)
    elif isinstance(case, Fault):
        ruling = Ruling(Outcome.ERROR, case.reason.value, case.message, help=case.help)
    else:
        ruling = undecided("not_observed", "the trial stored nothing about it")
    ruling = _with_outages(name, ruling, observed.disturbances)
    passed = ruling.outcome is Outcome.PASS
    return [
        Finding(
            check=check,
            outcome=ruling.outcome,
            reason=ruling.reason,
            summary=ruling.summary,
            facts=ruling.facts,
            would_change=f"It fails when {info.fails_when}" if passed else "",
            help=ruling.help,
            evidence=observed.evidence,
            trial=observed.trial,
        )
    ]


_EXPLAINED_BY_A_FALL = {
    *("kernel_value_differs", "status_differs", "control_failed", "not_settled"),
    *("generation_not_observed", "applied", "cpu_not_followed", "no_answer"),
}
"""What is seen of a value that went back, if the moment is not known."""


def _case_ruling(name: str, case: Case, profile: Profile) -> Ruling | None:
    ruling = _JUDGES.get(name, _steps)(case, profile)
    if ruling is None or ruling.reason in _EXPLAINED_BY_A_FALL:
        ruling = held.fell_back_ruling(case, only_old=ruling is not None) or ruling
    return ruling or held.end_ruling(case, profile) or enforced.enforced_ruling(case, profile)


def _with_outages(name: str, ruling: Ruling, disturbances: list[str]) -> Ruling:
    """Take back a failure by waiting in vain if the API server was away meanwhile."""
    waited = ruling.reason in _WAITED or (name, ruling.reason) == ("infeasible", "accepted")
    if ruling.outcome is not Outcome.FAIL or not waited or not disturbances:
        return ruling
    return undecided(
        "api_server_away",
        f"{ruling.summary}; meanwhile: {'; '.join(disturbances)}",
        ruling.facts,
        "run it again when the API server stays up",
    )


def _good(case: Case, profile: Profile) -> Ruling:
    last = case.steps[-1]
    done = [one for one in case.steps if one.settled]
    took = [(one.looks[-1].at - one.patch.at).total_seconds() for one in done]
    facts = rules.kernel_facts(last.after) if last.after and last.settled else []
    facts += [
        Fact(name=f"{one.name}: settled after", value=f"{seconds:.1f} s")
        for one, seconds in zip(done, took, strict=True)
    ]
    if last.patch.status != 200:
        facts.append(Fact(name=last.name, value=f"{last.patch.status}: {last.patch.message}"))
    facts += [
        one.fact
        for point in enforced.points(case, profile)
        for one in point.readings
        if point.steps
    ]
    if case.hold and done:
        watched = (case.hold.end.look.at - done[-1].looks[-1].at).total_seconds()
        facts.append(Fact(name="nothing went back for", value=f"{watched:.1f} s"))
    return Ruling(Outcome.PASS, "observed", rules.told(case), facts=facts)


def _pairs(case: Case) -> list[tuple[Snapshot, Step]]:
    """Return each step with the pod as it was before."""
    before = case.start
    out: list[tuple[Snapshot, Step]] = []
    for step in case.steps:
        out.append((before, step))
        before = step.after or before
    return out


def _steps(case: Case, profile: Profile) -> Ruling | None:
    if not case.steps:
        return undecided("not_observed", "no change was made")
    for before, step in _pairs(case):
        if ruling := rules.step_ruling(case, before, step, profile):
            return ruling
    return None


def _memory_down(case: Case, profile: Profile) -> Ruling | None:
    factor = profile.number("resize.memory_headroom")
    for name, answer in case.start.answers.items():
        wanted = case.steps[0].patch.wanted[name]["limits"]["memory"]
        limit = int(quantity.parse(wanted))
        if answer.memory_bytes is None:
            return undecided("not_observable", f"{name}: memory usage cannot be read inside")
        if answer.memory_bytes * factor > limit:
            return undecided(
                "too_little_headroom",
                f"{name} uses {answer.memory_bytes} B with page cache; the lowered limit of "
                f"{limit} B must be {factor:g} times that",
            )
    return _steps(case, profile)


def _after_control(case: Case, profile: Profile) -> tuple[Ruling | None, Snapshot, Step]:
    """Rule on the small resize that shows that rights and quota are fine."""
    before, control = _pairs(case)[0]
    ruling = rules.step_ruling(case, before, control, profile)
    if ruling is None and len(case.steps) < 2:
        ruling = undecided("not_observed", "nothing was asked for after the control")
    if ruling and ruling.outcome is Outcome.FAIL:
        ruling = undecided("control_failed", f"the control failed: {ruling.summary}", ruling.facts)
    before, step = _pairs(case)[-1]
    return ruling, before, step


def _answer_fact(step: Step, expected: str) -> Fact:
    told = f"{step.patch.status} {step.patch.message}".strip()
    return Fact(name="answer of the API", value=told, expected=expected)


def _not_attributed(step: Step, cause: str) -> Ruling:
    return undecided(
        "refusal_not_attributed",
        f"{step.name}: refused, but the message does not name {cause}: {step.patch.message}",
        [_answer_fact(step, f"a message that names {cause}")],
        "raise the quota or exempt a namespace from the policy, and name it by --namespace",
    )


def _qos_change(case: Case, profile: Profile) -> Ruling | None:
    ruling, before, step = _after_control(case, profile)
    if ruling:
        return ruling
    if step.patch.status == 200:
        held = step.after.look.qos_class if step.after else "unknown"
        return fail(
            "accepted",
            f"the API accepted {step.name}, which changes the QoS class "
            f"(status.qosClass is {held}, the spec is now {step.patch.stored})",
            [_answer_fact(step, "a refusal that names the QoS class")],
        )
    if not _NAMES_QOS.search(step.patch.message):
        return _not_attributed(step, "the QoS class")
    return rules.unchanged_ruling(case, before, step)


def _infeasible(case: Case, profile: Profile) -> Ruling | None:
    ruling, before, step = _after_control(case, profile)
    if ruling:
        return ruling
    if step.patch.status != 200:
        if not _NAMES_ROOM.search(step.patch.message):
            return _not_attributed(step, "what the node has")
        return rules.unchanged_ruling(case, before, step)
    facts = [_answer_fact(step, "a refusal, or the condition Infeasible")]
    if ruling := rules.replaced_ruling(case, step):
        return ruling
    changed = rules.unchanged_ruling(case, before, step)
    if changed and changed.reason == "kernel_value_differs":
        return fail("applied", f"{step.name} was applied: {changed.summary}", changed.facts)
    reasons = {one.reason for one in step.looks[-1].conditions if one.type == PENDING}
    if "Infeasible" in reasons:
        return changed
    if "Deferred" in reasons:
        told = f"{step.name} is reported as Deferred, although no node can ever have it"
        return fail("reported_as_deferred", told, facts)
    if step.after and step.signs and not (step.signs.exec_answered or step.signs.lease_renewed):
        return undecided("node_unresponsive", f"{step.name}: the node does not answer", facts)
    return fail(
        "accepted",
        f"{step.name} was accepted and never reported as Infeasible "
        f"(the spec is now {step.patch.stored})",
        facts,
    )


def _deferred(case: Case, profile: Profile) -> Ruling | None:
    arena = case.arena
    if arena is None or not case.steps:
        return undecided("not_observed", "no resize was asked for")
    before, step = _pairs(case)[0]
    sums = [
        Fact(name="free on the node", value=f"{arena.free_before} m", source=arena.node),
        Fact(name="asked for on top", value=f"{arena.needed} m"),
        Fact(name="left after the filler", value=f"{arena.left_after} m", expected="0 m or more"),
    ]
    if arena.deferred is None or arena.waiting is None:
        ruling = rules.step_ruling(case, before, step, profile)
        return ruling or undecided(
            "not_deferred",
            f"it was not deferred although our sum says that {arena.free_before} m were free on "
            f"{arena.node}: the arena was wrong",
            sums,
        )
    early = rules.unchanged_ruling(case, before, step, arena.waiting)
    if early and early.reason == "kernel_value_differs":
        return fail("applied_without_room", f"while it waited: {early.summary}", early.facts)
    if early:
        return early
    if ruling := too_short(arena.window, profile.number("resize.waiting_seconds"), profile):
        return ruling
    if not step.settled and not step.replaced:
        if arena.left_after < 0:
            return undecided("room_taken", "other pods took the room that the filler left", sums)
        # The last pulse of the time may be one interval old.
        given = profile.number("resize.settle_seconds") - profile.number("pulse.every_seconds")
        if ruling := too_short(arena.settling, given, profile):
            return ruling
        late = step.after and rules.unsettled_ruling(step, step.after, profile, "not_completed")
        if late and late.outcome is Outcome.FAIL:
            return fail("not_completed", late.summary, [*sums, *late.facts])
        return late or None
    return rules.step_ruling(case, before, step, profile)


def _observed_generation(case: Case, profile: Profile) -> Ruling | None:
    version = rules.minor(case.kubelet)
    if version is not None and version < (1, 34):
        return not_applicable(
            "kubelet_version", f"kubelets observe generations since 1.34, this is {case.kubelet}"
        )
    for before, step in _pairs(case):
        sent, after = step.patch, step.after
        if sent.status != 200 or after is None:
            break
        rise = Fact(
            name="metadata.generation",
            value=str(sent.generation),
            expected=f"more than {before.look.generation}",
        )
        if (sent.generation or 0) <= before.look.generation:
            return fail("generation_not_raised", f"{step.name}: the generation stayed", [rise])
        seen = after.look.observed_generation
        facts = [
            rise,
            Fact(name="status.observedGeneration", value=str(seen), expected=str(sent.generation)),
        ]
        if seen is not None and seen > after.look.generation:
            return fail("generation_ahead", f"{step.name}: {seen} was never given", facts)
        if seen is None or (seen < (sent.generation or 0) and not step.settled):
            late = rules.unsettled_ruling(step, after, profile)
            if late and late.outcome is not Outcome.FAIL:
                return late
            return fail(
                "generation_not_observed",
                f"{step.name}: status.observedGeneration is {seen}, the resize made generation "
                f"{sent.generation}",
                facts,
            )
    return _steps(case, profile)


def _busy_loop(case: Case, profile: Profile) -> Ruling | None:
    if ruling := _steps(case, profile):
        return ruling
    if held.fell_back_ruling(case):
        return None  # said by the rule about what holds
    readings = [
        (burn, enforced.burn_reading(name, burn, limit, profile))
        for name, burn, limit in _burns(case)
    ]
    if len(readings) <= len(case.steps):
        return undecided("not_observable", "the kernel's CPU counters cannot be read")
    facts = [one.fact for _, one in readings]
    for burn, reading in readings:
        if ruling := _follows(burn, reading, facts):
            return ruling
    return None


def _burns(case: Case) -> Iterator[tuple[str, Burn, int]]:
    """Return each container's loops and their limit; the last of several attempts counts."""
    seen = [case.start, *(one.after for one in case.steps if one.after)]
    for number, snapshot in enumerate(seen):
        for name, answer in snapshot.answers.items():
            tried = [answer.burn] if answer.burn else []
            for use in case.uses or []:
                tried += use.burns.get(name, []) if use.steps == number else []
            if tried and tried[-1].nr_periods:
                limit = snapshot.look.containers[name].spec["limits"]["cpu"]
                yield name, tried[-1], quantity.millicores(limit)


def _follows(burn: Burn, reading: Reading, facts: list[Fact]) -> Ruling | None:
    told = f"{reading.fact.name} is {reading.fact.value}, not {reading.fact.expected}"
    if reading.verdict in ("less", "more"):
        return fail("cpu_not_followed", told, facts)
    if reading.verdict == "noisy" or not burn.nr_throttled:
        return undecided(
            "not_throttled",
            f"{told}: the kernel throttled it in {burn.nr_throttled} of {burn.nr_periods} "
            "periods, and other work may have slowed it",
            facts,
            "run it when the nodes have idle CPU",
        )
    return None


_JUDGES: dict[str, _Judge] = {
    "memory_down": _memory_down,
    "qos_change_refused": _qos_change,
    "infeasible": _infeasible,
    "deferred": _deferred,
    "observed_generation": _observed_generation,
    "busy_loop": _busy_loop,
}
