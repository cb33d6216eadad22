from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kar_checks import added, inference_suite, programme
from kar_checks.added import Official
from kar_checks.commands import add
from kar_checks.inference_suite import DEFECT, REQUIREMENT
from kar_checks.model import RequirementResult
from kar_checks.report import html
from kar_checks.report.view import RequirementView
from kar_checks.store import StoredRun
from tests.unit.report import samples

HEAD = "suite sigs.k8s.io/gateway-api-inference-extension/conformance v1.6.0\n"
ANSWER = """\
    http.go:269: 2026-11-22T18:00:01Z: Response expectation failed for request: {{URL: {{}}, \
Method: POST}}  not ready yet: expected status code to be one of [200], got {status}. \
CRes: &{{{status} 0 HTTP/1.1 map[Date:[Sun (today)]] }} (after 1.5s)
"""
NO_ANSWER = (
    '    http.go:264: Request failed, not ready yet: Get "http://10.0.0.1/": EOF (after 3s)\n'
)


def printed(*tests: tuple[str, str, str], head: str = HEAD) -> str:
    """What the suite prints for tests of (name, word at its end or none, what it said)."""
    begun = "".join(
        f"=== RUN   TestConformance/{name}\n=== RUN   TestConformance/{name}/Phase_1:_a\n{said}"
        f"=== NAME  TestConformance/{name}\n    helpers.go:9: cleaning up\n"
        for name, _, said in tests
    )
    ended = "".join(
        f"    --- {word}: TestConformance/{name} (1.25s)\n"
        f"        --- {word}: TestConformance/{name}/Phase_1:_a (1.00s)\n"
        for name, word, _ in tests
        if word
    )
    return (
        f"{head}=== RUN   TestConformance\n    conformance.go:137: Running {begun}"
        f"--- FAIL: TestConformance (10.00s)\n{ended}FAIL\n"
    )


def outcomes(text: str, name: str = "suite.log") -> list[tuple[str, str]]:
    return [(one.name, one.outcome) for one in inference_suite.read(name, text).tests]


BODY = "GatewayFollowingEPPRouting"
PASSED = ("InferencePoolAccepted", "PASS", "")
TIMEOUT = "    http.go:306: timeout while waiting after 29 attempts, 0/3 successes\n"
FIVE_HUNDRED = ANSWER.format(status=500) * 3 + TIMEOUT
DEFECTIVE = (BODY, "FAIL", ANSWER.format(status=404) + FIVE_HUNDRED)


def test_each_test_is_told_with_the_version_of_the_suite() -> None:
    text = printed(
        PASSED, ("SomeMeshTest", "SKIP", ""), ("Late", "", "    helpers.go:9: waiting\n")
    )
    found = inference_suite.read("suite.log", text)
    assert found.suite == f"{inference_suite.NAME} v1.6.0"
    assert outcomes(text) == [
        ("InferencePoolAccepted", "pass"),
        ("SomeMeshTest", "skip"),
        ("Late", "inconclusive"),
    ]


def test_the_known_defect_of_the_suites_own_picker_is_named_and_decides_nothing() -> None:
    failed = inference_suite.read("suite.log", printed(PASSED, DEFECTIVE)).tests[1]
    assert (failed.outcome, failed.defect) == ("inconclusive", True)
    assert DEFECT in failed.note


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(printed(PASSED, (BODY, "FAIL", ANSWER.format(status=503))), id="other status"),
        pytest.param(
            printed(PASSED, (BODY, "FAIL", FIVE_HUNDRED + ANSWER.format(status=200))),
            id="not only 500",
        ),
        pytest.param(printed(PASSED, (BODY, "FAIL", FIVE_HUNDRED + NO_ANSWER)), id="no answer"),
        pytest.param(printed(PASSED, (BODY, "FAIL", "")), id="no request at all"),
        pytest.param(printed(PASSED, ("Other", "FAIL", FIVE_HUNDRED)), id="not through a picker"),
        pytest.param(
            printed(PASSED, (BODY, "FAIL", ANSWER.format(status=404) + TIMEOUT)), id="no route"
        ),
        pytest.param(
            printed(PASSED, DEFECTIVE, head=HEAD.replace("v1.6.0", "v1.6.1")), id="repaired version"
        ),
        pytest.param(printed(PASSED, DEFECTIVE, head=""), id="unknown version"),
    ],
)
def test_no_other_failure_is_excused(text: str) -> None:
    assert "fail" in dict(outcomes(text)).values()
    assert "inconclusive" not in dict(outcomes(text)).values()


def test_a_failure_tells_the_last_unexpected_answer() -> None:
    said = ANSWER.format(status=404) + ANSWER.format(status=503)
    (found,) = inference_suite.read("suite.log", printed(("Other", "FAIL", said))).tests
    assert found.note == "expected status code to be one of [200], got 503"


ASSERTED = """\
    a_test.go:55:
        \tError Trace:\tsigs.k8s.io/gateway-api/helpers.go:1119
        \tError:      \tReceived unexpected error:
        \t            \tcontext deadline exceeded
        \tMessages:   \terror waiting for HTTPRoute status
"""


def test_a_failure_without_an_answer_tells_what_was_asserted() -> None:
    (found,) = inference_suite.read("suite.log", printed(("Other", "FAIL", ASSERTED))).tests
    assert found.note == "error waiting for HTTPRoute status"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f"{HEAD}=== RUN   TestConformance\n{ASSERTED}--- FAIL: TestConformance (3.00s)\nFAIL\n",
            "error waiting for HTTPRoute status",
        ),
        (f"{HEAD}panic: no such flag\n\n", "panic: no such flag"),
        ("", ""),
    ],
)
def test_a_suite_that_comes_to_no_test_says_why(text: str, words: str) -> None:
    assert inference_suite.printed(text).tests == []
    assert inference_suite.last_words(text) == words


REPORT = """\
GatewayAPIInferenceExtensionVersion: v1.5.0
date: "2026-05-07T13:13:13Z"
implementation: {organization: example, project: gateway, version: v2.6.0}
kind: ConformanceReport
profiles:
- core:
    result: failure
    skippedTests: [InferencePoolAppProtocol]
    failedTests: [GatewayFollowingEPPRouting]
    statistics: {Failed: 1, Passed: 11, Skipped: 1}
  name: Gateway
"""


def test_a_report_names_what_failed_and_counts_the_others() -> None:
    found = inference_suite.read("report.yaml", REPORT)
    assert found.suite.endswith("v1.5.0, about example gateway v2.6.0, on 2026-05-07T13:13:13Z")
    assert outcomes(REPORT, "report.yaml") == [
        ("GatewayFollowingEPPRouting", "fail"),
        ("InferencePoolAppProtocol", "skip"),
        ("11 tests that the report does not name", "pass"),
    ]


def test_a_report_of_the_version_with_the_defect_does_not_blame_the_gateway() -> None:
    found = inference_suite.read("report.yaml", REPORT.replace("v1.5.0", "v1.6.0")).tests[0]
    assert (found.outcome, DEFECT in found.note) == ("inconclusive", True)
    worse = REPORT.replace("v1.5.0", "v1.6.0").replace(BODY, PASSED[0])
    assert outcomes(worse, "report.yaml")[0] == (PASSED[0], "fail")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("suite.log", ""),
        ("suite.log", "=== RUN   TestOther\n--- PASS: TestOther (1.00s)\n"),
        ("report.yaml", "["),
        ("report.yaml", "- a"),
        ("report.yaml", "kind: ConformanceReport"),
        ("report.yaml", REPORT.replace("GatewayAPIInferenceExtensionVersion", "gatewayAPIVersion")),
        ("report.yaml", REPORT.replace("profiles", "profile")),
        ("report.yaml", REPORT.replace("Passed: 11", "Passed: many")),
        ("report.yaml", REPORT.replace("ConformanceReport", "Pod")),
    ],
)
def test_what_is_no_output_of_the_suite_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"it is n|it has no|it does not|its profiles"):
        inference_suite.read(name, text)


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return samples.passed().write(tmp_path / "runs")


def row_of(run: StoredRun) -> str:
    page = html.render(StoredRun(run.folder))
    start = page.index(f'id="requirement-{REQUIREMENT}"')
    return page[start : page.index("</details></li>", start)]


def test_the_suites_tests_stand_on_the_requirements_row_and_change_no_outcome(
    run: StoredRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.requirements
    for text in (printed(PASSED), printed(PASSED, DEFECTIVE)):  # the same file replaces itself
        (tmp_path / "suite.log").write_text(text)
        add.add_official(str(run.folder), tmp_path, [tmp_path / "suite.log"])
    assert f"{BODY}: inconclusive. Requests" in capsys.readouterr().out
    assert [one.test for one in added.official(run.folder)] == [PASSED[0], BODY]
    assert StoredRun(run.folder).requirements == before
    shown = row_of(run)
    assert f"{inference_suite.NAME} v1.6.0" in shown
    assert "<strong>inconclusive</strong>" in shown and DEFECT in shown
    assert "disagree" not in shown


def test_a_checklist_without_the_requirement_has_no_place_for_it(tmp_path: Path) -> None:
    sample = samples.passed()
    older = replace(sample, info=sample.info.model_copy(update={"kubernetes_minor": "1.35"}))
    run = older.write(tmp_path / "runs")
    (tmp_path / "suite.log").write_text(printed(PASSED))
    with pytest.raises(ValueError, match=r"checklist 1.35 has no advanced_inference_ingress"):
        add.add_official(str(run.folder), tmp_path, [tmp_path / "suite.log"])
    assert added.official(run.folder) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "disagrees"),
    [
        ("pass", ["pass", "fail"], True),
        ("pass", ["pass", "inconclusive"], False),
        ("pass", ["pass", "pass"], False),
        ("fail", ["pass", "pass"], True),
        ("fail", ["pass", "inconclusive"], False),
        ("fail", ["pass", "fail"], False),
        ("inconclusive", ["fail"], False),
    ],
)
def test_when_the_suite_and_a_run_disagree(ours: str, theirs: list[str], disagrees: bool) -> None:
    (line,) = [one for one in programme.requirements("1.37") if one.id == REQUIREMENT]
    result = RequirementResult.model_validate(
        {"id": REQUIREMENT, "level": "SHOULD", "outcome": ours, "reason": ""}
    )
    common = {"requirement": REQUIREMENT, "source": "suite.log", "added": ""}
    tests = [
        Official.model_validate({**common, "test": str(at), "outcome": one, "suite": "a suite"})
        for at, one in enumerate(theirs)
    ]
    assert RequirementView(line, result, [], suites=[tests]).disagrees is disagrees
