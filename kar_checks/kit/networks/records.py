"""What is stored of a network and its pods. Times are seconds after the start of their part."""

from __future__ import annotations

from typing import Any

from kar_checks.kit.networks.attach import Interface, Mechanism
from kar_checks.kit.pulse import Pulsed
from kar_checks.model import Fault, Record

Bytes = dict[str, tuple[int, int]]
"""[received, sent] bytes that each interface, or RDMA port, has counted."""


class Nic(Record):
    """An interface as a pod sees it in sysfs; texts are the files', empty where there is none."""

    mac: str
    addresses: list[str]
    mtu: str
    speed: str
    """Mbit/s; ``-1`` or empty if the driver does not know."""
    operstate: str
    hardware: str
    """ARP hardware type: 1 is Ethernet, 32 InfiniBand."""
    kind: str
    """What its driver calls it (macvlan, vlan, …); empty for hardware."""
    pci: str
    """Address of the PCI function behind it."""
    numa_node: str
    rdma: list[str]
    """RDMA devices of the same function."""
    master: str = ""


class Gid(Record):
    """An address of an RDMA port, by its index in the port's table."""

    index: int
    gid: str
    type: str
    """``RoCE v2``, or ``IB/RoCE v1``."""


class RdmaPort(Record):
    """A port of an RDMA device that a pod was given; texts are those of sysfs."""

    device: str
    port: str
    openable: bool
    """Whether the pod's user may open the device's node under ``/dev/infiniband``."""
    link_layer: str
    """InfiniBand or Ethernet (RoCE)."""
    state: str
    pci: str
    numa_node: str
    gids: list[Gid]

    @property
    def name(self) -> str:
        """Tells it from the pod's other ports."""
        return f"{self.device}/{self.port}"


class Verbs(Record):
    """What a pod has for RDMA."""

    program: str = ""
    """Where ib_write_bw is; empty if the image has none."""
    locked_memory: int = 0
    """Bytes that a process may lock; -1 is no limit."""
    ports: list[RdmaPort] = []


class Look(Record):
    """What a pod sees."""

    interfaces: dict[str, Nic]
    default: str
    """The interface of the default route."""
    infiniband: list[str] = []
    """Names under ``/dev/infiniband``."""
    environment: dict[str, str] = {}
    """Variables by which device plugins name devices."""
    devices: list[str] | None = None
    """Device nodes under ``/dev``; ``None`` in runs of version 0.1, which did not look."""
    drivers: dict[str, str] = {}
    """By PCI address: the kernel's driver of each device that ``environment`` names."""
    verbs: Verbs = Verbs()


class Device(Record):
    """What the cluster publishes about the device that a pod got, as it was before the claim."""

    name: str
    attributes: dict[str, Any]
    source: str


class PodOnNetwork(Record):
    """A pod that runs on the network."""

    name: str
    node: str
    asked: str
    """The address that we gave it; empty if the network does."""
    told: Interface | None
    device: Device | None
    look: Look


class Attempt(Record):
    """A pod that did not get onto the network."""

    pod: str
    node: str
    """Empty if no scheduler gave it one."""
    state: str
    scheduler: str
    """What the scheduler said."""
    events: list[str]
    seconds: float
    held: str = ""
    """Who holds the room on nodes, where that is what it lacks; version 0.1 did not look."""


class Control(Record):
    """A pod like the others, only without the network."""

    pod: str
    node: str
    look: Look


class Refusal(Record):
    """A pod that wants the network, pinned to a node that cannot give it."""

    pod: str
    node: str
    seconds: float
    """How long it was watched."""
    bound: str
    """The node that it got, if any."""
    message: str
    """What the scheduler said of it."""
    pulse: Pulsed | None = None
    """What proves that API server, watch and scheduler worked; not recorded by version 0.1."""


class End(Record):
    """One end of a transfer."""

    pod: str
    node: str
    local: str
    peer: str
    sent: int
    received: int
    intact: bool
    error: str
    before: Bytes
    after: Bytes


class Transfer(Record):
    """Bytes from one pod to the other and as many back, over one connection."""

    bytes: int
    client: End
    server: End | None
    """``None`` if no connection came to the server."""


class RdmaEnd(Record):
    """One end of an exchange over RDMA; its port is counted beside the interfaces."""

    pod: str
    node: str
    on: str
    """The port, as :attr:`RdmaPort.name`."""
    argv: list[str]
    exit_code: int | None
    """``None`` if the program did not end in time, or could not be started."""
    stdout: str
    stderr: str
    before: Bytes
    quiet: Bytes
    """A second after ``before``, when the program was started."""
    after: Bytes


class Exchange(Record):
    """Messages that two pods write into each other's memory at the same time."""

    size: int
    """Bytes of a message."""
    count: int
    """Messages each way."""
    gids: str
    """The kind of GIDs that was used; empty on InfiniBand, which needs none."""
    ends: tuple[RdmaEnd, RdmaEnd]

    @property
    def bytes(self) -> int:
        """Return how many bytes go each way."""
        return self.size * self.count


class Problem(Record):
    """Why the network could not be measured, or not in part."""

    reason: str
    text: str
    help: str = ""
    broken: bool = False
    """The network was found, and cannot be used."""


class Elsewhere(Record):
    """A node that has the network, or may have it, and that pods of ours may not use."""

    node: str
    why: str
    """In words."""
    taints: list[str] = []
    """Those that nothing tolerates, in the form that ``--toleration`` takes; empty if a taint is
    not the reason."""


class Held(Record):
    """Something of a network that others have."""

    what: str
    node: str
    by: list[str]
    """Claims or pods, by namespace and name."""


class Measured(Record):
    """One network."""

    mechanism: Mechanism
    steers: bool
    """Whether pods that want it are placed by what nodes offer."""
    resource: str = ""
    """The extended resource that steers the scheduler, if it is one."""
    offered: str
    """What gives it to pods, in words."""
    capable: list[str]
    """Nodes that offer it, by what the cluster publishes."""
    incapable: list[str]
    free: list[str] | None = None
    """The capable nodes that have something left for us, as far as could be seen. Without any,
    nothing was started. ``None`` in runs of version 0.1, which did not look."""
    held: list[Held] | None = None
    """``None`` if it could not be seen."""
    elsewhere: list[Elsewhere] = []
    bare: list[str] = []
    """Devices that the driver publishes without an interface, where it publishes none with one."""
    tainted: dict[str, str] = {}
    """Devices that a taint of their own keeps from our claims, with this taint."""
    unfinished: list[str] = []
    """Pools of which the driver has not published every slice."""
    refused: Fault | None = None
    """A policy let in the pod without the network, and not the same pod with it."""
    control: Control | None = None
    pods: list[PodOnNetwork] = []
    attempts: list[Attempt] = []
    refusal: Refusal | Fault | None = None
    transfer: Transfer | None = None
    plain: Transfer | None = None
    """The same pods over the pod network: shows that the probe and eth0's counters work."""
    exchange: Exchange | None = None
    """Over the pods' RDMA devices, where the network has no address."""
    problem: Problem | None = None
