"""What the trial sees of each gang scheduler, and what those of one trial share.

Those that place pods have one :class:`Assessment` (``placement.py``), Kueue has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from threading import Lock
from typing import Protocol

from kar_checks.checks.gang.arena import choose
from kar_checks.checks.gang.observation import Canary, Problem
from kar_checks.checks.gang.stage import WATCH_SECONDS, Place
from kar_checks.checks.gang.watching import GANG_LABEL, OwnPods, Surroundings
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.kit.pulse import PlainPods, Prover, Pulse
from kar_checks.kit.trial import Trial
from kar_checks.model import Figure, Record


class Bench:
    """The room of a trial, for use in a ``with`` statement.

    Raises:
        HarnessError: our own pods cannot be watched.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.figures: list[Figure] = []
        self._watches = ExitStack()
        self._free: SimpleQueue[Place] = SimpleQueue()
        self._why_none: HarnessError | None = None
        self._pulses: dict[str, Pulse] = {}
        self._lock = Lock()
        self.own = OwnPods(trial.cluster, trial.namespace, trial.workspace.run_id, WATCH_SECONDS)
        self._watches.callback(self.own.close)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._watches.close()

    def pulse(self, scheduler: str) -> Pulse:
        """Return the pulse of a scheduler, over the watch of our own pods."""
        prover = PlainPods(self.trial, scheduler, {GANG_LABEL: "pulse"})
        return self.beating(scheduler, prover, renew=self.own.sync)

    def beating(
        self,
        name: str,
        prover: Prover,
        renew: Callable[[], object],
        meanwhile: Callable[[Pulse], Callable[[], object]] | None = None,
    ) -> Pulse:
        """Return the pulse of that name, which all scenarios share; the first who asks makes it.

        ``meanwhile`` begins what it needs besides, and returns what ends that.
        """
        with self._lock:
            if name not in self._pulses:
                made = Pulse(self.trial, name, prover, renew)
                self.own.proves(made)
                if meanwhile is not None:
                    self._watches.callback(meanwhile(made))
                self._watches.callback(made.close)
                self._pulses[name] = made
            return self._pulses[name]

    def furnish(self, canaries: Sequence[Canary], places: int, wanted: int) -> None:
        """Choose up to ``wanted`` nodes with room for ``places`` members.

        Without any, or without the right to look, only those fail who ask for :meth:`node`.
        """
        try:
            around = Surroundings(self.trial.cluster, WATCH_SECONDS)
            self._watches.callback(around.close)
            rooms = choose(self.trial, places, wanted, canaries=canaries, seconds=WATCH_SECONDS)
        except HarnessError as error:
            self._why_none = error
            return
        for hostname, room in rooms:
            self._watches.callback(room.close)
            self._free.put(Place(hostname=hostname, room=room, around=around))

    @contextmanager
    def node(self) -> Iterator[Place]:
        """Wait for a node, and have it alone: a pod of a trial is only on a node that it holds.

        Raises:
            HarnessError: there is no node to wait for.
        """
        if self._why_none is not None:
            raise self._why_none
        place = self._free.get()
        try:
            yield place
        finally:
            self._free.put(place)


class Assessment(Protocol):
    """One gang scheduler, with the way in which it is assessed."""

    name: str
    """The variant of every finding, and the beginning of the names of its pods."""
    looks_for: str
    """What :meth:`detect` looks for, in words."""

    def detect(self, facts: Facts) -> str:
        """Return the API that is served, such as ``scheduling.k8s.io/v1beta1``, else nothing."""

    def canary(self, trial: Trial) -> Canary | Problem:
        """Try one member, and say what would make every part pointless."""

    def parts(self, bench: Bench) -> Mapping[str, Callable[[], Record]]:
        """Return what is to be measured for the selected checks, the longest first.

        By the field of ``BackendObservation`` that takes the result. All parts of all gang
        schedulers run at once; one that makes pods does so on a node that it got from
        ``bench.node()``.
        """
