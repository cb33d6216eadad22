"""The rules on a pod's interface: whether it is there, and whether what is published is true."""

from __future__ import annotations

from typing import cast

from kar_checks.checks.networking.characteristics import NAMED, Characteristic, compare
from kar_checks.checks.networking.observation import NetworkingObservation
from kar_checks.checks.networking.rdma import as_interface, devices
from kar_checks.kit.judging import Case, not_recorded
from kar_checks.kit.networks import obstacles
from kar_checks.kit.networks.device_plugin import promises_rdma
from kar_checks.kit.networks.records import Control, Device, Measured, Nic, PodOnNetwork
from kar_checks.kit.verdict import Ruling
from kar_checks.kit.words import Reasons
from kar_checks.model import Fact

verdict = Reasons(__package__)

NetworkCase = Case[NetworkingObservation, Measured]

_DRIVEN_BY_PROGRAMS = ("vfio-pci", "uio_pci_generic", "igb_uio")
"""Drivers that leave a device to a program: the kernel makes no interface of it."""


def control_of(case: NetworkCase) -> Control:
    """Return the pod without the network; without one no rule is asked."""
    return cast("Control", case.seen.control)


# -- the interface --------------------------------------------------------------------------


def interface(case: NetworkCase) -> Ruling:
    """Judge whether every pod has the interface that the platform reports."""
    control = control_of(case)
    for pod in case.seen.pods:
        if ruling := wrong(pod, case.seen, control):
            return ruling
    usual = ", ".join(sorted(control.look.interfaces))
    return verdict(
        "interface_present",
        [
            *(_present(pod, control) for pod in case.seen.pods),
            Fact(
                name=f"pod without the network on {control.node}",
                value=usual,
                source="sysfs in the pod",
            ),
        ],
        found=", ".join(_named(pod, control) for pod in case.seen.pods),
        reported=", as the platform reports" if all(pod.told for pod in case.seen.pods) else "",
        usual=usual,
    )


def _named(pod: PodOnNetwork, control: Control) -> str:
    if pod.told:
        return f"{pod.told.name} in {pod.name}"
    return f"RDMA device {', '.join(devices(pod, control))} in {pod.name}"


def _present(pod: PodOnNetwork, control: Control) -> Fact:
    name = f"{pod.name} on {pod.node}"
    if pod.told is None:
        return Fact(
            name=name,
            value=f"RDMA device {', '.join(devices(pod, control))}; no interface is reported",
            source="/dev/infiniband and sysfs in the pod",
        )
    told, nic = pod.told, pod.look.interfaces[pod.told.name]
    return Fact(
        name=name,
        value=f"{told.name}, {nic.mac}, {', '.join(nic.addresses) or 'no address'}",
        expected=f"{told.name}, {told.mac}, {', '.join(told.addresses)}",
        source=f"sysfs and the kernel's addresses in the pod; {told.source}",
    )


def wrong(pod: PodOnNetwork, seen: Measured, control: Control) -> Ruling | None:
    """Return what is wrong with a pod's interface, if anything."""
    told = pod.told
    if told is None:
        return None if devices(pod, control) else _unreported(pod, seen, control)
    nic = pod.look.interfaces.get(told.name)
    if nic is None:
        return _missing(pod, told.name, told.source, control)
    at = {"source": told.source, "name": told.name, "pod": pod.name, "node": pod.node}
    if told.name in control.look.interfaces:
        return verdict("interface_not_further", **at)
    strange = set(told.addresses) - set(nic.addresses)
    if strange or (told.mac and told.mac != nic.mac):
        reported = _addresses(told.mac, told.addresses)
        has = _addresses(nic.mac, nic.addresses)
        return verdict("interface_differs", reported=reported, has=has, **at)
    return None


def _missing(pod: PodOnNetwork, name: str, source: str, control: Control) -> Ruling:
    if given := _driven_by_programs(pod, control):
        return _no_interface(pod, given)
    if pod.look.devices is None and pod.look.environment:
        return not_recorded("which device nodes the pods had")
    has = ", ".join(sorted(pod.look.interfaces))
    return verdict(
        "interface_missing", source=source, name=name, pod=pod.name, node=pod.node, has=has
    )


def _addresses(mac: str, addresses: list[str]) -> str:
    return " ".join(word for word in (mac, *addresses) if word) or "no address"


def _unreported(pod: PodOnNetwork, seen: Measured, control: Control) -> Ruling:
    """Return the verdict on a pod of whose interface the platform reports nothing."""
    if pod.look.infiniband:
        return verdict(
            "rdma_without_ip.no_device", pod=pod.name, nodes=", ".join(pod.look.infiniband)
        )
    if further := sorted(set(pod.look.interfaces) - set(control.look.interfaces)):
        return verdict("not_told", pod=pod.name, interfaces=", ".join(further))
    if given := _further_nodes(pod, control) or list(pod.look.environment):
        return _no_interface(pod, given)
    if pod.look.devices is None:
        return not_recorded("which device nodes the pods had")
    if seen.mechanism == "device_plugin" and not promises_rdma(seen.resource):
        return _no_interface(pod, [f"one {seen.resource}"])
    return verdict(
        "no_interface",
        provider=obstacles.provider(seen),
        pod=pod.name,
        node=pod.node,
        has=", ".join(sorted(pod.look.interfaces)),
    )


def _further_nodes(pod: PodOnNetwork, control: Control) -> list[str]:
    """Return the device nodes that the pod without the network has not."""
    known = set(control.look.devices or [])
    return [f"/dev/{node}" for node in pod.look.devices or [] if node not in known]


def _driven_by_programs(pod: PodOnNetwork, control: Control) -> list[str]:
    """Return what shows that a pod was given a device for a program of its own to drive."""
    nodes = [
        node for node in _further_nodes(pod, control) if node.startswith(("/dev/vfio", "/dev/uio"))
    ]
    drivers = [
        f"{address} ({driver})"
        for address, driver in pod.look.drivers.items()
        if driver in _DRIVEN_BY_PROGRAMS
    ]
    return [*drivers, *nodes]


def _no_interface(pod: PodOnNetwork, given: list[str]) -> Ruling:
    return verdict(
        "no_network_interface", pod=pod.name, node=pod.node, devices=", ".join(given[:4])
    )


# -- its characteristics --------------------------------------------------------------------


def characteristics(case: NetworkCase) -> Ruling:
    """Judge whether what was published about the interface is what the pods see."""
    facts: list[Fact] = []
    found: list[Characteristic] = []
    for pod in case.seen.pods:
        nic, ruling = _looked_at(pod, case.seen, control_of(case))
        if pod.device is None or nic is None or ruling:
            return ruling or _unpublished(pod, case.seen)
        compared = compare(pod.device, nic, pod.look)
        found += compared
        facts += [_characteristic(pod, pod.device, one) for one in compared]
    wrong_ones = [one for one in found if one.agreement == "contradicts"]
    if wrong_ones:
        values = (f"{one.name} {one.published}, in the pod {one.seen}" for one in wrong_ones[:3])
        return verdict(
            "contradiction",
            facts,
            provider=obstacles.provider(case.seen),
            names=_names(wrong_ones),
            values="; ".join(values),
        )
    named = [one for one in found if one.name in NAMED]
    published = _names([one for one in named if one.published])
    if not published:
        provider = obstacles.provider(case.seen)
        return verdict("nothing_published", facts, provider=provider, names=", ".join(NAMED))
    agreeing = _names([one for one in found if one.agreement == "agrees"])
    if not agreeing:
        return verdict("not_compared", facts, published=published)
    absent = _names([one for one in named if not one.published])
    more = f"; not published: {absent}" if absent else ""
    return verdict("published_and_true", facts, published=published, agreeing=agreeing, more=more)


def _looked_at(
    pod: PodOnNetwork, seen: Measured, control: Control
) -> tuple[Nic | None, Ruling | None]:
    """Return what a pod sees of its interface or RDMA device, or why this decides."""
    if pod.told:
        nic = pod.look.interfaces.get(pod.told.name)
    else:
        given = devices(pod, control)
        ports = (as_interface(port) for port in pod.look.verbs.ports if port.device in given)
        nic = next(ports, None)
    ruling = wrong(pod, seen, control) if nic is None else None
    by_design = ruling and ruling.reason in ("no_network_interface", "not_recorded")
    return nic, ruling if pod.device or by_design else None


def _unpublished(pod: PodOnNetwork, seen: Measured) -> Ruling:
    if seen.mechanism == "gke":
        return verdict("not_seen")
    provider = obstacles.provider(seen)
    if seen.mechanism == "device_plugin":
        return verdict("nothing_published.plugin", provider=provider, pod=pod.name)
    return verdict("nothing_published.device", provider=provider, pod=pod.name)


def _names(found: list[Characteristic]) -> str:
    return ", ".join(dict.fromkeys(one.name for one in found))


def _characteristic(pod: PodOnNetwork, device: Device, one: Characteristic) -> Fact:
    agreement = f": {one.agreement}" if one.published else ""
    value = f"published {one.published} ({one.attribute})" if one.published else "not published"
    return Fact(
        name=f"{one.name}, {pod.node}{agreement}",
        value=value,
        expected=one.seen or "sysfs in the pod shows none",
        source=f"{device.source}; sysfs in {pod.name}",
    )
