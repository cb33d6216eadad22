"""The spine of the judges: which question decides, and what a finding carries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.kit.judging import Case, Judge, Rule, unless_beside
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Evidence, Fact, Fault, Finding, Observation, OtherRun, Outcome, Reason
from kar_checks.runner import fault_finding

FAULT = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image", help="--image")
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Part(Observation):
    traffic: int | Fault | None = 1


def seen(**values: Any) -> Part:
    return Part(trial="toy", evidence=Evidence.SYNTHETIC, started=NOW, finished=NOW, **values)


def ruled(case: Case[Part, Part]) -> Ruling:
    fact = Fact(name="own", value=case.variant)
    return Ruling(Outcome.PASS, "fine", "it works", facts=[fact])


RULES = {"toy.one": Rule[Part, Part](("traffic",), ruled)}
ORDER = ("node_lost", "changed_by_others", "mutated", "no_room", "control_failed")


def says(reason: str) -> Any:
    return lambda _case: Ruling(Outcome.INCONCLUSIVE, reason, reason)


def one(judge: Judge[Part, Part], observed: Part) -> Finding:
    (found,) = judge("toy.one", observed, profile.default())
    return found


def test_without_anything_else_the_rule_decides() -> None:
    found = one(Judge(rules=RULES), seen())
    assert (found.outcome, found.reason, found.trial) == (Outcome.PASS, "fine", "toy")


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_question_with_an_answer_decides(first: int) -> None:
    questions = {name: says(name) for name in ORDER[first:]}
    assert one(Judge(rules=RULES, **questions), seen()).reason == ORDER[first]


def test_what_was_not_measured_comes_before_all_of_them() -> None:
    judge = Judge(rules=RULES, **{name: says(name) for name in ORDER})
    found = one(judge, seen(traffic=FAULT))
    assert (found.outcome, found.reason, found.help) == ("error", "image_unavailable", "--image")
    found = one(judge, seen(traffic=None))
    assert (found.outcome, found.reason) == ("not_run", "not_measured")


def test_what_others_hold_the_room_of_is_no_error_of_ours() -> None:
    full = Fault(reason=Reason.NO_ROOM, message="pod a has no room: n1 has 3m of 600m cpu free")
    for found in (one(Judge(rules=RULES), seen(traffic=full)), fault_finding("toy.one", full)):
        assert (found.outcome, found.reason) == ("inconclusive", "no_room")
        assert found.summary == full.message
        assert "--node-selector" in found.help
    found = fault_finding("toy.one", FAULT, trial="toy")
    assert (found.outcome, found.reason) == ("error", "image_unavailable")
    assert (found.summary, found.help, found.trial) == ("no image", "--image", "toy")


def test_each_variant_has_its_finding_and_what_is_missing_has_one_too() -> None:
    judge = Judge[Part, Part](
        rules=RULES,
        variants=lambda run, _: {"a": run, "b": FAULT},
        missing=lambda _run: {"c": Ruling(Outcome.INCONCLUSIVE, "absent", "not there")},
        context=lambda case: [Fact(name="before", value=case.variant)],
        remarks=lambda case: [Fact(name="after", value=case.variant)],
        revise=lambda _case, ruling: Ruling(Outcome.FAIL, "revised", "x", facts=ruling.facts),
    )
    found = judge("toy.one", seen(), profile.default())
    assert [(each.variant, each.reason) for each in found] == [
        ("a", "revised"),
        ("b", "image_unavailable"),
        ("c", "absent"),
    ]
    assert [fact.name for fact in found[0].facts] == ["before", "own", "after"]


def test_a_failure_beside_another_run_decides_nothing() -> None:
    other = OtherRun(id="other-run")
    broken = Ruling(Outcome.FAIL, "slow", "it is slow", broken="The network is slow")
    found = unless_beside(broken, seen(beside=[other]))
    assert (found.outcome, found.reason, found.broken) == ("inconclusive", "other_run", "")
    assert "other-run" in found.summary
    assert unless_beside(broken, seen()) is broken
