"""The verdict on a run of the official suite: observation in, a finding per class out. Pure."""

from __future__ import annotations

from typing import cast

from kar_checks.checks.ingress.ruling import error, failed, missing_pools, passed, undecided
from kar_checks.checks.official.observation import (
    ClassObservation,
    OfficialObservation,
    SuiteRun,
)
from kar_checks.checks.ruling import Ruling
from kar_checks.inference_suite import DEFECT, SuiteTest
from kar_checks.model import Fact, Fault, Finding, Observation
from kar_checks.profile import Profile


def judge(check: str, seen: Observation, _: Profile) -> list[Finding]:
    """Judge every class; a known defect of the suite's own picker is nobody else's fault."""
    observed = cast("OfficialObservation", seen)
    rulings = {
        name: _rule(one, observed) for name, one in observed.classes.items()
    } | missing_pools(observed.served, observed.wanted, observed.classes)
    return [
        ruling.finding(
            check,
            _facts(observed, observed.classes.get(name)),
            observed.evidence,
            observed.trial,
            variant=name,
        )
        for name, ruling in rulings.items()
    ]


def _facts(seen: OfficialObservation, one: ClassObservation | Fault | None) -> list[Fact]:
    if not isinstance(one, ClassObservation):
        return []
    facts = [Fact(name="controller", value=one.controller, source="spec.controllerName")]
    if one.done is None:
        return facts
    facts.append(Fact(name="suite", value=one.done.suite, source=seen.command))
    if seen.timeouts:
        facts.append(
            Fact(name="times of the suite", value=seen.timeouts, source="official.timeouts")
        )
    return facts + [
        Fact(name=test.name, value=_told(test), expected="pass") for test in one.done.tests
    ]


def _told(test: SuiteTest) -> str:
    if test.defect:
        return "undecided: answered by 500 only, the known defect"
    word = "undecided" if test.outcome == "inconclusive" else test.outcome
    return f"{word}: {test.note}" if test.note else word


def _rule(seen: ClassObservation | Fault, observed: OfficialObservation) -> Ruling:
    if isinstance(seen, Fault):
        return error(seen)
    if seen.done is None:
        return undecided("class_not_accepted", "no controller accepts the class")
    if not seen.done.tests:
        return undecided(
            "suite_did_not_start",
            f"the suite came to none of its tests, and {_ending(seen.done)}; it said: "
            f"{seen.done.last_words or 'nothing'}",
            "all that it printed is among the evidence",
        )
    return _tests(seen.done, observed)


def _tests(done: SuiteRun, observed: OfficialObservation) -> Ruling:
    by_outcome = {
        word: [one for one in done.tests if one.outcome == word]
        for word in ("pass", "fail", "skip")
    }
    count = f"{len(by_outcome['pass'])} of {len(done.tests)} tests passed"
    if bad := by_outcome["fail"]:
        first = f" ({bad[0].note})" if bad[0].note else ""
        changed = f"; the user changed its times: {observed.timeouts}" if observed.timeouts else ""
        if done.policies:
            return undecided(
                "network_policy",
                f"{', '.join(done.policies)} in the suite's namespaces restricts who may reach its "
                f"pods, and so this is not decided: {count}; {_names(bad)} failed{first}{changed}",
                "let the policy leave out namespaces with the label "
                "app.kubernetes.io/managed-by=kar-checks",
            )
        return failed(
            "tests_failed",
            f"{count}; {_names(bad)} failed{first}{changed}",
            "a pass of every test",
        )
    if open_ended := [
        one for one in done.tests if one.outcome == "inconclusive" and not one.defect
    ]:
        return undecided(
            "unfinished",
            f"{count}; the suite {_ending(done)}, and did not tell the end of {_names(open_ended)}",
            "give it more time by --set official.seconds=SECONDS",
        )
    if defect := [one for one in done.tests if one.defect]:
        return undecided(
            "upstream_defect",
            f"{count}; {len(defect)} met nothing but the known defect of the suite's own endpoint "
            f"picker ({DEFECT}), so that they tell nothing about the gateway",
            "a version of the suite whose picker is mended",
        )
    if skipped := by_outcome["skip"]:
        return undecided(
            "tests_skipped",
            f"{count}, and {len(skipped)} were skipped",
            "leave official.test and official.skip out",
        )
    if done.exit_code != 0:
        return undecided("ended_badly", f"{count}, and yet the suite {_ending(done)}")
    return passed("suite_passed", count, "any test that fails", [])


def _ending(done: SuiteRun) -> str:
    if done.exit_code is None:
        return f"was ended by us after {done.seconds:.0f} s"
    return f"ended by itself after {done.seconds:.0f} s with exit code {done.exit_code}"


def _names(tests: list[SuiteTest]) -> str:
    return ", ".join(one.name for one in tests)
