from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from kar_checks import added, programme, statement
from kar_checks.added import Attested
from kar_checks.commands import add
from kar_checks.report import html
from kar_checks.report.view import Scorecard
from kar_checks.store import StoredRun, StoreError, now
from tests.unit.report import samples

METRICS = "accelerator_metrics"
JUNIT = """<testsuites><testsuite>
<testcase name="TestGangScheduling"/><testcase name="TestGangScheduling/Negative"{bad}
<testcase name="TestSecureAcceleratorAccess"><skipped/></testcase>
<testcase name="TestParseFlags"/></testsuite></testsuites>"""
PASSED = JUNIT.format(bad="/>")
FAILED = JUNIT.format(bad="><failure/></testcase>")


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return samples.passed().write(tmp_path / "runs")


def said(**changes: object) -> Attested:
    given = {"requirement": METRICS, "who": "Ada Example", "on": "2026-11-01", "text": "seen"}
    return Attested.model_validate({**given, **changes})


def row_of(run: StoredRun, requirement: str) -> str:
    """The requirement's part of the page."""
    page = html.render(StoredRun(run.folder))
    start = page.index(f'id="requirement-{requirement}"')
    return page[start : page.index("</details></li>", start)]


def test_a_persons_evidence_is_shown_as_such_and_changes_no_outcome(
    run: StoredRun, tmp_path: Path
) -> None:
    before = run.requirements
    shot = tmp_path / "a shot.txt"
    shot.write_text("DCGM_FI_DEV_GPU_UTIL 12")
    added.attest(run, said(link="https://acme.example/metrics"), shot)
    added.attest(run, said(text="<script>alert(1)</script>"), None)
    stored = StoredRun(run.folder)
    assert stored.requirements == before
    first, second = added.attested(run.folder)
    assert (run.folder / first.file).read_text() == "DCGM_FI_DEV_GPU_UTIL 12"
    assert second.file == ""
    shown = row_of(run, METRICS)
    assert "Attested by a person, not measured" in shown
    assert "Ada Example on 2026-11-01" in shown and "https://acme.example/metrics" in shown
    assert first.file in shown
    assert "<script" not in shown


def test_what_was_attested_needs_no_person_any_more(run: StoredRun) -> None:
    def waiting() -> list[str]:
        return [
            name
            for step in Scorecard(StoredRun(run.folder)).steps
            if step.outcome == "unknown"
            for _, name in step.rows
        ]

    title = next(one.title for one in programme.requirements("1.37") if one.id == METRICS)
    assert title in waiting()
    added.attest(run, said(), None)
    assert title not in waiting()


def test_what_is_added_is_signed_with_the_run(run: StoredRun) -> None:
    before = statement.digests(run.folder)
    added.attest(run, said(), None)
    assert set(statement.digests(run.folder)) - set(before) == {"evidence/attested/added.json"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"requirement": "no_such"}, "is not a requirement of checklist 1.37"),
        ({"who": " "}, "--who"),
        ({"text": ""}, "give what was seen"),
        ({"link": "javascript:alert(1)"}, "is not an http address"),
        ({"on": date.fromisoformat("2999-01-01")}, "is in the future"),
    ],
)
def test_incomplete_evidence_is_refused(
    run: StoredRun, changes: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        added.attest(run, said(**changes), None)
    assert added.attested(run.folder) == []


def test_a_file_that_is_missing_or_a_changed_list_is_a_sentence(
    run: StoredRun, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="cannot be added"):
        added.attest(run, said(), tmp_path / "none")
    added.attest(run, said(on=now().date() - timedelta(days=1)), None)
    (run.folder / "evidence/attested/added.json").write_text('[{"who": 1}]')
    with pytest.raises(StoreError, match="was changed"):
        added.attested(run.folder)


def test_the_name_of_a_file_cannot_leave_the_folder(run: StoredRun, tmp_path: Path) -> None:
    odd = tmp_path / "..%2f..\\x .sh"
    odd.write_text("x")
    kept = added.attest(run, said(), odd)
    assert (run.folder / kept.file).parent == run.folder / "evidence/attested"


# -- the official suite ----------------------------------------------------------------------------


def test_official_results_stand_beside_ours_without_the_harness_tests(
    run: StoredRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(PASSED)
    before = run.requirements
    add.add_official(str(run.folder), tmp_path, [file])
    assert "2 tests touch a cluster; 1 others test the suite itself" in capsys.readouterr().out
    assert [(one.requirement, one.outcome) for one in added.official(run.folder)] == [
        ("secure_accelerator_access", "skip"),
        ("gang_scheduling", "pass"),
    ]
    assert StoredRun(run.folder).requirements == before
    assert "<code>TestGangScheduling</code>: <strong>passed</strong>" in row_of(
        run, "gang_scheduling"
    )
    assert "skipped, which is no evidence" in row_of(run, "secure_accelerator_access")
    assert "disagree" not in row_of(run, "gang_scheduling")


def test_a_disagreement_is_named_and_the_same_file_replaces_itself(
    run: StoredRun, tmp_path: Path
) -> None:
    file = tmp_path / "junit.xml"
    for text in (PASSED, FAILED):
        file.write_text(text)
        add.add_official(str(run.folder), tmp_path, [file])
    gang = [one for one in added.official(run.folder) if one.requirement == "gang_scheduling"]
    assert [one.outcome for one in gang] == ["fail"]  # of a subtest, though its parent passed
    assert "The official suite and this run disagree" in row_of(run, "gang_scheduling")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "results.json",
            "\n".join(
                json.dumps({"Action": action, "Test": "TestGangScheduling"})
                for action in ("run", "pass")
            ),
        ),
        ("e2e.log", "=== RUN   TestGangScheduling\n--- PASS: TestGangScheduling (42.70s)\n"),
    ],
)
def test_all_three_outputs_are_read(run: StoredRun, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    add.add_official(str(run.folder), tmp_path, [tmp_path / name])
    (found,) = added.official(run.folder)
    assert (found.outcome, found.source) == ("pass", f"evidence/official/{name}")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("kar-junit.xml", PASSED, "is neither named junit.xml or"),
        ("junit.xml", "<testsuites/>", "no test result of the official suite"),
        ("junit.xml", "<!DOCTYPE x><testsuites/>", "document type"),
        ("results.json", "not json", "line 1 is not a Go test event"),
    ],
)
def test_what_is_not_of_the_official_suite_is_refused(
    run: StoredRun, tmp_path: Path, name: str, text: str, why: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=why):
        add.add_official(str(run.folder), tmp_path, [tmp_path / name])
    assert added.official(run.folder) == []


def test_a_date_that_is_none_is_refused(run: StoredRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        add.add_attested(
            str(run.folder), tmp_path, METRICS, who="A", on="soon", text="x", link="", file=None
        )
