from __future__ import annotations

from pathlib import Path

import pytest

from scripts.second_tries import LedgerError, SecondTry, append, barred, block, entry, read

ONE = SecondTry("t.py::test_a", "E: it was late", "", "2026-11-20")


def test_what_is_appended_is_read_again_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "tries.yaml"
    file.write_text(
        "# why\n- {test: t.py::test_b, reason: slow, cause: known, date: 2026-11-01}", "utf-8"
    )
    append(file, [ONE, entry("t.py::test[ü: #]", "a: 'b'\n- c" * 200)])
    first, second, third = read(file)
    assert (first.test, first.cause, first.date) == ("t.py::test_b", "known", "2026-11-01")
    assert second == ONE
    assert third.test == "t.py::test[ü: #]"
    assert third.reason == ("a: 'b'\n- c" * 200)[:300].strip()
    assert file.read_text("utf-8").startswith("# why\n")


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []
    (tmp_path / "empty").write_text("# only this\n", "utf-8")
    assert read(tmp_path / "empty") == []


@pytest.mark.parametrize(
    "text",
    [
        "{a: b}",
        "- x",
        "- {test: x}",
        "- {test: '', reason: a, cause: b, date: c}",
        "- {test: x, reason: a, cause: b, date: c, more: d}",
        "- [",
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tries.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(LedgerError) as caught:
        read(file)
    assert len(str(caught.value).splitlines()) == 1


def test_only_a_known_cause_gives_another_try_and_only_one() -> None:
    known = SecondTry(ONE.test, "late", "the disk was full", "2026-11-20")
    assert barred(ONE.test, []) == ""
    assert "not known" in barred(ONE.test, [ONE])
    assert barred(ONE.test, [known]) == ""
    assert "twice" in barred(ONE.test, [known, known])
    assert barred("t.py::test_other", [ONE, known]) == ""


def test_a_block_is_a_list_of_entries() -> None:
    assert block([ONE]) == (
        "- test: t.py::test_a\n  reason: 'E: it was late'\n  cause: ''\n  date: '2026-11-20'\n"
    )
