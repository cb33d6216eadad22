from __future__ import annotations

from itertools import permutations

import pytest

from kar_checks import programme
from kar_checks.model import (
    CheckInfo,
    Evidence,
    Finding,
    Outcome,
    RequirementOutcome,
    RequirementResult,
    TopicInfo,
)
from kar_checks.outcome import combine, combine_variants, requirement_result

P, F, I, E = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.ERROR  # noqa: E741
NA, S, NR = Outcome.NOT_APPLICABLE, Outcome.SKIPPED, Outcome.NOT_RUN

TOGETHER = [
    ([], NR),
    ([NR, NR], NR),
    ([NA, NA], NA),
    ([S, S], S),
    ([NA, S], S),
    ([NA, NR], NR),
    ([P], P),
    ([P, NA], P),
    ([P, P, NA], P),
    ([F, E, I, P], F),
    ([F, S, NR, NA], F),
    ([E, I, P], E),
    ([E, S, NA], E),
    ([I, P], I),
    ([I, NA], I),
    ([I, S, NR], I),
    ([P, S], I),
    ([P, NR], I),
    ([S, NR], I),
]


@pytest.mark.parametrize(("outcomes", "expected"), TOGETHER)
def test_the_worst_that_applies_counts(outcomes: list[Outcome], expected: Outcome) -> None:
    assert {combine(one) for one in permutations(outcomes)} == {expected}


def finding(check: str, outcome: Outcome, variant: str = "", level: str = "synthetic") -> Finding:
    return Finding(
        check=check,
        variant=variant,
        outcome=outcome,
        reason="r",
        summary=f"{check} {outcome.value}",
        evidence=Evidence(level) if level else None,
    )


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ({"kueue": [P], "volcano": [F]}, P),
        ({"kueue": [P], "volcano": [E]}, P),
        ({"kueue": [P, NA], "volcano": [I]}, P),
        ({"kueue": [P, F], "volcano": [F, P]}, F),
        ({"kueue": [P, I], "volcano": [P, NR]}, I),
        ({"kueue": [F], "volcano": [E]}, F),
        ({"kueue": [E], "volcano": [I]}, E),
        ({"kueue": [I], "volcano": [NA]}, I),
        ({"kueue": [NA], "volcano": [NA]}, NA),
        ({"": [I]}, I),
        ({"": [F]}, F),
        ({"": [E, E]}, E),
        ({}, NR),
        # What was found about no variant in particular holds for each of them.
        ({"kueue": [P], "": [E]}, E),
        ({"kueue": [P], "": [S]}, I),
        ({"kueue": [P], "": [NR]}, I),
        ({"kueue": [P], "": [NA]}, P),
        ({"kueue": [P], "volcano": [F], "": [P]}, P),
    ],
)
def test_one_variant_that_works_is_enough(
    variants: dict[str, list[Outcome]], expected: Outcome
) -> None:
    found = [
        finding(f"gang.c{number}", outcome, variant)
        for variant, outcomes in variants.items()
        for number, outcome in enumerate(outcomes)
    ]
    assert combine_variants(found) is expected
    assert combine_variants(reversed(found)) is expected


GANG = next(one for one in programme.requirements("1.37") if one.id == "gang_scheduling")


def info(check: str) -> CheckInfo:
    return CheckInfo(
        id=check,
        title="t",
        topic=check.partition(".")[0],
        proves="p",
        fails_when="f",
        disruption="none",
        budget_seconds=1,
    )


def row(
    *found: Finding,
    checks: tuple[str, ...] = ("gang.a", "gang.b"),
    any_of: bool = True,
    needs: str = "synthetic",
    requirement: str = "gang_scheduling",
) -> RequirementResult:
    topic = TopicInfo(
        id="gang",
        title="t",
        label="KAR-53",
        requirement=requirement,
        any_of=any_of,
        counts_as_implemented=Evidence(needs),
    )
    return requirement_result(GANG, [topic], [info(one) for one in checks], found)


def test_a_requirement_that_no_topic_decides_needs_a_person() -> None:
    found = row(requirement="another")
    assert found.outcome is RequirementOutcome.UNKNOWN
    assert "manual evidence" in found.reason
    assert found.evidence is None
    assert not found.counts


def test_a_requirement_without_checks_or_findings_did_not_run() -> None:
    assert row(checks=()).outcome is RequirementOutcome.NOT_RUN
    assert row().outcome is RequirementOutcome.NOT_RUN


def test_a_partial_selection_never_looks_complete() -> None:
    found = row(finding("gang.a", P, "native"))
    assert found.outcome is RequirementOutcome.INCONCLUSIVE
    assert not found.counts


def test_a_check_that_one_variant_lacks_did_not_run_for_it() -> None:
    one = [finding("gang.a", P, "native"), finding("gang.b", P, "native")]
    other = [finding("gang.a", P, "kueue")]
    assert row(*one, *other).outcome is RequirementOutcome.PASS
    assert row(one[0], *other).outcome is RequirementOutcome.INCONCLUSIVE


def test_a_check_that_the_plan_left_out_is_not_covered_by_those_that_passed() -> None:
    found = row(finding("gang.a", P, "native"), finding("gang.b", E, level=""))
    assert found.outcome is RequirementOutcome.ERROR
    assert found.reason == "gang.b error"


def test_no_backend_at_all_is_undecided() -> None:
    found = row(finding("gang.a", I), finding("gang.b", I))
    assert found.outcome is RequirementOutcome.INCONCLUSIVE
    assert found.reason == "gang.a inconclusive"


def test_without_alternatives_every_variant_counts() -> None:
    found = [finding("gang.a", P, "x"), finding("gang.a", F, "y")]
    assert row(*found, checks=("gang.a",), any_of=False).outcome is RequirementOutcome.FAIL
    assert row(*found, checks=("gang.a",), any_of=True).outcome is RequirementOutcome.PASS


def test_of_alternatives_the_row_says_which_passed_and_what_ails_the_others() -> None:
    found = [finding("gang.a", P, "native"), finding("gang.a", P, "volcano")]
    assert row(*found, checks=("gang.a",)).reason == "Passed by native, volcano."
    found.append(finding("gang.a", F, "kueue"))
    told = "Passed by native, volcano; kueue fail: gang.a fail."
    assert row(*found, checks=("gang.a",)).reason == told
    assert row(found[0], checks=("gang.a",)).reason == "1 of 1 checks passed."


@pytest.mark.parametrize("any_of", [False, True])
def test_a_check_that_is_about_no_variant_stands_beside_those_that_are(any_of: bool) -> None:
    found = [finding("gang.a", P), finding("gang.b", P, "x")]
    assert row(*found, any_of=any_of).outcome is RequirementOutcome.PASS
    found[0] = finding("gang.a", F)
    assert row(*found, any_of=any_of).outcome is RequirementOutcome.FAIL


def test_findings_of_other_topics_are_left_alone() -> None:
    found = row(finding("gang.a", P), finding("resize.a", F), checks=("gang.a",))
    assert found.outcome is RequirementOutcome.PASS


def test_two_topics_of_one_requirement_count_together() -> None:
    def topic(name: str) -> TopicInfo:
        return TopicInfo(id=name, title="t", label="l", requirement=GANG.id)

    found = [finding("one.a", P), finding("two.a", F)]
    both = requirement_result(
        GANG, [topic("one"), topic("two")], [info("one.a"), info("two.a")], found
    )
    assert both.outcome is RequirementOutcome.FAIL


@pytest.mark.parametrize(
    ("usual", "asked", "expected"),
    [(P, None, P), (F, None, F), (P, P, P), (P, I, I), (P, F, F), (None, P, I), (None, None, NR)],
)
def test_a_topic_that_nobody_asked_for_leaves_the_requirement_to_the_others(
    usual: Outcome | None, asked: Outcome | None, expected: Outcome
) -> None:
    topics = [
        TopicInfo(id="one", title="t", label="l", requirement=GANG.id),
        TopicInfo(id="two", title="t", label="l", requirement=GANG.id, asked_by="two.command"),
    ]
    checks = [info("one.a"), info("two.a")]
    given = {"one.a": usual, "two.a": asked}
    found = [finding(check, one) for check, one in given.items() if one]
    assert requirement_result(GANG, topics, checks, found).outcome.value == expected.value


LEVELS = [
    # (of the synthetic topic, of the real one) and what the requirement rests on
    ([P], [P], P, "real"),
    ([P], [F], F, "real"),
    ([F], [P], P, "real"),
    ([P], [I], I, "real"),
    ([P], [E], E, "real"),
    ([I], [P], P, "real"),
    ([P], [], P, "synthetic"),
    ([F], [], F, "synthetic"),
    ([P], [S], P, "synthetic"),
    ([P], [NA], P, "synthetic"),
    ([], [P], P, "real"),
    ([], [], NR, None),
    ([S], [S], S, "synthetic"),
]


def two_levels(synthetic: list[Outcome], real: list[Outcome], level: str) -> RequirementResult:
    topics = [
        TopicInfo(id=name, title="t", label="l", requirement=GANG.id, evidence=Evidence(name))
        for name in ("synthetic", "real")
    ]
    checks = [info("synthetic.a"), info("real.a")]
    found = [finding("synthetic.a", one) for one in synthetic]
    found += [finding("real.a", one, level=level) for one in real]
    return requirement_result(GANG, topics, checks, found)


@pytest.mark.parametrize(("synthetic", "real", "expected", "evidence"), LEVELS)
def test_the_better_level_that_ran_decides(
    synthetic: list[Outcome], real: list[Outcome], expected: Outcome, evidence: str | None
) -> None:
    found = two_levels(synthetic, real, "real")
    assert (found.outcome.value, found.evidence) == (expected.value, evidence)
    assert found.counts is (expected is P)


@pytest.mark.parametrize("real", [F, I])
def test_a_simulator_in_place_of_a_real_stack_hides_behind_no_synthetic_pass(real: Outcome) -> None:
    found = two_levels([P], [real], "simulated")
    assert (found.outcome.value, found.evidence) == (real.value, "simulated")
    assert not found.counts


@pytest.mark.parametrize(
    ("levels", "needs", "evidence", "counts"),
    [
        (["synthetic", "synthetic"], "synthetic", "synthetic", True),
        (["real", "real"], "synthetic", "real", True),
        (["real", "synthetic"], "synthetic", "synthetic", True),
        (["real", "synthetic"], "real", "synthetic", False),
        (["real", "real"], "real", "real", True),
        (["real", "simulated"], "synthetic", "simulated", False),
        (["simulated", "simulated"], "simulated", "simulated", False),
        (["", ""], "synthetic", None, False),
    ],
)
def test_the_weakest_evidence_counts_and_simulated_never_does(
    levels: list[str], needs: str, evidence: str | None, counts: bool
) -> None:
    first, second = levels
    found = row(finding("gang.a", P, level=first), finding("gang.b", P, level=second), needs=needs)
    assert found.outcome is RequirementOutcome.PASS
    assert (found.evidence, found.counts) == (evidence, counts)


@pytest.mark.parametrize("outcome", [F, I, E, NA, S])
def test_only_a_pass_counts_as_implemented(outcome: Outcome) -> None:
    assert not row(finding("gang.a", outcome, level="real"), checks=("gang.a",)).counts


def test_a_row_carries_number_and_level_of_its_requirement() -> None:
    found = row()
    assert (found.id, found.kar, found.level) == ("gang_scheduling", 53, "MUST")
