"""The judge as tables: an observation on the left, outcome and reason on the right."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.resize.checks import TOPIC
from kar_checks.checks.resize.judge import judge
from kar_checks.checks.resize.observation import Burn, Case, Kernel, NodeSigns, Snapshot, Step, Use
from kar_checks.checks.resize.plans import CONTROL, MAIN, SMALL, sized
from kar_checks.model import Fault, Mutation, Outcome, Reason
from tests.unit.resize import cases as c

UP = sized("20m", max_cpu="300m")
RAISED = sized("20m", "32Mi", "300m", "64Mi")
PASS, FAIL, OPEN = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NOT_HERE, ERROR = Outcome.NOT_APPLICABLE, Outcome.ERROR


def verdict(case: Case, mutations: list[Mutation] | None = None) -> tuple[Outcome, str]:
    (found,) = judge(
        f"resize.{case.name}", c.observation(case, mutations=mutations), profile.default()
    )
    assert found.summary
    return found.outcome, found.reason


def ordinary(**spoilt: Any) -> Case:
    return c.case("cpu_up_down", c.step(SMALL, UP, 2, **spoilt))


def unsettled(after: Snapshot, signs: Any = c.ALIVE) -> Case:
    return ordinary(after=after, settled=False, signs=signs)


def refused(status: int, message: str, reason: str = "api_error") -> Case:
    said = {"status": status, "message": message, "reason": reason}
    return ordinary(patch=said, after=c.snapshot(SMALL, 1), settled=False, looks=[])


LIVE_LEASE = NodeSigns(lease_renewed=c.START + timedelta(seconds=55))
BAD_RESOURCES = {"status": SMALL}


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (ordinary(), PASS, "observed"),
        (c.case("cpu_up_down"), OPEN, "not_observed"),
        (ordinary(after=c.snapshot(RAISED, 2, held=SMALL)), FAIL, "kernel_value_differs"),
        (ordinary(after=c.snapshot(RAISED, 2, status=BAD_RESOURCES)), FAIL, "did_not_hold"),
        (
            ordinary(after=c.snapshot(RAISED, 2, status=c.RESTARTED, said=c.FORGOT)),
            FAIL,
            "restarted",
        ),
        (
            ordinary(after=c.snapshot(RAISED, 2, said=c.FORGOT)),
            OPEN,
            "restart_unexplained",
        ),
        (ordinary(after=None, replaced="a new pod of the same name"), OPEN, "pod_replaced"),
        (ordinary(after=c.snapshot(RAISED, 2, uid="theirs")), OPEN, "pod_replaced"),
        (ordinary(after=c.snapshot(RAISED, 2, deleted=True)), OPEN, "pod_replaced"),
        (ordinary(patch={"stored": {MAIN: SMALL}}), OPEN, "mutated"),
        (ordinary(after=c.snapshot(RAISED, 3)), OPEN, "mutated"),
        # Another client resized the pod right after us.
        (unsettled(c.snapshot(RAISED, 3, status=BAD_RESOURCES)), OPEN, "mutated"),
        # A node that is lost explains whatever else is seen of the pod.
        (
            unsettled(c.snapshot(RAISED, 2, status=c.RESTARTED, said=c.FORGOT), c.DEAD),
            OPEN,
            "node_unresponsive",
        ),
        (unsettled(c.snapshot(RAISED, 2, observed_generation=1)), FAIL, "not_settled"),
        (unsettled(c.snapshot(RAISED, 2, conditions=[c.IN_PROGRESS])), FAIL, "not_settled"),
        (unsettled(c.snapshot(RAISED, 2, status=BAD_RESOURCES)), FAIL, "status_differs"),
        (unsettled(c.snapshot(RAISED, 2, observed_generation=1), LIVE_LEASE), FAIL, "not_settled"),
        (
            unsettled(c.snapshot(RAISED, 2, observed_generation=1), c.DEAD),
            OPEN,
            "node_unresponsive",
        ),
        (unsettled(c.snapshot(RAISED, 2, observed_generation=1), None), OPEN, "node_unresponsive"),
        (
            unsettled(c.snapshot(RAISED, 2, conditions=[c.pending("Deferred", "no cpu")])),
            OPEN,
            "no_room",
        ),
        (
            unsettled(
                c.snapshot(
                    RAISED,
                    2,
                    conditions=[c.pending("Infeasible", "swap is not supported for resize")],
                )
            ),
            NOT_HERE,
            "infeasible_by_design",
        ),
        (
            unsettled(
                c.snapshot(RAISED, 2, conditions=[c.pending("Infeasible", "Node is too small")])
            ),
            FAIL,
            "refused_as_infeasible",
        ),
        (refused(422, "only cpu and memory resources are mutable"), FAIL, "refused"),
        (refused(403, "exceeded quota", "quota_exceeded"), ERROR, "quota_exceeded"),
        (refused(403, "User x cannot patch resource", "forbidden"), ERROR, "forbidden"),
    ],
)
def test_an_ordinary_resize(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


def restarted(finished: str, *, looked: float, node_clock: float | None) -> Case:
    """A process that answered ``looked`` seconds before the request, and has ended since.

    ``node_clock``: by how many seconds the node's clock is ahead of ours.
    """
    patched = c.START + timedelta(seconds=1)
    at = patched - timedelta(seconds=looked)
    told = None if node_clock is None else at + timedelta(seconds=node_clock)
    end = c.ENDED.model_copy(update={"finished_at": finished})
    return c.case(
        "cpu_up_down",
        c.step(
            SMALL,
            UP,
            2,
            after=c.snapshot(RAISED, 2, said=c.FORGOT, status={**c.RESTARTED, "last_end": end}),
        ),
        start=c.snapshot(SMALL, 1, said={"at": at, "node_at": told}),
    )


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (restarted("2026-11-22T12:00:02Z", looked=0.2, node_clock=0), FAIL, "restarted"),
        # The node's clock is 5 s behind ours, and 5 s ahead.
        (restarted("2026-11-22T11:59:57Z", looked=0.2, node_clock=-5), FAIL, "restarted"),
        (restarted("2026-11-22T12:00:07Z", looked=0.2, node_clock=5), FAIL, "restarted"),
        (restarted("2026-11-22T11:59:55Z", looked=10, node_clock=0), OPEN, "restarted_before"),
        (restarted("2026-11-22T11:59:50Z", looked=10, node_clock=-5), OPEN, "restarted_before"),
        (restarted("2026-11-22T12:00:00Z", looked=10, node_clock=5), OPEN, "restarted_before"),
        # Runs that did not record the node's clock.
        (restarted("2026-11-22T11:59:57Z", looked=0.2, node_clock=None), FAIL, "restarted"),
        (restarted("2026-11-22T11:59:55Z", looked=10, node_clock=None), OPEN, "restarted_before"),
    ],
)
def test_a_restart_is_ours_by_one_clock(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


NO_STATUS = {"status": None}


@pytest.mark.parametrize(
    ("start", "kubelet", "outcome", "reason"),
    [
        (c.snapshot(SMALL, 1, status=NO_STATUS), "v1.37.0", FAIL, "status_differs"),
        (c.snapshot(SMALL, 1, status=NO_STATUS), "v1.32.4", NOT_HERE, "node_without_resize"),
        (c.snapshot(SMALL, 1, status=NO_STATUS), "", OPEN, "status_missing"),
        (c.snapshot(SMALL, 1, held=RAISED), "v1.37.0", OPEN, "control_differs"),
        (c.snapshot(SMALL, 1, said={"kernel": Kernel()}), "v1.37.0", OPEN, "not_observable"),
        (c.snapshot(SMALL, 1, said={"proof": ""}), "v1.37.0", OPEN, "control_differs"),
    ],
)
def test_the_pod_before_the_first_change(
    start: Snapshot, kubelet: str, outcome: Outcome, reason: str
) -> None:
    case = c.case("cpu_up_down", c.step(SMALL, UP, 2), start=start, kubelet=kubelet)
    assert verdict(case) == (outcome, reason)


def mutation(
    field: str, pod: str = "resize-cpu-up-down", stored: str = "1", sent: str = "150m"
) -> Mutation:
    return Mutation(object=f"Pod/{pod}", field=field, sent=sent, stored=stored)


def rewritten(stored: str, sent: str = "docker.io/library/python:3.13@sha256:677c") -> Mutation:
    return mutation("spec.containers[main].image", stored=stored, sent=sent)


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        (mutation("spec.containers[main].resources.limits.cpu"), OPEN),
        (mutation("spec.containers[main].resizePolicy[1].restartPolicy"), OPEN),
        (mutation("spec.containers[main].resources.limits.cpu", "resize-memory-up"), PASS),
        (mutation("metadata.labels.team"), PASS),
        (mutation("spec.containers[mesh]", stored="added"), PASS),
        # The same digest is the same program, wherever it is pulled from.
        (rewritten("mirror.example/library/python:3.13@sha256:677c"), PASS),
        (rewritten("mirror.example/python@sha256:677c"), PASS),
        (rewritten("mirror.example/library/python:3.13@sha256:9999"), OPEN),
        (rewritten("mirror.example/library/python:3.13"), OPEN),
        (rewritten("mirror.example/python:3.13", "docker.io/library/python:3.13"), OPEN),
        (mutation("spec.containers[main].imagePullPolicy", stored="Always"), PASS),
        (mutation("spec.affinity.nodeAffinity.requiredDuringScheduling", stored="added"), PASS),
    ],
)
def test_what_the_cluster_changed_counts_where_the_case_rests_on_it(
    changed: Mutation, outcome: Outcome
) -> None:
    assert verdict(ordinary(), [changed])[0] is outcome


def test_a_rewritten_image_is_explained_with_the_option_that_helps() -> None:
    changed = [rewritten("mirror.example/library/python:3.13")]
    (found,) = judge(
        "resize.cpu_up_down", c.observation(ordinary(), mutations=changed), profile.default()
    )
    assert "--image-prefix" in found.help


def test_an_injected_container_takes_part_in_the_qos_class() -> None:
    changed = mutation("spec.containers[mesh]", "resize-qos-change-refused", "added")
    assert verdict(qos(422, QOS_WORDS), [changed]) == (OPEN, "mutated")


def test_a_fault_is_an_error_with_its_own_reason() -> None:
    fault = Fault(reason=Reason.IMAGE_UNAVAILABLE, message="no such image", help="mirror it")
    (found,) = judge("resize.sidecar", c.observation(fault, "sidecar"), profile.default())
    assert (found.outcome, found.reason, found.help) == (ERROR, "image_unavailable", "mirror it")


def test_a_case_that_is_missing_is_undecided() -> None:
    (found,) = judge("resize.sidecar", c.observation(ordinary()), profile.default())
    assert (found.outcome, found.reason) == (OPEN, "not_observed")


def test_every_check_has_a_case_that_passes_only_with_an_observation() -> None:
    empty = c.observation(ordinary())
    for check in TOPIC.checks:
        if check.id != "resize.cpu_up_down":
            (found,) = judge(check.id, empty, profile.default())
            assert found.outcome is OPEN


def restarting(times: int, code: int = 143, *, forgot: bool = True, settled: bool = True) -> Case:
    ended = c.ENDED.model_copy(update={"exit_code": code})
    grown = sized("10m", "32Mi", "150m", "96Mi")
    status = {**c.RESTARTED, "restart_count": times, "last_end": ended} if times else None
    after = c.snapshot(grown, 2, status=status, said=c.FORGOT if forgot else None)
    return c.case(
        "restart_policy",
        c.step(
            SMALL,
            sized(max_memory="96Mi"),
            2,
            after=after,
            expect="restart",
            settled=settled,
            signs=None if settled else c.ALIVE,
        ),
    )


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (restarting(1), PASS, "observed"),
        (restarting(0, forgot=False), FAIL, "not_restarted"),
        (restarting(2), FAIL, "restarted_too_often"),
        (restarting(1, code=137), OPEN, "restart_unexplained"),
        (restarting(1, forgot=False), OPEN, "control_differs"),
    ],
)
def test_a_restart_that_the_policy_asks_for(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


def lowered(usage: int | None) -> Case:
    start = c.snapshot(SMALL, 1, said={"memory_bytes": usage})
    return c.case("memory_down", c.step(SMALL, sized(max_memory="48Mi"), 2), start=start)


@pytest.mark.parametrize(
    ("usage", "outcome", "reason"),
    [
        (12 << 20, PASS, "observed"),
        (13 << 20, OPEN, "too_little_headroom"),
        (None, OPEN, "not_observable"),
    ],
)
def test_memory_is_lowered_only_with_headroom(
    usage: int | None, outcome: Outcome, reason: str
) -> None:
    assert verdict(lowered(usage)) == (outcome, reason)


def test_a_limit_below_usage_decides_nothing() -> None:
    told = c.IN_PROGRESS.model_copy(
        update={"reason": "Error", "message": "memory limit (1) below current usage (2)"}
    )
    assert verdict(unsettled(c.snapshot(RAISED, 2, conditions=[told]))) == (
        OPEN,
        "usage_above_limit",
    )


CONTROLLED = sized("10m", "32Mi", "160m", "64Mi")
GUARANTEED = sized("160m", "64Mi", "160m", "64Mi")
QOS_WORDS = "spec: Invalid value: Pod QOS Class may not change as a result of resizing"


def control(**spoilt: Any) -> Step:
    return c.step(SMALL, CONTROL.change[MAIN], 2, name="control", **spoilt)


def asked(name: str, change: Any, status: int, message: str = "", **spoilt: Any) -> Case:
    said = {"status": status, "message": message}
    fields: dict[str, Any] = {"after": c.snapshot(CONTROLLED, 2), "settled": False, "looks": []}
    fields["expect"] = "infeasible" if name == "infeasible" else "refusal"
    return c.case(
        name, control(), c.step(CONTROLLED, change, 3, patch=said, **{**fields, **spoilt})
    )


def qos(status: int, message: str = "", **spoilt: Any) -> Case:
    return asked("qos_change_refused", GUARANTEED, status, message, **spoilt)


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (qos(422, QOS_WORDS), PASS, "observed"),
        (qos(200, after=c.snapshot(GUARANTEED, 3)), FAIL, "accepted"),
        (qos(403, "resizes need a ticket"), OPEN, "refusal_not_attributed"),
        (qos(403, "exceeded quota: cpu"), OPEN, "refusal_not_attributed"),
        (
            qos(422, QOS_WORDS, after=c.snapshot(CONTROLLED, 2, held=GUARANTEED)),
            FAIL,
            "kernel_value_differs",
        ),
        (
            qos(422, QOS_WORDS, after=c.snapshot(CONTROLLED, 2, status=c.RESTARTED, said=c.FORGOT)),
            FAIL,
            "restarted",
        ),
        (c.case("qos_change_refused", control()), OPEN, "not_observed"),
        (
            c.case("qos_change_refused", control(after=c.snapshot(CONTROLLED, 2, held=SMALL))),
            OPEN,
            "control_failed",
        ),
        (
            c.case(
                "qos_change_refused",
                control(patch={"status": 403, "message": "no", "reason": "forbidden"}),
            ),
            ERROR,
            "forbidden",
        ),
    ],
)
def test_a_change_of_the_qos_class(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


AS_BEFORE = {"status": CONTROLLED, "allocated": CONTROLLED["requests"]}
HUGE = sized("6000m", max_cpu="6010m")
WANTED = sized("6000m", "32Mi", "6010m", "64Mi")
NO_ROOM = "node didn't have enough allocatable resources: cpu, requested: 6000, allocatable: 600"


def infeasible(status: int, message: str = "", **spoilt: Any) -> Case:
    return asked("infeasible", HUGE, status, message, **spoilt)


def accepted_as(reason: str, held: Any = CONTROLLED, signs: Any = c.ALIVE) -> Case:
    told = [c.pending(reason, "Node didn't have enough capacity")] if reason else []
    return infeasible(
        200,
        after=c.snapshot(WANTED, 3, held=held, conditions=told, status=AS_BEFORE),
        looks=[c.look(WANTED, 3, conditions=told)],
        signs=signs,
    )


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (infeasible(403, NO_ROOM), PASS, "observed"),
        (accepted_as("Infeasible"), PASS, "observed"),
        (accepted_as("Infeasible", held=WANTED), FAIL, "applied"),
        (accepted_as("", held=WANTED), FAIL, "applied"),
        (accepted_as(""), FAIL, "accepted"),
        (accepted_as("", signs=NodeSigns()), OPEN, "node_unresponsive"),
        (accepted_as("Deferred"), FAIL, "reported_as_deferred"),
        (infeasible(403, "exceeded quota: requests.cpu"), OPEN, "refusal_not_attributed"),
        (infeasible(403, "resizes need a ticket"), OPEN, "refusal_not_attributed"),
        (infeasible(200, after=None, replaced="gone", looks=[]), OPEN, "pod_replaced"),
    ],
)
def test_more_than_a_node_has(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


MORE = sized("60m")
GRANTED = sized("60m", "32Mi", "150m", "64Mi")
WAITING = c.snapshot(GRANTED, 2, held=SMALL, conditions=[c.pending("Deferred", "no cpu")])


def deferral(
    waiting: Snapshot | None = WAITING,
    *,
    left_after: int = 520,
    times: dict[str, Any] | None = None,
    **spoilt: Any,
) -> Case:
    return c.case(
        "deferred",
        c.step(SMALL, MORE, 2, **spoilt),
        arena=c.arena(waiting, left_after=left_after, **(times or {})),
    )


HUNG = c.pulsed(1, 60).model_copy(update={"beats": {"the scheduler x": []}})
STILL: dict[str, Any] = {"after": WAITING, "settled": False, "signs": c.ALIVE}


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (deferral(), PASS, "observed"),
        (deferral(None), OPEN, "not_deferred"),
        (deferral(c.snapshot(GRANTED, 2)), FAIL, "applied_without_room"),
        (
            deferral(c.snapshot(GRANTED, 2, held=SMALL, status=c.RESTARTED, said=c.FORGOT)),
            FAIL,
            "restarted",
        ),
        (deferral(**STILL), FAIL, "not_completed"),
        (deferral(**STILL, left_after=-40), OPEN, "room_taken"),
        # Time in which the API server hangs is neither waited nor given to the kubelet.
        (deferral(times={"window": HUNG}), OPEN, "window_too_short"),
        (deferral(**STILL, times={"settling": HUNG}), OPEN, "window_too_short"),
        (deferral(times={"window": None}), OPEN, "not_recorded"),
        (deferral(**STILL, times={"settling": None}), OPEN, "not_recorded"),
        (deferral(**{**STILL, "signs": c.DEAD}), OPEN, "node_unresponsive"),
        (deferral(after=c.snapshot(GRANTED, 2, held=SMALL)), FAIL, "kernel_value_differs"),
        (deferral(after=None, replaced="gone"), OPEN, "pod_replaced"),
        (c.case("deferred", c.step(SMALL, MORE, 2)), OPEN, "not_observed"),
    ],
)
def test_a_resize_that_waits_for_room(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


def generation(**spoilt: Any) -> Case:
    return c.case("observed_generation", c.step(SMALL, UP, 2, **spoilt))


BEHIND: dict[str, Any] = {"settled": False, "signs": c.ALIVE}


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (generation(), PASS, "observed"),
        (
            generation(after=c.snapshot(RAISED, 2, observed_generation=1), **BEHIND),
            FAIL,
            "generation_not_observed",
        ),
        (
            generation(
                after=c.snapshot(RAISED, 2, observed_generation=1), settled=False, signs=c.DEAD
            ),
            OPEN,
            "node_unresponsive",
        ),
        (
            generation(after=c.snapshot(RAISED, 2, observed_generation=None)),
            FAIL,
            "generation_not_observed",
        ),
        (
            generation(after=c.snapshot(RAISED, 2, observed_generation=3)),
            FAIL,
            "generation_ahead",
        ),
        (generation(patch={"generation": 1}), FAIL, "generation_not_raised"),
        # A webhook undid the request.
        (
            generation(
                patch={"generation": 1, "stored": {MAIN: SMALL}}, after=c.snapshot(SMALL, 1)
            ),
            OPEN,
            "mutated",
        ),
        (
            c.case("observed_generation", c.step(SMALL, UP, 2), kubelet="v1.33.2"),
            NOT_HERE,
            "kubelet_version",
        ),
    ],
)
def test_the_observed_generation(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


def burned(achieved: float, throttled: int = 40) -> Burn:
    """A loop of 4 s that achieved so many cores."""
    return Burn(seconds=4, usage_seconds=4 * achieved, nr_periods=40, nr_throttled=throttled)


def busy(*burns: Burn | None) -> Case:
    uses = [
        Use(at=c.START, steps=number, burns={MAIN: [one]} if one else {})
        for number, one in enumerate(burns)
    ]
    return c.case("busy_loop", c.step(SMALL, UP, 2), uses=uses)


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (busy(burned(0.15), burned(0.30)), PASS, "observed"),
        (busy(burned(0.12), burned(0.36)), PASS, "observed"),
        (busy(burned(0.14, throttled=27), burned(0.29, throttled=30)), PASS, "observed"),
        (busy(burned(0.15), burned(0.15)), FAIL, "cpu_not_followed"),
        (busy(burned(0.15), burned(0.9, throttled=0)), FAIL, "cpu_not_followed"),
        (busy(burned(0.15), burned(0.15, throttled=3)), OPEN, "not_throttled"),
        (busy(burned(0.15, throttled=0), burned(0.30)), OPEN, "not_throttled"),
        (busy(None, burned(0.30)), OPEN, "not_observable"),
        (busy(burned(0.15), Burn(seconds=4, usage_seconds=1)), OPEN, "not_observable"),
    ],
)
def test_a_busy_loop(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (unsettled(c.snapshot(RAISED, 2, observed_generation=1)), OPEN, "api_server_away"),
        (ordinary(after=c.snapshot(RAISED, 2, held=SMALL)), FAIL, "kernel_value_differs"),
        (ordinary(), PASS, "observed"),
    ],
)
def test_waiting_in_vain_while_the_api_server_was_away_fails_nothing(
    case: Case, outcome: Outcome, reason: str
) -> None:
    away = {"disturbances": ["the API server did not answer for 36 s"]}
    seen = c.observation(case).model_copy(update=away)
    (found,) = judge(f"resize.{case.name}", seen, profile.default())
    assert (found.outcome, found.reason) == (outcome, reason)
