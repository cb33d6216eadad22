"""The words of verdicts: data beside each judge, which decides only when each applies.

A file ``reasons.yaml`` maps keys to entries. A key is a reason, or ``reason.case`` where one reason
needs several wordings; findings carry the reason alone. An entry has:

- ``outcome``: ``pass``, ``fail``, ``error``, ``inconclusive``, ``not_applicable`` or ``not_run``
- ``summary``: one sentence of what happened, with numbers and object names
- ``broken``: for ``fail``, what is broken, in the words of whoever runs the platform
- ``causes``: for ``fail``, the likely causes, the most likely first
- ``remedy``: what to do, as a command or an option
- ``would_change``: what would have changed the verdict

All texts take values in braces, with the format specifications of Python's ``str.format``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from kar_checks import fast_yaml
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Outcome


class Entry(BaseModel):
    """The words of one verdict, with placeholders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Outcome
    summary: str
    broken: str = ""
    causes: tuple[str, ...] = ()
    remedy: str = ""
    would_change: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Entry:
        if not self.summary:
            raise ValueError("summary is missing")
        failing = self.outcome is Outcome.FAIL
        if failing and not (self.broken and self.causes and self.remedy):
            raise ValueError("a failure needs broken, causes and remedy")
        if not failing and (self.broken or self.causes):
            raise ValueError("only a failure has broken and causes")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts of the entry."""
        return (self.summary, self.broken, *self.causes, self.remedy, self.would_change)

    @property
    def values(self) -> frozenset[str]:
        """The names of the values that the texts take."""
        found: set[str] = set()
        for text in self.texts:
            for _, name, spec, _ in Formatter().parse(text):
                inner = [word for _, word, _, _ in Formatter().parse(spec or "")]
                found |= {re.split(r"[.\[]", word)[0] for word in (name, *inner) if word}
        return frozenset(found)


class WordsError(ValueError):
    """A file of words is not usable; names the file and the entry."""


@cache
def entries(package: str) -> Mapping[str, Entry]:
    """Return every entry of a package's ``reasons.yaml``.

    Raises:
        WordsError: an entry lacks a field, or has one that does not exist.
    """
    text = resources.files(package).joinpath("reasons.yaml").read_text("utf-8")
    found: dict[str, Entry] = {}
    for key, given in fast_yaml.load(text).items():
        try:
            found[key] = Entry.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise WordsError(f"{package}: {key}: {where} {first['msg']}") from error
    return found


class Reasons:
    """The words of a package's verdicts, by key."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __call__(self, key: str, facts: Iterable[Fact] = (), /, **values: Any) -> Ruling:
        """Return the verdict of an entry.

        Raises:
            KeyError: there is no such entry, or a text takes a value that was not given.
        """
        entry = entries(self._package)[key]
        return Ruling(
            entry.outcome,
            reason_of(key),
            entry.summary.format_map(values),
            help=entry.remedy.format_map(values),
            would_change=entry.would_change.format_map(values),
            facts=list(facts),
            broken=entry.broken.format_map(values),
            causes=tuple(cause.format_map(values) for cause in entry.causes),
        )


def reason_of(key: str) -> str:
    """Return the reason that a finding carries, without the case."""
    return key.partition(".")[0]
