"""Whether values that had settled stayed: in the kernel, in the status, to the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kar_checks.checks.resize import kernel, rules
from kar_checks.checks.resize.enforced import Specs, specs_after
from kar_checks.checks.resize.observation import Case, Container, Kernel, Look, Resources, Step
from kar_checks.checks.resize.state import written
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact
from kar_checks.profile import Profile

verdict = Reasons(__package__)

SETTLED_SECONDS = 0.25
"""A value that the probe saw for less than two of its looks has not settled."""
_LASTING_SECONDS = 1.0
"""For so long a value that is neither the old nor the new one counts against the cluster."""
_ROUNDING_SECONDS = 0.5


@dataclass(frozen=True)
class _Phase:
    """The time from an accepted change to the next one."""

    step: Step
    begin: datetime
    end: datetime | None
    wanted: Specs
    before: list[Specs]
    """What had been wanted earlier; the last one is what the change replaced."""


def fell_back_ruling(case: Case, *, only_old: bool = False) -> Ruling | None:
    """Rule on values that fitted and then did not; ``None`` if none is known.

    ``only_old``: another rule has something to say about a value that was never wanted.
    """
    for phase in _phases(case):
        for name, wanted in phase.wanted.items():
            olds = [one[name] for one in phase.before]
            if ruling := _kernel_fell(case, phase, name, wanted, olds, only_old=only_old):
                return ruling
        if ruling := _status_fell(case, phase):
            return ruling
    return None


def end_ruling(case: Case, profile: Profile) -> Ruling | None:
    """Rule on the end of a case of which all else is good; ``None`` if everything held."""
    if case.hold is None:
        return not_recorded("whether the values held after they had settled")
    phases = _phases(case)
    if not phases:
        return None
    last, end = phases[-1], case.hold.end
    before = case.steps[-1].after
    step = last.step.model_copy(update={"name": f"after {last.step.name}"})
    ruling = (
        (before and rules.restart_ruling(case, before, end, step))
        or rules.inside_ruling(case, end, last.wanted)
        or rules.status_ruling(case, step, end, last.wanted)
    )
    if ruling:
        return ruling
    check = f"resize.{case.name}"
    if silent := [name for name in last.wanted if not _states(case, last, name)]:
        names = ", ".join(silent)
        return verdict("not_observed.kernel", pod=case.pod, names=names, check=check)
    held = (end.look.at - last.step.looks[-1].at).total_seconds()
    wanted = profile.number("resize.hold_seconds")
    if held + _ROUNDING_SECONDS < wanted:
        seen, due = f"{held:.1f} s", f"{wanted:.0f} s"
        fact = Fact(name="watched after settling", value=seen, expected=due)
        return verdict("held_too_short", [fact], held=seen, wanted=due, check=check)
    return None


def _phases(case: Case) -> list[_Phase]:
    """Return the changes that settled, each up to the next accepted request.

    A request that was refused or could never be met changes nothing, so that what went before it
    must hold on.
    """
    out: list[_Phase] = []
    start = specs_after(case, 0)
    before = [start] if start else []
    for number, step in enumerate(case.steps):
        wanted = specs_after(case, number + 1)
        if step.expect not in ("resize", "restart") or not step.settled or wanted is None:
            continue
        later = [
            one.patch.at
            for one in case.steps[number + 1 :]
            if one.patch.status == 200 and one.expect in ("resize", "restart")
        ]
        end = later[0] if later else None
        out.append(_Phase(step, step.patch.at, end, wanted, list(before)))
        before.append(wanted)
    return out


# -- the kernel ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Held:
    """A state of the kernel's files, from one change to the next."""

    begin: datetime
    end: datetime
    kernel: Kernel
    last: bool

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


def _kernel_fell(
    case: Case,
    phase: _Phase,
    name: str,
    wanted: Resources,
    olds: list[Resources],
    *,
    only_old: bool,
) -> Ruling | None:
    fitted: datetime | None = None
    for state in _states(case, phase, name):
        try:
            wrong = _differences(state.kernel, wanted)
        except kernel.NotObservableError:
            continue
        if not wrong:
            if fitted is None and (state.seconds >= SETTLED_SECONDS or state.last):
                fitted = state.begin
            continue
        if fitted is None:
            continue
        old = any(not _differences(state.kernel, one).keys() & wrong.keys() for one in olds)
        lasting = state.last or state.seconds >= _LASTING_SECONDS
        if old or (lasting and not only_old):
            facts = list(wrong.values())
            told = _fall(case, phase, facts, fitted, state.begin)
            facts = _fall_facts(case, name, facts, fitted, state.begin)
            return verdict("did_not_hold", facts, **told, container=name)
    return None


def _differences(seen: Kernel, wanted: Resources) -> dict[str, Fact]:
    return {one.name: one for one in kernel.compare(seen, wanted) if kernel.differs(one)}


def _states(case: Case, phase: _Phase, name: str) -> list[_Held]:
    """Return what the kernel held of a container in a phase, its state at the beginning first."""
    trace = sorted(case.kernel_trace.get(name, []), key=lambda one: one[0])
    end = phase.end or _last_moment(case)
    inside = [(at, held) for at, held in trace if phase.begin <= at <= end]
    earlier = [held for at, held in trace if at < phase.begin]
    if earlier:
        inside.insert(0, (phase.begin, earlier[-1]))
    if not inside:
        return []
    ends = [*(at for at, _ in inside[1:]), end]
    return [
        _Held(at, until, held, last=number == len(inside) - 1 and phase.end is None)
        for number, ((at, held), until) in enumerate(zip(inside, ends, strict=True))
    ]


def _last_moment(case: Case) -> datetime:
    seen = [one.after for one in case.steps if one.after]
    seen += [case.hold.end] if case.hold else []
    return max(one.look.at for one in [case.start, *seen])


# -- the status ------------------------------------------------------------------------------


def _status_fell(case: Case, phase: _Phase) -> Ruling | None:
    step = phase.step
    settled = step.looks[-1]
    later = list(case.hold.looks) if case.hold else []
    later += [one.after.look for one in case.steps if one.after]
    later += [case.hold.end.look] if case.hold else []
    for seen in sorted(later, key=lambda one: one.at):
        ours = seen.uid == settled.uid and seen.generation == settled.generation
        if not ours or seen.at <= settled.at or seen.deleted:
            continue
        wrong = _status_wrong(seen, settled, phase)
        if wrong:
            name, facts = wrong
            told = _fall(case, phase, facts, settled.at, seen.at)
            facts = _fall_facts(case, name, facts, settled.at, seen.at)
            return verdict("did_not_hold.status", facts, **told, subject=name)
    return None


def _status_wrong(seen: Look, settled: Look, phase: _Phase) -> tuple[str, list[Fact]] | None:
    """Return the container, or the pod, whose status went back, and how."""
    wanted, reached = settled.observed_generation, seen.observed_generation
    if wanted is not None and reached is not None and reached < wanted:
        fact = Fact(name="observedGeneration", value=str(reached), expected=str(wanted))
        return "the pod", [fact.model_copy(update={"source": "status"})]
    for name, want in phase.wanted.items():
        one = seen.containers.get(name)
        if one is None or not one.running:
            continue
        facts = [
            Fact(name=what, value=written(told), expected=written(good), source="status")
            for what, told, good in _told(one, want)
            if told is not None and not kernel.same(told, good)
        ]
        if facts:
            return name, facts
    return None


def _told(one: Container, want: Resources) -> Iterable[tuple[str, Resources | None, Resources]]:
    yield "status.resources", one.status, want
    allocated = None if one.allocated is None else {"requests": one.allocated}
    yield "allocatedResources", allocated, {"requests": want.get("requests", {})}


# -- in words --------------------------------------------------------------------------------


def _fall(
    case: Case, phase: _Phase, wrong: list[Fact], fitted: datetime, fell: datetime
) -> dict[str, str]:
    return {
        "step": phase.step.name,
        "pod": case.pod,
        "node": case.node,
        "after": f"{_after(fitted, fell):.1f} s",
        "names": ", ".join(one.name for one in wrong),
        "wrong": "; ".join(f"{one.name} is {one.value}, no longer {one.expected}" for one in wrong),
    }


def _fall_facts(
    case: Case, name: str, wrong: list[Fact], fitted: datetime, fell: datetime
) -> list[Fact]:
    after = f"{_after(fitted, fell):.1f} s"
    second = (fell - case.start.look.at).total_seconds()
    return [
        *(one.model_copy(update={"name": f"{name}: {one.name} after {after}"}) for one in wrong),
        Fact(name="second of the case at which it went back", value=f"{second:.1f}"),
    ]


def _after(fitted: datetime, fell: datetime) -> float:
    return max(timedelta(0), fell - fitted).total_seconds()
