from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kar_checks import profile
from kar_checks.checks import registry
from kar_checks.checks.registry import all_checks
from kar_checks.cli import app, main
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.target import IMAGES
from kar_checks.kit.topic import Right
from kar_checks.store import StoredRun
from tests.unit import toy
from tests.unit.apiserver import ApiServer, write_kubeconfig
from tests.unit.report import samples


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Kar = Callable[..., Said]


@pytest.fixture
def kar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kar:
    """Return the command line, in an empty folder and without KUBECONFIG; a traceback fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Said:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
        return Said(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize("command", ["run", "plan", "doctor", "cleanup"])
def test_without_a_cluster_nothing_is_done(kar: Kar, command: str) -> None:
    said = kar(command)
    assert said.code == 4
    assert said.err == (
        "kar: no cluster is named: give --kubeconfig (or KUBECONFIG), --context, "
        "--local-cluster or, in a pod, --in-cluster\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["run", "--kubeconfig", "none"], 12, "there is no kubeconfig at none"),
        (["run", "--kubeconfig", "broken"], 12, "the kubeconfig broken cannot be used"),
        (["plan", "--kubeconfig", "good", "--context", "x"], 12, "has no context 'x'"),
        (["doctor", "--kubeconfig", "good"], 12, "did not answer"),
        (["run", "--kubeconfig", "good", "--profile", "bad.yaml"], 4, "not valid YAML at line 1"),
        (["run", "--kubeconfig", "good", "--profile", "no.yaml"], 4, "no.yaml cannot be read"),
        (["run", "--kubeconfig", "good", "--profile", "t.yaml"], 4, "t.yaml: target.colour: "),
        (["run", "gangs", "--kubeconfig", "good"], 4, "there is no check, topic"),
        (["run", "--kar", "59", "--kubeconfig", "good"], 4, "KAR-59 has no check in this suite"),
        (["plan", "nothing", "--kubeconfig", "good"], 4, "there is no check, topic"),
        (["run", "--fail-on", "x", "--kubeconfig", "good"], 4, "--fail-on 'x' is not one of"),
        (["run", "--max-disruption", "x", "--kubeconfig", "good"], 4, "must be one of none"),
        (["run", "--label", "x", "--kubeconfig", "good"], 4, "not of the form KEY=VALUE"),
        (["run", "--toleration", ":X", "--kubeconfig", "good"], 4, "the effect must be"),
        (["list", "--kubernetes", "1.20"], 4, "no checklist for Kubernetes 1.20"),
        (
            ["explain", "gang.nothing"],
            4,
            "there is no check, topic, requirement or KAR 'gang.nothing'",
        ),
        (["rbac", "nothing"], 4, "there is no check, topic"),
        (["images", "list", "nothing"], 4, "there is no check, topic"),
        (["report", "nothing"], 3, "there is no run 'nothing'"),
        (["judge", "latest"], 3, "there is no run 'latest'"),
    ],
)
def test_a_trouble_is_one_sentence_and_its_exit_code(
    kar: Kar, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    write_kubeconfig(tmp_path, "http://127.0.0.1:1").rename(tmp_path / "good")
    (tmp_path / "broken").write_text("a: [", "utf-8")
    (tmp_path / "bad.yaml").write_text("a: [", "utf-8")
    (tmp_path / "t.yaml").write_text("target: {colour: red}", "utf-8")
    said = kar(*arguments)
    assert said.code == code
    assert told in said.err
    assert said.err.startswith("kar: ")
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# -- what there is -----------------------------------------------------------------------------


def test_the_list_shows_every_requirement_and_check(kar: Kar) -> None:
    said = kar("list")
    assert said.code == 0
    assert "Checklist of Kubernetes 1.37" in said.out
    assert "robust_controller" in said.out
    assert "manual evidence" in said.out
    assert all(check.id in said.out for _, check in all_checks())
    assert "not in 1.37: dra_support" in said.out


def test_the_list_is_data_too(kar: Kar) -> None:
    found = json.loads(kar("list", "--json", "--kubernetes", "1.35").out)
    assert found["version"] == "1.35"
    assert len(found["requirements"]) == 12
    gang = next(one for one in found["requirements"] if one["id"] == "gang_scheduling")
    assert (gang["kar"], gang["level"]) == (53, "MUST")
    assert gang["checks"] == [check.id for topic, check in all_checks() if topic.id == "gang"]
    assert {one["id"] for one in found["checks"]} == {check.id for _, check in all_checks()}


@pytest.mark.parametrize("check", [check.id for _, check in all_checks()])
def test_every_check_is_explained(kar: Kar, check: str) -> None:
    said = kar("explain", check)
    assert said.code == 0
    for word in ("Proves", "Fails when", "Disruption", "Budget", "Needs", "Rights", "Images"):
        assert f"{word}  " in said.out


def test_the_profile_is_explained_with_origins(kar: Kar) -> None:
    said = kar("explain", "profile")
    assert "gang.window_seconds" in said.out
    assert "2026-11-22" in said.out
    assert "stack.url (--target-url)" in said.out
    assert "node_selector --node-selector Use only these nodes." in " ".join(said.out.split())


def test_rights_are_printed_as_objects_to_apply(kar: Kar) -> None:
    said = kar("rbac", "gang", "--namespace", "team-a")
    objects = list(yaml.safe_load_all(said.out))
    assert [one["kind"] for one in objects] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Role",
        "RoleBinding",
    ]
    places = [one["metadata"].get("namespace") for one in objects]
    assert places == ["team-a", None, None, "team-a", "team-a", "kueue-system", "kueue-system"]
    wide = [rule["resources"] for rule in objects[1]["rules"]]
    assert ["namespaces"] not in wide
    everything = list(yaml.safe_load_all(kar("rbac", "gang", "--cleanup").out))
    assert "Role" not in [one["kind"] for one in everything]


KUEUES = {
    "apiGroups": [""],
    "resources": ["configmaps"],
    "resourceNames": ["kueue-manager-config"],
    "verbs": ["get"],
}


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["gang", "--namespace", "team-a"], True),
        (["gang.all_or_nothing", "--namespace", "team-a", "--set", "gang.backends=kueue"], True),
        (["gang", "--namespace", "team-a", "--set", "gang.backends=native"], False),
        (["gang.fits", "--namespace", "team-a"], False),
    ],
)
def test_kueues_configuration_may_be_read_by_its_name_where_it_is_of_use(
    kar: Kar, words: list[str], printed: bool
) -> None:
    objects = list(yaml.safe_load_all(kar("rbac", *words).out))
    there = [one for one in objects if one["metadata"].get("namespace") == "kueue-system"]
    assert [one["kind"] for one in there] == ["Role", "RoleBinding"] * printed
    if printed:
        assert there[0]["rules"] == [KUEUES]
        (told,) = there[0]["metadata"]["annotations"].values()
        assert told == "whether Kueue takes back a gang that does not start as a whole"
    rest = [rule for one in objects if one not in there for rule in one.get("rules", [])]
    assert not any("resourceNames" in rule for rule in rest)


def test_whoever_may_read_every_configmap_needs_no_role_for_kueues(kar: Kar) -> None:
    objects = list(yaml.safe_load_all(kar("rbac", "gang").out))
    assert [one["kind"] for one in objects] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    ]
    (held,) = [rule for rule in objects[1]["rules"] if "configmaps" in rule["resources"]]
    assert "get" in held["verbs"] and "resourceNames" not in held


def test_images_are_listed_as_the_target_refers_to_them(kar: Kar) -> None:
    assert kar("images", "list", "resize").out == f"python\t{IMAGES['python']}\n"
    listed = dict(line.split("\t") for line in kar("images", "list").out.splitlines())
    assert listed == IMAGES
    mirrored = kar("images", "list", "--image-prefix", "mirror.example/x").out
    assert mirrored.startswith("python\tmirror.example/x/library/python:3.13-slim@sha256:")


# -- on a cluster ------------------------------------------------------------------------------


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give a small cluster and the toy in the place of every topic."""
    monkeypatch.setattr(registry, "TOPIC_MODULES", ("tests.unit.toy",))
    registry.topics.cache_clear()
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    meta = {"name": "n1", "labels": labels}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    api.add({"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": ready}, "nodes")
    yield str(api.kubeconfig(tmp_path))
    registry.topics.cache_clear()


def test_a_plan_touches_nothing(kar: Kar, cluster: str, api: ApiServer) -> None:
    said = kar("plan", "--kubeconfig", cluster)
    assert said.code == 0
    assert "4 of 4 checks would run. Nothing was touched." in said.out
    assert {one.method for one in api.requests if "selfsubject" not in one.path} == {"GET"}


@pytest.mark.parametrize(("denied", "code"), [(set[str](), 0), ({"configmaps"}, 12)])
def test_a_plan_tells_by_its_code_whether_anything_would_run(
    kar: Kar, cluster: str, api: ApiServer, denied: set[str], code: int
) -> None:
    api.denied = denied
    said = kar("plan", "--kubeconfig", cluster)
    assert said.code == code
    assert ("missing rights: create configmaps" in said.out) is bool(denied)


def test_the_doctor_finds_nothing_where_nothing_is(kar: Kar, cluster: str, api: ApiServer) -> None:
    said = kar("doctor", "--kubeconfig", cluster)
    assert said.code == 0
    assert "no blockers" in said.out
    assert said.out.rstrip().endswith(f"kar run --kubeconfig={cluster}")


def test_the_doctor_starts_pods_and_says_when_they_do_not_run(
    kar: Kar, cluster: str, api: ApiServer
) -> None:
    said = kar("doctor", "--probe", "--kubeconfig", cluster, "--set", "pods.start_seconds=1")
    assert said.code == 12
    assert "1 manifests were sent as a dry run" in said.out
    assert "pod kar-doctor-a: not within 1 s" in said.out
    assert {key[2] for key in api.objects} <= {"nodes", "configmaps"}


def test_the_doctor_says_what_helps(kar: Kar, cluster: str, api: ApiServer) -> None:
    api.denied = {"configmaps"}
    (node,) = api.objects.values()
    node["spec"] = {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}
    said = kar("doctor", "--kubeconfig", cluster)
    assert said.code == 12
    assert "missing right: create configmaps in the namespace" in said.out
    assert "pass --toleration gpu:NoSchedule" in said.out


@pytest.mark.parametrize("served", [True, False])
def test_a_right_that_only_tells_more_stands_in_nobodys_way(
    kar: Kar, cluster: str, api: ApiServer, monkeypatch: pytest.MonkeyPatch, *, served: bool
) -> None:
    more = Right(
        ("get",),
        "",
        "secrets",
        optional=True,
        namespace="far",
        only_for="how it is configured",
        api="toys.example",
    )
    needs = replace(toy.TOPIC.common_needs, rights=(more,))
    monkeypatch.setattr(toy, "TOPIC", replace(toy.TOPIC, common_needs=needs))
    monkeypatch.setattr(Facts, "serves_group", lambda _, group: served and group == "toys.example")
    registry.topics.cache_clear()
    api.denied = {"secrets"}
    told = "get secrets in the namespace far (only to report how it is configured)  missing"
    planned = kar("plan", "--kubeconfig", cluster)
    assert planned.code == 0
    assert (told in planned.out) is served
    assert kar("doctor", "--kubeconfig", cluster).code == 0


def test_a_run_ends_with_a_summary_and_the_code_of_the_store(kar: Kar, cluster: str) -> None:
    said = kar("run", "toy.passes", "toy.fails", "--kubeconfig", cluster)
    assert said.code == 1
    assert "Target" in said.out
    assert "the judge says fail" in said.out
    stored = StoredRun(Path("runs/latest"))
    assert (stored.info.exit_code, stored.info.selection) == (1, ["toy.passes", "toy.fails"])
    for name in ("scorecard.html", "kar-junit.xml", "pytest.html"):
        assert (stored.folder / name).exists()


def test_a_run_without_a_report_is_whole_and_can_be_rendered_later(kar: Kar, cluster: str) -> None:
    said = kar("run", "toy.passes", "toy.fails", "--no-report", "--kubeconfig", cluster)
    assert said.code == 1
    assert "the judge says fail" in said.out
    assert "Page:" not in said.out
    stored = StoredRun(Path("runs/latest"))
    assert stored.info.exit_code == 1
    assert len(stored.findings) == 2
    rendered = ("scorecard.html", "kar-junit.xml", "pytest.html")
    assert not any((stored.folder / name).exists() for name in rendered)
    assert kar("report").code == 0
    assert (stored.folder / "scorecard.html").exists()


def test_the_users_own_pytest_plugins_have_no_say(
    kar: Kar, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meddler.py").write_text(
        "def pytest_collection_modifyitems(items):\n    items.clear()\n", "utf-8"
    )
    about = tmp_path / "meddler-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: meddler\nVersion: 1\n", "utf-8")
    (about / "entry_points.txt").write_text("[pytest11]\nmeddler = meddler\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert kar("run", "toy.fails", "--kubeconfig", cluster).code == 1


def test_a_folder_that_cannot_be_made_is_one_sentence(kar: Kar, cluster: str) -> None:
    Path("runs").write_text("a file", "utf-8")
    said = kar("run", "toy.passes", "--kubeconfig", cluster)
    assert said.code == 3
    assert said.err.startswith("kar: the run folder runs/")
    assert "give another place with --output" in said.err


def test_tests_that_cannot_be_loaded_are_shown(
    kar: Kar, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_face.py").write_text("import no_such_module\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(toy, "TOPIC", replace(toy.TOPIC, tests="broken_face"))
    registry.topics.cache_clear()
    done = CliRunner().invoke(app, ["run", "--kubeconfig", cluster])
    assert done.exit_code == 3
    assert "No module named 'no_such_module'" in done.stdout


def test_the_users_own_pytest_options_have_no_say(
    kar: Kar, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    assert kar("run", "toy.fails", "--kubeconfig", cluster).code == 1


def test_a_stored_run_is_rendered_and_judged_again_without_a_cluster(
    kar: Kar, cluster: str, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kar("run", "toy.passes", "--kubeconfig", cluster)
    asked = len(api.requests)
    folder = Path("runs/latest").resolve()
    (folder / "scorecard.html").unlink()
    said = kar("report")
    assert said.code == 0
    assert (folder / "scorecard.html").exists()
    monkeypatch.setitem(toy.OUTCOMES, "toy.passes", toy.OUTCOMES["toy.fails"])
    assert kar("judge").code == 1
    again = StoredRun(folder.with_name(f"{folder.name}-judged-record"))
    assert [one.outcome.value for one in again.findings] == ["fail"]
    assert [one.outcome.value for one in StoredRun(folder).findings] == ["pass"]
    assert len(api.requests) == asked


def test_an_edited_run_is_one_sentence(kar: Kar) -> None:
    folder = samples.passed().write(Path("runs")).folder
    (folder / "run.json").write_text('{"schema_version": 7}', "utf-8")
    said = kar("report")
    assert said.code == 3
    assert "written with schema version 7" in said.err


# -- cleaning up -------------------------------------------------------------------------------


def left(api: ApiServer, name: str, owner: str) -> None:
    meta = {
        "name": name,
        "namespace": "ns",
        "labels": {"app.kubernetes.io/managed-by": "kar-checks", "kar-checks.dev/run": "r1"},
        "annotations": {"kar-checks.dev/owner": owner},
    }
    api.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}, "configmaps")


DEAD, ALIVE = "elsewhere/1/2/1", "elsewhere/1/2/99999999999"


def test_what_a_dead_run_left_is_removed(kar: Kar, cluster: str, api: ApiServer) -> None:
    left(api, "one", DEAD)
    assert "ConfigMap ns/one (run r1)" in kar("cleanup", "--dry-run", "--kubeconfig", cluster).out
    assert api.asked("DELETE") == []
    said = kar("cleanup", "--kubeconfig", cluster)
    assert (said.code, "removed 1 objects" in said.out) == (0, True)
    assert "nothing of kar-checks is left" in kar("cleanup", "--kubeconfig", cluster).out


def test_what_a_live_run_owns_goes_only_on_demand(kar: Kar, cluster: str, api: ApiServer) -> None:
    left(api, "one", ALIVE)
    left(api, "two", DEAD)
    said = kar("cleanup", "--kubeconfig", cluster)
    assert "kept: 1 objects of a run that is still active" in said.out
    assert [key[3] for key in api.objects if key[2] == "configmaps"] == ["one"]
    assert "removed 1 objects" in kar("cleanup", "--yes", "--kubeconfig", cluster).out


def test_another_run_is_left_alone(kar: Kar, cluster: str, api: ApiServer) -> None:
    left(api, "one", DEAD)
    assert "nothing of kar-checks" in kar("cleanup", "--run", "r2", "--kubeconfig", cluster).out


# -- what it costs to start --------------------------------------------------------------------


HEAVY = ("kubernetes", "matplotlib", "pytest", "jinja2", "yaml", "scipy", "kar_checks.runner")


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        # The topics' own data is loaded, since each declares options, and nothing that measures.
        (["--help"], [*HEAVY, "kar_checks.kit.trial", "kar_checks.checks.stack.address"]),
        (["run", "--help"], [*HEAVY, "kar_checks.kit.trial"]),
        (["list"], ("kubernetes", "matplotlib", "pytest", "scipy")),
    ],
)
def test_a_command_loads_no_more_than_it_uses(arguments: list[str], heavy: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['kar', *{arguments!r}]\n"
        "try:\n    runpy.run_module('kar_checks.cli', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "kar_checks.cli_options" in loaded
    assert loaded.isdisjoint(heavy)


def test_no_command_at_all_shows_the_help(kar: Kar) -> None:
    said = kar()
    assert "Measure a cluster, judge it and render the scorecard" in said.out + said.err


def test_a_run_again_repeats_what_did_not_pass_with_its_own_choices(
    kar: Kar, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--kubeconfig", cluster)
    kar("run", *given, "--set", "gang.window_seconds=7", "--label", "team=a")
    first = StoredRun(Path("runs/latest").resolve())
    monkeypatch.setitem(toy.OUTCOMES, "toy.fails", toy.OUTCOMES["toy.passes"])
    assert kar("run", *given, "--again", first.info.id).code == 11
    second = StoredRun(Path("runs/latest").resolve())
    assert second.info.selection == ["toy.fails", "toy.undecided"]
    assert second.info.profile["settings"]["gang.window_seconds"]["value"] == 7
    assert second.info.environment.options["labels"] == {"team": "a"}
    monkeypatch.setitem(toy.OUTCOMES, "toy.undecided", toy.OUTCOMES["toy.passes"])
    assert kar("run", *given, "--again", "latest").code == 0
    done = kar("run", *given, "--again", "latest")
    assert done.code == 5
    assert "nothing to repeat" in done.out
    assert kar("run", "toy.fails", *given, "--again", "latest").code == 4


def test_a_topic_that_cannot_be_imported_is_a_defect_and_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "TOPIC_MODULES", ("no_such_topic",))
    monkeypatch.setattr(sys, "argv", ["kar", "list"])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    registry.topics.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main()
    registry.topics.cache_clear()
    assert ended.value.code == 3
    assert "No module named 'no_such_topic'" in capsys.readouterr().err


def test_the_old_name_of_a_setting_is_taken_for_one_more_version(
    kar: Kar, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "renamed", lambda: {"gang.patience": "gang.window_seconds"})
    said = kar("run", "toy.passes", "--kubeconfig", cluster, "--set", "gang.patience=7")
    assert said.code == 0
    assert said.err == (
        "kar: warning: --set sets gang.patience, which is now gang.window_seconds: the next "
        "version refuses it\n"
    )
    settings = StoredRun(Path("runs/latest")).info.profile["settings"]
    assert settings["gang.window_seconds"]["value"] == 7
