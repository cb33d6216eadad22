"""What all verdicts on traffic through a Gateway ask first. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kar_checks.cluster.pods import opt_out, relevant
from kar_checks.kit.http_testbed.records import (
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Surroundings,
    Tally,
    told,
)
from kar_checks.kit.judging import Case, Judge, Question, Rule, S, V, error, not_recorded
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact, Fault, Mutation, Outcome, Reason
from kar_checks.profile import Profile, names

verdict = Reasons(__package__)


def traffic_judge(
    rules: Mapping[str, Rule[S, V]],
    *,
    accepted: Callable[[V], bool],
    stopped: Question[S, V],
    missing: Callable[[S], Mapping[str, Ruling]],
    waits: Callable[[Case[S, V]], list[Fact]],
    context: Callable[[Case[S, V]], list[Fact]] = lambda _: [],
) -> Judge[S, V]:
    """Return the judge of a topic whose variants are GatewayClasses.

    Args:
        rules: By check; one without parts reads only what controllers report, and no traffic.
        accepted: Whether a controller accepts the class.
        stopped: Why nothing of the class could be measured.
        missing: Verdicts on classes that do not exist.
        waits: How long it took until answers were steady.
        context: Facts beside the controller.
    """

    def changed(case: Case[Any, Any]) -> Ruling | None:
        return mutated(case.run.mutations) if rules[case.check].parts else None

    def unusable(case: Case[Any, Any]) -> Ruling | None:
        parts = rules[case.check].parts
        if not parts:
            return None
        if not accepted(case.seen):
            return verdict("class_not_accepted", name=case.variant)
        if why := stopped(case):
            return changed(case) or hindered(why, case.run.around)
        found = getattr(case.seen, parts[0])
        return hindered(error(found), case.run.around) if isinstance(found, Fault) else None

    def classes(run: Any, _profile: Profile) -> dict[str, V | Fault]:
        return {name: one for name, one in run.classes.items() if not isinstance(one, Fault)}

    def others(run: Any) -> dict[str, Ruling]:
        faults = {name: one for name, one in run.classes.items() if isinstance(one, Fault)}
        return {
            **{name: hindered(error(one), run.around) for name, one in faults.items()},
            **missing(run),
        }

    def facts(case: Case[Any, Any]) -> list[Fact]:
        name = case.seen.controller
        return [Fact(name="controller", value=name, source="spec.controllerName"), *context(case)]

    return Judge(
        rules=rules,
        variants=classes,
        missing=others,
        unusable=unusable,
        mutated=changed,
        revise=lambda case, ruling: hindered(ruling, getattr(case.run, "around", None)),
        context=facts,
        remarks=waits,
    )


def part(name: str, ask: Callable[[Any, Case[S, V]], Ruling]) -> Rule[S, V]:
    """Return a rule on one part of what was observed, after its answers were steady, if ever."""

    def rule(case: Case[S, V]) -> Ruling:
        found = getattr(case.seen, name)
        settled = getattr(found, "settled", None)
        return (unsettled(settled) if settled else None) or ask(found, case)

    return Rule((name,), rule)


_ELSEWHERE = re.compile(
    r"spec\.(affinity|nodeSelector|topologySpreadConstraints|priority\w*|schedulerName"
    r"|terminationGracePeriodSeconds|securityContext)\b"
    r"|.*\.(imagePullPolicy$|securityContext\b|resources\b)"
)
"""Where a pod runs, as whom and with how much changes nothing of what it answers."""


def _elsewhere(one: Mutation) -> bool:
    return one.object.startswith("Pod/") and bool(_ELSEWHERE.match(one.field))


def mutated(found: list[Mutation]) -> Ruling | None:
    """Admission changed objects of ours, so something else was measured.

    The same image from another registry is the same program, and where it runs does not matter.
    """
    changed = [one for one in relevant(found) if not _elsewhere(one)]
    if not changed:
        return None
    changes = "; ".join(
        f"{one.object}: {one.field} {one.sent!r} → {one.stored!r}" for one in changed[:3]
    )
    return verdict("mutated", changes=changes, opt_out=opt_out(changed))


def missing_classes(wanted: str, found: Collection[str], what: str) -> dict[str, Ruling]:
    """Return a verdict for each class that the user named and that does not exist.

    Where nobody named one and none exists, it has the empty name; then ``what`` is to be installed.
    """
    named = names(wanted)
    if not named and not found:
        return {"": verdict("no_gateway_class", what=what)}
    return {
        name: verdict("no_gateway_class.named", name=name) for name in named if name not in found
    }


def missing_pools(served: bool, wanted: str, found: Collection[str]) -> dict[str, Ruling]:
    """Return the same for checks on InferencePools, which may not be served at all."""
    if not served:
        return {"": verdict("no_inference_pool_api")}
    return missing_classes(wanted, found, "a gateway that supports InferencePools")


def without_gateway(gateway: GatewaySeen | None, name: str) -> Ruling | None:
    """No traffic can be judged where no Gateway is programmed."""
    if gateway is None or not gateway.programmed:
        return verdict("no_gateway", name=name)
    return None


def ours(parents: list[Parent], controller: str) -> Parent | None:
    """Return what the class's own controller reports."""
    return next((one for one in parents if one.controller == controller), None)


def conditions(what: str, parent: Parent) -> list[Fact]:
    """Return what a controller reports as facts."""
    source = f"status.parents of {parent.controller}"
    return [Fact(name=what, value=str(one), source=source) for one in parent.conditions]


_REDIRECTIONS = (301, 302, 303, 307, 308)


def redirected(tallies: Iterable[Tally]) -> Ruling | None:
    """Return the verdict on an entry point that sends clients to https instead of answering."""
    found = [one for one in tallies if one.status in _REDIRECTIONS and not one.pod]
    if not any(one.error.startswith("to https:") or not one.error for one in found):
        return None
    return verdict("redirected", answers=told(found))


_UNANSWERED = ("not_routed", "gateway_not_reached", "not_all_answered")
_EPISODES = ("outages", "one_outage")
_UNREACHED = (*_UNANSWERED, *_EPISODES, Reason.POD_FAILED.value)


def hindered(ruling: Ruling, around: Surroundings | None) -> Ruling:
    """Return the ruling, unless a policy of the network explains that nothing answered."""
    if around is None or ruling.outcome is Outcome.PASS:
        return ruling
    # What existed before did not keep the first answers of a steady client away.
    policies = around.later if ruling.reason in _EPISODES else around.policies
    unreached = ", ".join(around.unreached if ruling.reason in _UNREACHED else [])
    if policies and (unreached or ruling.reason in (*_UNANSWERED, *_EPISODES)):
        return verdict(
            "network_policy.restricted",
            ruling.facts,
            policies=", ".join(policies),
            unreached=f" ({unreached} did not answer the client directly)" if unreached else "",
            summary=ruling.summary,
        )
    if unreached:
        return verdict(
            "network_policy.unreached", ruling.facts, unreached=unreached, summary=ruling.summary
        )
    return ruling


def waited(settled: Settled, change: str) -> Fact:
    """Return how long answers took to become steady after a change, and which of them failed."""
    value = f"{settled.seconds:.1f} s after {change}, {settled.asked} requests"
    if settled.failed is None:
        value += "; which of them failed was not recorded"
    elif settled.failed:
        times = [one.at for one in settled.failures]
        kinds = told(
            Tally(status=one.status, pod=one.pod, error=one.error, count=1)
            for one in settled.failures
        )
        when = f" from {min(times):.1f} to {max(times):.1f} s: {kinds}" if times else ""
        value += f"; {settled.failed} failed{when}"
    else:
        value += "; none failed"
    return Fact(
        name="wait for steady answers" if settled.settled else "wait for steady answers, in vain",
        value=value,
        source="each over a new connection; only a change of ours is followed by a wait",
    )


def old(sample: Sample) -> Ruling | None:
    """A run that did not count on POST has not shown that inference requests are served so."""
    return None if sample.method == "POST" else not_recorded("requests with POST")


def unsettled(settled: Settled) -> Ruling | None:
    """Return the verdict on answers of our backends that never became steady."""
    if settled.settled:
        return None
    if ruling := redirected(settled.last):
        return ruling
    answers = told(settled.last)
    waited = {"seconds": settled.seconds, "asked": settled.asked, "answers": answers}
    if any(one.status == 200 and not one.pod for one in settled.last):
        return verdict("answered_by_another", answers=answers)
    if any(one.status == 200 and one.revision for one in settled.last):
        return verdict("change_not_followed", **waited)
    answered = any(one.status for one in settled.last)
    return verdict("not_routed" if answered else "gateway_not_reached", **waited)


def disagreeing(sample: Sample) -> Ruling | None:
    """The names in the answers must be those that the servers counted themselves."""
    if sample.agrees:
        return None
    named = {pod: sum(t.count for t in sample.tallies if t.pod == pod) for pod in sample.counted}
    return verdict("identity_disagrees", named=_counts(named), counted=_counts(sample.counted))


def unanswered(sample: Sample, facts: Iterable[Fact] = ()) -> Ruling | None:
    """A backend must have answered all requests, or shares show nothing."""
    good = sample.good()
    if good == sample.sent:
        return None
    return redirected(sample.tallies) or verdict(
        "not_all_answered", facts, good=good, sent=sample.sent, answers=told(sample.tallies)
    )


def miscounted(sample: Sample) -> Ruling | None:
    """Return why the counts of a sample show nothing, if so."""
    return unanswered(sample) or disagreeing(sample)


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.items())
