"""``kar run --again RUN``: the checks of an earlier run that did not pass, with its own choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kar_checks import profile as profiles
from kar_checks.cli_options import SelectionOptions
from kar_checks.model import Outcome
from kar_checks.options import UsageError
from kar_checks.store import StoredRun, find_run

_SETTLED = (Outcome.PASS, Outcome.NOT_APPLICABLE)


def what_did_not_pass(
    given: str, parent: Path, selection: SelectionOptions
) -> tuple[SelectionOptions, dict[str, Any]]:
    """Return the selection that repeats a run, and the target options that it had.

    Settings are those of the run, so that both can be put together; ``--set`` wins over them.

    Raises:
        UsageError: checks or a profile were named, too.
        StoreError: there is no such run.
    """
    if selection.select or selection.kar or selection.profile:
        raise UsageError("--again repeats a run as it was: name neither checks nor a profile")
    run = StoredRun(find_run(given, parent))
    settled = {one.check for one in run.findings if one.outcome in _SETTLED}
    settled -= {one.check for one in run.findings if one.outcome not in _SETTLED}
    default = profiles.default().settings
    kept = [
        f"{key}={setting.value}"
        for key, setting in profiles.stored(run.info.profile).settings.items()
        if key in default and setting.value != default[key].value
    ]
    chosen = [check for check in run.info.selection if check not in settled]
    return (
        replace(selection, select=chosen, set_=[*kept, *(selection.set_ or [])]),
        run.info.environment.options,
    )
