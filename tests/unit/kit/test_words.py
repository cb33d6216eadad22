"""The words of verdicts: what an entry must have, and what becomes of its placeholders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kar_checks.kit.words import Entry, Reasons, WordsError, entries
from kar_checks.model import Fact, Outcome
from scripts import reasons

FAILURE = """
lost.by_decode:
  outcome: fail
  summary: "{lost} of {total} requests were lost ({share:.0%})"
  broken: "Requests are lost between {a} and {b}"
  causes: ["{a} is down"]
  remedy: restart {a}
  would_change: no request lost
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "words_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    entries.cache_clear()
    sys.modules.pop("words_of_a_test", None)


def test_an_entry_becomes_a_verdict(package: Path) -> None:
    (package / "reasons.yaml").write_text(FAILURE, "utf-8")
    verdict = Reasons("words_of_a_test")
    fact = Fact(name="lost", value="3")
    found = verdict("lost.by_decode", [fact], lost=3, total=12, share=0.25, a="x", b="y")
    assert (found.outcome, found.reason) == (Outcome.FAIL, "lost")
    assert found.summary == "3 of 12 requests were lost (25%)"
    assert found.broken == "Requests are lost between x and y"
    assert (found.causes, found.help) == (("x is down",), "restart x")
    assert found.facts == [fact]
    with pytest.raises(KeyError, match="b"):
        verdict("lost.by_decode", lost=3, total=12, share=0.25, a="x")
    with pytest.raises(KeyError, match="nothing"):
        verdict("nothing")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("outcome: maybe", "outcome"),
        ("broken: ''", "a failure needs broken, causes and remedy"),
        ("causes: []", "a failure needs broken, causes and remedy"),
        ("remedy: ''", "a failure needs broken, causes and remedy"),
        ("summary: ''", "summary is missing"),
        ("outcome: inconclusive", "only a failure has broken and causes"),
        ("colour: red", "colour"),
    ],
)
def test_an_entry_that_is_not_complete_is_named(package: Path, change: str, why: str) -> None:
    (package / "reasons.yaml").write_text(f"{FAILURE}  {change}\n", "utf-8")
    with pytest.raises(WordsError, match=f"words_of_a_test: lost.by_decode: .*{why}"):
        entries("words_of_a_test")


class _Anything:
    """Whatever a text makes of a value."""

    def __format__(self, spec: str) -> str:
        return "VALUE"

    def __getattr__(self, name: str) -> _Anything:
        return self


@pytest.mark.parametrize("package_name", reasons.packages())
def test_every_text_can_be_formatted_and_is_a_clause(package_name: str) -> None:
    for key, entry in entries(package_name).items():
        values = dict.fromkeys(entry.values, _Anything())
        found = Reasons(package_name)(key, **values)
        for text in (found.summary, found.broken, found.help, found.would_change, *found.causes):
            assert "{" not in text, key
            assert not text.endswith("."), f"{key}: {text}: the page adds the full stop"
        assert not found.broken or found.broken[0].isupper() or "{" in entry.broken[:1], key


@pytest.mark.parametrize("package_name", reasons.packages())
def test_every_reason_is_used_known_and_tested(package_name: str) -> None:
    assert reasons.problems(package_name) == []


def test_an_entry_knows_the_values_that_it_takes() -> None:
    entry = Entry(outcome=Outcome.PASS, summary="{a:{width}} of {b.name}", would_change="{c!r}")
    assert entry.values == {"a", "width", "b", "c"}
