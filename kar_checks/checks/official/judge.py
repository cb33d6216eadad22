"""The verdict on a run of the official suite: observation in, a finding per class out. Pure."""

from __future__ import annotations

from kar_checks.checks.official.observation import (
    ClassObservation,
    OfficialObservation,
    SuiteRun,
)
from kar_checks.inference_suite import DEFECT, SuiteTest
from kar_checks.kit.http_testbed.ruling import missing_pools
from kar_checks.kit.judging import Case, Judge, Rule
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact

verdict = Reasons(__package__)


def _facts(case: Case[OfficialObservation, ClassObservation]) -> list[Fact]:
    seen, one = case.run, case.seen
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
        return "inconclusive: answered by 500 only, the known defect"
    return f"{test.outcome}: {test.note}" if test.note else test.outcome


def _suite(case: Case[OfficialObservation, ClassObservation]) -> Ruling:
    done = case.seen.done
    if done is None:
        return verdict("class_not_accepted")
    if not done.tests:
        said = done.last_words or "none"
        return verdict("suite_did_not_start", ending=_ending(done), last_words=said)
    return _tests(done, case.run.timeouts)


def _tests(done: SuiteRun, timeouts: str) -> Ruling:
    """A known defect of the suite's own picker is not the gateway's."""
    by_outcome = {
        word: [one for one in done.tests if one.outcome == word]
        for word in ("pass", "fail", "skip")
    }
    count = f"{len(by_outcome['pass'])} of {len(done.tests)} tests passed"
    if bad := by_outcome["fail"]:
        first = f" ({bad[0].note})" if bad[0].note else ""
        changed = f"; the user changed its times: {timeouts}" if timeouts else ""
        said = {"count": count, "names": _names(bad), "first": first, "changed": changed}
        if done.policies:
            return verdict("network_policy", policies=", ".join(done.policies), **said)
        return verdict("tests_failed", **said)
    open_ended = [one for one in done.tests if one.outcome == "inconclusive" and not one.defect]
    if open_ended:
        names = _names(open_ended)
        return verdict("unfinished", count=count, ending=_ending(done), names=names)
    if defective := len([one for one in done.tests if one.defect]):
        return verdict("upstream_defect", count=count, defective=defective, defect=DEFECT)
    if skipped := len(by_outcome["skip"]):
        return verdict("tests_skipped", count=count, skipped=skipped)
    if done.exit_code != 0:
        return verdict("ended_badly", count=count, ending=_ending(done))
    return verdict("suite_passed", count=count)


def _ending(done: SuiteRun) -> str:
    if done.exit_code is None:
        return f"was ended by us after {done.seconds:.0f} s"
    return f"ended by itself after {done.seconds:.0f} s with exit code {done.exit_code}"


def _names(tests: list[SuiteTest]) -> str:
    return ", ".join(one.name for one in tests)


def _missing(seen: OfficialObservation) -> dict[str, Ruling]:
    return missing_pools(seen.served, seen.wanted, seen.classes)


judge = Judge[OfficialObservation, ClassObservation](
    rules={"official.inference_suite": Rule((), _suite)},
    variants=lambda run, _: run.classes,
    missing=_missing,
    context=_facts,
)
