"""The throughput trial: one crew of pods a network, which works off an agenda by itself."""

from __future__ import annotations

import json
import secrets
from typing import Any

from kar_checks.checks.throughput import figures, iperf, measures
from kar_checks.checks.throughput.agenda import Agenda, all_rounds
from kar_checks.checks.throughput.crew import Crew
from kar_checks.checks.throughput.observation import (
    Direction,
    End,
    LatencyRun,
    Mesh,
    NetworkSeen,
    ThroughputObservation,
    Whole,
)
from kar_checks.checks.trial import Trial
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import node_info
from kar_checks.model import Evidence, Fault, Figure, Measure, Reason
from kar_checks.redact import redact
from kar_checks.store import now

POD_NETWORK = "pod network"
_RESERVE = 2.0
"""Times the estimate, after which the conductor is given up."""

Line = dict[str, Any]


def run(trial: Trial) -> ThroughputObservation:
    """Measure what the selected checks need, on each network after the other."""
    started = now()
    seed = int(trial.number("throughput.seed")) or secrets.randbelow(1 << 31)
    networks: dict[str, NetworkSeen | Fault] = {}
    drawn: list[Figure] = []
    measured: list[Measure] = []
    for name, group, interface in ((POD_NETWORK, "pods", ""),):
        try:
            seen = _network(trial, seed, group, interface)
        except HarnessError as error:
            networks[name] = error.fault
            continue
        trial.keep(group, seen)
        networks[name] = seen
        drawn += figures.of(name, seen, seed)
        measured += measures.of(name, seen)
    return ThroughputObservation(
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        figures=drawn,
        measures=measured,
        seed=seed,
        networks=networks,
    )


def _network(trial: Trial, seed: int, group: str, interface: str) -> NetworkSeen:
    agenda = Agenda(trial.profile, seed, trial.selected)
    nodes = {
        str(one["metadata"]["name"]): one
        for one in trial.facts.usable_nodes(trial.workspace.target)
    }
    pair = agenda.choose_pair({name: node_info(one).zone for name, one in nodes.items()})
    members = agenda.mesh_nodes(list(nodes), pair)
    mesh = agenda.mesh(members, interface) if "throughput.mesh" in trial.selected else None
    crew = Crew(trial, group, [nodes[one] for one in pair], [nodes[one] for one in members])
    estimate = agenda.estimate(len(nodes))
    trial.report(f"{group}: {len(members)} nodes, about {estimate.seconds:.0f} s")
    steps = agenda.steps(pair, interface)
    plan = {"expect": [*members, "beside"], "steps": steps, "mesh": mesh}
    start = trial.number("pods.start_seconds")
    lines = crew.work(plan, start + _RESERVE * estimate.seconds + 30)
    hello = {str(one["name"]): one for one in lines if one.get("event") == "agent"}
    _usable(lines, hello, pair)
    answers = {str(one["id"]): one for one in lines if one.get("event") == "step"}
    ends = [_end(hello[name], nodes, interface) for name in (*pair, "beside") if name in hello]
    return NetworkSeen(
        asked=pair,
        ends=ends,
        injected=crew.injected,
        cap=agenda.cap,
        tcp=[
            iperf.tcp_run(
                answers.get(f"tcp/{index}", _LOST),
                one.cell,
                one.repeat,
                judged=one.judged,
                evidence=_keep(trial, group, f"tcp-{index}", answers.get(f"tcp/{index}", _LOST)),
            )
            for index, one in enumerate(agenda.tcp)
        ],
        udp=[
            iperf.udp_run(
                answers.get(str(step["id"]), _LOST),
                _direction(step),
                int(str(step["id"]).split("/")[2]),
                evidence=_keep(trial, group, str(step["id"]), answers.get(str(step["id"]), _LOST)),
            )
            for step in steps
            if str(step["id"]).startswith("udp/")
        ],
        latency=[
            _latency(step, answers) for step in steps if str(step["id"]).startswith("latency/")
        ],
        whole=[_whole(step, answers) for step in steps if str(step["id"]).startswith("whole/")],
        mesh=mesh_seen(mesh, lines, len(nodes)) if mesh else None,
    )


_LOST: Line = {"error": "the conductor did not come to this step"}


def _usable(lines: list[Line], hello: dict[str, Line], pair: list[str]) -> None:
    """See that the pair can measure at all.

    Raises:
        HarnessError: an agent did not find the conductor, or its image lacks iperf3.
    """
    lacking = [name for name, one in hello.items() if not one.get("iperf3")]
    if lacking:
        raise HarnessError(
            Reason.IMAGE_LACKS_TOOL,
            f"the image of the agents has no iperf3 ({', '.join(lacking[:4])})",
            "leave the image as it is, or give one with python3 and iperf3 by --image net=",
        )
    said = [one for one in lines if one.get("event") == "agent"]
    missing = [name for name in pair if name not in hello]
    if missing and len(said) < len(pair) + 1:
        raise HarnessError(
            Reason.TIMEOUT,
            f"the agent on {', '.join(missing)} did not reach the conductor on {pair[0]}, though "
            "it runs",
            "look for a NetworkPolicy, or for a fault of the network between these nodes",
        )


def _end(hello: Line, nodes: dict[str, Object], interface: str) -> End:
    node = str(hello["node"])
    info = node_info(nodes[node]) if node in nodes else None
    mine = [
        one
        for one in hello["interfaces"]
        if one["name"] == interface or (not interface and hello["address"] in one["addresses"])
    ]
    return End(
        name=str(hello["name"]),
        pod=str(hello["pod"]),
        node=node,
        zone=info.zone if info else "",
        instance_type=info.instance_type if info else "",
        interface=str(mine[0]["name"]) if mine else "",
        mtu=int(mine[0]["mtu"]) if mine else None,
        iperf3=str(hello["iperf3"]),
        cores=int(hello["cores"]),
    )


def _keep(trial: Trial, group: str, name: str, answer: Line) -> str:
    text = json.dumps(answer, indent=1)
    return trial.evidence(f"{group}/{name.replace('/', '-')}.json", redact(text) + "\n")


def _direction(step: Line) -> Direction:
    return "reverse" if "/reverse" in str(step["id"]) else "forward"


def _latency(step: Line, answers: dict[str, Line]) -> LatencyRun:
    answer = answers.get(str(step["id"]), _LOST)
    return LatencyRun(
        repeat=int(str(step["id"]).split("/")[1]),
        samples_us=answer.get("samples_us") or [],
        error=str(answer.get("error", "")),
    )


def _whole(step: Line, answers: dict[str, Line]) -> Whole:
    answer = answers.get(str(step["id"]), _LOST)
    sizes: list[Line] = answer.get("sizes") or [{}, {}]
    small, whole = sizes
    return Whole(
        direction=_direction(step),
        mtu=int(whole.get("bytes", 0)),
        small_arrived=bool(small.get("answered")),
        whole_arrived=bool(whole.get("answered")),
        error=str(answer.get("error") or whole.get("error") or ""),
    )


def mesh_seen(plan: Line, lines: list[Line], of: int) -> Mesh:
    """Return the record of a mesh from its plan and from what the conductor printed."""
    names: list[str] = plan["nodes"]
    count = len(names)
    megabits: list[list[int | None]] = [[None] * count for _ in names]
    errors: list[str] = []
    rounds = [one for one in lines if one.get("event") == "round"]
    for one in rounds:
        for client, server, speed in one["pairs"]:
            megabits[client][server] = round(speed / 1e6)
        errors += [f"{names[a]} to {names[b]}: {why}" for a, b, _, why in one["errors"]]
    return Mesh(
        nodes=names,
        of=of,
        rounds=len(plan["rounds"]),
        all_rounds=all_rounds(count),
        planned_pairs=len(plan["rounds"]) * (count // 2),
        megabits=megabits,
        errors=errors,
        round_seconds=[float(one["seconds"]) for one in rounds],
    )
