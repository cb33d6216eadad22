"""What a stranger meets in the repository: workflows, hooks and templates do what they promise."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())
FORMS = sorted(one for one in (GITHUB / "ISSUE_TEMPLATE").iterdir() if one.name != "config.yml")
ACTIONS = {
    "actions/checkout",
    "actions/setup-go",
    "actions/upload-artifact",
    "actions/download-artifact",
    "pypa/gh-action-pypi-publish",
}
# The programs that a workflow may start beside make and files of the repository.
PROGRAMS = {"apt-get"}


def loaded(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    found = yaml.safe_load(path.read_text("utf-8")).items()
    return {"on" if key is True else str(key): value for key, value in found}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def tools() -> set[str]:
    """The programs in .venv/bin that the development environment is known to bring."""
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["dev"]
    return {"python", *(one for one in dev if one in {"ruff", "mypy"})}


def commands(job: dict[str, Any]) -> Iterator[list[str]]:
    """Every command of a job's steps, once for each value of its matrix."""
    matrix = job.get("strategy", {}).get("matrix", {})
    for line in (line for step in job["steps"] for line in step.get("run", "").splitlines()):
        (name,) = re.findall(r"\$\{\{ matrix\.(\w+) }}", line) or [""]
        for value in matrix[name] if name else [""]:
            yield shlex.split(re.sub(r"\$\{\{ matrix\.\w+ }}", str(value), line))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_only_what_exists(path: Path) -> None:
    ran = 0
    for job in loaded(path)["jobs"].values():
        assert job["timeout-minutes"] <= 240
        for program, *words in commands(job):
            ran += 1
            if program == "make":
                assert set(words) <= targets()
            else:
                assert program in PROGRAMS or (ROOT / program).is_file()
        for action in (step["uses"] for step in job["steps"] if "uses" in step):
            name, _, version = action.partition("@")
            assert name in ACTIONS
            assert version
    assert ran


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_more_rights_than_it_needs(path: Path) -> None:
    flow = loaded(path)
    assert flow["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in flow["jobs"].items() if "permissions" in job}
    assert more == ({"publish": {"id-token": "write"}} if path.stem == "release" else {})
    # What a stranger can name (a tag, a branch, a title) reaches a shell by its environment only.
    for job in flow["jobs"].values():
        for step in job["steps"]:
            assert "${{ github" not in step.get("run", "")
            assert "${{ inputs" not in step.get("run", "")


def test_the_three_workflows_start_when_they_should() -> None:
    starts = {path.stem: loaded(path) for path in WORKFLOWS}
    on = {name: flow["on"] for name, flow in starts.items()}
    assert set(on) == {"ci", "cluster", "release"}
    assert set(on["ci"]) == {"push", "pull_request"}
    assert set(on["cluster"]) == {"schedule", "workflow_dispatch"}
    assert on["release"] == {"push": {"tags": ["v*"]}}
    assert starts["ci"]["jobs"]["test"]["strategy"]["matrix"]["target"] == [
        *("lint", "unit", "pages", "check-dist")
    ]
    assert ["make", "test"] in commands(starts["cluster"]["jobs"]["test"])
    assert starts["release"]["jobs"]["publish"]["needs"] == "build"


def test_hooks_run_what_the_environment_has() -> None:
    (repo,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    names = ["ruff", "ruff-format", "mypy", "reasons", "english"]
    assert [one["id"] for one in repo["hooks"]] == names
    for hook in repo["hooks"]:
        program, *words = shlex.split(hook["entry"])
        assert hook["language"] == "system"
        assert program.removeprefix(".venv/bin/") in tools()
        re.compile(hook.get("files", ""))
        if words[0] == "-m":
            assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_accepts(path: Path) -> None:
    form = loaded(path)
    assert form["name"]
    assert form["description"]
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert fields
    ids = [one["id"] for one in fields]
    assert len(set(ids)) == len(ids)
    assert all(one["attributes"]["label"] for one in fields)
    assert {one["type"] for one in fields} <= {"input", "textarea", "checkboxes"}
    assert all(one["attributes"]["value"] for one in form["body"] if one["type"] == "markdown")


def test_the_bug_form_asks_for_the_run_folder_and_says_what_to_leave_out() -> None:
    assert {one.stem for one in FORMS} == {"bug", "feature", "check"}
    form = loaded(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")
    run = next(one for one in form["body"] if one.get("id") == "run")
    assert run["validations"]["required"]
    assert "What to leave out" in str(form["body"])


def test_a_release_is_one_wheel_and_one_archive(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "check-dist", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"{tmp_path} must hold one wheel and one source archive"]
