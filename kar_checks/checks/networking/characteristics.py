"""What is published about an interface beside what the pod sees of it, one characteristic each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kar_checks.kit.networks.records import Device, Look, Nic

Agreement = Literal["agrees", "contradicts", "not compared", "not published"]

NAMED = ("type", "bandwidth", "RDMA", "PCI address", "NUMA node")
"""The characteristics that the requirement's text names; others are looked at besides."""
_LAYERS = ("l2", "l3")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?b(?:it)?(?:/s|ps)?)?", re.I)
_MEGABITS = {"": 1e-6, "K": 1e-3, "M": 1.0, "G": 1e3, "T": 1e6}


@dataclass(frozen=True)
class Characteristic:
    """One of them: what is published under which name, what sysfs in the pod shows."""

    name: str
    published: str
    attribute: str
    seen: str
    agreement: Agreement


@dataclass(frozen=True)
class _Rule:
    name: str
    attributes: tuple[str, ...]
    """Last parts of attribute names, the preferred one first."""
    see: Callable[[Nic, Look], str]
    equal: Callable[[Any, str, Nic, Look], bool | None]
    """``None`` if the two cannot be compared."""


def compare(device: Device, nic: Nic, look: Look) -> list[Characteristic]:
    """Return every characteristic, those that the requirement names first."""
    return [_one(rule, device, nic, look) for rule in _RULES]


def _one(rule: _Rule, device: Device, nic: Nic, look: Look) -> Characteristic:
    seen = rule.see(nic, look)
    for wanted in rule.attributes:
        for name, value in device.attributes.items():
            if re.split(r"[/.]", name)[-1].lower() != wanted.lower() or value in ("", None):
                continue
            equal = rule.equal(value, seen, nic, look)
            agreement: Agreement = (
                "not compared" if equal is None else "agrees" if equal else "contradicts"
            )
            return Characteristic(rule.name, _plain(value), name, seen, agreement)
    return Characteristic(rule.name, "", "", seen, "not published")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(nic: Nic, _: Look) -> str:
    if nic.hardware == "32":
        return "infiniband"
    return nic.kind or ("device" if nic.pci else "")


def _same_kind(value: Any, seen: str, _: Nic, __: Look) -> bool | None:
    # Only some virtual kinds name themselves in sysfs; hardware is told by its PCI function. The
    # layer of a network (as GKE publishes it) is no kind of interface.
    if not seen or str(value).lower() in _LAYERS:
        return None
    return str(value).lower() == seen


def _text(value: Any, seen: str, _: Nic, __: Look) -> bool | None:
    return None if not seen else str(value).lower() == seen.lower()


def _numa(value: Any, seen: str, _: Nic, __: Look) -> bool | None:
    # The kernel says -1 where the machine has no NUMA nodes.
    return None if seen in ("", "-1") else str(value) == seen


def _rdma(value: Any, _: str, nic: Nic, look: Look) -> bool | None:
    there = bool(nic.rdma or look.infiniband)
    wanted = value if isinstance(value, bool) else str(value).lower() not in ("false", "")
    return bool(wanted) is there


def _see_rdma(nic: Nic, look: Look) -> str:
    return ", ".join(nic.rdma or look.infiniband) or "none"


def _speed(value: Any, seen: str, _: Nic, __: Look) -> bool | None:
    found = _RATE.fullmatch(str(value).strip())
    if not found or not seen.isdigit():
        return None
    unit = found[2].upper()
    if not unit and float(found[1]) < 1e6:
        return None  # a bare small number: in whatever unit
    return float(found[1]) * _MEGABITS[unit] == float(seen)


_RULES = (
    _Rule("type", ("type", "linkType"), _kind, _same_kind),
    _Rule(
        "bandwidth",
        ("bandwidth", "speed", "linkSpeed", "egressBandwidth"),
        lambda nic, _: nic.speed if nic.speed != "-1" else "",
        _speed,
    ),
    _Rule("RDMA", ("rdma", "rdmaDevice", "rdma-device"), _see_rdma, _rdma),
    _Rule("PCI address", ("pciBusID", "pciAddress", "pci-address"), lambda nic, _: nic.pci, _text),
    _Rule("NUMA node", ("numaNode",), lambda nic, _: nic.numa_node, _numa),
    _Rule("MTU", ("mtu",), lambda nic, _: nic.mtu, _text),
    _Rule("hardware address", ("mac", "macAddress"), lambda nic, _: nic.mac, _text),
)
