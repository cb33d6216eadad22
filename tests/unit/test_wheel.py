from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kar_checks import __version__
from kar_checks.store import StoredRun
from tests.unit.apiserver import ApiServer
from tests.unit.report import samples

ROOT = Path(__file__).resolve().parents[2]
Python = Callable[..., str]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release would, and unpack it far from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def python(unpacked: Path, tmp_path: Path) -> Python:
    """Return a Python that sees the dependencies and the wheel, and not the checkout."""

    def run(*arguments: str, code: int = 0) -> str:
        # The editable install puts the checkout on the path by a .pth file: -S leaves it out.
        dependencies = [one for one in sys.path if one.endswith("site-packages")]
        done = subprocess.run(
            [sys.executable, "-S", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(unpacked), *dependencies])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_runs_from_the_wheel_and_not_from_the_checkout(python: Python, unpacked: Path) -> None:
    told = python("-c", "import kar_checks, sys; print(kar_checks.__file__, *sys.path)")
    assert told.startswith(str(unpacked))
    assert str(ROOT) not in told.split()
    listed = python("-m", "kar_checks.cli", "list")
    assert "Checklist of Kubernetes 1.37" in listed
    assert "gang.all_or_nothing" in listed


@pytest.mark.parametrize("room", ["probes", "manifests", "reports"])
def test_what_is_not_code_is_in_the_wheel(python: Python, unpacked: Path, room: str) -> None:
    found = python("-c", f"from kar_checks import paths; print(paths.data({room!r}))").strip()
    assert found == str(unpacked / "kar_checks" / "_data" / room)
    mine = {one.relative_to(ROOT / room) for one in (ROOT / room).rglob("*.*") if one.is_file()}
    theirs = {one.relative_to(found) for one in Path(found).rglob("*.*") if one.is_file()}
    ours = {one for one in mine if "__pycache__" not in one.parts}
    assert theirs == ours
    assert theirs


PYTEST = (*("-p", "no:cacheprovider", "-p", "kar_checks.pytest_plugin"), "--pyargs")


def test_plain_pytest_runs_a_check_of_the_wheel(
    python: Python, api: ApiServer, tmp_path: Path
) -> None:
    kubeconfig = str(api.kubeconfig(tmp_path))
    told = python(
        *("-m", "pytest", *PYTEST, "kar_checks.checks.gang", "-k", "release", "-v"),
        *("--kubeconfig", kubeconfig, "--max-bytes", "1e9", "--label", "a=b"),
        code=10,
    )
    assert "::test_gang[gang.release] " in told
    stored = StoredRun(tmp_path / "runs" / "latest")
    assert stored.info.selection == ["gang.release"]
    assert stored.info.environment.options["labels"] == {"a": "b"}
    assert stored.info.profile["settings"]["throughput.max_bytes"]["value"] == 10**9


def test_plain_pytest_runs_a_check_of_the_checkout(api: ApiServer, tmp_path: Path) -> None:
    kubeconfig = str(api.kubeconfig(tmp_path))
    words = ("kar_checks/checks/gang", "-k", "release", "--kubeconfig", kubeconfig)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, f"--output={tmp_path / 'runs'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 10, done.stdout + done.stderr
    assert StoredRun(tmp_path / "runs" / "latest").info.selection == ["gang.release"]


def test_the_wheel_carries_the_version_of_the_package(unpacked: Path) -> None:
    (about,) = unpacked.glob("*.dist-info/METADATA")
    assert f"\nVersion: {__version__}\n" in about.read_text("utf-8")


def test_data_and_licence_are_in_the_wheel_and_tests_are_not(unpacked: Path) -> None:
    for name in (
        "kar_checks/schema.json",
        "kar_checks/py.typed",
        "kar_checks/profiles/settings/core.yaml",
        "kar_checks/programme/requirements.yaml",
    ):
        assert (unpacked / name).is_file()
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))
    assert not (unpacked / "tests").exists()
    assert not list(unpacked.rglob("__pycache__"))


def test_manifests_are_rendered_from_the_wheel(python: Python) -> None:
    code = (
        "from kar_checks.checks.registry import load, topics\n"
        "from kar_checks.cluster.target import Target\n"
        "print(sum(len(load(one.manifests)(Target())) for one in topics()))"
    )
    assert int(python("-c", code)) > 0


def test_a_stored_run_is_rendered_from_the_wheel(python: Python, tmp_path: Path) -> None:
    folder = samples.passed().write(tmp_path / "runs").folder
    python("-m", "kar_checks.cli", "report", str(folder))
    page = (folder / "scorecard.html").read_text("utf-8")
    assert "research-eu-1" in page
    assert "</html>" in page
