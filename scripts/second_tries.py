"""The tests that passed only at their second try, kept in the repository: a flaw is not forgotten.

Each entry of ``tests/cluster/second_tries.yaml`` names the test, why it failed at first, what
caused that (for a person to find out), and the date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

LONGEST_REASON = 300
FIELDS = ("test", "reason", "cause", "date")


class LedgerError(ValueError):
    """The file cannot be used, in one sentence."""


@dataclass(frozen=True)
class SecondTry:
    """A test that failed and then passed alone."""

    test: str
    reason: str
    cause: str
    date: str


def read(path: Path) -> list[SecondTry]:
    """Return the entries of the file; none if there is no file.

    Raises:
        LedgerError: it is not a list of entries with these fields.
    """
    try:
        rows: Any = yaml.safe_load(path.read_text("utf-8")) or []
    except FileNotFoundError:
        return []
    except yaml.YAMLError as error:
        raise LedgerError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(rows, list):
        raise LedgerError(f"{path} is not a list of tests")
    found: list[SecondTry] = []
    for row in rows:
        if not isinstance(row, dict) or sorted(row) != sorted(FIELDS) or not row["test"]:
            raise LedgerError(f"{path}: {row!r} does not have the fields {', '.join(FIELDS)}")
        given = {name: str(row[name] or "").strip() for name in FIELDS}
        found.append(SecondTry(**given))
    return found


def barred(test: str, entries: Sequence[SecondTry]) -> str:
    """Return why a test gets no second try; empty if it gets one."""
    mine = [one for one in entries if one.test == test]
    if len(mine) > 1:
        return "it passed only at the second try twice before"
    if mine and not mine[0].cause:
        return "the cause of its second try before is not known"
    return ""


def entry(test: str, reason: str) -> SecondTry:
    """Return a new entry, of today, whose cause is still to be found."""
    return SecondTry(test, reason[:LONGEST_REASON], "", f"{datetime.now(UTC):%Y-%m-%d}")


def block(entries: Sequence[SecondTry]) -> str:
    """Return entries as the file has them."""
    rows = [{name: getattr(one, name) for name in FIELDS} for one in entries]
    return str(yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=100))


def append(path: Path, entries: Sequence[SecondTry]) -> None:
    """Add entries at the end of the file; comments and entries that are there stay as they are."""
    before = path.read_text("utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    path.write_text(before + block(entries), "utf-8")
