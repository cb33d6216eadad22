"""Following a collection in a thread of its own, with an account of what may have been missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kar_checks.cluster.client import Cluster, Listing, Object, Stop
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.model import Fault

LISTED = "LISTED"
"""The change of an object that a list showed, and not the watch."""
_BEHIND_SECONDS = 5.0
"""How far a watch may be behind a list before it counts as one that delivers nothing."""


class Follower:
    """Follows a collection from a list on, until it is closed.

    ``note`` gets (change, object) in the thread: of the first list and of every later one
    ``LISTED``, of the watch what it delivers. ``misses`` counts the times at which a change may
    have been missed: the server had forgotten where the watch stood, or a list showed what the
    watch did not deliver (a proxy may keep a watch open and swallow what it carries).

    Raises:
        HarnessError: the list was refused.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        namespace: str,
        note: Callable[[str, Object], None],
        *,
        labels: str = "",
        fields: str = "",
        seconds: float,
    ) -> None:
        self.misses = 0
        self.fault: Fault | None = None
        self._cluster, self._kind, self._namespace, self._note = cluster, kind, namespace, note
        self._labels, self._fields = labels, fields
        self._deadline = time.monotonic() + seconds
        self._closed = False
        self._stream = Stop()
        self._moved = threading.Condition()
        self._seen: dict[str, set[str]] = {}
        self._latest: dict[str, Object] = {}
        self._thread = threading.Thread(target=self._follow, args=(self._list(),), daemon=True)
        self._thread.start()

    @property
    def complete(self) -> bool:
        """Whether nothing can have been missed so far."""
        return self.misses == 0 and self.alive

    @property
    def alive(self) -> bool:
        """Whether the watch still goes on."""
        return self.fault is None and self._thread.is_alive()

    def close(self) -> None:
        """End the watch."""
        self._closed = True
        self._stream()
        self._thread.join(timeout=5)

    def check(self) -> bool:
        """List everything and wait until the watch has delivered it; say whether it did.

        What it did not deliver is noted from the list, and the watch begins anew.

        Raises:
            HarnessError: the list was refused, or the server did not answer.
        """
        with self._moved:
            before = set(self._latest)
        items = self._query().items
        present = {str(one["metadata"]["uid"]) for one in items}

        def behind() -> tuple[list[Object], list[str]]:
            late = [one for one in items if not self._delivered(one)]
            return late, [uid for uid in before - present if uid in self._latest]

        deadline = time.monotonic() + _BEHIND_SECONDS
        with self._moved:
            while any(behind()) and (left := deadline - time.monotonic()) > 0:
                self._moved.wait(left)
            late, gone = behind()
            last = [self._latest[uid] for uid in gone]
        if not late and not gone:
            return True
        self.misses += 1
        for one in late:
            self._take(LISTED, one)
        for one in last:
            self._take("DELETED", one)
        self._stream()
        return False

    def _delivered(self, item: Object) -> bool:
        """Say whether a listed state was seen, or that of an object that is gone again."""
        meta = item["metadata"]
        seen = self._seen.get(str(meta["uid"]))
        return seen is not None and (not seen or str(meta["resourceVersion"]) in seen)

    def _take(self, change: str, item: Object) -> None:
        uid = str(item["metadata"]["uid"])
        self._note(change, item)
        with self._moved:
            if change == "DELETED":
                self._latest.pop(uid, None)
                self._seen[uid] = set()
            else:
                self._latest[uid] = item
                self._seen.setdefault(uid, set()).add(str(item["metadata"]["resourceVersion"]))
            self._moved.notify_all()

    def _query(self) -> Listing:
        return self._cluster.list(
            self._kind, self._namespace, labels=self._labels, fields=self._fields
        )

    def _list(self) -> str:
        listing = self._query()
        for item in listing.items:
            self._take(LISTED, item)
        return listing.resource_version

    def _follow(self, version: str) -> None:
        try:
            while not self._closed and time.monotonic() < self._deadline:
                self._stream = Stop()
                try:
                    for change, item in self._cluster.watch(
                        self._kind,
                        self._namespace,
                        resource_version=version,
                        deadline=self._deadline,
                        labels=self._labels,
                        fields=self._fields,
                        stop=self._stream,
                    ):
                        self._take(change, item)
                    if not self._stream.asked:
                        return  # its time is over, or the run is being interrupted
                except ApiError as error:
                    if error.status != 410:
                        raise
                    self.misses += 1
                if not self._closed:
                    version = self._list()
        except HarnessError as error:
            self.fault = error.fault
