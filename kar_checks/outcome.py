"""From the findings of checks to the outcome of a requirement: one function, one rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from kar_checks.model import (
    CheckInfo,
    Evidence,
    Finding,
    Outcome,
    RequirementOutcome,
    RequirementResult,
    TopicInfo,
)
from kar_checks.programme import Requirement

_DID_NOT_RUN = (Outcome.NOT_RUN, Outcome.SKIPPED, Outcome.NOT_APPLICABLE)
_STRENGTH = (Evidence.SIMULATED, Evidence.SYNTHETIC, Evidence.REAL)


def combine(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what several checks come to together.

    None at all is ``not_run``; all not applicable or all skipped stay that; otherwise what does
    not apply is dropped and the worst counts: fail, error, undecided (inconclusive, not run or
    skipped beside others), pass.
    """
    if not outcomes:
        return Outcome.NOT_RUN
    rest = [one for one in outcomes if one is not Outcome.NOT_APPLICABLE]
    if not rest:
        return Outcome.NOT_APPLICABLE
    if all(one is Outcome.SKIPPED for one in rest):
        return Outcome.SKIPPED
    if all(one is Outcome.NOT_RUN for one in rest):
        return Outcome.NOT_RUN
    for worst in (Outcome.FAIL, Outcome.ERROR):
        if worst in rest:
            return worst
    return Outcome.PASS if set(rest) == {Outcome.PASS} else Outcome.INCONCLUSIVE


def combine_variants(findings: Iterable[Finding]) -> Outcome:
    """Return what alternatives come to: any variant that passes is enough, none is undecided.

    A finding that names no variant (a check that the plan left out) counts beside each of them.
    """
    return combine(alternatives(findings))


def alternatives(findings: Iterable[Finding]) -> list[Outcome]:
    """Return one outcome for all variants together, and those that are about no variant."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for finding in findings:
        groups[finding.variant].append(finding.outcome)
    general = groups.pop("", [])
    named = [combine(found) for found in groups.values()]
    if not named:
        return general
    return [Outcome.PASS if Outcome.PASS in named else combine(named), *general]


def requirement_result(
    requirement: Requirement,
    topics: Sequence[TopicInfo],
    checks: Sequence[CheckInfo],
    findings: Sequence[Finding],
) -> RequirementResult:
    """Return the row of one requirement from the checks that belong to it.

    ``checks`` are all checks of the suite; those without a finding are ``not_run``, so that a
    partial selection never looks complete. A topic that is only measured on request, and was not,
    is no part of it. Where its topics are for different levels of evidence, those of the best level
    that ran decide; the others stand beside them on the page.
    """
    mine = [topic for topic in topics if topic.requirement == requirement.id]
    if not mine:
        return RequirementResult(
            id=requirement.id,
            kar=requirement.kar,
            level=requirement.level,
            outcome=RequirementOutcome.UNKNOWN,
            reason="No check of this suite decides it yet: it needs manual evidence.",
        )
    levels = sorted({topic.evidence for topic in mine}, key=_STRENGTH.index, reverse=True)
    decided = [
        _decide([one for one in mine if one.evidence is level], checks, findings)
        for level in levels
    ]
    outcome, used = next((one for one in decided if one[0] not in _DID_NOT_RUN), decided[-1])
    all_alternatives = all(topic.any_of for topic in mine)
    rests_on = [one.evidence for one in used if one.evidence and one.outcome is outcome]
    evidence = min(rests_on, key=_STRENGTH.index) if rests_on else None
    needed = max((topic.counts_as_implemented for topic in mine), key=_STRENGTH.index)
    return RequirementResult(
        id=requirement.id,
        kar=requirement.kar,
        level=requirement.level,
        outcome=RequirementOutcome(outcome.value),
        reason=(_which_passed(used) if outcome is Outcome.PASS and all_alternatives else "")
        or _reason(outcome, used),
        evidence=evidence,
        counts=evidence is not None
        and outcome is Outcome.PASS
        and _STRENGTH.index(evidence) >= max(_STRENGTH.index(needed), 1),
    )


def _decide(
    topics: Sequence[TopicInfo], checks: Sequence[CheckInfo], findings: Sequence[Finding]
) -> tuple[Outcome, list[Finding]]:
    """Return what the topics of one level come to, and the findings that this rests on."""
    parts: list[Outcome] = []
    used: list[Finding] = []
    for topic in topics:
        ids = [check.id for check in checks if check.topic == topic.id]
        found = [finding for finding in findings if finding.check in ids]
        if topic.asked_by and not found and len(topics) > 1:
            continue
        missing = [
            Finding(
                check=one,
                variant=variant,
                outcome=Outcome.NOT_RUN,
                reason="not_run",
                summary="It did not run.",
            )
            for variant in sorted({one.variant for one in found if one.variant}) or [""]
            for one in ids
            if not any(f.check == one and f.variant in (variant, "") for f in found)
        ]
        both = [*found, *missing]
        parts.append(
            combine_variants(both) if topic.any_of else combine([one.outcome for one in both])
        )
        used.extend(both)
    return combine(parts), used


def _reason(outcome: Outcome, used: Sequence[Finding]) -> str:
    same = [one for one in used if one.outcome is outcome]
    if outcome is Outcome.PASS:
        return f"{len(same)} of {len(used)} checks passed."
    if outcome is Outcome.NOT_RUN or not same:
        return "Not every check of it ran."
    return same[0].summary


def _which_passed(used: Sequence[Finding]) -> str:
    """Say which of several alternatives passed, and what kept the others from it."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in used:
        if finding.variant:
            groups[finding.variant].append(finding)
    if len(groups) < 2:
        return ""
    outcomes = {name: combine([one.outcome for one in found]) for name, found in groups.items()}
    passed = [name for name, outcome in outcomes.items() if outcome is Outcome.PASS]
    told = [f"Passed by {', '.join(passed)}"]
    for name, outcome in outcomes.items():
        if name not in passed:
            why = next((f": {one.summary}" for one in groups[name] if one.outcome is outcome), "")
            told.append(f"{name} {outcome.value}{why}")
    return f"{'; '.join(told)}."
