"""Other runs of this suite on the same cluster, noticed while one measures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.follow import Follower
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.ownership import OWNER, owner_lives
from kar_checks.cluster.target import MANAGED_BY, RUN_LABEL, SUITE
from kar_checks.model import OtherRun
from kar_checks.store import now

_SECONDS = 86400.0
"""Longer than every run."""


@dataclass
class _Seen:
    first: tuple[float, datetime]
    last: tuple[float, datetime]
    owner: str
    there: set[str] = field(default_factory=set[str])


class OtherRuns:
    """Follows namespaces and pods of other runs until it is closed.

    What we may not see tells nothing: with rights in one namespace only, a run in another one is
    not noticed.

    Raises:
        HarnessError: the server did not answer.
    """

    def __init__(self, cluster: Cluster, run_id: str, namespace: str = "") -> None:
        self._run_id = run_id
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()
        self._followers: list[Follower] = []
        labels = f"{MANAGED_BY}={SUITE},{RUN_LABEL}!={run_id}"
        followed: set[Kind] = set()
        for kind, where in _places(namespace):
            if kind in followed:
                continue
            try:
                self._followers.append(
                    Follower(cluster, kind, where, self._note, labels=labels, seconds=_SECONDS)
                )
                followed.add(kind)
            except ApiError as error:
                if error.status != 403:
                    self.close()
                    raise

    def close(self) -> None:
        """End the watches."""
        for one in self._followers:
            one.close()

    def seen(self, since: float = 0.0) -> list[OtherRun]:
        """Return the runs that were at work after ``since`` (monotonic clock)."""
        moment = (time.monotonic(), now())
        with self._lock:
            for one in self._seen.values():
                if one.there and owner_lives(one.owner):
                    one.last = moment
            return [
                OtherRun(id=run, first=one.first[1], last=one.last[1])
                for run, one in sorted(self._seen.items())
                if one.last[0] >= since
            ]

    def _note(self, change: str, item: Object) -> None:
        meta = item["metadata"]
        run = str((meta.get("labels") or {}).get(RUN_LABEL, ""))
        if run in ("", self._run_id):
            return
        owner = str((meta.get("annotations") or {}).get(OWNER, ""))
        moment = (time.monotonic(), now())
        uid = str(meta["uid"])
        with self._lock:
            known = self._seen.get(run)
            if known is None:
                # A namespace is made by a run at its start, even if that run is over by now; any
                # other object may be what a run that died has left.
                made_now = change == "ADDED" and item.get("kind") == kinds.NAMESPACE.kind
                if change == "DELETED" or not (made_now or owner_lives(owner)):
                    return
                known = self._seen[run] = _Seen(moment, moment, owner)
            known.last = moment
            if change == "DELETED":
                known.there.discard(uid)
            else:
                known.there.add(uid)


def _places(namespace: str) -> Iterator[tuple[Kind, str]]:
    """Yield where to look; of several places for a kind the first that we may see is enough."""
    if not namespace:
        yield kinds.NAMESPACE, ""
    yield kinds.POD, ""
    if namespace:
        yield kinds.POD, namespace
