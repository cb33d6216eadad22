"""The reasons of all verdicts, held against the code: none unused, unknown, or without a unit test.

``make lint`` runs it. A judge names the key of an entry as a literal, so that this can be read off
the source: ``verdict("key", facts, value=…)``, where ``verdict = Reasons(__package__)``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kar_checks.kit.words import Entry, entries, reason_of

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "unit"
NAME = "verdict"
"""What a module calls the words of its package."""


def packages() -> list[str]:
    """Return every package with words of its own."""
    files = sorted((ROOT / "kar_checks").rglob("reasons.yaml"))
    return [".".join(file.parent.relative_to(ROOT).parts) for file in files]


@dataclass(frozen=True)
class Call:
    """A place where a verdict is given."""

    place: str
    keys: tuple[str, ...]
    """More than one where the place chooses; none where it is no literal."""
    values: frozenset[str] | None
    """The names of the values; ``None`` where a mapping is unpacked into them."""


def calls(package: str) -> Iterator[Call]:
    """Yield every place of a package's modules where a verdict is given."""
    folder = ROOT / Path(*package.split("."))
    for file in sorted(folder.glob("*.py")):
        if file.name.startswith("test_"):
            continue
        for node in ast.walk(_tree(file)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == NAME:
                names = [word.arg for word in node.keywords]
                values = None if None in names else frozenset(name for name in names if name)
                place = f"{file.relative_to(ROOT)}:{node.lineno}"
                yield Call(place, tuple(_literals(node.args[0])) if node.args else (), values)


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def tested() -> frozenset[str]:
    """Return every word in a string of the unit tests."""
    found: set[str] = set()
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(_tree(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(node.value.split())
    return frozenset(found)


def problems(package: str) -> list[str]:
    """Return what is wrong with a package's reasons, a sentence each."""
    words = entries(package)
    found: list[str] = []
    used: set[str] = set()
    for call in calls(package):
        if not call.keys:
            found.append(f"{call.place}: the key of a verdict is not a literal")
        for key in call.keys:
            used.add(key)
            if key not in words:
                found.append(f"{call.place}: {package} has no entry {key}")
            elif why := _other_values(words[key], call, several=len(call.keys) > 1):
                found.append(f"{call.place}: {key}: {why}")
    found += [f"{package}: {key} is not used" for key in words if key not in used]
    return found + [f"{package}: {key} has no unit test" for key in _untested(words)]


def _other_values(entry: Entry, call: Call, *, several: bool) -> str:
    if call.values is None:
        return ""
    if lacking := entry.values - call.values:
        return f"the texts take {', '.join(sorted(lacking))}, which is not given"
    needless = call.values - entry.values
    return f"no text takes {', '.join(sorted(needless))}" if needless and not several else ""


def _untested(words: Mapping[str, Entry]) -> list[str]:
    return [key for key in words if reason_of(key) not in tested()]


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = [line for package in packages() for line in problems(package)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
