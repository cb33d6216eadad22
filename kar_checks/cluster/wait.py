"""Waits: a watch from a recorded resourceVersion with a deadline, a goal and an early failure.

They report changes of state, and their timeout error holds the last state.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.model import Reason

Describe = Callable[[Object], str]
Report = Callable[[str], None]


def quiet(_: str) -> None:
    """Report nothing."""


def wait_for(
    cluster: Cluster,
    kind: Kind,
    name: str,
    namespace: str,
    *,
    goal: Callable[[Object], bool],
    seconds: float,
    what: str,
    hopeless: Callable[[Object], HarnessError | None] = lambda _: None,
    overdue: Callable[[Object], HarnessError | None] = lambda _: None,
    describe: Describe = lambda _: "",
    report: Report = quiet,
    begin: Object | None = None,
) -> Object:
    """Wait until ``goal`` holds for one object, and return it as it was then.

    ``hopeless`` names a state that can never reach the goal: it ends the wait at once. ``overdue``
    names what holds an object back that did not reach it in time. ``begin`` is a state that the
    caller has already; the watch starts from its resourceVersion. Before the wait is given up the
    object is read once more, as a proxy may hold back what a watch would tell.

    Raises:
        HarnessError: not reached in time, hopeless, deleted meanwhile, or interrupted.
    """
    deadline = time.monotonic() + seconds
    last = begin if begin is not None else cluster.get(kind, name, namespace)
    said = ""
    while True:
        now = describe(last)
        if now and now != said:
            report(f"{what}: {now}")
            said = now
        if goal(last):
            return last
        if error := hopeless(last):
            raise error
        try:
            changed = _next(cluster, kind, name, namespace, last, deadline)
        except ApiError as error:
            if error.status != 410:
                raise
            changed = cluster.get(kind, name, namespace)
        if changed is None:
            if cluster.stopping.is_set():
                raise HarnessError(Reason.INTERRUPTED, f"{what}: interrupted")
            last = _look_again(cluster, kind, name, namespace) or last
            if goal(last):
                return last
            if held := hopeless(last) or overdue(last):
                raise held
            state = f"; last state: {describe(last)}" if describe(last) else ""
            raise HarnessError(Reason.TIMEOUT, f"{what}: not within {seconds:.0f} s{state}")
        last = changed


def _look_again(cluster: Cluster, kind: Kind, name: str, namespace: str) -> Object | None:
    try:
        return cluster.glance(kind, name, namespace)
    except ApiError as error:
        if error.status == 404:
            raise _deleted(kind, name) from error
        return None


def _deleted(kind: Kind, name: str) -> HarnessError:
    return HarnessError(Reason.POD_FAILED, f"{kind.kind} {name} was deleted by somebody")


def _next(
    cluster: Cluster, kind: Kind, name: str, namespace: str, last: Object, deadline: float
) -> Object | None:
    for change, item in cluster.watch(
        kind,
        namespace,
        resource_version=str(last["metadata"]["resourceVersion"]),
        deadline=deadline,
        fields=f"metadata.name={name}",
    ):
        if change == "DELETED":
            raise _deleted(kind, name)
        return item
    return None


def wait_gone(
    cluster: Cluster, kind: Kind, name: str, namespace: str, *, uid: str, seconds: float
) -> bool:
    """Wait until the object with this ``uid`` is gone; returns whether it is.

    Raises:
        HarnessError: interrupted, so that nobody knows.
    """
    deadline = time.monotonic() + seconds
    found = cluster.find(kind, name, namespace)
    while found is not None and found["metadata"]["uid"] == uid:
        if time.monotonic() >= deadline:
            return False
        if cluster.stopping.is_set():
            raise HarnessError(Reason.INTERRUPTED, f"{kind.kind} {name}: interrupted")
        try:
            for change, item in cluster.watch(
                kind,
                namespace,
                resource_version=str(found["metadata"]["resourceVersion"]),
                deadline=deadline,
                fields=f"metadata.name={name}",
            ):
                if change == "DELETED" and item["metadata"]["uid"] == uid:
                    return True
        except ApiError as error:
            if error.status != 410:
                raise
        found = cluster.find(kind, name, namespace)
    return True
