"""The networking trial: find the secondary networks, and see for each whether pods can use it.

For each network: a control pod without it, a pod that wants it on a node that cannot give it, and
one pair of pods on it, whose interfaces and byte counters answer everything else. The networks
come one after the other, since they may share their devices.
"""

from __future__ import annotations

import json
import threading
from functools import partial
from typing import Any

from kar_checks.checks.networking import figures
from kar_checks.checks.networking.observation import Host, NetworkingObservation
from kar_checks.checks.networking.rdma import without_address
from kar_checks.checks.networking.rdma_exchange import exchange
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.networks.attach import Network
from kar_checks.kit.networks.find import find, read, with_holders
from kar_checks.kit.networks.offer import Published, offer
from kar_checks.kit.networks.records import Attempt, Measured, PodOnNetwork, Refusal
from kar_checks.kit.networks.stage import PROBE, Stage, look_of, pod
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Fault, Figure, Reason, Record
from kar_checks.store import now

HOSTNAME = "kubernetes.io/hostname"
_TRIED = 4
"""Where nothing steers the scheduler, so many nodes are tried for a pair."""
_MOST_HOSTS = 50
_CONTROL_MIB = 1.0


class Pair(Record):
    """Pods on the network, and those that did not get there."""

    pods: list[PodOnNetwork]
    attempts: list[Attempt]


def run(trial: Trial) -> NetworkingObservation:
    """Measure every secondary network that is found or named.

    Raises:
        HarnessError: nothing can be measured (no rights, no API server, a network that is not).
    """
    started = now()
    published = read(trial)
    found = find(trial, published)
    trial.evidence("slices-before.json", json.dumps(published.slices, indent=1))
    trial.evidence("classes.json", json.dumps(published.classes, indent=1))
    trial.evidence("definitions.json", json.dumps(published.definitions, indent=1))
    drawn: list[Figure] = []
    seen: dict[str, Measured | Fault] = {}
    for index, network in enumerate(found.networks):
        trial.report(f"network {network.name}")
        try:
            seen[network.name] = _measure(trial, network, published, f"net{index}", drawn)
        except HarnessError as error:
            seen[network.name] = error.fault
    nothing = not found.networks and not found.declared_none
    return NetworkingObservation(
        trial="networking",
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        figures=drawn,
        looked_at=published.looked_at,
        declared_none=found.declared_none,
        more=found.more,
        left_out=published.left_out,
        nodes=len(published.nodes),
        networks=seen,
        hosts=_hosts(trial, published.nodes) if nothing else [],
    )


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return the plain pod, for dry runs; what networks add depends on which there are."""
    image, probe = target.image("python"), f"kar-probe-{PROBE.replace('_', '-')}"
    body = pod(name="dry-run", role="control", group="dry-run", image=image, probe=probe)
    return [(kinds.POD, body)]


def _measure(
    trial: Trial, network: Network, published: Published, group: str, drawn: list[Figure]
) -> Measured:
    so_far = offer(network, published)
    if not so_far.free:
        return so_far
    hostnames = {
        str(one["metadata"]["name"]): str((one["metadata"].get("labels") or {}).get(HOSTNAME, ""))
        for one in published.nodes
    }
    stage = Stage(trial, network, group)
    try:
        network.prepare(trial)
        lacking = so_far.incapable if "networking.placement" in trial.selected else []
        incapable = next((one for one in lacking if hostnames[one]), "")
        control = stage.control(hostnames[incapable or so_far.free[0]])
        so_far = so_far.model_copy(update={"control": control})
        said = threading.Event()
        work: dict[str, Any] = {}
        if incapable:
            work["refusal"] = partial(stage.refused, hostnames[incapable], said)
        else:
            said.set()
        if so_far.steers:
            work["pair"] = partial(_steered, stage, published.slices, so_far, said)
        else:
            work["pair"] = partial(_tried, stage, published.slices, so_far, hostnames)
        parts: dict[str, Refusal | Pair | Fault] = trial.side_by_side(work)
        so_far = so_far.model_copy(update={"refusal": parts.get("refusal")})
        pair = parts["pair"]
        if isinstance(pair, Fault):
            if pair.reason is Reason.REFUSED_BY_POLICY:
                return so_far.model_copy(update={"refused": pair})
            raise HarnessError(pair.reason, pair.message, pair.help)
        if not isinstance(pair, Pair):
            raise TypeError("a pair of pods was asked for")
        so_far = so_far.model_copy(update={"pods": pair.pods, "attempts": pair.attempts})
        if pair.attempts:
            so_far = _held_now(trial, network, published, so_far)
        return _carry(stage, so_far, drawn)
    finally:
        stage.close()


def _held_now(trial: Trial, network: Network, published: Published, so_far: Measured) -> Measured:
    """Look again who holds what: it may have changed since the beginning."""
    fresh = offer(network, with_holders(trial, published))
    return so_far.model_copy(update={"free": fresh.free, "held": fresh.held})


def _steered(stage: Stage, slices: list[Object], known: Measured, said: threading.Event) -> Pair:
    """Start the pair where the scheduler wants; after it has refused the pod that cannot run."""
    said.wait(stage.trial.number("networking.bind_seconds"))
    numbers = range(1, 1 + min(2, len(known.free or [])))
    work = {f"pod{one}": partial(stage.attach, f"pod{one}", one, slices) for one in numbers}
    return _pair(list(stage.trial.side_by_side(work).values()))


def _tried(stage: Stage, slices: list[Object], known: Measured, hostnames: dict[str, str]) -> Pair:
    """Start pods on one node after the other until two have got there."""
    left = [hostnames[one] for one in known.free or [] if hostnames[one]][:_TRIED]
    out = Pair(pods=[], attempts=[])
    number = 0
    while left and len(out.pods) < 2:
        work: dict[str, Any] = {}
        for hostname in left[: 2 - len(out.pods)]:
            number += 1
            work[f"pod{number}"] = partial(stage.attach, f"pod{number}", number, slices, hostname)
        left = left[len(work) :]
        more = _pair(list(stage.trial.side_by_side(work).values()))
        out = Pair(pods=[*out.pods, *more.pods], attempts=[*out.attempts, *more.attempts])
    return out


def _pair(parts: list[PodOnNetwork | Attempt | Fault]) -> Pair:
    fault = next((one for one in parts if isinstance(one, Fault)), None)
    if fault is not None:
        raise HarnessError(fault.reason, fault.message, fault.help)
    return Pair(
        pods=[one for one in parts if isinstance(one, PodOnNetwork)],
        attempts=[one for one in parts if isinstance(one, Attempt)],
    )


def _carry(stage: Stage, so_far: Measured, drawn: list[Figure]) -> Measured:
    """Carry bytes over the network, after a control over the pod network."""
    if len(so_far.pods) < 2 or "networking.data_path" not in stage.trial.selected:
        return so_far
    client, server = so_far.pods
    addresses = _usual(client), _usual(server)
    if "" not in addresses:
        plain, _ = stage.transfer(client, server, addresses, _CONTROL_MIB, "pod-network")
        so_far = so_far.model_copy(update={"plain": plain})
    if without_address(so_far.pods):
        done = exchange(stage, so_far.pods, addresses[1])
        return so_far.model_copy(update={"exchange": done})
    addresses = usable_address(client, server), usable_address(server, client)
    if "" in addresses:
        return so_far
    transfer, raw = stage.transfer(
        client, server, addresses, stage.trial.number("networking.mebibytes"), "secondary"
    )
    drawn.append(figures.counters(stage.network.name, transfer, raw, so_far.pods))
    return so_far.model_copy(update={"transfer": transfer})


def _usual(one: PodOnNetwork) -> str:
    nic = one.look.interfaces.get(one.look.default)
    return nic.addresses[0] if nic and nic.addresses else ""


def usable_address(one: PodOnNetwork, other: PodOnNetwork) -> str:
    """Return a pod's address on the network, of a family that the other pod has, too.

    Those that we gave come first: they are of one subnet.
    """
    if one.told is None or other.told is None:
        return ""
    if one.asked in one.told.addresses and other.asked in other.told.addresses:
        return one.asked
    families = {":" in address for address in other.told.addresses}
    return next((ip for ip in one.told.addresses if (":" in ip) in families), "")


def _hosts(trial: Trial, nodes: list[Object]) -> list[Host] | Fault:
    """See the nodes' own interfaces by pods on the host's network, where policy allows them."""
    image = trial.workspace.target.image("python")
    probe = trial.mount_probe(PROBE)
    if len(nodes) > _MOST_HOSTS:
        nodes = nodes[:_MOST_HOSTS]

    def one(name: str, hostname: str) -> Host:
        body = pod(
            name=f"host-{name}"[:63],
            role="host",
            group="host",
            image=image,
            probe=probe,
            hostname=hostname,
            host_network=True,
        )
        stored = trial.start_pod(body)
        own = str(stored["metadata"]["name"])
        text = trial.output(own, ["python3", f"/probe/{PROBE}.py", "look"])
        trial.evidence(f"{own}-interfaces.json", text)
        trial.workspace.delete(kinds.POD, own, seconds=0)
        return Host(node=name, look=look_of(json.loads(text)))

    work = {
        f"host-{node['metadata']['name']}": partial(
            one,
            str(node["metadata"]["name"]),
            str((node["metadata"].get("labels") or {}).get(HOSTNAME, "")),
        )
        for node in nodes
    }
    parts = list(trial.side_by_side(work).values())
    fault = next((part for part in parts if isinstance(part, Fault)), None)
    return fault or [part for part in parts if isinstance(part, Host)]
