"""The rule on the data path: bytes go over the network's interface, and over no other. Pure."""

from __future__ import annotations

from kar_checks.checks.networking import counters
from kar_checks.checks.networking.counters import elsewhere, listed, risen
from kar_checks.checks.networking.present import NetworkCase, control_of, wrong
from kar_checks.checks.networking.rdma import devices, without_address
from kar_checks.checks.networking.rdma_judge import exchanged
from kar_checks.kit.networks.records import PodOnNetwork, Transfer
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact

verdict = Reasons(__package__)

_MIB = 1 << 20


def data_path(case: NetworkCase) -> Ruling:
    """Judge whether two pods exchanged data over the network itself."""
    seen, control = case.seen, control_of(case)
    if without_address(seen.pods) and all(devices(pod, control) for pod in seen.pods):
        return exchanged(seen, case.profile)
    for pod in seen.pods:
        if pod.told is None or not pod.told.addresses:
            return wrong(pod, seen, control) or verdict("no_address", pod=pod.name)
    if seen.transfer is None:
        return verdict("no_common_family")
    return _failed(seen.transfer, seen.pods) or _counted(case, seen.transfer)


def control_failed(case: NetworkCase) -> Ruling | None:
    """Return why the control over the pod network does not show that probe and counters work."""
    control = case.seen.plain
    if case.check != "networking.data_path" or len(case.seen.pods) < 2:
        return None
    if control is None:
        return verdict("control_failed.no_address")
    server = case.seen.pods[1]
    problem = _problem(control, server)
    if "refused" in problem:
        return verdict("control_failed.refused", problem=problem, pod=server.name, node=server.node)
    return verdict("control_failed", problem=problem) if problem else None


def _problem(transfer: Transfer, server: PodOnNetwork) -> str:
    """Return what kept the bytes from arriving; empty if they went both ways, intact."""
    end = transfer.client
    if end.error:
        return end.error
    if transfer.server is None:
        return f"{end.peer} answered, and {server.name} received no connection"
    if end.intact:
        return ""
    if end.received < transfer.bytes:
        return f"only {end.received:,} of {transfer.bytes:,} bytes came back"
    return f"the {end.received:,} bytes that came back differ from those sent"


def _failed(transfer: Transfer, pods: list[PodOnNetwork]) -> Ruling | None:
    client, server = pods
    problem = _problem(transfer, server)
    if not problem:
        return None
    return verdict(
        "no_exchange",
        _facts(transfer, pods),
        client=client.name,
        client_node=client.node,
        server=server.name,
        server_node=server.node,
        peer=transfer.client.peer,
        problem=problem,
    )


def _counted(case: NetworkCase, transfer: Transfer) -> Ruling:
    """Judge by the counters of both pods over which interfaces the bytes went."""
    pods, facts = case.seen.pods, _facts(transfer, case.seen.pods)
    least = case.profile.number("networking.stray_share") * transfer.bytes
    stray: list[str] = []
    for pod, end in zip(pods, (transfer.client, transfer.server), strict=True):
        name = pod.told.name if pod.told else ""
        deltas = risen(end.before, end.after) if end else {}
        if name not in deltas:
            return verdict("no_counters", interface=name, pod=pod.name)
        if any(way < 0 for delta in deltas.values() for way in delta):
            return verdict("counters_reset", pod=pod.name)
        others = elsewhere(deltas, name, least)
        if min(deltas[name]) < transfer.bytes:
            return verdict(
                "another_interface",
                facts,
                mib=transfer.bytes / _MIB,
                interface=name,
                pod=pod.name,
                node=pod.node,
                counted=min(deltas[name]) / _MIB,
                others=listed(others) or "nothing",
                carrier=" and ".join(others) or "another interface",
            )
        if others:
            stray.append(f"{pod.name}: {listed(others)}")
    if stray:
        return verdict("stray_bytes", facts, stray="; ".join(stray))
    facts += _facts(case.seen.plain, pods, "control: ")
    one, other = (pod.node for pod in pods)
    return verdict("carried", facts, mib=transfer.bytes / _MIB, one=one, other=other)


def _facts(transfer: Transfer | None, pods: list[PodOnNetwork], prefix: str = "") -> list[Fact]:
    if transfer is None:
        return []
    out: list[Fact] = []
    for pod, end in zip(pods, (transfer.client, transfer.server), strict=True):
        if end is None:
            continue
        names = dict.fromkeys([pod.told.name if pod.told else "", pod.look.default])
        source = (
            f"statistics/rx_bytes and tx_bytes around {transfer.bytes:,} bytes each way, "
            f"{end.local} to {end.peer}"
        )
        out += counters.facts(pod, risen(end.before, end.after), names, source, prefix)
    return out
