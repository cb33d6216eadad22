"""Everything that we create, who owns it, and how it goes away again.

An object is registered for cleanup before it is created, deleted in reverse order under a UID
precondition, and awaited until it is gone. What we did not make is never touched.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import MANAGED_BY, RUN_LABEL, SUITE, Target
from kar_checks.cluster.wait import wait_gone
from kar_checks.model import Cleanup, Leak, Mutation, ObjectRef, Reason

_NO_ACCOUNT_YET = re.compile(r"service ?account .*not found")
_ACCOUNT_SECONDS = 30.0

OWNER = "kar-checks.dev/owner"


def owner_mark(until: float) -> str:
    """Say who owns an object and until when that run can last: ``host/pid/start/until``."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_time(os.getpid())}/{int(until)}"


def owner_lives(mark: str, *, moment: float | None = None) -> bool:
    """Say whether the run that made an object may still go on.

    On the same host the process is looked up; elsewhere the run's own end time decides.
    """
    try:
        host, pid, start, until = mark.split("/")
        if host == socket.gethostname():
            return _start_time(int(pid)) == start and start != ""
        return float(until) > (time.time() if moment is None else moment)
    except ValueError:
        return False


def _start_time(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:  # noqa: PTH123 - not a file
            return stream.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


@dataclass
class _Owned:
    kind: Kind
    namespace: str
    name: str
    uid: str = ""


class Workspace:
    """The objects of one run. Thread-safe.

    ``namespace`` is the run's own, made on entering, or one that the user named.
    """

    def __init__(
        self,
        cluster: Cluster,
        target: Target,
        *,
        run_id: str,
        until: float,
        cleanup_seconds: float = 90.0,
    ) -> None:
        self.cluster = cluster
        self.target = target
        self.run_id = run_id
        self.namespace = target.namespace or f"kar-{run_id}"
        self.mutations: list[Mutation] = []
        self.made: list[ObjectRef] = []
        self._owner = owner_mark(until)
        self._cleanup_seconds = cleanup_seconds
        self._owned: list[_Owned] = []
        self._lock = threading.Lock()

    def open(self, pod_security: str = "restricted") -> None:
        """Make the run's namespace at a level of Pod Security, if none was named."""
        if self.target.namespace:
            return
        labels = {
            f"pod-security.kubernetes.io/{mode}": pod_security for mode in ("enforce", "warn")
        }
        self.create(
            kinds.NAMESPACE,
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": self.namespace, "labels": labels},
            },
        )

    def dressed(self, body: Object) -> Object:
        """Return a manifest as it would be sent, for dry runs and plans."""
        return self.target.dress(body, run_id=self.run_id, owner=self._owner)

    @property
    def marks(self) -> Object:
        """The ``labels`` and ``annotations`` that make an object this run's."""
        marked = Target().dress({}, run_id=self.run_id, owner=self._owner)
        return {key: marked["metadata"][key] for key in ("labels", "annotations")}

    def expect(self, kind: Kind, name: str, *, seconds: float) -> None:
        """Register an object outside namespaces that another program will make with our marks.

        Its end may take ``seconds``; the cleanup waits that long if it must.
        """
        with self._lock:
            self._owned.append(_Owned(kind, "", name))
            self._cleanup_seconds = max(self._cleanup_seconds, seconds)

    def expects(self, kind: Kind, name: str) -> bool:
        """Say whether an object is registered, and was not seen to be gone."""
        with self._lock:
            return any((one.kind, one.name) == (kind, name) for one in self._owned)

    def try_out(self, kind: Kind, body: Object) -> None:
        """Send a manifest as a server-side dry run: admission is asked, nothing is kept.

        Raises:
            ApiError: the server refused.
        """
        namespace = self.namespace if kind.namespaced else ""
        self._create_when_admitted(kind, self.dressed(body), namespace, dry_run=True)

    def create(self, kind: Kind, body: Object, *, quiet: bool = False) -> Object:
        """Create an object in the run's namespace (or cluster-wide), and return it as stored.

        A ``quiet`` one is cleaned up as all are, but no part of what is measured: neither it nor
        what admission changed in it is stored.

        Raises:
            ApiError: the server refused; its reason says whether by right, quota or policy.
        """
        sent = self.dressed(body)
        namespace = self.namespace if kind.namespaced else ""
        owned = _Owned(kind, namespace, sent["metadata"]["name"])
        with self._lock:
            self._owned.append(owned)
        try:
            stored = self._create_when_admitted(kind, sent, namespace)
        except ApiError as error:
            # A refusal made nothing; anything else (a 500 from etcd) may have, so it stays listed.
            if error.status < 500:
                with self._lock:
                    self._owned.remove(owned)
            raise
        owned.uid = stored["metadata"]["uid"]
        if quiet:
            return stored
        with self._lock:
            self.made.append(pods.reference(stored))
            self.mutations.extend(pods.mutations(sent, stored))
        return stored

    def _create_when_admitted(
        self, kind: Kind, sent: Object, namespace: str, *, dry_run: bool = False
    ) -> Object:
        """Create; in a new namespace the first pods come before its default ServiceAccount.

        That is polled, since watching ServiceAccounts would be one more right to ask for.
        """
        deadline = time.monotonic() + _ACCOUNT_SECONDS
        while True:
            try:
                return self.cluster.create(kind, sent, namespace, dry_run=dry_run)
            except ApiError as error:
                early = _NO_ACCOUNT_YET.search(error.server_message)
                if not early or time.monotonic() > deadline or self.cluster.stopping.wait(0.2):
                    raise

    def delete(self, kind: Kind, name: str, *, seconds: float | None = None) -> bool:
        """Delete an object of ours and wait until it is gone; returns whether it is.

        ``seconds`` of 0 does not wait: the object stays registered for the final cleanup.
        """
        with self._lock:
            found = [one for one in self._owned if (one.kind, one.name) == (kind, name)]
        if not found:
            raise HarnessError(
                Reason.INTERNAL,
                f"{kind.kind} {name} was not created by kar-checks and is not deleted",
            )
        owned = found[-1]
        uid = owned.uid or _uid_if_ours(self.cluster, kind, owned.namespace, name, self.run_id)
        gone = not uid or not self.cluster.delete(kind, name, owned.namespace, uid=uid)
        if not gone:
            if seconds == 0:
                return False
            limit = self._cleanup_seconds if seconds is None else seconds
            gone = wait_gone(self.cluster, kind, name, owned.namespace, uid=uid, seconds=limit)
        if gone:
            with self._lock:
                self._owned.remove(owned)
        return gone

    def forget(self, kind: Kind, name: str) -> None:
        """Strike an object off that was seen to be gone, so that nobody deletes it again."""
        with self._lock:
            self._owned = [one for one in self._owned if (one.kind, one.name) != (kind, name)]

    def close(self) -> Cleanup:
        """Delete everything that is left, in reverse order, and give the verdict on it."""
        with self._lock:
            left = list(reversed(self._owned))
        return remove_all(
            self.cluster,
            [(one.kind, one.namespace, one.name, one.uid) for one in left],
            run_id=self.run_id,
            seconds=self._cleanup_seconds,
        )

    def kept(self) -> Cleanup:
        """Leave everything, and say how to look at it and how to remove it."""
        return Cleanup(
            verdict="kept",
            message=f"kept (--keep-on-failure): look with `kubectl -n {self.namespace} get all`, "
            f"remove with `kar cleanup --run {self.run_id}`",
        )


def remove_all(
    cluster: Cluster,
    owned: Iterable[tuple[Kind, str, str, str]],
    *,
    run_id: str,
    seconds: float,
) -> Cleanup:
    """Delete (kind, namespace, name, uid) in order; an empty uid is taken from the run's label.

    First everything is asked to go, then each is awaited, so that waits overlap.
    """
    going: list[tuple[Kind, str, str, str]] = []
    leaks: list[Leak] = []
    for kind, namespace, name, uid in owned:
        try:
            known = uid or _uid_if_ours(cluster, kind, namespace, name, run_id)
            if known and cluster.delete(kind, name, namespace, uid=known):
                going.append((kind, namespace, name, known))
        except HarnessError as error:
            leaks.append(_leak(kind, namespace, name, uid, error.fault.message))
    deadline = time.monotonic() + seconds
    removed = 0
    for kind, namespace, name, uid in going:
        left = max(1.0, deadline - time.monotonic())
        try:
            if wait_gone(cluster, kind, name, namespace, uid=uid, seconds=left):
                removed += 1
            else:
                why = _why_stays(cluster, kind, namespace, name, seconds)
                leaks.append(_leak(kind, namespace, name, uid, why))
        except HarnessError as error:
            leaks.append(_leak(kind, namespace, name, uid, error.fault.message))
    if not leaks:
        return Cleanup(verdict="clean", removed=removed)
    return Cleanup(
        verdict="leaked",
        removed=removed,
        leaks=leaks,
        message=f"{len(leaks)} objects of this run are left: `kar cleanup --run {run_id}` retries",
    )


def _uid_if_ours(cluster: Cluster, kind: Kind, namespace: str, name: str, run_id: str) -> str:
    found = cluster.find(kind, name, namespace)
    labels: Object = (found or {}).get("metadata", {}).get("labels") or {}
    return str(found["metadata"]["uid"]) if found and labels.get(RUN_LABEL) == run_id else ""


def _leak(kind: Kind, namespace: str, name: str, uid: str, why: str) -> Leak:
    ref = ObjectRef(
        api_version=kind.api_version, kind=kind.kind, namespace=namespace, name=name, uid=uid
    )
    return Leak(object=ref, why=why)


def _why_stays(cluster: Cluster, kind: Kind, namespace: str, name: str, seconds: float) -> str:
    found = cluster.find(kind, name, namespace) or {}
    finalizers = ((found.get("metadata") or {}).get("finalizers")) or []
    spec_finalizers = (found.get("spec") or {}).get("finalizers") or []
    conditions: list[Any] = (found.get("status") or {}).get("conditions") or []
    told = [str(one.get("message")) for one in conditions if one.get("status") == "True"]
    parts = [f"not gone after {seconds:.0f} s"]
    if finalizers or spec_finalizers:
        parts.append(f"held by {', '.join([*finalizers, *spec_finalizers])}")
    return "; ".join(parts + told[:3])


@dataclass(frozen=True)
class Leftover:
    """An object of ours that ``kar cleanup`` found by its labels."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    run_id: str
    owner: str


def find_leftovers(
    cluster: Cluster, searched: Iterable[Kind], *, run_id: str = "", namespace: str = ""
) -> list[Leftover]:
    """Return every object with our labels, cluster-scoped kinds first to ask and last to delete.

    ``searched`` are the kinds to look for; kinds that the server does not serve are passed over.

    Raises:
        ApiError: a list was refused.
    """
    labels = f"{MANAGED_BY}={SUITE}" + (f",{RUN_LABEL}={run_id}" if run_id else "")
    out: list[Leftover] = []
    for kind in searched:
        if namespace and not kind.namespaced:
            continue
        try:
            found = cluster.list(kind, namespace, labels=labels).items
        except ApiError as error:
            if error.status in (404, 405):
                continue
            raise
        for item in found:
            meta = item["metadata"]
            out.append(
                Leftover(
                    kind=kind,
                    namespace=str(meta.get("namespace", "")),
                    name=str(meta["name"]),
                    uid=str(meta["uid"]),
                    run_id=str((meta.get("labels") or {}).get(RUN_LABEL, "")),
                    owner=str((meta.get("annotations") or {}).get(OWNER, "")),
                )
            )
    return out


def runs_at_work(cluster: Cluster, run_id: str, namespace: str = "") -> list[str]:
    """Return the ids of other runs of ours that may be at work on this cluster now.

    What we may not list tells nothing; a run in a namespace that we may not see is not noticed.

    Raises:
        HarnessError: the server did not answer.
    """
    found: set[str] = set()
    for kind in (kinds.NAMESPACE, kinds.POD):
        try:
            there = find_leftovers(cluster, [kind], namespace=namespace)
        except ApiError as error:
            if error.status != 403:
                raise
            continue
        found.update(one.run_id for one in there if owner_lives(one.owner))
    return sorted(found - {run_id, ""})


def find_dependents(
    cluster: Cluster, searched: Iterable[Kind], found: Sequence[Leftover]
) -> list[Leftover]:
    """Return what a controller made for leftovers, and without whose end they do not go.

    It carries no label of ours, but is owned by one of them.

    Raises:
        ApiError: a list was refused.
    """
    owners = {one.uid: one for one in found}
    out: list[Leftover] = []
    for kind in searched:
        for namespace in sorted({one.namespace for one in found if one.namespace}):
            try:
                items = cluster.list(kind, namespace).items
            except ApiError as error:
                if error.status in (404, 405):
                    break
                raise
            for item in items:
                meta = item["metadata"]
                ours = [
                    owners[one["uid"]]
                    for one in meta.get("ownerReferences") or []
                    if one["uid"] in owners
                ]
                if ours:
                    name, uid = str(meta["name"]), str(meta["uid"])
                    out.append(Leftover(kind, namespace, name, uid, ours[0].run_id, ours[0].owner))
    return out
