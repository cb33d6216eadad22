"""A run in Markdown, for a CI step's summary or a merge request: what failed, why, what to do."""

from __future__ import annotations

from pathlib import Path

from kar_checks import words
from kar_checks.model import Outcome
from kar_checks.report.view import CheckView, Scorecard
from kar_checks.store import StoredRun, write_atomically

_SECTIONS = (
    (Outcome.FAIL, "What failed"),
    (Outcome.ERROR, "What could not be measured"),
    (Outcome.INCONCLUSIVE, "What is inconclusive"),
)
_MOST = 30
"""Checks of a section; a step's summary is limited in size."""


def render(run: StoredRun) -> str:
    """Return the Markdown."""
    card = Scorecard(run)
    info = run.info
    code = "No exit code" if info.exit_code is None else f"Exit code {info.exit_code}"
    out = [
        f"## kar-checks: {words.markdown(info.environment.cluster)}",
        "",
        f"Kubernetes {words.markdown(info.environment.server_version or 'unknown')}, checklist "
        f"{info.kubernetes_minor}, {info.started:%Y-%m-%d %H:%M} UTC, run `{info.id}`. "
        f"{code}: {words.exit_code(info.exit_code)}.",
        "",
        *(f"- {words.markdown(one.sentence)}" for one in card.levels),
    ]
    if card.ended_early:
        out += ["", f"Ended early by {words.markdown(card.ended_early)}."]
    checks = [one for topic in card.topics for one in topic.checks]
    for outcome, title in _SECTIONS:
        mine = [one for one in checks if one.finding.outcome is outcome]
        if mine:
            out += ["", f"### {title}", "", *(_line(one) for one in mine[:_MOST])]
            if len(mine) > _MOST:
                out.append(f"- and {len(mine) - _MOST} more, see `scorecard.html`")
    for leak in info.cleanup.leaks[:_MOST]:
        name = words.markdown(f"{leak.object.kind} {leak.object.name}")
        out.append(f"- Left in the cluster: {name}: {words.markdown(leak.why)}")
    return "\n".join([*out, "", "A self-assessment; it certifies nothing."]) + "\n"


def _line(check: CheckView) -> str:
    finding = check.finding
    about = f" ({words.markdown(finding.variant)})" if finding.variant else ""
    todo = f" **What to do:** {words.markdown(finding.help)}" if finding.help else ""
    return f"- `{check.info.id}`{about}: {words.markdown(finding.summary)}{todo}"


def write(run: StoredRun, path: Path) -> None:
    """Render into ``path``."""
    write_atomically(path, render(run))
