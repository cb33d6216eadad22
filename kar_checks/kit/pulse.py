"""Proof that a window was watched: a pulse that API server, watch and scheduler give together.

A window in which nothing must happen proves something only while whatever could have made it
happen was working, and while we would have seen it. So a pod that fits on no node is created every
few seconds. The scheduler's refusal of it, arriving over the same watch, proves all three at once.
Time without such a pulse is not counted.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from kar_checks.cluster import kinds, kueue, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.follow import LISTED, Follower
from kar_checks.cluster.target import RUN_LABEL, Target
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.trial import Trial, manifest
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Reason, Record
from kar_checks.profile import Profile

verdict = Reasons(__package__)

ROLE_LABEL = "kar-checks.dev/role"
WINDOW_LABEL = "kar-checks.dev/window"
ROLE = "pulse"
DEFAULT_SCHEDULER = "default-scheduler"
NOWHERE = "none"
"""The hostname of no node."""
_GIVE_UP_SECONDS = 20.0
"""A pulse without an answer for that long is dropped, and another one is tried."""
_CLOSE_SECONDS = 100.0
"""Longer than a request that waits for an API server takes: no pulse is created after the end."""
_WATCH_SECONDS = 900.0
"""Longer than every window."""
_ROUNDING = 0.05
_MOST_CAUSES = 4
_SHORTEST = 0.1


class Beat(Record):
    """One pulse, in seconds after the start of its scenario."""

    asked: float
    """When the pod was sent."""
    answered: float
    """When the watch showed the scheduler's refusal."""


class Pulsed(Record):
    """A time, and the pulses that prove that it was watched."""

    began: float
    ended: float
    beats: dict[str, list[Beat]]
    """By who had to answer: those within that time, and the next on either side."""
    lost: float
    """Seconds of it without pulse."""
    causes: list[str] = []
    """What was found when a pulse stayed away."""


def alive(beats: Sequence[Beat], most: float) -> list[tuple[float, float]]:
    """Return the times between pulses that are at most ``most`` seconds apart."""
    ends = sorted(one.answered for one in beats)
    return [(one, other) for one, other in itertools.pairwise(ends) if other - one <= most]


def counted(began: float, ended: float, beats: Mapping[str, Sequence[Beat]], most: float) -> float:
    """Return how many seconds between ``began`` and ``ended`` count.

    Those in which everybody who had to answer gave pulses at most ``most`` seconds apart.
    """
    spans = [(began, ended)] if beats else []
    for of_one in beats.values():
        spans = [
            (max(start, begin), min(end, over))
            for start, end in spans
            for begin, over in alive(of_one, most)
            if max(start, begin) < min(end, over)
        ]
    return sum(end - start for start, end in spans)


def most_apart(profile: Profile) -> float:
    """Return how far apart two pulses may be for the time between them to count."""
    return profile.number("pulse.every_seconds") + profile.number("pulse.late_seconds")


def seconds(seen: Pulsed | None, profile: Profile) -> float:
    """Return how many seconds of a stored time count."""
    if seen is None:
        return 0
    return counted(seen.began, seen.ended, seen.beats, most_apart(profile))


def too_short(seen: Pulsed | None, wanted: float, profile: Profile) -> Ruling | None:
    """Return the verdict on a time of which less than ``wanted`` seconds count."""
    if seen is None:
        return not_recorded("whether API server, watch and scheduler worked during the window")
    left = seconds(seen, profile)
    if left + _ROUNDING >= wanted:
        return None
    length = seen.ended - seen.began
    return verdict(
        "window_too_short",
        counted=left,
        length=length,
        wanted=wanted,
        lost=max(length - left, 0),
        who=" and ".join(seen.beats) or "the scheduler",
        causes=f" ({'; '.join(seen.causes)})" if seen.causes else "",
    )


def fact(seen: Pulsed | None, profile: Profile) -> list[Fact]:
    """Return the fact on a time that was watched."""
    if seen is None:
        return []
    number = min((len(one) for one in seen.beats.values()), default=0)
    return [
        Fact(
            name="time that counts",
            value=f"{seconds(seen, profile):.1f} s of {seen.ended - seen.began:.1f} s, proved by "
            f"{number} pulses",
            source=f"a pod for no node every {profile.number('pulse.every_seconds'):g} s, and the "
            f"answer of {' and '.join(seen.beats)} over the same watch",
        )
    ]


class Prover(Protocol):
    """What a pulse is, and how to ask without the watch whether it was answered."""

    @property
    def who(self) -> str:
        """Who has to answer, such as ``the scheduler volcano``."""
        ...

    def body(self, name: str) -> Object:
        """Return the pod to create."""
        ...

    def shown(self, pod: Object) -> bool:
        """Say whether the answer is in the pod, as the watch shows it."""
        ...

    def decided(self, pod: Object) -> bool:
        """Ask the API server whether there is an answer; ``pod`` was just read from it."""
        ...


@dataclass(frozen=True)
class PlainPods:
    """Pulses of a scheduler: plain pods for no node."""

    trial: Trial
    scheduler: str
    labels: Mapping[str, str]
    """What makes the watch that is to be proved show them."""

    @property
    def who(self) -> str:
        """Who has to answer."""
        return f"the scheduler {self.scheduler}"

    def body(self, name: str) -> Object:
        """Return a pod that fits nowhere."""
        return pod(
            name,
            labels=self.labels,
            scheduler=self.scheduler,
            image=self.trial.workspace.target.image("python"),
        )

    def shown(self, pod: Object) -> bool:
        """Say whether the scheduler decided."""
        return scheduled_or_not(pod)

    def decided(self, pod: Object) -> bool:
        """Say whether the scheduler decided."""
        return scheduled_or_not(pod)


def pod(name: str, *, labels: Mapping[str, str], scheduler: str, image: str) -> Object:
    """Return a pod that fits nowhere."""
    return manifest(
        "pulse/pod.yaml.j2",
        name=name,
        labels={**labels, ROLE_LABEL: ROLE},
        scheduler=scheduler,
        hostname=NOWHERE,
        image=image,
    )


def dry_run(target: Target) -> Object:
    """Return a pulse for dry runs."""
    image = target.image("python")
    return pod("pulse-dry-run", labels={}, scheduler=DEFAULT_SCHEDULER, image=image)


def is_pulse(item: Object) -> bool:
    """Say whether a pod is a pulse."""
    return (item["metadata"].get("labels") or {}).get(ROLE_LABEL) == ROLE


def scheduled_or_not(item: Object) -> bool:
    """Say whether a scheduler decided on a pod; one behind a gate was shown to none."""
    said = pods.condition(item, "PodScheduled")
    return pods.bound(item) or (said is not None and said.get("reason") != "SchedulingGated")


class Pulse:
    """Sends pulses in a thread of its own while somebody needs them; one at a time.

    Whoever follows the watch that is to be proved hands on what it shows: :meth:`saw`, or
    :meth:`answer` where the answer is no state of the pod. ``renew`` is called when the watch
    turns out to deliver nothing.
    """

    def __init__(
        self, trial: Trial, name: str, prover: Prover, renew: Callable[[], object] = lambda: None
    ) -> None:
        self.who = prover.who
        self._trial, self._prover, self._renew = trial, prover, renew
        self._prefix = f"pulse-{trial.workspace.run_id}-{name}"
        self._every = trial.number("pulse.every_seconds")
        self._late = trial.number("pulse.late_seconds")
        self._changed = threading.Condition()
        self._needed = 0
        self._hurried = False
        self._closed = False
        self._number = 0
        self._current = ""
        self._answered: float | None = None
        self._gone: set[str] = set()
        self._sent: dict[str, bool] = {}
        """Pulses whose objects may still be there, and whether they were told to go."""
        self._beats: list[Beat] = []
        self._causes: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; what could not be removed stays registered for the run's cleanup."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Have pulses as long as this goes on."""
        with self._changed:
            self._needed += 1
            self._hurried = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._needed -= 1

    def hurry(self) -> None:
        """Ask for a pulse now, and wait for it, or until it would be too late to count."""
        asked = time.monotonic()
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: bool(self._beats) and self._beats[-1].answered >= asked,
                self._every + self._late,
            )

    def saw(self, change: str, item: Object) -> None:
        """Take what the watch shows of a pod; what only a list showed proves no watch."""
        name = str(item["metadata"]["name"])
        if not name.startswith(f"{self._prefix}-"):
            return
        if change == "DELETED":
            with self._changed:
                self._gone.add(name)
                self._changed.notify_all()
        elif change != LISTED and self._prover.shown(item):
            self.answer(name)

    def answer(self, name: str) -> None:
        """Note that the watch showed the answer to a pulse."""
        with self._changed:
            if name == self._current and self._answered is None:
                self._answered = time.monotonic()
                self._changed.notify_all()

    def beats(self, zero: float, began: float, ended: float) -> list[Beat]:
        """Return the pulses between two moments, and the next on either side, after ``zero``."""
        with self._changed:
            known = [
                Beat(asked=round(one.asked - zero, 2), answered=round(one.answered - zero, 2))
                for one in self._beats
            ]
        before = [one for one in known if one.answered < began]
        after = [one for one in known if one.answered > ended]
        within = [one for one in known if began <= one.answered <= ended]
        return [*before[-1:], *within, *after[:1]]

    def causes(self, zero: float, began: float, ended: float) -> list[str]:
        """Return what was found when pulses stayed away between two moments."""
        with self._changed:
            known = [(asked - zero, text) for asked, text in self._causes]
        return [f"at {at:.1f} s {text}" for at, text in known if began - self._every < at < ended]

    # -- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        due = 0.0
        while self._await_turn(due):
            due = time.monotonic() + self._every
            # Nothing here may end the pulses: their absence must be told, not cause an error.
            with suppress(HarnessError):
                self._beat()
            self._sweep()

    def _await_turn(self, due: float) -> bool:
        """Wait until a pulse is due; says whether there is to be one."""
        stopping = self._trial.cluster.stopping
        with self._changed:
            while not self._closed and not stopping.is_set():
                left = due - time.monotonic()
                if self._needed and (left <= 0 or self._hurried):
                    self._hurried = False
                    return True
                self._changed.wait(min(left, 0.5) if self._needed else 0.5)
        return False

    def _beat(self) -> None:
        self._number += 1
        name = f"{self._prefix}-{self._number}"
        asked = time.monotonic()
        with self._changed:
            self._current, self._answered = name, None
        self._sent[name] = False
        try:
            stored = self._trial.workspace.create(kinds.POD, self._prover.body(name), quiet=True)
        except HarnessError as error:
            self._sent.pop(name)
            self._note_cause(asked, f"no pod could be created: {error.fault.message}")
            return
        took = time.monotonic() - asked
        if not self._await_answer(name, self._every) and not self._over(name):
            self._note_cause(asked, self._cause(stored, took))
            self._await_answer(name, _GIVE_UP_SECONDS)
        with self._changed:
            if self._answered is not None:
                self._beats.append(Beat(asked=asked, answered=self._answered))
                self._changed.notify_all()

    def _await_answer(self, name: str, seconds: float) -> bool:
        stopping = self._trial.cluster.stopping
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._answered is None and not self._over(name) and not stopping.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 0.5))
            return self._answered is not None

    def _over(self, name: str) -> bool:
        return self._closed or name in self._gone

    def _note_cause(self, asked: float, text: str) -> None:
        with self._changed:
            if not self._causes or self._causes[-1][1] != text:
                self._causes.append((asked, text))

    def _cause(self, stored: Object, took: float) -> str:
        """Find out who did not answer, by asking without the watch."""
        if took > self._every:
            return f"the API server needed {took:.1f} s to take a pod"
        if gates := kueue.gates(stored):
            return f"a plain pod was held by {', '.join(gates)}"
        began = time.monotonic()
        try:
            found = self._trial.cluster.find(
                kinds.POD, str(stored["metadata"]["name"]), self._trial.namespace
            )
        except HarnessError as error:
            return f"the API server did not answer ({error.fault.message})"
        took = time.monotonic() - began
        if took > self._every:
            return f"the API server needed {took:.1f} s to answer"
        if found is None:
            return "somebody deleted a pod of ours"
        if not self._prover.decided(found):
            return f"{self.who} did not decide on a pod"
        self._renew()
        return f"the watch delivered nothing although {self.who} had decided on a pod"

    def _sweep(self) -> None:
        """Remove pulses that are over; what does not go is left to the run's cleanup."""
        for name, told in list(self._sent.items()):
            if self._trial.cluster.stopping.is_set():
                return
            if name in self._gone:
                self._trial.workspace.forget(kinds.POD, name)
            elif told:
                continue
            else:
                self._sent[name] = True
                with suppress(HarnessError):
                    self._trial.workspace.delete(kinds.POD, name, seconds=0)
                continue
            del self._sent[name]
            self._gone.discard(name)


class Pulses:
    """The pulses that a scenario rests on: everybody who could make happen what must not."""

    def __init__(self, profile: Profile, *pulses: Pulse) -> None:
        self._pulses = pulses
        self._most = most_apart(profile)
        self._extend = profile.number("pulse.extend_seconds")

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Have pulses as long as this goes on."""
        with ExitStack() as stack:
            for one in self._pulses:
                stack.enter_context(one.needed())
            yield

    def hurry(self) -> None:
        """Ask each for a pulse now, and wait for them, or until they would be too late to count."""
        for one in self._pulses:
            one.hurry()

    def seen(self, zero: float, began: float, ended: float) -> Pulsed:
        """Return what proves a time; both in seconds after ``zero`` (monotonic clock)."""
        beats = {one.who: one.beats(zero, began, ended) for one in self._pulses}
        causes = [text for one in self._pulses for text in one.causes(zero, began, ended)]
        left = counted(began, ended, beats, self._most)
        return Pulsed(
            began=round(began, 2),
            ended=round(ended, 2),
            beats=beats,
            lost=round(max(ended - began - left, 0), 2),
            causes=list(dict.fromkeys(causes))[:_MOST_CAUSES],
        )

    def wait(
        self, zero: float, began: float, seconds: float, until: Callable[[float], bool]
    ) -> bool:
        """Let time pass until ``seconds`` since ``began`` count; says whether ``until`` held.

        ``until`` is called with how long it may wait, and ends it early by returning ``True``.
        Time that does not count is made up for, up to ``pulse.extend_seconds``.
        """
        limit = zero + began + seconds + self._extend
        while True:
            now = time.monotonic()
            beats = {one.who: one.beats(zero, began, now - zero) for one in self._pulses}
            missing = seconds - counted(began, now - zero, beats, self._most)
            if missing <= 0 or now >= limit:
                return until(0)
            if until(min(max(missing, _SHORTEST), limit - now)):
                return True
            self.hurry()


class Watched:
    """The pods of a window and its pulses, over one watch; for use in a ``with`` statement.

    For trials that follow no pods of their own. Pods that carry :attr:`labels` are shown.

    Raises:
        HarnessError: our pods cannot be watched.
    """

    def __init__(self, trial: Trial, name: str, scheduler: str = DEFAULT_SCHEDULER) -> None:
        self.labels = {WINDOW_LABEL: name}
        self.zero = time.monotonic()
        self._latest: dict[str, Object] = {}
        self._changed = threading.Condition()
        self._cluster = trial.cluster
        self._stack = ExitStack()
        self._pulse: Pulse | None = None
        self._follower = Follower(
            trial.cluster,
            kinds.POD,
            trial.namespace,
            self._note,
            labels=f"{RUN_LABEL}={trial.workspace.run_id},{WINDOW_LABEL}={name}",
            seconds=_WATCH_SECONDS,
        )
        self._stack.callback(self._follower.close)
        self._pulse = Pulse(
            trial, name, PlainPods(trial, scheduler, self.labels), self._follower.check
        )
        self._stack.callback(self._pulse.close)
        self._pulses = Pulses(trial.profile, self._pulse)
        self._stack.enter_context(self._pulses.needed())

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at(self) -> float:
        """Return the seconds since it was opened."""
        return time.monotonic() - self.zero

    def expect(self, stored: Object) -> None:
        """Begin with a pod as it was created."""
        with self._changed:
            self._latest.setdefault(str(stored["metadata"]["name"]), stored)

    def latest(self, name: str) -> Object:
        """Return a pod as it was seen last."""
        with self._changed:
            return self._latest[name]

    def wait(self, goal: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``goal`` holds; before it gives up the server is asked without the watch.

        Raises:
            HarnessError: the run is being interrupted, or the server does not answer.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not goal() and (left := deadline - time.monotonic()) > 0:
                if self._cluster.stopping.is_set():
                    raise HarnessError(Reason.INTERRUPTED, "the window was interrupted")
                self._changed.wait(min(left, 0.5))
        if not goal():
            self._follower.check()
        return goal()

    def watch(self, goal: Callable[[], bool], began: float, seconds: float) -> Pulsed:
        """Wait until ``goal`` holds, for ``seconds`` after ``began`` that count.

        Returns what proves that time, to its end.

        Raises:
            HarnessError: the run is being interrupted, or the server does not answer.
        """
        self._pulses.wait(self.zero, began, seconds, lambda left: self.wait(goal, left))
        return self.pulsed(began)

    def pass_by(self, seconds: float) -> Pulsed:
        """Let time pass until ``seconds`` from now on count; returns what proves them.

        Raises:
            HarnessError: the run is being interrupted, or the server does not answer.
        """
        return self.watch(lambda: False, self.at(), seconds)

    def poll(
        self, until: Callable[[float], bool], began: float, seconds: float
    ) -> tuple[bool, Pulsed]:
        """Call ``until`` with how long it may wait, until it holds or ``seconds`` count.

        Returns whether it held, and what proves the time.
        """
        held = self._pulses.wait(self.zero, began, seconds, until)
        return held, self.pulsed(began)

    def pulsed(self, began: float) -> Pulsed:
        """Return what proves the time since ``began``."""
        ended = self.at()
        self._pulses.hurry()
        return self._pulses.seen(self.zero, began, ended)

    def _note(self, change: str, item: Object) -> None:
        if is_pulse(item):
            if self._pulse is not None:
                self._pulse.saw(change, item)
            return
        with self._changed:
            self._latest[str(item["metadata"]["name"])] = item
            self._changed.notify_all()
