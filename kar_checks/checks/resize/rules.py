"""What one observed step of a resize comes to, rule by rule. Pure.

Each rule returns a :class:`Ruling`, or ``None`` if it has nothing to say. The order in which
:func:`step_ruling` asks them matters: what makes a measurement worthless comes before what it says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
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
from kar_checks.checks.resize.state import status_differences
from kar_checks.cluster import pods
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Mutation, Outcome
from kar_checks.profile import Profile

STOPPED = 143
"""Exit code of the probe when it was asked to stop (SIGTERM)."""

# The kubelet's own words for what KEP-1287 excludes: static pods, containers with swap, exclusive
# CPUs or memory of a static manager, a runtime without support.
_BY_DESIGN = re.compile(r"(?i)static|swap|not supported|unsupported|windows|disabled")
_BELOW_USAGE = re.compile(r"(?i)below current usage")
_RELEVANT = re.compile(r"\.(resources|resizePolicy|restartPolicy|command|image)\b")


def fail(reason: str, summary: str, facts: Iterable[Fact] = ()) -> Ruling:
    """Return a ruling against the cluster."""
    return Ruling(Outcome.FAIL, reason, summary, facts=list(facts))


def undecided(reason: str, summary: str, facts: Iterable[Fact] = (), advice: str = "") -> Ruling:
    """Return a ruling that the observation decides nothing."""
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, help=advice, facts=list(facts))


def not_applicable(reason: str, summary: str, facts: Iterable[Fact] = ()) -> Ruling:
    """Return a ruling that the platform excludes this by design, with the cause that was seen."""
    return Ruling(Outcome.NOT_APPLICABLE, reason, summary, facts=list(facts))


# -- before the first change -----------------------------------------------------------------


def start_ruling(
    case: Case, mutations: Iterable[Mutation], *, all_containers: bool
) -> Ruling | None:
    """Rule whether the pod at rest is what we asked for, and whether we can see inside it.

    ``all_containers``: an injected container matters, too (it takes part in the QoS class).
    """
    return (
        _mutated(case, mutations, all_containers=all_containers)
        or _unsupported(case)
        or inside_ruling(case.start, _specs(case.start.look), control=True)
        or _deaf(case)
    )


def _mutated(case: Case, mutations: Iterable[Mutation], *, all_containers: bool) -> Ruling | None:
    changed = [
        one
        for one in pods.relevant(mutations)
        if one.object == f"Pod/{case.pod}"
        and (_RELEVANT.search(one.field) or (all_containers and one.stored == "added"))
    ]
    if not changed:
        return None
    first = changed[0]
    return undecided(
        "mutated",
        f"the cluster changed {first.field} of pod {case.pod} on its way in: sent "
        f"{first.sent}, stored {first.stored}",
        [_mutation_fact(one) for one in changed],
        pods.opt_out(changed),
    )


def _mutation_fact(one: Mutation) -> Fact:
    return Fact(name=one.field, value=str(one.stored), expected=str(one.sent), source=one.object)


def _unsupported(case: Case) -> Ruling | None:
    """Rule on a kubelet that reports no actual resources: its node does not support resize.

    Since 1.35 the feature is locked on, so that such a kubelet breaks what it promises.
    """
    without = [name for name, one in case.start.look.containers.items() if one.status is None]
    if not without:
        return None
    facts = [
        Fact(name="status.resources", value="missing", expected="filled", source=name)
        for name in without
    ]
    facts.append(Fact(name="kubelet", value=case.kubelet or "unknown", source=case.node))
    told = f"the kubelet {case.kubelet or 'of unknown version'} reports no actual resources"
    version = minor(case.kubelet)
    if version is None:
        return undecided("status_missing", f"{told}; its version may not be read", facts)
    if version < (1, 35):
        return not_applicable("node_without_resize", f"{told}: no in-place resize here", facts)
    return fail("status_differs", f"{told}, though the feature is locked on since 1.35", facts)


def minor(version: str) -> tuple[int, int] | None:
    """Return (major, minor) of a version, ``None`` if it is none."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _deaf(case: Case) -> Ruling | None:
    bad = [name for name, one in case.start.answers.items() if not _proved(case.kept[name], one)]
    if not bad:
        return None
    return undecided("control_differs", f"{', '.join(bad)}: the probe forgot what it was told")


# -- after a change --------------------------------------------------------------------------


def step_ruling(case: Case, before: Snapshot, step: Step, profile: Profile) -> Ruling | None:
    """Rule on a change that had to go through; ``None`` if everything went as it should."""
    ruling = _refused(step) or _request_changed(before, step) or replaced_ruling(case, step)
    if ruling:
        return ruling
    after = _after(step)
    return (
        _restart(case, before, after, step)
        or _pending(step, after)
        or unsettled_ruling(step, after, profile)
        or changed_by_others(step, after, step.patch.generation)
        or inside_ruling(after, _specs(after.look))
        or status_ruling(after, _specs(after.look))
    )


def unchanged_ruling(
    case: Case, before: Snapshot, step: Step, after: Snapshot | None = None
) -> Ruling | None:
    """Rule that a pod goes on with its old values, although something was asked of it."""
    if ruling := replaced_ruling(case, step):
        return ruling
    seen = after or _after(step)
    return restart_ruling(case, before, seen, step) or inside_ruling(seen, _specs(before.look))


def replaced_ruling(case: Case, step: Step) -> Ruling | None:
    """Rule on a pod that is not ours any more; who did it cannot be seen from here."""
    told = step.replaced
    if not told and step.after and step.after.look.uid != case.start.look.uid:
        told = f"pod UID is {step.after.look.uid}, ours had {case.start.look.uid}"
    if not told and step.after and step.after.look.deleted:
        told = "the pod is being deleted"
    if not told:
        return None
    uid = Fact(name="pod UID", value=told, expected=case.start.look.uid, source="metadata.uid")
    return undecided(
        "pod_replaced",
        f"{step.name}: {told}",
        [uid],
        "look for controllers, autoscalers or descheduling that touch foreign pods",
    )


def _refused(step: Step) -> Ruling | None:
    patch = step.patch
    if patch.status == 200:
        return None
    facts = [Fact(name="answer", value=f"{patch.status}: {patch.message}", expected="200")]
    if patch.reason != "api_error":
        return Ruling(
            Outcome.ERROR,
            patch.reason,
            f"{step.name}: the API refused: {patch.message}",
            help="grant patch on pods/resize, or exempt a namespace and name it by --namespace",
            facts=facts,
        )
    return fail(
        "refused", f"{step.name}: the API refused an ordinary resize: {patch.message}", facts
    )


def _request_changed(before: Snapshot, step: Step) -> Ruling | None:
    for name, change in step.patch.wanted.items():
        wanted = kernel.merged(before.look.containers[name].spec, change)
        stored = step.patch.stored.get(name, {})
        if not kernel.same(stored, wanted):
            return undecided(
                "mutated",
                f"{step.name}: the cluster changed the request for {name} on its way in",
                [Fact(name=f"{name}: spec", value=str(stored), expected=str(wanted))],
                "exempt a namespace from the webhook, and name it by --namespace",
            )
    return None


def changed_by_others(step: Step, after: Snapshot, generation: int | None) -> Ruling | None:
    """Rule on a spec that is not the one of our last accepted request."""
    if after.look.generation == generation:
        return None
    fact = Fact(
        name="metadata.generation",
        value=str(after.look.generation),
        expected=str(generation),
    )
    return undecided("mutated", f"{step.name}: somebody else changed the pod's spec", [fact])


def _restart(case: Case, before: Snapshot, after: Snapshot, step: Step) -> Ruling | None:
    if step.expect == "restart":
        return _wanted_restart(case, before, after, step)
    return restart_ruling(case, before, after, step)


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
            return undecided(
                "restart_unexplained",
                f"{step.name}: {name} is not the same process, and lastState does not tell "
                "how the old one ended",
                facts,
            )
        how = f"exit code {ended.exit_code} ({ended.reason or 'no reason'})"
        facts.append(Fact(name=f"{name}: lastState", value=how, expected="no end"))
        if _ended_before(before.answers.get(name), ended.finished_at, step.patch.at):
            return undecided(
                "restarted_before", f"{step.name}: {name} had ended before: {how}", facts
            )
        return fail(
            "restarted",
            f"{step.name}: {name} restarted ({how}) although its policy is NotRequired",
            facts,
        )
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
        if times == 0:
            if not step.settled:
                return None
            return fail(
                "not_restarted",
                f"{step.name}: {name} did not restart although its policy asks for it",
                facts,
            )
        if times > 1:
            return fail(
                "restarted_too_often", f"{step.name}: {name} restarted {times} times", facts
            )
        ended = new.last_end
        if ended is None or ended.container_id != old.container_id or ended.exit_code != STOPPED:
            how = "tells nothing" if ended is None else f"tells exit code {ended.exit_code}"
            return undecided(
                "restart_unexplained",
                f"{step.name}: {name} restarted, but lastState {how}: not the stop ({STOPPED}) "
                "that a resize makes",
                facts,
            )
        answer = after.answers.get(name)
        if answer and (_proved(case.kept[name], answer) or len(facts) == 1):
            return undecided(
                "control_differs",
                f"{step.name}: {name} restarted, but our detector did not notice",
                facts,
            )
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


def _pending(step: Step, after: Snapshot) -> Ruling | None:
    for one in after.look.conditions:
        facts = [_condition_fact(one)]
        if one.type == PENDING and one.reason == "Infeasible":
            if _BY_DESIGN.search(one.message):
                return not_applicable("infeasible_by_design", f"{step.name}: {one.message}", facts)
            return fail(
                "refused_as_infeasible",
                f"{step.name}: the kubelet refused a small resize: {one.message}",
                facts,
            )
        if one.type == PENDING and one.reason == "Deferred":
            return undecided(
                "no_room",
                f"{step.name}: the node has no room for it: {one.message}",
                facts,
                "make room, or choose other nodes by --node-selector",
            )
        if one.type == IN_PROGRESS and _BELOW_USAGE.search(one.message):
            return undecided("usage_above_limit", f"{step.name}: {one.message}", facts)
    return None


def _condition_fact(one: Condition) -> Fact:
    told = f"{one.reason}: {one.message}".strip(": ") or "True"
    return Fact(name=one.type, value=told, expected="absent", source="status.conditions")


def unsettled_ruling(
    step: Step, after: Snapshot, profile: Profile, reason: str = "not_settled"
) -> Ruling | None:
    """Rule on an accepted resize that did not come to rest in time."""
    if step.settled:
        return None
    seconds = profile.number("resize.settle_seconds")
    renewed = step.signs.lease_renewed if step.signs else None
    lived = renewed is not None and renewed > step.patch.at + timedelta(seconds=seconds / 2)
    answered = step.signs is not None and step.signs.exec_answered
    facts = [
        Fact(
            name="observedGeneration",
            value=str(after.look.observed_generation),
            expected=str(step.patch.generation),
            source="status",
        ),
        *(_condition_fact(one) for one in after.look.conditions),
        *(
            Fact(name="status", value=one, source="status.containerStatuses")
            for one in status_differences(after.look, wanted_specs(step, after.look))
        ),
        Fact(name="node lease renewed", value=str(renewed or "unknown")),
        Fact(name="exec after the wait", value="answered" if answered else after.silence),
    ]
    if not (lived or answered):
        return undecided(
            "node_unresponsive",
            f"{step.name}: not settled within {seconds:.0f} s, and the node did not answer either",
            facts,
        )
    seen = (after.look.observed_generation or 0) >= (step.patch.generation or 0)
    if seen and not after.look.conditions and after.look.observed_generation is not None:
        return fail(
            "status_differs",
            f"{step.name}: after {seconds:.0f} s the kubelet claims to be done, but the status "
            "does not tell the new resources",
            facts,
        )
    return fail(reason, f"{step.name}: accepted, but not settled within {seconds:.0f} s", facts)


def wanted_specs(step: Step, look: Look) -> dict[str, Resources]:
    """Return what the spec says of the containers that a step changed."""
    return {name: look.containers[name].spec for name in step.patch.wanted}


def inside_ruling(
    seen: Snapshot, wanted: Mapping[str, Resources], *, control: bool = False
) -> Ruling | None:
    """Rule whether the kernel holds what is wanted; for a control a difference decides nothing."""
    if seen.silence:
        return undecided("no_answer", f"a container did not answer: {seen.silence}")
    wrong: list[Fact] = []
    for name, want in wanted.items():
        try:
            found = kernel.compare(seen.answers[name].kernel, want)
        except NotObservableError as error:
            return undecided(
                "not_observable",
                f"{name}: {error}; sandboxes such as gVisor and Kata do not show the kernel's "
                "values",
            )
        wrong += [
            one.model_copy(update={"name": f"{name}: {one.name}"})
            for one in found
            if kernel.differs(one)
        ]
    if not wrong:
        return None
    told = "; ".join(f"{one.name} is {one.value}, not {one.expected}" for one in wrong)
    if control:
        return undecided(
            "control_differs", f"already before the first change the kernel differs: {told}", wrong
        )
    return fail("kernel_value_differs", f"the kernel does not hold the resources: {told}", wrong)


def status_ruling(after: Snapshot, wanted: Mapping[str, Resources]) -> Ruling | None:
    """Rule whether the status shows the resources that are wanted."""
    wrong = status_differences(after.look, wanted)
    if not wrong:
        return None
    facts = [Fact(name="status", value=one, source="status.containerStatuses") for one in wrong]
    return fail("status_differs", f"the status does not tell the resources: {wrong[0]}", facts)


def kernel_facts(seen: Snapshot) -> list[Fact]:
    """Return what the kernel held, for a finding that rests on it."""
    return [
        one.model_copy(update={"name": f"{name}: {one.name}"})
        for name, answer in seen.answers.items()
        for one in kernel.compare(answer.kernel, seen.look.containers[name].spec)
    ]


def _specs(look: Look) -> dict[str, Resources]:
    return {name: one.spec for name, one in look.containers.items()}


def _after(step: Step) -> Snapshot:
    assert step.after is not None, "a step without a later look was replaced"  # noqa: S101
    return step.after


# -- in words --------------------------------------------------------------------------------


def told(case: Case) -> str:
    """Return one sentence with what was asked for, how it ended, and how soon."""
    restarts = sum(one.expect == "restart" for one in case.steps)
    end = f"{restarts} restart, as the policy wants" if restarts else "no restart, the same process"
    return f"{'; '.join(_deed(one) for one in case.steps)}; {end} (node {case.node})"


def _deed(step: Step) -> str:
    if step.patch.status != 200:
        return f"{step.name}: refused with HTTP {step.patch.status}"
    if not step.settled:
        reasons = {one.reason for one in step.looks[-1].conditions}
        return f"{step.name}: {' and '.join(sorted(reasons)) or 'not applied'}"
    seconds = (step.looks[-1].at - step.patch.at).total_seconds()
    asked = ", ".join(
        f"{part[:-1]} {resource} {value}"
        for parts in step.patch.wanted.values()
        for part, values in parts.items()
        for resource, value in values.items()
    )
    return f"{step.name} ({asked}) settled in {seconds:.1f} s"
