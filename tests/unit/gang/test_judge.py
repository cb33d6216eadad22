"""What the judge of gang scheduling makes of every observation, as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.gang.checks import TOPIC
from kar_checks.checks.gang.judge import judge
from kar_checks.checks.gang.observation import (
    Arena,
    BackendObservation,
    BoundPod,
    Contest,
    Disturbance,
    Fits,
    GangObservation,
    Incomplete,
    Problem,
    Refusal,
    Squeeze,
    Start,
    Window,
    Witness,
)
from kar_checks.kit.pulse import Beat, Pulsed
from kar_checks.model import Evidence, Fault, Finding, OtherRun, Reason, Record

CHECKS = [one.id for one in TOPIC.checks]
MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
ARENA = Arena(node="n1", free=1000, member=50, places=2.5)


def bound(*ranks: int, at: float = 5.0) -> list[BoundPod]:
    return [BoundPod(name=f"gang-{rank}", at=at + rank / 100) for rank in ranks]


def pulsed(began: float, ended: float, *, silent: tuple[float, float] = (0, 0)) -> Pulsed:
    """A time with a pulse every 2 s, but for those that would have come in ``silent``."""
    moments = [began - 1 + 2 * number for number in range(int(ended - began) // 2 + 3)]
    beats = [Beat(asked=one, answered=one) for one in moments if not silent[0] < one < silent[1]]
    return Pulsed(began=began, ended=ended, beats={"the scheduler x": beats}, lost=0)


def watched(began: float, ended: float, **more: Any) -> Window:
    return Window(
        **{
            "began": began,
            "ended": ended,
            "watched": True,
            "bound": [],
            "pulse": pulsed(began, ended),
            **more,
        }
    )


REFUSED = Refusal(refused=True, condition="Initially=False, Unschedulable", events=["no room"])
SILENT = Refusal(refused=False)
BROKEN = Refusal(refused=False, scheduler_error=True, condition="False, SchedulerError: oops")
WINDOW = watched(1, 32)
WITNESS = Witness(asked=2, bound=2, seconds=0.1)
LATE_WITNESS = Witness(asked=2, bound=2, seconds=5.1)
NO_WITNESS = Witness(asked=2, bound=0)
START = Start(room_at=4, size=4, bound=bound(0, 1, 2, 3), met=4, completed=4)
PARTIAL = Start(room_at=4, size=4, bound=bound(0, 2, 3), waited=pulsed(4, 35))
NEVER = PARTIAL.model_copy(update={"bound": [], "witness": Witness(asked=4, bound=4, seconds=0.2)})
IDLE = NEVER.model_copy(update={"witness": Witness(asked=4, bound=0)})
IMAGE = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no image")
NO_IMAGE = START.model_copy(update={"met": 0, "completed": 0, "fault": IMAGE})
APART = START.model_copy(update={"met": 3})
UNDONE = START.model_copy(update={"completed": 2})
SQUEEZE = Squeeze(
    arena=ARENA,
    groups=[],
    size=4,
    fitting=2,
    control=2,
    window=WINDOW,
    refusal=REFUSED,
    witness=WITNESS,
    start=START,
)
FITS = Fits(arena=ARENA, groups=[], start=START, refill=Witness(asked=4, bound=4, seconds=0.3))
INCOMPLETE = Incomplete(
    arena=ARENA,
    groups=[],
    size=4,
    window=watched(0, 11),
    start=START,
)
FIRST = Start(room_at=4, size=3, bound=bound(0, 1, 2), met=3, completed=3)
CONTEST = Contest(
    arena=ARENA,
    groups=[],
    size=3,
    waiting=watched(0, 1),
    refusals={"one": REFUSED, "other": REFUSED},
    first=FIRST,
    first_name="one",
    held=8,
    beside=watched(5, 13),
    witness=Witness(asked=1, bound=1, seconds=0.1),
    second=FIRST,
)
FOREIGN = Disturbance(at=7, reason="foreign_pod", text="the pod a/b was placed on n1")


def only(check: str, backends: dict[str, Any], *others: OtherRun) -> Finding:
    seen = GangObservation(
        beside=list(others),
        trial="gang",
        evidence=Evidence.SYNTHETIC,
        started=MOMENT,
        finished=MOMENT,
        looked_for=["PodGroup of scheduling.k8s.io (native API)"],
        backends=backends,
    )
    again = TOPIC.parse_observation(seen.model_dump_json())
    (finding,) = judge(check, again, profile.default())
    return finding


def verdict(check: str, scenario: str, part: Record | None) -> tuple[str, str]:
    backend = BackendObservation.model_validate({"version": "v1beta1", scenario: part})
    finding = only(check, {"native": backend})
    assert finding.variant == "native"
    assert finding.summary
    return finding.outcome.value, finding.reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("pass", "nothing_started")),
        ({"start": None}, ("pass", "nothing_started")),
        ({"control": 0}, ("inconclusive", "control_did_not_start_k")),
        ({"control": 4}, ("inconclusive", "control_did_not_start_k")),
        ({"window": None, "refusal": None}, ("inconclusive", "not_observed")),
        ({"window": {"bound": bound(1)}}, ("fail", "bound_without_room")),
        ({"window": {"bound": bound(0, 1, 2, 3)}}, ("fail", "bound_without_room")),
        # A pod that was seen to be bound counts, whatever else was missed.
        ({"window": {"bound": bound(1), "watched": False}}, ("fail", "bound_without_room")),
        ({"window": {"watched": False}}, ("inconclusive", "window_not_watched")),
        ({"window": {"pulse": pulsed(1, 30.5)}}, ("inconclusive", "window_too_short")),
        ({"refusal": SILENT}, ("inconclusive", "not_attributed")),
        (
            {"refusal": REFUSED.model_copy(update={"events": []})},
            ("inconclusive", "not_attributed"),
        ),
        ({"refusal": BROKEN}, ("inconclusive", "scheduler_error")),
        ({"witness": None}, ("inconclusive", "witness_did_not_bind")),
        ({"witness": NO_WITNESS}, ("inconclusive", "witness_did_not_bind")),
        ({"witness": LATE_WITNESS}, ("inconclusive", "witness_did_not_bind")),
        ({"disturbances": [FOREIGN]}, ("inconclusive", "foreign_pod")),
        (
            {"disturbances": [FOREIGN], "window": {"bound": bound(1)}},
            ("inconclusive", "foreign_pod"),
        ),
        # What came only after the window does not touch what was seen in it.
        ({"disturbances": [FOREIGN.model_copy(update={"at": 40})]}, ("pass", "nothing_started")),
    ],
)
def test_all_or_nothing(change: dict[str, Any], expected: tuple[str, str]) -> None:
    update = dict(change)
    if isinstance(update.get("window"), dict):
        update["window"] = WINDOW.model_copy(update=update["window"])
    part = SQUEEZE.model_copy(update=update)
    assert verdict("gang.all_or_nothing", "squeeze", part) == expected


TAKEN = Disturbance(at=2, reason="preempted", text="Kueue took back the quota of our Workload g")
TRIED = pulsed(4, 35)
STUCK = CONTEST.model_copy(
    update={"first": None, "second": None, "stuck": bound(0), "tried": TRIED}
)


@pytest.mark.parametrize(
    ("check", "scenario", "part"),
    [
        ("gang.all_or_nothing", "squeeze", SQUEEZE),
        (
            "gang.all_or_nothing",
            "squeeze",
            SQUEEZE.model_copy(update={"window": WINDOW.model_copy(update={"bound": bound(1)})}),
        ),
        ("gang.release", "squeeze", SQUEEZE),
        ("gang.release", "squeeze", SQUEEZE.model_copy(update={"start": PARTIAL})),
        ("gang.fits", "fits", FITS.model_copy(update={"start": PARTIAL})),
        ("gang.fits", "fits", FITS.model_copy(update={"start": NEVER})),
        ("gang.incomplete_waits", "incomplete", INCOMPLETE),
        ("gang.two_gangs", "contest", CONTEST),
        ("gang.two_gangs", "contest", STUCK),
    ],
)
def test_quota_that_others_take_back_is_neither_a_pass_nor_a_fault_of_the_gang(
    check: str, scenario: str, part: Squeeze | Fits | Incomplete | Contest
) -> None:
    quota = ARENA.model_copy(update={"kind": "quota", "node": "LocalQueue q"})
    seen = part.model_copy(update={"arena": quota, "disturbances": [TAKEN]})
    backend = BackendObservation.model_validate({"version": "v1beta2", scenario: seen})
    finding = only(check, {"kueue": backend})
    assert (finding.outcome.value, finding.reason) == ("inconclusive", "preempted")
    assert "Kueue took back the quota of our Workload g" in finding.summary
    assert "nobody else uses this queue or its cohort" in finding.help


NODE_GONE = Disturbance(at=9, reason="node_changed", text="the node n1 was deleted")
FILLER = Disturbance(at=8, reason="pod_deleted", text="our pod filler was deleted")


@pytest.mark.parametrize("kind", ["node", "quota"])
@pytest.mark.parametrize(
    "reason",
    [
        *("node_added", "node_changed", "foreign_pod", "room_changed"),
        *("pod_deleted", "preempted", "filler_ended", "quota_changed", "group_changed"),
    ],
)
def test_what_others_do_decides_nothing(reason: str, kind: str) -> None:
    arena = ARENA.model_copy(update={"kind": kind})
    event = Disturbance.model_validate({"at": 7, "reason": reason, "text": "the pod x did it"})
    part = FITS.model_copy(update={"arena": arena, "start": NEVER, "disturbances": [event]})
    finding = only("gang.fits", {"native": BackendObservation(version="v1", fits=part)})
    assert (finding.outcome.value, finding.reason) == ("inconclusive", reason)
    assert "the pod x did it" in finding.summary
    assert finding.help


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([FOREIGN, FILLER, NODE_GONE], "node_changed"),
        ([FOREIGN, FILLER], "pod_deleted"),
        ([FOREIGN], "foreign_pod"),
    ],
)
def test_a_lost_node_explains_lost_pods_and_those_explain_room(
    events: list[Disturbance], expected: str
) -> None:
    part = FITS.model_copy(update={"disturbances": events})
    assert verdict("gang.fits", "fits", part) == ("inconclusive", expected)


STARTS: list[tuple[Start, tuple[str, str]]] = [
    (START, ("pass", "started_together")),
    (PARTIAL, ("fail", "partial_start")),
    (NEVER, ("fail", "never_started")),
    (IDLE, ("inconclusive", "witness_did_not_bind")),
    (NO_IMAGE, ("error", "image_unavailable")),
    (APART, ("inconclusive", "members_did_not_meet")),
    (UNDONE, ("inconclusive", "did_not_complete")),
]


@pytest.mark.parametrize(("start", "expected"), STARTS)
@pytest.mark.parametrize(
    ("check", "scenario", "part"),
    [
        ("gang.release", "squeeze", SQUEEZE),
        ("gang.fits", "fits", FITS),
        ("gang.incomplete_waits", "incomplete", INCOMPLETE),
    ],
)
def test_every_start(
    check: str, scenario: str, part: Record, start: Start, expected: tuple[str, str]
) -> None:
    assert verdict(check, scenario, part.model_copy(update={"start": start})) == expected


@pytest.mark.parametrize(
    ("check", "scenario", "part", "expected"),
    [
        ("gang.release", "squeeze", {"control": 1}, "control_did_not_start_k"),
        ("gang.release", "squeeze", {"window": None}, "gang_was_not_waiting"),
        (
            "gang.release",
            "squeeze",
            {"window": WINDOW.model_copy(update={"bound": bound(1)})},
            "gang_was_not_waiting",
        ),
        ("gang.release", "squeeze", {"witness": NO_WITNESS}, "witness_did_not_bind"),
        ("gang.release", "squeeze", {"start": None}, "not_observed"),
        (
            "gang.release",
            "squeeze",
            {"disturbances": [FOREIGN.model_copy(update={"at": 40})]},
            "foreign_pod",
        ),
        ("gang.fits", "fits", {"refill": None}, "room_not_released"),
        ("gang.fits", "fits", {"refill": Witness(asked=4, bound=3)}, "room_not_released"),
        ("gang.fits", "fits", {"disturbances": [FOREIGN]}, "foreign_pod"),
        ("gang.incomplete_waits", "incomplete", {"start": None}, "not_observed"),
        ("gang.incomplete_waits", "incomplete", {"disturbances": [FOREIGN]}, "foreign_pod"),
        (
            "gang.incomplete_waits",
            "incomplete",
            {"window": watched(0, 11, watched=False)},
            "window_not_watched",
        ),
        (
            "gang.incomplete_waits",
            "incomplete",
            {"window": watched(0, 9)},
            "window_too_short",
        ),
        ("gang.two_gangs", "contest", {"disturbances": [FOREIGN]}, "foreign_pod"),
        (
            "gang.two_gangs",
            "contest",
            {"waiting": watched(0, 1, watched=False)},
            "window_not_watched",
        ),
        (
            "gang.two_gangs",
            "contest",
            {"refusals": {"one": REFUSED, "other": SILENT}},
            "not_attributed",
        ),
        (
            "gang.two_gangs",
            "contest",
            {"refusals": {"one": BROKEN, "other": REFUSED}},
            "scheduler_error",
        ),
        ("gang.two_gangs", "contest", {"beside": watched(5, 10)}, "window_too_short"),
        (
            "gang.two_gangs",
            "contest",
            {"beside": watched(5, 13, watched=False)},
            "window_not_watched",
        ),
        ("gang.two_gangs", "contest", {"witness": NO_WITNESS}, "witness_did_not_bind"),
        ("gang.two_gangs", "contest", {"second": None}, "not_observed"),
        (
            "gang.two_gangs",
            "contest",
            {"first": None, "second": None, "witness": NO_WITNESS, "tried": TRIED},
            "witness_did_not_bind",
        ),
    ],
)
def test_what_makes_a_check_inconclusive(
    check: str, scenario: str, part: dict[str, Any], expected: str
) -> None:
    base = {"squeeze": SQUEEZE, "fits": FITS, "incomplete": INCOMPLETE, "contest": CONTEST}
    changed = base[scenario].model_copy(update=part)
    assert verdict(check, scenario, changed) == ("inconclusive", expected)


NEITHER: dict[str, Any] = {"first": None, "second": None, "tried": TRIED}
DEAD = (6.0, 36.0)
"""The API server, or the scheduler, hangs for 30 s."""


@pytest.mark.parametrize(
    ("check", "scenario", "part"),
    [
        (
            "gang.all_or_nothing",
            "squeeze",
            {"window": watched(1, 45, pulse=pulsed(1, 45, silent=DEAD))},
        ),
        (
            "gang.incomplete_waits",
            "incomplete",
            {"window": watched(4.4, 39, pulse=pulsed(4.4, 39, silent=DEAD))},
        ),
        (
            "gang.two_gangs",
            "contest",
            {"beside": watched(5, 37, pulse=pulsed(5, 37, silent=DEAD))},
        ),
        *(
            (check, scenario, {"start": start.model_copy(update={"waited": hung})})
            for check, scenario in (
                ("gang.release", "squeeze"),
                ("gang.fits", "fits"),
                ("gang.incomplete_waits", "incomplete"),
            )
            for start in (PARTIAL, NEVER)
            for hung in (pulsed(4, 44, silent=DEAD),)
        ),
        ("gang.two_gangs", "contest", {**NEITHER, "tried": pulsed(4, 44, silent=DEAD)}),
        (
            "gang.two_gangs",
            "contest",
            {**NEITHER, "stuck": bound(0, 1), "tried": pulsed(4, 44, silent=DEAD)},
        ),
    ],
)
def test_time_without_pulse_is_neither_watched_nor_given_to_the_gang(
    check: str, scenario: str, part: dict[str, Any]
) -> None:
    base = {"squeeze": SQUEEZE, "fits": FITS, "incomplete": INCOMPLETE, "contest": CONTEST}
    changed = base[scenario].model_copy(update=part)
    assert verdict(check, scenario, changed) == ("inconclusive", "window_too_short")


@pytest.mark.parametrize(
    ("check", "scenario", "part"),
    [
        ("gang.all_or_nothing", "squeeze", {"window": WINDOW.model_copy(update={"pulse": None})}),
        (
            "gang.incomplete_waits",
            "incomplete",
            {"window": INCOMPLETE.window.model_copy(update={"pulse": None})},
        ),
        ("gang.two_gangs", "contest", {"beside": None}),
        ("gang.two_gangs", "contest", {**NEITHER, "stuck": bound(0, 1), "tried": None}),
        ("gang.fits", "fits", {"start": PARTIAL.model_copy(update={"waited": None})}),
        ("gang.release", "squeeze", {"start": NEVER.model_copy(update={"waited": None})}),
    ],
)
def test_a_run_of_version_0_1_did_not_record_pulses(
    check: str, scenario: str, part: dict[str, Any]
) -> None:
    base = {"squeeze": SQUEEZE, "fits": FITS, "incomplete": INCOMPLETE, "contest": CONTEST}
    changed = base[scenario].model_copy(update=part)
    assert verdict(check, scenario, changed) == ("inconclusive", "not_recorded")


@pytest.mark.parametrize(
    ("check", "scenario", "part"),
    [
        ("gang.fits", "fits", FITS.model_copy(update={"start": PARTIAL, "watched": False})),
        ("gang.release", "squeeze", SQUEEZE.model_copy(update={"start": NEVER, "watched": False})),
        ("gang.two_gangs", "contest", STUCK.model_copy(update={"watched": False})),
    ],
)
def test_what_did_not_happen_beside_a_swallowed_watch_fails_nobody(
    check: str, scenario: str, part: Record
) -> None:
    assert verdict(check, scenario, part) == ("inconclusive", "window_not_watched")


@pytest.mark.parametrize(
    ("variant", "who", "log"),
    [
        ("native", "kube-scheduler", "`kubectl logs -n kube-system -l component=kube-scheduler`"),
        ("kueue", "Kueue", "`kubectl logs -n kueue-system deployment/kueue-controller-manager`"),
        ("custom", "the gang scheduler custom", "the log of the gang scheduler custom"),
    ],
)
@pytest.mark.parametrize(
    ("check", "scenario", "part", "broken"),
    [
        (
            "gang.all_or_nothing",
            "squeeze",
            SQUEEZE.model_copy(update={"window": WINDOW.model_copy(update={"bound": bound(1)})}),
            "Part of a gang starts before there is room for all of it",
        ),
        (
            "gang.incomplete_waits",
            "incomplete",
            INCOMPLETE.model_copy(update={"window": watched(0, 11, bound=bound(1))}),
            "Part of a gang starts before its last member exists",
        ),
        (
            "gang.fits",
            "fits",
            FITS.model_copy(update={"start": PARTIAL}),
            "Only part of a gang starts",
        ),
        ("gang.fits", "fits", FITS.model_copy(update={"start": NEVER}), "A gang does not start"),
        ("gang.two_gangs", "contest", STUCK, "part of a gang holding its places"),
    ],
)
def test_a_failure_names_what_is_broken_and_where_to_look(
    check: str, scenario: str, part: Record, broken: str, variant: str, who: str, log: str
) -> None:
    backend = BackendObservation.model_validate({"version": "v1", scenario: part})
    finding = only(check, {variant: backend})
    assert finding.outcome.value == "fail"
    assert broken in finding.broken
    assert who in finding.broken
    assert log in finding.help
    assert finding.causes


def test_an_incomplete_gang_that_starts_fails() -> None:
    window = INCOMPLETE.window.model_copy(update={"bound": bound(0)})
    part = INCOMPLETE.model_copy(update={"window": window, "start": None})
    assert verdict("gang.incomplete_waits", "incomplete", part) == ("fail", "bound_incomplete")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("pass", "started_together")),
        (
            {"waiting": watched(0, 1, bound=bound(0))},
            ("fail", "bound_without_room"),
        ),
        ({**NEITHER, "stuck": bound(0, 1)}, ("fail", "deadlock")),
        (NEITHER, ("inconclusive", "witness_did_not_bind")),
        (
            {**NEITHER, "witness": Witness(asked=4, bound=4, seconds=0.1)},
            ("fail", "never_started"),
        ),
        ({"overlap": bound(0)}, ("fail", "bound_without_room")),
        (
            {"second": FIRST.model_copy(update={"bound": bound(0), "waited": TRIED})},
            ("fail", "partial_start"),
        ),
        (
            {
                "second": Start(
                    room_at=4,
                    size=3,
                    bound=[],
                    witness=Witness(asked=3, bound=3, seconds=0.1),
                    waited=TRIED,
                )
            },
            ("fail", "never_started"),
        ),
        ({"first": NO_IMAGE, "second": None}, ("error", "image_unavailable")),
    ],
)
def test_two_gangs(change: dict[str, Any], expected: tuple[str, str]) -> None:
    if change == NEITHER:
        change = {**change, "witness": None}
    part = CONTEST.model_copy(update=change)
    assert verdict("gang.two_gangs", "contest", part) == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("LocalQueue team", ("inconclusive", "other_run")),
        ("ClusterQueue kar-1-fits", ("fail", "partial_start")),
        ("n1", ("fail", "partial_start")),
    ],
)
def test_only_a_queue_of_the_users_is_shared_with_other_runs(
    place: str, expected: tuple[str, str]
) -> None:
    arena = ARENA.model_copy(update={"node": place})
    part = FITS.model_copy(update={"start": PARTIAL, "arena": arena})
    backend = BackendObservation(version="v1", fits=part)
    finding = only("gang.fits", {"x": backend}, OtherRun(id="other"))
    assert (finding.outcome.value, finding.reason) == expected
    alone = only("gang.fits", {"x": backend})
    assert alone.outcome.value == "fail"


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_gang_scheduler_nothing_is_decided(check: str) -> None:
    finding = only(check, {})
    assert (finding.outcome.value, finding.reason) == ("inconclusive", "no_gang_scheduler")
    assert finding.variant == ""
    assert "scheduling.k8s.io" in finding.summary


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("reason", ["field_dropped", "mutated"])
def test_a_field_that_is_not_kept_decides_nothing(check: str, reason: str) -> None:
    problem = Problem(reason=reason, text="spec.schedulingGroup is gone", help="switch it on")
    finding = only(check, {"native": BackendObservation(version="v1beta1", problem=problem)})
    assert (finding.outcome.value, finding.reason) == ("inconclusive", reason)
    assert finding.help == "switch it on"


@pytest.mark.parametrize("check", CHECKS)
def test_a_fault_of_the_harness_is_an_error(check: str) -> None:
    fault = Fault(reason=Reason.FORBIDDEN, message="cannot list nodes", help="grant it")
    for backend in (
        fault,
        BackendObservation(
            version="v1beta1", squeeze=fault, fits=fault, incomplete=fault, contest=fault
        ),
    ):
        finding = only(check, {"native": backend})
        assert (finding.outcome.value, finding.reason) == ("error", "forbidden")


@pytest.mark.parametrize("check", CHECKS)
def test_an_arena_that_was_not_built_decides_nothing(check: str) -> None:
    problem = Problem(reason="arena_not_built", text="no scheduler bound the filler")
    backend = BackendObservation(
        version="v1beta1", squeeze=problem, fits=problem, incomplete=problem, contest=problem
    )
    finding = only(check, {"native": backend})
    assert (finding.outcome.value, finding.reason) == ("inconclusive", "arena_not_built")


@pytest.mark.parametrize("check", CHECKS)
def test_what_was_not_measured_is_not_run(check: str) -> None:
    finding = only(check, {"native": BackendObservation(version="v1beta1")})
    assert finding.outcome.value == "not_run"


@pytest.mark.parametrize("check", CHECKS)
def test_each_pass_says_what_would_have_changed_it(check: str) -> None:
    backend = BackendObservation(
        version="v1beta1", squeeze=SQUEEZE, fits=FITS, incomplete=INCOMPLETE, contest=CONTEST
    )
    finding = only(check, {"native": backend})
    assert finding.outcome.value == "pass"
    assert finding.would_change
    assert finding.facts
