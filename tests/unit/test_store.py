from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kar_checks.model import Evidence, Finding, Observation, Outcome
from kar_checks.store import (
    Run,
    StoredRun,
    StoreError,
    find_run,
    folder_name,
    new_run_id,
    now,
    write_atomically,
)
from tests.unit.report import samples


def finding(check: str, outcome: Outcome, variant: str = "") -> Finding:
    return Finding(check=check, variant=variant, outcome=outcome, reason="r", summary="s")


BEGUN = samples.passed().info.model_copy(update={"finished": None})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, BEGUN)


# -- writing -----------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_atomically(path, "old")
    write_atomically(path, "né")
    assert path.read_text("utf-8") == "né"
    assert [one.name for one in path.parent.iterdir()] == ["b.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("module", "place"), [(os, "fsync"), (Path, "open")])
def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, place: str
) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(module, place, _full)
        with pytest.raises(StoreError, match=r"No space left on device.*is kept in"):
            write_atomically(path, "new")
    assert path.read_text("utf-8") == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


def test_an_interruption_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "run.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text("utf-8") == "old"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file", "utf-8")
    with pytest.raises(StoreError, match="give another place with --output"):
        Run.create(tmp_path / "runs", samples.passed().info)


def test_latest_points_to_the_newest_run(tmp_path: Path) -> None:
    info = samples.passed().info
    Run.create(tmp_path, info)
    newer = Run.create(tmp_path, info.model_copy(update={"id": "20261123-000000-0000"}))
    assert (tmp_path / "latest").resolve() == newer.folder.resolve()
    assert find_run("latest", tmp_path) == newer.folder.resolve()
    assert find_run(info.id, tmp_path).name == info.id
    assert find_run(str(newer.folder), Path("elsewhere")) == newer.folder.resolve()


def test_a_folder_named_latest_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    assert StoredRun(Run.create(tmp_path, BEGUN).folder)
    assert (tmp_path / "latest").is_dir()


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no run 'x'"):
        find_run("x", tmp_path)


def test_run_ids_are_unique_and_fit_into_a_label() -> None:
    ids = {new_run_id() for _ in range(50)}
    assert len(ids) > 40
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", one) for one in ids)
    assert now().utcoffset() is not None


# -- what is stored ----------------------------------------------------------------------------


def test_a_finding_replaces_the_one_of_the_same_check_and_variant(run: Run) -> None:
    run.add_findings([finding("gang.a", Outcome.ERROR), finding("gang.a", Outcome.FAIL, "kueue")])
    run.add_findings([finding("gang.a", Outcome.PASS)])
    kept = [(one.variant, one.outcome.value) for one in StoredRun(run.folder).findings]
    assert kept == [("kueue", "fail"), ("", "pass")]


def test_requirements_are_stored_for_other_readers(run: Run) -> None:
    run.add_findings(samples.passed().findings)
    rows = json.loads((run.folder / "requirements.json").read_text("utf-8"))
    gang = next(one for one in rows if one["id"] == "gang_scheduling")
    assert (gang["outcome"], gang["counts"], gang["kar"]) == ("pass", True, 53)
    assert len(rows) == 15


def test_an_observation_is_stored_and_its_parts_go(run: Run) -> None:
    seen = samples.passed().observations[0]
    run.keep_part("resize", "cpu", seen)
    assert (run.folder / "partial" / "resize" / "cpu.json").exists()
    run.add_observation(seen)
    assert not (run.folder / "partial" / "resize").exists()
    stored = StoredRun(run.folder).observation_text("resize")
    assert stored is not None
    assert Observation.model_validate_json(stored) == seen


def test_a_killed_run_is_readable_with_its_parts(run: Run) -> None:
    part = Observation(trial="gang", evidence=Evidence.SYNTHETIC, started=now(), finished=now())
    run.add_findings([finding("resize.cpu_up", Outcome.PASS)])
    run.keep_part("gang", "kueue", part)
    stored = StoredRun(run.folder)
    assert [name for name, _, _ in stored.files()] == ["partial/gang/kueue.json"]
    assert stored.observation_text("gang") is None
    gang = next(one for one in stored.requirements if one.id == "gang_scheduling")
    assert gang.outcome.value == "not_run"


def test_a_run_that_was_killed_before_any_finding_is_readable(run: Run) -> None:
    stored = StoredRun(run.folder)
    assert stored.findings == []
    assert stored.files() == []
    assert len(stored.requirements) == 15


def test_raw_files_are_listed_with_hash_and_size(run: Run) -> None:
    assert run.evidence("gang/pod.log", "hello\n") == "evidence/gang/pod.log"
    assert StoredRun(run.folder).files() == [
        (
            "evidence/gang/pod.log",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            6,
        )
    ]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "../evidence2/x"])
def test_evidence_stays_inside_the_run_folder(run: Run, name: str) -> None:
    with pytest.raises(StoreError, match="leaves the run folder"):
        run.evidence(name, "text")
    assert not (run.folder / "x").exists()


# -- what somebody changed ---------------------------------------------------------------------


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        path = folder / "run.json"
        head = json.loads(path.read_text("utf-8"))
        change(head)
        path.write_text(json.dumps(head), "utf-8")

    return apply


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, "utf-8")


def ended(folder: Path) -> None:
    edit(lambda head: head.update(finished=head["started"]))(folder)
    (folder / "findings.json").unlink()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "run.json").unlink(), "is not a run folder: it has no run.json"),
        (text("run.json", "{"), "run.json cannot be read"),
        (text("run.json", ""), "run.json cannot be read"),
        (text("run.json", "[]"), "is not a run folder"),
        (
            edit(lambda head: head.update(schema_version=99)),
            "schema version 99, this suite reads 1",
        ),
        (edit(lambda head: head.pop("schema_version")), "schema version None"),
        (edit(lambda head: head.pop("environment")), "run.json was changed: environment: "),
        (edit(lambda head: head["environment"].update(x=1)), "was changed: environment.x: "),
        (edit(lambda head: head.update(started="soon")), "run.json was changed: started: "),
        (
            edit(lambda head: head.update(kubernetes_minor="1.99")),
            "run.json was changed: no checklist",
        ),
        (ended, "findings.json is missing, although the run finished"),
        (text("findings.json", "{"), "findings.json cannot be read"),
        (text("findings.json", '{"a": 1}'), "findings.json was changed: "),
        (text("findings.json", '[{"check": "gang.a"}]'), "findings.json was changed: 0.outcome: "),
        (text("findings.json", "[5]"), "findings.json was changed: 0: "),
    ],
)
def test_a_folder_that_was_changed_is_a_sentence(
    run: Run, change: Callable[[Path], object], sentence: str
) -> None:
    run.add_findings(samples.passed().findings)
    change(run.folder)
    with pytest.raises(StoreError) as caught:
        StoredRun(run.folder)
    assert sentence in str(caught.value)
    assert str(run.folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("pod network", "pod-network"),
        ("default/net1", "default-net1"),
        ("dra.net", "dra.net"),
        ("../..", "-"),
        ("..", "unnamed"),
    ],
)
def test_a_folder_of_raw_files_has_a_harmless_name(variant: str, name: str) -> None:
    assert folder_name(variant) == name
