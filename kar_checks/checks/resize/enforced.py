"""What the kernel enforces, measured by use: busy loops and page cache. Pure.

A container's own files do not show the limits of the groups above it, and on cgroup v2 those
cannot be read from inside. What a container really gets shows all of them at once.

* A busy loop gets its CPU limit. If it gets less, either the kernel throttles it or others have
  the CPU: the CPU's idle time tells the two apart, because a CPU with a runnable loop is idle only
  while a limit holds the loop back.
* Page cache grows up to the memory limit and is reclaimed there; nothing is killed.
* Loops of several pods on one CPU share it by the weights of their requests, whatever else runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from kar_checks.checks.resize import kernel, rules
from kar_checks.checks.resize.observation import (
    Burn,
    Case,
    Contest,
    Fill,
    Resources,
    Spin,
    Use,
)
from kar_checks.checks.resize.plans import Plan, Used, plan_of
from kar_checks.cluster import quantity
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Outcome
from kar_checks.profile import Profile

verdict = Reasons(__package__)

_MIB = 1 << 20
_ONE_CPU = 1000
"""Millicores that a single loop can use."""
_SLACK = 2 * _MIB
"""By how much usage may be above a limit for a moment: charges are made in batches."""
_SPARE = 64 * _MIB
"""What a machine must have available beside a file, so that it does not reclaim by itself."""
_THROTTLED = 0.1
"""Share of throttled periods above which a limit, and not a weight, shaped a loop's CPU time."""
_WARM_UP = 0.4
"""Seconds until the kernel has noticed how much a group wants, and gives it its share."""
_UNEVEN = 0.35
"""By how much the halves of the time may differ from the whole; a change in between is more."""
_SLICES = 0.012
"""CPU seconds by which any share is uncertain: a few turns on the CPU."""

Specs = Mapping[str, Resources]


@dataclass(frozen=True)
class Reading:
    """One measured value against what the resources promise."""

    verdict: Literal["fits", "less", "more", "noisy"]
    fact: Fact
    why: str = ""
    """Of a noisy one: what makes it so."""


@dataclass(frozen=True)
class Point:
    """A resource of a case after some of its steps, in one or more attempts."""

    steps: int
    resource: Used
    attempts: list[list[Reading]]

    @property
    def verdict(self) -> Literal["fits", "off", "noisy"]:
        """What the attempts come to."""
        return _together(self.readings)

    @property
    def decided(self) -> bool:
        """Whether it fits, or was off twice in a row: another attempt would change nothing."""
        last = [_together(one) for one in self.attempts[-2:]]
        return last[-1] == "fits" or last == ["off", "off"]

    @property
    def readings(self) -> list[Reading]:
        """The readings of the attempt that decides: the last one, or a good one before noise."""
        last = self.attempts[-1]
        if _together(last) == "noisy":
            return next((one for one in self.attempts if _together(one) == "fits"), last)
        return last


def _together(readings: Iterable[Reading]) -> Literal["fits", "off", "noisy"]:
    found = {one.verdict for one in readings}
    if found & {"less", "more"}:
        return "off"
    return "noisy" if "noisy" in found else "fits"


# -- CPU limit -------------------------------------------------------------------------------


def burn_reading(name: str, burn: Burn, limit: int, profile: Profile) -> Reading:
    """Compare the CPU that a busy loop achieved with its limit in millicores."""
    tolerance = profile.number("resize.cpu_follow_tolerance")
    used = burn.usage_seconds if burn.used_seconds is None else burn.used_seconds
    most = min(limit, _ONE_CPU)
    own = (burn.nr_throttled or 0) / burn.nr_periods if burn.nr_periods else None
    fact = Fact(
        name=f"{name}: CPU of a busy loop at a limit of {limit} m",
        value="unknown" if used is None else f"{1000 * used / burn.seconds:.0f} m",
        expected=f"{most} m ± {tolerance:.0%}",
        source=_circumstances(burn),
    )
    if used is None:
        return Reading("noisy", fact, "its CPU time cannot be read")
    achieved = 1000 * used / burn.seconds
    if achieved > most * (1 + tolerance):
        return Reading("more", fact)
    if achieved >= most * (1 - tolerance):
        return Reading("fits", fact)
    if own is not None and own >= 1 - tolerance:
        return Reading("less", fact)  # a throttled period has used its quota up
    idle = None if burn.idle_seconds is None else burn.idle_seconds / burn.seconds
    # Periods that the container's own limit ended explain idle time; other periods do not.
    if own is not None and idle is not None and idle - own > profile.number("resize.idle_share"):
        return Reading("less", fact)
    return Reading("noisy", fact, "other work may have had the CPU")


def _circumstances(burn: Burn) -> str:
    out = [f"{burn.nr_throttled} of {burn.nr_periods} periods throttled by its own limit"]
    if burn.idle_seconds is not None:
        out.append(f"CPU {burn.cpu} idle for {burn.idle_seconds:.1f} of {burn.seconds:.1f} s")
    return ", ".join(out)


# -- memory ----------------------------------------------------------------------------------


def fill_readings(
    fills: Mapping[str, Fill], limits: Mapping[str, int], profile: Profile
) -> list[Reading]:
    """Compare the page cache that containers could hold with their limits in bytes.

    What all of them hold in the end counts, too: a limit of the whole pod takes from each.
    """
    reach = profile.number("resize.memory_reach")
    wanted = {name: _wanted(one, limits[name]) for name, one in fills.items()}
    rows: list[tuple[str, int | None, int, int]] = [
        (name, max(use for _, use in one.samples), wanted[name], limits[name])
        for name, one in fills.items()
    ]
    if len(fills) > 1:
        kept = [one.kept for one in fills.values() if one.kept is not None]
        together = sum(kept) if len(kept) == len(fills) else None
        total = sum(wanted.values())
        rows.append(("all together", together, total, sum(limits.values())))
    rest = [one.available for one in fills.values()]
    need = sum(wanted.values()) + _SPARE
    crowded = any(one is None or one < need for one in rest)
    out: list[Reading] = []
    for name, peak, want, most in rows:
        fact = Fact(
            name=f"{name}: page cache and memory in use at a limit of {mib(most)}",
            value="unknown" if peak is None else mib(peak),
            expected=f"{mib(int(want * reach))} to {mib(most)}",
            source="usage of the container while a larger file was read",
        )
        if peak is None:
            out.append(Reading("noisy", fact, "the containers did not fill theirs in time"))
        elif peak > most + _SLACK:
            out.append(Reading("more", fact))
        elif peak >= want * reach:
            out.append(Reading("fits", fact))
        elif crowded:
            out.append(Reading("noisy", fact, "the machine itself is short of memory"))
        else:
            out.append(Reading("less", fact))
    return out


def _wanted(fill: Fill, limit: int) -> int:
    """Return the usage that must be reached."""
    return min(limit, fill.size, limit if fill.high is None else fill.high)


def mib(size: int) -> str:
    """Return a number of bytes in MiB."""
    return f"{size / _MIB:.1f} MiB"


# -- CPU request -----------------------------------------------------------------------------


def contest_readings(
    contest: Contest, specs: Specs, version: str, profile: Profile
) -> list[Reading]:
    """Compare the CPU time of loops on one CPU with the weights of their requests."""
    return [_share(name, contest, specs, version, profile) for name in contest.spins]


def _share(name: str, contest: Contest, specs: Specs, version: str, profile: Profile) -> Reading:
    tolerance = profile.number("resize.weight_tolerance")
    good = expected_ratios(name, contest, specs, version)
    spin, rival = contest.spins[name], contest.rival
    # The rival spins from before the first loop until after the last one.
    begin = max(one.samples[0][0] for one in (*contest.spins.values(), rival))
    end = min(one.samples[-1][0] for one in (*contest.spins.values(), rival))
    fact = Fact(
        name=f"{name}: CPU time per second that another pod with a request of "
        f"{contest.rival_request} m got",
        value="unknown",
        expected=" or ".join(f"{one:.3f}" for one in good) + f" ± {tolerance:.0%}",
        source=f"busy loops on CPU {spin.cpu} for {max(0.0, end - begin):.1f} s",
    )
    if end - begin < profile.number("resize.contest_seconds") / 2:
        return Reading("noisy", fact, "the loops did not run at the same time")
    begin += _WARM_UP
    middle = (begin + end) / 2
    mine, theirs = _between(spin, begin, end), _between(rival, begin, end)
    if theirs <= 0:
        return Reading("noisy", fact, "the pod compared with got no CPU")
    ratio = mine / theirs
    fact = fact.model_copy(update={"value": f"{ratio:.3f}"})
    if any(abs(ratio / one - 1) <= tolerance for one in good):
        return Reading("fits", fact)
    if any(_throttled(one, begin, end) > _THROTTLED for one in (spin, rival)):
        return Reading("noisy", fact, "a CPU limit held a loop back")
    if mine < profile.number("resize.contest_least"):
        return Reading("noisy", fact, f"it got {mine:.3f} s of CPU time, too little to compare")
    for one, other in ((begin, middle), (middle, end)):
        fair = ratio * _between(rival, one, other)
        if abs(_between(spin, one, other) - fair) > _UNEVEN * fair + _SLICES:
            return Reading("noisy", fact, "the two halves of the time differ")
    near = min((one * theirs for one in good), key=lambda fair: abs(mine - fair))
    if abs(mine - near) <= tolerance * near + _SLICES:
        # The scheduler gives CPU in slices: a small share is only as exact as a few of them.
        return Reading("noisy", fact, "the difference is a few time slices of the CPU")
    return Reading("less" if ratio < min(good) else "more", fact)


def expected_ratios(name: str, contest: Contest, specs: Specs, version: str) -> list[float]:
    """Return what CPU time against the rival's is fair, one value for each pair of formulas.

    The kubelet weighs pods, the runtime weighs the containers inside; only those that spin
    compete. All pods are on one node, so that one formula holds for all of them.
    """
    pod = sum(_request(one) for one in specs.values())
    pods = zip(kernel.fair(version, pod), kernel.fair(version, contest.rival_request), strict=True)
    inside = {one: kernel.fair(version, _request(specs[one])) for one in contest.spins}
    parts = [
        inside[name][formula] / sum(one[formula] for one in inside.values())
        for formula in range(len(inside[name]))
    ]
    return sorted({mine / theirs * part for mine, theirs in pods for part in parts})


def _request(spec: Resources) -> int:
    return quantity.millicores(spec.get("requests", {}).get("cpu", "0"))


def _between(spin: Spin, begin: float, end: float) -> float:
    return _reached(spin.samples, end) - _reached(spin.samples, begin)


def _throttled(spin: Spin, begin: float, end: float) -> float:
    """Return the share of periods, within a time, in which a CPU limit held a loop back."""
    inside = [one for one in spin.periods if begin <= one[0] <= end]
    length = inside[-1][1] - inside[0][1] if inside else 0
    return (inside[-1][2] - inside[0][2]) / length if length else 0.0


def _reached(samples: list[tuple[float, float]], moment: float) -> float:
    """Return the CPU time at a moment, on the line between the samples around it."""
    before = samples[0]
    for after in samples:
        if after[0] >= moment:
            length = after[0] - before[0]
            share = (moment - before[0]) / length if length else 1.0
            return before[1] + share * (after[1] - before[1])
        before = after
    return before[1]


# -- a case ----------------------------------------------------------------------------------

_WHAT: dict[Used, str] = {
    "limits.cpu": "CPU limit",
    "limits.memory": "memory limit",
    "requests.cpu": "CPU request",
}


def enforced_ruling(case: Case, profile: Profile) -> Ruling | None:
    """Rule on what the containers could really use; ``None`` if all of it fits."""
    plan = plan_of(case.name)
    if not plan.uses:
        return None
    if case.uses is None:
        return not_recorded("what the kernel let the containers use")
    known = {(one.steps, one.resource): one for one in points(case, profile)}
    wrong: list[Ruling] = []
    for resource in sorted(plan.uses):
        for steps in _needed(plan, resource, len(case.steps)):
            point = known.get((steps, resource))
            ruling = _point_ruling(case, point) if point else _not_measured(case, steps, resource)
            if ruling:
                wrong.append(ruling)
                if steps == 0:
                    break  # what cannot be measured here says nothing later either
    # Noise in one measurement takes nothing from what another one shows.
    failed = [one for one in wrong if one.outcome is Outcome.FAIL]
    return next(iter([*failed, *wrong]), None)


def points(case: Case, profile: Profile) -> list[Point]:
    """Return everything that was measured by use, in its order."""
    attempts: dict[tuple[int, Used], list[list[Reading]]] = {}
    version = next((one.kernel.version for one in case.start.answers.values()), "")
    for use in case.uses or []:
        specs = specs_after(case, use.steps)
        if specs is None:
            continue
        for resource, readings in _readings(use, specs, version, profile):
            if readings:
                attempts.setdefault((use.steps, resource), []).append(readings)
    return [Point(*key, found) for key, found in attempts.items()]


def _readings(
    use: Use, specs: Specs, version: str, profile: Profile
) -> Iterable[tuple[Used, list[Reading]]]:
    for number in range(max((len(one) for one in use.burns.values()), default=0)):
        yield (
            "limits.cpu",
            [
                burn_reading(name, burns[number], cpu_limit(specs[name]), profile)
                for name, burns in use.burns.items()
                if number < len(burns) and "cpu" in specs[name].get("limits", {})
            ],
        )
    for number in range(max((len(one) for one in use.fills.values()), default=0)):
        fills = {
            name: found[number]
            for name, found in use.fills.items()
            if number < len(found) and "memory" in specs[name].get("limits", {})
        }
        limits = {name: int(quantity.parse(specs[name]["limits"]["memory"])) for name in fills}
        yield "limits.memory", fill_readings(fills, limits, profile) if fills else []
    for contest in use.contests:
        yield "requests.cpu", contest_readings(contest, specs, version, profile)


def cpu_limit(spec: Resources) -> int:
    """Return the CPU limit of a spec in millicores."""
    return quantity.millicores(spec["limits"]["cpu"])


def specs_after(case: Case, steps: int) -> Specs | None:
    """Return what the spec said after some steps, ``None`` if nobody looked."""
    seen = case.start if steps == 0 else case.steps[steps - 1].after
    return None if seen is None else {name: one.spec for name, one in seen.look.containers.items()}


def _needed(plan: Plan, resource: Used, steps: int) -> list[int]:
    """Return after how many steps a resource must have been measured."""
    # A new container begins with its limits; only page cache and weights need a comparison,
    # to know that this node charges and shares as others do.
    first = [] if resource == "limits.cpu" else [0]
    return [*first, *(range(1, steps + 1) if plan.each else [steps])]


def _point_ruling(case: Case, point: Point) -> Ruling | None:
    if point.verdict == "fits":
        return None
    what, when = _WHAT[point.resource], _when(case, point.steps)
    wrong = [one for one in point.readings if one.verdict != "fits"]
    told = rules.differences(one.fact for one in wrong)
    facts = [one.fact for one in point.readings]
    where = {"what": what, "wrong": told, "pod": case.pod, "node": case.node}
    if point.verdict == "noisy":
        why = next((one.why for one in wrong if one.why), "the attempts differ")
        return verdict("too_noisy", facts, **where, when=when, why=why)
    if point.steps == 0:
        return verdict("control_differs.use", facts, **where)
    return verdict("not_enforced", facts, **where, when=when)


def _when(case: Case, steps: int) -> str:
    return case.steps[steps - 1].name if steps else "before the first change"


def _not_measured(case: Case, steps: int, resource: Used) -> Ruling:
    trouble = [one.trouble for one in case.uses or [] if one.trouble and one.steps == steps]
    return verdict(
        "not_measured",
        when=_when(case, steps),
        what=_WHAT[resource],
        why="; ".join(trouble) or "the trial ended before",
    )
