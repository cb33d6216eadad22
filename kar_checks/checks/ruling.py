"""What a judge says before its check and its variant are put to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kar_checks.model import Evidence, Fact, Finding, Observation, Outcome


@dataclass(frozen=True)
class Ruling:
    """A verdict before it knows its check and what it is about."""

    outcome: Outcome
    reason: str
    summary: str
    help: str = ""
    would_change: str = ""
    facts: list[Fact] = field(default_factory=list[Fact])

    def finding(
        self, check: str, facts: list[Fact], evidence: Evidence, trial: str, *, variant: str = ""
    ) -> Finding:
        """Return the verdict as it is stored, with ``facts``: its own and those around them."""
        return Finding(
            check=check,
            variant=variant,
            outcome=self.outcome,
            reason=self.reason,
            summary=self.summary,
            facts=facts,
            would_change=self.would_change,
            help=self.help,
            evidence=evidence,
            trial=trial,
        )


def unless_beside(ruling: Ruling, seen: Observation) -> Ruling:
    """Return a failure as undecided if another run of this suite was at work meanwhile.

    For what two runs take from each other: quota, bandwidth, time.
    """
    if ruling.outcome is not Outcome.FAIL or not seen.beside:
        return ruling
    others = ", ".join(one.id for one in seen.beside)
    return replace(
        ruling,
        outcome=Outcome.INCONCLUSIVE,
        reason="other_run",
        summary=f"{ruling.summary}; meanwhile the run {others} was at work on this cluster, too",
        help="run again when no other run of kar-checks is at work on this cluster",
    )


def not_recorded(what: str) -> Ruling:
    """Return the verdict on a stored run that is older than the rule: it lacks ``what``."""
    return Ruling(
        Outcome.INCONCLUSIVE,
        "not_recorded",
        f"this run was measured by a version of the suite that did not record {what}",
        help="measure again with this version: kar run with the same options",
        would_change=f"a run that recorded {what}",
    )
