"""What iperf3 prints, and what a trial stores of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kar_checks.checks.throughput.observation import (
    Carried,
    Cell,
    End,
    LatencyRun,
    Mesh,
    NetworkSeen,
    TcpRun,
    ThroughputObservation,
    UdpRun,
    Unmeasured,
    Whole,
)
from kar_checks.kit.networks.attach import Interface
from kar_checks.model import Evidence, Fault

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
FORWARD = Cell(streams=4, direction="forward")
REVERSE = Cell(streams=4, direction="reverse")


def end(name: str, **changes: Any) -> End:
    found = End(
        name=name,
        pod=f"pod-{name}",
        node=name,
        zone="z1",
        interface="eth0",
        mtu=1500,
        iperf3="iperf 3.12",
        cores=4,
    )
    return found.model_copy(update=changes)


def tcp(speed: float, cell: Cell = FORWARD, repeat: int = 0, **changes: Any) -> TcpRun:
    found = TcpRun(
        cell=cell,
        repeat=repeat,
        judged=True,
        received=speed * 1e9,
        sent_bytes=int(speed * 1e9 / 8),
        retransmits=3,
        seconds=1.0,
        intervals=[(0.5, speed * 1e9), (1.0, speed * 1e9)],
        sender_cpu=40.0,
        throttled=0,
        iperf3="iperf 3.12",
    )
    return found.model_copy(update=changes)


def runs(*speeds: float, cell: Cell = FORWARD, **changes: Any) -> list[TcpRun]:
    return [tcp(one, cell, number, **changes) for number, one in enumerate(speeds)]


TCP = [*runs(9.5, 10.0, 10.5), *runs(9.8, 10.0, 10.2, cell=REVERSE)]
UDP = [UdpRun(direction="forward", repeat=0, packets=5000, lost=0, jitter_ms=0.1, sent=5e7)]
LATENCY = [
    LatencyRun(repeat=0, planned=12000, samples_us=[50.0 + one / 1000 for one in range(12000)])
]
WHOLE = [
    Whole(direction=way, mtu=1500, small_arrived=True, whole_arrived=True)
    for way in ("forward", "reverse")
]
MESH = Mesh(
    nodes=["a", "b", "c"],
    of=3,
    rounds=3,
    all_rounds=3,
    planned_pairs=3,
    megabits=[[None, 9000, 9100], [None, None, 9200], [None, None, None]],
    round_seconds=[1.1, 1.1, 1.1],
)


def network(**changes: Any) -> NetworkSeen:
    found = NetworkSeen(
        asked=["a", "b"],
        ends=[end("a"), end("b"), end("beside", node="a")],
        tcp=TCP,
        udp_rate=5e7,
        udp=UDP,
        latency=LATENCY,
        whole=WHOLE,
        mesh=MESH,
    )
    return found.model_copy(update=changes)


def secondary(**changes: Any) -> NetworkSeen:
    """A network that a driver gives to pods: interface, addresses and counters agree."""
    ends = [end(name, interface="net1", address=f"198.18.0.{name}") for name in "12"]
    told = {
        one.node: Interface(name="net1", addresses=[one.address], source="the claim")
        for one in ends
    }
    carried = [Carried(step="tcp/0", payload=1000, client=1050, server=1060)]
    found = network(secondary=True, ends=ends, told=told, carried=carried)
    return found.model_copy(update=changes)


def observation(
    seen: NetworkSeen | Unmeasured | Fault, **more: NetworkSeen
) -> ThroughputObservation:
    return ThroughputObservation(
        evidence=Evidence.SYNTHETIC,
        started=MOMENT,
        finished=MOMENT,
        seed=7,
        networks={"pod network": seen, **{one.replace("_", " "): more[one] for one in more}},
        looked_at=["ResourceSlice of resource.k8s.io/v1: 0"],
    )


def printed(**changes: Any) -> dict[str, Any]:
    """Return what a short run of iperf3 3.12 with TCP prints, as far as it is read."""
    sums = {"bytes": 125_000_000, "bits_per_second": 1e9, "seconds": 1.0}
    interval = {"start": 0, "end": 1.0, "bits_per_second": 1e9, "omitted": False}
    whole: dict[str, Any] = {
        "start": {
            "connected": [
                {"local_host": "a", "local_port": 1, "remote_host": "b", "remote_port": 2}
            ],
            "version": "iperf 3.12",
            "system_info": "Linux",
            "timestamp": {"time": "now", "timesecs": 1},
            "tcp_mss_default": 1448,
            "test_start": {
                "protocol": "TCP",
                "num_streams": 1,
                "blksize": 131072,
                "omit": 1,
                "duration": 1,
                "reverse": 0,
            },
        },
        "intervals": [
            {"sum": {**interval, "omitted": True, "bits_per_second": 5e8}},
            {"sum": interval},
        ],
        "end": {
            "sum_sent": {**sums, "retransmits": 2},
            "sum_received": sums,
            "cpu_utilization_percent": {
                "host_total": 30.0,
                "host_user": 1.0,
                "host_system": 29.0,
                "remote_total": 60.0,
                "remote_user": 1.0,
                "remote_system": 59.0,
            },
        },
    }
    return {**whole, **changes}
