"""What one observed step of a resize comes to, rule by rule. Pure.

Each rule returns a verdict, or ``None`` if it finds nothing. What makes a measurement worthless is
asked before (see the judge).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from kar_checks.checks.resize import kernel
from kar_checks.checks.resize.kernel import NotObservableError
from kar_checks.checks.resize.observation import (
    IN_PROGRESS,
    PENDING,
    Answer,
    Case,
    Condition,
    Container,
    Look,
    Resources,
    Snapshot,
    Step,
)
from kar_checks.checks.resize.state import status_differences, written
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact
from kar_checks.profile import Profile

verdict = Reasons(__package__)

STOPPED = 143
"""Exit code of the probe when it was asked to stop (SIGTERM)."""

# The kubelet's own words for what KEP-1287 excludes: static pods, containers with swap, exclusive
# CPUs or memory of a static manager, a runtime without support.
_BY_DESIGN = re.compile(r"(?i)static|swap|not supported|unsupported|windows|disabled")
_BELOW_USAGE = re.compile(r"(?i)below current usage")


def pairs(case: Case) -> Iterator[tuple[Snapshot, Step]]:
    """Yield each step with the pod as it was before."""
    before = case.start
    for step in case.steps:
        yield before, step
        before = step.after or before


def ordinary(case: Case) -> list[tuple[Snapshot, Step]]:
    """Return the steps that had to go through, each with the pod as it was before."""
    return [(before, step) for before, step in pairs(case) if step.expect in ("resize", "restart")]


def minor(version: str) -> tuple[int, int] | None:
    """Return (major, minor) of a version, ``None`` if it is none."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


# -- before the first change -----------------------------------------------------------------


def rest_ruling(case: Case) -> Ruling | None:
    """Rule whether the pod at rest is what we asked for, and whether we can see inside it."""
    return (
        _unsupported(case)
        or inside_ruling(case, case.start, _specs(case.start.look), control=True)
        or _forgetful(case)
    )


def _unsupported(case: Case) -> Ruling | None:
    """Rule on a kubelet that reports no actual resources: its node does not support resize.

    Since 1.35 the feature is locked on, so that such a kubelet breaks what it promises.
    """
    without = [name for name, one in case.start.look.containers.items() if one.status is None]
    if not without:
        return None
    kubelet = case.kubelet or "of unknown version"
    facts = [
        Fact(name="status.resources", value="missing", expected="filled", source=name)
        for name in without
    ]
    facts.append(Fact(name="kubelet", value=case.kubelet or "unknown", source=case.node))
    version = minor(case.kubelet)
    if version is None:
        return verdict("status_missing", facts, kubelet=kubelet, node=case.node)
    if version < (1, 35):
        return verdict("node_without_resize", facts, kubelet=kubelet, node=case.node)
    return verdict("status_differs.missing", facts, kubelet=kubelet, node=case.node, pod=case.pod)


def _forgetful(case: Case) -> Ruling | None:
    bad = [name for name, one in case.start.answers.items() if not _proved(case.kept[name], one)]
    check = f"resize.{case.name}"
    return verdict("control_differs.memory", names=", ".join(bad), check=check) if bad else None


# -- after a change --------------------------------------------------------------------------


def step_ruling(case: Case, before: Snapshot, step: Step, profile: Profile) -> Ruling | None:
    """Rule on a change that had to go through; ``None`` if everything went as it should."""
    patch, after = step.patch, seen_after(step)
    if patch.status != 200:
        answer = Fact(name="answer", value=f"{patch.status}: {patch.message}", expected="200")
        return verdict("refused", [answer], step=step.name, pod=case.pod, message=patch.message)
    restarts = _wanted_restart if step.expect == "restart" else restart_ruling
    return (
        restarts(case, before, after, step)
        or _reported(case, step, after)
        or _unsettled(case, step, after, profile)
        or inside_ruling(case, after, _specs(after.look))
        or status_ruling(case, step, after, _specs(after.look))
    )


def unchanged_ruling(
    case: Case, before: Snapshot, step: Step, after: Snapshot | None = None
) -> Ruling | None:
    """Rule that a pod goes on with its old values, although something was asked of it."""
    seen = after or seen_after(step)
    return restart_ruling(case, before, seen, step) or inside_ruling(
        case, seen, _specs(before.look)
    )


def restart_ruling(case: Case, before: Snapshot, after: Snapshot, step: Step) -> Ruling | None:
    """Rule on containers that did not stay the same process."""
    for name, old in before.look.containers.items():
        new = after.look.containers[name]
        facts = [
            *_identity(name, old, new),
            *_process(case, name, before.answers.get(name), after.answers.get(name)),
        ]
        if not facts:
            continue
        ended = new.last_end
        if ended is None or (ended.container_id and ended.container_id != old.container_id):
            check = f"resize.{case.name}"
            return verdict(
                "restart_unexplained", facts, step=step.name, container=name, check=check
            )
        how = f"exit code {ended.exit_code}, {ended.reason or 'no reason'}"
        facts.append(Fact(name=f"{name}: lastState", value=how, expected="no end"))
        where = {"step": step.name, "container": name, "how": how, "node": case.node}
        if _ended_before(before.answers.get(name), ended.finished_at, step.patch.at):
            return verdict("restarted_before", facts, **where)
        return verdict("restarted", facts, **where, pod=case.pod)
    return None


def _wanted_restart(case: Case, before: Snapshot, after: Snapshot, step: Step) -> Ruling | None:
    for name in step.patch.wanted:
        old, new = before.look.containers[name], after.look.containers[name]
        times = new.restart_count - old.restart_count
        facts = [
            Fact(
                name=f"{name}: restartCount",
                value=str(new.restart_count),
                expected=str(old.restart_count + 1),
            ),
            *_process(case, name, before.answers.get(name), after.answers.get(name)),
        ]
        where = {"step": step.name, "container": name, "pod": case.pod, "node": case.node}
        if times == 0:
            return verdict("not_restarted", facts, **where) if step.settled else None
        if times > 1:
            return verdict("restarted_too_often", facts, **where, times=times)
        ended, check = new.last_end, f"resize.{case.name}"
        if ended is None or ended.container_id != old.container_id or ended.exit_code != STOPPED:
            how = "no end" if ended is None else f"exit code {ended.exit_code}"
            return verdict(
                "restart_unexplained.stop", facts, **where, how=how, stopped=STOPPED, check=check
            )
        answer = after.answers.get(name)
        if answer and (_proved(case.kept[name], answer) or len(facts) == 1):
            return verdict("control_differs.restart", facts, **where, check=check)
    return None


def _identity(name: str, old: Container, new: Container) -> list[Fact]:
    pairs = {
        "containerID": (old.container_id, new.container_id),
        "restartCount": (str(old.restart_count), str(new.restart_count)),
        "startedAt": (old.started_at, new.started_at),
    }
    return [
        Fact(name=f"{name}: {what}", value=now or "none", expected=was, source="status")
        for what, (was, now) in pairs.items()
        if was != now
    ]


def _process(case: Case, name: str, old: Answer | None, new: Answer | None) -> list[Fact]:
    if old is None or new is None:
        return []
    out: list[Fact] = []
    if old.pid1_started != new.pid1_started:
        out.append(
            Fact(
                name=f"{name}: start of PID 1",
                value=f"{new.pid1_started} ticks",
                expected=f"{old.pid1_started} ticks",
                source="/proc/1/stat",
            )
        )
    # Who came after a restart that was asked for never knew the text.
    if _proved(case.kept[name], old) and not _proved(case.kept[name], new):
        out.append(
            Fact(name=f"{name}: memory", value="lost", expected="kept", source="answer to a nonce")
        )
    return out


def _proved(kept: str, answer: Answer) -> bool:
    want = hashlib.blake2b(answer.nonce.encode(), key=kept.encode(), digest_size=16).hexdigest()
    return answer.proof == want


def _ended_before(alive: Answer | None, finished: str, patched: datetime) -> bool:
    """Say whether a process surely ended before a request, by one clock.

    ``alive`` is its last answer before the request. The node's clock may differ from ours, so
    that the moment of the request is found on the node's clock. A run that did not record that
    clock still knows that the process answered just before.
    """
    try:
        end = datetime.fromisoformat(finished) + timedelta(seconds=1)  # written in whole seconds
    except ValueError:
        return False
    if alive is None:
        return end + timedelta(seconds=1) < patched
    gap = patched - alive.at
    if alive.node_at is None:
        return gap > timedelta(seconds=3) and end + timedelta(seconds=1) < patched
    return end < alive.node_at + gap


def _reported(case: Case, step: Step, after: Snapshot) -> Ruling | None:
    """Rule on what the kubelet reports of a resize that it has not done."""
    for one in after.look.conditions:
        facts, told = [_condition_fact(one)], {"step": step.name, "message": one.message}
        if one.type == PENDING and one.reason == "Infeasible":
            if _BY_DESIGN.search(one.message):
                return verdict("infeasible_by_design", facts, **told)
            return verdict("refused_as_infeasible", facts, **told, pod=case.pod, node=case.node)
        if one.type == IN_PROGRESS and _BELOW_USAGE.search(one.message):
            return verdict("usage_above_limit", facts, **told, check=f"resize.{case.name}")
    return None


def no_room_ruling(case: Case, step: Step) -> Ruling | None:
    """Rule on an ordinary resize for which the node has no room."""
    for one in step.after.look.conditions if step.after else []:
        if one.type == PENDING and one.reason == "Deferred":
            facts = [_condition_fact(one)]
            return verdict("no_room", facts, step=step.name, node=case.node, message=one.message)
    return None


def _condition_fact(one: Condition) -> Fact:
    told = f"{one.reason}: {one.message}".strip(": ") or "True"
    return Fact(name=one.type, value=told, expected="absent", source="status.conditions")


# -- in time ---------------------------------------------------------------------------------


def lost_ruling(case: Case, step: Step, profile: Profile) -> Ruling | None:
    """Rule on a node that did not answer while a resize did not come to rest."""
    after, signs = step.after, step.signs
    ended = step.settled or step.replaced or step.patch.status != 200 or step.expect == "refusal"
    if ended or after is None:
        return None
    if signs is None and any(one.type == PENDING for one in after.look.conditions):
        return None  # the kubelet has answered
    seconds = profile.number("resize.settle_seconds")
    half = step.patch.at + timedelta(seconds=seconds / 2)
    if signs and (signs.exec_answered or (signs.lease_renewed and signs.lease_renewed > half)):
        return None
    facts = waiting_facts(step, after)
    return verdict("node_unresponsive", facts, step=step.name, seconds=seconds, node=case.node)


def waiting_facts(step: Step, after: Snapshot) -> list[Fact]:
    """Return how far an accepted resize came that did not come to rest in time."""
    renewed = step.signs.lease_renewed if step.signs else None
    answered = step.signs is not None and step.signs.exec_answered
    return [
        Fact(
            name="observedGeneration",
            value=str(after.look.observed_generation),
            expected=str(step.patch.generation),
            source="status",
        ),
        *(_condition_fact(one) for one in after.look.conditions),
        *_status_facts(status_differences(after.look, wanted_specs(step, after.look))),
        Fact(name="node lease renewed", value=str(renewed or "unknown")),
        Fact(name="exec after the wait", value="answered" if answered else after.silence),
    ]


def lacking(step: Step, after: Snapshot) -> str:
    """Return what an accepted resize lacks to be done."""
    look, sent = after.look, step.patch.generation
    if look.observed_generation is not None and look.observed_generation < (sent or 0):
        return f"status.observedGeneration is {look.observed_generation}, not {sent}"
    reported = [f"{one.type} {one.reason}".strip() for one in look.conditions]
    reported = reported or status_differences(look, wanted_specs(step, look))
    return ", ".join(reported) or "status.observedGeneration is missing"


def _unsettled(case: Case, step: Step, after: Snapshot, profile: Profile) -> Ruling | None:
    if step.settled:
        return None
    where = {"pod": case.pod, "node": case.node, "lacking": lacking(step, after)}
    seconds = f"{profile.number('resize.settle_seconds'):.0f} s"
    facts, observed = waiting_facts(step, after), after.look.observed_generation
    done = observed is not None and observed >= (step.patch.generation or 0)
    if done and not after.look.conditions:
        return verdict("status_differs", facts, step=f"{step.name}, after {seconds}", **where)
    return verdict("not_settled", facts, step=step.name, seconds=seconds, **where)


def wanted_specs(step: Step, look: Look) -> dict[str, Resources]:
    """Return the spec of each container that a step changed."""
    return {name: look.containers[name].spec for name in step.patch.wanted}


# -- inside and outside ----------------------------------------------------------------------


def inside_ruling(
    case: Case, seen: Snapshot, wanted: Mapping[str, Resources], *, control: bool = False
) -> Ruling | None:
    """Rule whether the kernel holds what is wanted; for a control a difference decides nothing."""
    where = {"pod": case.pod, "node": case.node}
    if seen.silence:
        return verdict("no_answer", **where, silence=seen.silence)
    wrong: list[Fact] = []
    for name, want in wanted.items():
        try:
            found = kernel.compare(seen.answers[name].kernel, want)
        except NotObservableError as error:
            return verdict("not_observable", container=name, why=str(error))
        wrong += [_of(name, one) for one in found if kernel.differs(one)]
    if not wrong:
        return None
    return verdict(
        "control_differs.kernel" if control else "kernel_value_differs",
        wrong,
        **where,
        wrong=differences(wrong),
        names=", ".join(one.name for one in wrong),
    )


def differences(wrong: Iterable[Fact]) -> str:
    """Return in a line which values are not those that were expected."""
    return "; ".join(f"{one.name} is {one.value}, not {one.expected}" for one in wrong)


def status_ruling(
    case: Case, step: Step, after: Snapshot, wanted: Mapping[str, Resources]
) -> Ruling | None:
    """Rule whether the status shows the resources that are wanted."""
    wrong = status_differences(after.look, wanted)
    if not wrong:
        return None
    return verdict(
        "status_differs",
        _status_facts(wrong),
        step=step.name,
        pod=case.pod,
        node=case.node,
        lacking=wrong[0],
    )


def _status_facts(wrong: Iterable[str]) -> list[Fact]:
    return [Fact(name="status", value=one, source="status.containerStatuses") for one in wrong]


def kernel_facts(seen: Snapshot) -> list[Fact]:
    """Return what the kernel held, for a finding that rests on it."""
    return [
        _of(name, one)
        for name, answer in seen.answers.items()
        for one in kernel.compare(answer.kernel, seen.look.containers[name].spec)
    ]


def _of(container: str, fact: Fact) -> Fact:
    return fact.model_copy(update={"name": f"{container}: {fact.name}"})


def _specs(look: Look) -> dict[str, Resources]:
    return {name: one.spec for name, one in look.containers.items()}


def seen_after(step: Step) -> Snapshot:
    """Return the pod after a step that did not end with another pod."""
    assert step.after is not None, "a step without a later look was replaced"  # noqa: S101
    return step.after


# -- in words --------------------------------------------------------------------------------


def deed(step: Step) -> str:
    """Return what a step asked for, how it ended, and how soon."""
    if step.patch.status != 200:
        return f"{step.name}: refused with HTTP {step.patch.status}"
    if not step.settled:
        reasons = {one.reason for one in step.looks[-1].conditions}
        return f"{step.name}: {' and '.join(sorted(reasons)) or 'not applied'}"
    seconds = (step.looks[-1].at - step.patch.at).total_seconds()
    asked = ", ".join(written(change) for change in step.patch.wanted.values())
    return f"{step.name} ({asked}) settled in {seconds:.1f} s"
