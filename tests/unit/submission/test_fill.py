from __future__ import annotations

import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kar_checks import added, programme
from kar_checks.added import Attested
from kar_checks.commands import submission
from kar_checks.model import Evidence, Outcome, RequirementOutcome
from kar_checks.store import StoredRun, StoreError
from kar_checks.submission import fill
from kar_checks.submission.document import Checklist, ChecklistError
from kar_checks.submission.fill import Answers, decide, distrust, read_answers
from kar_checks.submission.rules import check
from tests.unit.report import samples
from tests.unit.submission import recorded
from tests.unit.submission.templates import METADATA, template
from tests.unit.submission.test_rules import filled

NOW = samples.START + timedelta(days=3)
AGE = timedelta(days=90)
GANG = "gang_scheduling"


@pytest.fixture(autouse=True)
def judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judges say what the sample run says."""
    monkeypatch.setattr(fill, "topics", recorded.topics)
    monkeypatch.setattr(submission, "datetime", _Clock)
    recorded.FINDINGS[:] = samples.passed().findings


class _Clock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return NOW.astimezone(tz)


def stored(tmp_path: Path, **changes: Any) -> StoredRun:
    sample = samples.passed()
    sample.info = sample.info.model_copy(update=changes)
    return sample.write(tmp_path / "runs")


def row(run: StoredRun, requirement: str = GANG) -> Any:
    return next(one for one in run.requirements if one.id == requirement)


def test_a_good_run_makes_implemented(tmp_path: Path) -> None:
    run = stored(tmp_path)
    assert distrust(run, "1.37", NOW, AGE) == ""
    entry = decide(run, row(run), "")
    assert entry.status == "Implemented"
    assert "5 of 5 checks passed" in entry.notes
    assert run.info.id in entry.notes


LOCAL = samples.passed().info.environment.model_copy(update={"local_cluster": True})


@pytest.mark.parametrize(
    ("changes", "version", "now", "words"),
    [
        ({"environment": LOCAL}, "1.37", NOW, "embedded local cluster"),
        ({}, "1.36", NOW, "the run is of Kubernetes 1.37, the checklist of 1.36"),
        ({"finished": None}, "1.37", NOW, "did not finish"),
        ({"interrupted": "signal SIGINT"}, "1.37", NOW, "did not finish"),
        ({}, "1.37", NOW + AGE, "older than 90 days"),
        ({}, "1.37", samples.START - timedelta(days=1), "starts in the future"),
        ({"finished": samples.START - timedelta(days=1)}, "1.37", NOW, "times cannot be right"),
    ],
)
def test_a_run_that_cannot_stand_as_evidence_says_why(
    changes: dict[str, Any], version: str, now: datetime, words: str, tmp_path: Path
) -> None:
    run = stored(tmp_path, **changes)
    why = distrust(run, version, now, AGE)
    assert words in why
    entry = decide(run, row(run), why)
    assert entry.status == ""
    assert words in entry.why


def test_an_edited_verdict_does_not_follow(tmp_path: Path) -> None:
    run = stored(tmp_path)
    recorded.FINDINGS[14] = recorded.FINDINGS[14].model_copy(update={"outcome": Outcome.FAIL})
    changed = recorded.FINDINGS[14].check
    assert distrust(run, "1.37", NOW, AGE) == (
        f"the verdict of {changed} does not follow from what was observed"
    )


def test_a_check_that_this_suite_does_not_have_cannot_be_judged_again(tmp_path: Path) -> None:
    sample = samples.passed()
    renamed = sample.findings[-1].model_copy(update={"check": "gang.unheard_of"})
    sample.findings.append(renamed)
    why = distrust(sample.write(tmp_path / "runs"), "1.37", NOW, AGE)
    assert why == "this version of the suite has no check gang.unheard_of to judge it again by"


def test_a_missing_or_foreign_observation_is_no_evidence(tmp_path: Path) -> None:
    run = stored(tmp_path)
    path = run.folder / "observations" / "gang.json"
    path.write_text("{}")
    assert "not what this version" in distrust(run, "1.37", NOW, AGE)
    path.unlink()
    assert "is missing from the run folder" in distrust(run, "1.37", NOW, AGE)


@pytest.mark.parametrize(
    ("outcome", "evidence", "status", "words"),
    [
        (Outcome.FAIL, Evidence.SYNTHETIC, "Partially Implemented", ""),
        (Outcome.PASS, Evidence.SIMULATED, "", "simulated evidence only"),
        (Outcome.INCONCLUSIVE, Evidence.SYNTHETIC, "", "inconclusive"),
        (Outcome.ERROR, None, "", "error"),
    ],
)
def test_what_each_outcome_may_say(
    outcome: Outcome, evidence: Evidence | None, status: str, words: str, tmp_path: Path
) -> None:
    sample = samples.passed()
    sample.findings = [
        one.model_copy(update={"evidence": evidence})
        if not one.check.startswith("gang") or index < len(sample.findings) - 1
        else one.model_copy(update={"outcome": outcome, "evidence": evidence})
        for index, one in enumerate(sample.findings)
    ]
    run = sample.write(tmp_path)
    entry = decide(run, row(run), "")
    assert entry.status == status
    assert words in entry.why


def test_a_failure_of_everything_is_not_implemented(tmp_path: Path) -> None:
    sample = samples.passed()
    sample.findings = [one.model_copy(update={"outcome": Outcome.FAIL}) for one in sample.findings]
    run = sample.write(tmp_path)
    assert decide(run, row(run), "").status == "Not Implemented"


@pytest.mark.parametrize(("requirement", "status"), [("gpu_sharing", "N/A"), (GANG, "")])
def test_only_a_conditional_requirement_can_be_not_applicable(
    requirement: str, status: str, tmp_path: Path
) -> None:
    run = stored(tmp_path)
    absent = row(run, requirement).model_copy(
        update={"outcome": RequirementOutcome.NOT_APPLICABLE, "reason": "no such device"}
    )
    entry = decide(run, absent, "")
    assert entry.status == status


def make(tmp_path: Path, text: str = "", **options: Any) -> Path:
    checklist = tmp_path / "checklist.yaml"
    checklist.write_bytes((text or template("1.37")).encode())
    if "answers" in options:
        file = tmp_path / "answers.yaml"
        file.write_text(yaml.safe_dump(options.pop("answers")))
        options["answers_file"] = file
    target = tmp_path / "v1.37" / "acme"
    code = submission.new(
        [samples.passed().info.id], tmp_path / "runs", checklist, target, **options
    )
    assert code == 0
    return target


ATTESTED = {
    one: {
        "status": "Implemented",
        "evidence": ["https://acme.example/evidence"],
        "notes": "shown in our lab",
    }
    for one in (
        "ai_inference",
        "cluster_autoscaling",
        "pod_autoscaling",
        "accelerator_metrics",
        "ai_service_metrics",
        "secure_accelerator_access",
        "robust_controller",
    )
}


TEXT = rb'"(?:[^"\\\r\n]|\\.)*"'


def wherever_allowed(text: str) -> re.Pattern[bytes]:
    """A pattern of every file that differs from a template in the allowed places alone.

    Each line stands for itself, byte for byte, but for the value of a field that is to be filled.
    """
    lines = text.encode().splitlines(keepends=True)
    end = re.escape(lines[0][len(lines[0].rstrip()) :])
    out: list[bytes] = []
    for line, following in zip(lines, [*lines[1:], b"\n"], strict=True):
        name = line.strip().partition(b":")[0].decode()
        if line.startswith(b"  ") and name in (*METADATA, "repoUrl", "status", "notes"):
            before, _, after = re.split(rb'("[^"]*")', line, maxsplit=1)
            out.append(re.escape(before) + TEXT + re.escape(after))
        elif line.strip() == b"evidence: []":
            listed = rb"(?:" + end + rb" {8}- " + TEXT + rb")+"
            out.append(rb" {6}evidence:(?: \[\]|" + listed + rb")" + end)
        else:
            out.append(re.escape(line))
        if not following.strip() and b"contactEmailAddress" in line:
            out.append(rb"(?:  k8sConformanceUrl: " + TEXT + end + rb")?")
    return re.compile(b"".join(out))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("version", programme.versions())
def test_no_byte_changes_but_in_the_allowed_places(
    version: str, line_end: str, tmp_path: Path
) -> None:
    stored(tmp_path, kubernetes_minor=version)
    text = template(version).replace("\n", line_end)
    target = make(tmp_path, text, answers={"metadata": METADATA, "items": ATTESTED})
    filled, allowed = (target / "PRODUCT.yaml").read_bytes(), wherever_allowed(text)
    assert filled != text.encode()
    assert allowed.fullmatch(filled)
    for old, new in (
        (b"level: MUST", b"level: Must"),
        (b"# Checklist", b"#  Checklist"),
        (b"  # the product", b" # the product"),
        (b"spec:", b"spec: "),
        (b"id: gang_scheduling", b"id: gang_schedulinG"),
        (b'status: "Implemented"', b"status: Implemented"),
    ):
        assert old in filled
        assert not allowed.fullmatch(filled.replace(old, new, 1)), old


def test_a_filled_checklist_differs_only_where_it_may_and_passes_the_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path)
    target = make(tmp_path, answers={"metadata": METADATA, "items": ATTESTED})
    filled = (target / "PRODUCT.yaml").read_bytes()
    assert wherever_allowed(template("1.37")).fullmatch(filled)
    assert check(Checklist.load(target / "PRODUCT.yaml"), target) == []
    assert submission.check_file(target / "PRODUCT.yaml", None) == 0
    read = yaml.safe_load((target / "PRODUCT.yaml").read_text())
    gang = read["spec"]["schedulingOrchestration"][0]
    assert (gang["status"], gang["evidence"]) == ("Implemented", [f"evidence/{GANG}.md"])
    inference = read["spec"]["networking"][0]
    assert inference["notes"] == "Attested by the submitter: shown in our lab"
    out = capsys.readouterr().out
    assert "attested by a person" in out
    assert "0 errors" in out


def test_the_evidence_is_readable_and_its_hashes_are_right(tmp_path: Path) -> None:
    stored(tmp_path)
    target = make(tmp_path)
    text = (target / "evidence" / f"{GANG}.md").read_text()
    for part in ("# gang_scheduling", "research-eu-1", "What it proves", "0 of 4", "raw/"):
        assert part in text
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=target / "evidence", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert b"raw/observations/gang.json: OK" in done.stdout
    assert not list(target.rglob("resize.json"))


def test_redaction_hides_nodes_and_addresses_everywhere(tmp_path: Path) -> None:
    sample = samples.passed()
    sample.findings[-1] = sample.findings[-1].model_copy(
        update={"summary": "worker-1 (10.0.0.7, fd00:1:2:3::7) said 1.2.3 at 10:15:04"}
    )
    sample.write(tmp_path / "runs")
    target = make(tmp_path, redacted=True)
    everything = "".join(one.read_text() for one in (target / "evidence").rglob("*.*"))
    assert "worker-1" not in everything
    assert "10.0.0.7" not in everything
    assert "fd00:1" not in everything
    assert "node-1 ([address], [address]) said 1.2.3 at 10:15:04" in everything


def test_links_can_replace_paths(tmp_path: Path) -> None:
    stored(tmp_path)
    target = make(tmp_path, base_url="https://acme.example/kar/")
    assert (
        f'- "https://acme.example/kar/evidence/{GANG}.md"' in (target / "PRODUCT.yaml").read_text()
    )


def test_what_a_person_wrote_stays_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path)
    text = filled(template("1.37"), GANG, "Implemented", "https://mine.example", "mine")
    text = text.replace("[Vendor Name]", "Acme")
    target = make(tmp_path, text, answers={"metadata": METADATA | {"vendorName": "Other"}})
    new = (target / "PRODUCT.yaml").read_text()
    assert "https://mine.example" in new
    assert f"evidence/{GANG}.md" not in new
    assert 'vendorName: "Acme"' in new
    assert "kept as a person wrote it" in " ".join(capsys.readouterr().out.split())


def test_a_person_at_the_terminal_is_asked_for_what_nobody_else_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = {
        "vendorName: ": "Acme",
        METRICS: "Done",
        "  'Done'": "Implemented",
        "  evidence": "https://a.example b.md",
        "  notes": "seen",
    }

    def reply(question: str) -> str:
        asked.append(question)
        return next((one for start, one in answers.items() if question.startswith(start)), "")

    monkeypatch.setattr("builtins.input", reply)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    stored(tmp_path)
    target = make(tmp_path, answers={"metadata": {"platformName": "Acme Kubernetes"}})
    assert 'vendorName: "Acme"' in (target / "PRODUCT.yaml").read_text()
    found = items(target)[METRICS]
    assert (found["status"], found["evidence"]) == ("Implemented", ["https://a.example", "b.md"])
    assert found["notes"] == "Attested by the submitter: seen"
    assert items(target)["gpu_sharing"]["status"] == ""
    assert not any(one.startswith(("platformName", GANG)) for one in asked)
    assert any(one.startswith("gpu_sharing: Implemented, ") for one in asked)


def test_the_same_run_again_changes_no_byte_of_a_submission(tmp_path: Path) -> None:
    stored(tmp_path)
    target = make(tmp_path, answers={"metadata": METADATA, "items": ATTESTED})
    before = (target / "PRODUCT.yaml").read_bytes()
    make(tmp_path)
    assert (target / "PRODUCT.yaml").read_bytes() == before


def test_a_distrusted_run_fills_nothing_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, environment=LOCAL)
    target = make(tmp_path)
    assert (target / "PRODUCT.yaml").read_bytes() == template("1.37").encode()
    assert not (target / "evidence").exists()
    out = " ".join(capsys.readouterr().out.split())
    assert "embedded local cluster" in out
    assert "Only you know: metadata platformName" in out


METRICS = "accelerator_metrics"


def attest(run: StoredRun, requirement: str, file: Path | None = None, **changes: Any) -> None:
    given = {"requirement": requirement, "who": "Ada Example", "on": NOW.date(), "text": "seen"}
    added.attest(run, Attested.model_validate({**given, **changes}), file)


def items(target: Path) -> dict[str, Any]:
    sections = yaml.safe_load((target / "PRODUCT.yaml").read_text())["spec"].values()
    return {one["id"]: one for section in sections for one in section}


def test_attested_evidence_joins_what_stands_and_makes_no_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added, "now", lambda: NOW)
    run = stored(tmp_path)
    shot = tmp_path / "junit.xml"
    shot.write_bytes(b"\x89PNG\xff")
    attest(run, METRICS, shot, link="https://acme.example/m")
    attest(run, GANG, text="on GPUs, too", link="https://acme.example/gang")
    attest(run, "pod_autoscaling", on=(NOW - AGE - timedelta(days=1)).date())
    attest(run, "ai_inference", link="https://acme.example/i")
    target = make(tmp_path, answers={"items": {"ai_inference": ATTESTED["ai_inference"]}})
    found = items(target)
    copied = f"evidence/raw/attested/{METRICS}-1-junit.xml"
    assert (found[METRICS]["status"], found[METRICS]["evidence"]) == (
        "",
        ["https://acme.example/m", copied],
    )
    assert found[METRICS]["notes"] == "Attested by Ada Example on 2026-11-25, not measured: seen"
    assert (target / copied).read_bytes() == b"\x89PNG\xff"
    assert copied.removeprefix("evidence/") in (target / "evidence" / "SHA256SUMS").read_text()
    assert found[GANG]["status"] == "Implemented"
    assert found[GANG]["evidence"] == [f"evidence/{GANG}.md", "https://acme.example/gang"]
    assert found[GANG]["notes"].endswith("not measured: on GPUs, too")
    assert found["ai_inference"]["status"] == "Implemented"
    assert found["ai_inference"]["evidence"][-1] == "https://acme.example/i"
    assert not found["pod_autoscaling"]["evidence"]
    out = " ".join(capsys.readouterr().out.split())
    assert "attested by Ada Example on 2026-11-25" in out
    assert "too old to be used" in out


def test_attested_evidence_is_redacted_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added, "now", lambda: NOW)
    run = stored(tmp_path)
    text = tmp_path / "seen.txt"
    text.write_text("worker-1 at 10.0.0.7")
    attest(run, METRICS, text, text="worker-1 had it")
    target = make(tmp_path, redacted=True)
    copied = target / "evidence" / "raw" / "attested" / f"{METRICS}-1-seen.txt"
    assert copied.read_text() == "node-1 at [address]"
    assert "node-1 had it" in items(target)[METRICS]["notes"]
    (target / "PRODUCT.yaml").unlink()
    text.write_bytes(b"\xff\xfe")
    attest(run, METRICS, text)
    with pytest.raises(StoreError, match="is not text, and --redact cannot hide"):
        make(tmp_path, redacted=True)


def test_an_attested_file_that_leaves_the_run_is_refused(tmp_path: Path) -> None:
    run = stored(tmp_path)
    index = run.folder / added.ATTESTED / "added.json"
    index.parent.mkdir(parents=True)
    said = Attested(requirement=METRICS, who="Ada", on=NOW.date(), file="../../../answers.yaml")
    (tmp_path / "answers.yaml").write_text("secret")
    index.write_text(f"[{said.model_dump_json()}]")
    with pytest.raises(StoreError, match="is not in"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "valid dictionary"),
        ("metadata: {colour: red}", "no checklist has 'colour'"),
        ("items: {flying: {status: N/A}}", "no checklist has 'flying'"),
        ("items: {gpu_sharing: {state: N/A}}", "items.gpu_sharing"),
        ("a: [", "not valid YAML"),
    ],
)
def test_answers_that_cannot_be_used_are_a_sentence(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "answers.yaml"
    file.write_text(text)
    with pytest.raises(ChecklistError, match=words):
        read_answers(file)
    with pytest.raises(ChecklistError, match="cannot be read"):
        read_answers(tmp_path / "gone.yaml")
    assert read_answers(None) == Answers()
