"""The linter for plain English sees what people read, and allows what has a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from scripts import english

STYLE = (
    "the check tells the reason",
    "as the page says",
    "the network that is there",
    "what stands in the way",
    "judge it by another profile",
    "an image named by --image",
    "it ends, so that others can start",
    "this one, too",
    "it ends without that anybody noticed",
    "changes the run not",
    "it was mended",
    "it was made anew",
    "tried once more",
    "undecided",
    "a harness error",
    "a person's evidence",
    "the witness",
    "a canary",
    "the arena",
    "the bench",
    "the crew",
    "a squeeze",
    "the contest",
)


@pytest.mark.parametrize("text", STYLE)
def test_each_turn_of_the_style_guide_is_found(text: str) -> None:
    one = english.Text("kar_checks/some.py:1", text)
    assert [hit for rule in english.rules() for hit in rule.hits(one)]


def test_every_exception_has_its_reason() -> None:
    for rule in yaml.safe_load(english.LIST.read_text("utf-8"))["rules"]:
        assert rule["write"]
        for one in rule.get("except", ()):
            assert one["reason"] and (one.get("text") or one.get("in"))


def test_an_exception_holds_for_its_text_and_its_place_alone() -> None:
    rule = english.Rule(
        re.compile("tell"), "report", (english.Allowed("a reason", "tell me", "a/*.py"),)
    )
    assert list(rule.hits(english.Text("a/b.py:3", "please tell me"))) == []
    assert list(rule.hits(english.Text("a/b.py:3", "please tell"))) == ["tell"]
    assert list(rule.hits(english.Text("c/b.py:3", "please tell me"))) == ["tell"]


def test_it_reads_help_messages_yaml_templates_and_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(english, "ROOT", tmp_path)
    code = tmp_path / "code.py"
    code.write_text(
        '"""Tells."""\nraise ValueError(f"the page {1} says so")\nkey["no prose here"]\n'
    )
    assert list(english.literals(code)) == [("code.py:2", "the page {…} says so")]
    data = tmp_path / "words.yaml"
    data.write_text("one:\n  summary: it took {wants:.1f} s\n")
    assert list(english.values(data)) == [("words.yaml:2", "it took {…} s")]
    page = tmp_path / "page.j2"
    page.write_text("{# told #}\n<p class='says'>It {{ said }} reports</p>\n")
    assert [one.text for one in english.template(page)] == ["It … reports"]
    told = tmp_path / "told.md"
    told.write_text("First `says`\nline\n\n```\nit says\n```\n")
    assert [one.text for one in english.document(told, told.read_text())] == ["First `…` line"]
    places = {one.place for one in english.helps()}
    assert {"kar judge --help", "kar images mirror --execute"} <= places
