from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kar_checks import statement
from kar_checks.model import Outcome
from kar_checks.statement import FILE, StatementError, sign, verify
from kar_checks.store import StoredRun
from tests.unit.report import samples
from tests.unit.test_commands_end import ROOT, kar

KINDS: dict[str, Callable[[], ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
}
FILES = [
    "run.json",
    "findings.json",
    "requirements.json",
    "observations/gang.json",
    "evidence/gang/pod.log",
]


def keys(folder: Path, kind: str = "ed25519") -> tuple[Path, Path]:
    made = KINDS[kind]()
    private, public = folder / f"{kind}.key", folder / f"{kind}.pub"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return samples.passed().write(tmp_path / "runs")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_signed_run_is_verified(kind: str, run: StoredRun, tmp_path: Path) -> None:
    private, public = keys(tmp_path, kind)
    sign(run, private)
    found = verify(run.folder, public)
    assert (found.result, found.changed) == ("PASSED", [])


def test_the_statement_has_every_file_and_the_standard_form(run: StoredRun) -> None:
    made = statement.statement(run)
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    named = {one["name"] for one in made["subject"]}
    on_disk = {
        str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()
    }
    assert named == on_disk
    assert len(made["predicate"]["passedTests"]) == len(run.findings)
    assert "gang.all_or_nothing[native]" in made["predicate"]["passedTests"]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_named(name: str, run: StoredRun, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    sign(run, private)
    path = run.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verify(run.folder, public).changed == [f"{name} was changed"]
    path.unlink()
    assert f"{name} is missing" in verify(run.folder, public).changed


def test_an_added_file_is_named(run: StoredRun, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    sign(run, private)
    (run.folder / "evidence" / "more.log").write_text("more")
    assert verify(run.folder, public).changed == ["evidence/more.log was added"]


def test_another_key_or_an_edited_statement_is_refused(run: StoredRun, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    path = sign(run, private)
    other = tmp_path / "other"
    other.mkdir()
    _, stranger = keys(other)
    with pytest.raises(StatementError, match="is not by this key"):
        verify(run.folder, stranger)
    raw = json.loads(path.read_text())
    raw["payload"] = raw["payload"].replace("A", "B", 1)
    path.write_text(json.dumps(raw))
    with pytest.raises(StatementError, match="is not by this key"):
        verify(run.folder, public)


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Outcome.FAIL, "FAILED"),
        (Outcome.INCONCLUSIVE, "WARNED"),
        (Outcome.ERROR, "WARNED"),
        (Outcome.NOT_APPLICABLE, "PASSED"),
    ],
)
def test_only_a_decided_run_is_passed(outcome: Outcome, result: str, tmp_path: Path) -> None:
    sample = samples.passed()
    sample.findings[0] = sample.findings[0].model_copy(update={"outcome": outcome})
    made = statement.statement(sample.write(tmp_path))
    assert made["predicate"]["result"] == result


def test_nothing_measured_is_not_passed(tmp_path: Path) -> None:
    sample = samples.passed()
    sample.findings = []
    assert statement.statement(sample.write(tmp_path))["predicate"]["result"] == "WARNED"


@pytest.mark.parametrize("missing", ["in_toto_attestation", "securesystemslib", "google.protobuf"])
def test_without_the_extra_one_sentence_has_the_pip_command(
    missing: str, run: StoredRun, tmp_path: Path
) -> None:
    private, public = keys(tmp_path)
    sign(run, private)
    # A module that is None there cannot be imported, as if it were not installed.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    commands = [("sign", private)]
    if missing == "securesystemslib":
        commands.append(("verify", public))
    for command, key in commands:
        words = (command, "--key", str(key), str(run.folder))
        done = kar(*words, folder=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
        (line,) = done.stderr.splitlines()
        assert line.endswith("install them with `pip install 'kar-checks[sign]'`")
        assert (done.returncode, done.stdout) == (4, "")


def test_the_extra_has_what_the_base_has_not() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = {re.split("[<>=]", one)[0] for one in project["optional-dependencies"]["sign"]}
    assert extra == {"in-toto-attestation", "protobuf", "securesystemslib"}
    assert not extra & {re.split("[<>=]", one)[0] for one in project["dependencies"]}
    locked = (ROOT / "requirements.lock").read_text("utf-8")
    assert all(f"\n{name}==" in locked for name in extra)


def test_what_is_no_key_or_no_statement_is_a_sentence(run: StoredRun, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    bad = tmp_path / "bad"
    bad.write_text("words")
    for use in (lambda key: sign(run, key), lambda key: verify(run.folder, key)):
        with pytest.raises(StatementError, match="in PEM"):
            use(bad)
        with pytest.raises(StatementError, match="cannot be read"):
            use(tmp_path / "gone")
    with pytest.raises(StatementError, match="cannot be read"):
        verify(run.folder, public)
    (run.folder / FILE).write_text("{}")
    with pytest.raises(StatementError, match="not a signed statement"):
        verify(run.folder, public)
    sign(run, private)
