"""What a judge says before its check and its variant are put to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kar_checks.model import Fact, Outcome


@dataclass(frozen=True)
class Ruling:
    """A verdict before it knows its check and what it is about."""

    outcome: Outcome
    reason: str
    summary: str
    help: str = ""
    would_change: str = ""
    facts: list[Fact] = field(default_factory=list[Fact])
