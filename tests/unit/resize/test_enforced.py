"""What a kernel enforces by use: made-up loops and page cache of both versions of cgroups."""

from __future__ import annotations

from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.resize import enforced, kernel, plans
from kar_checks.checks.resize.judge import judge
from kar_checks.checks.resize.observation import Burn, Case, Contest, Fill, Resources, Use
from kar_checks.checks.resize.plans import MAIN, SMALL, sized
from kar_checks.model import Finding, Outcome
from tests.unit.resize import cases as c

PASS, FAIL, OPEN = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
MIB = c.MIB
SETTINGS = profile.default()


def found(case: Case) -> Finding:
    (finding,) = judge(f"resize.{case.name}", c.observation(case), SETTINGS)
    return finding


def verdict(case: Case) -> tuple[Outcome, str]:
    finding = found(case)
    return finding.outcome, finding.reason


def case(name: str, change: Resources, begin: Resources = SMALL, **spoilt: Any) -> Case:
    """A case whose measurements after its change are ``spoilt``."""
    whole = c.case(name, c.step(begin, change, 2), start=c.snapshot(begin, 1))
    assert whole.uses
    first, last = whole.uses
    return whole.model_copy(update={"uses": [first, last.model_copy(update=spoilt)]})


# -- CPU limit -------------------------------------------------------------------------------

UP = sized(max_cpu="300m")


def burned(*tries: Burn) -> Case:
    return case("observed_generation", UP, burns={MAIN: list(tries)})


@pytest.mark.parametrize(
    ("tries", "outcome", "reason"),
    [
        ([c.burn(300)], PASS, "observed"),
        ([c.burn(240, throttled=8)], PASS, "observed"),
        # The pod's quota stayed: nobody else has the CPU, and the own limit never throttled.
        ([c.burn(150, throttled=0), c.burn(150, throttled=0)], FAIL, "not_enforced"),
        # The limit went down in the files alone.
        ([c.burn(990, throttled=0), c.burn(980, throttled=0)], FAIL, "not_enforced"),
        # Another workload takes the CPU: it is never idle.
        ([c.burn(150, throttled=0, idle=0.0)] * 3, OPEN, "too_noisy"),
        # It takes all of half of the periods; in the other half the own limit is used up.
        ([c.burn(150, throttled=6, idle=0.42)] * 3, OPEN, "too_noisy"),
        # Noise passes, and then it fits.
        ([c.burn(100, throttled=0, idle=0.0), c.burn(290)], PASS, "observed"),
        # The last attempt decides, unless it proves nothing.
        (
            [c.burn(150, throttled=0, idle=0.0), c.burn(150, throttled=0)],
            FAIL,
            "not_enforced",
        ),
        (
            [c.burn(150, throttled=0), c.burn(150, throttled=0, idle=0.0)],
            OPEN,
            "too_noisy",
        ),
        # Where the idle time or the periods cannot be read, less than the limit proves nothing.
        (
            [c.burn(150, throttled=0).model_copy(update={"idle_seconds": None})],
            OPEN,
            "too_noisy",
        ),
        ([c.burn(150).model_copy(update={"nr_periods": None})], OPEN, "too_noisy"),
        ([Burn(seconds=1.2)], OPEN, "too_noisy"),
    ],
)
def test_a_cpu_limit(tries: list[Burn], outcome: Outcome, reason: str) -> None:
    assert verdict(burned(*tries)) == (outcome, reason)


def test_a_limit_beyond_one_cpu_is_measured_up_to_it() -> None:
    reading = enforced.burn_reading("main", c.burn(990), 4000, SETTINGS)
    assert reading.verdict == "fits"


def test_the_other_container_of_a_pod_is_held_back_too() -> None:
    side = plans.plan_of("sidecar").containers
    specs = {one.name: one.resources for one in side}
    assert set(specs) == {"side", MAIN}
    burns = {"side": [c.burn(300, throttled=0)], MAIN: [c.burn(100)]}
    readings = [
        enforced.burn_reading(name, tries[0], limit, SETTINGS).verdict
        for (name, tries), limit in zip(burns.items(), (500, 100), strict=True)
    ]
    assert readings == ["less", "fits"]


# -- memory ----------------------------------------------------------------------------------

GROWS = sized(memory="48Mi", max_memory="128Mi")


def filled(*tries: Fill, name: str = "memory_up", change: Resources = GROWS) -> Case:
    return case(name, change, fills={MAIN: list(tries)})


@pytest.mark.parametrize(
    ("tries", "outcome", "reason"),
    [
        ([c.fill(127 * MIB, 144 * MIB)], PASS, "observed"),
        ([c.fill(63 * MIB, 144 * MIB)], FAIL, "not_enforced"),
        ([c.fill(100 * MIB, 144 * MIB)], FAIL, "not_enforced"),
        ([c.fill(140 * MIB, 144 * MIB)], FAIL, "not_enforced"),
        ([c.fill(63 * MIB, 144 * MIB), c.fill(127 * MIB, 144 * MIB)], PASS, "observed"),
        # A kubelet with memory QoS lets version 2 reclaim before the limit.
        ([c.fill(115 * MIB, 144 * MIB, high=118 * MIB)], PASS, "observed"),
        # A machine that is short of memory reclaims by itself.
        ([c.fill(63 * MIB, 144 * MIB, available=100 * MIB)], OPEN, "too_noisy"),
        ([c.fill(63 * MIB, 144 * MIB, available=None)], OPEN, "too_noisy"),
    ],
)
def test_a_memory_limit(tries: list[Fill], outcome: Outcome, reason: str) -> None:
    assert verdict(filled(*tries)) == (outcome, reason)


def test_a_lowered_limit_must_be_enforced() -> None:
    wide = sized("10m", "32Mi", "500m", "384Mi")
    lower = sized(max_memory="256Mi")
    fills = {MAIN: [c.fill(255 * MIB, 304 * MIB)]}
    start = c.snapshot(wide, 1)
    whole = c.case("memory_down", c.step(wide, lower, 2), start=start)
    before = Use(at=c.START, steps=0, fills={MAIN: [c.fill(303 * MIB, 304 * MIB)]})
    after = Use(at=c.START, steps=1, fills=fills)
    good = whole.model_copy(update={"uses": [before, after]})
    assert verdict(good) == (PASS, "observed")
    loose = after.model_copy(update={"fills": {MAIN: [c.fill(303 * MIB, 304 * MIB)]}})
    assert verdict(good.model_copy(update={"uses": [before, loose]})) == (FAIL, "not_enforced")


def test_a_file_system_that_charges_nothing_decides_nothing() -> None:
    whole = filled(c.fill(20 * MIB, 144 * MIB))
    assert whole.uses
    begin = whole.uses[0].model_copy(update={"fills": {MAIN: [c.fill(20 * MIB, 80 * MIB)]}})
    blind = whole.model_copy(update={"uses": [begin, *whole.uses[1:]]})
    assert verdict(blind) == (OPEN, "control_differs")


@pytest.mark.parametrize(
    ("kept", "verdict_"),
    [
        ((95 * MIB, 63 * MIB), "fits"),
        # The pod's limit stayed at 128 MiB: what the second one fills is taken from the first.
        ((64 * MIB, 63 * MIB), "less"),
        # The first one's file was gone before the second one was full.
        ((None, 63 * MIB), "noisy"),
    ],
)
def test_two_containers_must_get_their_memory_at_the_same_time(
    kept: tuple[int | None, int], verdict_: str
) -> None:
    limits = {"grows": 96 * MIB, "shrinks": 64 * MIB}
    fills = {
        name: c.fill(limit - MIB, limit + 16 * MIB, kept=held)
        for (name, limit), held in zip(limits.items(), kept, strict=True)
    }
    readings = enforced.fill_readings(fills, limits, SETTINGS)
    assert [one.verdict for one in readings] == ["fits", "fits", verdict_]


# -- CPU request -----------------------------------------------------------------------------

MORE = sized("30m")
WIDE = sized("10m", "32Mi", "1", "64Mi")


def shared(*tries: Contest) -> Case:
    return case("requests_only", MORE, WIDE, contests=list(tries))


def spun(share: float, rival: float = 0.7, **changes: Any) -> Contest:
    return Contest(spins={MAIN: c.spin(share, **changes)}, rival=c.spin(rival), rival_request=100)


def changing(first: float, second: float, after: float = 1.45) -> Contest:
    """A loop whose share of the CPU changes after some seconds."""
    times = [0.05 * n for n in range(51)]
    samples = [(100 + at, first * min(at, after) + second * max(0.0, at - after)) for at in times]
    return Contest(spins={MAIN: c.spin(0, samples=samples)}, rival=c.spin(0.7), rival_request=100)


@pytest.mark.parametrize(
    ("tries", "outcome", "reason"),
    [
        ([spun(0.21)], PASS, "observed"),
        # Whatever else runs on the node: both get less, the ratio stays.
        ([spun(0.03, 0.1)], PASS, "observed"),
        ([spun(0.07), spun(0.068)], FAIL, "not_enforced"),
        ([spun(0.5), spun(0.52)], FAIL, "not_enforced"),
        ([spun(0.07), spun(0.2)], PASS, "observed"),
        # The weight was written back in the middle: another attempt decides.
        ([changing(0.21, 0.07)], OPEN, "too_noisy"),
        ([changing(0.21, 0.07), spun(0.07)], FAIL, "not_enforced"),
        # The kernel needs a moment until it gives a new loop its share.
        ([changing(0.0, 0.2, after=0.4)], PASS, "observed"),
        ([changing(0.0, 0.068, after=0.4)], FAIL, "not_enforced"),
        # Too little CPU time to compare, a limit that held it back, no time in common.
        ([spun(0.001, 0.01)], OPEN, "too_noisy"),
        ([spun(0.07, throttled=20)], OPEN, "too_noisy"),
        # What a limit did before the rival came does not count.
        ([spun(0.07, before=20)], FAIL, "not_enforced"),
        ([spun(0.07, periods=[])], FAIL, "not_enforced"),
        ([spun(0.07, begin=102.0)], OPEN, "too_noisy"),
        ([spun(0.07, 0.0)], OPEN, "too_noisy"),
    ],
)
def test_a_cpu_request(tries: list[Contest], outcome: Outcome, reason: str) -> None:
    assert verdict(shared(*tries)) == (outcome, reason)


@pytest.mark.parametrize(
    ("ratio", "verdict_"),
    [(2 / 4, "fits"), (7 / 17, "fits"), (1 / 4, "less"), (4 / 17, "less"), (1.0, "more")],
)
def test_both_formulas_of_version_2_are_fair(ratio: float, verdict_: str) -> None:
    contest = spun(0.4 * ratio, 0.4)
    specs = {MAIN: sized("30m", "32Mi", "1", "64Mi")}
    (reading,) = enforced.contest_readings(contest, specs, "v2", SETTINGS)
    assert reading.verdict == verdict_


@pytest.mark.parametrize(
    ("own", "verdict_"), [(0.042, "fits"), (0.035, "noisy"), (0.02, "less"), (0.25, "more")]
)
def test_a_small_share_is_only_as_exact_as_a_few_slices(own: float, verdict_: str) -> None:
    """Seen on an honest node beside another cluster: 0.078 of the rival's time instead of 0.098."""
    contest = spun(own, 0.45)
    specs = {MAIN: sized("10m", "32Mi", "1", "64Mi")}
    (reading,) = enforced.contest_readings(contest, specs, "v1", SETTINGS)
    assert reading.verdict == verdict_


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("plan", [one for one in plans.ALL if one.spins], ids=lambda one: one.name)
def test_each_measured_request_changes_its_weight_by_more_than_the_tolerance(
    plan: plans.Plan, version: str
) -> None:
    """Values that stayed behind must not fit, whichever formula the kubelet and runtime use."""
    before = {one.name: one.resources for one in plan.containers}
    change = plan.steps[0].change if plan.steps else {MAIN: sized("60m")}
    after = {name: kernel.merged(held, change.get(name, {})) for name, held in before.items()}
    contest = Contest(
        spins={name: c.spin(0.1) for name in plan.spins}, rival=c.spin(0.1), rival_request=100
    )
    tolerance = SETTINGS.number("resize.weight_tolerance")
    for name in plan.spins:
        stale = enforced.expected_ratios(name, contest, before, version)
        fresh = enforced.expected_ratios(name, contest, after, version)
        assert all(abs(old / new - 1) > tolerance for old in stale for new in fresh)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("plan", [one for one in plans.ALL if one.spins], ids=lambda one: one.name)
def test_a_limit_never_shapes_a_measured_weight(plan: plans.Plan, version: str) -> None:
    """Beside the rival alone, each loop's share of the CPU is below its CPU limit."""
    states = [{one.name: one.resources for one in plan.containers}]
    for step in plan.steps:
        states.append(
            {n: kernel.merged(held, step.change.get(n, {})) for n, held in states[-1].items()}
        )
    contest = Contest(
        spins={name: c.spin(0.1) for name in plan.spins}, rival=c.spin(0.1), rival_request=100
    )
    for specs in states:
        for name in plan.spins:
            for ratio in enforced.expected_ratios(name, contest, specs, version):
                others = sum(
                    enforced.expected_ratios(one, contest, specs, version)[0]
                    for one in plan.spins
                    if one != name
                )
                share = ratio / (1 + ratio + others)
                assert 1000 * share < enforced.cpu_limit(specs[name]), (name, specs)


def test_noise_in_one_measurement_hides_no_failure_of_another() -> None:
    """Other work has the CPU, and page cache shows that the memory limit stayed behind."""
    spoilt = case(
        "limits_only",
        sized(max_cpu="300m", max_memory="96Mi"),
        burns={MAIN: [c.burn(50, throttled=0, idle=0.0)]},
        fills={MAIN: [c.fill(63 * MIB, 112 * MIB)]},
    )
    assert verdict(spoilt) == (FAIL, "not_enforced")


# -- what is missing -------------------------------------------------------------------------


def test_what_was_not_measured_is_no_pass() -> None:
    missing = case("requests_only", MORE, WIDE, contests=[], trouble="no room for a rival")
    finding = found(missing)
    assert (finding.outcome, finding.reason) == (OPEN, "not_measured")
    assert "no room for a rival" in finding.summary


def test_a_run_that_believed_the_files_is_no_pass() -> None:
    old = shared(spun(0.21)).model_copy(update={"uses": None})
    assert verdict(old) == (OPEN, "not_recorded")


def test_a_container_without_limits_is_not_held_to_any() -> None:
    spec = sized("30m", "48Mi")
    use = Use(at=c.START, steps=0, burns={MAIN: [c.burn(990)]}, fills={MAIN: [c.fill(9 * MIB)]})
    start = c.snapshot(SMALL, 1)
    free = start.look.containers[MAIN].model_copy(update={"spec": spec})
    look = start.look.model_copy(update={"containers": {MAIN: free}})
    whole = c.case("limits_only", start=start).model_copy(
        update={"start": start.model_copy(update={"look": look}), "uses": [use]}
    )
    assert enforced.points(whole, SETTINGS) == []


def test_what_was_measured_is_in_the_finding() -> None:
    names = [one.name for one in found(shared(spun(0.21))).facts]
    assert any("CPU time per second that another pod" in one for one in names)
