"""Finding the secondary networks of a cluster, by what it publishes or by what the user names."""

from __future__ import annotations

from dataclasses import dataclass, field

from kar_checks.checks.networking.attach import Addresses, Network, choose_addresses
from kar_checks.checks.networking.device_plugin import DevicePluginNetwork, network_resources
from kar_checks.checks.networking.dra import (
    DraNetwork,
    class_for,
    devices_of_nodes,
    network_drivers,
)
from kar_checks.checks.networking.multus import AttachedNetwork
from kar_checks.checks.trial import Trial
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.model import Reason

NONE = "none"
_WAYS = "dra:DRIVER, nad:NAMESPACE/NAME, resource:NAME or none"


@dataclass
class Published:
    """What the cluster says about networks, as it was read before anything of ours was there."""

    slices: list[Object] = field(default_factory=list[Object])
    classes: list[Object] = field(default_factory=list[Object])
    definitions: list[Object] = field(default_factory=list[Object])
    nodes: list[Object] = field(default_factory=list[Object])
    looked_at: list[str] = field(default_factory=list[str])
    """In words, with numbers: what was asked, and how much of it is there."""


@dataclass
class Found:
    """The networks to be measured. ``more`` names those that are left to the user's choice."""

    networks: list[Network] = field(default_factory=list[Network])
    more: list[str] = field(default_factory=list[str])
    declared_none: bool = False


def read(trial: Trial) -> Published:
    """Ask the cluster; an API that is not served publishes nothing.

    Raises:
        HarnessError: we may not look, or cannot.
    """
    out = Published(nodes=trial.facts.usable_nodes(trial.workspace.target))
    for kind, into in (
        (kinds.RESOURCE_SLICE, out.slices),
        (kinds.DEVICE_CLASS, out.classes),
        (kinds.NETWORK_ATTACHMENT, out.definitions),
    ):
        into.extend(_all(trial, kind, out.looked_at))
    resources = network_resources(out.nodes)
    told = ", ".join(resources) or "none"
    out.looked_at.append(f"network resources of device plugins on {len(out.nodes)} nodes: {told}")
    return out


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
    resource steers the scheduler, other definitions, and resources that no definition names.

    Raises:
        HarnessError: what is wanted does not exist, or is not of a form that we know.
    """
    if wanted == NONE:
        return Found(declared_none=True)
    every = _candidates(published, addresses)
    if not wanted:
        networks = list(every.values())
        return Found(networks[:most], more=[one.name for one in networks[most:]])
    if wanted not in every:
        form = wanted.partition(":")[0] in ("dra", "nad", "resource")
        there = ", ".join(every) or "none"
        raise HarnessError(
            Reason.API_ERROR,
            f"networking.network={wanted}: "
            + (f"there is no such network; found: {there}" if form else f"it is one of {_WAYS}"),
            "name one that exists, or leave it empty to let them be found",
        )
    return Found([every[wanted]])


def _candidates(published: Published, addresses: Addresses) -> dict[str, Network]:
    out: dict[str, Network] = {}
    for driver in network_drivers(published.slices, published.classes):
        devices = devices_of_nodes(published.slices, driver, published.nodes)
        network = DraNetwork(driver, class_for(driver, published.classes), addresses, devices)
        out[f"dra:{driver}"] = network
    attached = [AttachedNetwork(one, addresses) for one in published.definitions]
    for one in sorted(attached, key=lambda one: (not one.resource, one.name)):
        out[f"nad:{one.name}"] = one
    named = {one.resource for one in attached}
    for resource in network_resources(published.nodes):
        if resource not in named:
            out[f"resource:{resource}"] = DevicePluginNetwork(resource)
    return out


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
