"""The verdicts on gang scheduling: observation and profile in, findings out. Pure.

A finding per gang scheduler. What may have made or taken room (a disturbance) goes before every
verdict, then whether the arena worked at all, then what the gang did, then whether its waiting is
explained and room and scheduler were there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from kar_checks.checks.gang.kueue import CONFIG_NAME, CONFIG_NAMESPACE, USERS_QUEUE
from kar_checks.checks.gang.observation import (
    Arena,
    BackendObservation,
    BoundPod,
    Contest,
    Fits,
    Fragmented,
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
from kar_checks.checks.pulse import Pulsed, fact, seconds, too_short
from kar_checks.kit.judging import unless_beside
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Finding, Observation, Outcome
from kar_checks.profile import Profile


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check for every gang scheduler that was found."""
    observed = cast("GangObservation", seen)
    rulings = {
        name: _shared(_rule(check, backend, profile), check, backend, observed)
        for name, backend in observed.backends.items()
    } or {"": _none_found(observed)}
    return [
        ruling.finding(
            check,
            [
                *_where(check, observed.backends.get(name)),
                *ruling.facts,
                *_beyond(check, observed.backends.get(name)),
            ],
            observed.evidence,
            observed.trial,
            variant=name,
        )
        for name, ruling in rulings.items()
    ]


def _none_found(seen: GangObservation) -> Ruling:
    return _undecided(
        "no_gang_scheduler",
        f"no gang scheduler was found; looked for: {', '.join(seen.looked_for)}",
        "install one, or switch on the native API: feature gate GenericWorkload and the API "
        "group scheduling.k8s.io/v1beta1 (Kubernetes 1.37)",
    )


def _rule(check: str, backend: BackendObservation | Fault, profile: Profile) -> Ruling:
    if isinstance(backend, Fault):
        return _error(backend)
    if backend.problem is not None:
        return _problem(backend.problem)
    scenario, rule = _RULES[check]
    part = getattr(backend, scenario)
    if isinstance(part, Fault):
        return _error(part)
    if isinstance(part, Problem):
        return _problem(part)
    if part is None:
        return Ruling(Outcome.NOT_RUN, "not_measured", "the trial was not asked to measure this")
    ruling = rule(part, profile)
    if ruling.reason in _NEGATIVE and not part.watched:
        return _not_watched()
    return ruling


def _shared(
    ruling: Ruling, check: str, backend: BackendObservation | Fault, seen: GangObservation
) -> Ruling:
    """Take back a failure in a queue of the user's, whose quota another run may have had.

    What other runs do on a node is seen there, and queues of our own are ours alone.
    """
    part = getattr(backend, _RULES[check][0], None)
    users = isinstance(part, Scenario) and part.arena.node.startswith(USERS_QUEUE)
    return unless_beside(ruling, seen) if users else ruling


def _where(check: str, backend: BackendObservation | Fault | None) -> list[Fact]:
    """Return the facts that every verdict on a scenario rests on."""
    if not isinstance(backend, BackendObservation):
        return []
    out = [Fact(name="API", value=backend.version, source="discovery")]
    part = getattr(backend, _RULES[check][0])
    if isinstance(part, Scenario):
        arena: Arena = part.arena
        asked = {
            one.scheduler for group in part.groups if group.role == "gang" for one in group.pods
        }
        out += [
            Fact(name="scheduler asked", value=one, source="spec.schedulerName as it was stored")
            for one in sorted(asked)
        ]
        by_quota = arena.kind == "quota"
        out.append(
            Fact(
                name="room",
                value=f"{arena.places:g} places of {arena.member} m CPU "
                f"{'in the quota of' if by_quota else 'on'} {arena.node}",
                source=f"{arena.free} m is all that it can give"
                if by_quota
                else f"{arena.free} m free before: allocatable minus the requests of its pods",
            )
        )
    return out


def _beyond(check: str, backend: BackendObservation | Fault | None) -> list[Fact]:
    """Return how far the guarantee goes, which the requirement does not ask for."""
    if not isinstance(backend, BackendObservation) or check != "gang.all_or_nothing":
        return []
    seen = backend.guarantee
    if not isinstance(seen, Guarantee):
        return []
    source = "a gang of ours with quota for all, and a node for all but one; for information"
    facts = [
        Fact(name="level of the guarantee", value=_level(seen), source=source),
        Fact(name="waitForPodsReady", value=_pods_ready(seen), source="Kueue's configuration"),
    ]
    if isinstance(seen.by_topology, Fragmented):
        told = "the same gang in a queue of ours with a topology: "
        facts.insert(
            1,
            Fact(
                name="topology-aware scheduling",
                value=told + _fragmented(seen.by_topology),
                source=seen.by_topology.said or "conditions of the Workload",
            ),
        )
    elif isinstance(seen.by_topology, Problem):
        facts.insert(
            1,
            Fact(
                name="topology-aware scheduling",
                value=f"could not be tried: {seen.by_topology.text}",
                source="a queue of ours",
            ),
        )
    if seen.nodes is not None and seen.quota > seen.nodes:
        facts.append(
            Fact(
                name="quota larger than the cluster",
                value=f"{seen.quota} m CPU can be given, and the nodes have {seen.nodes} m: a gang "
                "may be admitted that has no room",
                source="the queue's refusal of more; allocatable of the nodes",
            )
        )
    return facts


def _level(seen: Guarantee) -> str:
    if not seen.by_quota.admitted:
        return f"placement: the gang was {_fragmented(seen.by_quota)}"
    if seen.pods_ready is not None and seen.pods_ready.on:
        name = "quota, and a timeout until all pods are ready"
    elif seen.pods_ready is not None:
        name = "quota only"
    else:
        name = "quota; whether there is a timeout until all pods are ready is unknown"
    return f"{name}: the gang was {_fragmented(seen.by_quota)}"


def _fragmented(seen: Fragmented) -> str:
    if not seen.admitted:
        return "held back as a whole"
    return f"admitted, and {seen.bound} of its {seen.size} pods got a node"


def _pods_ready(seen: Guarantee) -> str:
    found = seen.pods_ready
    if found is None:
        return f"could not be read in the ConfigMap {CONFIG_NAME} of {CONFIG_NAMESPACE}"
    if not found.on:
        return "off: nothing takes back an admitted gang that does not start as a whole"
    return f"on: such a gang is taken back after {found.timeout}" + (
        ", and nothing else is admitted meanwhile" if found.blocks else ""
    )


# -- the checks -----------------------------------------------------------------------------


def _all_or_nothing(seen: Squeeze, profile: Profile) -> Ruling:
    until = seen.window.ended if seen.window else float("inf")
    if ruling := _disturbed(seen, until) or _control(seen):
        return ruling
    if seen.window is None or seen.refusal is None:
        return _undecided("not_observed", "the gang was never watched")
    if seen.window.bound:
        return _bound_without_room(seen.window.bound, seen.size, seen.fitting)
    if ruling := (
        _watched(seen.window, profile.number("gang.window_seconds"), profile)
        or _attributed(seen.refusal)
        or _witnessed(seen.witness, profile)
    ):
        return ruling
    length = seconds(seen.window.pulse, profile)
    return Ruling(
        Outcome.PASS,
        "nothing_started",
        f"{seen.fitting} of {seen.size} plain pods started; of the gang of {seen.size} none did "
        f"in {length:.0f} s, and {seen.fitting} plain pods beside it at once",
        would_change="one pod of the gang with a node during the window",
        facts=[
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
            *fact(seen.window.pulse, profile),
            *_explained(seen.refusal),
            *_seen_witness(seen.witness),
        ],
    )


def _release(seen: Squeeze, profile: Profile) -> Ruling:
    if ruling := _disturbed(seen) or _control(seen):
        return ruling
    if seen.window is None or seen.window.bound:
        return _undecided(
            "gang_was_not_waiting",
            "a part of the gang had started before there was room, so nothing could be released",
        )
    if ruling := _witnessed(seen.witness, profile):
        return ruling
    return _started(seen.start, profile) or _went_off(
        seen.start, f"all {seen.size} members started when the filler was gone"
    )


def _fits(seen: Fits, profile: Profile) -> Ruling:
    if ruling := _disturbed(seen) or _started(seen.start, profile):
        return ruling
    if seen.refill is None or seen.refill.bound < seen.refill.asked:
        return _undecided(
            "room_not_released",
            f"after the gang had completed, {seen.refill.bound if seen.refill else 0} of "
            f"{seen.start.size} plain pods were bound within "
            f"{profile.number('gang.witness_seconds'):g} s",
        )
    return _went_off(
        seen.start,
        f"all {seen.start.size} members ran and completed, and {seen.refill.bound} plain pods "
        "took their room at once",
    )


def _incomplete(seen: Incomplete, profile: Profile) -> Ruling:
    if ruling := _disturbed(seen):
        return ruling
    if seen.window.bound:
        return Ruling(
            Outcome.FAIL,
            "bound_incomplete",
            f"{len(seen.window.bound)} of {seen.size - 1} members were bound while one was "
            f"missing: {_list(seen.window.bound)}",
            would_change="no member with a node before the last one exists",
        )
    if ruling := (
        _watched(seen.window, profile.number("gang.incomplete_seconds"), profile)
        or _started(seen.start, profile)
    ):
        return ruling
    return _went_off(
        seen.start,
        f"{seen.size - 1} members waited {seconds(seen.window.pulse, profile):.0f} s for the "
        f"last one, then all {seen.size} started",
        fact(seen.window.pulse, profile),
    )


def _two_gangs(seen: Contest, profile: Profile) -> Ruling:
    if ruling := _disturbed(seen):
        return ruling
    if seen.waiting.bound:
        return _bound_without_room(seen.waiting.bound, 2 * seen.size, 0)
    if ruling := _watched(seen.waiting, 0, profile) or next(
        (found for one in seen.refusals.values() if (found := _attributed(one))), None
    ):
        return ruling
    if seen.first is None and (ruling := _had_time(seen.tried, profile)):
        return ruling
    if seen.stuck:
        return Ruling(
            Outcome.FAIL,
            "deadlock",
            f"neither gang of {seen.size} became complete though there was room for one: "
            f"{_list(seen.stuck)} hold their places",
            would_change="one of the gangs with all of its members bound",
        )
    if seen.first is None:
        return _never_started(seen.witness, 2 * seen.size)
    if seen.overlap and seen.beside is not None and not seen.beside.watched:
        return _not_watched()  # of two changes that a list shows nobody knows which came first
    if seen.overlap:
        return _bound_without_room(seen.overlap, seen.size, 0)
    if ruling := (
        _started(seen.first, profile)
        or _witnessed(seen.witness, profile)
        or _watched(seen.beside, profile.number("gang.hold_seconds"), profile)
        or _started(seen.second, profile)
    ):
        return ruling
    beside = cast("Window", seen.beside).pulse
    return _went_off(
        seen.second,
        f"of two gangs of {seen.size} for {seen.arena.places:.0f} places one ran while the other "
        f"waited {seconds(beside, profile):.0f} s, then the other ran",
        fact(beside, profile),
    )


_NEGATIVE = ("partial_start", "never_started", "deadlock")
"""Failures by what did not happen: somebody else may have had the room, unseen."""

_RULES: dict[str, tuple[str, Callable[..., Ruling]]] = {
    "gang.all_or_nothing": ("squeeze", _all_or_nothing),
    "gang.release": ("squeeze", _release),
    "gang.fits": ("fits", _fits),
    "gang.incomplete_waits": ("incomplete", _incomplete),
    "gang.two_gangs": ("contest", _two_gangs),
}


# -- what they have in common ---------------------------------------------------------------


def _disturbed(seen: Scenario, until: float = float("inf")) -> Ruling | None:
    early = [one for one in seen.disturbances if one.at <= until]
    if not early:
        return None
    if seen.arena.kind == "quota" and early[0].reason in ("preempted", "quota_changed"):
        advice = (
            "run again when nobody else uses this queue or its cohort, or let the run make queues "
            "of its own"
        )
    else:
        advice = "run again at a quieter time, or choose quieter nodes by --node-selector"
    return _undecided(
        early[0].reason,
        f"something else happened meanwhile: {'; '.join(one.text for one in early[:3])}",
        advice,
    )


def _control(seen: Squeeze) -> Ruling | None:
    if seen.control == seen.fitting:
        return None
    return _undecided(
        "control_did_not_start_k",
        f"{seen.control} of {seen.size} plain pods started where {seen.fitting} fit, so that a "
        "gang that waits would prove nothing here",
        "look at the events of the scheduler, and whether other pods crowd this node",
    )


def _watched(window: Window | None, wanted: float, profile: Profile) -> Ruling | None:
    if ruling := too_short(window.pulse if window else None, wanted, profile):
        return ruling
    return None if window and window.watched else _not_watched()


def _not_watched() -> Ruling:
    return _undecided(
        "window_not_watched",
        "the watch had a gap: what was bound and gone again meanwhile would have been missed",
        "run again; a proxy in front of the API server that swallows watches has to let them pass",
    )


def _had_time(waited: Pulsed | None, profile: Profile) -> Ruling | None:
    """Return what keeps members that were not bound from being the gang scheduler's fault."""
    return too_short(waited, profile.number("gang.bind_seconds"), profile)


def _attributed(refusal: Refusal) -> Ruling | None:
    if refusal.scheduler_error:
        return _undecided(
            "scheduler_error",
            f"the scheduler failed by itself, which is no refusal: {refusal.condition}",
        )
    if refusal.refused and (refusal.events or not refusal.needs_event):
        return None
    missing = "an event on its pods" if refusal.refused else "a condition on the group"
    return _undecided(
        "not_attributed",
        f"the gang waited, but the scheduler did not say by {missing} that it does not fit"
        + (f" ({refusal.condition})" if refusal.condition else ""),
        "it may have waited for another reason, such as a scheduler that stands still",
    )


def _witnessed(witness: Witness | None, profile: Profile) -> Ruling | None:
    limit = profile.number("gang.witness_seconds")
    if witness is not None and witness.seconds is not None and witness.seconds <= limit:
        return None
    if witness is not None and witness.seconds is not None:
        return _undecided(
            "witness_did_not_bind",
            f"plain pods beside the waiting gang were bound after {witness.seconds:.1f} s, and at "
            f"once means {limit:g} s: whether room and scheduler were there all the time is open",
            "run again at a quieter time",
        )
    bound, asked = (witness.bound, witness.asked) if witness else (0, 0)
    return _undecided(
        "witness_did_not_bind",
        f"{bound} of {asked} plain pods were bound within {limit:g} s beside the waiting gang: "
        "room or scheduler were not there",
    )


def _started(start: Start | None, profile: Profile) -> Ruling | None:
    """Return what is wrong with a gang that had room, if anything."""
    if start is None:
        return _undecided("not_observed", "the gang was never let in")
    if len(start.bound) < start.size and (ruling := _had_time(start.waited, profile)):
        return ruling
    if not start.bound:
        return _never_started(start.witness, start.size)
    if len(start.bound) < start.size:
        return Ruling(
            Outcome.FAIL,
            "partial_start",
            f"there was room for all {start.size} members, and {len(start.bound)} were bound: "
            f"{_list(start.bound)}",
            would_change=f"all {start.size} members with a node",
        )
    if start.fault is not None:
        return _error(start.fault)
    if start.met < start.size:
        return _undecided(
            "members_did_not_meet",
            f"all {start.size} members were bound, and {start.met} say that they reached all "
            "others at once",
            "allow TCP between pods of one namespace (NetworkPolicy), and look at the pods' logs",
        )
    if start.completed < start.size:
        return _undecided(
            "did_not_complete", f"{start.completed} of {start.size} members completed"
        )
    return None


def _never_started(witness: Witness | None, size: int) -> Ruling:
    if witness is None or witness.bound < witness.asked:
        return _undecided(
            "witness_did_not_bind",
            "no member was bound, and neither were plain pods in their place: room or scheduler "
            "were not there",
        )
    return Ruling(
        Outcome.FAIL,
        "never_started",
        f"there was room, and none of {size} members was bound, while {witness.bound} plain pods "
        "were at once",
        would_change="all members with a node",
    )


def _went_off(start: Start | None, summary: str, facts: Sequence[Fact] = ()) -> Ruling:
    """Return a pass with what was seen of the start."""
    done = cast("Start", start)
    first, last = done.bound[0].at, done.bound[-1].at
    return Ruling(
        Outcome.PASS,
        "started_together",
        summary,
        would_change="a part of the members with a node, the rest without",
        facts=[
            Fact(
                name="members bound",
                value=f"{len(done.bound)}, {first - done.room_at:.1f} s after there was room, "
                f"{last - first:.2f} s apart",
                expected=str(done.size),
                source="spec.nodeName, watched",
            ),
            Fact(
                name="members connected to all others at once",
                value=str(done.met),
                expected=str(done.size),
                source="what each member printed",
            ),
            Fact(
                name="members completed",
                value=str(done.completed),
                expected=str(done.size),
                source="status.phase",
            ),
            *facts,
        ],
    )


def _bound_without_room(bound: list[BoundPod], size: int, fitting: int) -> Ruling:
    room = f"there was room for {fitting} of {size}" if fitting else "there was no room for all"
    return Ruling(
        Outcome.FAIL,
        "bound_without_room",
        f"{len(bound)} of {size} members were bound though {room}: {_list(bound)}",
        would_change="no member with a node as long as not all fit",
        facts=[
            Fact(name="members bound", value=_list(bound), expected="none", source="spec.nodeName")
        ],
    )


def _explained(refusal: Refusal) -> list[Fact]:
    return [
        Fact(name="refusal", value=refusal.condition, source=refusal.source),
        *(Fact(name="event", value=one, source=refusal.source) for one in refusal.events[:1]),
    ]


def _seen_witness(witness: Witness | None) -> list[Fact]:
    if witness is None or witness.seconds is None:
        return []
    return [
        Fact(
            name="plain pods bound beside the waiting gang",
            value=f"{witness.bound} in {witness.seconds:.1f} s",
            expected=str(witness.asked),
            source="spec.nodeName, watched",
        )
    ]


def _list(bound: list[BoundPod]) -> str:
    return ", ".join(f"{one.name} at {one.at:.1f} s" for one in bound[:6])


def _undecided(reason: str, summary: str, advice: str = "") -> Ruling:
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice)


def _problem(found: Problem) -> Ruling:
    return _undecided(found.reason, found.text, found.help)


def _error(fault: Fault) -> Ruling:
    return Ruling(Outcome.ERROR, fault.reason.value, fault.message, fault.help)
