from __future__ import annotations

import pytest

from kar_checks.exits import MEANING, Exit, objective
from kar_checks.model import Cleanup, Finding, Outcome, TopicInfo

DEFAULT = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE)


def code(words: str, *, any_of: bool = False, cleanup: str = "clean", fail_on: str = "") -> Exit:
    """Take ``outcome[@variant]`` words, one check each."""
    found: list[Finding] = []
    for number, word in enumerate(words.split()):
        outcome, _, variant = word.partition("@")
        check = "gang.same" if any_of and variant else f"gang.c{number}"
        found.append(
            Finding(check=check, variant=variant, outcome=Outcome(outcome), reason="r", summary="s")
        )
    topic = TopicInfo(id="gang", title="t", label="l", any_of=any_of)
    counted = [Outcome(one) for one in fail_on.split(",")] if fail_on else DEFAULT
    topic_of = {one.check: "gang" for one in found}
    return objective(
        found, [topic], topic_of, Cleanup.model_validate({"verdict": cleanup}), counted
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", 0),
        ("pass pass", 0),
        ("pass not_applicable skipped not_run", 0),
        ("pass inconclusive", 11),
        ("pass inconclusive fail", 1),
        ("fail error inconclusive", 10),
        ("error", 10),
    ],
)
def test_the_gravest_outcome_gives_the_code(words: str, expected: int) -> None:
    assert code(words) == expected


@pytest.mark.parametrize("words", ["", "pass", "fail", "inconclusive"])
def test_a_leak_always_shows(words: str) -> None:
    assert code(words, cleanup="leaked") == Exit.HARNESS
    assert code(words, cleanup="leaked", fail_on="skipped") == Exit.HARNESS


@pytest.mark.parametrize("cleanup", ["kept", "unknown"])
def test_what_was_kept_on_purpose_is_no_leak(cleanup: str) -> None:
    assert code("pass", cleanup=cleanup) == Exit.OK


@pytest.mark.parametrize(
    ("words", "fail_on", "expected"),
    [
        ("fail error inconclusive", "fail", 1),
        ("error inconclusive", "fail", 0),
        ("fail inconclusive", "inconclusive", 11),
        ("fail", "error", 0),
        ("pass skipped", "skipped", 11),
        ("not_applicable", "fail,not_applicable", 11),
        ("not_run fail", "not_run,fail", 1),
    ],
)
def test_the_objective_can_be_narrowed_and_widened(words: str, fail_on: str, expected: int) -> None:
    assert code(words, fail_on=fail_on) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pass@kueue fail@volcano error@native", 0),
        ("fail@kueue error@volcano", 1),
        ("error@kueue inconclusive@volcano", 10),
        ("inconclusive", 11),
        ("pass@kueue error", 10),
        ("pass@kueue skipped", 0),
        ("fail@kueue skipped", 1),
    ],
)
def test_where_any_variant_is_enough_they_count_together(words: str, expected: int) -> None:
    assert code(words, any_of=True) == expected


def test_without_alternatives_each_variant_counts() -> None:
    assert code("pass@kueue fail@volcano") == Exit.FAILED


def test_every_code_has_a_meaning_and_pytests_own_keep_theirs() -> None:
    assert set(MEANING) == set(Exit)
    assert {int(one) for one in pytest.ExitCode if one <= 5} == {
        int(one) for one in Exit if one < 10
    }
