"""The page says what the records say: no more, nothing else, and nothing dangerous."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from pathlib import Path
from tempfile import mkdtemp

import pytest

from kar_checks import profile
from kar_checks.model import Command, Evidence, Outcome, TopicInfo
from kar_checks.report import html, write_all
from kar_checks.report.view import Scorecard, Tally
from kar_checks.store import StoredRun
from tests.unit.report import samples

SAMPLES = ("passed", "troubled", "hostile")


@cache
def _folder(name: str) -> Path:
    """Tests only read these, so that each is written once."""
    sample: samples.Sample = getattr(samples, name)()
    return sample.write(Path(mkdtemp())).folder


def run_of(name: str) -> StoredRun:
    return StoredRun(_folder(name))


@cache
def page_of(name: str) -> str:
    return html.render(run_of(name))


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", body)))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_parts_of_each_sentence_add_up(name: str) -> None:
    card = Scorecard(run_of(name))
    tallies = [*card.levels, *(topic.tally for topic in card.topics)]
    for tally in tallies:
        total, _, parts = tally.sentence.rpartition(": ")[2].partition(" — ")
        numbers = [int(number) for number in re.findall(r"(\d+) [a-z]", parts)]
        assert sum(numbers) == int(total.split()[0]) == tally.total


def test_a_passed_run_reads_as_designed() -> None:
    run, page = run_of("passed"), page_of("passed")
    assert [one.sentence for one in Scorecard(run).levels] == [
        "MUST: 8 requirements — 1 passed, 0 failed, 0 inconclusive, 7 without a check here",
        "SHOULD: 7 requirements — 0 passed, 0 failed, 0 inconclusive, 7 without a check here",
    ]
    text = text_of(page)
    assert "8 requirements — 1 passed, 0 failed, 0 inconclusive, 7 without a check here" in text
    assert "13 checks — 13 passed, 0 failed, 0 inconclusive" in text
    assert "Any one of these is enough: native passed." in text
    assert "kar run gang.all_or_nothing --context research-eu-1" in text


def test_every_outcome_has_its_part_in_a_sentence() -> None:
    every = ["pass", "fail", "inconclusive", "error", "not_applicable", "skipped", "not_run"]
    tally = Tally("MUST", "requirement", [*every, "unknown"])
    assert sum(number for _, _, number in tally.parts) == tally.total == 8


def test_a_topic_without_requirement_counts_among_no_level() -> None:
    card = Scorecard(run_of("passed"))
    assert [topic.info.id for topic in card.beyond] == ["resize"]
    assert sum(one.total for one in card.levels) == len(card.run.requirements)


def test_simulated_evidence_is_labelled_and_told_in_the_sentence(tmp_path: Path) -> None:
    sample = samples.passed()
    sample.findings = [
        one.model_copy(update={"evidence": Evidence.SIMULATED}) for one in sample.findings
    ]
    page = html.render(sample.write(tmp_path))
    text = text_of(page)
    assert "1 of those passed on simulated evidence" in text
    assert "Simulated evidence." in text
    assert "The evidence is too weak to count as implemented." in text


def test_troubles_are_told_and_lead_to_something_to_do() -> None:
    run, page = run_of("troubled"), page_of("troubled")
    text = text_of(page)
    assert "This run was ended early by signal SIGTERM" in text
    assert "Embedded local cluster." in text
    assert "its finalizer example.com/hold was not removed in 90 s" in text
    assert "--max-disruption none was given" in text
    assert "Exit code 10" in text
    steps = [step.text for step in Scorecard(run).steps]
    assert steps[0].startswith("Remove 1 object")
    assert steps[2] == "The status says 200m, but cpu.max still allows 400m after 60 s"
    assert steps[3].startswith("The suite could not measure: ")
    assert steps[4] == "Resolve inconclusive checks"


def test_findings_with_one_remedy_are_one_step() -> None:
    steps = Scorecard(run_of("troubled")).steps
    (error,) = [step for step in steps if step.outcome == "error" and step.advice]
    assert len(error.rows) == 2


def test_a_check_without_finding_is_shown_as_not_run(tmp_path: Path) -> None:
    sample = samples.passed()
    del sample.findings[-1]
    checks = [one for topic in Scorecard(sample.write(tmp_path)).topics for one in topic.checks]
    assert [one.finding.outcome for one in checks].count(Outcome.NOT_RUN) == 1
    assert len(checks) == 18


def _with_own_stack(outcome: Outcome | None) -> samples.Sample:
    """A requirement with a topic of ours and one on the user's stack."""
    sample = samples.passed()
    own = TopicInfo(
        id="stack",
        title="Your own stack",
        label="KAR-53",
        requirement="gang_scheduling",
        evidence=Evidence.REAL,
        asked_by="stack.url",
        ask="pass its address with --target-url",
    )
    check = sample.info.checks[-1].model_copy(update={"id": "stack.works", "topic": "stack"})
    chosen = [*sample.info.selection, check.id] if outcome else sample.info.selection
    sample.info = sample.info.model_copy(
        update={
            "topics": [*sample.info.topics, own],
            "checks": [*sample.info.checks, check],
            "selection": chosen,
            "profile": profile.load(None, ["stack.url=http://r.serving.svc"]).model_dump(
                mode="json"
            ),
        }
    )
    if outcome:
        update = {"check": check.id, "variant": "", "outcome": outcome, "evidence": Evidence.REAL}
        sample.findings.append(sample.findings[-1].model_copy(update=update))
    return sample


def test_both_levels_stand_side_by_side_and_the_better_one_decides(tmp_path: Path) -> None:
    run = _with_own_stack(Outcome.FAIL).write(tmp_path)
    (row,) = [one for one in Scorecard(run).requirements if len(one.topics) == 2]
    assert (row.result.outcome.value, row.result.evidence) == ("fail", Evidence.REAL)
    text = text_of(html.render(run))
    assert (
        "It rests on the best evidence of the run. Gang scheduling: passed on synthetic "
        "evidence; Your own stack: failed on real evidence."
    ) in text
    assert "kar run stack.works --set stack.url=http://r.serving.svc --context" in text


def test_what_was_not_asked_for_leaves_the_other_level_and_says_how(tmp_path: Path) -> None:
    run = _with_own_stack(None).write(tmp_path)
    (row,) = [one for one in Scorecard(run).requirements if len(one.topics) == 2]
    assert (row.result.outcome.value, row.result.evidence) == ("pass", Evidence.SYNTHETIC)
    assert "It was not selected: pass its address with --target-url." in text_of(html.render(run))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_link_inside_the_page_leads_somewhere_once(name: str) -> None:
    page = page_of(name)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert set(wanted) <= set(ids)


@pytest.mark.parametrize("name", SAMPLES)
def test_it_is_small_and_the_same_every_time(name: str) -> None:
    page = page_of(name)
    assert len(page.encode()) < 2_000_000
    assert html.render(run_of(name)) == page


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_loaded_and_no_script_is_there(name: str) -> None:
    page = page_of(name)
    assert "<script" not in page
    assert not re.findall(r"<(?:img|iframe|object|embed|base|form)\b", page)
    assert not re.findall(r"<[^>]*\son[a-z]+\s*=\s*[^>]*>", re.sub(r'"[^"]*"', '""', page))
    assert not re.findall(r'(?:src|xlink:href)="(?!#)', page)
    assert not re.findall(r"@import|url\((?!#)", page)
    assert re.findall(r'<link rel="([^"]*)" href="([a-z]+:)', page) == [("icon", "data:")]


def test_what_a_cluster_names_is_text_and_shows_its_hidden_characters() -> None:
    page = page_of("hostile")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "⟨U+202E⟩" in page
    assert "⟨U+001B⟩" in page
    assert not set("\u202e\u2066\x1b\x00") & set(page)
    assert "{{ 7*7 }} ]]&gt;" in page
    assert "n" * 1600 not in page


@pytest.mark.parametrize("name", SAMPLES)
def test_it_claims_nothing_that_only_the_programme_may_say(name: str) -> None:
    text = text_of(page_of(name)).lower()
    assert "certified" not in text
    assert not re.findall(r"\bconformant\b", text)
    assert "no certification" in text


def test_no_secret_reaches_a_rendered_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/CANARY-1/.kube/config")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY-2")
    sample = samples.passed()
    env = sample.info.environment.model_copy(
        update={"options": {"registry_password": "CANARY-3", "namespace": "kar"}}
    )
    sample.info = sample.info.model_copy(
        update={
            "environment": env,
            "profile": {**sample.info.profile, "target": {"pull_secret": "CANARY-4"}},
        }
    )
    leaky = (
        "Authorization: Bearer CANARY-5.abcdefghijkl\n"
        "eyJhbGciOiJSUzI1NiJ9.eyJDQU5BUlktNiI6MX0.CANARY-6\n"
        "DB_PASSWORD=CANARY-7 https://user:CANARY-8@registry.example/ \n"
        '{"name": "API_KEY", "value": "CANARY-9"}\n'
        "-----BEGIN RSA PRIVATE KEY-----\nCANARY-10"
    )
    command = Command(
        at=samples.START,
        pod="p",
        argv=["curl", "--token", "CANARY-11", "https://10.0.0.1"],
        exit_code=0,
        stdout=leaky,
        stderr=leaky,
    )
    sample.observations = [
        one.model_copy(update={"commands": [command], "disturbances": [leaky]})
        for one in sample.observations
    ]
    sample.findings[0] = sample.findings[0].model_copy(
        update={"outcome": Outcome.ERROR, "summary": leaky, "help": leaky}
    )
    run = sample.write(tmp_path)
    run_folder = run.folder
    (run_folder / "evidence" / "raw.txt").write_text("CANARY-12")
    stored = run_folder / "observations" / "gang.json"
    stored.write_text(stored.read_text().replace("{", '{"kubeconfig": "CANARY-13",', 1))
    for path in write_all(run_folder):
        assert not re.findall(r"CANARY[^ <]*", path.read_text()), path.name


def test_a_finding_shows_the_raw_files_of_its_own_variant(tmp_path: Path) -> None:
    sample = samples.passed()
    kept = sample.findings[0].model_copy(update={"variant": "default/net1"})
    sample.findings[0] = kept
    run = sample.write(tmp_path)
    for folder in ("default-net1", "pod-network"):
        path = run.folder / "evidence" / kept.trial / folder
        path.mkdir()
        (path / "raw.json").write_text("{}")
    topics = Scorecard(StoredRun(run.folder)).topics
    found = {
        (one.info.id, one.finding.variant): {name for name, _, _ in one.files}
        for topic in topics
        for one in topic.checks
        if one.finding.trial == kept.trial
    }
    common = {f"observations/{kept.trial}.json", f"evidence/{kept.trial}/pod.log"}
    mine = found.pop((kept.check, "default/net1"))
    assert mine == {*common, f"evidence/{kept.trial}/default-net1/raw.json"}
    assert found
    assert all(one == common for one in found.values())


def test_links_to_raw_files_follow_the_place_of_the_page(tmp_path: Path) -> None:
    run = samples.passed().write(tmp_path / "runs")
    inside, outside = run.folder / "scorecard.html", tmp_path / "elsewhere" / "page.html"
    html.write(run, inside)
    html.write(run, outside)
    assert 'href="observations/gang.json"' in inside.read_text()
    assert f'href="../runs/{run.info.id}/observations/gang.json"' in outside.read_text()


def test_a_run_that_was_killed_before_its_first_finding_is_rendered(tmp_path: Path) -> None:
    sample = samples.passed()
    sample.info = sample.info.model_copy(update={"finished": None, "exit_code": None, "costs": []})
    sample.observations, sample.findings = [], []
    text = text_of(html.render(sample.write(tmp_path)))
    assert "ended early by an unknown cause" in text
    assert "1 not run" in text
