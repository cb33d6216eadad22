from __future__ import annotations

import difflib

import pytest
import yaml

from kar_checks import programme
from kar_checks.submission.document import Checklist, ChecklistError
from tests.unit.submission.templates import template


@pytest.mark.parametrize("version", programme.versions())
def test_a_template_is_read_with_every_requirement_and_its_place(version: str) -> None:
    found = Checklist(template(version))
    wanted = programme.requirements(version)
    assert {one.id for one in found.items} == {one.id for one in wanted}
    lines = found.text.splitlines()
    for item in found.items:
        assert lines[item.line - 1].strip() == f"- id: {item.id}"
        status = item.fields["status"]
        assert lines[status.line - 1][status.column - 1 :] == '""'


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_an_edit_changes_nothing_but_its_own_place(line_end: str) -> None:
    text = template("1.37").replace("\n", line_end)
    found = Checklist(text)
    item = found.item("gang_scheduling")
    assert item is not None
    new = found.edited(
        [
            found.filled(item, "status", "Implemented"),
            found.filled(item, "evidence", ["evidence/gang.md", "a: b # c"]),
            found.filled(item, "notes", 'He said "7 of 7": yes\nand no'),
            found.with_metadata("platformVersion", "1.0"),
            found.with_metadata("k8sConformanceUrl", "https://x.example"),
        ]
    )
    changed = [
        line
        for line in difflib.ndiff(text.splitlines(), new.splitlines())
        if line.startswith(("+ ", "- "))
    ]
    assert sorted(changed) == sorted(
        [
            '-   platformVersion: "[Platform Version]"',
            '+   platformVersion: "1.0"',
            '+   k8sConformanceUrl: "https://x.example"',
            '-       status: ""',
            "-       evidence: []",
            '-       notes: ""',
            '+       status: "Implemented"',
            "+       evidence:",
            '+         - "evidence/gang.md"',
            '+         - "a: b # c"',
            '+       notes: "He said \\"7 of 7\\": yes\\nand no"',
        ]
    )
    assert new.count("\n") == new.count(line_end)
    read = yaml.safe_load(new)
    assert read["metadata"]["platformVersion"] == "1.0"
    (gang,) = [
        one for one in read["spec"]["schedulingOrchestration"] if one["id"] == "gang_scheduling"
    ]
    assert gang["evidence"] == ["evidence/gang.md", "a: b # c"]
    assert gang["notes"] == 'He said "7 of 7": yes\nand no'


def test_what_a_person_wrote_is_not_touched() -> None:
    found = Checklist(
        template("1.37").replace('notes: ""', "notes: mine", 1).replace("[Vendor Name]", "Acme")
    )
    first = found.items[0]
    with pytest.raises(ChecklistError, match=r"line \d+, column \d+: `notes` .* by a person"):
        found.filled(first, "notes", "ours")
    with pytest.raises(ChecklistError, match="`vendor_name` was written by a person"):
        found.with_metadata("vendor_name", "Other")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a: [1", r"line 1, column \d+: not valid YAML"),
        ("just words", "the file is not a mapping"),
        ("a: 1", "no `metadata` and `spec`"),
        ("metadata: {}\nspec: 3", "line 2, column 7: spec is not a mapping"),
        ("metadata: {}\nspec:\n  security: x", "section security of `spec` is not a list"),
        ("metadata: {}\nspec:\n  security:\n  - level: MUST", "line 4, column 5: .* has no `id`"),
        ("metadata: {}\nmetadata: {}\nspec: {}", "line 2, column 1: `metadata` appears twice"),
        ("metadata: {}\nspec:\n  s:\n  - {id: a, id: b}", "`id` appears twice in an item of s"),
    ],
)
def test_what_is_no_checklist_is_a_sentence_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ChecklistError, match=words):
        Checklist(text)
