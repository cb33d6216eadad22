from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kar_checks import programme
from kar_checks.submission.document import Checklist
from kar_checks.submission.rules import Problem, check, read_artefact, result_of
from tests.unit.submission.templates import METADATA, template

Change = Callable[[str], str]


def complete(version: str = "1.37") -> str:
    """A checklist that the validator takes: every MUST implemented, every SHOULD left open."""
    text = template(version, base_conformance=True)
    for name, value in METADATA.items():
        text = re.sub(rf'(?m)^(  {name}: )"[^"]*"', rf'\1"{value}"', text)
    for one in programme.requirements(version):
        if one.level == "MUST":
            text = filled(text, one.id, "Implemented", "https://acme.example/evidence")
    return text


def filled(text: str, requirement: str, status: str, evidence: str = "", notes: str = "") -> str:
    """Fill the three fields of one requirement, whatever they held."""
    head, rest = text.split(f"- id: {requirement}\n")
    rest = re.sub(r"status: .*", f'status: "{status}"', rest, count=1)
    listed = f'["{evidence}"]' if evidence else "[]"
    rest = re.sub(r"evidence: .*", f"evidence: {listed}", rest, count=1)
    rest = re.sub(r"notes: .*", f'notes: "{notes}"', rest, count=1)
    return f"{head}- id: {requirement}\n{rest}"


def errors(text: str, folder: Path, rules: str = "") -> list[Problem]:
    found = check(Checklist(text), folder, rules or None)  # type: ignore[arg-type]
    return [one for one in found if one.severity == "error"]


@pytest.mark.parametrize("version", programme.versions())
def test_a_complete_checklist_has_no_fault(version: str, tmp_path: Path) -> None:
    assert check(Checklist(complete(version)), tmp_path) == []


GANG = "gang_scheduling"
OUTSIDE = "../../etc/passwd"
BROKEN: list[tuple[str, Change, str]] = [
    ("no version", lambda t: t.replace("  kubernetesVersion: v1.37\n", ""), "kubernetesVersion"),
    ("unknown version", lambda t: t.replace("v1.37", "v1.99"), "no checklist for Kubernetes 1.99"),
    ("placeholder", lambda t: t.replace('"Acme"', '"[Vendor Name]"'), "still holds the template's"),
    ("empty metadata", lambda t: t.replace('"Acme"', '""'), "metadata `vendorName` is empty"),
    ("a number", lambda t: t.replace('"2.0"', "2.0"), "must be text in quotes, not float"),
    (
        "open repository",
        lambda t: t.replace("https://acme.example/git", "[Repository URL]"),
        "`repoUrl` still holds",
    ),
    ("no base", lambda t: re.sub("  k8sConf.*\n", "", t), "`k8sConformanceUrl` is missing"),
    ("other base", lambda t: t.replace("cncf/k8s-conf", "acme/k8s-conf"), "product's folder in"),
    ("MUST open", lambda t: filled(t, GANG, ""), "is a MUST and has no status"),
    ("MUST not", lambda t: filled(t, GANG, "Not Implemented", "https://a.b"), "must be Impl"),
    ("own word", lambda t: filled(t, GANG, "Done", "https://a.b"), "status of gang_scheduling is"),
    ("MUST N/A", lambda t: filled(t, GANG, "N/A", notes="none"), "takes no N/A"),
    ("N/A, why", lambda t: filled(t, "gpu_sharing", "N/A", notes="  "), "without a justification"),
    (
        "SHOULD with evidence alone",
        lambda t: filled(t, "gpu_sharing", "", "https://a.b"),
        "has evidence, but no status",
    ),
    (
        "evidence that is one text",
        lambda t: re.sub(r'evidence: \["(.*)"\]', r'evidence: "\1"', t, count=1),
        "must be a list of texts",
    ),
    ("no file", lambda t: filled(t, GANG, "Implemented", "gone.md"), "there is no file gone.md"),
    (
        "outside",
        lambda t: filled(t, GANG, "Implemented", OUTSIDE),
        "leaves the submission's folder",
    ),
    ("missing", lambda t: re.sub(r"  operator:(.|\n)*", "", t), "robust_controller (MUST"),
    (
        "section",
        lambda t: t.replace("  operator:", "  networking2:"),
        "is in section networking2, not in operator",
    ),
    (
        "twice",
        lambda t: t.replace("- id: gpu_sharing", "- id: gang_scheduling"),
        "gang_scheduling appears twice",
    ),
]


@pytest.mark.parametrize(
    ("broken", "words"),
    [(change, words) for _, change, words in BROKEN],
    ids=[b[0] for b in BROKEN],
)
def test_a_broken_submission_is_refused_with_its_own_message(
    broken: Change, words: str, tmp_path: Path
) -> None:
    text = broken(complete())
    assert text != complete()
    found = errors(text, tmp_path)
    assert any(words in one.message for one in found), found


def test_each_of_more_than_twenty_faults_has_a_message_of_its_own() -> None:
    assert len({words for _, _, words in BROKEN}) == len(BROKEN) >= 20


def test_each_fault_has_its_line(tmp_path: Path) -> None:
    text = filled(complete(), "gang_scheduling", "Done", "https://a.b")
    (found,) = errors(text, tmp_path)
    assert text.splitlines()[found.line - 1][found.column - 1 :] == '"Done"'
    assert str(found).startswith(f"error: line {found.line}, column {found.column}: ")


def test_the_file_lies_in_the_folder_of_its_version(tmp_path: Path) -> None:
    right, wrong = tmp_path / "v1.37" / "acme", tmp_path / "v1.36" / "acme"
    for one in (right, wrong):
        one.mkdir(parents=True)
    assert errors(complete(), right) == []
    found = check(Checklist(complete()), wrong)
    assert any("is in v1.36/" in one.message for one in found if one.severity == "warning")


def test_an_item_of_nobody_is_a_warning(tmp_path: Path) -> None:
    text = complete().rstrip("\n") + "\n    - id: own_idea\n      level: MUST\n"
    (found,) = check(Checklist(text), tmp_path)
    assert (found.severity, "own_idea" in found.message) == ("warning", True)


def test_a_changed_description_is_a_warning_with_its_line(tmp_path: Path) -> None:
    text = complete().replace("One accelerator can", "One accelerator may")
    (found,) = check(Checklist(text), tmp_path)
    assert str(found).startswith("warning: line ")
    assert "the description of gpu_sharing is not the programme's" in found.message
    broken = complete().replace(" can serve", "\n          can serve")
    assert check(Checklist(broken), tmp_path) == [], "where its lines break is no matter"


def test_only_the_newer_validator_takes_autoscaling_as_not_applicable(tmp_path: Path) -> None:
    text = filled(complete(), "cluster_autoscaling", "N/A", notes="no autoscaler on bare metal")
    assert errors(text, tmp_path, "hybrid") == []
    (warning,) = check(Checklist(text), tmp_path, "hybrid")
    assert "older validator" in warning.message
    assert "takes no N/A" in errors(text, tmp_path, "strict")[0].message
    older = filled(complete("1.36"), "cluster_autoscaling", "N/A", notes="bare metal")
    assert errors(older, tmp_path) == [], "the newer rules apply to every version"


def test_only_the_newer_validator_takes_schemes_and_fragments(tmp_path: Path) -> None:
    home = tmp_path / "v1.37" / "acme"
    home.mkdir(parents=True)
    (home / "gang.md").write_text("seen")
    for entry in ("gang.md", "file://gang.md", "file://v1.37/acme/gang.md", "gang.md#part"):
        assert errors(filled(complete(), "gang_scheduling", "Implemented", entry), home) == []
    text = filled(complete(), "gang_scheduling", "Implemented", "file://gang.md")
    assert "plain path" in errors(text, home, "strict")[0].message
    assert errors(filled(complete(), GANG, "Implemented", "gang.md"), home, "strict") == []


JUNIT = """<testsuites><testsuite>
<testcase name="TestGangScheduling/fits"/><testcase name="TestGangScheduling/waits"/>
<testcase name="TestSecureAcceleratorAccess"><{}/></testcase></testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("entry", "requirement", "words"),
    [
        ("junit.xml", "gang_scheduling", ""),
        ("junit.xml#TestGangScheduling/fits", "gang_scheduling", ""),
        ("junit.xml#TestNothing", "gang_scheduling", "has no test TestNothing"),
        ("junit.xml", "secure_accelerator_access", "was skipped"),
        ("junit.xml", "cluster_autoscaling", "has no test TestAcceleratorClusterAutoscaling"),
    ],
)
def test_official_results_are_looked_up(
    entry: str, requirement: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT.format("skipped"))
    found = errors(filled(complete(), requirement, "Implemented", entry), tmp_path)
    assert bool(words) == bool(found), found
    assert all(words in one.message for one in found)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("junit.xml", JUNIT.format("failure"), "TestSecureAcceleratorAccess failed, which refuses"),
        ("JUnit.xml", "<a", "not XML"),
        ("junit.xml", "<!DOCTYPE a><a/>", "document type is not read"),
        ("results.json", '{"Action": "fail", "Test": "TestX"}\n', "TestX failed, which refuses"),
        ("results.json", '{"passed": 3}\n[]\n', "line 2 is not a Go test event"),
        ("e2e.log", "--- PASS: TestA (1s)\n    --- FAIL: TestA/b (0s)\n", "TestA/b failed"),
    ],
)
def test_an_artefact_that_failed_or_is_none_refuses_everything(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    (found,) = errors(complete(), tmp_path)
    assert words in found.message
    (found,) = errors(complete("1.36"), tmp_path)
    assert words in found.message, "the newer rules apply to every version"
    assert errors(complete("1.36"), tmp_path, "strict") == []


def test_subtests_stand_for_their_parent(tmp_path: Path) -> None:
    log = tmp_path / "e2e.log"
    log.write_text("    --- PASS: T/a (0s)\n    --- SKIP: T/b (0s)\n--- SKIP: U/a (0s)\nnoise\n")
    found = read_artefact(log)
    assert [result_of(found, name) for name in ("T", "U", "V")] == ["pass", "skip", None]
