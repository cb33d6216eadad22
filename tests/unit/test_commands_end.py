"""How a command ends: its exit code and its last sentence, whatever a file or a reader does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest

from kar_checks import __version__, added, plain_yaml, store
from kar_checks.report import summary
from kar_checks.store import StoredRun, StoreError, write_atomically
from tests.unit.report import samples

ROOT = Path(__file__).parents[2]


def kar(
    *words: str, folder: Path, module: str = "kar_checks.cli", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own; ``more`` is environment."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": "", **more},
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    "words",
    ["", "run --bogus", "no-such-command", "sign", "compare a b --max-days-apart soon", "fleet"],
)
def test_wrong_usage_is_4(words: str, tmp_path: Path) -> None:
    done = kar(*words.split(), folder=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_written_once_and_the_package_is_the_command(tmp_path: Path) -> None:
    done = kar("--version", folder=tmp_path, module="kar_checks")
    assert (done.returncode, done.stdout) == (0, f"kar-checks {__version__}\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "kar_checks/__init__.py"
    assert kar("run", "--bogus", folder=tmp_path, module="kar_checks").returncode == 4


def test_a_defect_of_ours_is_one_sentence_with_a_file_to_attach(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import kar_checks.commands.catalogue as c\n"
        "def broken(*_, **__): raise RuntimeError('unforeseen\\nsecond line')\n"
        "c.show_list = broken\n",
        "utf-8",
    )
    done = kar("list", folder=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}", TMPDIR=str(tmp_path))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("kar: internal error: RuntimeError: unforeseen (")
    (file,) = tmp_path.glob("kar-error-*.txt")
    assert str(file) in line
    assert "Traceback" in file.read_text("utf-8")


@pytest.mark.parametrize(
    "words", [["list"], ["list", "--json"], ["explain", "profile"], ["report"]]
)
def test_a_reader_that_leaves_changes_nothing(words: list[str], tmp_path: Path) -> None:
    samples.passed().write(tmp_path / "runs")
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    assert reader.stdin is not None
    done = subprocess.run(
        [sys.executable, "-m", "kar_checks.cli", *words],
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_umask_decides_who_may_read_a_run(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = samples.passed().write(tmp_path).folder
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}


def test_control_characters_of_a_context_reach_no_terminal(tmp_path: Path) -> None:
    done = kar(
        "plan",
        "--kubeconfig",
        str(_kubeconfig(tmp_path)),
        "--context",
        "a\x1b[31m",
        folder=tmp_path,
    )
    assert done.returncode == 12
    assert "\x1b" not in done.stderr + done.stdout


def _kubeconfig(folder: Path) -> Path:
    path = folder / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n", "utf-8"
    )
    return path


@pytest.mark.parametrize("name", ["naïve", "日本"])
def test_a_path_that_is_not_ascii_works_in_the_c_locale(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    samples.passed().write(place / "runs")
    for locale in ("C", "POSIX"):
        done = kar("report", folder=place, LC_ALL=locale, LANG=locale, PYTHONUTF8="0")
        assert done.returncode == 0, done.stderr


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return samples.passed().write(tmp_path / "runs")


def _full_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk be full for every file of a name."""
    real = write_atomically

    def write(path: Path, text: str | bytes) -> None:
        if path.name == name:
            raise StoreError(f"{path} cannot be written ({os.strerror(errno.ENOSPC)})")
        real(path, text)

    monkeypatch.setattr(added, "write_atomically", write)


def test_a_full_disk_keeps_the_earlier_official_file(
    run: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "junit.xml"
    test = "TestGangScheduling"
    file.write_text("good", "utf-8")
    added.add_official(run, file, {test: "pass"})
    before = added.official(run.folder)
    file.write_text("newer", "utf-8")
    for name in ("junit.xml", "added.json"):
        with monkeypatch.context() as patch:
            _full_for(patch, name)
            with pytest.raises(StoreError, match="No space"):
                added.add_official(run, file, {test: "fail"})
        kept = run.folder / "evidence" / "official" / "junit.xml"
        assert kept.read_text("utf-8") == "good"
        assert added.official(run.folder) == before


def test_a_full_disk_leaves_no_orphan_of_attested_evidence(
    run: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "photo.txt"
    file.write_text("x", "utf-8")
    said = added.Attested(requirement="gang_scheduling", who="me", on=date(2026, 11, 1), text="t")
    _full_for(monkeypatch, "added.json")
    with pytest.raises(StoreError, match="No space"):
        added.attest(run, said, file)
    assert list((run.folder / "evidence" / "attested").glob("*")) == []


# -- files made to grow ----------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "words",
    [
        ("judge", "--profile", "laughs.yaml"),
        ("submission", "check", "laughs.yaml"),
        ("submission", "new", "--checklist", "laughs.yaml", "--into", "out"),
        ("fleet", "run", "laughs.yaml"),
        ("fleet", "report", "runs", "--file", "laughs.yaml"),
        ("official", "laughs.yaml"),
    ],
)
@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]\n", "[" * 5000])
def test_yaml_that_grows_is_refused_at_once(
    words: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    samples.passed().write(tmp_path / "runs")
    (tmp_path / "laughs.yaml").write_text(text, "utf-8")
    done = kar(*words, folder=tmp_path)
    assert done.returncode in (3, 4), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1 or "Usage" in done.stderr


def test_ordinary_aliases_are_read() -> None:
    assert plain_yaml.parse("a: &a {x: 1}\nb: *a\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": [{"x": 1}, {"x": 1}],
    }


@pytest.mark.parametrize("depth", [200, 100_000])
def test_one_deep_run_takes_down_no_command_over_many(depth: int, tmp_path: Path) -> None:
    for name in ("one", "two"):
        samples.passed().write(tmp_path / "clusters" / name)
    deep = tmp_path / "clusters" / "one" / "20261201-000000-0000"
    deep.mkdir()
    (deep / "run.json").write_text('{"a":' * depth + "1" + "}" * depth, "utf-8")
    for words in (
        ("fleet", "report", "clusters", "--into", "out"),
        ("regress", "--output", "clusters/one"),
        ("prune", "--keep", "20", "--output", "clusters/one"),
    ):
        done = kar(*words, folder=tmp_path)
        assert done.returncode in (0, 10, 11), (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_json_as_deep_as_ours_is_read() -> None:
    assert store.parse_json("[" * 30 + "]" * 30)
    with pytest.raises(ValueError, match="nested"):
        store.parse_json("[" * 100 + "]" * 100)


# -- the summary of a run --------------------------------------------------------------------------


def test_the_summary_says_what_failed_why_and_what_to_do(tmp_path: Path) -> None:
    text = summary.render(samples.troubled().write(tmp_path))
    failed = text.split("### What failed")[1].split("###")[0]
    assert "`resize.cpu_down`" in failed
    assert "cpu.max still allows 400m" in failed
    assert "**What to do:** Look at the kubelet's log" in failed
    assert "### What could not be measured" in text
    assert "`resize.deferred`" in text.split("### What is inconclusive")[1]
    assert "gang-filler" in text


def test_no_name_of_a_cluster_is_markup_in_the_summary(tmp_path: Path) -> None:
    text = summary.render(samples.hostile().write(tmp_path))
    assert "<script" not in text and "<img" not in text and "\x1b" not in text


# -- explain takes what run takes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gang.all_or_nothing", "gang.all_or_nothing"),
        ("gang", "gang.all_or_nothing"),
        ("gang_scheduling", "gang.all_or_nothing"),
        ("53", "gang_scheduling"),
        ("KAR-53", "gang_scheduling"),
        ("kar-53", "gang.all_or_nothing"),
        ("stack", "stack."),
        ("robust_controller", "manual evidence"),
    ],
)
def test_explain_takes_what_run_takes(name: str, told: str, tmp_path: Path) -> None:
    done = kar("explain", name, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
