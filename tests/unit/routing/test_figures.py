"""The figures of inference routing, drawn from counts."""

from __future__ import annotations

from kar_checks.checks.routing.figures import draw
from kar_checks.checks.routing.observation import Adapters, ClassObservation, Load, Phase
from kar_checks.kit.http_testbed.records import GatewaySeen, Sample, Tally
from kar_checks.model import Figure

A, B = "routing-a", "routing-b"


def phase(loaded: str, a: int, b: int, decisions: int | None) -> Phase:
    tallies = [Tally(status=200, pod=A, count=a), Tally(status=200, pod=B, count=b)]
    return Phase(
        name=f"load on {loaded}" if loaded else "balanced",
        loaded=loaded,
        sample=Sample(sent=a + b, seconds=0.5, tallies=tallies, counted={A: a, B: b}),
        decisions=decisions,
        read={A: 7, B: 0},
        read_after={A: 0.04, B: None},
    )


def figures(decisions: int | None) -> list[Figure]:
    phases = [phase("", 5, 5, decisions), phase(B, 10, 0, decisions)]
    load = Load(seed="s", first=B, second=A, read_before=0, phases=phases, held=[])
    gateway = GatewaySeen(
        name="g", address="192.0.2.1", conditions=[], attached_routes=1, seconds=1
    )
    seen = ClassObservation(controller="c", accepted=True, gateway=gateway, load=load)
    other = ClassObservation(controller="c", accepted=False)
    return draw({"envoy": seen, "other": other}, "registry.test/x/epp:v1", 0.99)


def test_shares_have_their_interval_in_every_phase() -> None:
    shares, _ = figures(10)
    assert [(one.group, one.name, one.value) for one in shares.shares] == [
        ("balanced", A, 0.5),
        ("balanced", B, 0.5),
        (f"load on {B}", A, 1.0),
        (f"load on {B}", B, 0.0),
    ]
    assert all(one.low <= one.value <= one.high for one in shares.shares)


def test_requests_for_an_adapter_have_a_figure_of_their_own() -> None:
    part = Adapters(declared=True, phases=[phase(B, 0, 10, 10)])
    seen = ClassObservation(controller="c", accepted=True, adapters=part)
    (found,) = draw({"envoy": seen}, "registry.test/x/epp:v1", 0.99)
    assert found.checks == ["routing.adapter_affinity"]
    assert [one.value for one in found.shares] == [0.0, 1.0]


def test_the_way_goes_by_the_picker_and_tells_the_counts_of_the_loaded_phase() -> None:
    _, way = figures(10)
    names = [one.name for one in way.stops]
    assert names == ["client", "gateway", "picker", A, B]
    assert [one.detail for one in way.stops[1:]] == ["192.0.2.1", "epp:v1", "", "reports load"]
    told = [(names[one.source], names[one.target], one.label) for one in way.hops]
    assert told == [
        (A, "picker", "report, read 7 times"),
        ("client", "gateway", "10 requests"),
        ("gateway", "picker", "which server?"),
        ("picker", "gateway", "10 picks"),
        ("gateway", A, "10 requests"),
        ("gateway", B, "0 requests"),
        ("gateway", "client", "10 answers"),
    ]


def test_a_gateway_that_picks_by_itself_reads_the_reports() -> None:
    _, way = figures(None)
    names = [one.name for one in way.stops]
    assert names == ["client", "gateway", A, B]
    assert (names[way.hops[0].source], names[way.hops[0].target]) == (A, "gateway")
