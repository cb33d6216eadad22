from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kar_checks.cli import app
from kar_checks.cluster.errors import ApiError
from kar_checks.commands import install
from tests.unit.apiserver import ApiServer


def printed(*words: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(
        app, ["install", "--runner", "r.example/kar:1", "--cluster-name", "c", *words]
    )
    assert done.exit_code == 0, done.output
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def job_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (cron,) = [one for one in objects if one["kind"] == "CronJob"]
    spec: dict[str, Any] = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def test_its_rights_are_those_that_rbac_prints() -> None:
    made = printed("resize", "--job-namespace", "nightly")
    rbac = CliRunner().invoke(app, ["rbac", "resize", "--account-namespace", "nightly"])
    wanted = list(yaml.safe_load_all(rbac.stdout))
    assert [one for one in made if one["kind"] in {two["kind"] for two in wanted}] == wanted
    assert [one["kind"] for one in made if one not in wanted] == [
        "Namespace",
        "PersistentVolumeClaim",
        "CronJob",
    ]
    assert job_of(made)["serviceAccountName"] == "kar-checks"


def test_the_choices_of_a_run_reach_the_run_in_the_pod_as_arguments() -> None:
    hostile = "x'; rm -rf / #"
    words = (
        *("resize", "KAR-53", "--set", "gang.window_seconds=12", "--label", "a=b"),
        *("--image", "python=r.example/p:1", "--max-disruption", "capacity"),
        *("--cluster-name", hostile, "--toleration", "gpu:NoSchedule", "--pull-secret", "s"),
        *("--node-selector", "pool=gpu", "--keep", "20"),
    )
    pod = job_of(printed(*words))
    shell, option, script, name, keep, *given = pod["containers"][0]["command"]
    assert (shell, option, name, keep) == ("sh", "-c", "kar", "20")
    assert hostile not in script
    assert given == [
        "resize",
        "KAR-53",
        f"--cluster-name={hostile}",
        "--image=python=r.example/p:1",
        "--node-selector=pool=gpu",
        "--toleration=gpu:NoSchedule",
        "--label=a=b",
        "--pull-secret=s",
        "--set=gang.window_seconds=12",
        "--max-disruption=capacity",
    ]
    assert pod["nodeSelector"]["pool"] == "gpu"
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["imagePullSecrets"] == [{"name": "s"}]
    # What the pod would be told, `kar run` takes.
    assert CliRunner().invoke(app, ["run", *given]).exit_code == 4
    assert "no cluster is named" in CliRunner().invoke(app, ["run", *given]).output


def test_the_pod_may_run_at_level_restricted_and_two_never_run_at_once() -> None:
    made = printed("resize")
    (cron,) = [one for one in made if one["kind"] == "CronJob"]
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    pod = job_of(made)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    container = pod["containers"][0]["securityContext"]
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["allowPrivilegeEscalation"] is False
    assert "runAsUser" not in job_of(printed("resize", "--platform-user"))["securityContext"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--schedule", "nightly"], "five fields"),
        (["--job-namespace", "Not a name"], "is not a valid namespace name"),
        (["nonsense"], "there is no check"),
        (["--apply"], "no cluster is named"),
        (["--in-cluster", "--local-cluster"], "name one"),
    ],
)
def test_what_cannot_be_installed_is_refused(words: list[str], why: str) -> None:
    done = CliRunner().invoke(
        app, ["install", "--runner", "x", "--cluster-name", "c", *words], env={"KUBECONFIG": ""}
    )
    assert done.exit_code == 4
    assert why in done.output


def test_a_profile_that_the_pod_does_not_have_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\n")
    done = CliRunner().invoke(
        app, ["install", "--runner", "x", "--cluster-name", "c", "--profile", str(profile)]
    )
    assert done.exit_code == 4
    assert "pass its settings with --set" in done.output


def test_only_a_role_that_nothing_depends_on_may_be_without_its_namespace(
    api: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = printed("gang", "--namespace", "team-a")
    options: Any = SimpleNamespace(
        kubeconfig=api.kubeconfig(tmp_path), context=None, in_cluster=False
    )
    there = [one for one in made if one["metadata"].get("namespace") == "kueue-system"]
    others = [one for one in made if one["kind"] == "Role" and one not in there]
    assert [one["kind"] for one in there] == ["Role", "RoleBinding"]
    install.apply(there, options)
    assert [one.path.rpartition("/")[0] for one in api.asked("PATCH")] == [
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/kueue-system/{kind}"
        for kind in ("roles", "rolebindings")
    ]
    assert capsys.readouterr().out == ""
    with pytest.raises(ApiError):
        install.apply(others, options)


def test_the_pages_of_an_installed_run_carry_the_name_of_its_cluster(
    api: ApiServer, tmp_path: Path
) -> None:
    kubeconfig = api.kubeconfig(tmp_path)
    base = ["install", "--runner", "x"]
    none = {"KUBECONFIG": ""}
    done = CliRunner().invoke(app, [*base, "--kubeconfig", str(kubeconfig)], env=none)
    name = yaml.safe_load(kubeconfig.read_text("utf-8"))["contexts"][0]["context"]["cluster"]
    command = job_of(list(yaml.safe_load_all(done.stdout)))["containers"][0]["command"]
    assert f"--cluster-name={name}" in command
    done = CliRunner().invoke(app, base, env=none)
    assert done.exit_code == 4
    assert "give --cluster-name" in done.output
