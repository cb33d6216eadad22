"""Exit codes of ``kar run`` and of pytest with the plugin; documented in the README."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from kar_checks.model import Cleanup, Finding, Outcome, RunInfo, TopicInfo
from kar_checks.outcome import alternatives


class Exit(IntEnum):
    """pytest's own codes keep their meaning; those from 10 on are ours."""

    OK = 0
    FAILED = 1
    INTERRUPTED = 2
    INTERNAL = 3
    USAGE = 4
    NOTHING = 5
    HARNESS = 10
    UNDECIDED = 11
    PREFLIGHT = 12


MEANING = {
    Exit.OK: "the objective is met",
    Exit.FAILED: "a check failed",
    Exit.INTERRUPTED: "interrupted",
    Exit.INTERNAL: "internal error",
    Exit.USAGE: "wrong usage",
    Exit.NOTHING: "nothing was selected",
    Exit.HARNESS: "the suite had an error, or left something behind",
    Exit.UNDECIDED: "nothing failed, but not everything could be decided",
    Exit.PREFLIGHT: "the cluster could not be assessed at all",
}


def objective(
    findings: Sequence[Finding],
    topics: Sequence[TopicInfo],
    topic_of: dict[str, str],
    cleanup: Cleanup,
    fail_on: Sequence[Outcome],
) -> Exit:
    """Return the exit code of a run that went to its end: 10, then 1, then 11, then 0.

    Where any one variant is enough, only what the variants come to together counts.
    """
    outcomes: set[Outcome] = set()
    for topic in topics:
        mine = [one for one in findings if topic_of.get(one.check) == topic.id]
        outcomes.update(alternatives(mine) if topic.any_of else [one.outcome for one in mine])
    counted = outcomes & set(fail_on)
    if Outcome.ERROR in counted or cleanup.verdict == "leaked":
        return Exit.HARNESS
    if Outcome.FAIL in counted:
        return Exit.FAILED
    return Exit.UNDECIDED if counted else Exit.OK


def of_run(
    info: RunInfo,
    findings: Sequence[Finding],
    *,
    pytest_exit: int = Exit.OK,
    trouble: BaseException | None = None,
    damaged: bool = False,
) -> Exit:
    """Return the exit code of a run; every command that needs one asks here.

    ``pytest_exit`` is how pytest ended, ``trouble`` what kept the run's end from being stored, and
    ``damaged`` says that an observation is lost. A selected check without a verdict never counts
    as an objective met.
    """
    if info.interrupted or isinstance(trouble, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if trouble is not None:
        return Exit.INTERNAL
    if pytest_exit not in (Exit.OK, Exit.FAILED):
        return Exit(pytest_exit)
    if damaged:
        return Exit.HARNESS
    code = objective(
        findings,
        info.topics,
        {one.id: one.topic for one in info.checks},
        info.cleanup,
        [Outcome(one) for one in info.objective],
    )
    judged = {one.check for one in findings}
    if code is Exit.OK and not judged.issuperset(info.selection):
        return Exit.UNDECIDED
    return code
