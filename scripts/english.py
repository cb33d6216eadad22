"""Plain English wherever a person reads: the words of ``english.yaml`` appear nowhere.

``make lint`` runs it over command-line help, the texts of verdicts and checks, settings, messages
in the Python code, the templates of the pages, and the documentation. A text keeps its place, so
that each hit can be found; generated documents are read at their sources.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import typer.main
import yaml

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".yaml")
PACKAGES = ("kar_checks", "localcluster")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")
GENERATED = ("docs/checks.md", "docs/known-traps.md")
SOURCES = ("tests/traps/*.yaml",)
"""What generated documents are made from, beside the checks themselves."""


class Text(NamedTuple):
    """Something that people read, and where it comes from."""

    place: str
    """``file:line``, or a command."""
    text: str


@dataclass(frozen=True)
class Allowed:
    """Where a rule does not hold."""

    reason: str
    text: str = ""
    """A part of the text that the rule matches in; every text if empty."""
    file: str = "*"
    """A glob of the places that it is allowed in."""


@dataclass(frozen=True)
class Rule:
    """Words that nobody should read, and what to write instead."""

    pattern: re.Pattern[str]
    write: str
    allowed: tuple[Allowed, ...] = field(default=())

    def hits(self, one: Text) -> Iterator[str]:
        """Yield what of a text must go."""
        for match in self.pattern.finditer(one.text):
            around = one.text[max(0, match.start() - 60) : match.end() + 60]
            if not any(
                each.text in around and fnmatch(one.place.partition(":")[0], each.file)
                for each in self.allowed
            ):
                yield match.group()


def rules(path: Path = LIST) -> list[Rule]:
    """Return the rules of the list; every exception needs its reason."""
    return [
        Rule(
            re.compile(one["pattern"], re.IGNORECASE),
            one["write"],
            tuple(
                Allowed(each["reason"], each.get("text", ""), each.get("in", "*"))
                for each in one.get("except", ())
            ),
        )
        for one in yaml.safe_load(path.read_text("utf-8"))["rules"]
    ]


def texts() -> Iterator[Text]:
    """Yield everything that people read."""
    yield from helps()
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if not file.name.startswith("test_"):
                yield from literals(file)
        for file in sorted((ROOT / package).rglob("*.yaml")):
            yield from values(file)
    for file in sorted((ROOT / "reports").glob("*.j2")):
        yield from template(file)
    for pattern in SOURCES:
        for file in sorted(ROOT.glob(pattern)):
            yield from values(file)
    for pattern in DOCUMENTS:
        for file in sorted(ROOT.glob(pattern)):
            if _name(file) not in GENERATED:
                yield from document(file, file.read_text("utf-8"))
    yield from document(ROOT / "CHANGELOG.md", coming())


def helps() -> Iterator[Text]:
    """Yield the help of every command, its options and panels."""
    from kar_checks.cli import app

    yield from _help(typer.main.get_command(app), "kar")


def _help(command: Any, name: str) -> Iterator[Text]:
    yield Text(f"{name} --help", " ".join((command.help or "").split()))
    for one in command.params:
        if not getattr(one, "hidden", False):
            panel = getattr(one, "rich_help_panel", None) or ""
            told = f"{getattr(one, 'help', None) or ''} {one.metavar or ''} {panel}"
            yield Text(f"{name} {one.opts[0]}", told.strip())
    for each, inner in getattr(command, "commands", {}).items():
        yield from _help(inner, f"{name} {each}")


def literals(file: Path) -> Iterator[Text]:
    """Yield what a module prints or stores for people: every literal of more than one word."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped = set(_not_prose(tree))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if _is_prose(text):
            yield Text(f"{_name(file)}:{node.lineno}", " ".join(text.split()))


def _not_prose(tree: ast.AST) -> Iterator[int]:
    """Yield docstrings, keys of mappings and subscripts, annotations and patterns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)
        elif isinstance(node, ast.Call) and _called(node.func) in ("compile", "cast", "TypeVar"):
            for part in ast.walk(node):
                yield id(part)
        elif isinstance(node, ast.Subscript):
            yield id(node.slice)
        elif isinstance(node, ast.FormattedValue) and node.format_spec:
            yield id(node.format_spec)


def _called(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _is_prose(text: str) -> bool:
    return len(text.split()) > 1 and bool(re.search("[a-z]{2}", text))


def values(file: Path) -> Iterator[Text]:
    """Yield the texts of a YAML file, with the line where each begins."""
    for node in yaml.compose_all(file.read_text("utf-8"), Loader=yaml.SafeLoader):
        if node is not None:
            yield from _scalars(node, _name(file))


def _scalars(node: yaml.Node, file: str) -> Iterator[Text]:
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _scalars(value, file)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _scalars(value, file)
    elif isinstance(node, yaml.ScalarNode) and _is_prose(node.value):
        text = re.sub(r"\{\w[^{}]*\}", "{…}", node.value)
        yield Text(f"{file}:{node.start_mark.line + 1}", " ".join(text.split()))


def template(file: Path) -> Iterator[Text]:
    """Yield the words of a page, without the template's own language and the markup."""
    text = _blank(r"\{#.*?#\}|\{%.*?%\}|<(script|style).*?</\1>", file.read_text("utf-8"))
    text = _blank(r"<[^>]*>", re.sub(r"\{\{.*?\}\}", "…", text, flags=re.DOTALL))
    yield from _lines(file, text)


def document(file: Path, text: str) -> Iterator[Text]:
    """Yield the paragraphs of a Markdown document, without what is quoted as code."""
    yield from _lines(file, _blank(r"^( *)```.*?^\1```$|`[^`\n]+`|\]\([^)]*\)", text))


def coming() -> str:
    """Return the section of the changelog for the version that is not released yet."""
    parts = re.split(r"(?m)^(?=## )", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    return parts[1] if len(parts) > 1 else ""


def _blank(pattern: str, text: str) -> str:
    """Replace matches by as many line breaks as they have, so that lines keep their numbers."""
    return re.sub(
        pattern,
        lambda match: "\n" * match.group().count("\n") or "`…`" * match.group().startswith("`"),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )


def _lines(file: Path, text: str) -> Iterator[Text]:
    """Yield paragraphs, each with the line where it begins."""
    for match in re.finditer(r"(?:^[^\n]*\S[^\n]*\n?)+", text, re.MULTILINE):
        line = text[: match.start()].count("\n") + 1
        yield Text(f"{_name(file)}:{line}", " ".join(match.group().split()))


@cache
def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def main() -> int:
    """Print every hit with what to write instead; return 1 if anything was found."""
    found = 0
    known = rules()
    for one in texts():
        for rule in known:
            for hit in rule.hits(one):
                found += 1
                print(f"{one.place}: “{hit.strip()}”: write {rule.write}\n    {one.text}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
