"""The verdicts on in-place resize: observation and profile in, findings out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from kar_checks.checks.resize import enforced, held, kernel, rules
from kar_checks.checks.resize.checks import TOPIC
from kar_checks.checks.resize.enforced import Reading
from kar_checks.checks.resize.observation import (
    PENDING,
    Arena,
    Burn,
    Case,
    ResizeObservation,
    Snapshot,
    Step,
)
from kar_checks.checks.resize.state import written
from kar_checks.cluster import pods, quantity
from kar_checks.kit import judging
from kar_checks.kit.judging import Judge, Rule
from kar_checks.kit.pulse import too_short
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Fault, Mutation, Outcome, Reason
from kar_checks.profile import Profile

verdict = Reasons(__package__)

_NAMES_QOS = re.compile(r"(?i)qos\s*class")
_NAMES_ROOM = re.compile(r"(?i)allocatable|exceeds? (the )?node|node.{0,40}(capacity|resources)")
_RELEVANT = re.compile(r"\.(resources|resizePolicy|restartPolicy|command|image)\b")

_WAITED = {"not_settled", "not_completed", "generation_not_observed", "status_differs"}
"""Failures that rest on a state which did not come in time."""
_EXPLAINED_BY_A_FALL = {
    *("kernel_value_differs", "status_differs", "control_failed", "not_settled"),
    *("generation_not_observed", "applied", "cpu_not_followed", "no_answer"),
}
"""What is seen of a value that went back, if the moment is not known."""

_OURS = set(Reason) - {Reason.API_ERROR}
"""Refusals that are no answer to the resize: rights, quota, policies."""

_Asked = judging.Case[ResizeObservation, ResizeObservation]
_CONTROLLED = ("qos_change_refused", "infeasible")
"""Cases of which the first step shows that an ordinary resize goes through."""


def _name(asked: _Asked) -> str:
    return asked.check.rpartition(".")[2]


def _case(asked: _Asked) -> Case:
    case = asked.run.cases[_name(asked)]
    assert isinstance(case, Case), "what has no case is not asked further"  # noqa: S101
    return case


# -- before the rule -------------------------------------------------------------------------


def _unusable(asked: _Asked) -> Ruling | None:
    case = asked.run.cases.get(_name(asked))
    if case is None:
        return verdict("not_observed", check=asked.check)
    if isinstance(case, Fault):
        return judging.error(case)
    for _, step in rules.ordinary(case):
        patch = step.patch
        if patch.status != 200 and patch.reason in _OURS:
            fault = Fault(
                reason=Reason(patch.reason),
                message=f"{step.name}: the API server refused the resize: {patch.message}",
                help="grant patch on pods/resize (`kar rbac` prints the rules), or use a "
                "namespace that has no such quota or policy: `--namespace NAME`",
            )
            answer = Fact(name="answer", value=f"{patch.status}: {patch.message}", expected="200")
            return replace(judging.error(fault), facts=[answer])
    return None


def _node_lost(asked: _Asked) -> Ruling | None:
    case = _case(asked)
    lost = (rules.lost_ruling(case, step, asked.profile) for step in case.steps)
    return next(filter(None, lost), None)


def _changed_by_others(asked: _Asked) -> Ruling | None:
    case = _case(asked)
    seen = [(one.name, one.after, one.replaced) for one in case.steps]
    if case.hold and case.steps:
        seen.append((f"after {case.steps[-1].name}", case.hold.end, ""))
    for when, after, replaced in seen:
        if told := replaced or _replaced(case, after):
            uid = case.start.look.uid
            fact = Fact(name="pod UID", value=told, expected=uid, source="metadata.uid")
            return verdict("pod_replaced", [fact], when=when, pod=case.pod, what=told)
    return next(_other_specs(case), None)


def _replaced(case: Case, after: Snapshot | None) -> str:
    if after and after.look.uid != case.start.look.uid:
        return f"its UID is {after.look.uid}, ours had {case.start.look.uid}"
    return "it is being deleted" if after and after.look.deleted else ""


def _other_specs(case: Case) -> Iterator[Ruling]:
    """Yield a verdict for each spec that is not the one of our last accepted request."""
    ours, states = None, list[tuple[str, Snapshot, int]]()
    for before, step in rules.pairs(case):
        raised = (step.patch.generation or 0) > before.look.generation
        if step.patch.status == 200:
            ours = step.patch.generation if raised else None
            if ours and step.after and step.expect in ("resize", "restart"):
                states.append((step.name, step.after, ours))
    if case.hold and ours:
        states.append((f"after {case.steps[-1].name}", case.hold.end, ours))
    for when, seen, sent in states:
        if (found := seen.look.generation) != sent:
            fact = Fact(name="metadata.generation", value=str(found), expected=str(sent))
            yield verdict("mutated.others", [fact], when=when, pod=case.pod, found=found, sent=sent)


def _mutated(asked: _Asked) -> Ruling | None:
    case = _case(asked)
    # An injected container takes part in the QoS class.
    added = _name(asked) == "qos_change_refused"
    changed = [
        one
        for one in pods.relevant(asked.run.mutations)
        if one.object == f"Pod/{case.pod}"
        and (_RELEVANT.search(one.field) or (added and one.stored == "added"))
    ]
    if changed:
        facts, remedy = [_mutation_fact(one) for one in changed], pods.opt_out(changed)
        return verdict("mutated", facts, change=changed[0], pod=case.pod, remedy=remedy)
    for before, step in rules.ordinary(case):
        for name, change in step.patch.wanted.items() if step.patch.status == 200 else ():
            wanted = kernel.merged(before.look.containers[name].spec, change)
            stored = step.patch.stored.get(name, {})
            if not kernel.same(stored, wanted):
                fact = Fact(name=f"{name}: spec", value=str(stored), expected=str(wanted))
                return verdict("mutated.request", [fact], step=step.name, container=name)
    return None


def _mutation_fact(one: Mutation) -> Fact:
    return Fact(name=one.field, value=str(one.stored), expected=str(one.sent), source=one.object)


def _no_room(asked: _Asked) -> Ruling | None:
    case = _case(asked)
    arena = case.arena
    if _name(asked) != "deferred":
        rulings = (rules.no_room_ruling(case, step) for _, step in rules.ordinary(case))
        return next(filter(None, rulings), None)
    if arena and arena.deferred and arena.left_after < 0 and not case.steps[0].settled:
        return verdict("room_taken", _sums(arena), node=arena.node, lacking=-arena.left_after)
    return None


def _control_failed(asked: _Asked) -> Ruling | None:
    case = _case(asked)
    if ruling := rules.rest_ruling(case):
        return ruling
    if _name(asked) not in _CONTROLLED or not case.steps:
        return None
    ruling = rules.step_ruling(case, case.start, case.steps[0], asked.profile)
    if ruling and ruling.outcome is Outcome.FAIL:
        ruling = verdict("control_failed", ruling.facts, why=ruling.summary)
    return ruling and _explained(case, ruling)


def _explained(case: Case, ruling: Ruling | None) -> Ruling | None:
    if ruling is None or ruling.reason in _EXPLAINED_BY_A_FALL:
        return held.fell_back_ruling(case, only_old=ruling is not None) or ruling
    return ruling


def _unless_away(asked: _Asked, ruling: Ruling) -> Ruling:
    """Take back a failure by waiting in vain if the API server was away meanwhile."""
    accepted = (_name(asked), ruling.reason) == ("infeasible", "accepted")
    away = "; ".join(asked.run.disturbances)
    if ruling.outcome is not Outcome.FAIL or not (ruling.reason in _WAITED or accepted) or not away:
        return ruling
    return verdict("api_server_away", ruling.facts, summary=ruling.summary, away=away)


# -- the rules -------------------------------------------------------------------------------

_Ask = Callable[[Case, Profile], Ruling | None]


def _ruled(ask: _Ask) -> Rule[ResizeObservation, ResizeObservation]:
    """Return a check's rule; what passes it must also hold to the end and be enforced."""

    def rule(asked: _Asked) -> Ruling:
        case, profile = _case(asked), asked.profile
        return (
            _explained(case, ask(case, profile))
            or held.end_ruling(case, profile)
            or enforced.enforced_ruling(case, profile)
            or _good(case, profile)
        )

    return Rule((), rule)


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
        facts.append(Fact(name="no value went back for", value=f"{watched:.1f} s"))
    restarts = sum(one.expect == "restart" for one in case.steps)
    return verdict(
        "observed.restarted" if restarts else "observed",
        facts,
        changes="; ".join(rules.deed(one) for one in case.steps),
        restarts=restarts,
        node=case.node,
        fails_when=_FAILS_WHEN[case.name],
    )


def _steps(case: Case, profile: Profile) -> Ruling | None:
    if not case.steps:
        return verdict("not_observed.ended", check=f"resize.{case.name}")
    rulings = (rules.step_ruling(case, *pair, profile) for pair in rules.pairs(case))
    return next(filter(None, rulings), None)


def _memory_down(case: Case, profile: Profile) -> Ruling | None:
    factor = profile.number("resize.memory_headroom")
    for name, answer in case.start.answers.items() if case.steps else ():
        limit = int(quantity.parse(case.steps[0].patch.wanted[name]["limits"]["memory"]))
        used = answer.memory_bytes
        if used is None:
            return verdict("not_observable.memory", container=name)
        if used * factor > limit:
            sizes = {"used": enforced.mib(used), "limit": enforced.mib(limit)}
            return verdict("too_little_headroom", container=name, **sizes, factor=factor)
    return _steps(case, profile)


def _beyond(ask: Callable[[Case, Snapshot, Step], Ruling | None]) -> _Ask:
    """Ask about the request after the control, with the pod as it was before."""

    def rule(case: Case, _: Profile) -> Ruling | None:
        if len(case.steps) < 2:
            return verdict("not_observed.ended", check=f"resize.{case.name}")
        return ask(case, *list(rules.pairs(case))[-1])

    return rule


def _answer_fact(step: Step, expected: str) -> Fact:
    told = f"{step.patch.status} {step.patch.message}".strip()
    return Fact(name="answer of the API", value=told, expected=expected)


def _spec(step: Step) -> str:
    return ", ".join(f"{name}: {written(one)}" for name, one in step.patch.stored.items())


def _not_attributed(step: Step, cause: str) -> Ruling:
    facts = [_answer_fact(step, f"a message that names {cause}")]
    message = step.patch.message
    return verdict("refusal_not_attributed", facts, step=step.name, cause=cause, message=message)


def _qos_change(case: Case, before: Snapshot, step: Step) -> Ruling | None:
    if step.patch.status == 200:
        return verdict(
            "accepted.qos",
            [_answer_fact(step, "a refusal that names the QoS class")],
            step=step.name,
            pod=case.pod,
            qos=step.after.look.qos_class if step.after else "unknown",
            spec=_spec(step),
        )
    if not _NAMES_QOS.search(step.patch.message):
        return _not_attributed(step, "the QoS class")
    return rules.unchanged_ruling(case, before, step)


def _infeasible(case: Case, before: Snapshot, step: Step) -> Ruling | None:
    changed = rules.unchanged_ruling(case, before, step)
    if step.patch.status != 200:
        named = _NAMES_ROOM.search(step.patch.message)
        return changed if named else _not_attributed(step, "the node's capacity")
    where = {"step": step.name, "node": case.node}
    if changed and changed.reason == "kernel_value_differs":
        return verdict("applied", changed.facts, **where, what=rules.differences(changed.facts))
    reasons = {one.reason for one in step.looks[-1].conditions if one.type == PENDING}
    if "Infeasible" in reasons:
        return changed
    facts = [_answer_fact(step, "a refusal, or the condition Infeasible")]
    if "Deferred" in reasons:
        return verdict("reported_as_deferred", facts, **where)
    return verdict("accepted", facts, **where, spec=_spec(step))


def _sums(arena: Arena) -> list[Fact]:
    return [
        Fact(name="free on the node", value=f"{arena.free_before} m", source=arena.node),
        Fact(name="asked for on top", value=f"{arena.needed} m"),
        Fact(name="left after the filler", value=f"{arena.left_after} m", expected="0 m or more"),
    ]


def _deferred(case: Case, profile: Profile) -> Ruling | None:
    arena = case.arena
    if arena is None or not case.steps:
        return verdict("not_observed.ended", check=f"resize.{case.name}")
    step, node = case.steps[0], arena.node
    if arena.deferred is None or arena.waiting is None:
        sizes = {"free": arena.free_before, "needed": arena.needed}
        return _steps(case, profile) or verdict("not_deferred", _sums(arena), node=node, **sizes)
    early = rules.unchanged_ruling(case, case.start, step, arena.waiting)
    if early and early.reason == "kernel_value_differs":
        return verdict(
            "applied_without_room", early.facts, node=node, what=rules.differences(early.facts)
        )
    # The last pulse of the time may be one interval old.
    given = profile.number("resize.settle_seconds") - profile.number("pulse.every_seconds")
    waited = profile.number("resize.waiting_seconds")
    early = early or too_short(arena.window, waited, profile)
    if early or step.settled:
        return early or _steps(case, profile)
    if ruling := too_short(arena.settling, given, profile):
        return ruling
    after = rules.seen_after(step)
    return verdict(
        "not_completed",
        [*_sums(arena), *rules.waiting_facts(step, after)],
        step=step.name,
        node=node,
        left=arena.left_after,
        seconds=profile.number("resize.settle_seconds"),
        lacking=rules.lacking(step, after),
    )


def _observed_generation(case: Case, profile: Profile) -> Ruling | None:
    version = rules.minor(case.kubelet)
    if version is not None and version < (1, 34):
        return verdict("kubelet_version", kubelet=case.kubelet, node=case.node)
    rulings = (_generation(case, *pair) for pair in rules.pairs(case))
    return next(filter(None, rulings), None) or _steps(case, profile)


def _generation(case: Case, before: Snapshot, step: Step) -> Ruling | None:
    sent, after = step.patch.generation or 0, step.after
    if step.patch.status != 200 or after is None:
        return None
    last, seen = before.look.generation, after.look.observed_generation
    rise = Fact(name="metadata.generation", value=str(sent), expected=f"more than {last}")
    where = {"step": step.name, "pod": case.pod}
    if sent <= last:
        return verdict("generation_not_raised", [rise], **where, generation=last)
    fact = Fact(name="status.observedGeneration", value=str(seen), expected=str(sent))
    if seen is not None and seen > after.look.generation:
        given = after.look.generation
        return verdict("generation_ahead", [rise, fact], **where, seen=seen, given=given)
    if seen is None or (seen < sent and not step.settled):
        told = "missing" if seen is None else seen
        return verdict("generation_not_observed", [rise, fact], **where, seen=told, sent=sent)
    return None


def _busy_loop(case: Case, profile: Profile) -> Ruling | None:
    if ruling := _steps(case, profile):
        return ruling
    if held.fell_back_ruling(case):
        return None  # the rule about what holds says it
    readings = [
        (burn, enforced.burn_reading(name, burn, limit, profile))
        for name, burn, limit in _burns(case)
    ]
    if len(readings) <= len(case.steps):
        return verdict("not_observable.cpu", pod=case.pod)
    facts = [one.fact for _, one in readings]
    rulings = (_follows(case, burn, reading, facts) for burn, reading in readings)
    return next(filter(None, rulings), None)


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


def _follows(case: Case, burn: Burn, reading: Reading, facts: list[Fact]) -> Ruling | None:
    told = rules.differences([reading.fact])
    if reading.verdict in ("less", "more"):
        return verdict("cpu_not_followed", facts, pod=case.pod, node=case.node, wrong=told)
    if reading.verdict == "noisy" or not burn.nr_throttled:
        periods = f"{burn.nr_throttled} of {burn.nr_periods}"
        return verdict("not_throttled", facts, wrong=told, periods=periods, node=case.node)
    return None


_RULES: dict[str, _Ask] = {
    "memory_down": _memory_down,
    "qos_change_refused": _beyond(_qos_change),
    "infeasible": _beyond(_infeasible),
    "deferred": _deferred,
    "observed_generation": _observed_generation,
    "busy_loop": _busy_loop,
}
"""What is more than that each step goes through."""
_FAILS_WHEN = {one.id.rpartition(".")[2]: one.fails_when.rstrip(".") for one in TOPIC.checks}

judge = Judge[ResizeObservation, ResizeObservation](
    rules={f"resize.{name}": _ruled(_RULES.get(name, _steps)) for name in _FAILS_WHEN},
    unusable=_unusable,
    node_lost=_node_lost,
    changed_by_others=_changed_by_others,
    mutated=_mutated,
    no_room=_no_room,
    control_failed=_control_failed,
    revise=_unless_away,
)
