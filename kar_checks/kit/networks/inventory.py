"""What a network's devices are, who holds them, and what is left for pods of ours. Pure.

A device of a DRA driver is held from the moment that a claim has it, an extended resource from the
moment that a pod that asks for it has a node. A driver may take a held interface off its list,
since it is no longer the node's: then only the claim tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from kar_checks.cluster import capacity, pods, quantity
from kar_checks.cluster.client import Object
from kar_checks.cluster.target import RUN_LABEL, Target
from kar_checks.kit.networks.dra import (
    Key,
    complete_slices,
    devices_of_nodes,
    key_of,
    reaches,
)
from kar_checks.kit.networks.multus import NETWORKS, status_of
from kar_checks.kit.networks.records import Held

_KEEPS_OFF = ("NoSchedule", "NoExecute")
_NOTHING = Decimal(0)
Amounts = dict[tuple[str, str], Decimal]
"""By counter set and counter."""


def foreign(found: Iterable[Object], run_id: str) -> list[Object]:
    """Return the objects that are not of this run."""
    return [one for one in found if (one["metadata"].get("labels") or {}).get(RUN_LABEL) != run_id]


# -- devices of DRA drivers -----------------------------------------------------------------


def results_of(claim: Object, driver: str) -> list[Object]:
    """Return what a claim got of a driver; access for administrators takes nothing away."""
    status: Object = claim.get("status") or {}
    devices: Object = (status.get("allocation") or {}).get("devices") or {}
    found: list[Object] = devices.get("results") or []
    return [one for one in found if one.get("driver") == driver and not one.get("adminAccess")]


def holders(claims: Iterable[Object], driver: str) -> dict[Key, list[str]]:
    """Return who holds each device of a driver, in words."""
    out: dict[Key, list[str]] = {}
    for claim in claims:
        for result in results_of(claim, driver):
            key = (driver, str(result.get("pool", "")), str(result.get("device", "")))
            out.setdefault(key, []).append(claim_in_words(claim))
    return out


def claim_in_words(claim: Object) -> str:
    """Name a claim and the pods that use it."""
    meta = claim["metadata"]
    reserved: list[Object] = (claim.get("status") or {}).get("reservedFor") or []
    users = ", ".join(f"{one.get('resource', 'pods')[:-1]} {one.get('name')}" for one in reserved)
    return f"claim {meta.get('namespace')}/{meta['name']} ({users or 'no pod uses it now'})"


def spoken_for(
    slices: Iterable[Object], driver: str, claims: Iterable[Object], target: Target
) -> set[Key]:
    """Return the devices that no claim of ours can get: held, used up or tainted.

    Devices may be parts of one, which take from counters that they share; and one that several
    claims may have at a time has a capacity, which a claim that asks for none of it takes as a
    whole, or as much as the device's policy gives by default.
    """
    every = [one for one in complete_slices(slices) if one["spec"]["driver"] == driver]
    taken = [(claim, one) for claim in claims for one in results_of(claim, driver)]
    out = {key_of(driver, one) for _, one in taken if not one.get("shareID")}
    totals, used = _counters(every, out)
    shares = _shares(one for _, one in taken)
    for one in every:
        pool = str(one["spec"]["pool"]["name"])
        for device in one["spec"].get("devices") or []:
            key = (driver, pool, str(device["name"]))
            short = any(
                totals.get(pool, {}).get(counter, _NOTHING)
                - used.get(pool, {}).get(counter, _NOTHING)
                < amount
                for counter, amount in _consumed(device).items()
            )
            if short or _full(device, shares.get(key, {})) or taint_of(device, target):
                out.add(key)
    return out


def _counters(
    slices: Iterable[Object], taken: set[Key]
) -> tuple[dict[str, Amounts], dict[str, Amounts]]:
    """Return what each pool has of its counters, and what taken devices use of them."""
    totals: dict[str, Amounts] = {}
    used: dict[str, Amounts] = {}
    for one in slices:
        spec = one["spec"]
        pool = str(spec["pool"]["name"])
        for counters in spec.get("sharedCounters") or []:
            for name, each in (counters.get("counters") or {}).items():
                key = (str(counters.get("name")), str(name))
                totals.setdefault(pool, {})[key] = _amount(each)
        for device in spec.get("devices") or []:
            if (str(spec["driver"]), pool, str(device["name"])) in taken:
                mine = used.setdefault(pool, {})
                for key, amount in _consumed(device).items():
                    mine[key] = mine.get(key, _NOTHING) + amount
    return totals, used


def _consumed(device: Object) -> Amounts:
    return {
        (str(one.get("counterSet")), str(name)): _amount(each)
        for one in device.get("consumesCounters") or []
        for name, each in (one.get("counters") or {}).items()
    }


def _shares(results: Iterable[Object]) -> dict[Key, dict[str, Decimal]]:
    """Return how much of each shared device's capacity is consumed."""
    out: dict[Key, dict[str, Decimal]] = {}
    for one in results:
        if one.get("shareID"):
            mine = out.setdefault(key_of(str(one["driver"]), one), {})
            for name, amount in (one.get("consumedCapacity") or {}).items():
                mine[name] = mine.get(name, _NOTHING) + _amount({"value": amount})
    return out


def _full(device: Object, consumed: Mapping[str, Decimal]) -> bool:
    """Say whether a shared device has too little left for a claim that asks for no amount."""
    for name, one in (device.get("capacity") or {}).items():
        whole = _amount(one)
        usual = (one.get("requestPolicy") or {}).get("default")
        wanted = whole if usual is None else _amount({"value": usual})
        if consumed.get(name, _NOTHING) and consumed[name] + wanted > whole:
            return True
    return False


def _amount(one: Object) -> Decimal:
    return quantity.parse_or_none(str(one.get("value", 0))) or _NOTHING


def taint_of(device: Object, target: Target) -> str:
    """Return a taint of a device that keeps it from our claims; empty if there is none."""
    for one in device.get("taints") or []:
        if one.get("effect") in _KEEPS_OFF and not target.tolerates(one):
            value = f"={one['value']}" if one.get("value") else ""
            return f"{one.get('key')}{value}:{one['effect']}"
    return ""


def tainted(
    slices: Iterable[Object], driver: str, nodes: Iterable[Object], target: Target
) -> dict[str, str]:
    """Return the devices of nodes that a taint keeps from our claims, each with its taint."""
    every = list(nodes)
    out: dict[str, str] = {}
    for one in complete_slices(slices):
        spec = one["spec"]
        for device in (spec.get("devices") or []) if spec["driver"] == driver else []:
            where = device if spec.get("perDeviceNodeSelection") else spec
            if (taint := taint_of(device, target)) and any(reaches(where, each) for each in every):
                out[f"{device['name']} of pool {spec['pool']['name']}"] = taint
    return out


def with_rules(slices: list[Object], rules: Iterable[Object]) -> list[Object]:
    """Return the slices with the taints that DeviceTaintRules add to devices."""
    specs: list[Object] = [one.get("spec") or {} for one in rules]
    # An empty selector means every device, none at all means none.
    found = [
        (dict(one["deviceSelector"]), one["taint"])
        for one in specs
        if one.get("taint") and one.get("deviceSelector") is not None
    ]
    if not found:
        return slices
    out: list[Object] = []
    for one in slices:
        spec = one["spec"]
        devices: list[Object] = []
        for device in spec.get("devices") or []:
            own = {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": device["name"]}
            more = [
                taint
                for wanted, taint in found
                if all(own.get(key) == value for key, value in wanted.items() if key in own)
            ]
            devices.append({**device, "taints": [*(device.get("taints") or []), *more]})
        out.append({**one, "spec": {**spec, "devices": devices}})
    return out


def held_of_driver(
    slices: Iterable[Object], driver: str, claims: Iterable[Object], nodes: Iterable[Object]
) -> list[Held]:
    """Return the devices on these nodes that claims hold, published at the moment or not."""
    known = list(claims)
    every = list(nodes)
    places = _places(slices, driver, every)
    out: dict[Key, Held] = {}
    for key, by in holders(known, driver).items():
        node = places.get(key) or _node_of(key, known, every)
        if node:
            out[key] = Held(what=f"device {key[2]} of pool {key[1]}", node=node, by=by)
    return list(out.values())


def _places(slices: Iterable[Object], driver: str, nodes: list[Object]) -> dict[Key, str]:
    out: dict[Key, str] = {}
    for one in complete_slices(slices):
        spec = one["spec"]
        for device in (spec.get("devices") or []) if spec["driver"] == driver else []:
            where = device if spec.get("perDeviceNodeSelection") else spec
            near = [str(each["metadata"]["name"]) for each in nodes if reaches(where, each)]
            if len(near) == 1:
                out[(driver, str(spec["pool"]["name"]), str(device["name"]))] = near[0]
    return out


def _node_of(key: Key, claims: Iterable[Object], nodes: list[Object]) -> str:
    """Return the node of a held device that is not published, by its claim or its pool's name."""
    for claim in claims:
        if key in {key_of(key[0], one) for one in results_of(claim, key[0])}:
            where: Object = claim["status"]["allocation"].get("nodeSelector") or {}
            near = [
                str(one["metadata"]["name"])
                for one in nodes
                if where and reaches({"nodeSelector": where}, one)
            ]
            if len(near) == 1:
                return near[0]
    return key[1] if key[1] in {str(one["metadata"]["name"]) for one in nodes} else ""


def without_interface(slices: Iterable[Object], driver: str, nodes: Iterable[Object]) -> list[str]:
    """Return a driver's devices on nodes, if it publishes no interface of any, up or down."""
    every = list(nodes)
    if devices_of_nodes(slices, driver, every):
        return []
    near = [
        (spec, device)
        for one in complete_slices(slices)
        if (spec := one["spec"])["driver"] == driver
        for device in spec.get("devices") or []
        if any(
            reaches(device if spec.get("perDeviceNodeSelection") else spec, node) for node in every
        )
    ]
    names = {name.rpartition("/")[2] for _, one in near for name in one.get("attributes") or {}}
    if "ifName" in names:
        return []
    return [f"{device['name']} of pool {spec['pool']['name']}" for spec, device in near]


# -- extended resources ---------------------------------------------------------------------


def offered(node: Object, resource: str) -> Decimal:
    """Return how much of an extended resource a node offers."""
    told = ((node.get("status") or {}).get("allocatable") or {}).get(resource, 0)
    return quantity.parse_or_none(str(told)) or _NOTHING


def held_of_resource(
    resource: str, nodes: Iterable[Object], on_nodes: Iterable[Object]
) -> dict[str, tuple[Decimal, Held | None]]:
    """Return for each node that offers a resource how much is left, and who holds what of it."""
    users: dict[str, list[tuple[str, Decimal]]] = {}
    for pod in on_nodes:
        amount = capacity.request(pod, resource)
        if amount and pods.phase(pod) not in ("Succeeded", "Failed") and pods.bound(pod):
            meta = pod["metadata"]
            name = f"pod {meta.get('namespace')}/{meta['name']} ({amount})"
            users.setdefault(str(pod["spec"]["nodeName"]), []).append((name, amount))
    out: dict[str, tuple[Decimal, Held | None]] = {}
    for node in nodes:
        whole = offered(node, resource)
        if not whole:
            continue
        name = str(node["metadata"]["name"])
        mine = users.get(name, [])
        used = sum((amount for _, amount in mine), _NOTHING)
        what = f"{used:f} of {whole:f} {resource}"
        held = Held(what=what, node=name, by=[one for one, _ in mine]) if mine else None
        out[name] = whole - used, held
    return out


def attached_pods(network: str, on_nodes: Iterable[Object]) -> list[Held]:
    """Return the pods that are on the network of a NetworkAttachmentDefinition."""
    out: dict[str, list[str]] = {}
    for pod in on_nodes:
        node = str((pod.get("spec") or {}).get("nodeName") or "")
        if not node or pods.phase(pod) in ("Succeeded", "Failed"):
            continue
        if any(one.get("name") == network for one in status_of(pod)):
            meta = pod["metadata"]
            out.setdefault(node, []).append(f"pod {meta.get('namespace')}/{meta['name']}")
    return [Held(what=f"an interface of {network}", node=node, by=by) for node, by in out.items()]


def uses_networks(pod: Object, resources: Iterable[str]) -> bool:
    """Say whether a pod has to do with secondary networks, by an annotation or by a resource."""
    if NETWORKS in (pod["metadata"].get("annotations") or {}):
        return True
    return any(capacity.request(pod, one) for one in resources)
