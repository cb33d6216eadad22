"""The verdicts on gang scheduling: observation and profile in, findings out. Pure.

A finding per gang scheduler. What may have made or taken room comes before every verdict, then
whether the place worked at all, then what the gang did, then whether its waiting is explained and
room and scheduler existed.
"""

from __future__ import annotations

from typing import cast

from kar_checks.checks.gang import facts
from kar_checks.checks.gang.kueue import USERS_QUEUE
from kar_checks.checks.gang.observation import (
    BackendObservation,
    BoundPod,
    Contest,
    Disturbance,
    Fits,
    GangObservation,
    Guarantee,
    Incomplete,
    Problem,
    Refusal,
    Scenario,
    Squeeze,
    Start,
    Window,
    Witness,
)
from kar_checks.kit.judging import Case, Judge, Rule, error, unless_beside
from kar_checks.kit.pulse import Pulsed, fact, seconds, too_short
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Outcome

verdict = Reasons(__package__)

GangCase = Case[GangObservation, BackendObservation]

_SCHEDULERS = {
    "native": ("kube-scheduler", "-n kube-system -l component=kube-scheduler"),
    "kueue": ("Kueue", "-n kueue-system deployment/kueue-controller-manager"),
    "volcano": ("Volcano", "-n volcano-system deployment/volcano-scheduler"),
    "coscheduling": (
        "the coscheduling plugin",
        "-n scheduler-plugins deployment/scheduler-plugins-scheduler",
    ),
}
"""What each gang scheduler is called, and which pods have its log where its own chart is used."""
_NEGATIVE = ("partial_start", "never_started", "deadlock")
"""Failures by what did not happen: somebody else may have had the room, unseen."""


def _scheduler(case: GangCase) -> dict[str, str]:
    """Return the gang scheduler's name and where its log is, as the texts take them."""
    name = f"the gang scheduler {case.variant}"
    who, pods = _SCHEDULERS.get(case.variant, (name, ""))
    return {"who": who, "log": f"`kubectl logs {pods}`" if pods else f"the log of {name}"}


# -- before every rule ----------------------------------------------------------------------


def _scenario(case: GangCase) -> Scenario | None:
    part = getattr(case.seen, judge.rules[case.check].parts[0])
    return part if isinstance(part, Scenario) else None


def _unusable(case: GangCase) -> Ruling | None:
    part = getattr(case.seen, judge.rules[case.check].parts[0])
    why = case.seen.problem or part
    if not isinstance(why, Problem):
        return None
    return Ruling(Outcome.INCONCLUSIVE, why.reason, why.text, why.help)


def _node_lost(case: GangCase) -> Ruling | None:
    return _disturbed(case, "node_changed")


def _changed_by_others(case: GangCase) -> Ruling | None:
    reasons = ("group_changed", "pod_deleted", "preempted", "filler_ended", "quota_changed")
    return _disturbed(case, *reasons)


def _no_room(case: GangCase) -> Ruling | None:
    return _disturbed(case, "foreign_pod", "room_changed", "node_added")


def _disturbed(case: GangCase, *reasons: str) -> Ruling | None:
    """Return the first of these disturbances; those after the window of a squeeze touch nothing."""
    seen = cast("Scenario", _scenario(case))
    window = seen.window if isinstance(seen, Squeeze) else None
    until = window.ended if window and case.check == "gang.all_or_nothing" else float("inf")
    found = [one for one in seen.disturbances if one.at <= until and one.reason in reasons]
    return _disturbance(found, by_quota=seen.arena.kind == "quota") if found else None


def _disturbance(found: list[Disturbance], *, by_quota: bool) -> Ruling:
    what = "; ".join(one.text for one in found[:3])
    match found[0].reason:
        case "node_changed":
            return verdict("node_changed", what=what)
        case "pod_deleted":
            return verdict("pod_deleted", what=what)
        case "preempted":
            return verdict("preempted.quota" if by_quota else "preempted.node", what=what)
        case "filler_ended":
            return verdict("filler_ended", what=what)
        case "quota_changed":
            return verdict("quota_changed", what=what)
        case "group_changed":
            return verdict("group_changed", what=what)
        case "foreign_pod":
            return verdict("foreign_pod", what=what)
        case "room_changed":
            return verdict("room_changed", what=what)
        case "node_added":
            return verdict("node_added", what=what)


def _control_failed(case: GangCase) -> Ruling | None:
    seen = _scenario(case)
    if not isinstance(seen, Squeeze) or seen.control == seen.fitting:
        return None
    return verdict(
        "control_did_not_start_k", control=seen.control, size=seen.size, fitting=seen.fitting
    )


def _revise(case: GangCase, ruling: Ruling) -> Ruling:
    """Take back what a gap in the watch explains, or another run in a queue of the user's.

    What other runs do on a node is seen there, and queues of our own are ours alone.
    """
    seen = cast("Scenario", _scenario(case))
    if ruling.reason in _NEGATIVE and not seen.watched:
        return verdict("window_not_watched")
    return unless_beside(ruling, case.run) if seen.arena.node.startswith(USERS_QUEUE) else ruling


def _context(case: GangCase) -> list[Fact]:
    return facts.place(case.seen, _scenario(case))


def _remarks(case: GangCase) -> list[Fact]:
    seen = case.seen.guarantee
    about_it = case.check == "gang.all_or_nothing" and isinstance(seen, Guarantee)
    return facts.guarantee(cast("Guarantee", seen)) if about_it else []


def _none_found(seen: GangObservation) -> dict[str, Ruling]:
    if seen.backends:
        return {}
    return {"": verdict("no_gang_scheduler", looked_for=", ".join(seen.looked_for))}


# -- the checks -----------------------------------------------------------------------------


def _all_or_nothing(case: GangCase) -> Ruling:
    seen = cast("Squeeze", case.seen.squeeze)
    if seen.window is None or seen.refusal is None:
        return verdict("not_observed.window")
    if bound := seen.window.bound:
        return verdict(
            "bound_without_room.fitting",
            _bound(bound),
            bound=len(bound),
            size=seen.size,
            fitting=seen.fitting,
            pods=facts.moments(bound),
            **_scheduler(case),
        )
    if ruling := (
        _watched(seen.window, "gang.window_seconds", case)
        or _attributed(seen.refusal, case)
        or _witnessed(seen.witness, case)
    ):
        return ruling
    length = seconds(seen.window.pulse, case.profile)
    shown = [
        Fact(
            name="pods of the control group bound",
            value=str(seen.control),
            expected=str(seen.fitting),
            source="spec.nodeName, watched",
        ),
        Fact(
            name="pods of the gang bound",
            value=f"0 in {length:.1f} s",
            expected="0",
            source="spec.nodeName, watched",
        ),
        *fact(seen.window.pulse, case.profile),
        *facts.refused(seen.refusal),
        *facts.witnessed(seen.witness),
    ]
    return verdict("nothing_started", shown, fitting=seen.fitting, size=seen.size, seconds=length)


def _release(case: GangCase) -> Ruling:
    seen = cast("Squeeze", case.seen.squeeze)
    if seen.window is None or seen.window.bound:
        return verdict("gang_was_not_waiting")
    if ruling := _witnessed(seen.witness, case) or _not_started(seen.start, case):
        return ruling
    return verdict("started_together.release", _how_it_started(seen.start), size=seen.size)


def _fits(case: GangCase) -> Ruling:
    seen = cast("Fits", case.seen.fits)
    if ruling := _not_started(seen.start, case):
        return ruling
    size, refill = seen.start.size, seen.refill
    if refill is None or refill.bound < refill.asked:
        limit = case.profile.number("gang.witness_seconds")
        bound = refill.bound if refill else 0
        return verdict("room_not_released", bound=bound, size=size, limit=limit, **_scheduler(case))
    shown = _how_it_started(seen.start)
    return verdict("started_together.fits", shown, size=size, refill=refill.bound)


def _incomplete(case: GangCase) -> Ruling:
    seen = cast("Incomplete", case.seen.incomplete)
    present = seen.size - 1
    if bound := seen.window.bound:
        return verdict(
            "bound_incomplete",
            bound=len(bound),
            present=present,
            pods=facts.moments(bound),
            **_scheduler(case),
        )
    if ruling := (
        _watched(seen.window, "gang.incomplete_seconds", case) or _not_started(seen.start, case)
    ):
        return ruling
    return verdict(
        "started_together.incomplete",
        [*_how_it_started(seen.start), *fact(seen.window.pulse, case.profile)],
        present=present,
        size=seen.size,
        seconds=seconds(seen.window.pulse, case.profile),
    )


def _two_gangs(case: GangCase) -> Ruling:
    seen = cast("Contest", case.seen.contest)
    if ruling := _start_of_the_first(seen, case):
        return ruling
    if ruling := (
        _not_started(seen.first, case)
        or _witnessed(seen.witness, case)
        or _watched(seen.beside, "gang.hold_seconds", case)
        or _not_started(seen.second, case)
    ):
        return ruling
    beside = cast("Window", seen.beside).pulse
    return verdict(
        "started_together.two_gangs",
        [*_how_it_started(seen.second), *fact(beside, case.profile)],
        size=seen.size,
        places=seen.arena.places,
        seconds=seconds(beside, case.profile),
    )


def _start_of_the_first(seen: Contest, case: GangCase) -> Ruling | None:
    """Return what is wrong with the time until one of two gangs had the room, if anything."""
    values = {"size": seen.size, **_scheduler(case)}
    if bound := seen.waiting.bound:
        values |= {"bound": len(bound), "size": 2 * seen.size, "pods": facts.moments(bound)}
        return verdict("bound_without_room.waiting", _bound(bound), **values)
    if ruling := _watched(seen.waiting, "", case):
        return ruling
    for refusal in seen.refusals.values():
        if ruling := _attributed(refusal, case):
            return ruling
    if seen.first is None and (ruling := _had_no_time(seen.tried, case)):
        return ruling
    if seen.stuck:
        return verdict("deadlock", pods=facts.moments(seen.stuck), **values)
    if seen.first is None:
        return _never_started(seen.witness, 2 * seen.size, case)
    if seen.overlap and seen.beside is not None and not seen.beside.watched:
        return verdict("window_not_watched")  # a list does not show which change came first
    if bound := seen.overlap:
        values |= {"bound": len(bound), "pods": facts.moments(bound)}
        return verdict("bound_without_room.overlap", _bound(bound), **values)
    return None


# -- what they have in common ---------------------------------------------------------------


def _watched(window: Window | None, wanted: str, case: GangCase) -> Ruling | None:
    """Return what was missed of a window; ``wanted`` is the setting of its length, if any."""
    length = case.profile.number(wanted) if wanted else 0
    if ruling := too_short(window.pulse if window else None, length, case.profile):
        return ruling
    return None if window and window.watched else verdict("window_not_watched")


def _had_no_time(waited: Pulsed | None, case: GangCase) -> Ruling | None:
    """Return what keeps members that were not bound from being the gang scheduler's fault."""
    return too_short(waited, case.profile.number("gang.bind_seconds"), case.profile)


def _attributed(refusal: Refusal, case: GangCase) -> Ruling | None:
    if refusal.scheduler_error:
        return verdict("scheduler_error", condition=refusal.condition, **_scheduler(case))
    if refusal.refused and (refusal.events or not refusal.needs_event):
        return None
    condition = f" ({refusal.condition})" if refusal.condition else ""
    return verdict(
        "not_attributed.event" if refusal.refused else "not_attributed.condition",
        condition=condition,
        **_scheduler(case),
    )


def _witnessed(witness: Witness | None, case: GangCase) -> Ruling | None:
    limit = case.profile.number("gang.witness_seconds")
    if witness is None or witness.seconds is None:
        bound, asked = (witness.bound, witness.asked) if witness else (0, 0)
        return verdict("witness_did_not_bind.beside", bound=bound, asked=asked, limit=limit)
    if witness.seconds > limit:
        return verdict("witness_did_not_bind.late", seconds=witness.seconds, limit=limit)
    return None


def _not_started(start: Start | None, case: GangCase) -> Ruling | None:
    """Return what is wrong with a gang that had room, if anything."""
    if start is None:
        return verdict("not_observed.start")
    bound, size = len(start.bound), start.size
    if bound < size and (ruling := _had_no_time(start.waited, case)):
        return ruling
    if not bound:
        return _never_started(start.witness, size, case)
    if bound < size:
        pods = facts.moments(start.bound)
        return verdict("partial_start", bound=bound, size=size, pods=pods, **_scheduler(case))
    if start.fault is not None:
        return error(start.fault)
    if start.met < size:
        return verdict("members_did_not_meet", met=start.met, size=size)
    if start.completed < size:
        return verdict("did_not_complete", completed=start.completed, size=size)
    return None


def _never_started(witness: Witness | None, size: int, case: GangCase) -> Ruling:
    bound, asked = (witness.bound, witness.asked) if witness else (0, size)
    if bound < asked:
        return verdict("witness_did_not_bind.instead", bound=bound, asked=asked)
    return verdict("never_started", size=size, plain=bound, **_scheduler(case))


def _how_it_started(start: Start | None) -> list[Fact]:
    return facts.started(cast("Start", start))


def _bound(pods: list[BoundPod]) -> list[Fact]:
    value = facts.moments(pods)
    return [Fact(name="members bound", value=value, expected="none", source="spec.nodeName")]


judge = Judge[GangObservation, BackendObservation](
    rules={
        "gang.all_or_nothing": Rule(("squeeze",), _all_or_nothing),
        "gang.release": Rule(("squeeze",), _release),
        "gang.fits": Rule(("fits",), _fits),
        "gang.incomplete_waits": Rule(("incomplete",), _incomplete),
        "gang.two_gangs": Rule(("contest",), _two_gangs),
    },
    variants=lambda run, _: run.backends,
    missing=_none_found,
    unusable=_unusable,
    node_lost=_node_lost,
    changed_by_others=_changed_by_others,
    no_room=_no_room,
    control_failed=_control_failed,
    revise=_revise,
    context=_context,
    remarks=_remarks,
)
