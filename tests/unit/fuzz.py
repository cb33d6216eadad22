"""Broken copies of files: what disks, editors, merges and people make of JSON and YAML."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    10**30,
    "",
    "x" * 10_000,
    "\x00\x1b[31m",
    "\ud800",
    [],
    [[]],
    {},
    {"a": {"b": None}},
    "2026-13-45T99:99:99Z",
    "../../etc/passwd",
    "<script>alert(1)</script>",
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a document, its whole included."""
    out = [path]
    if isinstance(value, dict):
        for key, below in value.items():
            out += places(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value[:5]):
            out += places(below, (*path, index))
    return out


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _structure(rng: random.Random, text: str, parse: Callable[[str], Any]) -> str:
    """Change one value, remove or rename one key, or repeat an entry."""
    value = json.loads(json.dumps(parse(text), default=str))
    path = rng.choice([one for one in places(value) if one] or [()])
    if not path:
        return json.dumps(rng.choice(VALUES[:11]))
    parent, key = _at(value, path[:-1]), path[-1]
    match rng.randrange(4):
        case 0:
            parent[key] = rng.choice(VALUES)
        case 1:
            del parent[key]
        case 2 if isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        case 3 if isinstance(parent, list):
            parent.append(parent[key])
        case _:
            parent[key] = {str(key): parent[key]}
    return json.dumps(value)


def broken(rng: random.Random, text: str, parse: Callable[[str], Any]) -> bytes:
    """Return one broken copy of a JSON or YAML file."""
    match rng.randrange(8):
        case 0:
            return text[: rng.randrange(len(text))].encode()
        case 1:
            at = rng.randrange(len(text))
            return (text[:at] + rng.choice('{}[]",:\n\t\\\x00&*!') + text[at + 1 :]).encode()
        case 2:
            return text.encode("utf-16")
        case 3:
            return b"[" * rng.choice([100, 5000]) + text.encode()
        case 4:
            return rng.choice(
                [b"", b"\n", b"null", b"[]", b"\xff\xfe\x00", b"---\n---\n", b"a: [\n"]
            )
        case _:
            return _structure(rng, text, parse).encode("utf-8", "surrogatepass")
