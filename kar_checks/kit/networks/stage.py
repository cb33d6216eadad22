"""One network's pods: starting them, asking what they see, and carrying bytes between them."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import Any, cast

from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.networks.attach import Interface, Joined, Network, bare
from kar_checks.kit.networks.dra import allocated, attributes, claim_name, complete_slices
from kar_checks.kit.networks.gke import GkeNetwork
from kar_checks.kit.networks.multus import AttachedNetwork, status_of
from kar_checks.kit.networks.records import (
    Attempt,
    Control,
    Device,
    End,
    Look,
    Nic,
    PodOnNetwork,
    RdmaEnd,
    Refusal,
    Transfer,
    Verbs,
)
from kar_checks.kit.pulse import Watched
from kar_checks.kit.trial import MOST_OUTPUT, Trial, manifest
from kar_checks.model import Reason

PORT = 7054
PROBE = "nic_probe"
MIB = 1 << 20
_PROGRAM = f"/probe/{PROBE}.py"
_REFUSED = 100
"""A number far from those of the pods that run, for the address of the one that does not."""


def pod(
    *,
    name: str,
    role: str,
    group: str,
    image: str,
    probe: str,
    hostname: str = "",
    host_network: bool = False,
) -> Object:
    """Return a probe pod; without a ``hostname`` it avoids nodes with others of its role."""
    return manifest(
        "networks/pod.yaml.j2",
        name=name,
        role=role,
        group=group,
        image=image,
        probe=probe,
        hostname=hostname,
        host_network=host_network,
        # On the host's network nothing listens: it would be open to the outside.
        command=["sleep", "600"]
        if host_network
        else ["python3", "-u", _PROGRAM, "serve", f"{PORT}"],
    )


class Stage:
    """The hands of one network's measurement. ``group`` is the name of all its pods."""

    def __init__(self, trial: Trial, network: Network, group: str) -> None:
        self.trial = trial
        self.network = network
        self._group = group
        self._probe = trial.mount_probe(PROBE)
        self._made: list[tuple[Kind, str]] = []
        self._lock = threading.Lock()

    # -- pods -------------------------------------------------------------------------------

    def control(self, hostname: str) -> Control:
        """Run a pod without the network on a node."""
        joined = Joined(self._body("control", "control", hostname))
        stored = self.trial.wait_pod(self._create(joined), pods.ready)
        return Control(
            pod=str(stored["metadata"]["name"]),
            node=str(stored["spec"]["nodeName"]),
            look=self.look(stored),
        )

    def refused(self, hostname: str, said: threading.Event) -> Refusal:
        """Watch a pod that wants the network on a node that cannot give it.

        ``said`` is set as soon as the scheduler has spoken: up to then nobody else holds anything
        of the network.
        """
        setting = self.trial.number
        try:
            with Watched(self.trial, self._group) as watched:
                body = self._body("refused", "refused", hostname)
                body["metadata"]["labels"].update(watched.labels)
                began = watched.at()
                made = self._create(self.network.join(body, _REFUSED))
                name = str(made["metadata"]["name"])
                watched.expect(made)
                watched.wait(
                    lambda: _decided(watched.latest(name)), setting("networking.bind_seconds")
                )
                said.set()
                pulse = watched.watch(
                    lambda: pods.bound(watched.latest(name)),
                    began,
                    setting("networking.refused_seconds"),
                )
                last = watched.latest(name)
        finally:
            said.set()
        self._keep("refused-pod.json", last)
        return Refusal(
            pod=name,
            node=hostname,
            seconds=round(pulse.ended - pulse.began, 1),
            bound=str(last["spec"].get("nodeName", "")),
            message=_unschedulable(last),
            pulse=pulse,
        )

    def attach(
        self, name: str, number: int, slices: list[Object], hostname: str = ""
    ) -> PodOnNetwork | Attempt:
        """Start a pod on the network and say what became of it.

        Raises:
            HarnessError: it was refused, or can never start for a reason of its own.
        """
        began = time.monotonic()
        joined = self.network.join(self._body(name, "measured", hostname), number)
        last = self._create(joined)
        setting = self.trial.number
        last = self._until(last, pods.bound, setting("networking.bind_seconds"))
        if pods.bound(last):
            last = self._until(last, _has_network, setting("networking.attach_seconds"))
        if not _has_network(last):
            return self._attempt(last, time.monotonic() - began)
        last = self.trial.wait_pod(last, pods.ready)
        told = self.network.interface(self.trial, last)
        self._keep(f"{name}-pod.json", last)
        look = self.look(last)
        if told and self.network.mechanism == "gke" and not told.addresses:
            told = _with_addresses(told, look)
        return PodOnNetwork(
            name=str(last["metadata"]["name"]),
            node=str(last["spec"]["nodeName"]),
            asked=bare(joined.address),
            told=told,
            device=self._device(last, slices),
            look=look,
        )

    def drop(self, name: str) -> None:
        """Remove a pod that did not get onto the network, with what it claimed."""
        full = f"{self._group}-{name}"
        self._remove([one for one in self._made if one[1].startswith(full)])

    def close(self) -> None:
        """Remove everything, so that the next network finds its devices free."""
        self._remove(list(self._made))

    def _remove(self, which: list[tuple[Kind, str]]) -> None:
        # A claim can go only after its pod.
        for kind, name in sorted(which, key=lambda one: one[0] != kinds.POD):
            # What cannot be removed stays registered: the run's cleanup tries again, and tells.
            with suppress(HarnessError):
                self.trial.workspace.delete(kind, name)
            with self._lock:
                self._made.remove((kind, name))

    def _body(self, name: str, role: str, hostname: str) -> Object:
        return pod(
            name=f"{self._group}-{name}",
            role=role,
            group=self._group,
            image=self.trial.workspace.target.image("python"),
            probe=self._probe,
            hostname=hostname,
        )

    def _create(self, joined: Joined) -> Object:
        for kind, body in [*joined.objects, (kinds.POD, joined.pod)]:
            stored = self.trial.workspace.create(kind, body)
            with self._lock:
                self._made.append((kind, str(stored["metadata"]["name"])))
        return stored

    def _until(self, last: Object, goal: Any, seconds: float) -> Object:
        """Wait for a state of a pod; returns the last one, whether it came to that or not."""
        try:
            return self.trial.wait_pod(last, goal, seconds=seconds)
        except HarnessError as error:
            if error.fault.reason not in (Reason.TIMEOUT, Reason.NO_ROOM):
                raise
        return self.trial.cluster.get(kinds.POD, last["metadata"]["name"], self.trial.namespace)

    def _attempt(self, last: Object, seconds: float) -> Attempt:
        name = str(last["metadata"]["name"])
        found = self.trial.cluster.list(
            kinds.EVENT,
            self.trial.namespace,
            fields=f"involvedObject.kind=Pod,involvedObject.name={name},type=Warning",
        ).items
        events = [f"{one.get('reason')}: {one.get('message', '')}" for one in found]
        self._keep(f"{name}-events.json", found)
        return Attempt(
            pod=name,
            node=str(last["spec"].get("nodeName", "")),
            state=pods.describe(last),
            scheduler=_unplaced(last),
            events=list(dict.fromkeys(events))[-4:],
            seconds=round(seconds, 1),
            held=self.trial.holders(last),
        )

    def _device(self, stored: Object, slices: list[Object]) -> Device | None:
        """Return what was published about the pod's device before the pod was there."""
        if isinstance(self.network, AttachedNetwork):
            return self._attached_device(self.network, stored)
        if isinstance(self.network, GkeNetwork):
            return self._described(self.network)
        if self.network.mechanism != "dra":
            return None
        name = claim_name(stored)
        claim = self.trial.cluster.get(kinds.RESOURCE_CLAIM, name, self.trial.namespace)
        self._keep(f"{name}-claim.json", claim)
        where = allocated(claim)
        for one in complete_slices(slices):
            for device in one["spec"].get("devices") or []:
                if where == (one["spec"]["driver"], one["spec"]["pool"]["name"], device["name"]):
                    return Device(
                        name=str(device["name"]),
                        attributes=attributes(device),
                        source=f"ResourceSlice {one['metadata']['name']}, read before the claim",
                    )
        return None

    def _attached_device(self, network: AttachedNetwork, stored: Object) -> Device:
        """Return what the definition and the network-status annotation publish."""
        found = next((one for one in status_of(stored) if one.get("name") == network.name), {})
        return Device(
            name=network.definition,
            attributes={**network.published, **_flat(found.get("device-info") or {})},
            source=f"NetworkAttachmentDefinition {network.name}",
        )

    def _described(self, network: GkeNetwork) -> Device | None:
        """Return what the cluster's own object says about the network, if it could be read."""
        if network.published is None:
            return None
        source = f"Network {network.network} of networking.gke.io and its parameters"
        return Device(name=network.network, attributes=network.published, source=source)

    # -- what pods see ----------------------------------------------------------------------

    def look(self, stored: Object) -> Look:
        """Ask a pod for its interfaces."""
        name = str(stored["metadata"]["name"])
        text = self.trial.output(name, ["python3", _PROGRAM, "look"])
        self.trial.evidence(f"{name}-interfaces.json", text)
        return look_of(json.loads(text))

    def transfer(
        self,
        client: PodOnNetwork,
        server: PodOnNetwork,
        addresses: tuple[str, str],
        mebibytes: float,
        label: str,
    ) -> tuple[Transfer, dict[str, Any]]:
        """Carry bytes from one address to the other and back.

        Returns the record, and what both ends said with their samples, for the figure.
        """
        count = int(mebibytes * MIB)
        seconds = self.trial.number("networking.transfer_seconds")
        order = {
            "from": addresses[0],
            "to": addresses[1],
            "port": PORT,
            "bytes": count,
            "seconds": seconds,
        }
        before = len(self._served(server.name))
        text = self.trial.output(
            client.name,
            ["python3", _PROGRAM, "send", json.dumps(order)],
            seconds=seconds + 10,
        )
        sent = cast("Object", json.loads(text))
        served = self._await_served(server.name, before, hopeless="error" in sent)
        raw = {"client": sent, "server": served}
        self._keep(f"{label}-counters.json", raw)
        record = Transfer(
            bytes=count,
            client=_end(client, sent),
            server=_end(server, served) if served else None,
        )
        return record, raw

    def exchange(self, who: PodOnNetwork, order: Object, label: str) -> RdmaEnd:
        """Let a pod be one end of an exchange over RDMA; the other has to be one meanwhile."""
        text = self.trial.output(
            who.name,
            ["python3", _PROGRAM, "exchange", json.dumps(order)],
            seconds=order["seconds"] + 10,
        )
        said = cast("Object", json.loads(text))
        self._keep(f"{label}.json", said)
        return RdmaEnd(
            pod=who.name,
            node=who.node,
            on=said["on"],
            argv=said["argv"],
            exit_code=said["exit_code"],
            stdout=said["stdout"][-MOST_OUTPUT:],
            stderr=said["stderr"][-MOST_OUTPUT:],
            quiet=said["quiet"],
            before=said["before"],
            after=said["after"],
        )

    def _await_served(self, name: str, before: int, *, hopeless: bool) -> Object | None:
        """Poll the server's log: it prints after the client has ended."""
        deadline = time.monotonic() + (1 if hopeless else 10)
        while True:
            found = self._served(name)
            if len(found) > before:
                return found[-1]
            if time.monotonic() > deadline or self.trial.cluster.stopping.wait(0.3):
                return None

    def _served(self, name: str) -> list[Object]:
        return [one for one in self.trial.log_lines(name) if one.get("event") == "served"]

    def _keep(self, name: str, found: Any) -> None:
        file = name if name.startswith(self._group) else f"{self._group}-{name}"
        self.trial.evidence(file, json.dumps(found, indent=1))


def look_of(said: Object) -> Look:
    """Return what the probe printed about a pod's interfaces."""
    nics: dict[str, Object] = said["interfaces"]
    return Look(
        interfaces={
            name: Nic(
                mac=one["address"].lower(),
                addresses=one["addresses"],
                mtu=one["mtu"],
                speed=one["speed"],
                operstate=one["operstate"],
                hardware=one["type"],
                kind=one["kind"],
                pci=one["pci"],
                numa_node=one["numa_node"],
                rdma=one["rdma"],
                master=one["master"],
            )
            for name, one in nics.items()
        },
        verbs=Verbs.model_validate(said["verbs"]),
        default=said["default"],
        infiniband=said["infiniband"],
        environment=said["environment"],
        devices=said["devices"],
        drivers=said["drivers"],
    )


def _end(who: PodOnNetwork, said: Object) -> End:
    return End(
        pod=who.name,
        node=who.node,
        local=said.get("local", ""),
        peer=said.get("peer", ""),
        sent=said.get("sent", 0),
        received=said.get("received", 0),
        intact=said.get("intact", False),
        error=said.get("error", ""),
        before=said["before"],
        after=said["after"],
    )


def _has_network(stored: Object) -> bool:
    """Say whether the pod's sandbox and with it its network is made."""
    return pods.is_true(stored, "PodReadyToStartContainers") or pods.ready(stored)


def _decided(found: Object) -> bool:
    return pods.bound(found) or _unschedulable(found) != ""


def _unschedulable(stored: Object) -> str:
    """Return what the scheduler says about a pod that fits nowhere."""
    found = pods.condition(stored, "PodScheduled") or {}
    refused = found.get("status") == "False" and found.get("reason") == "Unschedulable"
    return str(found.get("message", "")) if refused else ""


def _unplaced(stored: Object) -> str:
    """Return why a pod has no node: the scheduler's refusal, or an error that it met."""
    found = pods.condition(stored, "PodScheduled") or {}
    return str(found.get("message", "")) if found.get("status") == "False" else ""


def _with_addresses(told: Interface, look: Look) -> Interface:
    """Return the interface with the addresses that it has in the pod: nobody else tells them."""
    nic = look.interfaces.get(told.name)
    if nic is None or not nic.addresses:
        return told
    source = f"{told.source}; addresses as the pod sees them"
    return told.model_copy(update={"addresses": nic.addresses, "source": source})


def _flat(found: Object, prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names."""
    out: dict[str, Any] = {}
    for key, value in found.items():
        name = f"{prefix}{key}"
        out |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return out
