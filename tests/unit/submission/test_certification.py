"""A submission over a week of runs, and what the validators and readers of its files would say."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kar_checks import added, programme
from kar_checks.added import Attested
from kar_checks.commands import add, submission
from kar_checks.model import Finding, Outcome
from kar_checks.store import StoredRun
from kar_checks.submission import fill
from kar_checks.submission.document import Checklist
from kar_checks.submission.online import unreachable
from kar_checks.submission.redaction import known_values, redactor
from kar_checks.submission.rules import check, read_artefact
from kar_checks.submission.runs import MixedRunsError
from tests.unit.report import samples
from tests.unit.submission import recorded
from tests.unit.submission.templates import METADATA, template
from tests.unit.submission.test_rules import complete, errors, filled

GANG = "gang_scheduling"
SECURE = "secure_accelerator_access"
METRICS = "accelerator_metrics"
MONDAY = samples.START
FAILING = "gang.all_or_nothing"


class _Clock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return (MONDAY + timedelta(days=4)).astimezone(tz)


@pytest.fixture(autouse=True)
def judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judges say what each stored run says."""
    monkeypatch.setattr(fill, "topics", recorded.topics)
    monkeypatch.setattr(fill, "_not_following", lambda run: next(iter(run.damaged.values()), ""))
    monkeypatch.setattr(submission, "datetime", _Clock)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def measured(
    parent: Path,
    day: int,
    *,
    failing: str = "",
    only: str = "",
    **changes: Any,
) -> StoredRun:
    """A run of a day of the week: everything, or ``only`` the checks that begin so."""
    sample = samples.passed()
    chosen = [one for one in sample.findings if one.check.startswith(only)]
    sample.findings = [_failed(one) if one.check == failing else one for one in chosen]
    started = MONDAY + timedelta(days=day)
    sample.info = sample.info.model_copy(
        update={
            "id": f"{started:%Y%m%d-%H%M%S}-0000",
            "started": started,
            "finished": started + timedelta(minutes=5),
            "selection": sorted({one.check for one in chosen}),
            **changes,
        }
    )
    return sample.write(parent)


def _failed(finding: Finding) -> Finding:
    return finding.model_copy(
        update={"outcome": Outcome.FAIL, "reason": "bound", "summary": "it bound 2 of 3 pods"}
    )


def new(runs: Path, *given: StoredRun, **options: Any) -> Path:
    target = runs.parent / "v1.37" / "acme"
    checklist = runs.parent / "checklist.yaml"
    if not checklist.exists():
        checklist.write_text(template("1.37"), "utf-8")
    if "answers" in options:
        file = runs.parent / "answers.yaml"
        file.write_text(yaml.safe_dump(options.pop("answers")))
        options["answers_file"] = file
    code = submission.new([one.info.id for one in given], runs, checklist, target, **options)
    assert code == 0
    return target


def items(target: Path) -> dict[str, Any]:
    content = yaml.safe_load((target / "PRODUCT.yaml").read_text("utf-8"))
    return {one["id"]: one for section in content["spec"].values() for one in section}


def junit(folder: Path, **tests: str) -> Path:
    cases = "".join(
        f'<testcase name="{name}">{f"<{tag}/>" if tag else ""}</testcase>'
        for name, tag in tests.items()
    )
    path = folder / "junit.xml"
    path.write_text(f"<testsuites><testsuite name='s'>{cases}</testsuite></testsuites>", "utf-8")
    return path


OTHERS = {
    one.id: {"status": "Implemented", "evidence": ["https://acme.example/proof"], "notes": "docs"}
    for one in programme.requirements("1.37")
    if one.level == "MUST" and one.id not in (GANG, SECURE, METRICS)
}


# -- the rules of both generations, written once more from the programme's own description ---------


def refused_by(text: str, folder: Path, *, newer: bool) -> list[str]:
    """What a validator that reads PRODUCT.yaml as plain data refuses."""
    data = yaml.safe_load(text)
    meta = {key.replace("_", "").lower(): value for key, value in data["metadata"].items()}
    out: list[str] = []
    for name in METADATA:
        value = meta.get(name.lower())
        if not isinstance(value, str) or not value.strip() or re.fullmatch(r"\[.*\]", value):
            out.append(f"metadata {name}")
    listed = {one["id"]: one for section in data["spec"].values() for one in section}
    for wanted in programme.requirements("1.37"):
        item = listed.get(wanted.id)
        if item is None:
            out.append(f"{wanted.id} missing")
            continue
        status, evidence = item.get("status") or "", item.get("evidence") or []
        if wanted.level == "SHOULD" and not status and not evidence:
            continue
        if not status:
            out.append(f"{wanted.id} has no status")
        exempt = newer and wanted.id == "cluster_autoscaling" and status == "N/A"
        if wanted.level == "MUST" and status != "Implemented" and not exempt:
            out.append(f"{wanted.id} is {status}")
        if status == "N/A" and not str(item.get("notes") or "").strip():
            out.append(f"{wanted.id} has no justification")
        for one in evidence:
            if one.startswith("http"):
                continue
            path = one.removeprefix("file://").partition("#")[0] if newer else one
            if not (folder / path).is_file():
                out.append(f"{wanted.id}: {one}")
    return out


def test_a_week_ends_in_a_folder_that_the_validators_accept(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Monday a MUST fails, Tuesday it is fixed and run alone, then attested, then official."""
    answers = {"metadata": METADATA, "items": OTHERS}
    monday = measured(runs, 0, failing=FAILING)
    target = new(runs, monday, answers=answers)
    assert items(target)[GANG]["status"] == "Partially Implemented"
    assert "must be Implemented" in str(errors((target / "PRODUCT.yaml").read_text(), target))

    tuesday = measured(runs, 1, only="gang")
    new(runs, monday, tuesday)
    found = items(target)[GANG]
    assert found["status"] == "Implemented"
    assert tuesday.info.id in found["notes"] and monday.info.id not in found["notes"]
    assert all((target / path).is_file() for path in found["evidence"])

    said = Attested(
        requirement=METRICS, who="Ada", on=(MONDAY + timedelta(days=2)).date(), text="seen"
    )
    added.attest(tuesday, said, None)
    new(
        runs,
        monday,
        tuesday,
        answers={
            "items": {METRICS: {"status": "Implemented", "evidence": ["https://acme.example/m"]}}
        },
    )
    assert items(target)[METRICS]["status"] == "Implemented"
    assert "Ada" in items(target)[METRICS]["notes"]

    add.add_official(
        tuesday.info.id, runs, [junit(tmp_path, TestSecureAcceleratorAccess="", TestOther="")]
    )
    capsys.readouterr()
    new(runs, monday, tuesday)
    told = " ".join(capsys.readouterr().out.split())
    assert "go test ./test/... -v -run '^TestSecureAcceleratorAccess$'" in told
    secure = items(target)[SECURE]
    assert secure["status"] == "Implemented"
    assert secure["evidence"] == ["junit.xml#TestSecureAcceleratorAccess"]
    assert (target / "junit.xml").is_file()

    text = (target / "PRODUCT.yaml").read_text("utf-8")
    assert [str(one) for one in errors(text, target)] == []
    assert refused_by(text, target, newer=True) == []
    # The older generation reads a fragment as part of the file's name, and nothing else stops it.
    assert refused_by(text, target, newer=False) == [
        f"{SECURE}: junit.xml#TestSecureAcceleratorAccess"
    ]


def test_one_check_that_was_run_again_alone_is_enough(runs: Path) -> None:
    monday = measured(runs, 0, failing=FAILING)
    tuesday = measured(runs, 1, only=FAILING)
    target = new(runs, monday, tuesday)
    found = items(target)[GANG]
    assert found["status"] == "Implemented"
    assert [monday.info.id in one for one in sorted(found["evidence"])] == [True, False]


def test_a_newer_failure_always_wins_over_an_older_pass(runs: Path) -> None:
    monday = measured(runs, 0)
    tuesday = measured(runs, 1, only=FAILING, failing=FAILING)
    assert items(new(runs, tuesday, monday))[GANG]["status"] == "Partially Implemented"


def test_a_newer_failure_in_a_run_that_did_not_end_leaves_the_row_open(runs: Path) -> None:
    monday = measured(runs, 0)
    tuesday = measured(runs, 1, failing=FAILING, finished=None)
    assert items(new(runs, monday, tuesday))[GANG]["status"] == ""


@pytest.mark.parametrize("what", ["cluster", "Kubernetes minor", "suite version"])
def test_runs_that_do_not_belong_together_are_refused(what: str, runs: Path) -> None:
    place = samples.passed().info.environment
    changes: dict[str, dict[str, Any]] = {
        "cluster": {"environment": place.model_copy(update={"cluster_uid": "another"})},
        "Kubernetes minor": {"kubernetes_minor": "1.36"},
        "suite version": {"suite_version": "0.0.9"},
    }
    given = [measured(runs, 0), measured(runs, 1, **changes[what])]
    with pytest.raises(MixedRunsError, match=f"differ in the {what}"):
        new(runs, *given)


def test_what_a_person_edited_is_not_replaced(runs: Path) -> None:
    target = new(runs, measured(runs, 0, failing=FAILING))
    file = target / "PRODUCT.yaml"
    file.write_text(file.read_text("utf-8").replace("Partially Implemented", "Implemented"))
    before = file.read_bytes()
    new(runs, measured(runs, 1, only="gang"))
    assert file.read_bytes() == before


def test_an_attestation_outlives_its_run(runs: Path) -> None:
    monday = measured(runs, 0)
    said = Attested(requirement=METRICS, who="Ada", on=MONDAY.date(), link="https://acme.example/x")
    added.attest(monday, said, None)
    target = new(runs, measured(runs, 1))
    assert items(target)[METRICS]["evidence"] == ["https://acme.example/x"]


# -- the official suite ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["skipped", "contradicted"])
def test_a_skipped_or_contradicted_official_test_is_left_to_the_user(
    how: str, runs: Path, tmp_path: Path
) -> None:
    run = measured(runs, 0, failing=FAILING if how == "contradicted" else "")
    tag = "skipped" if how == "skipped" else ""
    add.add_official(run.info.id, runs, [junit(tmp_path, TestGangScheduling=tag)])
    found = items(new(runs, run))[GANG]
    assert found["status"] == ""
    assert "TestGangScheduling of the official suite" in found["notes"]
    assert "This suite:" in found["notes"]
    assert "junit.xml#TestGangScheduling" in found["evidence"]


def test_an_artefact_with_a_failing_test_is_not_copied(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(runs, 0)
    file = junit(tmp_path, TestSecureAcceleratorAccess="", TestWorkloadSandboxing="failure")
    add.add_official(run.info.id, runs, [file])
    capsys.readouterr()
    target = new(runs, run)
    assert not (target / "junit.xml").exists()
    assert items(target)[SECURE]["status"] == ""
    told = " ".join(capsys.readouterr().out.split())
    assert "is not copied: TestWorkloadSandboxing failed in it" in told


# -- files that must not leave, or must be readable ------------------------------------------------


def test_a_link_in_the_evidence_is_not_followed(runs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not publish", "utf-8")
    run = measured(runs, 0)
    (run.folder / "evidence" / "gang" / "more.log").symlink_to(secret)
    (run.folder / "evidence" / "gang" / "etc").symlink_to("/etc")
    target = new(runs, StoredRun(run.folder))
    texts = [one.read_text("utf-8") for one in target.rglob("*") if one.is_file()]
    assert len(texts) > 2
    assert not any("do not publish" in one for one in texts)
    assert not list(target.rglob("hostname"))


BLANK = (
    "metadata:\n  kubernetesVersion: v1.37\n  platformName: Acme\n  contactEmailAddress:\n"
    "spec:\n  networking:\n  - id: gang_scheduling\n    level: MUST\n    status:\n"
    "    evidence:\n    notes:\n"
)


@pytest.mark.parametrize(
    "text",
    [
        BLANK,
        BLANK.replace("status:", "status: # fill in"),
        BLANK.replace("evidence:", "evidence: # a list"),
        BLANK.replace("status:", "status: ~"),
        BLANK.replace("notes:", "notes: null  # x"),
        BLANK.replace("\n", "\r\n"),
    ],
)
def test_keys_left_blank_are_filled_and_read_back(text: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "checklist.yaml").write_bytes(text.encode())
    target = new(
        runs, measured(runs, 0), answers={"metadata": {"contactEmailAddress": "a@acme.example"}}
    )
    content = yaml.safe_load((target / "PRODUCT.yaml").read_bytes())
    assert content["metadata"]["contactEmailAddress"] == "a@acme.example"
    (item,) = content["spec"]["networking"]
    assert item["status"] == "Implemented"
    assert item["evidence"] == ["evidence/gang_scheduling.md"]
    assert run_id_in(item["notes"])


def run_id_in(notes: str) -> bool:
    return bool(re.search(r"run \d{8}-\d{6}-0000", notes))


@pytest.mark.parametrize(
    "note",
    [
        "bell \x07",
        "delete \x7f",
        "c1 \x9b",
        "next line \x85",
        "not one \ufffe",
        "bom \ufeff",
        "\ud800",
    ],
)
def test_a_note_of_any_characters_can_be_read_back(note: str) -> None:
    document = Checklist(BLANK)
    text = document.edited([document.filled(document.items[0], "notes", note)])
    text.encode()
    value = yaml.safe_load(text)["spec"]["networking"][0]["notes"]
    assert value == note.replace("\ud800", "\ufffd")


def test_the_repository_is_asked_for_and_its_placeholder_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = complete()
    assert '"https://acme.example/git"' in text
    open_ = text.replace("https://acme.example/git", "[Repository URL]")
    for rules in ("strict", "hybrid"):
        assert any("`repoUrl` still holds" in one.message for one in errors(open_, tmp_path, rules))
    given = {key: value for key, value in METADATA.items() if key != "repoUrl"}
    new(runs, measured(runs, 0), answers={"metadata": given})
    assert "Only you know: metadata repoUrl." in capsys.readouterr().out


# -- what the validators accept --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("kubernetesVersion: v1.37", "kubernetesVersion: v1.37.3"),
        lambda t: t.replace("https://acme.example/git", "N/A"),
        lambda t: t.replace("k8s@acme.example", "see our website"),
        lambda t: t.replace("level: MUST", "level: SHOULD", 1),
        lambda t: filled(t, GANG, "Implemented", notes="Kueue, see the documentation"),
    ],
    ids=["patch release", "no repository", "no address", "level", "text in notes"],
)
def test_what_the_validators_accept_is_a_warning(change: Any, tmp_path: Path) -> None:
    text = change(complete())
    assert text != complete()
    found = check(Checklist(text), tmp_path)
    assert found and {one.severity for one in found} == {"warning"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("e2e.log", b"Ran 12 of 7000 Specs in 9 seconds\nSUCCESS!\n", "no result of a Go test"),
        (
            "e2e.log",
            b"--- FAIL: TestX (1s)\n--- PASS: TestX (1s)\n",
            "TestX failed",
        ),
        (
            "e2e.log",
            b"--- PASS: TestX (1s)\nFAIL\tsigs.k8s.io/suite 9s\n",
            "sigs.k8s.io/suite failed",
        ),
        ("e2e.log", b"--- PASS: TestX (1s)\npanic: test timed out\n", "panicked failed"),
        (
            "results.json",
            b'{"Action":"pass","Test":"TestX"}\n{"Action":"fail","Package":"p/q"}\n',
            "p/q failed",
        ),
        (
            "results.json",
            b'{"Action":"fail","Test":"TestX"}\n{"Action":"pass","Test":"TestX"}\n',
            "TestX failed",
        ),
        (
            "results.json",
            b'{"Action":"pass","Test":"TestX"}\n{"Action":"build-fail","ImportPath":"p/q"}\n',
            "p/q failed",
        ),
        (
            "junit.xml",
            b'<testsuite name="s" errors="1"><testcase name="TestX"/></testsuite>',
            "s failed",
        ),
        (
            "junit.xml",
            b'<testsuite><testcase name="T"><failure/></testcase><testcase name="T"/></testsuite>',
            "T failed",
        ),
    ],
)
def test_an_artefact_is_not_read_laxly(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (found,) = errors(complete(), tmp_path)
    assert words in found.message


def test_an_artefact_in_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    text = '<?xml version="1.0" encoding="ISO-8859-1"?><testsuite><testcase name="é"/></testsuite>'
    path.write_bytes(text.encode("iso-8859-1"))
    assert read_artefact(path) == {"é": "pass"}
    log = tmp_path / "e2e.log"
    log.write_bytes("--- PASS: TestÉ (1s)\n".encode("iso-8859-1"))
    assert read_artefact(log) == {"TestÉ": "pass"}


class _Site(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        status = {"/gone": 404, "/busy": 429, "/moved": 302}.get(self.path, 200)
        if self.path == "/no-head" and self.command == "HEAD":
            status = 405
        self.server.agents.add(self.headers["User-Agent"])  # type: ignore[attr-defined]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/here")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@pytest.fixture
def site() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.agents = set()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_online_each_url_is_requested_as_the_validator_does(
    site: http.server.ThreadingHTTPServer,
) -> None:
    base = f"http://127.0.0.1:{site.server_address[1]}"
    text = complete().replace("https://acme.example", base)
    text = text.replace("https://github.com/cncf", base)
    assert unreachable(Checklist(text)) == []
    assert all("kar-checks" in one for one in site.agents)  # type: ignore[attr-defined]
    for path, severity, words in (
        ("/gone", "error", "answers 404"),
        ("/busy", "warning", "answers 429"),
    ):
        (found,) = unreachable(Checklist(text.replace(f"{base}/docs", f"{base}{path}")))
        assert (found.severity, words in found.message) == (severity, True)
    for path in ("/moved", "/no-head"):
        assert unreachable(Checklist(text.replace(f"{base}/docs", f"{base}{path}"))) == []
    (dead,) = unreachable(Checklist(text.replace(f"{base}/docs", "http://127.0.0.1:1/x")), 2)
    assert "does not answer" in dead.message


# -- hiding where a run took place -----------------------------------------------------------------

RECORDED = Path(__file__).parents[1] / "recorded" / "run-0.1.0"


def test_no_value_that_a_run_knows_is_left_after_redaction(runs: Path) -> None:
    run = StoredRun(RECORDED)
    known = known_values(run)
    assert {"kar1", "kar2", "kar3", run.info.environment.cluster_uid} <= known.keys()
    assert sum(word == "[address]" for word in known.values()) > 5
    redact = redactor(run)
    for path in RECORDED.rglob("*.json"):
        text = redact(path.read_text("utf-8"))
        assert [value for value in known if value in text] == []


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("at 10.0.0.5.", "at [address]."),
        ("fd00::1a2b", "[address]"),
        ("by 2001:db8::5, then", "by [address], then"),
        ("http://[2001:db8::5]:8000/v1", "http://[[address]]:8000/v1"),
        ("64:ff9b::a00:5", "[address]"),
        ("ip-10-0-3-17.example.internal", "[host]"),
        ("00:1a:2b:3c:4d:5e", "[mac]"),
        ("slice kar1-dra.net-x7k", "slice node-1-dra.net-x7k"),
        ("0fcf5b0e-8d5e-4c4e-9d0f-1f8e3f1b2a3c", "[uid]"),
        ("started at 10:15:04, ratio 80:20", "started at 10:15:04, ratio 80:20"),
        ("Kubernetes v1.37.0, tests::name", "Kubernetes v1.37.0, tests::name"),
    ],
)
def test_what_has_the_form_of_an_address_is_hidden(text: str, hidden: str) -> None:
    assert redactor(StoredRun(RECORDED))(text) == hidden


def test_a_redacted_submission_holds_no_known_value(runs: Path) -> None:
    run = measured(runs, 0)
    (run.folder / "evidence" / "gang" / f"{run.info.environment.nodes[0].name}.log").write_text(
        f"pod on {run.info.environment.nodes[0].name} at fd00::1\n", "utf-8"
    )
    target = new(runs, StoredRun(run.folder), redacted=True)
    known = known_values(run)
    for path in target.rglob("*"):
        name = str(path.relative_to(target))
        assert [value for value in known if value in name] == []
        if path.is_file():
            text = path.read_text("utf-8")
            assert [value for value in known if value in text] == []
            assert "fd00::1" not in text
