"""What the throughput trial stores. Rates are bit/s; what is missing is ``None``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kar_checks.kit.networks.attach import Interface
from kar_checks.model import Fault, Observation, Record

POD_NETWORK = "pod network"
BASELINE = "host network"
"""The nodes' own: what they carry without the network of pods."""

Direction = Literal["forward", "reverse", "both"]
Path = Literal["between nodes", "same node"]


class Cell(Record):
    """What is measured in one go: so many streams, in this direction, on this path.

    ``forward`` is from the first node to the second.
    """

    streams: int
    direction: Direction
    path: Path = "between nodes"

    @property
    def name(self) -> str:
        """The cell in words."""
        flows = "1 stream" if self.streams == 1 else f"{self.streams} streams"
        way = {"both": "both ways at once"}.get(self.direction, self.direction)
        return f"{flows} {way}" if self.path == "between nodes" else f"{flows} on one node"


class End(Record):
    """One pod of the measurement, as it described itself, and the node that it ran on."""

    name: str
    """The node that it was made for, or ``beside``: the second pod of the first node."""
    pod: str
    node: str
    zone: str = ""
    instance_type: str = ""
    interface: str = ""
    address: str = ""
    """What was measured, as the pod found it; empty if it has none on the network."""
    mtu: int | None = None
    iperf3: str = ""
    cores: int = 0


class TcpRun(Record):
    """One run of iperf3 with TCP."""

    cell: Cell
    repeat: int
    judged: bool
    """It is one of the repeats that decide, not measured once beside them."""
    received: float | None = None
    received_back: float | None = None
    """The other direction of a run in both."""
    sent_bytes: int | None = None
    retransmits: int | None = None
    seconds: float | None = None
    intervals: list[tuple[float, float]] = []
    """(end of the interval in seconds after the warm-up, bit/s) as the client saw it."""
    sender_cpu: float | None = None
    """Percent of one core that iperf3 used on the sending side."""
    throttled: int | None = None
    """How often the kernel throttled the sender's container; ``None`` where it does not say."""
    iperf3: str = ""
    error: str = ""
    evidence: str = ""
    """The raw JSON, as a path inside the run folder."""


def judged_cells(runs: Iterable[TcpRun]) -> list[Cell]:
    """Return the cells that decide, in an order that does not depend on that of the runs."""
    return sorted({one.cell for one in runs if one.judged}, key=lambda one: one.name)


class UdpRun(Record):
    """One run of iperf3 with UDP at a stated rate."""

    direction: Direction
    repeat: int
    packets: int | None = None
    lost: int | None = None
    jitter_ms: float | None = None
    sent: float | None = None
    """bit/s: the packets over the seconds that were planned."""
    overrun: int | None = None
    """Of the lost ones: those that reached the receiving pod and found iperf3's buffer full."""
    error: str = ""
    evidence: str = ""


class LatencyRun(Record):
    """Requests over one connection, each after the answer to the one before."""

    repeat: int
    planned: int
    """So many requests were to be made."""
    samples_us: list[float] = []
    error: str = ""


class Whole(Record):
    """Datagrams that must not be fragmented, in one direction."""

    direction: Direction
    mtu: int
    small_arrived: bool
    whole_arrived: bool
    error: str = ""
    """What the sender's kernel said, or why nothing was sent."""


class Mesh(Record):
    """Pairs of nodes, measured in rounds in which no node takes part twice."""

    nodes: list[str]
    of: int
    """How many nodes could have taken part."""
    rounds: int
    all_rounds: int
    """How many rounds every pair takes."""
    planned_pairs: int
    megabits: list[list[int | None]]
    """``[client][server]`` in Mbit/s, by the index of ``nodes``; most of it is ``None``."""
    errors: list[str] = []
    round_seconds: list[float] = []


class Carried(Record):
    """A step whose bytes are known, and what the measured interfaces of both pods counted."""

    step: str
    payload: int
    """Bytes that arrived, without headers."""
    client: int | None
    """Bytes in and out meanwhile; ``None`` if the pod has no such counter."""
    server: int | None


class Unmeasured(Record):
    """Why nothing could be measured on a network that is there."""

    word: str
    text: str
    help: str


class NetworkSeen(Record):
    """All that was measured on one network."""

    secondary: bool = False
    """It is not the network that every pod has, nor the nodes' own."""
    asked: list[str]
    """The two nodes between which it was meant to be measured."""
    ends: list[End]
    """Both pods of the pair, then the one beside the first."""
    told: dict[str, Interface] = {}
    """By node: what the platform says about the interface of its pod on a secondary network."""
    carried: list[Carried] = []
    """Of a secondary network."""
    crossed: int | None = None
    """Bytes between the two nodes, both ways, as the first one's pod counted them in all steps,
    warm-up included; ``None`` if it could not. The mesh comes on top."""
    injected: list[str] = []
    """Containers that the cluster added to pods of ours."""
    cap: float | None = None
    """The most that a run could send, in bit/s, where the user limits the bytes."""
    tcp: list[TcpRun] = []
    udp_rate: float = 0.0
    """What was asked for, in bit/s."""
    udp: list[UdpRun] = []
    latency: list[LatencyRun] = []
    whole: list[Whole] = []
    mesh: Mesh | None = None

    @property
    def judged_tcp(self) -> list[TcpRun]:
        """The runs that decide."""
        return [one for one in self.tcp if one.judged]


class ThroughputObservation(Observation):
    """What the trial saw of every network."""

    trial: str = "throughput"
    seed: int
    networks: dict[str, NetworkSeen | Unmeasured | Fault]
    looked_at: list[str] = []
    """In words, with numbers: where secondary networks were looked for."""
    more: list[str] = []
    """Networks that were found and not measured."""
