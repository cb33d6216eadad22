from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kar_checks.checks.registry import all_checks
from kar_checks.kit.words import entries, reason_of
from kar_checks.model import Outcome
from scripts import generate
from scripts.reasons import packages
from tests.unit.report import samples


@pytest.mark.parametrize("name", list(generate.FILES))
def test_a_generated_file_is_what_the_code_makes(name: str) -> None:
    assert (generate.ROOT / name).read_text("utf-8") == generate.FILES[name](), "run `make docs`"


SCHEMA: dict[str, Any] = json.loads(generate.schema())


def _strange(value: Any, rule: dict[str, Any], place: str) -> Iterator[str]:
    """Yield the fields of a stored value that its schema does not name, or misses."""
    if "$ref" in rule:
        rule = SCHEMA["$defs"][rule["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for one in value:
            yield from _strange(one, rule.get("items", {}), f"{place}[]")
    elif isinstance(value, dict) and "properties" in rule:
        known = set(rule["properties"])
        if not rule.get("additionalProperties", True):
            yield from (f"{place}.{one} is not known" for one in set(value) - known)
        yield from (f"{place}.{one} is missing" for one in set(rule["required"]) - set(value))
        for name in known & set(value):
            yield from _strange(value[name], rule["properties"][name], f"{place}.{name}")


def test_a_stored_run_has_the_form_that_the_schema_says(tmp_path: Path) -> None:
    folder = samples.troubled().write(tmp_path).folder
    for name, rule in SCHEMA["properties"].items():
        stored = json.loads((folder / name).read_text("utf-8"))
        assert stored
        assert list(_strange(stored, rule, name)) == []
    observed = json.loads((folder / "observations" / "gang.json").read_text("utf-8"))
    (rule,) = SCHEMA["patternProperties"].values()
    assert list(_strange(observed, rule, "gang")) == []


def test_the_schema_would_show_a_field_that_nobody_declared() -> None:
    rule = SCHEMA["properties"]["findings.json"]
    found = list(_strange([{"colour": "red"}], rule, "findings"))
    assert "findings[].colour is not known" in found
    assert "findings[].outcome is missing" in found


SABOTAGES = generate.sabotages()
SHARED = tuple(generate.SHARED_WORDS.values())


def test_every_check_has_a_sabotage_that_must_fail() -> None:
    failing = {one["check"] for one in SABOTAGES if one["outcome"] == "fail"}
    assert {check.id for _, check in all_checks()} == failing


def test_every_sabotage_names_a_check_and_an_outcome() -> None:
    known = {check.id for _, check in all_checks()}
    for one in SABOTAGES:
        broken = one["outcome"] in ("fail", "error")
        assert ("names" in one) == broken, one
        needed = {"check", "injection", "outcome", "reason"}
        assert set(one) - {"variant", "guard", "names"} == needed
        assert one["check"] in known
        assert one["outcome"] in list(Outcome)


def test_every_list_of_reasons_is_in_the_catalogue() -> None:
    topics_words = {topic.judge.rpartition(".")[0] for topic, _ in all_checks()}
    assert set(packages()) == topics_words | set(SHARED)


def test_what_is_broken_is_named_in_the_words_of_each_sabotage() -> None:
    for one in SABOTAGES:
        if one["outcome"] != "fail":
            continue
        topic = next(topic for topic, check in all_checks() if check.id == one["check"])
        folder = Path(*topic.judge.rpartition(".")[0].split("."))
        texts = [
            entry.broken
            for package in (".".join(folder.parts), *SHARED)
            if package in packages()
            for key, entry in entries(package).items()
            if reason_of(key) == one["reason"] and entry.outcome == "fail"
        ]
        # Names of objects are known only when it runs.
        assert any(one["names"] in text or "{" in text for text in texts), one


def test_the_catalogue_tells_everything_of_every_check() -> None:
    text = generate.catalogue()
    for topic, check in all_checks():
        assert f"## {topic.title}" in text
        section = text.split(f"### `{check.id}`")[1].split("\n### ")[0]
        for told in (check.title, check.proves, check.fails_when, check.disruption):
            assert told in section
        for word in ("Budget", "Needs", "Nodes", "Rights", "Images"):
            assert f"**{word}:**" in section
        for one in SABOTAGES:
            assert (f"`{one['injection']}`" in section) or one["check"] != check.id


def test_the_schema_accepts_this_version_only() -> None:
    version = SCHEMA["$defs"]["RunInfo"]["properties"]["schema_version"]
    assert version["const"] == 1
