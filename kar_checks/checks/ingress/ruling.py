"""What all verdicts on traffic ask first."""

from __future__ import annotations

from collections.abc import Collection

from kar_checks.checks.ingress.records import GatewaySeen, Sample, Settled, told
from kar_checks.checks.ruling import Ruling
from kar_checks.cluster.pods import opt_out, relevant
from kar_checks.model import Fact, Fault, Mutation, Outcome
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


def undecided(reason: str, summary: str, advice: str = "") -> Ruling:
    """Return an inconclusive."""
    return Ruling(Outcome.INCONCLUSIVE, reason, summary, advice)


def error(fault: Fault) -> Ruling:
    """Return the error of a fault."""
    return Ruling(Outcome.ERROR, fault.reason.value, fault.message, fault.help)


NOT_MEASURED = Ruling(Outcome.NOT_RUN, "not_measured", "the trial was not asked to measure this")


def mutated(found: list[Mutation]) -> Ruling | None:
    """Admission changed objects of ours: then it was something else that was measured."""
    changed = relevant(found)
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


def unsettled(settled: Settled) -> Ruling | None:
    """Return what it means that answers of our backends never became steady."""
    if settled.settled:
        return None
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
    return undecided(
        "not_all_answered",
        f"{good} of {sample.sent} requests were answered by a backend of ours: "
        f"{told(sample.tallies)}",
        "look at the gateway's and the backends' logs",
    )


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.items())
