"""What all verdicts on traffic ask first."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from kar_checks.checks.ingress.records import (
    GatewaySeen,
    Sample,
    Settled,
    Surroundings,
    Tally,
    told,
)
from kar_checks.cluster.pods import opt_out, relevant
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Mutation, Outcome, Reason
from kar_checks.profile import names

ROUTES_ELSEWHERE = (
    "look at the controller's log and at the route's status; where the address is not reachable "
    "from pods, send from outside with --set gateway.client=outside"
)
INSTALL_POOLS = (
    "install the Gateway API Inference Extension and a gateway that knows InferencePools"
)


def passed(reason: str, summary: str, change: str, facts: list[Fact]) -> Ruling:
    """Return a pass with what would have changed it."""
    return Ruling(Outcome.PASS, reason, summary, would_change=change, facts=facts)


def failed(reason: str, summary: str, change: str = "", facts: list[Fact] | None = None) -> Ruling:
    """Return a fail with what would have changed it."""
    return Ruling(Outcome.FAIL, reason, summary, would_change=change, facts=facts or [])


def undecided(
    reason: str, summary: str, advice: str = "", facts: list[Fact] | None = None
) -> Ruling:
    """Return an inconclusive."""
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice, facts=facts or [])


def error(fault: Fault) -> Ruling:
    """Return the error of a fault."""
    return Ruling(Outcome.ERROR, fault.reason.value, fault.message, fault.help)


NOT_MEASURED = Ruling(Outcome.NOT_RUN, "not_measured", "the trial was not asked to measure this")


_ELSEWHERE = re.compile(
    r"spec\.(affinity|nodeSelector|topologySpreadConstraints|priority\w*|schedulerName"
    r"|terminationGracePeriodSeconds|securityContext)\b"
    r"|.*\.(imagePullPolicy$|securityContext\b|resources\b)"
)
"""Where a pod runs, as whom and with how much changes nothing of what it answers."""


def _elsewhere(one: Mutation) -> bool:
    return one.object.startswith("Pod/") and bool(_ELSEWHERE.match(one.field))


def mutated(found: list[Mutation]) -> Ruling | None:
    """Admission changed objects of ours: then it was something else that was measured.

    The same image from another registry is the same program, and where it runs is all the same.
    """
    changed = [one for one in relevant(found) if not _elsewhere(one)]
    if not changed:
        return None
    text = "; ".join(
        f"{one.object}: {one.field} {one.sent!r} → {one.stored!r}" for one in changed[:3]
    )
    return undecided(
        "mutated", f"the cluster changed objects of ours on their way in: {text}", opt_out(changed)
    )


def missing_classes(wanted: str, found: Collection[str], advice: str) -> dict[str, Ruling]:
    """Return a verdict for each class that the user named and that is not there.

    Where nobody named one and there is none, it stands under the empty name.
    """
    named = names(wanted)
    if not named and not found:
        return {"": undecided("no_gateway_class", "there is no GatewayClass", advice)}
    return {
        name: undecided("no_gateway_class", f"there is no GatewayClass {name}", advice)
        for name in named
        if name not in found
    }


def missing_pools(served: bool, wanted: str, found: Collection[str]) -> dict[str, Ruling]:
    """Return the same for what is asked of InferencePools, which may not be served at all."""
    if not served:
        said = "Gateways and InferencePools (inference.networking.k8s.io/v1) are not both served"
        return {"": undecided("no_inference_pool_api", said, INSTALL_POOLS)}
    return missing_classes(wanted, found, INSTALL_POOLS)


def without_gateway(seen: GatewaySeen | None) -> Ruling | None:
    """No traffic can be judged where no Gateway is programmed."""
    if seen is None or not seen.programmed:
        return undecided(
            "no_gateway", "no Gateway of this class was programmed, see gateway.programmed"
        )
    return None


_REDIRECTIONS = (301, 302, 303, 307, 308)


def redirected(tallies: Iterable[Tally]) -> Ruling | None:
    """Return what it means that the entry point sends clients to https instead of answering."""
    found = [one for one in tallies if one.status in _REDIRECTIONS and not one.pod]
    if not any(one.error.startswith("to https:") or not one.error for one in found):
        return None
    return undecided(
        "redirected",
        f"the entry point redirects to https before any route is looked at: {told(found)}",
        "let plain HTTP through to the Gateway's listener, or assess a class whose entry point "
        "does not redirect",
    )


def hindered(ruling: Ruling, around: Surroundings | None) -> Ruling:
    """Return the ruling, unless a policy of the network explains that there were no answers."""
    if around is None or ruling.outcome is Outcome.PASS:
        return ruling
    # What was there before did not keep the first answers of a steady client away.
    policies = around.later if ruling.reason in _EPISODES else around.policies
    direct = around.unreached if ruling.reason in _UNREACHED else []
    explained = bool(direct) or (bool(policies) and ruling.reason in (*_UNANSWERED, *_EPISODES))
    if not explained:
        return ruling
    keeps = (
        f"{', '.join(policies)} in the namespace of the backends restricts who may reach them"
        if policies
        else "something between pods, such as a policy of the network, keeps traffic away"
    )
    asked = (
        f" ({', '.join(direct)} did not answer when asked directly, without a gateway)"
        if direct
        else ""
    )
    return undecided(
        "network_policy",
        f"{keeps}{asked}, and so this is not decided: {ruling.summary}",
        "let the policy leave out namespaces with the label "
        "app.kubernetes.io/managed-by=kar-checks, or give one that admits the gateway with "
        "--namespace",
        ruling.facts,
    )


_UNANSWERED = ("not_routed", "gateway_not_reached", "not_all_answered")
_EPISODES = ("outages", "one_outage")
_UNREACHED = (*_UNANSWERED, *_EPISODES, Reason.POD_FAILED.value)


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
        name="wait for steady answers" if settled.settled else "wait in vain for steady answers",
        value=value,
        source="each over a new connection; only after a change of ours is there a wait",
    )


def old(sample: Sample) -> Ruling | None:
    """A run that did not count on POST has not shown that inference requests are served so."""
    return None if sample.method == "POST" else not_recorded("requests with POST")


def unsettled(settled: Settled) -> Ruling | None:
    """Return what it means that answers of our backends never became steady."""
    if settled.settled:
        return None
    if ruling := redirected(settled.last):
        return ruling
    seen = told(settled.last)
    waited = f"within {settled.seconds:.0f} s and {settled.asked} requests"
    if any(one.status == 200 and not one.pod for one in settled.last):
        return failed(
            "answered_by_another",
            f"success is answered, but not by a backend of the route: {seen}",
            "answers that bear the name of a backend of ours",
        )
    if any(one.status == 200 and one.revision for one in settled.last):
        return failed(
            "change_not_followed",
            f"the data plane did not follow the changed route {waited}; the last answers: {seen}",
            "answers that came by the changed rule",
        )
    if any(one.status for one in settled.last):
        return failed(
            "not_routed",
            f"the route's backends did not answer steadily {waited}; the last answers: {seen}",
            "successive answers of the route's backends",
        )
    return undecided(
        "gateway_not_reached",
        f"nobody answers the client at the Gateway's address {waited}: {seen}",
        ROUTES_ELSEWHERE,
    )


def disagreeing(sample: Sample) -> Ruling | None:
    """The names in the answers must be those that the servers counted themselves."""
    if sample.agrees:
        return None
    named = {pod: sum(t.count for t in sample.tallies if t.pod == pod) for pod in sample.counted}
    return undecided(
        "identity_disagrees",
        f"the answers name {_counts(named)}, and the backends themselves counted "
        f"{_counts(sample.counted)}: somebody answers for another, repeats or copies requests",
        "look for retries, mirrors or caches between the gateway and the backends",
    )


def unanswered(sample: Sample) -> Ruling | None:
    """All requests must have been answered by a backend, or shares say nothing."""
    good = sample.good()
    if good == sample.sent:
        return None
    if ruling := redirected(sample.tallies):
        return ruling
    return undecided(
        "not_all_answered",
        f"{good} of {sample.sent} requests were answered by a backend of ours: "
        f"{told(sample.tallies)}",
        "look at the gateway's and the backends' logs",
    )


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.items())
