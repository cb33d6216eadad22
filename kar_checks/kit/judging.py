"""The spine of all judges: what each of them asks, in one order. Pure.

A topic's judge is a :class:`Judge`: rules by check, and the questions that come before them. The
first question with an answer decides:

1. error: the suite could not measure a part that the rule reads, or was not asked to
2. a node was lost or hung
3. others changed a group or a pod of ours
4. admission changed what we sent
5. there was no room
6. a control failed
7. the rule
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Evidence, Fact, Fault, Finding, Observation, Outcome, Reason
from kar_checks.profile import Profile

S = TypeVar("S", bound=Observation)
"""A topic's observation."""
V = TypeVar("V")
"""What was observed of one variant; the observation itself where a topic has none."""

verdict = Reasons(__package__)


@dataclass(frozen=True)
class Case(Generic[S, V]):
    """One check on one variant, with all that a rule may look at."""

    check: str
    run: S
    variant: str
    seen: V
    profile: Profile


Question = Callable[[Case[S, V]], Ruling | None]


@dataclass(frozen=True)
class Rule(Generic[S, V]):
    """A check's own rule, and the attributes of the variant that it reads.

    A part that is a :class:`Fault` makes ``error``, one that is ``None`` makes ``not_run``.
    """

    parts: tuple[str, ...]
    ask: Callable[[Case[S, V]], Ruling]


def _only(run: Any, _profile: Profile) -> Mapping[str, Any]:
    return {"": run}


def _as_measured(run: Observation, _profile: Profile) -> Evidence:
    return run.evidence


def _nothing(_run: Any) -> Mapping[str, Ruling]:
    return {}


def _silent(_case: Any) -> None:
    return None


def _no_facts(_of: Any) -> list[Fact]:
    return []


def _as_it_is(_case: Any, ruling: Ruling) -> Ruling:
    return ruling


@dataclass(frozen=True)
class Judge(Generic[S, V]):
    """Judges each check of a topic, a finding per variant."""

    rules: Mapping[str, Rule[S, V]]
    variants: Callable[[S, Profile], Mapping[str, V | Fault]] = _only
    evidence: Callable[[S, Profile], Evidence] = _as_measured
    missing: Callable[[S], Mapping[str, Ruling]] = _nothing
    """Verdicts on variants that were looked for and do not exist."""
    unusable: Question[S, V] = _silent
    """Why nothing of the variant could be measured, before its parts are looked at."""
    node_lost: Question[S, V] = _silent
    changed_by_others: Question[S, V] = _silent
    mutated: Question[S, V] = _silent
    no_room: Question[S, V] = _silent
    control_failed: Question[S, V] = _silent
    revise: Callable[[Case[S, V], Ruling], Ruling] = _as_it_is
    """Takes back a verdict of the rule that something else explains."""
    about: Callable[[S], list[Fact]] = _no_facts
    """Facts of the whole run, which every finding has, also of what could not be measured."""
    context: Callable[[Case[S, V]], list[Fact]] = _no_facts
    """Facts before those of the verdict."""
    remarks: Callable[[Case[S, V]], list[Fact]] = _no_facts
    """Facts after those of the verdict."""

    def __call__(self, check: str, seen: Observation, profile: Profile) -> list[Finding]:
        """Judge one check."""
        run = cast("S", seen)
        evidence = self.evidence(run, profile)
        about = self.about(run)
        found: list[Finding] = []
        for name, one in self.variants(run, profile).items():
            if isinstance(one, Fault):
                ruling, before, after = error(one), list[Fact](), list[Fact]()
            else:
                case = Case(check, run, name, one, profile)
                ruling = self._decide(case)
                before, after = self.context(case), self.remarks(case)
            facts = [*about, *before, *ruling.facts, *after]
            found.append(ruling.finding(check, facts, evidence, run.trial, variant=name))
        for name, ruling in self.missing(run).items():
            facts = [*about, *ruling.facts]
            found.append(ruling.finding(check, facts, evidence, run.trial, variant=name))
        return found

    def _decide(self, case: Case[S, V]) -> Ruling:
        rule = self.rules[case.check]
        return (
            self.unusable(case)
            or _unmeasured(case, rule)
            or self.node_lost(case)
            or self.changed_by_others(case)
            or self.mutated(case)
            or self.no_room(case)
            or self.control_failed(case)
            or self.revise(case, rule.ask(case))
        )


def _unmeasured(case: Case[S, V], rule: Rule[S, V]) -> Ruling | None:
    for name in rule.parts:
        if ruling := measured(getattr(case.seen, name)):
            return ruling
    return None


def measured(part: object) -> Ruling | None:
    """Return why a part of an observation cannot be judged; ``None`` if it can."""
    if isinstance(part, Fault):
        return error(part)
    return verdict("not_measured") if part is None else None


def error(fault: Fault) -> Ruling:
    """Return the error of a fault; where others held the room that we needed it is none."""
    if fault.reason is Reason.NO_ROOM:
        return verdict("no_room", what=fault.message)
    return Ruling(Outcome.ERROR, fault.reason.value, fault.message, fault.help)


def not_recorded(what: str) -> Ruling:
    """Return the verdict on a stored run that is older than the rule: it lacks ``what``."""
    return verdict("not_recorded", what=what)


def unless_beside(ruling: Ruling, seen: Observation) -> Ruling:
    """Return a failure as inconclusive if another run of this suite was active meanwhile.

    For what two runs take from each other: quota, bandwidth, time.
    """
    if ruling.outcome is not Outcome.FAIL or not seen.beside:
        return ruling
    others = ", ".join(one.id for one in seen.beside)
    changed = verdict("other_run", summary=ruling.summary, others=others)
    return replace(changed, facts=ruling.facts)
