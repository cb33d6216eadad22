from __future__ import annotations

from kar_checks.checks.gateway import measures
from kar_checks.checks.gateway.observation import ClassObservation, Phase, Weights
from kar_checks.kit.http_testbed.records import Condition, GatewaySeen, Settled
from kar_checks.model import Fault, Reason


def settled(seconds: float, *, steady: bool = True) -> Phase:
    return Phase(
        weights={}, settled=Settled(settled=steady, seconds=seconds, asked=1, last=[]), sample=None
    )


def seen(*phases: Phase, address: str = "192.0.2.1") -> ClassObservation:
    ready = Condition(type="Programmed", status="True", current=True)
    gateway = GatewaySeen(
        name="g", address=address, conditions=[ready], attached_routes=1, seconds=7
    )
    return ClassObservation(
        controller="c",
        accepted=None,
        features=[],
        gateway=gateway,
        weights=Weights(phases=list(phases)),
    )


def test_what_came_to_its_end_is_timed_by_class() -> None:
    found = measures.of(
        {
            "envoy": seen(settled(9), settled(2)),
            "slow": seen(settled(1), settled(60, steady=False), address=""),
            "gone": Fault(reason=Reason.FORBIDDEN, message="no"),
        }
    )
    assert [(one.name, one.variant, one.samples) for one in found] == [
        ("a Gateway is programmed", "envoy", [7.0]),
        ("new weights are in effect", "envoy", [2.0]),
    ]
