"""Stored runs that lost something, were copied or edited: no command takes their word for it."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kar_checks import profile, statement
from kar_checks.cli import app
from kar_checks.commands import again, series
from kar_checks.exits import Exit, of_run
from kar_checks.history import comparison, nightly
from kar_checks.history.runs import load, load_all, setting_changes
from kar_checks.model import Outcome
from kar_checks.store import StoredRun, now
from tests.unit.history.series import night
from tests.unit.report import samples
from tests.unit.submission import recorded
from tests.unit.test_statement import keys

GANG = "gang.starts_together"


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges that say again what the passed sample holds."""
    monkeypatch.setattr(again, "topics", recorded.topics)
    recorded.FINDINGS[:] = samples.passed().findings


def kar(*words: str) -> tuple[int, str]:
    # Wide enough for any path: a name that is cut in the middle cannot be looked for.
    done = CliRunner(env={"COLUMNS": "400"}).invoke(app, list(words))
    return done.exit_code, done.output


def lose(folder: Path, how: str) -> None:
    path = folder / "observations" / "gang.json"
    match how:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_text(path.read_text("utf-8")[:-200], "utf-8")
        case "a list":
            path.write_text("[]", "utf-8")
        case "deep":
            path.write_text("[" * 100_000, "utf-8")


LOSSES = ("missing", "truncated", "a list", "deep")


@pytest.mark.parametrize("how", LOSSES)
def test_checks_without_their_observation_are_errors(how: str, tmp_path: Path) -> None:
    folder = samples.passed().write(tmp_path).folder
    lose(folder, how)
    run = StoredRun(folder)
    mine = [one for one in run.findings if one.check.startswith("gang.")]
    assert {(one.outcome, one.reason) for one in mine} == {(Outcome.ERROR, "record_damaged")}
    assert {one.check for one in mine} == {f"gang.{name}" for name in samples.GANG}
    assert all("observations/gang.json" in one.summary for one in mine)
    others = {one.outcome for one in run.findings if one not in mine}
    assert others == {Outcome.PASS}
    assert run.info.exit_code == Exit.HARNESS


@pytest.mark.parametrize("how", LOSSES)
def test_a_damaged_run_never_meets_its_objective(how: str, tmp_path: Path, judged: None) -> None:
    folder = samples.passed().write(tmp_path).folder
    lose(folder, how)
    for command in ("judge", "report"):
        code, told = kar(command, folder.name, "--output", str(tmp_path))
        assert code == Exit.HARNESS
        assert "observations/gang.json" in told
        assert "success: no selected check" not in told


def test_a_run_without_any_observation_is_all_errors(tmp_path: Path, judged: None) -> None:
    folder = samples.passed().write(tmp_path).folder
    for one in (folder / "observations").iterdir():
        one.unlink()
    code, told = kar("judge", folder.name, "--output", str(tmp_path))
    assert code == Exit.HARNESS and "success: no selected check" not in told
    copy = StoredRun(tmp_path / f"{folder.name}-judged-record")
    assert {one.outcome for one in copy.findings} == {Outcome.ERROR}


def test_a_pass_that_names_no_trial_rests_on_nothing(tmp_path: Path) -> None:
    sample = samples.passed()
    sample.findings = [one.model_copy(update={"trial": ""}) for one in sample.findings]
    folder = sample.write(tmp_path).folder
    lose(folder, "missing")
    outcomes = {one.outcome for one in StoredRun(folder).findings if one.check == GANG}
    assert outcomes == {Outcome.ERROR}


def test_an_observation_of_another_topic_gives_errors(tmp_path: Path) -> None:
    folder = samples.passed().write(tmp_path).folder
    path = folder / "observations" / "gang.json"
    path.write_text(path.read_text("utf-8").replace('"trial"', '"unheard_of": 1, "trial"'), "utf-8")
    findings, damaged = again.judged(StoredRun(folder), profile.default())
    assert damaged
    mine = {one.outcome for one in findings if one.check == "gang.all_or_nothing"}
    assert mine == {Outcome.ERROR}


def test_comparison_history_and_submission_report_a_damaged_run(
    tmp_path: Path, judged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    first = samples.passed()
    second = samples.passed()
    second.info = second.info.model_copy(
        update={"id": "20261123-101504-9f3b", "started": samples.START + timedelta(days=1)}
    )
    folders = [one.write(tmp_path).folder for one in (first, second)]
    lose(folders[1], "truncated")
    series.compare_runs(
        [one.name for one in folders],
        tmp_path,
        tmp_path / "out",
        allow_different=True,
        most_days_apart=7,
    )
    assert "is damaged" in capsys.readouterr().out
    pasts, troubles = load_all(tmp_path)
    found = nightly.assess(pasts, now(), troubles)
    assert any(one.startswith("damaged") for one in found.troubles)
    assert any(one.startswith(GANG) for one in found.unmeasured)
    assert series.exit_code(found) != Exit.OK


def test_what_was_selected_and_not_judged_is_no_objective_met() -> None:
    sample = samples.passed()
    assert of_run(sample.info, sample.findings) == Exit.OK
    assert of_run(sample.info, sample.findings[:-1]) == Exit.UNDECIDED
    assert of_run(sample.info, sample.findings, damaged=True) == Exit.HARNESS
    assert of_run(sample.info, sample.findings, trouble=KeyboardInterrupt()) == Exit.INTERRUPTED
    assert of_run(sample.info, sample.findings, trouble=OSError()) == Exit.INTERNAL
    assert of_run(sample.info, [], pytest_exit=Exit.USAGE) == Exit.USAGE


def test_a_killed_run_judged_again_is_still_one_that_did_not_end(
    tmp_path: Path, judged: None
) -> None:
    sample = samples.passed()
    sample.info = sample.info.model_copy(update={"finished": None, "exit_code": None})
    folder = sample.write(tmp_path).folder
    assert kar("judge", folder.name, "--output", str(tmp_path))[0] == Exit.INTERRUPTED


# -- copies that `kar judge` makes -----------------------------------------------------------------

PROFILE = """
name: buyer
settings:
  gang.window_seconds: {value: 120, origin: a test, date: 2026-11-25}
  throughput.tcp_floor_mbit: {value: 5000, origin: a test, date: 2026-11-25}
"""


def _judge_with_another_profile(parent: Path, folder: Path) -> tuple[Path, str]:
    other = parent.parent / "buyer.yaml"
    other.write_text(PROFILE, "utf-8")
    _, told = kar("judge", folder.name, "--output", str(parent), "--profile", str(other))
    return parent / f"{folder.name}-judged-buyer", told


def test_a_judged_copy_is_no_night_of_its_own(tmp_path: Path, judged: None) -> None:
    runs = tmp_path / "runs"
    folder = samples.passed().write(runs).folder
    _judge_with_another_profile(runs, folder)
    pasts, _ = load_all(runs)
    assert [one.run.folder for one in pasts] == [folder]


def test_a_copy_of_an_earlier_version_is_known_by_its_run_id(tmp_path: Path, judged: None) -> None:
    runs = tmp_path / "runs"
    folder = samples.passed().write(runs).folder
    copy, _ = _judge_with_another_profile(runs, folder)
    raw = json.loads((copy / "run.json").read_text("utf-8"))
    del raw["judged_with"]
    (copy / "run.json").write_text(json.dumps(raw), "utf-8")
    pasts, _ = load_all(runs)
    assert [one.run.folder for one in pasts] == [folder]


def test_a_judged_copy_keeps_the_settings_it_was_measured_with(
    tmp_path: Path, judged: None
) -> None:
    runs = tmp_path / "runs"
    sample = samples.passed()
    measured = profile.load(None, ["gang.window_seconds=7"])
    sample.info = sample.info.model_copy(update={"profile": measured.model_dump(mode="json")})
    folder = sample.write(runs).folder
    copy, told = _judge_with_another_profile(runs, folder)
    info = StoredRun(copy).info
    assert info.profile == StoredRun(folder).info.profile
    assert info.judged_with is not None
    used = profile.stored(info.judged_with)
    assert used.number("gang.window_seconds") == 7
    assert used.number("throughput.tcp_floor_mbit") == 5000
    assert "gang.window_seconds 7.0 (the profile has 120" in " ".join(told.split())
    page = (copy / "scorecard.html").read_text("utf-8")
    assert "buyer (measured with record)" in page


def test_runs_measured_differently_stay_unlike_after_judging(tmp_path: Path, judged: None) -> None:
    runs = tmp_path / "runs"
    made: list[Path] = []
    for number, seconds in enumerate((1, 30)):
        sample = samples.passed()
        settings = profile.load(None, [f"gang.window_seconds={seconds}"])
        sample.info = sample.info.model_copy(
            update={
                "id": f"2026112{number}-101504-0000",
                "profile": settings.model_dump(mode="json"),
            }
        )
        folder = sample.write(runs).folder
        made.append(_judge_with_another_profile(runs, folder)[0])
    first, second = map(load, made)
    assert any("gang.window_seconds" in one for one in setting_changes(first, second))
    with pytest.raises(comparison.UnlikeError, match=r"gang\.window_seconds"):
        comparison.compare([first, second], allow_different=False, most_days_apart=99)


def test_thresholds_exist_and_decide_no_measurement() -> None:
    known = set(profile.default().settings)
    assert profile.thresholds() <= known
    trials = Path(series.__file__).parents[1].joinpath("checks").rglob("*.py")
    text = "\n".join(one.read_text("utf-8") for one in trials)
    for key in profile.thresholds():
        assert f'trial.number("{key}")' not in text
        assert f'trial.text("{key}")' not in text


# -- first verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suite", "told"),
    [("0.1.0", "its first verdict"), ("9.9.9", "first seen with suite 9.9.9")],
)
def test_a_first_verdict_that_fails_is_new(suite: str, told: str, tmp_path: Path) -> None:
    before, after = night(0), night(1)
    check = before.findings[0].check
    before.findings = before.findings[1:]
    before.info = before.info.model_copy(
        update={
            "suite_version": "0.1.0",
            "selection": [one for one in before.info.selection if one != check],
            "checks": [one for one in before.info.checks if one.id != check],
        }
    )
    after.info = after.info.model_copy(update={"suite_version": suite})
    after.judged(check, Outcome.FAIL)
    found = nightly.assess([before.write(tmp_path), after.write(tmp_path)], now())
    (change,) = [one for one in found.changed if one.what == "check"]
    assert change.direction == "new"
    assert change.told.startswith(told)
    assert series.exit_code(found) == Exit.FAILED


def test_a_first_verdict_that_passes_is_no_alarm(tmp_path: Path) -> None:
    before, after = night(0), night(1)
    before.findings = before.findings[1:]
    found = nightly.assess([before.write(tmp_path), after.write(tmp_path)], now())
    assert not found.worse


# -- signatures and forged verdicts ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["scorecard.html", "kar-junit.xml", "observations/gang.json"])
def test_an_edited_file_of_a_signed_run_is_named(name: str, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    run = samples.passed().write(tmp_path / "runs")
    again.render_again(run.folder.name, tmp_path / "runs")
    statement.sign(run, private)
    assert name in statement.verify(run.folder, public).covered
    path = run.folder / name
    path.write_text(path.read_text("utf-8") + " ", "utf-8")
    assert any(one.startswith(name) for one in statement.verify(run.folder, public).changed)


def test_an_added_file_and_a_link_break_a_signature(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    run = samples.passed().write(tmp_path / "runs")
    statement.sign(run, private)
    (run.folder / "notes.txt").write_text("x", "utf-8")
    (run.folder / "evidence" / "link").symlink_to("/etc/hostname")
    changed = statement.verify(run.folder, public).changed
    assert changed == ["evidence/link was added", "notes.txt was added"]


def test_a_page_rendered_after_signing_is_listed_as_not_covered(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    run = samples.passed().write(tmp_path / "runs")
    statement.sign(run, private)
    again.render_again(run.folder.name, tmp_path / "runs")
    code, told = kar(
        *("verify", run.folder.name, "--output", str(tmp_path / "runs"), "--key", str(public))
    )
    assert code == 0
    assert "scorecard.html is not covered" in told


def test_a_damaged_run_is_not_signed(tmp_path: Path) -> None:
    private, _ = keys(tmp_path)
    folder = samples.passed().write(tmp_path / "runs").folder
    lose(folder, "missing")
    with pytest.raises(statement.StatementError, match="damaged"):
        statement.sign(StoredRun(folder), private)


def _forged_pair(tmp_path: Path) -> list[str]:
    """The second run failed by its observation; its findings were edited to passes."""
    ids: list[str] = []
    for number in range(2):
        sample = samples.passed()
        sample.info = sample.info.model_copy(update={"id": f"20261120-101504-000{number}"})
        ids.append(sample.write(tmp_path / "runs").info.id)
    return ids


def test_forged_verdicts_do_not_count_in_a_comparison(
    tmp_path: Path, judged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = _forged_pair(tmp_path)
    recorded.FINDINGS[:] = [
        one.model_copy(update={"outcome": Outcome.FAIL}) if one.check == GANG else one
        for one in recorded.FINDINGS
    ]
    private, public = keys(tmp_path)
    statement.sign(StoredRun(tmp_path / "runs" / ids[0]), private)
    series.compare_runs(
        ids,
        tmp_path / "runs",
        tmp_path / "out",
        allow_different=False,
        most_days_apart=7,
        keys=[public],
    )
    told = " ".join(capsys.readouterr().out.split())
    assert f"{GANG}[native] pass → fail" in told
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "compare.csv").read_text())))
    (row,) = [one for one in rows if one["id"] == f"{GANG}[native]"]
    assert [value for name, value in row.items() if name.endswith("result")] == ["fail", "fail"]
    page = (tmp_path / "out" / "compare.html").read_text("utf-8")
    assert "signed by key" in page and "not signed" in page


# -- what nobody has shown -------------------------------------------------------------------------


def test_figures_with_too_few_repeats_are_not_alike(tmp_path: Path) -> None:
    first, second = night(0), night(1)
    for one, samples_ in ((first, [12.7, 12.68, 12.6]), (second, [8.9, 8.875, 8.8])):
        one.measures = {
            topic: [figure.model_copy(update={"samples": samples_}) for figure in found[:1]]
            for topic, found in one.measures.items()
        }
    found = comparison.compare(
        [first.write(tmp_path), second.write(tmp_path)], allow_different=True, most_days_apart=99
    )
    assert found.figures_undecidable and not found.figures_alike and not found.figures_differing


def test_requirements_that_no_run_decided_are_not_alike(tmp_path: Path) -> None:
    pasts = []
    for number in range(2):
        made = night(number)
        made.findings = []
        made.info = made.info.model_copy(update={"selection": []})
        pasts.append(made.write(tmp_path))
    found = comparison.compare(pasts, allow_different=True, most_days_apart=99)
    assert found.unshown and not found.alike and not found.differing
