"""A run that version 0.1.0 stored: whatever rules come later, it is read, judged and rendered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kar_checks import programme
from kar_checks.checks.registry import topics
from kar_checks.cli import app
from kar_checks.model import Outcome
from kar_checks.store import StoredRun
from tests.unit.submission import templates
from tests.unit.submission.templates import described_by_us as described_by_us

RECORDED = Path(__file__).parent / "recorded" / "run-0.1.0"
ID = "20261125-153308-e251"
Verdicts = dict[tuple[str, str], tuple[Outcome, str]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with the recorded run under its id."""
    shutil.copytree(RECORDED, tmp_path / "runs" / ID)
    return tmp_path / "runs"


@pytest.fixture
def kar(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(runs.parent)

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(words))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def verdicts(folder: Path) -> Verdicts:
    return {
        (one.check, one.variant): (one.outcome, one.reason) for one in StoredRun(folder).findings
    }


def test_it_is_the_whole_suite_of_its_time() -> None:
    run = StoredRun(RECORDED)
    assert not run.damaged
    assert run.info.suite_version == "0.1.0"
    measured = {path.stem for path in (RECORDED / "observations").iterdir()}
    assert measured == {one.id for one in topics() if not one.asked_by}
    size = sum(path.stat().st_size for path in RECORDED.rglob("*") if path.is_file())
    assert size < 2_000_000


def test_rendering_it_changes_no_verdict(runs: Path, kar: Callable[..., tuple[int, str]]) -> None:
    assert kar("report", ID)[0] == 0
    page = (runs / ID / "scorecard.html").read_text("utf-8")
    assert "gang.all_or_nothing" in page
    assert verdicts(runs / ID) == verdicts(RECORDED)


def test_judged_again_nothing_passes_by_a_rule_that_it_could_not_know(
    runs: Path, kar: Callable[..., tuple[int, str]]
) -> None:
    code, _ = kar("judge", ID)
    assert code in (0, 11)
    before, after = verdicts(RECORDED), verdicts(runs / f"{ID}-judged-record")
    assert before.keys() <= after.keys()
    differing = {key: after[key] for key in before if after[key][0] is not before[key][0]}
    assert all(one == (Outcome.INCONCLUSIVE, "not_recorded") for one in differing.values()), (
        differing
    )


def test_it_can_be_compared(runs: Path, kar: Callable[..., tuple[int, str]]) -> None:
    other = "20261126-153308-e252"
    shutil.copytree(runs / ID, runs / other)
    head = runs / other / "run.json"
    head.write_text(head.read_text("utf-8").replace(ID, other), "utf-8")
    code, told = kar("compare", ID, other, "--into", "out")
    assert code == 0, told
    found = json.loads(Path("out/compare.json").read_text("utf-8"))
    assert not any(one["differs"] for one in found["groups"])
    assert len(found["figures"]) > 10


def test_a_submission_from_it_says_why_nothing_is_filled(
    kar: Callable[..., tuple[int, str]], described_by_us: None
) -> None:
    Path("checklist.yaml").write_text(templates.template("1.37"), "utf-8")
    given = (ID, "--checklist", "checklist.yaml", "--target", "out")
    code, told = kar("submission", "new", *given)
    assert code == 0, told
    assert "embedded local cluster" in " ".join(told.split())
    text = Path("out/PRODUCT.yaml").read_text("utf-8")
    for one in programme.requirements("1.37"):
        assert one.id in text
    assert "Implemented" not in text
