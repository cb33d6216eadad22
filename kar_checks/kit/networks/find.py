"""Finding the secondary networks of a cluster, by what it publishes or by what the user names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import why_unusable
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.networks import gke, inventory, sound
from kar_checks.kit.networks.attach import Addresses, Network, choose_addresses
from kar_checks.kit.networks.device_plugin import (
    DevicePluginNetwork,
    extended_resources,
    network_resources,
)
from kar_checks.kit.networks.dra import (
    DraNetwork,
    class_for,
    complete_slices,
    network_drivers,
)
from kar_checks.kit.networks.multus import AttachedNetwork
from kar_checks.kit.networks.obstacles import unavailable
from kar_checks.kit.networks.offer import Published, devices_left, offer
from kar_checks.kit.networks.records import Measured
from kar_checks.kit.trial import Trial
from kar_checks.model import Outcome, Reason

NONE = "none"
_WAYS = "dra:DRIVER, nad:NAMESPACE/NAME, resource:NAME or none"
_SHARED = ("default", "kube-system")
"""Namespaces whose definitions are meant for everybody."""
_TAINT_RULES = "devicetaintrules"


@dataclass
class Found:
    """The networks to be measured. ``more`` names those that are left to the user's choice."""

    networks: list[Network] = field(default_factory=list[Network])
    more: list[str] = field(default_factory=list[str])
    declared_none: bool = False


def read(trial: Trial) -> Published:
    """Ask the cluster; an API that is not served publishes nothing.

    What cannot be read is left out and named.

    Raises:
        HarnessError: we may not look, or cannot.
    """
    target = trial.workspace.target
    every = trial.facts.nodes or []
    reasons = [(one, why_unusable(one, target)) for one in every]
    out = Published(
        nodes=[one for one, why in reasons if not why],
        others=[(one, why) for one, why in reasons if why],
        namespace=trial.namespace,
        target=target,
    )
    slices = _all(trial, kinds.RESOURCE_SLICE, out.looked_at)
    slices = sound.sift("ResourceSlice", slices, sound.why_not_slice, out.left_out)
    out.slices = inventory.with_rules(_without_gone(slices, every, out.left_out), _rules(trial))
    classes = _all(trial, kinds.DEVICE_CLASS, out.looked_at)
    classes = sound.sift("DeviceClass", classes, sound.why_not_class, out.left_out)
    out.classes = sift_classes(classes, out.slices, out.left_out)
    definitions = _all(trial, kinds.NETWORK_ATTACHMENT, out.looked_at)
    out.definitions = sound.sift(
        "NetworkAttachmentDefinition", definitions, sound.why_not_definition, out.left_out
    )
    resources = network_resources(every)
    told = ", ".join(resources) or "none"
    out.looked_at.append(f"network resources of device plugins on {len(every)} nodes: {told}")
    if gke.pairs(resources):
        out.described = _described(trial)
    return with_holders(trial, out)


def with_holders(trial: Trial, published: Published) -> Published:
    """Return what is published with who holds what of it at the moment."""
    resources = [
        *network_resources(published.every_node),
        *(one.resource for one in _attached(published, Addresses(None)) if one.resource),
        *_named(trial),
    ]
    claims = published.slices or published.classes
    pods = resources or published.definitions
    foreign = trial.workspace.run_id
    return replace(
        published,
        claims=_seen(trial, kinds.RESOURCE_CLAIM, foreign) if claims else [],
        pods=_keep(_seen(trial, kinds.POD, foreign), resources) if pods else [],
    )


def _named(trial: Trial) -> list[str]:
    kind, _, name = trial.profile.text("networking.network").partition(":")
    return [name] if kind == "resource" else []


def _keep(found: list[Object] | None, resources: list[str]) -> list[Object] | None:
    if found is None:
        return None
    return [one for one in found if inventory.uses_networks(one, resources)]


def _seen(trial: Trial, kind: Kind, run_id: str) -> list[Object] | None:
    """Return all objects of a kind that are not of this run; ``None`` if we may not look."""
    if kind.group and not trial.facts.serves(kind.group, kind.version, kind.plural):
        return []
    found = _allowed(trial, kind)
    return None if found is None else inventory.foreign(found, run_id)


def _allowed(trial: Trial, kind: Kind) -> list[Object] | None:
    try:
        return trial.cluster.list(kind).items
    except HarnessError as error:
        if error.fault.reason is not Reason.FORBIDDEN:
            raise
        return None


def _rules(trial: Trial) -> list[Object]:
    """Return the DeviceTaintRules of whichever version is served."""
    group = kinds.RESOURCE_SLICE.group
    served = sorted(one for one in trial.facts.served if one[::2] == (group, _TAINT_RULES))
    if not served:
        return []
    # `v1` sorts before `v1alpha3` and `v1beta2`.
    kind = Kind(group, served[0][1], _TAINT_RULES, "DeviceTaintRule", namespaced=False)
    return _allowed(trial, kind) or []


def _described(trial: Trial) -> dict[str, dict[str, Any]] | None:
    found = [
        _allowed(trial, kind) if trial.facts.serves(kind.group, kind.version, kind.plural) else None
        for kind in (kinds.GKE_NETWORK, kinds.GKE_PARAMETERS)
    ]
    if found[0] is None:
        return None
    return gke.described(found[0], found[1] or [])


def _without_gone(slices: list[Object], nodes: list[Object], left_out: list[str]) -> list[Object]:
    """Leave out what is published for nodes that do not exist any more."""
    known = {str(one["metadata"]["name"]) for one in nodes}

    def why(one: Object) -> str:
        name = str(one["spec"].get("nodeName") or "")
        return f"its node {name} does not exist" if name and name not in known else ""

    return sound.sift("ResourceSlice", slices, why, left_out) if nodes else slices


def sift_classes(classes: list[Object], slices: list[Object], left_out: list[str]) -> list[Object]:
    """Leave out classes that read an attribute of a network driver which some device lacks."""
    devices: dict[str, list[Object]] = {}
    for one in complete_slices(slices):
        mine = devices.setdefault(str(one["spec"]["driver"]), [])
        mine += one["spec"].get("devices") or []
    drivers = network_drivers(slices, [])

    def why(one: Object) -> str:
        for driver in drivers:
            for text in sound.expressions(one):
                name = sound.unpublished(text, driver, devices.get(driver, []))
                if name:
                    return (
                        f"its selector reads the attribute {driver}/{name} without asking whether "
                        "a device has it, and not every one does"
                    )
        return ""

    return sound.sift("DeviceClass", classes, why, left_out)


def _all(trial: Trial, kind: Kind, looked_at: list[str]) -> list[Object]:
    if not trial.facts.serves(kind.group, kind.version, kind.plural):
        looked_at.append(f"{kind.kind} of {kind.group}/{kind.version}: not served")
        return []
    found = trial.cluster.list(kind).items
    looked_at.append(f"{kind.kind} of {kind.group}/{kind.version}: {len(found)}")
    return found


def choose(published: Published, wanted: str, addresses: Addresses, most: int) -> Found:
    """Return the networks to be measured: the one that is wanted, or at most ``most`` found ones.

    DRA drivers come first, since they are what the programme recommends; then definitions whose
    resource steers the scheduler, other definitions, and resources that no definition names. Those
    of which nothing is left for us come last.

    Raises:
        HarnessError: what is wanted does not exist, or is not of a form that we know.
    """
    if wanted == NONE:
        return Found(declared_none=True)
    every = _candidates(published, addresses)
    if not wanted:
        networks = sorted(every.values(), key=lambda one: _in_vain(offer(one, published)))
        return Found(networks[:most], more=[one.name for one in networks[most:]])
    if gke.PREFIX in wanted:
        wanted = wanted.removesuffix(gke.ADDRESSES)
    form, _, name = wanted.partition(":")
    unnamed = form == "resource" and name in extended_resources(published.every_node)
    if wanted not in every and unnamed:
        return Found([DevicePluginNetwork(name)])
    if wanted not in every:
        known = form in ("dra", "nad", "resource")
        there = ", ".join(every) or "none"
        broken = next((one for one in published.left_out if f" {name}: " in one), "")
        raise HarnessError(
            Reason.API_ERROR,
            f"networking.network={wanted}: "
            + (
                f"it cannot be used. {broken}"
                if known and broken
                else f"there is no such network; found: {there}"
                if known
                else f"it is one of {_WAYS}"
            ),
            "name one that exists, or leave it empty to let them be found",
        )
    return Found([every[wanted]])


def _in_vain(seen: Measured) -> bool:
    """Say whether a network is there, and nothing of it for us: others may be of more use."""
    ruling = unavailable(seen)
    return ruling is not None and ruling.outcome is Outcome.INCONCLUSIVE


def _candidates(published: Published, addresses: Addresses) -> dict[str, Network]:
    out: dict[str, Network] = {}
    for driver in network_drivers(published.slices, published.classes):
        out[f"dra:{driver}"] = DraNetwork(
            driver,
            class_for(driver, published.classes),
            addresses,
            devices_left(published, driver),
            _tolerations(published, driver),
        )
    attached = _attached(published, addresses)
    # Definitions of other tenants last: pods of ours may be kept from them.
    shared = (published.namespace, *_SHARED)
    for one in sorted(
        attached, key=lambda one: (not one.resource, one.namespace not in shared, one.name)
    ):
        out[f"nad:{one.name}"] = one
    resources = network_resources(published.every_node)
    for name, pair in gke.pairs(resources).items():
        described = published.described
        about = None if described is None else described.get(name, {})
        network = gke.GkeNetwork(name, pair, about)
        out[f"resource:{network.name}"] = network
    named = {one.resource for one in attached}
    for resource in resources:
        if resource not in named and not resource.startswith(gke.PREFIX):
            out[f"resource:{resource}"] = DevicePluginNetwork(resource)
    return out


def _attached(published: Published, addresses: Addresses) -> list[AttachedNetwork]:
    return [AttachedNetwork(one, addresses) for one in published.definitions]


def _tolerations(published: Published, driver: str) -> list[Object]:
    """Return the user's tolerations where devices have taints; a claim has its own."""
    tainted = any(
        device.get("taints")
        for one in published.slices
        if one["spec"]["driver"] == driver
        for device in one["spec"].get("devices") or []
    )
    return [one.object() for one in published.target.tolerations] if tainted else []


def find(trial: Trial, published: Published) -> Found:
    """Choose by the settings ``networking.network``, ``.subnet`` and ``.most_networks``.

    Raises:
        HarnessError: a setting names what does not exist, or is of no form that we know.
    """
    try:
        addresses = choose_addresses(
            trial.profile.text("networking.subnet"), trial.workspace.run_id
        )
    except ValueError as error:
        raise HarnessError(
            Reason.API_ERROR,
            f"networking.subnet: {error}",
            "give a network such as 198.18.4.0/22, `keep`, or nothing",
        ) from error
    wanted = trial.profile.text("networking.network")
    return choose(published, wanted, addresses, int(trial.number("networking.most_networks")))
