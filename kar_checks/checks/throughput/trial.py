"""The throughput trial: one crew of pods a network, which works off an agenda by itself.

The pod network, each secondary one that is found as the topic networking finds them, and, where a
profile asks for it, the nodes' own network as baseline: one after the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kar_checks.checks.throughput import figures, iperf, measures
from kar_checks.checks.throughput.agenda import RESERVE, Agenda, all_rounds, networks_wanted
from kar_checks.checks.throughput.crew import Crew, hostname
from kar_checks.checks.throughput.observation import (
    BASELINE,
    POD_NETWORK,
    Carried,
    Direction,
    End,
    LatencyRun,
    Mesh,
    NetworkSeen,
    ThroughputObservation,
    Unmeasured,
    Whole,
)
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import node_info
from kar_checks.kit.networks import obstacles
from kar_checks.kit.networks.attach import Network
from kar_checks.kit.networks.find import find, read, with_holders
from kar_checks.kit.networks.multus import AttachedNetwork
from kar_checks.kit.networks.offer import Published, offer
from kar_checks.kit.networks.records import Attempt, Measured, PodOnNetwork
from kar_checks.kit.networks.stage import Stage
from kar_checks.kit.trial import Trial
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Command, Evidence, Fault, Figure, Measure, Reason
from kar_checks.redact import redact
from kar_checks.store import folder_name, now

Line = dict[str, Any]
verdict = Reasons(__package__)


@dataclass(frozen=True)
class Ground:
    """A network, and the nodes that it can be measured on."""

    name: str
    group: str
    nodes: dict[str, Object]
    network: Network | None = None
    """Of a secondary one: how pods get onto it."""
    published: Published | None = None
    """What the cluster says about secondary networks."""
    host: bool = False


def run(trial: Trial) -> ThroughputObservation:
    """Measure what the selected checks need, on each network after the other.

    Raises:
        HarnessError: the settings cannot be used.
    """
    started = now()
    seed = int(trial.number("throughput.seed")) or secrets.randbelow(1 << 31)
    networks: dict[str, NetworkSeen | Unmeasured | Fault] = {}
    drawn: list[Figure] = []
    measured: list[Measure] = []
    looked_at: list[str] = []
    more: list[str] = []
    for ground in _grounds(trial, looked_at, more):
        try:
            seen = _measure(trial, ground, seed)
        except HarnessError as error:
            networks[ground.name] = error.fault
            continue
        networks[ground.name] = seen
        if isinstance(seen, NetworkSeen):
            trial.keep(ground.group, seen)
            drawn += figures.of(ground.name, seen, seed)
            measured += measures.of(ground.name, seen)
    return ThroughputObservation(
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        figures=drawn,
        measures=measured,
        seed=seed,
        networks=networks,
        looked_at=looked_at,
        more=more,
    )


def _grounds(trial: Trial, looked_at: list[str], more: list[str]) -> Iterator[Ground]:
    """Give every network that the profile wants to be measured.

    Raises:
        HarnessError: it wants what does not exist.
    """
    wanted = networks_wanted(trial.profile)
    if not set(wanted) <= {"pod", "secondary", "host"}:
        raise HarnessError(
            Reason.UNUSABLE_SETTING,
            f"throughput.networks is of pod, secondary and host, not {', '.join(wanted)}",
        )
    nodes = {
        str(one["metadata"]["name"]): one
        for one in trial.facts.usable_nodes(trial.workspace.target)
    }
    if "pod" in wanted:
        yield Ground(POD_NETWORK, "pods", nodes)
    if "secondary" in wanted:
        published = _published(trial, looked_at)
        found = find(trial, published)
        more += found.more
        for index, network in enumerate(found.networks):
            left = offer(network, published).free or []
            mine = {one: nodes[one] for one in left}
            yield Ground(network.name, f"net{index}", mine, network, published)
    if "host" in wanted:
        yield Ground(BASELINE, "host", nodes, host=True)


def _published(trial: Trial, looked_at: list[str]) -> Published:
    """Read what the cluster says about networks; without the rights to it none is measured."""
    try:
        published = read(trial)
    except HarnessError as error:
        if error.fault.reason is not Reason.FORBIDDEN:
            raise
        published = Published(looked_at=[f"not looked for: {error.fault.message}"])
    looked_at += published.looked_at
    looked_at += [f"left out: {one}" for one in published.left_out]
    return published


def _measure(trial: Trial, ground: Ground, seed: int) -> NetworkSeen | Unmeasured:
    nodes = ground.nodes
    if ground.network and ground.published:
        found = _reachable(trial, ground, ground.network, ground.published, seed)
        if isinstance(found, Unmeasured):
            return found
        nodes = found
    agenda = _agenda(trial, ground, seed, len(nodes))
    pair = agenda.choose_pair({name: node_info(one).zone for name, one in nodes.items()})
    members = agenda.mesh_nodes(list(nodes), pair)
    mesh = agenda.mesh(members) if "throughput.mesh" in trial.selected else None
    crew = Crew(
        trial,
        ground.group,
        [nodes[one] for one in pair],
        [nodes[one] for one in members],
        network=ground.network,
        numbers={name: 1 + index for index, name in enumerate(sorted(ground.nodes))},
        host_network=ground.host,
    )
    seconds = agenda.estimate.seconds
    trial.report(f"{ground.name}: {len(members)} nodes, about {seconds:.0f} s")
    steps = agenda.steps(pair)
    beside = [] if ground.network or ground.host else ["beside"]
    plan = {"expect": [*members, *beside], "steps": steps, "mesh": mesh}
    start = trial.number("pods.start_seconds")
    lines = crew.work(plan, start + RESERVE * seconds + 30)
    hello = {str(one["name"]): one for one in lines if one.get("event") == "agent"}
    _usable(lines, hello, pair)
    answers = {str(one["id"]): one for one in lines if one.get("event") == "step"}
    raw = {name: _keep(trial, ground.name, name, answer) for name, answer in answers.items()}
    if mesh:
        rounds = [one for one in lines if one.get("event") == "round"]
        _keep(trial, ground.name, "mesh", {"nodes": mesh["nodes"], "rounds": rounds})
    trial.commands += _commands(steps, answers, hello)
    ends = [_end(hello[name], nodes) for name in (*pair, *beside) if name in hello]
    secondary = ground.network is not None
    return NetworkSeen(
        secondary=secondary,
        asked=pair,
        ends=ends,
        told=crew.told,
        carried=_carried(steps, answers, ends) if secondary else [],
        crossed=iperf.crossed(steps, answers, pair[0], ends[0].interface) if ends else None,
        injected=crew.injected,
        cap=agenda.cap,
        tcp=[
            iperf.tcp_run(
                answers.get(one.step, _LOST),
                one.cell,
                one.repeat,
                judged=one.judged,
                evidence=raw.get(one.step, ""),
            )
            for one in agenda.tcp
        ],
        udp_rate=agenda.udp_rate,
        udp=[
            iperf.udp_run(
                answers.get(str(step["id"]), _LOST),
                _direction(step),
                int(str(step["id"]).split("/")[2]),
                evidence=raw.get(str(step["id"]), ""),
            )
            for step in steps
            if str(step["id"]).startswith("udp/")
        ],
        latency=[
            _latency(step, answers) for step in steps if str(step["id"]).startswith("latency/")
        ],
        whole=[_whole(step, answers) for step in steps if str(step["id"]).startswith("whole/")],
        mesh=mesh_seen(mesh, lines, len(ground.nodes)) if mesh else None,
    )


def _agenda(trial: Trial, ground: Ground, seed: int, nodes: int) -> Agenda:
    # Two pods of one node would need two devices of a secondary network.
    same_node = ground.network is None and not ground.host
    return Agenda(trial.profile, seed, trial.selected, nodes=nodes, same_node=same_node)


def _reachable(
    trial: Trial, ground: Ground, network: Network, published: Published, seed: int
) -> dict[str, Object] | Unmeasured:
    """Return the nodes on which pods get onto a secondary network.

    Where nothing tells the scheduler, or the network is another namespace's, it is tried with pods
    that do nothing else.
    """
    if not network.has_interface:
        return _unmeasured(verdict("no_ip_interface", network=network.name))
    seen = offer(network, published)
    if found := obstacles.unavailable(seen):
        return _unmeasured(found)
    if len(ground.nodes) < 2:
        return _unmeasured(obstacles.one_node(seen))
    foreign = isinstance(network, AttachedNetwork) and network.namespace != trial.namespace
    return (
        _tried(trial, ground, network, seen, seed) if foreign or not seen.steers else ground.nodes
    )


def _tried(
    trial: Trial, ground: Ground, network: Network, seen: Measured, seed: int
) -> dict[str, Object] | Unmeasured:
    """Return those of some nodes on which pods do get onto a network."""
    trial.report(f"{network.name}: trying which nodes have it")
    nodes = ground.nodes
    names = _agenda(trial, ground, seed, len(nodes)).candidates(list(nodes))
    stage = Stage(trial, network, ground.group)
    numbers = sorted(nodes)
    try:
        parts: dict[str, PodOnNetwork | Attempt | Fault] = trial.side_by_side(
            {
                name: partial(
                    stage.attach,
                    f"try{numbers.index(name) + 1}",
                    numbers.index(name) + 1,
                    [],
                    hostname(nodes[name]),
                )
                for name in names
            }
        )
    finally:
        stage.close()
    got = [one for one in names if isinstance(parts[one], PodOnNetwork)]
    if len(got) >= 2:
        return {one: nodes[one] for one in got}
    if ground.published:
        fresh = offer(network, with_holders(trial, ground.published))
        seen = seen.model_copy(update={"free": fresh.free, "held": fresh.held})
    why = _why_not(seen, list(parts.values()))
    if why and not got:
        return _unmeasured(why)
    counts = {"found": len(got), "tried": len(names), "network": network.name}
    return _unmeasured(verdict("too_few_nodes", why=f": {why.summary}" if why else "", **counts))


def _why_not(seen: Measured, parts: list[PodOnNetwork | Attempt | Fault]) -> Ruling | None:
    """Return the obstacle that kept pods from a network, if it is one that is known.

    Raises:
        HarnessError: a pod could not be started for a reason that is no network's.
    """
    attempts = [one for one in parts if isinstance(one, Attempt)]
    pods = [one for one in parts if isinstance(one, PodOnNetwork)]
    seen = seen.model_copy(update={"attempts": attempts, "pods": pods})
    for one in parts:
        if isinstance(one, Fault):
            if one.reason is not Reason.REFUSED_BY_POLICY:
                raise HarnessError(one.reason, one.message, one.help)
            return obstacles.refused(seen.model_copy(update={"refused": one}))
    for one in attempts:
        found = (obstacles.unattached if one.node else obstacles.unallocated)(seen, one)
        if found:
            return found
    return None


def _unmeasured(found: Ruling) -> Unmeasured:
    return Unmeasured(word=found.reason, text=found.summary, help=found.help)


def _carried(steps: list[Line], answers: dict[str, Line], ends: list[End]) -> list[Carried]:
    """Return what the measured interfaces counted in each step whose bytes are known."""
    names = {one.name: one.interface for one in ends}
    found: list[Carried] = []
    for step in steps:
        answer = answers.get(str(step["id"]), _LOST)
        payload = iperf.payload(answer)
        if payload and not answer.get("error"):
            counted = {
                side: iperf.counted(answer, side, names.get(str(step[side]), ""))
                for side in ("client", "server")
            }
            found.append(Carried(step=str(step["id"]), payload=payload, **counted))
    return found


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
            "use the default image, or pass one that contains python3 and iperf3 with --image net=",
        )
    said = [one for one in lines if one.get("event") == "agent"]
    missing = [name for name in pair if name not in hello]
    if missing and len(said) < len(pair) + 1:
        raise HarnessError(
            Reason.TIMEOUT,
            f"the agent on {', '.join(missing)} did not reach the conductor on {pair[0]}, though "
            "it runs",
            "check for a NetworkPolicy, and the network between these nodes",
        )


def _end(hello: Line, nodes: dict[str, Object]) -> End:
    node = str(hello["node"])
    info = node_info(nodes[node]) if node in nodes else None
    mtu = {one["name"]: int(one["mtu"]) for one in hello["interfaces"]}
    return End(
        name=str(hello["name"]),
        pod=str(hello["pod"]),
        node=node,
        zone=info.zone if info else "",
        instance_type=info.instance_type if info else "",
        interface=str(hello["interface"]),
        address=str(hello["address"]),
        mtu=mtu.get(hello["interface"]),
        iperf3=str(hello["iperf3"]),
        cores=int(hello["cores"]),
    )


def _keep(trial: Trial, network: str, name: str, answer: Line) -> str:
    """Store a raw file in the folder of a network; returns its path."""
    text = redact(json.dumps(answer, indent=1))
    return trial.evidence(f"{folder_name(network)}/{name.replace('/', '-')}.json", f"{text}\n")


def _commands(
    steps: list[Line], answers: dict[str, Line], hello: dict[str, Line]
) -> Iterator[Command]:
    """Give the programs that agents ran; what they printed lies in the raw files."""
    for step in steps:
        answer = answers.get(str(step["id"]), _LOST)
        if "argv" in answer:
            yield Command(
                at=datetime.fromtimestamp(float(answer["at"]), UTC),
                pod=str(hello[str(step["client"])]["pod"]),
                argv=answer["argv"],
                exit_code=answer.get("exit_code"),
                stderr=str(answer.get("error", "")),
            )


def _direction(step: Line) -> Direction:
    return "reverse" if "/reverse" in str(step["id"]) else "forward"


def _latency(step: Line, answers: dict[str, Line]) -> LatencyRun:
    answer = answers.get(str(step["id"]), _LOST)
    return LatencyRun(
        repeat=int(str(step["id"]).split("/")[1]),
        planned=int(step["order"]["count"]),
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
            megabits[client][server] = speed
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
