"""What `make lint` finds wrong with reasons."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kar_checks.kit.words import entries
from scripts import reasons

WORDS = """
good: {outcome: pass, summary: "{n} went well"}
other: {outcome: inconclusive, summary: "not seen"}
"""
JUDGE = 'verdict("good", [], n=1)\nverdict("other")\n'

Problems = Callable[[str, str], list[str]]


@pytest.fixture
def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Problems]:
    folder = tmp_path / "judged_in_a_test"
    (tmp_path / "tests").mkdir()
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reasons, "ROOT", tmp_path)
    monkeypatch.setattr(reasons, "TESTS", tmp_path / "tests")

    def found(judge: str, tests: str = '"good other"') -> list[str]:
        (folder / "reasons.yaml").write_text(WORDS, "utf-8")
        (folder / "judge.py").write_text(judge, "utf-8")
        (tmp_path / "tests" / "test_it.py").write_text(tests, "utf-8")
        return reasons.problems("judged_in_a_test")

    for cached in (reasons.tested, reasons._tree, entries):
        cached.cache_clear()
    yield found
    for cached in (reasons.tested, reasons._tree, entries):
        cached.cache_clear()
    sys.modules.pop("judged_in_a_test", None)


def test_a_package_whose_reasons_are_used_and_tested_has_none(problems: Problems) -> None:
    assert problems(JUDGE, '"good other"') == []


@pytest.mark.parametrize(
    ("judge", "tests", "why"),
    [
        ('verdict("good", n=1)', '"good other"', "other is not used"),
        (JUDGE + 'verdict("third")', '"good other"', "has no entry third"),
        (JUDGE, '"good"', "other has no unit test"),
        ('verdict("good")\nverdict("other")', '"good other"', "the texts take n, which is not"),
        ('verdict("good", n=1, m=2)\nverdict("other")', '"good other"', "no text takes m"),
        (JUDGE + "verdict(key)", '"good other"', "the key of a verdict is not a literal"),
    ],
)
def test_each_fault_is_named(problems: Problems, judge: str, tests: str, why: str) -> None:
    (found,) = problems(judge, tests)
    assert why in found


def test_a_place_that_chooses_uses_both(problems: Problems) -> None:
    assert problems('verdict("good" if x else "other", n=1)', '"good other"') == []
