"""``--again RUN``: the checks of an earlier run that did not pass, with its own choices."""

from __future__ import annotations

from typing import Any

from kar_checks import profile as profiles
from kar_checks.kit.option import Given
from kar_checks.model import Outcome
from kar_checks.options import UsageError
from kar_checks.store import StoredRun, find_run

_SETTLED = (Outcome.PASS, Outcome.NOT_APPLICABLE)


class NothingToRepeat(Exception):  # noqa: N818 - nothing is wrong
    """Every check of the run passed, or does not apply."""


def what_did_not_pass(given: Given) -> tuple[Given, dict[str, Any]]:
    """Return what was given with the selection that repeats a run, and its target options.

    Settings are those of the run, so that both can be put together; ``--set`` wins over them.

    Raises:
        UsageError: checks or a profile were named, too.
        NothingToRepeat: nothing is left to do.
        StoreError: there is no such run.
    """
    if given["select"] or given["kar"] or given["profile"]:
        raise UsageError("--again repeats a run as it was: name neither checks nor a profile")
    run = StoredRun(find_run(given["again"], given["output"]))
    settled = {one.check for one in run.findings if one.outcome in _SETTLED}
    settled -= {one.check for one in run.findings if one.outcome not in _SETTLED}
    default = profiles.default().settings
    kept = [
        f"{key}={setting.value}"
        for key, setting in profiles.stored(run.info.profile).settings.items()
        if key in default and setting.value != default[key].value
    ]
    chosen = [check for check in run.info.selection if check not in settled]
    if not chosen:
        raise NothingToRepeat(
            f"Every check of run {given['again']} passed, or does not apply: nothing to repeat."
        )
    again = {**given, "select": chosen, "set": [*kept, *(given["set"] or ())]}
    return again, run.info.environment.options
