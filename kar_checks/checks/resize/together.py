"""What the cases of the trial do together: start, compete for a CPU, measure in turn, and hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from kar_checks.checks.resize import plans
from kar_checks.checks.resize.observation import Contest, Look, Spin, look
from kar_checks.checks.resize.subject import Subject
from kar_checks.cluster import kinds, quantity
from kar_checks.cluster.client import Stop
from kar_checks.cluster.errors import ApiError, HarnessError, internal
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason

_WATCH_SECONDS = 3600.0
_PATIENCE_SECONDS = 6.0
"""By how much longer the rival spins than the others, if nobody says that they are done."""
_LABELS = "app.kubernetes.io/name=kar-resize"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Meeting(Generic[Item, Result]):
    """Something that is done once for all parties, as soon as each has come or has left."""

    def __init__(
        self, parties: Iterable[str], act: Callable[[dict[str, Item]], dict[str, Result]]
    ) -> None:
        self._expected = set(parties)
        self._act = act
        self._present: dict[str, Item] = {}
        self._results: dict[str, Result] | HarnessError | None = None
        self._acting = False
        self._changed = threading.Condition()

    def meet(self, name: str, item: Item) -> Result:
        """Wait for all others; returns this party's part of the result.

        Raises:
            HarnessError: what was done together failed.
        """
        with self._changed:
            self._present[name] = item
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: (
                    self._results is not None
                    or (not self._acting and self._expected <= self._present.keys())
                )
            )
            first = self._results is None
            self._acting = True
        if first:
            found: dict[str, Result] | HarnessError
            try:
                found = self._act(dict(self._present))
            except HarnessError as error:
                found = error
            except Exception as error:
                found = internal(error)  # else all others would wait for ever
            with self._changed:
                self._results = found
                self._changed.notify_all()
        if isinstance(self._results, HarnessError):
            raise self._results
        assert self._results is not None, "nobody leaves before there is a result"  # noqa: S101
        return self._results[name]

    def leave(self, name: str) -> None:
        """Do not wait for this party; says nothing if it has been there already."""
        with self._changed:
            self._expected.discard(name)
            self._changed.notify_all()


class Rival:
    """A pod with a request that never changes: the measured requests are compared with it."""

    def __init__(self, trial: Trial, node: str) -> None:
        self._trial = trial
        self._subject = Subject(trial, plans.RIVAL, node=node)
        self._lock = threading.Lock()
        self._trouble: HarnessError | None = None
        self._thread = threading.Thread(target=self._start, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        try:
            self._subject.start()
        except HarnessError as error:
            self._trouble = error
        except Exception as error:
            self._trouble = internal(error)

    def ready(self) -> str:
        """Wait until the pod runs; returns its node.

        Raises:
            HarnessError: it was refused or does not start.
        """
        self._thread.join()
        if self._trouble:
            raise self._trouble
        return self._subject.node

    def contests(self, subjects: dict[str, Subject]) -> dict[str, Contest]:
        """Let a loop of each measured container spin beside the rival's, all on one CPU.

        Raises:
            HarnessError: a loop could not be run.
        """
        self.ready()
        seconds = self._trial.number("resize.contest_seconds")
        rows = [(name, one, each) for name, one in subjects.items() for each in one.plan.spins]
        spins: dict[str, dict[str, Spin]] = {}
        with self._lock, ThreadPoolExecutor(max_workers=len(rows) + 1) as pool:
            cpu = int(self._subject.work(plans.MAIN, {"do": "pick"})["cpu"])
            against = pool.submit(self._subject.spin, plans.MAIN, seconds + _PATIENCE_SECONDS, cpu)
            jobs = [
                (name, each, pool.submit(one.spin, each, seconds, cpu)) for name, one, each in rows
            ]
            try:
                for name, container, job in jobs:
                    spins.setdefault(name, {})[container] = job.result()
            finally:
                self._subject.work(plans.MAIN, {"do": "stop"})
            rival = against.result()
        spec = self._subject.now_held.look.containers
        request = sum(
            quantity.millicores(one.spec.get("requests", {}).get("cpu", "0"))
            for one in spec.values()
        )
        return {
            name: Contest(spins=found, rival=rival, rival_request=request)
            for name, found in spins.items()
        }


class Hold:
    """The time in which nothing may go back: it begins for all cases when the last has settled."""

    def __init__(self, trial: Trial, parties: Iterable[str]) -> None:
        self._trial = trial
        self._meeting: Meeting[float, float] = Meeting(parties, self._ends)

    def _ends(self, settled: dict[str, float]) -> dict[str, float]:
        end = max(settled.values()) + self._trial.number("resize.hold_seconds")
        return dict.fromkeys(settled, end)

    def until(self, name: str, settled: float) -> float:
        """Say when a case settled; returns the end of all, once all have settled."""
        return self._meeting.meet(name, settled)

    def leave(self, name: str) -> None:
        """A case has failed, or has nothing to hold."""
        self._meeting.leave(name)


class States:
    """Every state of the trial's pods, as one watch brings them."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._stop = Stop()
        self._looks: list[tuple[str, Look]] = []
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> States:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop()
        self._thread.join(5)

    def of(self, pod: str) -> list[Look]:
        """Return the states of one pod so far."""
        return [seen for name, seen in list(self._looks) if name == pod]

    def _follow(self) -> None:
        cluster, namespace = self._trial.cluster, self._trial.namespace
        while not self._stop.asked and not cluster.stopping.is_set():
            try:
                found = cluster.list(kinds.POD, namespace, labels=_LABELS)
                for one in found.items:
                    self._looks.append((str(one["metadata"]["name"]), look(one)))
                for change, pod in cluster.watch(
                    kinds.POD,
                    namespace,
                    resource_version=found.resource_version,
                    deadline=time.monotonic() + _WATCH_SECONDS,
                    labels=_LABELS,
                    stop=self._stop,
                ):
                    if change != "DELETED":
                        self._looks.append((str(pod["metadata"]["name"]), look(pod)))
            except ApiError as error:
                if error.status != 410:
                    return  # the look at the end of each case does not depend on it
            except HarnessError as error:
                if error.fault.reason is not Reason.TIMEOUT:
                    return
