from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks import registry
from kar_checks.cluster import kinds
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason
from kar_checks.store import StoredRun
from tests.unit import toy
from tests.unit.apiserver import ApiServer, free_port, write_kubeconfig

NOTHING: dict[str, str] = {}
FACE = Path(__file__).with_name("toy_face.py")


@dataclass(frozen=True)
class Ran:
    code: int
    text: str
    folder: Path

    @property
    def stored(self) -> StoredRun:
        return StoredRun(self.folder / "runs" / "latest")

    @property
    def outcomes(self) -> dict[str, str]:
        return {one.check: one.outcome.value for one in self.stored.findings}


Session = Callable[..., Ran]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the toy in the place of every topic."""
    monkeypatch.setattr(registry, "TOPIC_MODULES", ("tests.unit.toy",))
    monkeypatch.setattr(toy, "during", [])
    monkeypatch.setattr(toy, "judging", [])
    registry.topics.cache_clear()
    yield
    registry.topics.cache_clear()


@pytest.fixture
def session(
    topic: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Session:
    """Return a function that runs plain pytest on the toy's tests."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> Ran:
        code = pytest.main(
            [
                "-c",
                os.devnull,
                f"--rootdir={tmp_path}",
                "--import-mode=importlib",
                "--capture=no",
                "--color=no",
                "-p",
                "no:cacheprovider",
                "-p",
                "kar_checks.pytest_plugin",
                "-v",
                *arguments,
                str(FACE),
            ]
        )
        out, err = capsys.readouterr()
        return Ran(int(code), out + err, tmp_path)

    return start


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path) -> str:
    """Return the option that names a cluster with one node."""
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    api.add({**node, "status": ready}, "nodes")
    return f"--kubeconfig={api.kubeconfig(tmp_path)}"


def quick(folder: Path) -> str:
    """Return the option of a profile that does not wait for what stays."""
    path = folder / "quick.yaml"
    path.write_text(
        "settings: {cleanup.seconds: {value: 0, origin: a test, date: 2026-11-22}}", "utf-8"
    )
    return f"--profile={path}"


# -- verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "code", "word", "count"),
    [
        ("toy.passes", 0, "[toy.passes] PASSED", "1 passed"),
        ("toy.fails", 1, "[toy.fails] FAILED", "1 failed"),
        ("toy.undecided", 11, "[toy.undecided] INCONCLUSIVE", "1 inconclusive"),
        ("toy.absent", 0, "[toy.absent] NOT APPLICABLE", "1 not applicable"),
    ],
)
def test_a_verdict_has_its_own_word_and_exit_status(
    session: Session, cluster: str, check: str, code: int, word: str, count: str
) -> None:
    ran = session(cluster, f"--kar-select={check}")
    assert ran.code == code
    assert word in ran.text
    counted = ran.text.splitlines()[-1].strip("= ").rpartition(" in ")[0].split(", ")
    assert {count, "3 deselected"} <= set(counted)
    assert ran.stored.info.exit_code == code
    assert ran.outcomes == {check: toy.OUTCOMES[check].value}


def test_a_failed_check_says_why_and_shows_no_traceback(session: Session, cluster: str) -> None:
    ran = session(cluster)
    assert ran.code == 1
    assert "toy.fails: as_told: the judge says fail" in ran.text
    assert "Traceback" not in ran.text
    assert "toy_face.py:" not in ran.text.split("FAILURES")[1].split("short test summary")[0]


def test_a_run_measures_once_and_stores_everything(
    session: Session, cluster: str, api: ApiServer
) -> None:
    measured: list[Trial] = []
    toy.during.append(measured.append)
    ran = session(cluster)
    assert len(measured) == 1
    assert measured[0].selected == set(toy.OUTCOMES)
    assert ran.outcomes == {name: one.value for name, one in toy.OUTCOMES.items()}
    info = ran.stored.info
    assert info.selection == list(toy.OUTCOMES)
    assert info.cleanup.verdict == "clean"
    assert (info.costs[0].topic, info.costs[0].requests > 1) == ("toy", True)
    assert info.finished is not None
    assert (info.environment.server_version, info.environment.user) == ("v1.37.0", "somebody")
    assert [one.name for one in info.environment.nodes] == ["n1"]
    assert (ran.stored.folder / "scorecard.html").exists()
    assert [key[2] for key in api.objects] == ["nodes"]


def test_the_target_is_told_before_the_first_write(session: Session, cluster: str) -> None:
    told: list[str] = []
    ran = session(cluster, "--cluster-name=prod-1")
    told = [one for one in ran.text.splitlines() if one.startswith("target: ")]
    assert len(told) == 1
    assert "prod-1 (http://127.0.0.1" in told[0]
    assert "Kubernetes v1.37.0, 1 nodes), namespace kar-" in told[0]


def test_pytests_own_selection_is_the_selection(session: Session, cluster: str) -> None:
    ran = session(cluster, "-k", "passes or absent")
    assert ran.code == 0
    assert ran.stored.info.selection == ["toy.passes", "toy.absent"]


def test_stopping_at_the_first_failure_leaves_the_rest_not_run(
    session: Session, cluster: str
) -> None:
    ran = session(cluster, "-x")
    assert ran.code == 1
    assert ran.outcomes == {"toy.passes": "pass", "toy.fails": "fail"}


@pytest.mark.parametrize(
    ("fail_on", "code"), [("inconclusive", 11), ("error", 0), ("fail", 1), ("not_applicable", 11)]
)
def test_the_objective_is_the_users(
    session: Session, cluster: str, fail_on: str, code: int
) -> None:
    assert session(cluster, f"--fail-on={fail_on}").code == code


# -- what a check never comes to ---------------------------------------------------------------


def test_a_refusal_is_an_error_of_every_check_of_the_trial(session: Session, cluster: str) -> None:
    def refuse(_: Trial) -> None:
        raise HarnessError(Reason.QUOTA_EXCEEDED, "exceeded quota: pods", "raise the quota")

    toy.during.append(refuse)
    ran = session(cluster)
    assert ran.code == 10
    assert {one.reason for one in ran.stored.findings} == {"quota_exceeded"}
    assert set(ran.outcomes.values()) == {"error"}
    assert "exceeded quota: pods" in ran.text


def test_a_fault_of_a_trial_is_an_error_and_not_silence(session: Session, cluster: str) -> None:
    toy.during.append(lambda _: NOTHING["no such key"])
    ran = session(cluster)
    assert ran.code == 10
    assert set(ran.outcomes.values()) == {"error"}
    assert {one.reason for one in ran.stored.findings} == {"internal"}
    assert "KeyError" in ran.text
    assert ran.stored.info.cleanup.verdict == "clean"


def test_a_fault_of_a_judge_is_an_error_and_not_silence(session: Session, cluster: str) -> None:
    toy.judging.append(lambda: NOTHING["no such key"])
    ran = session(cluster, "--kar-select=toy.passes")
    assert ran.code == 10
    assert ran.outcomes == {"toy.passes": "error"}
    assert "KeyError" in ran.text


def test_a_missing_right_is_an_error_and_nothing_is_created(
    session: Session, cluster: str, api: ApiServer
) -> None:
    api.denied = {"configmaps"}
    ran = session(cluster)
    assert ran.code == 10
    assert set(ran.outcomes.values()) == {"error"}
    assert "create configmaps in the namespace" in ran.stored.findings[0].summary
    assert not [one for one in api.asked("POST") if "selfsubject" not in one.path]


def test_a_leak_shows_in_the_exit_status_and_changes_no_finding(
    session: Session, cluster: str, tmp_path: Path
) -> None:
    held = toy.config_map("held", finalizers=["example.com/hold"])
    toy.during.append(lambda trial: trial.workspace.create(kinds.CONFIG_MAP, held))
    ran = session(cluster, "--kar-select=toy.passes", quick(tmp_path))
    assert ran.code == 10
    assert ran.outcomes == {"toy.passes": "pass"}
    cleanup = ran.stored.info.cleanup
    assert cleanup.verdict == "leaked"
    assert "example.com/hold" in cleanup.leaks[0].why


@pytest.mark.parametrize(("check", "kept"), [("toy.fails", True), ("toy.passes", False)])
def test_objects_are_kept_only_where_something_is_to_be_seen(
    session: Session, cluster: str, api: ApiServer, check: str, kept: bool
) -> None:
    ran = session(cluster, f"--kar-select={check}", "--keep-on-failure")
    assert ran.stored.info.cleanup.verdict == ("kept" if kept else "clean")
    assert any(key[2] == "configmaps" for key in api.objects) is kept


def test_titles_of_reports_are_those_of_the_checks(session: Session, cluster: str) -> None:
    ran = session(cluster, "--html=page.html", "--self-contained-html", "--junit-xml=out.xml")
    assert ran.code == 1
    page = unescape((ran.folder / "page.html").read_text("utf-8")).replace("\\", "")
    for check in toy.TOPIC.checks:
        assert f'<td class="col-testId">{check.id}: {check.title}</td>' in page
    junit = (ran.folder / "out.xml").read_text("utf-8")
    assert '<property name="title" value="t" />' in junit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_keeps_what_was_measured_and_cleans_up(
    session: Session, cluster: str, api: ApiServer, number: signal.Signals
) -> None:
    def interrupted(trial: Trial) -> None:
        held = toy.config_map("held", finalizers=["example.com/hold"])
        stored = trial.workspace.create(kinds.CONFIG_MAP, held)
        key = ("v1", trial.namespace, "configmaps", "held")
        threading.Timer(1.5, api.put, ("DELETED", key, stored)).start()
        os.kill(os.getpid(), number)
        assert trial.cluster.stopping.wait(20)
        raise HarnessError(Reason.INTERRUPTED, "interrupted")

    toy.during.append(interrupted)
    before = signal.getsignal(number)
    ran = session(cluster)
    assert ran.code == 2
    assert ran.stored.info.interrupted == number.name
    assert ran.stored.info.cleanup.verdict == "clean"
    assert [key[2] for key in api.objects] == ["nodes"]
    assert signal.getsignal(number) is before


# -- before any cluster is touched -------------------------------------------------------------


def test_collecting_touches_no_cluster(session: Session, cluster: str, api: ApiServer) -> None:
    ran = session(cluster, "--collect-only")
    assert ran.code == 0
    assert "test_toy[toy.undecided]" in ran.text
    assert api.requests == []
    assert not (ran.folder / "runs").exists()


def test_without_a_named_cluster_nothing_runs(
    session: Session, monkeypatch: pytest.MonkeyPatch, api: ApiServer, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))
    ran = session()
    assert ran.code == 4
    assert "no cluster is named: give --kubeconfig, --context or --local-cluster" in ran.text
    assert api.requests == []


def test_an_api_server_that_is_not_there_is_a_refused_preflight(
    session: Session, tmp_path: Path
) -> None:
    path = write_kubeconfig(tmp_path, f"http://127.0.0.1:{free_port()}")
    ran = session(f"--kubeconfig={path}")
    assert ran.code == 12
    assert "did not answer" in ran.text
    assert "Traceback" not in ran.text
    assert not (ran.folder / "runs").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--kubeconfig=broken"], "cannot be used"),
        (["--kubeconfig=none"], "there is no kubeconfig at none"),
        (["--kubeconfig=kubeconfig", "--context=other"], "no context 'other'"),
        (["--kubeconfig=kubeconfig", "--namespace=team-a"], "namespace team-a does not exist"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_a_refused_preflight(
    session: Session, cluster: str, tmp_path: Path, options: list[str], told: str
) -> None:
    (tmp_path / "broken").write_text("a: [", "utf-8")
    ran = session(*options)
    assert ran.code == 12
    assert told in ran.text
    assert "Traceback" not in ran.text


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--kar-select=nothing", "there is no check, topic, requirement or KAR 'nothing'"),
        ("--fail-on=bad", "--fail-on 'bad' is not one of"),
        ("--label=x", "--label 'x' is not of the form KEY=VALUE"),
        ("--toleration=:Never", "--toleration ':Never'"),
        ("--profile=none.yaml", "the profile none.yaml cannot be read"),
        ("--max-disruption=all", "--max-disruption must be one of none, capacity, network"),
        ("--toy-window=soon", "invalid float value"),
        ("--profile=bad.yaml", "the profile bad.yaml: target.colour: Extra inputs"),
    ],
)
def test_an_option_that_cannot_be_used_is_wrong_usage(
    session: Session, cluster: str, tmp_path: Path, option: str, told: str
) -> None:
    (tmp_path / "bad.yaml").write_text("target: {colour: red}", "utf-8")
    ran = session(cluster, option)
    assert ran.code == 4
    assert told in ran.text
    assert "Traceback" not in ran.text


def test_options_reach_every_object(session: Session, cluster: str, api: ApiServer) -> None:
    sent: list[Any] = []
    toy.during.append(lambda trial: sent.extend(trial.workspace.made))
    session(cluster, "--label=cost-centre=42", "--kar-select=toy.passes")
    made = [one.body["metadata"] for one in api.asked("POST") if one.body.get("metadata")]
    assert len(made) == len(sent) == 2
    assert all(one["labels"]["cost-centre"] == "42" for one in made)


def test_a_profile_chooses_checks_and_target(
    session: Session, cluster: str, api: ApiServer, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("select: [toy.passes]\ntarget: {labels: {team: ai}}\n", "utf-8")
    ran = session(cluster, f"--profile={path}")
    assert ran.stored.info.selection == ["toy.passes"]
    made = [one.body["metadata"] for one in api.asked("POST") if one.body.get("metadata")]
    assert all(one["labels"]["team"] == "ai" for one in made)


def test_options_of_a_topic_and_a_run_again_are_those_of_kar_run(
    session: Session, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "renamed", lambda: {"gang.patience": "gang.window_seconds"})
    assert session(cluster, "--again=latest").code == 3
    ran = session(cluster, "--toy-window=7")
    assert ran.stored.info.profile["settings"]["gang.window_seconds"]["value"] == 7
    again = session(cluster, "--again=latest", "--set=gang.patience=8")
    assert again.stored.info.selection == ["toy.fails", "toy.undecided"]
    assert again.stored.info.profile["settings"]["gang.window_seconds"]["value"] == 8
    assert "--set sets gang.patience, which is now gang.window_seconds" in again.text
    monkeypatch.setitem(toy.OUTCOMES, "toy.undecided", toy.OUTCOMES["toy.passes"])
    monkeypatch.setitem(toy.OUTCOMES, "toy.fails", toy.OUTCOMES["toy.passes"])
    assert session(cluster, "--again=latest").code == 0
    assert session(cluster, "--again=latest").code == 5
