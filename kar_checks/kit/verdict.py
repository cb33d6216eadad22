"""A verdict before it knows its check. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from kar_checks.model import Evidence, Fact, Finding, Outcome


@dataclass(frozen=True)
class Ruling:
    """A verdict before it knows its check and what it is about."""

    outcome: Outcome
    reason: str
    summary: str
    help: str = ""
    would_change: str = ""
    facts: list[Fact] = field(default_factory=list[Fact])
    broken: str = ""
    """For a failure: what is broken, in the words of whoever runs the platform."""
    causes: tuple[str, ...] = ()
    """For a failure: the likely causes, the most likely first."""

    def finding(
        self,
        check: str,
        facts: list[Fact],
        evidence: Evidence | None,
        trial: str,
        *,
        variant: str = "",
    ) -> Finding:
        """Return the verdict as it is stored, with ``facts``: its own and those around them.

        Without ``evidence`` where nothing was observed.
        """
        return Finding(
            check=check,
            variant=variant,
            outcome=self.outcome,
            reason=self.reason,
            summary=self.summary,
            facts=facts,
            would_change=self.would_change,
            help=self.help,
            broken=self.broken,
            causes=list(self.causes),
            evidence=evidence,
            trial=trial,
        )
