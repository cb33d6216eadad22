"""Markdown that people read: prose is narrow, and links within the repository lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDEST = 100
# `make docs` writes these; their lines are as long as what they quote.
GENERATED = {"docs/checks.md", "docs/known-traps.md"}
# Its older entries are history.
HISTORY = {"CHANGELOG.md"}
FOLDERS = (".", "docs", "benchmarks", ".github")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).glob("*.md")
)
_LINK = re.compile(
    r"\[(?:[^][]|\[[^]]*\])*\]\(<?([^()\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^]]+\]: (\S+)", re.MULTILINE
)
# A picture may be the words of a link.
_PICTURE = re.compile(r"!\[[^]]*\]\(<?([^()\s>]+)")


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Every line outside fenced code, with its number."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif fence:
            fence = "" if line.strip() == fence else fence
        else:
            yield number, line


def too_wide(text: str) -> list[int]:
    """The numbers of the lines of prose, not of tables or code, that are too wide."""
    return [
        number
        for number, line in lines(text)
        if len(line) > WIDEST and not line.lstrip().startswith("|")
    ]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    found: set[str] = set()
    for _, line in lines(text):
        if heading := re.match(r"#{1,6} +(.*?)(?: +#+)?$", line):
            shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
            plain = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            count, anchor = 0, plain
            while anchor in found:
                count, anchor = count + 1, f"{plain}-{count + 1}"
            found.add(anchor)
    return found


def links(text: str) -> Iterator[tuple[int, str]]:
    """Every link outside code, with its line."""
    # A link's words may be broken over two lines.
    whole = "\n".join(line for _, line in lines(text))
    numbers = [number for number, _ in lines(text)]
    shown = re.sub(r"(`+)(?:(?!\1).)+?\1", "code", whole)
    for pattern in (_LINK, _PICTURE):
        for found in pattern.finditer(shown):
            line = numbers[shown.count("\n", 0, found.start())]
            yield line, next(one for one in found.groups() if one)


def broken(document: str) -> list[str]:
    """The links of a document that lead to no file or no heading of the repository."""
    path = ROOT / document
    wrong: list[str] = []
    for number, link in links(path.read_text("utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not (target.exists() and target.is_relative_to(ROOT)):
            wrong.append(f"{document}:{number}: {name} does not exist")
        elif anchor and anchor not in anchors(target.read_text("utf-8")):
            wrong.append(f"{document}:{number}: {name or document} has no heading #{anchor}")
    return wrong


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one not in GENERATED | HISTORY])
def test_prose_is_at_most_100_wide(document: str) -> None:
    assert too_wide((ROOT / document).read_text("utf-8")) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_within_the_repository_leads_somewhere(document: str) -> None:
    assert broken(document) == []


def test_documents_that_the_code_names_exist() -> None:
    sources = [*(ROOT / "kar_checks").rglob("*"), *(ROOT / "localcluster").rglob("*.py")]
    named = {
        name
        for path in sources
        if path.suffix in {".py", ".yaml"}
        for name in re.findall(r"\bdocs/[\w-]+\.md\b", path.read_text("utf-8"))
    }
    assert named
    assert {one for one in named if not (ROOT / one).is_file()} == set()


def test_tables_and_code_may_be_wide_and_prose_may_not() -> None:
    wide = "x " * 60
    assert too_wide(f"{wide}\n\n| {wide} |\n\n```console\n{wide}\n```\n- {wide}") == [1, 8]


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "b.md").write_text("# The `one` and only!\n\n## Again\n\n## Again\n", "utf-8")
    (tmp_path / "a.md").write_text(
        "[x](b.md#the-one-and-only) [x](b.md#again-1) [words\nbroken](b.md) [x](https://x.example)\n"
        "`[x](code.md)` [![p](gone.png)](b.md)\n```\n[x](code.md)\n```\n"
        "[x](c.md) [x](b.md#again-2) [x](#none)\n[ref]: d.md\n",
        "utf-8",
    )
    assert broken("a.md") == [
        "a.md:7: c.md does not exist",
        "a.md:7: b.md has no heading #again-2",
        "a.md:7: a.md has no heading #none",
        "a.md:8: d.md does not exist",
        "a.md:3: gone.png does not exist",
    ]
