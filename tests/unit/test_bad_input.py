"""Stored runs and files that were broken on purpose: each command says so in one sentence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kar_checks.store import now
from kar_checks.submission import fill
from tests.unit.report import samples
from tests.unit.submission import recorded
from tests.unit.submission.templates import described_by_us, template
from tests.unit.test_cli import Kar, kar

__all__ = ["described_by_us", "kar"]

RUNS = Path("runs")
FIRST, SECOND = "20261101-020000-0001", "20261102-020000-0002"


@pytest.fixture(autouse=True)
def two_runs(kar: Kar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one cluster in ``runs/``, which is one of a fleet, too, and a checklist."""
    monkeypatch.setattr(fill, "topics", recorded.topics)
    recorded.FINDINGS[:] = samples.passed().findings
    for days, name in enumerate((FIRST, SECOND)):
        sample = samples.passed()
        started = now() - timedelta(days=3 - days)
        sample.info = sample.info.model_copy(
            update={"id": name, "started": started, "finished": started + timedelta(minutes=4)}
        )
        sample.write(RUNS)
        sample.write(Path("fleet") / "eu-1")
    Path("checklist.yaml").write_text(template("1.37"), "utf-8")
    Path("file.txt").write_text("seen", "utf-8")


def head(run: str, **changes: Any) -> None:
    path = RUNS / run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def place(run: str, **changes: Any) -> None:
    stored = json.loads((RUNS / run / "run.json").read_text("utf-8"))
    head(run, environment={**stored["environment"], **changes})


def cut(name: str) -> Callable[[], None]:
    """A file of which only the beginning came to the disk."""

    def change() -> None:
        path = RUNS / SECOND / name
        path.write_bytes(path.read_bytes()[:50])

    return change


def swap(old: str, new: str) -> Callable[[], None]:
    """A word of the checklist that somebody changed."""

    def change() -> None:
        path = Path("checklist.yaml")
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return change


def edited() -> None:
    path = RUNS / SECOND / "findings.json"
    findings = json.loads(path.read_text("utf-8"))
    findings[0]["outcome"] = "perfect"
    path.write_text(json.dumps(findings), "utf-8")


def other_cluster() -> None:
    place(SECOND, cluster_uid="another")


def clock() -> None:
    stored = json.loads((RUNS / SECOND / "run.json").read_text("utf-8"))
    head(SECOND, finished=stored["started"].replace("202", "201", 1))


def leads_out() -> None:
    folder = RUNS / SECOND / "evidence" / "attested"
    folder.mkdir(parents=True)
    said = {"requirement": "gang_scheduling", "who": "Ada", "on": f"{now():%Y-%m-%d}"}
    rows = [{**said, "file": "../../file.txt"}]
    (folder / "added.json").write_text(json.dumps(rows), "utf-8")


NEW = ("submission", "new", "--checklist", "checklist.yaml", "--target", "v1.37/acme")
COMPARE = ("compare", FIRST, SECOND)
REGRESS = ("regress",)
CHECK = ("submission", "check", "checklist.yaml")
BROKEN: dict[str, tuple[Callable[[], object], tuple[str, ...], int, str]] = {
    "edited run": (edited, COMPARE, 3, "findings.json was changed: 0.outcome: "),
    "edited run in a history": (edited, REGRESS, 11, "findings.json was changed: 0.outcome: "),
    "missing head": (
        lambda: (RUNS / SECOND / "run.json").unlink(),
        COMPARE,
        3,
        f"there is no run '{SECOND}'",
    ),
    "missing findings": (
        lambda: (RUNS / SECOND / "findings.json").unlink(),
        COMPARE,
        3,
        "findings.json is missing, although the run finished",
    ),
    "missing observation": (
        lambda: (RUNS / SECOND / "observations" / "gang.json").unlink(),
        NEW,
        0,
        "observations/gang.json is missing",
    ),
    "another schema": (
        lambda: head(SECOND, schema_version=99),
        COMPARE,
        3,
        "was written with schema version 99, this suite reads 1",
    ),
    "another schema in a history": (
        lambda: head(SECOND, schema_version=99),
        REGRESS,
        11,
        "was written with schema version 99, this suite reads 1",
    ),
    "clusters of one name": (
        other_cluster,
        COMPARE,
        0,
        "2 different clusters are all called research-eu-1: look at their ids",
    ),
    "clusters of one name in a history": (
        other_cluster,
        REGRESS,
        11,
        "1 run of other clusters left out, 1 of them of another cluster called research-eu-1",
    ),
    "clock went back": (clock, COMPARE, 0, f"the clock went back during run {SECOND}"),
    "clock went back in a history": (clock, REGRESS, 0, f"the clock went back during it: {SECOND}"),
    "clock went back, for a submission": (clock, NEW, 0, "the run's times cannot be right"),
    "truncated head": (cut("run.json"), REGRESS, 11, "run.json cannot be read: Unterminated"),
    "truncated findings": (cut("findings.json"), REGRESS, 11, "findings.json cannot be read: "),
    "truncated observation": (
        cut("observations/gang.json"),
        REGRESS,
        11,
        "gang.json is truncated or was changed",
    ),
    "unknown id": (
        swap("id: gpu_sharing", "id: gpu_sparing"),
        NEW,
        0,
        "gpu_sparing is not in the checklist of this version; it was left as it is",
    ),
    "changed text": (
        swap("One accelerator can", "One accelerator may"),
        NEW,
        0,
        "gpu_sharing is not described as in the programme's checklist; read both",
    ),
    "changed level": (
        swap("level: MUST", "level: SHOULD"),
        NEW,
        0,
        "is a MUST in the programme's checklist, not here",
    ),
    "unknown version": (
        swap("Version: v1.37", "Version: v1.99"),
        NEW,
        4,
        "metadata `kubernetesVersion` is 1.99",
    ),
    "another file": (
        lambda: Path("checklist.yaml").write_text("kind: Pod\n", "utf-8"),
        NEW,
        4,
        "checklist.yaml is not a checklist of the programme: it has no `metadata` and `spec`",
    ),
    "no YAML": (
        lambda: Path("checklist.yaml").write_text("a: [", "utf-8"),
        CHECK,
        4,
        "checklist.yaml, line 1, column 5: not valid YAML",
    ),
    "a picture": (
        lambda: Path("checklist.yaml").write_bytes(b"\x89PNG\xff"),
        CHECK,
        4,
        "checklist.yaml is not UTF-8 text",
    ),
    "manual evidence that leaves the run": (
        leads_out,
        NEW,
        3,
        "../../file.txt, added to gang_scheduling, is not in ",
    ),
    "evidence that leaves the folder": (
        swap("evidence: []", 'evidence: ["../../file.txt"]'),
        CHECK,
        1,
        "../../file.txt leaves the submission's folder",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_was_broken_is_told_in_one_sentence(name: str, kar: Kar) -> None:
    change, words, code, sentence = BROKEN[name]
    change()
    said = kar(*words)
    assert said.code == code, said
    assert sentence in " ".join((said.out + said.err).split())
    if code in (3, 4):
        assert said.err.startswith("kar: ")
        assert len(said.err.splitlines()) == 1


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "words",
    [
        COMPARE,
        REGRESS,
        NEW,
        ("report",),
        ("fleet", "report", "fleet"),
        ("attest", "gang_scheduling", "--who", "Ada", "--date", "2026-11-01", "--text", "seen"),
    ],
)
def test_a_full_disk_is_one_sentence(
    words: tuple[str, ...], kar: Kar, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in RUNS.rglob("*.json")}
    monkeypatch.setattr(os, "fsync", _full)
    said = kar(*words)
    assert said.code == 3
    assert said.err.startswith("kar: ")
    assert "No space left on device" in said.err
    assert len(said.err.splitlines()) == 1
    assert {path: path.read_bytes() for path in RUNS.rglob("*.json")} == before
