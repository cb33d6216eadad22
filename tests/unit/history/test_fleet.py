from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kar_checks.cli import app
from kar_checks.commands import fleet as command
from kar_checks.history import fleet
from kar_checks.history.fleet import Attempt, Fleet, FleetError, Member, survey
from kar_checks.model import Outcome
from kar_checks.report import fleet_page
from kar_checks.store import StoreError, now
from tests.unit.apiserver import free_port, write_kubeconfig
from tests.unit.history.series import FINDINGS, INFO, Night, night

ENDED = INFO.started + timedelta(seconds=60)
MOMENT = ENDED + timedelta(hours=1)
CHECK = FINDINGS[0].check


def fleet_of(*names: str, **more: Any) -> Fleet:
    return Fleet(clusters=[Member(name=one) for one in names], **more)


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is not valid YAML at line 1"),
        ("- a", "the whole: Input should be a valid dictionary"),
        ("{}", "clusters: Field required"),
        ("clusters: []", "clusters: List should have at least 1 item"),
        ("clusters: [{name: a}, {name: a}]", "two clusters are called a"),
        ("clusters: [{name: ../a}]", "clusters.0.name: String should match pattern"),
        ("clusters: [{name: a, colour: red}]", "clusters.0.colour: Extra inputs"),
        ("{clusters: [{name: a}], parallel: 0}", "parallel: Input should be greater"),
        ("{clusters: [{name: a}], arguments: [--output=x]}", "--output is for the fleet to give"),
        ("clusters: [{name: a, arguments: [--context, b]}]", "--context is for the fleet to give"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(FleetError, match=re.escape(told)) as caught:
        fleet.read(file)
    assert "\n" not in str(caught.value)


def test_each_cluster_gets_its_words(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        textwrap.dedent("""\
            kubeconfig: all.conf
            arguments: [resize]
            clusters:
            - name: by-name
            - {name: other, context: b, arguments: [--max-disruption=none]}
            - {name: own, kubeconfig: /etc/own.conf}
            """),
        "utf-8",
    )
    read = fleet.read(file)
    assert [command.words_of(read, one)[1:] for one in read.clusters] == [
        [
            "resize",
            f"--kubeconfig={tmp_path}/all.conf",
            "--context=by-name",
            "--cluster-name=by-name",
        ],
        [
            "resize",
            "--max-disruption=none",
            f"--kubeconfig={tmp_path}/all.conf",
            "--context=b",
            "--cluster-name=other",
        ],
        ["resize", "--kubeconfig=/etc/own.conf", "--cluster-name=own"],
    ]


# -- what results folders say ------------------------------------------------------------------


def stored(parent: Path, name: str, code: int | None = 0, number: int = 0, **changes: Any) -> Night:
    made = night(number)
    made.info = made.info.model_copy(update={"exit_code": code, **changes})
    made.environment(cluster_uid=f"uid-{name}")
    made.write(parent / name)
    return made


@pytest.mark.parametrize(
    ("code", "after", "state", "told"),
    [
        (0, 1, "met", "success: no selected check"),
        (1, 1, "failed", "at least one check failed"),
        (11, 1, "undecided", "is inconclusive"),
        (10, 1, "harness", "an error (the suite could not measure)"),
        (0, 40, "stale", "its last run ended 40 hours ago"),
        (1, 40, "stale", "its last run ended 40 hours ago"),
        (0, -2, "stale", "its last run is dated in the future"),
    ],
)
def test_a_state_is_that_of_the_last_run(
    code: int, after: float, state: str, told: str, tmp_path: Path
) -> None:
    stored(tmp_path, "a", code)
    row = survey([tmp_path], ENDED + timedelta(hours=after)).rows[0]
    assert (row.name, row.state) == ("a", state)
    assert told in row.told
    assert row.exit_code == code
    assert row.hours == pytest.approx(after)


def test_a_run_without_an_end_is_no_report(tmp_path: Path) -> None:
    stored(tmp_path, "never", None, finished=None)
    stored(tmp_path, "again", 1)
    late = stored(tmp_path, "again", 2, number=1, interrupted="SIGTERM")
    never, again = sorted(survey([tmp_path], MOMENT).rows, key=lambda one: one.finished is not None)
    assert (never.state, never.run) == ("not reported", "")
    assert never.told == "there is no finished run"
    assert again.state == "failed"
    assert again.notes == [f"run {late.info.id} did not finish"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "has not ended, or was killed"),
        ({"ended": MOMENT, "exit_code": 12, "told": "it did not answer"}, "it did not answer"),
        ({"ended": MOMENT, "exit_code": 4}, "the command line could not be used"),
        ({"ended": MOMENT, "exit_code": -9}, "its process was killed by signal 9"),
    ],
)
def test_an_attempt_without_a_run_is_told_though_an_older_run_is_good(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    made = stored(tmp_path, "a")
    attempt = Attempt(started=MOMENT, arguments=[])
    attempt.model_copy(update=changes).write(tmp_path / "a")
    row = survey([tmp_path], MOMENT).rows[0]
    assert row.state == "not reported"
    assert told in row.told
    assert row.exit_code == changes.get("exit_code")
    assert row.run == made.info.id


def test_a_later_run_of_somebody_else_counts_more_than_an_attempt(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Attempt(started=INFO.started - timedelta(hours=1), arguments=[], exit_code=12).write(
        tmp_path / "a"
    )
    stored(tmp_path, "a")
    row = survey([tmp_path], MOMENT).rows[0]
    assert (row.state, row.exit_code) == ("met", 0)


def test_results_of_several_places_are_merged_by_name(tmp_path: Path) -> None:
    stored(tmp_path / "here", "a", 1)
    newer = stored(tmp_path / "there", "a", 0, number=1)
    stored(tmp_path / "there", "gone")
    (tmp_path / "here" / "no-results").mkdir()
    moment = MOMENT + timedelta(days=1)
    found = survey([tmp_path / "here", tmp_path / "there"], moment, fleet=fleet_of("a", "missing"))
    assert [(one.name, one.state) for one in found.rows] == [
        ("missing", "not reported"),
        ("a", "met"),
    ]
    assert found.rows[1].run == newer.info.id
    assert found.notes == ["Left out, since the file does not name them: gone"]
    with pytest.raises(StoreError, match="there is no folder"):
        survey([tmp_path / "nowhere"], moment)


def test_the_findings_of_a_row_are_counted_and_named(tmp_path: Path) -> None:
    made = night(0)
    made.judged(CHECK, Outcome.FAIL)
    made.info = made.info.model_copy(update={"exit_code": 1})
    made.write(tmp_path / "a")
    row = survey([tmp_path], MOMENT).rows[0]
    assert row.failed == [CHECK]
    assert row.outcomes["fail"] == 1
    assert sum(row.outcomes.values()) == len(made.findings)


def test_one_cluster_of_two_names_and_two_clusters_of_one_name_are_told(tmp_path: Path) -> None:
    stored(tmp_path, "a")
    stored(tmp_path, "b")
    shutil.copytree(tmp_path / "a", tmp_path / "same", symlinks=True)
    other = night(1)
    other.environment(cluster_uid="another")
    other.info = other.info.model_copy(update={"exit_code": 0})
    other.write(tmp_path / "b")
    notes = {one.name: one.notes for one in survey([tmp_path], MOMENT + timedelta(days=1)).rows}
    assert notes == {
        "a": ["the same cluster as same, by its UID"],
        "same": ["the same cluster as a, by its UID"],
        "b": [f"another cluster than in run {night(0).info.id}, by its UID"],
    }


def test_a_changed_run_folder_is_told_and_the_one_before_stands(tmp_path: Path) -> None:
    stored(tmp_path, "a")
    broken = stored(tmp_path, "a", 0, number=1)
    (tmp_path / "a" / broken.info.id / "run.json").write_text('{"schema_version": 99}', "utf-8")
    row = survey([tmp_path], MOMENT).rows[0]
    assert row.run == night(0).info.id
    assert "schema version 99" in row.notes[0]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([0, 0], 0), ([0, 11], 11), ([0, 11, 1], 1), ([0, 11, 1, 10], 10), ([0, None], 10)],
)
def test_the_exit_code_is_that_of_the_worst(
    codes: list[int | None], expected: int, tmp_path: Path
) -> None:
    for place, code in enumerate(codes):
        ended = ENDED if code is not None else None
        stored(tmp_path, f"c{place}", code, finished=ended)
    found = survey([tmp_path], MOMENT)
    assert command.exit_code(found, {one.name for one in found.rows}) == expected
    assert command.exit_code(found, {"c0"}) == 0


# -- page and metrics --------------------------------------------------------------------------


def test_the_metrics_tell_the_last_time_and_who_is_missing(tmp_path: Path) -> None:
    stored(tmp_path, "a")
    found = survey([tmp_path], MOMENT, fleet=fleet_of("a", "missing"))
    fleet_page.write_all(found, tmp_path)
    lines = (tmp_path / "fleet.prom").read_text("utf-8").splitlines()
    assert 'kar_fleet_cluster_reported{cluster="a"} 1' in lines
    assert 'kar_fleet_cluster_reported{cluster="missing"} 0' in lines
    last = [one for one in lines if one.startswith("kar_fleet_last_run_timestamp_seconds")]
    assert last == [f'kar_fleet_last_run_timestamp_seconds{{cluster="a"}} {ENDED.timestamp()!r}']
    assert lines[-1] == "# EOF"


def test_a_hostile_cluster_cannot_break_the_page(tmp_path: Path) -> None:
    made = night(0)
    bad = "<script>alert(1)</script>"
    made.environment(server_version=bad)
    made.write(tmp_path / bad.replace("/", ""))
    found = survey([tmp_path], MOMENT)
    page = fleet_page.render(found, tmp_path)
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert 'href="%3Cscript%3E' not in page, "there is no scorecard to lead to"
    assert fleet_page.metrics(found).count("\n# EOF") == 1


# -- the runs ----------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every process is a toy that does what its cluster's name says; returns its notes."""
    sample = tmp_path / "sample"
    made = night(0)
    made.info = made.info.model_copy(update={"exit_code": 0})
    made.write(sample)
    notes = tmp_path / "notes"
    script = tmp_path / "toy"
    script.write_text(
        textwrap.dedent(f"""\
            #!{sys.executable} -S
            import json, os, shutil, sys, time
            from datetime import datetime, timezone
            given = dict(one.split("=", 1) for one in sys.argv if one.startswith("--"))
            name, output = given["--cluster-name"], given["--output"]
            def note(what):
                with open({str(notes)!r}, "a") as file:
                    file.write(f"{{what}} {{name}}\\n")
            note("start")
            if name.startswith("hangs"):
                time.sleep(120)
            if name.startswith("refused"):
                print("kar: it did not answer", file=sys.stderr)
                sys.exit(12)
            while name.startswith("waits") and open({str(notes)!r}).read().count("start w") < 2:
                time.sleep(0.01)
            if not name.startswith("empty"):
                folder = os.path.join(output, {made.info.id!r})
                shutil.copytree({str(sample / made.info.id)!r}, folder, dirs_exist_ok=True)
                with open(os.path.join(folder, "run.json")) as file:
                    head = json.load(file)
                head["started"] = head["finished"] = datetime.now(timezone.utc).isoformat()
                with open(os.path.join(folder, "run.json"), "w") as file:
                    json.dump(head, file)
            note("end")
            """),
        "utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return notes


def written(tmp_path: Path, given: Fleet) -> Path:
    file = tmp_path / "fleet.yaml"
    file.write_text(given.model_dump_json(), "utf-8")
    return file


def seen(output: Path, given: Fleet) -> dict[str, tuple[str, int | None]]:
    rows = survey([output], now(), fleet=given).rows
    return {one.name: (one.state, one.exit_code) for one in rows}


def test_no_cluster_stops_another(
    toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = fleet_of(
        "refused", "hangs", "a", "b", "c", "empty", parallel=2, deadline_minutes=1 / 12
    )
    output = tmp_path / "out"
    (output / "c").mkdir(parents=True)
    (output / "c" / fleet.LOG).mkdir()  # its log cannot be written
    assert command.run(written(tmp_path, given), output, (), 0) == 10
    assert seen(output, given) == {
        "refused": ("not reported", 12),
        "hangs": ("not reported", -15),
        "empty": ("not reported", 0),
        "c": ("not reported", None),
        "a": ("met", 0),
        "b": ("met", 0),
    }
    told = capfd.readouterr().out
    assert "refused: did not report: it did not answer" in told
    assert "hangs: did not report: it was stopped after" in told
    assert "c: did not report: [Errno 21] Is a directory" in told
    assert "6 clusters: 4 did not report, 2 objective met" in told
    page = (output / "fleet.html").read_text("utf-8")
    assert "it did not answer" in page


def test_as_many_are_at_work_as_the_file_says(toy: Path, tmp_path: Path) -> None:
    given = fleet_of("waits-1", "waits-2", "a", "b", "c", parallel=2)
    assert command.run(written(tmp_path, given), tmp_path / "out", (), 0) == 0
    at_work: set[str] = set()
    most = 0
    for what, name in (one.split() for one in toy.read_text("utf-8").splitlines()):
        (at_work.add if what == "start" else at_work.discard)(name)
        most = max(most, len(at_work))
    assert most == 2


def test_a_fleet_is_resumed_where_it_stopped(toy: Path, tmp_path: Path) -> None:
    given = fleet_of("a", "refused", parallel=1)
    output = tmp_path / "out"
    file = written(tmp_path, given)
    assert command.run(file, output, ["a"], 0) == 0, "only what was asked for counts"
    assert command.run(file, output, (), 1) == 10
    assert toy.read_text("utf-8").split("\n")[:-1] == ["start a", "end a", "start refused"]
    assert command.run(file, output, ["a"], 1) == 0
    asked_else = written(tmp_path, given.model_copy(update={"arguments": ["resize"]}))
    assert command.run(asked_else, output, ["a"], 1) == 0
    assert toy.read_text("utf-8").count("start a") == 2, "what was asked is not the same"
    with pytest.raises(FleetError, match="names no cluster 'b'"):
        command.run(file, output, ["b"], 0)


def test_an_interrupt_ends_the_runs_and_starts_no_more(toy: Path, tmp_path: Path) -> None:
    given = fleet_of("hangs", "a", parallel=1)
    output = tmp_path / "out"
    before = signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        while not toy.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    assert command.run(written(tmp_path, given), output, (), 0) == 2
    assert seen(output, given) == {"hangs": ("not reported", -15), "a": ("not reported", None)}
    assert toy.read_text("utf-8") == "start hangs\n"
    assert (output / "fleet.html").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_real_run_that_reaches_no_server_says_so(tmp_path: Path) -> None:
    write_kubeconfig(tmp_path, f"http://127.0.0.1:{free_port()}")
    given = Fleet(
        clusters=[Member(name="a", kubeconfig=str(tmp_path / "kubeconfig"))], arguments=["resize"]
    )
    output = tmp_path / "out"
    assert command.run(written(tmp_path, given), output, (), 0) == 10
    row = survey([output], now(), fleet=given).rows[0]
    assert (row.state, row.exit_code) == ("not reported", 12)
    assert row.told.startswith("the API server at [address] did not answer")
    assert "127.0.0.1" not in row.told


# -- the document ------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[3] / "docs" / "fleet.md"


def test_the_documents_file_is_one_and_its_workflow_calls_commands_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, workflow = re.findall(r"```yaml\n(.+?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (tmp_path / "fleet.yaml").write_text(example, "utf-8")
    assert [one.name for one in fleet.read(tmp_path / "fleet.yaml").clusters] == [
        "eu-1",
        "eu-2",
        "edge",
    ]
    steps = yaml.safe_load(workflow)["spec"]["templates"][0]["steps"]
    asked = [one["arguments"]["parameters"][0]["value"] for [one] in steps]
    monkeypatch.chdir(tmp_path)
    for words in asked:
        given = words.replace("{{item}}", "eu-1").replace("/fleet/", "none/").replace("/res", "res")
        done = CliRunner().invoke(app, ["fleet", *given.split()])
        assert (done.exit_code, done.stderr) == (
            4,
            "kar: none/fleet.yaml cannot be read: No such file or directory\n",
        )
