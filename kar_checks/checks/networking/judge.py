"""The verdicts on secondary networks: observation and profile in, findings out. Pure.

A finding per network. Whether there is a network at all goes first, then what stood in the way of
a measurement, then the control, then the claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from kar_checks.checks.networking import counters, obstacles
from kar_checks.checks.networking.characteristics import NAMED, Characteristic, compare
from kar_checks.checks.networking.counters import elsewhere, listed, risen
from kar_checks.checks.networking.device_plugin import promises_rdma
from kar_checks.checks.networking.observation import (
    Attempt,
    Control,
    Device,
    Host,
    Measured,
    NetworkingObservation,
    Nic,
    PodOnNetwork,
    Transfer,
)
from kar_checks.checks.networking.rdma import as_interface, without_address
from kar_checks.checks.networking.rdma_judge import devices, exchanged
from kar_checks.checks.networking.rulings import broken, undecided
from kar_checks.checks.pulse import fact, too_short
from kar_checks.cluster.pods import OPT_OUT
from kar_checks.kit.judging import not_recorded
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Fault, Finding, Mutation, Observation, Outcome
from kar_checks.profile import Profile

_CAPACITY = ("Insufficient cpu", "Insufficient memory", "Too many pods", "untolerated taint")
_MADE = ("macvlan", "macvtap", "ipvlan", "vlan", "bond", "team", "ipoib")
"""Kinds of made interfaces of a host that lead to a network outside of it."""
_DRIVEN_BY_PROGRAMS = ("vfio-pci", "uio_pci_generic", "igb_uio")
"""Drivers that leave a device to a program: the kernel makes no interface of it."""


@dataclass(frozen=True)
class _Pair:
    """What every check of a pair looks at."""

    seen: Measured
    control: Control
    mutations: list[Mutation]
    profile: Profile


def judge(check: str, seen: Observation, profile: Profile) -> list[Finding]:
    """Judge one check for every network that was found."""
    observed = cast("NetworkingObservation", seen)
    rulings = {
        name: _rule(check, one, observed.mutations, profile)
        for name, one in observed.networks.items()
    } or {"": _none_found(observed)}
    return [
        ruling.finding(
            check,
            [
                *_where(observed.networks.get(name), observed.more),
                *_left_out(observed.left_out),
                *ruling.facts,
            ],
            observed.evidence,
            observed.trial,
            variant=name,
        )
        for name, ruling in rulings.items()
    ]


def _rule(
    check: str, seen: Measured | Fault, mutations: list[Mutation], profile: Profile
) -> Ruling:
    if isinstance(seen, Fault):
        return _error(seen)
    if seen.problem is not None:
        return not_recorded("which other nodes offer the network, and who held its devices")
    if ruling := obstacles.unavailable(seen) or obstacles.refused(seen):
        return ruling
    if seen.control is None:
        return undecided("not_observed", "no pod without the network was seen")
    changed = [one for one in mutations if one.field.startswith(_WATCHED)]
    return _RULES[check](_Pair(seen, seen.control, changed, profile))


_WATCHED = (
    "spec.resourceClaims",
    "spec.nodeSelector",
    "spec.affinity",
    "spec.containers[probe].resources.claims",
    "spec.containers[probe].command",
    "spec.devices",
)
"""Fields of our objects without which they are not what the judgement takes them for."""


def _where(seen: Measured | Fault | None, more: list[str]) -> list[Fact]:
    """Return the facts that every verdict on a network rests on."""
    if not isinstance(seen, Measured):
        return []
    out = [Fact(name="network", value=seen.offered, source="what the cluster publishes")]
    if seen.steers:
        offer = f"{', '.join(seen.capable) or 'none'}; not on {', '.join(seen.incapable) or 'none'}"
        out.append(Fact(name="offered on", value=offer, source="read before anything was started"))
    if more:
        out.append(
            Fact(
                name="further networks, not measured",
                value=", ".join(more[:8]),
                source="name one by --set networking.network=…",
            )
        )
    return out


def _left_out(found: list[str]) -> list[Fact]:
    return [
        Fact(name="left out, since it cannot be read", value=one, source="the API server")
        for one in found[:8]
    ]


# -- no network -----------------------------------------------------------------------------


def _none_found(seen: NetworkingObservation) -> Ruling:
    facts = [Fact(name="looked at", value=one) for one in seen.looked_at]
    if seen.declared_none:
        return Ruling(
            Outcome.NOT_APPLICABLE,
            "declared_none",
            "the user declares that the platform has no secondary networks "
            "(networking.network=none); the requirement asks for them only where needed",
            facts=facts,
        )
    looked = "; ".join(seen.looked_at)
    if seen.left_out:
        return Ruling(
            Outcome.INCONCLUSIVE,
            "no_network_found",
            f"no secondary network was found that can be read; left out: {seen.left_out[0]}"
            + (f"; and {len(seen.left_out) - 1} more" if len(seen.left_out) > 1 else ""),
            "correct or delete what is named, or declare that there is no such network: "
            "--set networking.network=none",
            facts=facts,
        )
    if isinstance(seen.hosts, Fault):
        return Ruling(
            Outcome.INCONCLUSIVE,
            "no_network_found",
            f"no secondary network was found ({looked}), and the nodes' own interfaces could not "
            f"be seen: {seen.hosts.message}",
            "name the network by --set networking.network=…; or declare that there is none "
            "(=none); or let the nodes be looked at: --namespace with one that admits pods on "
            "the host's network",
            facts=facts,
        )
    extra = {one.node: names for one in seen.hosts if (names := idle_interfaces(one))}
    facts += [_host_fact(one) for one in seen.hosts]
    if extra:
        told = "; ".join(f"{node}: {', '.join(names)}" for node, names in extra.items())
        return Ruling(
            Outcome.INCONCLUSIVE,
            "not_offered",
            f"nodes have further network interfaces ({told}), and nothing offers them to pods",
            "install a driver for them (the programme recommends DRA, for example DRANET), or "
            "declare that they are not for pods: --set networking.network=none",
            facts=facts,
        )
    if len(seen.hosts) < seen.nodes or not seen.hosts:
        return Ruling(
            Outcome.INCONCLUSIVE,
            "no_network_found",
            f"no secondary network was found ({looked}), and only {len(seen.hosts)} of "
            f"{seen.nodes} nodes were looked at",
            facts=facts,
        )
    return Ruling(
        Outcome.NOT_APPLICABLE,
        "no_special_interface",
        f"each of {len(seen.hosts)} nodes has one network interface and no RDMA device, and the "
        "requirement asks for secondary networks only where needed",
        would_change="a second network interface or an RDMA device on some node",
        facts=facts,
    )


def idle_interfaces(host: Host) -> list[str]:
    """Return a node's interfaces that could be a network of their own, and its RDMA devices."""
    out: list[str] = []
    for name, nic in host.look.interfaces.items():
        hardware = bool(nic.pci) or nic.hardware == "32"
        made = nic.kind in _MADE
        ours = name == host.look.default or nic.master == host.look.default != ""
        if name != "lo" and not ours and (hardware or made):
            out.append(name)
        out += [one for one in nic.rdma if one not in out]
    return out


def _host_fact(host: Host) -> Fact:
    names = ", ".join(
        f"{name} ({nic.kind or nic.pci or 'virtual'})"
        for name, nic in host.look.interfaces.items()
        if name != "lo"
    )
    return Fact(name=f"interfaces of {host.node}", value=names, source="sysfs on the host")


# -- the checks -----------------------------------------------------------------------------


def _interface(pair: _Pair) -> Ruling:
    seen = pair.seen
    if ruling := _mutated(pair) or _attached(seen, 1):
        return ruling
    facts: list[Fact] = []
    names: list[str] = []
    for pod in seen.pods:
        if ruling := _present(pod, pair):
            return ruling
        if pod.told is None:
            given = ", ".join(devices(pod, pair.control))
            names.append(f"RDMA device {given} in {pod.name}")
            facts.append(
                Fact(
                    name=f"{pod.name} on {pod.node}",
                    value=f"RDMA device {given}; no interface is told of",
                    source="/dev/infiniband and sysfs in the pod",
                )
            )
            continue
        names.append(f"{pod.told.name} in {pod.name}")
        nic = pod.look.interfaces[pod.told.name]
        facts.append(
            Fact(
                name=f"{pod.name} on {pod.node}",
                value=f"{pod.told.name}, {nic.mac}, {', '.join(nic.addresses) or 'no address'}",
                expected=f"{pod.told.name}, {pod.told.mac}, {', '.join(pod.told.addresses)}",
                source=f"sysfs and the kernel's addresses in the pod; {pod.told.source}",
            )
        )
    usual = ", ".join(sorted(pair.control.look.interfaces))
    facts.append(
        Fact(
            name=f"pod without the network on {pair.control.node}",
            value=usual,
            source="sysfs in the pod",
        )
    )
    told = ", as the platform tells" if all(one.told for one in seen.pods) else ""
    return Ruling(
        Outcome.PASS,
        "interface_present",
        f"{', '.join(names)}{told}; a pod without the network has only {usual}",
        would_change="the interface missing in a pod, or with another address than is told",
        facts=facts,
    )


def _present(pod: PodOnNetwork, pair: _Pair) -> Ruling | None:
    """Return what is wrong with a pod's interface, if anything."""
    control = pair.control
    if pod.told is None:
        return None if devices(pod, control) else _untold(pod, pair)
    name, told = pod.told.name, pod.told
    nic = pod.look.interfaces.get(name)
    if nic is None:
        if given := _driven_by_programs(pod, control):
            return _no_interface(pod, given)
        if pod.look.devices is None and pod.look.environment:
            return not_recorded("which device nodes the pods had")
        return broken(
            "interface_missing",
            f"{told.source} says {name}, and {pod.name} on {pod.node} has "
            f"{', '.join(sorted(pod.look.interfaces))}",
        )
    if name in control.look.interfaces:
        return broken(
            "interface_not_further",
            f"{told.source} says {name}, which a pod without the network has, too",
        )
    strange = sorted(set(told.addresses) - set(nic.addresses))
    if strange or (told.mac and told.mac != nic.mac):
        return broken(
            "interface_differs",
            f"{told.source} says {told.mac} {', '.join(told.addresses)} of {name} in {pod.name}, "
            f"and the pod sees {nic.mac} {', '.join(nic.addresses)}",
        )
    return None


def _untold(pod: PodOnNetwork, pair: _Pair) -> Ruling:
    """Return the verdict on a pod of whose interface the platform tells nothing."""
    if pod.look.infiniband:
        return _device_only(pod)
    further = sorted(set(pod.look.interfaces) - set(pair.control.look.interfaces))
    if further:
        return undecided(
            "not_told",
            f"{pod.name} has {', '.join(further)}, and neither the claim's networkData nor a "
            "network-status annotation says which one is the network",
            "use a driver that fills status.devices[].networkData",
        )
    if given := _further_nodes(pod, pair.control) or list(pod.look.environment):
        return _no_interface(pod, given)
    if pod.look.devices is None:
        return not_recorded("which device nodes the pods had")
    if pair.seen.mechanism == "device_plugin" and not promises_rdma(pair.seen.resource):
        return _no_interface(pod, [f"one {pair.seen.resource}"])
    return broken(
        "no_interface",
        f"{pod.name} runs on {pod.node} and has no further interface: only "
        f"{', '.join(sorted(pod.look.interfaces))}, and the platform tells of none",
    )


def _further_nodes(pod: PodOnNetwork, control: Control) -> list[str]:
    """Return the device nodes that the pod without the network has not."""
    known = set(control.look.devices or [])
    return [f"/dev/{one}" for one in pod.look.devices or [] if one not in known]


def _driven_by_programs(pod: PodOnNetwork, control: Control) -> list[str]:
    """Return what shows that a pod was given a device for a program of its own to drive."""
    nodes = [
        one for one in _further_nodes(pod, control) if one.startswith(("/dev/vfio", "/dev/uio"))
    ]
    drivers = [
        f"{address} ({driver})"
        for address, driver in pod.look.drivers.items()
        if driver in _DRIVEN_BY_PROGRAMS
    ]
    return [*drivers, *nodes]


def _no_interface(pod: PodOnNetwork, given: list[str]) -> Ruling:
    return undecided(
        "no_network_interface",
        f"{pod.name} on {pod.node} got a device ({', '.join(given[:4])}) and no network interface",
        "programs drive such devices themselves (DPDK, VFIO); to measure a network, name one whose "
        "devices have an interface: --set networking.network=…",
    )


def _device_only(pod: PodOnNetwork) -> Ruling:
    return undecided(
        "rdma_without_ip",
        f"{pod.name} got devices ({', '.join(pod.look.infiniband)}) and no network interface that "
        "the platform tells of, and sysfs shows no RDMA device that a pod without the network does "
        "not have, too",
        "an RDMA device is seen by its node /dev/infiniband/uverbs* and its ports in sysfs",
    )


_NO_INTERFACE = ("no_network_interface", "not_recorded")


def _characteristics(pair: _Pair) -> Ruling:
    if ruling := _mutated(pair) or _attached(pair.seen, 1):
        return ruling
    facts: list[Fact] = []
    found: list[Characteristic] = []
    for pod in pair.seen.pods:
        nic = pod.look.interfaces.get(pod.told.name) if pod.told else _rdma(pod, pair.control)
        if nic is None and (ruling := _present(pod, pair)) and ruling.reason in _NO_INTERFACE:
            return ruling
        if pod.device is None and pair.seen.mechanism == "gke":
            return undecided(
                "not_seen",
                "the Network objects of networking.gke.io, which describe the network, could not "
                "be read",
                "grant the right to list networks.networking.gke.io and gkenetworkparamsets",
            )
        if pod.device is None:
            return broken(
                "nothing_published",
                f"nothing was published about the device of {pod.name} before the claim",
            )
        if nic is None:
            return _present(pod, pair) or undecided("not_told", "no interface to look at")
        for one in compare(pod.device, nic, pod.look):
            found.append(one)
            facts.append(_characteristic(pod, pod.device, one))
    wrong = [one for one in found if one.agreement == "contradicts"]
    if wrong:
        told = "; ".join(
            f"{one.name}: published {one.published}, in the pod {one.seen}" for one in wrong[:3]
        )
        return Ruling(
            Outcome.FAIL,
            "contradiction",
            f"what is published about the interface is not true: {told}",
            "look at the driver that publishes it",
            would_change="published values that agree with what the pod sees",
            facts=facts,
        )
    published = _names(found, lambda one: one.name in NAMED and one.published != "")
    if not published:
        return broken(
            "nothing_published",
            f"none of {', '.join(NAMED)} is published about the interface",
            facts=facts,
        )
    agreeing = _names(found, lambda one: one.agreement == "agrees")
    if not agreeing:
        return undecided(
            "not_compared",
            f"{', '.join(published)} are published, and the pod sees nothing to compare them with",
            facts=facts,
        )
    missing = _names(found, lambda one: one.name in NAMED and one.published == "")
    return Ruling(
        Outcome.PASS,
        "published_and_true",
        f"published: {', '.join(published)}; equal to what the pod sees: {', '.join(agreeing)}"
        + (f"; not published: {', '.join(missing)}" if missing else ""),
        would_change="a published value that differs from what the pod sees",
        facts=facts,
    )


def _rdma(pod: PodOnNetwork, control: Control) -> Nic | None:
    given = devices(pod, control)
    found = (as_interface(one) for one in pod.look.verbs.ports if one.device in given)
    return next(found, None)


def _names(found: list[Characteristic], which: Callable[[Characteristic], bool]) -> list[str]:
    return list(dict.fromkeys(one.name for one in found if which(one)))


def _characteristic(pod: PodOnNetwork, device: Device, one: Characteristic) -> Fact:
    value = f"published {one.published} ({one.attribute})" if one.published else "not published"
    return Fact(
        name=f"{one.name}, {pod.node}: {one.agreement}"
        if one.published
        else f"{one.name}, {pod.node}",
        value=value,
        expected=one.seen or "sysfs in the pod shows none",
        source=f"{device.source}; sysfs in {pod.name}",
    )


def _placement(pair: _Pair) -> Ruling:
    seen = pair.seen
    if not seen.steers:
        return undecided(
            "does_not_steer",
            f"{seen.offered} names no device-plugin resource, so nothing tells the scheduler "
            "which nodes have the network",
            "annotate it with k8s.v1.cni.cncf.io/resourceName, or offer the devices by DRA",
        )
    if ruling := _mutated(pair):
        return ruling
    if isinstance(seen.refusal, Fault):
        return _error(seen.refusal)
    placed = [(one.name, one.node) for one in seen.pods]
    placed += [(one.pod, one.node) for one in seen.attempts if one.node]
    astray = [f"{name} on {node}" for name, node in placed if node not in seen.capable]
    if astray:
        return broken("landed_astray", f"pods that want the network do not find it: {astray[0]}")
    if seen.refusal is None:
        return undecided(
            "no_incapable_node",
            f"all usable nodes ({', '.join(seen.capable)}) offer the network, so that it cannot "
            "be seen whether pods are kept from nodes without it",
            "let a node without the network be usable: --node-selector, --toleration",
        )
    if seen.refusal.bound:
        return Ruling(
            Outcome.FAIL,
            "bound_without_network",
            f"{seen.refusal.pod}, which asks for the network, was given {seen.refusal.bound}, "
            "which does not offer it",
            would_change="the pod without a node during the whole window",
        )
    if not placed:
        return _attached(seen, 1) or undecided("not_observed", "no pod was placed")
    if ruling := _attributed(seen, pair.profile):
        return ruling
    node = seen.refusal.node
    return Ruling(
        Outcome.PASS,
        "kept_from_incapable",
        f"pods that want the network ran on {', '.join(sorted({node for _, node in placed}))}; on "
        f"{node}, which lacks it, one waited {seen.refusal.seconds:.0f} s, while the same pod "
        "without the network ran there",
        would_change=f"a pod that asks for the network with the node {node}",
        facts=[
            Fact(
                name=f"pod that wants the network, pinned to {node}",
                value=f"no node in {seen.refusal.seconds:.1f} s",
                expected="no node",
                source="spec.nodeName, watched",
            ),
            Fact(
                name="what the scheduler said",
                value=seen.refusal.message,
                expected="names the mechanism",
                source="condition PodScheduled",
            ),
            Fact(
                name=f"the same pod without the network on {pair.control.node}",
                value="Ready",
                expected="Ready",
                source="condition Ready",
            ),
            *fact(seen.refusal.pulse, pair.profile),
            *(Fact(name=f"{name} ran on", value=at, source="spec.nodeName") for name, at in placed),
        ],
    )


def _attributed(seen: Measured, profile: Profile) -> Ruling | None:
    refusal = seen.refusal
    if refusal is None or isinstance(refusal, Fault):
        return None
    if seen.control is None or seen.control.node != refusal.node:
        return undecided(
            "control_elsewhere", "the pod without the network did not run on the same node"
        )
    wanted = f"Insufficient {seen.resource}" if seen.resource else "claim"
    if wanted not in refusal.message:
        return undecided(
            "not_attributed",
            f"{refusal.pod} waited, and the scheduler does not say that it is for the network: "
            f"{refusal.message or 'it said nothing'}",
            "it may have waited for another reason, such as a scheduler that stands still",
        )
    return too_short(refusal.pulse, profile.number("networking.refused_seconds"), profile)


def _data_path(pair: _Pair) -> Ruling:
    seen = pair.seen
    same = {one.node for one in seen.pods}
    if len(seen.pods) == 2 and len(same) == 1:
        return undecided(
            "same_node",
            f"both pods ran on {same.pop()}: bytes between them need no network",
            "look what places them there: an admission webhook or policy changed the pods",
        )
    if ruling := _mutated(pair) or _attached(seen, 2):
        return ruling
    if without_address(seen.pods) and all(devices(one, pair.control) for one in seen.pods):
        return _plain(seen.plain) or exchanged(seen, pair.profile)
    for pod in seen.pods:
        if pod.told is None or not pod.told.addresses:
            return _present(pod, pair) or undecided(
                "no_address",
                f"the interface of {pod.name} has no address, so that nothing can be sent to it",
                "let the network give addresses, or leave networking.subnet empty",
            )
    if ruling := _plain(seen.plain):
        return ruling
    if seen.transfer is None:
        return undecided("no_common_family", "the two pods have no addresses of one family")
    return _carried(seen.transfer, seen.pods, pair.profile, seen.plain)


def _plain(control: Transfer | None) -> Ruling | None:
    """Return why the control over the pod network does not show that probe and counters work."""
    if control is None:
        return undecided("control_failed", "the pods have no address on the pod network")
    if control.client.error or not control.client.intact or control.server is None:
        return undecided(
            "control_failed",
            "the same pods could not exchange data over the pod network either: "
            f"{control.client.error or 'the bytes did not arrive'}",
            "allow TCP between pods of one namespace (NetworkPolicy)",
        )
    return None


def _carried(
    transfer: Transfer, pods: list[PodOnNetwork], profile: Profile, control: Transfer | None
) -> Ruling:
    client, server = pods
    mebibytes = transfer.bytes / (1 << 20)
    if transfer.client.error or not transfer.client.intact or transfer.server is None:
        what = transfer.client.error or "the bytes did not come back as they were sent"
        return broken(
            "no_exchange",
            f"{client.name} on {client.node} and {server.name} on {server.node} could not "
            f"exchange data over the network: {what}; over the pod network they could",
            facts=_counted(transfer, pods),
        )
    share = profile.number("networking.stray_share")
    stray: list[str] = []
    for pod, end in ((client, transfer.client), (server, transfer.server)):
        name = pod.told.name if pod.told else ""
        deltas = risen(end.before, end.after)
        if name not in deltas:
            return undecided("no_counters", f"{name} in {pod.name} has no byte counters")
        if any(way < 0 for delta in deltas.values() for way in delta):
            return undecided("counters_reset", f"counters in {pod.name} went backwards")
        others = elsewhere(deltas, name, share * transfer.bytes)
        told = listed(others)
        if min(deltas[name]) < transfer.bytes:
            return broken(
                "another_interface",
                f"{mebibytes:g} MiB went each way, and {name} in {pod.name} counted "
                f"{min(deltas[name]) / (1 << 20):.1f} MiB of them; counted elsewhere: "
                f"{told or 'nothing'}",
                facts=_counted(transfer, pods),
            )
        if others:
            stray.append(f"{pod.name}: {told}")
    if stray:
        return undecided(
            "stray_bytes",
            f"other interfaces counted bytes meanwhile, too ({'; '.join(stray)})",
            "run again at a quieter time",
            facts=_counted(transfer, pods),
        )
    return Ruling(
        Outcome.PASS,
        "carried",
        f"{mebibytes:g} MiB went each way between {client.node} and {server.node}, intact, and "
        "were counted by the network's interface in both pods and by no other",
        would_change="bytes that do not arrive, or that another interface counts",
        facts=[*_counted(transfer, pods), *_counted(control, pods, "control: ")],
    )


def _counted(transfer: Transfer | None, pods: list[PodOnNetwork], prefix: str = "") -> list[Fact]:
    if transfer is None:
        return []
    out: list[Fact] = []
    for pod, end in zip(pods, (transfer.client, transfer.server), strict=False):
        if end is None:
            continue
        deltas = risen(end.before, end.after)
        out += counters.facts(
            pod,
            deltas,
            dict.fromkeys([pod.told.name if pod.told else "", pod.look.default]),
            f"statistics/rx_bytes and tx_bytes around {transfer.bytes:,} bytes each way, "
            f"{end.local} to {end.peer}",
            prefix,
        )
    return out


_RULES: dict[str, Callable[[_Pair], Ruling]] = {
    "networking.interface": _interface,
    "networking.characteristics": _characteristics,
    "networking.placement": _placement,
    "networking.data_path": _data_path,
}


# -- what they have in common ---------------------------------------------------------------


def _mutated(pair: _Pair) -> Ruling | None:
    if not pair.mutations:
        return None
    one = pair.mutations[0]
    return undecided(
        "mutated", f"the cluster changed {one.object} on its way in: {one.field}", OPT_OUT
    )


def _attached(seen: Measured, wanted: int) -> Ruling | None:
    """Return why fewer pods than wanted are on the network, if so."""
    if len(seen.pods) >= wanted:
        return None
    if not seen.attempts:
        return obstacles.one_node(seen)
    told = seen.attempts[0]
    if (
        not told.node
        and any(one in told.scheduler for one in _CAPACITY)
        and not ("claim" in told.scheduler or (seen.resource and seen.resource in told.scheduler))
    ):
        return Ruling(
            Outcome.ERROR,
            "unschedulable",
            f"{told.pod} got no node: {told.scheduler}",
            "choose nodes with free CPU by --node-selector and --toleration",
        )
    facts = [
        Fact(name="event", value=one, source=f"events of {told.pod}") for one in told.events[:2]
    ]
    if not told.node and not told.scheduler:
        return undecided(
            "scheduler_silent",
            f"no scheduler decided on {told.pod} within {told.seconds:.0f} s",
            "look whether the scheduler runs and reaches the API server",
            facts=facts,
        )
    if not told.node:
        return obstacles.unallocated(seen, told) or broken(
            "not_allocated",
            f"{told.pod} got no node in {told.seconds:.0f} s, though {', '.join(seen.capable)} "
            f"offer the network: {told.scheduler}",
            facts=facts,
        )
    return obstacles.unattached(seen, told) or broken(
        "not_attached",
        f"{told.pod} was given {told.node} and did not get onto the network in "
        f"{told.seconds:.0f} s: {_last_event(told)}",
        facts=facts,
    )


def _last_event(told: Attempt) -> str:
    return told.events[-1] if told.events else told.state


def _error(fault: Fault) -> Ruling:
    return Ruling(Outcome.ERROR, fault.reason.value, fault.message, fault.help)
