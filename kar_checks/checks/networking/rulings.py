"""The two verdicts that judges of secondary networks give most often."""

from __future__ import annotations

from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Outcome


def broken(reason: str, summary: str, advice: str = "", facts: list[Fact] | None = None) -> Ruling:
    """Return a failure of the network."""
    return Ruling(
        Outcome.FAIL,
        reason,
        summary,
        advice,
        would_change="a network that pods can use as the platform tells",
        facts=facts or [],
    )


def undecided(
    reason: str, summary: str, advice: str = "", facts: list[Fact] | None = None
) -> Ruling:
    """Return that something stood in the way of a verdict."""
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice, facts=facts or [])
