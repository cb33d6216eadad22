"""What had settled must stay: the kernel's record, the status, and how long it was watched."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.resize.judge import judge
from kar_checks.checks.resize.observation import Case, Hold, Kernel, Look, ResizeObservation
from kar_checks.checks.resize.plans import CONTROL, MAIN, SMALL, sized
from kar_checks.model import Finding, Outcome
from tests.unit.resize import cases as c

PASS, FAIL, OPEN = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
UP = sized("30m", max_cpu="400m")
RAISED = sized("30m", "32Mi", "400m", "64Mi")
NEW, OLD = c.kernel_of(RAISED), c.kernel_of(SMALL)
V2_OLD = Kernel(
    version="v2", files={"cpu.max": "15000 100000", "cpu.weight": "1", "memory.max": "67108864"}
)
V2_NEW = Kernel(
    version="v2", files={"cpu.max": "40000 100000", "cpu.weight": "2", "memory.max": "67108864"}
)
V2_NEWER = Kernel(
    version="v2", files={"cpu.max": "20000 50000", "cpu.weight": "7", "memory.max": "67108864"}
)
"""The same resources in other words: another period, and the newer formula of the weight."""


LIMIT = "observed_generation"
"""A case of which no weights are measured; the made-up ones are those of version 1."""


def found(case: Case) -> Finding:
    (finding,) = judge(f"resize.{case.name}", c.observation(case), profile.default())
    return finding


def verdict(case: Case) -> tuple[Outcome, str]:
    finding = found(case)
    return finding.outcome, finding.reason


def at(seconds: float) -> datetime:
    return c.START + timedelta(seconds=seconds)


def seen(*changes: tuple[float, Kernel], name: str = "cpu_up_down", **spoilt: Any) -> Case:
    """A resize at second 1, with what the probe saw in the kernel at which second."""
    trace = {MAIN: [(at(0), changes[0][1]), *((at(when), held) for when, held in changes[1:])]}
    after = c.snapshot(RAISED, 2, said={"kernel": changes[-1][1]})
    start = c.snapshot(SMALL, 1, said={"kernel": changes[0][1]})
    return c.case(
        name, c.step(SMALL, UP, 2, after=after), start=start, kernel_trace=trace, **spoilt
    )


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (seen((0, OLD), (1.2, NEW)), PASS, "observed"),
        (seen((0, V2_OLD), (1.2, V2_NEW), name=LIMIT), PASS, "observed"),
        # The same value in other words is no change.
        (seen((0, V2_OLD), (1.2, V2_NEW), (5, V2_NEWER), name=LIMIT), PASS, "observed"),
        (seen((0, OLD), (1.2, NEW), (3.2, OLD), (4, NEW)), FAIL, "did_not_hold"),
        (seen((0, V2_OLD), (1.2, V2_NEW), (3.2, V2_OLD), (4, V2_NEW)), FAIL, "did_not_hold"),
        (seen((0, OLD), (1.2, NEW), (3.2, OLD)), FAIL, "did_not_hold"),
        # Old values that the probe met on the way to the new ones.
        (seen((0, OLD), (1.2, NEW), (1.3, OLD), (1.5, NEW)), PASS, "observed"),
        # Never more than a moment: it did not settle at all.
        (seen((0, OLD), (1.2, NEW), (1.3, OLD)), FAIL, "kernel_value_differs"),
    ],
)
def test_the_record_of_the_kernel(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


def test_the_finding_names_the_second() -> None:
    summary = found(seen((0, OLD), (1.2, NEW), (3.3, OLD))).summary
    assert "went back 2.1 s after the resize had settled" in summary
    assert "CPU limit is 150 m, no longer 400 m" in summary


def a_third(seconds: float) -> Case:
    third = c.kernel_of(sized("30m", "32Mi", "500m", "64Mi"))
    return seen((0, OLD), (1.2, NEW), (3, third), (3 + seconds, NEW))


@pytest.mark.parametrize(("case", "outcome"), [(a_third(0.3), PASS), (a_third(1.5), FAIL)])
def test_a_value_that_was_never_wanted_counts_if_it_stays(case: Case, outcome: Outcome) -> None:
    assert verdict(case)[0] is outcome


def twice(*changes: tuple[float, Kernel]) -> Case:
    """Up at second 1 and down again at second 2, as the probe saw it."""
    start = c.snapshot(SMALL, 1)
    up = c.step(SMALL, UP, 2)
    down = c.step(RAISED, sized("10m", max_cpu="150m"), 3)
    trace = {MAIN: [(at(0), OLD), *((at(when), held) for when, held in changes)]}
    return c.case("cpu_up_down", up, down, start=start, kernel_trace=trace)


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (twice((1.2, NEW), (2.2, OLD)), PASS),
        (twice((1.2, NEW), (1.7, OLD), (2.2, OLD)), FAIL),
        (twice((1.2, NEW), (2.2, OLD), (4.2, NEW)), FAIL),
    ],
)
def test_a_value_holds_until_the_next_change_is_asked_for(case: Case, outcome: Outcome) -> None:
    assert verdict(case)[0] is outcome


def later(*looks: Look, **changes: Any) -> Case:
    case = c.case("cpu_up_down", c.step(SMALL, UP, 2))
    assert case.hold
    hold = c.held(case.start, case.steps, **changes).model_copy(update={"looks": list(looks)})
    return case.model_copy(update={"hold": hold})


def status(seconds: float, status: dict[str, Any] | None = None, **changes: Any) -> Look:
    if status is not None:
        changes["containers"] = {MAIN: c.container(RAISED, **status)}
    return c.look(RAISED, 2, at=at(seconds), **changes)


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        (later(), PASS, "observed"),
        (later(status(5)), PASS, "observed"),
        (later(status(5, {"status": SMALL}), status(6)), FAIL, "did_not_hold"),
        (later(status(5, {"allocated": SMALL["requests"]}), status(6)), FAIL, "did_not_hold"),
        (later(status(5, observed_generation=1), status(6)), FAIL, "did_not_hold"),
        (later(status(5, {"status": None}), status(6)), PASS, "observed"),
        # States of another pod, and from before the change had settled, say nothing.
        (later(status(5, {"status": SMALL}, uid="theirs")), PASS, "observed"),
        (later(status(1.5, {"status": SMALL})), PASS, "observed"),
        (later(seconds=3), OPEN, "held_too_short"),
        (later(generation=3), OPEN, "mutated"),
        (later(uid="theirs"), OPEN, "pod_replaced"),
        (later(containers={MAIN: c.container(RAISED, status=SMALL)}), FAIL, "did_not_hold"),
        (later(containers={MAIN: c.container(RAISED, **c.RESTARTED)}), FAIL, "restarted"),
    ],
)
def test_the_time_after_the_last_change(case: Case, outcome: Outcome, reason: str) -> None:
    assert verdict(case) == (outcome, reason)


def test_a_probe_that_is_silent_at_the_end_decides_nothing() -> None:
    case = c.case("cpu_up_down", c.step(SMALL, UP, 2))
    assert case.hold
    end = case.hold.end.model_copy(update={"answers": {}, "silence": "main: timeout"})
    assert verdict(case.model_copy(update={"hold": Hold(end=end)})) == (OPEN, "no_answer")


def test_a_later_silence_hides_no_fall() -> None:
    fallen = seen((0, OLD), (1.2, NEW), (3.2, OLD), (4, NEW))
    quiet = c.snapshot(RAISED, 2).model_copy(update={"answers": {}, "silence": "main: timeout"})
    step = fallen.steps[0].model_copy(update={"after": quiet})
    assert verdict(fallen.model_copy(update={"steps": [step]})) == (FAIL, "did_not_hold")


def test_without_a_record_of_the_kernel_nothing_was_seen_to_hold() -> None:
    case = c.case("cpu_up_down", c.step(SMALL, UP, 2), kernel_trace={})
    assert verdict(case) == (OPEN, "not_observed")


@pytest.mark.parametrize("name", ["qos_change_refused", "infeasible"])
def test_a_control_must_hold_as_well(name: str) -> None:
    small = c.kernel_of(sized("10m", "32Mi", "160m", "64Mi"))
    after = c.snapshot(sized("10m", "32Mi", "160m", "64Mi"), 2, said={"kernel": OLD})
    trace = {MAIN: [(at(0), OLD), (at(1.2), small), (at(3.2), OLD)]}
    refused = {"status": 422, "message": "Pod QOS Class: more than the node has, allocatable"}
    case = c.case(
        name,
        c.step(SMALL, CONTROL.change[MAIN], 2),
        c.step(
            sized("10m", "32Mi", "160m", "64Mi"),
            sized("9"),
            3,
            patch=refused,
            after=after,
            settled=False,
            looks=[],
        ),
        kernel_trace=trace,
    )
    assert verdict(case) == (FAIL, "did_not_hold")


def test_a_run_of_version_0_1_is_not_called_a_pass() -> None:
    """It looked once and believed the files: what it stored is parsed and judged all the same."""
    old = c.case("cpu_up_down", c.step(SMALL, UP, 2), hold=None, uses=None)
    text = c.observation(old).model_dump_json(exclude_unset=True)
    again = ResizeObservation.model_validate_json(text)
    (finding,) = judge("resize.cpu_up_down", again, profile.default())
    assert (finding.outcome, finding.reason) == (OPEN, "not_recorded")
    worse = c.case(
        "cpu_up_down",
        c.step(SMALL, UP, 2, after=c.snapshot(RAISED, 2, held=SMALL)),
        hold=None,
        uses=None,
    )
    assert verdict(worse) == (FAIL, "kernel_value_differs")
