"""What counts of a window, and the pods that prove it, on a small API server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kar_checks import profile
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.follow import LISTED, Follower
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.kit import pulse as pulses
from kar_checks.kit.pulse import Beat, PlainPods, Pulse, Pulsed, Pulses, alive, counted
from kar_checks.kit.trial import Trial
from tests.unit.apiserver import ApiServer, refusal

RUN = "20261122-101504-9f3a"
FACTS = Facts("v1.37.0", "me", "uid", [], frozenset())


def beats(*moments: float) -> list[Beat]:
    return [Beat(asked=one, answered=one) for one in moments]


STEADY = beats(*range(-1, 60, 2))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (beats(1), []),
        (beats(1, 3), [(1, 3)]),
        (beats(1, 3.6), []),
        (beats(1, 3, 33, 35), [(1, 3), (33, 35)]),
    ],
)
def test_time_between_pulses_counts_if_they_follow_each_other(
    given: list[Beat], expected: list[tuple[float, float]]
) -> None:
    assert alive(given, 2.5) == expected


@pytest.mark.parametrize(
    ("began", "ended", "given", "expected"),
    [
        (0, 10, {"a": STEADY}, 10),
        (0, 10, {}, 0),
        (0, 10, {"a": []}, 0),
        # A hang of 30 s, 1.6 s into a window: the pulse that was asked for in it came late.
        (0, 33, {"a": beats(-1, 1, 31.7, 33.7)}, 1 + 1.3),
        # One of 2.5 s: the time from the last pulse on is lost, and no more.
        (0, 12, {"a": beats(-1, 1, 4.1, 6.1, 8.1, 10.1, 12.1)}, 12 - 3.1),
        # What comes after the last pulse is not known to have been watched.
        (0, 10, {"a": beats(-1, 1, 3, 5)}, 5),
        (4, 10, {"a": beats(6, 8, 10)}, 4),
        # Each has to answer: of two only the time that both prove.
        (0, 10, {"a": STEADY, "b": beats(-1, 1, 3)}, 3),
        (0, 10, {"a": beats(0, 2, 4), "b": beats(6, 8, 10)}, 0),
    ],
)
def test_what_counts_of_a_window(
    began: float, ended: float, given: dict[str, list[Beat]], expected: float
) -> None:
    assert counted(began, ended, given, 2.5) == pytest.approx(expected)


def test_less_than_is_needed_is_inconclusive_with_numbers_and_causes() -> None:
    seen = Pulsed(
        began=0,
        ended=33,
        beats={"the scheduler x": beats(-1, 1, 31.7, 33.7)},
        lost=30.7,
        causes=["at 3.0 s the API server needed 29 s to take a pod"],
    )
    found = pulses.too_short(seen, 6, profile.default())
    assert found is not None
    assert (found.outcome.value, found.reason) == ("inconclusive", "window_too_short")
    assert "2.3 s of the 33.0 s window count" in found.summary
    assert "6 s are needed: for 30.7 s nothing showed" in found.summary
    assert "the scheduler x worked" in found.summary
    assert "the API server needed 29 s" in found.summary
    assert pulses.too_short(seen, 2, profile.default()) is None
    old = pulses.too_short(None, 2, profile.default())
    assert old is not None
    assert old.reason == "not_recorded"


class Scheduler:
    """Refuses every pod as long as it is on, as the real one does those for no node."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.on, self.over = api, True, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.over = True
        self._thread.join(5)

    def _run(self) -> None:
        while not self.over:
            time.sleep(0.005)
            for key, item in list(self.api.objects.items()):
                if self.on and key[2] == "pods" and "status" not in item:
                    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                    self.api.put("MODIFIED", key, {**item, "status": {"conditions": [said]}})


@pytest.fixture
def scheduler(api: ApiServer) -> Iterator[Scheduler]:
    found = Scheduler(api)
    yield found
    found.close()


@pytest.fixture
def trial(cluster: Cluster) -> Trial:
    quick = profile.load(None, ["pulse.every_seconds=0.1", "pulse.late_seconds=0.3"])
    space = Workspace(cluster, Target(namespace="n"), run_id=RUN, until=time.time() + 60)
    return Trial(cluster, space, FACTS, quick, frozenset())


Begin = Callable[[], tuple[Pulse, Follower]]


@pytest.fixture
def begin(trial: Trial) -> Iterator[Begin]:
    made: list[Pulse | Follower] = []

    def started() -> tuple[Pulse, Follower]:
        pulse = Pulse(trial, "x", PlainPods(trial, "x", {"a": "b"}))
        follower = Follower(trial.cluster, kinds.POD, "n", pulse.saw, seconds=20)
        made.extend([pulse, follower])
        return pulse, follower

    yield started
    for one in made:
        one.close()


def left(api: ApiServer) -> list[str]:
    return [key[3] for key in api.objects if key[2] == "pods"]


def test_pulses_come_while_they_are_needed_and_leave_nothing(
    api: ApiServer, trial: Trial, scheduler: Scheduler, begin: Begin
) -> None:
    pulse, _ = begin()
    time.sleep(0.3)
    assert api.asked("POST") == []
    zero = time.monotonic()
    with pulse.needed():
        together = Pulses(trial.profile, pulse)
        assert not together.wait(zero, 0, 0.5, lambda left: time.sleep(left) or False)  # type: ignore[func-returns-value]
        ended = time.monotonic() - zero
        together.hurry()
    seen = together.seen(zero, 0, ended)
    assert 4 <= len(seen.beats["the scheduler x"]) <= 12
    assert seen.lost < 0.2
    assert seen.causes == []
    pulse.close()
    assert left(api) == []
    assert trial.workspace.made == []
    assert trial.workspace.mutations == []
    body: Object = api.asked("POST")[0].body
    assert body["metadata"]["labels"]["kar-checks.dev/run"] == RUN
    assert body["spec"]["schedulerName"] == "x"
    assert body["spec"]["nodeSelector"]["kubernetes.io/hostname"] == "none"
    (container,) = body["spec"]["containers"]
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    posts, deletes = api.asked("POST"), api.asked("DELETE")
    assert len(deletes) <= len(posts) + 1


def hung(together: Pulses, seconds: float) -> tuple[Pulsed, float]:
    zero = time.monotonic()
    together.wait(zero, 0, seconds, lambda left: bool(time.sleep(left)))  # type: ignore[func-returns-value]
    ended = time.monotonic() - zero
    return together.seen(zero, 0, ended), ended


def test_a_scheduler_that_hangs_gives_no_pulse_and_is_named(
    trial: Trial, scheduler: Scheduler, begin: Begin
) -> None:
    trial.profile = profile.load(
        None,
        ["pulse.every_seconds=0.1", "pulse.late_seconds=0.3", "pulse.extend_seconds=0.5"],
    )
    pulse, _ = begin()
    scheduler.on = False
    with pulse.needed():
        seen, ended = hung(Pulses(trial.profile, pulse), 0.5)
    assert 1 <= ended < 3
    assert seen.lost == pytest.approx(ended, abs=0.1)
    assert seen.causes[0].endswith("the scheduler x did not decide on a pod")


def test_a_window_is_made_longer_by_what_a_short_hang_took(
    trial: Trial, scheduler: Scheduler, begin: Begin
) -> None:
    pulse, _ = begin()
    together = Pulses(trial.profile, pulse)
    with pulse.needed():
        together.hurry()
        scheduler.on = False
        threading.Timer(0.8, lambda: setattr(scheduler, "on", True)).start()
        seen, ended = hung(together, 1)
    assert ended > 1.5
    assert pulses.too_short(seen, 1, trial.profile) is None


def test_a_watch_that_a_proxy_swallows_is_told_from_a_scheduler_that_hangs(
    api: ApiServer, trial: Trial, scheduler: Scheduler
) -> None:
    api.streams.append([60.0])
    renewed: list[bool] = []
    pulse = Pulse(trial, "x", PlainPods(trial, "x", {}), lambda: renewed.append(True))
    follower = Follower(trial.cluster, kinds.POD, "n", pulse.saw, seconds=20)
    with pulse.needed():
        deadline = time.monotonic() + 5
        while not renewed and time.monotonic() < deadline:
            time.sleep(0.02)
    (cause,) = pulse.causes(time.monotonic() - 10, 0, 20)
    assert "the watch delivered nothing although the scheduler x had decided" in cause
    pulse.close()
    follower.close()
    assert pulse.beats(0, 0, 1e12) == []


def test_what_only_a_list_shows_is_no_pulse(api: ApiServer, trial: Trial, begin: Begin) -> None:
    pulse, _ = begin()
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    with pulse.needed():
        deadline = time.monotonic() + 5
        while not (found := left(api)) and time.monotonic() < deadline:
            time.sleep(0.01)
        pod: Object = {"metadata": {"name": found[0]}, "status": {"conditions": [said]}, "spec": {}}
        pulse.saw(LISTED, pod)
        assert pulse.beats(0, 0, 1e12) == []
        pulse.saw("MODIFIED", pod)
        while not pulse.beats(0, 0, 1e12) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(pulse.beats(0, 0, 1e12)) == 1


def test_a_pulse_that_is_refused_says_why(api: ApiServer, trial: Trial, begin: Begin) -> None:
    pulse, _ = begin()
    time.sleep(0.1)  # the watch has begun
    api.answers.append(refusal(403, "Forbidden", "exceeded quota: pods=0"))
    with pulse.needed():
        pulse.hurry()
    cause, *_ = pulse.causes(time.monotonic() - 10, 0, 20)
    assert "no pod could be created" in cause
    assert "exceeded quota" in cause


def test_a_pulse_behind_a_gate_was_shown_to_no_scheduler() -> None:
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    assert not pulses.scheduled_or_not({"spec": {}, "status": {"conditions": [gated]}})
    assert pulses.scheduled_or_not({"spec": {"nodeName": "n"}, "status": {}})
