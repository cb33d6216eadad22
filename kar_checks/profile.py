"""Profiles: thresholds and choices as data, each number with its origin and date.

``profiles/settings`` names every setting there is, a file per topic; a user's profile overrides
some of them, and the command line's ``--set`` some more.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import warnings
from collections.abc import Sequence
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from kar_checks import fast_yaml, plain_yaml
from kar_checks.model import Record


class ProfileError(ValueError):
    """A profile that cannot be used, in one sentence."""


class RenamedSetting(UserWarning):
    """A profile uses the old name of a setting."""


class Setting(Record):
    """One threshold or choice."""

    value: bool | float | str
    origin: str
    date: date


class Profile(Record):
    """The settings of a run. Keys are dotted: ``gang.window_seconds``."""

    name: str
    description: str = ""
    select: list[str] = []
    """Selectors as ``kar run`` takes them; empty means everything."""
    target: dict[str, Any] = {}
    """Target options, as on the command line, which wins over them."""
    settings: dict[str, Setting]

    def number(self, key: str) -> float:
        """Return a numeric setting.

        Raises:
            KeyError: there is no such setting.
        """
        return float(self.settings[key].value)

    def text(self, key: str) -> str:
        """Return a setting as text."""
        return str(self.settings[key].value)

    def judging(self, measured: Profile) -> Profile:
        """Return this profile for judging a run that was measured with another one.

        Only thresholds are this profile's; whatever decided how something was measured is the
        run's own, since no judge can change it afterwards.
        """
        mine = thresholds()
        settings = {
            key: setting if key in mine else measured.settings.get(key, setting)
            for key, setting in self.settings.items()
        }
        return self.model_copy(update={"settings": settings})

    def chooses(self, key: str, name: str) -> bool:
        """Say whether a setting of names, by comma, holds this one; an empty one holds all."""
        listed = self.text(key)
        return not listed or name in names(listed)


def names(text: str) -> list[str]:
    """Return what a text lists by commas; blanks around each are no matter, nor is an empty one."""
    return [one.strip() for one in text.split(",") if one.strip()]


@cache
def renamed() -> dict[str, str]:
    """Return the settings that have a new name since the last version: old name, new name."""
    file = resources.files("kar_checks").joinpath("profiles/renamed.yaml")
    return fast_yaml.load(file.read_text("utf-8")) or {}


def _today(source: str, key: str) -> str:
    """Return the name that a setting has today; an old one is taken with a warning."""
    new = renamed().get(key)
    if new is None:
        return key
    warnings.warn(
        RenamedSetting(f"{source} sets {key}, which is now {new}: the next version refuses it"),
        stacklevel=2,
    )
    return new


@cache
def thresholds() -> frozenset[str]:
    """Return the keys of the settings that only judges read."""
    file = resources.files("kar_checks").joinpath("profiles/thresholds.yaml")
    return frozenset(fast_yaml.load(file.read_text("utf-8")))


def stored(raw: dict[str, Any]) -> Profile:
    """Return the profile that a run stored, with today's defaults for settings it did not know.

    Raises:
        ProfileError: it was changed and is no profile any more.
    """
    base = default()
    try:
        old = Profile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"the run's profile was changed: {place}: {first['msg']}") from error
    own = {renamed().get(key, key): setting for key, setting in old.settings.items()}
    return old.model_copy(update={"settings": {**base.settings, **own}})


def default() -> Profile:
    """Return the profile that applies when the user gives none."""
    settings: dict[str, Any] = {}
    folder = resources.files("kar_checks").joinpath("profiles/settings")
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        settings |= fast_yaml.load(file.read_text("utf-8"))
    return Profile(
        name="record",
        description="Records every figure and sets no floor; the windows and tolerances are those "
        "that the checks were developed and sabotaged with.",
        settings={key: Setting.model_validate(value) for key, value in settings.items()},
    )


def load(path: Path | None, assignments: Sequence[str] = ()) -> Profile:
    """Return the profile at ``path`` laid over the default one, with ``KEY=VALUE`` set on top.

    Raises:
        ProfileError: the file cannot be read, is not YAML, or names an unknown setting; or an
            assignment does.
    """
    base = default()
    profile = base if path is None else _read(path, base)
    own = dict(_assigned(one, base) for one in assignments)
    return profile.model_copy(update={"settings": {**profile.settings, **own}})


def _assigned(assignment: str, base: Profile) -> tuple[str, Setting]:
    key, separator, text = assignment.partition("=")
    if not separator:
        raise ProfileError(f"--set needs KEY=VALUE, not {assignment!r}")
    key = _today("--set", key)
    known = base.settings[key].value if key in base.settings else ""
    value: Any = text
    if not isinstance(known, str):
        with contextlib.suppress(yaml.YAMLError):
            value = plain_yaml.parse(text)
    given = {"value": value, "origin": "the command line", "date": date.today()}
    return key, _setting("--set", base, key, given)


def _read(path: Path, base: Profile) -> Profile:
    try:
        raw: Any = plain_yaml.parse(path.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(f"the profile {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        raise ProfileError(f"the profile {path} is not valid YAML{where}") from error
    if not isinstance(raw, dict):
        raise ProfileError(f"the profile {path} is not a mapping; see `kar explain profile`")
    own = cast("dict[str, Any]", raw)
    given: Any = own.get("settings") or {}
    if not isinstance(given, dict):
        raise ProfileError(f"the profile {path}: `settings` is not a mapping")
    settings = dict(base.settings)
    for key, value in cast("dict[str, Any]", given).items():
        source = f"the profile {path}"
        name = _today(source, str(key))
        settings[name] = _setting(source, base, name, value)
    try:
        return Profile.model_validate(
            {"name": path.stem, **own, "settings": {k: s.model_dump() for k, s in settings.items()}}
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"the profile {path}: {place}: {first['msg']}") from error


def _setting(source: str, base: Profile, key: str, value: Any) -> Setting:
    if key not in base.settings:
        near = difflib.get_close_matches(str(key), base.settings, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ProfileError(f"{source} sets {key}, which does not exist{hint}")
    known = base.settings[key].value
    try:
        new = Setting.model_validate(value)
    except ValidationError as error:
        raise ProfileError(
            f"{source}: {key} needs a value, an origin and a date, "
            "to show readers where the number comes from"
        ) from error
    numeric = isinstance(known, int | float) and not isinstance(known, bool)
    good = (
        isinstance(new.value, int | float) and not isinstance(new.value, bool)
        if numeric
        else type(new.value) is type(known)
    )
    if not good:
        raise ProfileError(f"{source}: {key} needs a value like {known!r}")
    if numeric and not 0 <= float(new.value) < math.inf:
        raise ProfileError(f"{source}: {key} must be a number from 0 on")
    return new
