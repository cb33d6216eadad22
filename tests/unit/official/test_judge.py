"""What the judge makes of every end that the official suite can come to, as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kar_checks import profile
from kar_checks.checks.official.checks import TOPIC
from kar_checks.checks.official.judge import judge
from kar_checks.checks.official.observation import (
    ClassObservation,
    OfficialObservation,
    SuiteRun,
)
from kar_checks.inference_suite import DEFECT, SuiteTest
from kar_checks.model import Evidence, Fault, Finding, Reason

MOMENT = datetime(2026, 11, 23, tzinfo=UTC)
PASS, SKIP = SuiteTest("InferencePoolAccepted", "pass"), SuiteTest("SomeMeshTest", "skip")
FAIL = SuiteTest("HTTPRouteInvalidInferencePoolRef", "fail", "got 503")
KNOWN = SuiteTest("GatewayFollowingEPPRouting", "inconclusive", DEFECT, defect=True)
OPEN = SuiteTest("EppUnAvailableFailOpen", "inconclusive", "no end is told")


def done(*tests: SuiteTest, code: int | None = 0, said: str = "PASS") -> SuiteRun:
    return SuiteRun(
        suite="suite v1.6.0", tests=list(tests), seconds=90, exit_code=code, last_words=said
    )


def seen(
    *classes: tuple[str, ClassObservation | Fault], served: bool = True, **more: str
) -> OfficialObservation:
    told = {"command": "suite", "timeouts": "", "wanted": "", **more}
    return OfficialObservation(
        trial="official",
        evidence=Evidence.SYNTHETIC,
        started=MOMENT,
        finished=MOMENT,
        served=served,
        classes=dict(classes),
        **told,
    )


def of(run: SuiteRun | None, accepted: bool = True) -> tuple[str, ClassObservation]:
    return "envoy", ClassObservation(controller="example.org/c", accepted=accepted, done=run)


def rule(observed: OfficialObservation) -> list[Finding]:
    again = OfficialObservation.model_validate_json(observed.model_dump_json())
    return judge(TOPIC.checks[0].id, again, profile.default())


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        (done(PASS, PASS), "pass", "suite_passed"),
        (done(PASS, FAIL, KNOWN, OPEN, SKIP, code=1), "fail", "tests_failed"),
        (done(PASS, FAIL, code=None), "fail", "tests_failed"),
        (done(PASS, KNOWN, OPEN, SKIP, code=None), "inconclusive", "unfinished"),
        (done(PASS, KNOWN, SKIP, code=1), "inconclusive", "upstream_defect"),
        (done(PASS, SKIP), "inconclusive", "tests_skipped"),
        (done(PASS, PASS, code=1), "inconclusive", "ended_badly"),
        (done(PASS, code=None), "inconclusive", "ended_badly"),
        (done(code=1), "inconclusive", "suite_did_not_start"),
        (done(code=1, said=""), "inconclusive", "suite_did_not_start"),
    ],
)
def test_what_a_run_of_the_suite_comes_to(run: SuiteRun, outcome: str, reason: str) -> None:
    (found,) = rule(seen(of(run)))
    assert (found.outcome.value, found.reason, found.variant) == (outcome, reason, "envoy")
    told = {fact.name: fact.value for fact in found.facts}
    assert told["suite"] == "suite v1.6.0"
    assert all(told[one.name].startswith(one.outcome) for one in run.tests)


def test_a_failure_names_the_tests_and_the_times_that_the_user_changed() -> None:
    (found,) = rule(seen(of(done(PASS, FAIL)), timeouts="MaxTimeToConsistency:30"))
    assert "1 of 2 tests passed; HTTPRouteInvalidInferencePoolRef failed (got 503)" in found.summary
    assert "the user changed its times: MaxTimeToConsistency:30" in found.summary


def test_the_known_defect_is_named_and_a_suite_that_did_not_start_says_why() -> None:
    (known,) = rule(seen(of(done(PASS, KNOWN, code=1))))
    assert DEFECT in known.summary
    (lost,) = rule(seen(of(done(code=1, said="no such class"))))
    assert lost.summary.endswith("with exit code 1; its last words: no such class")


@pytest.mark.parametrize(
    ("observed", "outcome", "reason", "variant"),
    [
        (seen(of(None, accepted=False)), "inconclusive", "class_not_accepted", "envoy"),
        (seen(served=False), "inconclusive", "no_inference_pool_api", ""),
        (seen(), "inconclusive", "no_gateway_class", ""),
        (seen(wanted="other"), "inconclusive", "no_gateway_class", "other"),
        (
            seen(("envoy", Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image"))),
            "error",
            "image_unavailable",
            "envoy",
        ),
    ],
)
def test_where_the_suite_could_not_run(
    observed: OfficialObservation, outcome: str, reason: str, variant: str
) -> None:
    (found,) = rule(observed)
    assert (found.outcome.value, found.reason, found.variant) == (outcome, reason, variant)


def test_a_policy_in_the_suites_namespaces_decides_nothing() -> None:
    policies = ["NetworkPolicy deny-in"]
    (found,) = rule(seen(of(done(PASS, FAIL, code=1).model_copy(update={"policies": policies}))))
    assert (found.outcome.value, found.reason) == ("inconclusive", "network_policy")
    assert "NetworkPolicy deny-in" in found.summary
    (found,) = rule(seen(of(done(PASS).model_copy(update={"policies": policies}))))
    assert found.outcome.value == "pass"
