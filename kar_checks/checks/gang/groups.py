"""Groups of ours, watched while a scenario is measured: nobody else may change or delete them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from kar_checks.checks.gang.observation import Disturbance
from kar_checks.cluster import wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.follow import Follower
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason

_NOTHING = object()
_MOST = 3
"""So many changed fields are named."""


def changes(before: Object, now: Object) -> list[str]:
    """Return what differs between two states of ``spec``, such as ``minCount went from 3 to 1``.

    Status and metadata are the scheduler's own business.
    """
    return list(_differences("", before.get("spec"), now.get("spec")))


def _differences(path: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            # A field in a list needs its place there, any other is known by its own name.
            inside = f"{path}.{key}" if "[" in path else str(key)
            yield from _differences(inside, before.get(key, _NOTHING), now.get(key, _NOTHING))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{path}[{index}]", one, other)
    elif now is _NOTHING:
        yield f"{path} was removed"
    elif before is _NOTHING:
        yield f"{path} was set to {_short(now)}"
    elif before != now:
        yield f"{path} went from {_short(before)} to {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def what_happened(change: str, before: Object, now: Object) -> str:
    """Return what somebody did to a group between two states of it; empty if nothing."""
    label = f"{now['kind']} {now['metadata']['name']}"
    if _is_going(change, now):
        return "" if _is_going("", before) else f"{label} was deleted"
    if not _is_going("", before) and _uid(before) != _uid(now):
        return f"{label} was deleted and created again"
    found = changes(before, now)
    return f"{label} was changed: {', '.join(found[:_MOST])}" if found else ""


def _is_going(change: str, item: Object) -> bool:
    return change == "DELETED" or bool(item["metadata"].get("deletionTimestamp"))


def _uid(item: Object) -> str:
    return str(item["metadata"].get("uid", ""))


class OwnGroups:
    """The group objects of one scenario, each from its creation on."""

    def __init__(self, trial: Trial, seconds: float) -> None:
        self._trial, self._seconds = trial, seconds
        self._watches = ExitStack()
        self._followers: list[Follower] = []
        self._latest: dict[tuple[str, str], Object] = {}
        self._seen: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def follow(self, kind: Kind, stored: Object) -> None:
        """Follow a group from the state in which it was created; whoever may not, does not."""
        name = str(stored["metadata"]["name"])
        self._latest[kind.plural, name] = stored

        def note(change: str, item: Object) -> None:
            moment = time.monotonic()
            with self._lock:
                before = self._latest[kind.plural, name]
                self._latest[kind.plural, name] = item
                told = {"kind": kind.kind, **item}
                if text := what_happened(change, before, told):
                    self._seen.append((moment, text))

        try:
            follower = Follower(
                self._trial.cluster,
                kind,
                self._trial.namespace,
                note,
                fields=f"metadata.name={name}",
                seconds=self._seconds,
            )
        except HarnessError as error:
            if error.fault.reason is not Reason.FORBIDDEN:
                raise
            return
        self._followers.append(follower)
        self._watches.callback(follower.close)

    @property
    def alive(self) -> bool:
        """Whether all watches go on."""
        return all(one.alive for one in self._followers)

    @property
    def misses(self) -> int:
        """How often a change may have been missed so far."""
        return sum(one.misses for one in self._followers)

    def check(self) -> None:
        """Ask for everything once more, so that no change up to now is still on its way."""
        for one in self._followers:
            one.check()

    def changed(self, zero: float) -> list[Disturbance]:
        """Return what somebody did to the groups."""
        with self._lock:
            return [group_changed(moment - zero, text) for moment, text in self._seen]

    def close(self) -> None:
        """End the watches: from here on the groups go because we want them to."""
        self._watches.close()


def group_changed(at: float, text: str) -> Disturbance:
    """Return the record of what somebody did to a group."""
    return Disturbance(at=round(at, 2), reason="group_changed", text=text)


def await_state(
    trial: Trial, kind: Kind, name: str, goal: Callable[[Object], bool], seconds: float
) -> bool:
    """Wait for a state of an object, and return whether it came: the object may be deleted."""
    what = f"{kind.kind} {name}"
    try:
        wait.wait_for(
            trial.cluster, kind, name, trial.namespace, goal=goal, seconds=seconds, what=what
        )
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    except HarnessError as error:
        # Nothing else makes this one a failed pod than its deletion.
        if error.fault.reason not in (Reason.TIMEOUT, Reason.POD_FAILED):
            raise
        return False
    return True
