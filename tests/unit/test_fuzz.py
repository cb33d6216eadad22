"""No broken file brings a traceback or an exit code that the README does not name.

``KAR_FUZZ=5000 pytest tests/unit/test_fuzz.py`` tries more variants than the 300 of every run;
``KAR_FUZZ_SEED`` chooses others.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from kar_checks import added, statement
from kar_checks.cli import main
from kar_checks.commands import add
from kar_checks.exits import Exit
from kar_checks.history.fleet import Attempt
from kar_checks.store import now, parse_json
from tests.unit.fuzz import broken
from tests.unit.report import samples
from tests.unit.submission.templates import METADATA, template
from tests.unit.test_statement import keys

VARIANTS = int(os.environ.get("KAR_FUZZ", "300"))
SEED = int(os.environ.get("KAR_FUZZ_SEED", "1"))
BLOCK = 25
ID = samples.passed().info.id
RUN = f"cluster/{ID}"
OUT = ("--output", "cluster")
NEW = (*("submission", "new", ID, *OUT), "--checklist", "checklist.yaml", "--target", "out/acme")

#: Every file that some command reads, and commands that read it; the first ones are cheap.
READERS: dict[str, list[tuple[str, ...]]] = {
    f"{RUN}/run.json": [
        ("regress", *OUT),
        ("fleet", "report", ".", "--into", "out"),
        ("prune", "--keep", "20", *OUT),
        ("compare", ID, "20261201-000000-0000", *OUT, "--into", "out", "--allow-different"),
        ("judge", ID, *OUT),
        NEW,
    ],
    f"{RUN}/findings.json": [
        ("regress", *OUT),
        ("compare", ID, "20261201-000000-0000", *OUT, "--into", "out", "--allow-different"),
        ("report", ID, *OUT),
        NEW,
    ],
    f"{RUN}/observations/gang.json": [
        ("regress", *OUT),
        ("compare", ID, "20261201-000000-0000", *OUT, "--into", "out", "--allow-different"),
        ("report", ID, *OUT),
        NEW,
    ],
    f"{RUN}/evidence/attested/added.json": [NEW, ("report", ID, *OUT)],
    f"{RUN}/evidence/official/added.json": [NEW, ("report", ID, *OUT)],
    f"{RUN}/{statement.FILE}": [
        ("verify", ID, *OUT, "--key", "key.pub"),
        ("compare", ID, "20261201-000000-0000", *OUT, "--into", "out", "--allow-different"),
    ],
    "cluster/attempt.json": [("fleet", "report", ".", "--into", "out")],
    "profile.yaml": [
        ("judge", ID, *OUT, "--profile", "profile.yaml"),
        ("rbac", "--profile", "profile.yaml"),
    ],
    "fleet.yaml": [("fleet", "report", ".", "--file", "fleet.yaml", "--into", "out")],
    "answers.yaml": [(*NEW, "--answers", "answers.yaml")],
    "checklist.yaml": [("submission", "check", "checklist.yaml"), NEW],
    "out/acme/PRODUCT.yaml": [("submission", "check", "out/acme/PRODUCT.yaml"), NEW],
    "out/acme/evidence/kar-written.json": [NEW],
    "results.json": [("official", "results.json", "--run", ID, *OUT)],
    "kubeconfig": [("plan", "gang", "--kubeconfig", "kubeconfig")],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good copy of each file."""
    folder = tmp_path_factory.mktemp("world")
    sample = samples.passed()
    for one in sample.observations:
        one.figures.clear()
    run = sample.write(folder / "cluster")
    other = samples.passed()
    other.info = other.info.model_copy(update={"id": "20261201-000000-0000"})
    other.write(folder / "cluster")
    said = added.Attested(requirement="ai_inference", who="me", on=date(2026, 11, 1), text="seen")
    added.attest(run, said, None)
    (folder / "results.json").write_text('{"Action":"pass","Test":"TestGangScheduling"}\n')
    add.add_official(ID, folder / "cluster", [folder / "results.json"])
    private, _ = keys(folder)
    statement.sign(run, private)
    Attempt(started=now(), arguments=["run"], ended=now(), exit_code=0).write(folder / "cluster")
    texts: dict[str, Any] = {
        "profile.yaml": {"name": "mine", "settings": {}, "select": ["gang"], "target": {}},
        "fleet.yaml": {"clusters": [{"name": "cluster", "context": "c"}], "parallel": 2},
        "answers.yaml": {"metadata": METADATA, "items": {}},
        "kubeconfig": {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        },
    }
    for name, value in texts.items():
        (folder / name).write_text(yaml.safe_dump(value), "utf-8")
    (folder / "checklist.yaml").write_text(template("1.37"), "utf-8")
    return folder


def _run(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["kar", *words])
    before = sys.stdout, sys.stderr
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.stdout, sys.stderr = before
    return 0


def _parse(name: str) -> Callable[[str], Any]:
    return parse_json if name.endswith(".json") and name != "results.json" else yaml.safe_load


@pytest.mark.parametrize("block", range(-(-VARIANTS // BLOCK)))
def test_a_broken_file_is_a_sentence(
    block: int,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    names = list(READERS)
    for number in range(block * BLOCK, min(VARIANTS, (block + 1) * BLOCK)):
        rng = random.Random(f"{SEED}:{number}")  # noqa: S311 - a repeatable choice, no secret
        name = names[number % len(names)]
        words = rng.choice(READERS[name])
        folder = tmp_path / str(number)
        shutil.copytree(world, folder, symlinks=True)
        monkeypatch.chdir(folder)
        if name.startswith("out/"):
            assert _run(NEW, monkeypatch) == 0
        path = folder / name
        path.write_bytes(broken(rng, path.read_text("utf-8"), _parse(name)))
        capsys.readouterr()
        code = _run(words, monkeypatch)
        told = capsys.readouterr()
        case = f"variant {number} (seed {SEED}): {name}, kar {' '.join(words)}\n{told.err[-2000:]}"
        assert code in list(Exit), case
        assert "Traceback" not in told.err + told.out, case
        assert "internal error" not in told.err, case
        shutil.rmtree(folder)
