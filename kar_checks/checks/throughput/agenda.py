"""What is measured, in which order, and what it costs: from the settings of the profile alone."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from kar_checks.checks.throughput.observation import Cell, Direction, Path
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.topic import Cost
from kar_checks.model import Reason, Record
from kar_checks.profile import Profile, names

_CELL = re.compile(r"(\d+) (forward|reverse|both|same-node)")
_MOST_STREAMS = 128
INTERVALS = 10
"""So many intervals of each run are kept; iperf3's own limit of them is a tenth of a second."""
UDP_SECONDS = 1
UDP_BYTES = 1200
"""Fits into the MTU of every network, tunnels included."""
_LATENCY_SECONDS = 10
LATENCY_BYTES = 64
_LEAST_PACE = 1e6
"""bit/s; slower runs of seconds would measure the granularity of what iperf3 writes."""
_TRIED = 4
"""Where nothing tells which nodes have a network, so many are tried for a pair."""
_START_SECONDS = 8
_OVERHEAD = 0.2
"""Seconds between two runs of iperf3: connecting, exchanging results."""
RESERVE = 2.0
"""Times the estimate, after which measuring is given up."""
_SMALL = 500
"""Bytes of a datagram that passes everywhere: the control of one as large as the MTU."""

Step = dict[str, Any]


class Estimate(Record):
    """What measuring one network costs at most."""

    seconds: float
    bytes: float
    paced: bool
    """The bytes are a limit that is kept; otherwise they rest on a guess of the link's speed."""
    rounds: int
    """Of the mesh."""


@dataclass(frozen=True)
class Planned:
    """One step with what it stands for."""

    cell: Cell
    repeat: int
    judged: bool

    @property
    def step(self) -> str:
        """The id of its step, by which its raw file is found, too."""
        number = f"/{self.repeat + 1}" if self.judged else ""
        return f"tcp/{self.cell.name.replace(' ', '-')}{number}"


def cells(text: str) -> list[Cell]:
    """Read ``4 forward, 8 both, 4 same-node``.

    Raises:
        HarnessError: one is not of that form.
    """
    found: list[Cell] = []
    for part in names(text):
        match = _CELL.fullmatch(part)
        if not match or not 1 <= int(match[1]) <= _MOST_STREAMS:
            raise HarnessError(
                Reason.UNUSABLE_SETTING,
                f"throughput cells are like `4 forward, 8 both, 4 same-node`, not {part}",
            )
        same = match[2] == "same-node"
        direction = cast("Direction", "forward" if same else match[2])
        path: Path = "same node" if same else "between nodes"
        found.append(Cell(streams=int(match[1]), direction=direction, path=path))
    return list(dict.fromkeys(found))


class Agenda:
    """The measurements of one network of so many nodes. ``pair`` are the names of two agents.

    Raises:
        HarnessError: the settings cannot be used, or leave nothing to measure.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        wanted: frozenset[str],
        *,
        nodes: int,
        same_node: bool = True,
    ) -> None:
        self._profile = profile
        self.seed = seed
        self._wanted = wanted
        self._same_node = same_node
        self._random = random.Random(seed)  # noqa: S311 - an order, no secret
        self._members = min(nodes, max(2, int(self._number("mesh_nodes"))))
        self.tcp = self._tcp() if "throughput.tcp" in wanted else []
        self.cap = self._cap()
        """The most that all streams of a run may send in bit/s; ``None`` without a limit."""

    def _number(self, name: str) -> float:
        return self._profile.number(f"throughput.{name}")

    def _tcp(self) -> list[Planned]:
        text = self._profile.text
        repeats = int(self._number("repeats"))
        judged = cells(text("throughput.cells"))
        if not judged or repeats < 1:
            raise HarnessError(
                Reason.UNUSABLE_SETTING,
                "throughput.cells and throughput.repeats leave nothing to measure",
            )
        found = [Planned(cell, number, True) for cell in judged for number in range(repeats)]
        found += [Planned(cell, 0, False) for cell in cells(text("throughput.side_cells"))]
        if not self._same_node:
            found = [one for one in found if one.cell.path != "same node"]
        self._random.shuffle(found)
        return found

    @property
    def mesh_seconds(self) -> int:
        """Seconds of one round, without what connecting takes."""
        return max(1, int(self._number("mesh_seconds")))

    def _cap(self) -> float | None:
        limit = self._number("max_bytes")
        if not limit:
            return None
        left = limit - self._latency_bytes
        cap = 8 * left / max(1.0, self._tcp_seconds + self._udp_runs * UDP_SECONDS)
        if cap < _LEAST_PACE:
            raise HarnessError(
                Reason.UNUSABLE_SETTING,
                f"throughput.max_bytes={limit:g} leaves {cap / 1e6:.3g} Mbit/s for a run",
                "allow more bytes, or measure less (throughput.cells, throughput.mesh_rounds)",
            )
        return cap

    @property
    def _tcp_seconds(self) -> float:
        """How long something sends; each way of a run in both sends as much."""
        each = self._number("seconds") + self._number("omit_seconds")
        tcp = sum(each * (2 if one.cell.direction == "both" else 1) for one in self.tcp)
        pairs = self.rounds_of(self._members) * (self._members // 2)
        return tcp + (pairs * self.mesh_seconds if "throughput.mesh" in self._wanted else 0)

    @property
    def _udp_runs(self) -> int:
        return 2 * int(self._number("udp_repeats")) if "throughput.udp" in self._wanted else 0

    @property
    def udp_rate(self) -> float:
        """What a run with UDP sends, in bit/s."""
        return min(self._number("udp_mbit") * 1e6, self.cap or math.inf)

    @property
    def _latency_bytes(self) -> float:
        if "throughput.latency" not in self._wanted:
            return 0.0
        count = self._number("latency_samples") * self._number("latency_repeats")
        return count * 2 * LATENCY_BYTES

    def rounds_of(self, nodes: int) -> int:
        """Return how many rounds of the tournament of so many nodes are played."""
        return min(all_rounds(nodes), int(self._number("mesh_rounds")))

    def mesh_nodes(self, names: Sequence[str], pair: Sequence[str]) -> list[str]:
        """Draw the nodes of the mesh; the pair is always among them."""
        if "throughput.mesh" not in self._wanted:
            return list(pair)
        rest = [one for one in names if one not in pair]
        if len(rest) > self._members - 2:
            rest = self._random.sample(rest, self._members - 2)
        return sorted([*pair, *rest])

    def candidates(self, names: Sequence[str]) -> list[str]:
        """Draw the nodes on which it is tried whether pods get onto the network."""
        most = self._members if "throughput.mesh" in self._wanted else _TRIED
        return self._random.sample(sorted(names), min(most, len(names)))

    def choose_pair(self, zones: dict[str, str]) -> list[str]:
        """Return the two nodes that the user named, or two by the seed.

        Raises:
            HarnessError: the user named others than two nodes that can be used.
        """
        text = self._profile.text("throughput.nodes")
        if not text:
            return self._random.sample(sorted(zones), 2)
        named = [one.strip() for one in text.split(",")]
        if len(set(named)) != 2 or not set(named) <= set(zones):
            raise HarnessError(
                Reason.UNUSABLE_SETTING,
                f"throughput.nodes needs two of {', '.join(sorted(zones)[:8])}, not {text}",
            )
        return named

    @property
    def estimate(self) -> Estimate:
        """What measuring the network costs."""
        rounds = self.rounds_of(self._members) if "throughput.mesh" in self._wanted else 0
        each = self._number("seconds") + self._number("omit_seconds") + _OVERHEAD
        seconds = _START_SECONDS + len(self.tcp) * each + rounds * (self.mesh_seconds + _OVERHEAD)
        seconds += self._udp_runs * (UDP_SECONDS + _OVERHEAD)
        seconds += self._latency_bytes / (2 * LATENCY_BYTES) * 0.0005
        speed = min(self._number("link_gbit") * 1e9, self.cap or math.inf)
        total = self._tcp_seconds * speed / 8 + self._latency_bytes
        total += self._udp_runs * UDP_SECONDS * self.udp_rate / 8
        paced = self.cap is not None
        return Estimate(seconds=seconds, bytes=total, paced=paced, rounds=rounds)

    # -- the conductor's plan -------------------------------------------------------------------

    def steps(self, pair: Sequence[str]) -> list[Step]:
        """Return what the two agents do, one after the other."""
        first, second = pair
        found: list[Step] = []

        def add(name: str, client: str, server: str, order: Step) -> None:
            found.append({"id": name, "client": client, "server": server, "order": order})

        if "throughput.path_mtu" in self._wanted:
            for way, client, server in (("forward", first, second), ("reverse", second, first)):
                add(
                    f"whole/{way}",
                    client,
                    server,
                    {"do": "datagrams", "sizes": [_SMALL, "mtu"], "seconds": 10},
                )
        if "throughput.latency" in self._wanted:
            for number in range(int(self._number("latency_repeats"))):
                order = {
                    "do": "latency",
                    "count": int(self._number("latency_samples")),
                    "size": LATENCY_BYTES,
                    "warm_up": 50,
                    "seconds": _LATENCY_SECONDS,
                }
                add(f"latency/{number}", first, second, order)
        if "throughput.udp" in self._wanted:
            for number in range(int(self._number("udp_repeats"))):
                for way in ("forward", "reverse"):
                    add(f"udp/{way}/{number}", first, second, self._udp_order(way))
        for one in self.tcp:
            server = "beside" if one.cell.path == "same node" else second
            add(one.step, first, server, self.tcp_order(one.cell))
        return found

    def _udp_order(self, way: str) -> Step:
        args = ["-u", "-b", f"{self.udp_rate:.0f}", "-l", str(UDP_BYTES)]
        args += ["-t", str(UDP_SECONDS), *(["-R"] if way == "reverse" else [])]
        return {"do": "iperf3", "args": args, "seconds": UDP_SECONDS + 10}

    def tcp_order(self, cell: Cell) -> Step:
        """Return what the client of a run does."""
        seconds, omit = int(self._number("seconds")), int(self._number("omit_seconds"))
        args = ["-P", str(cell.streams), "-t", str(seconds), "-O", str(omit)]
        args += ["-i", f"{max(0.1, seconds / INTERVALS):g}"]
        args += {"forward": [], "reverse": ["-R"], "both": ["--bidir"]}[cell.direction]
        if self.cap:
            args += ["-b", f"{self.cap / cell.streams:.0f}"]
        return {"do": "iperf3", "args": args, "seconds": seconds + omit + 15}

    def mesh(self, nodes: Sequence[str]) -> Step:
        """Return the rounds of the mesh; a sample of them is drawn by the seed."""
        whole = all_rounds(len(nodes))
        rounds = sorted(self._random.sample(range(whole), self.rounds_of(len(nodes))))
        args = ["-t", str(self.mesh_seconds), "-i", "0"]
        if self.cap:
            args += ["-b", f"{self.cap:.0f}"]
        order = {"do": "iperf3", "args": args, "seconds": self.mesh_seconds + 10}
        return {"nodes": list(nodes), "rounds": rounds, "order": order}


def all_rounds(nodes: int) -> int:
    """Return how many rounds it takes until each of so many nodes has met each other."""
    return nodes - 1 if nodes % 2 == 0 else nodes


def networks_wanted(profile: Profile) -> list[str]:
    """Return the words of ``throughput.networks``, whether they mean something or not."""
    return [one.strip() for one in profile.text("throughput.networks").split(",")]


def cost(profile: Profile, nodes: int, wanted: frozenset[str]) -> Cost:
    """Return what measuring costs; told is that of one network.

    Raises:
        HarnessError: the settings cannot be used.
    """
    found = Agenda(profile, 1, wanted, nodes=nodes).estimate
    limit = (
        "at most (--max-bytes)"
        if found.paced
        else f"if links carry {profile.number('throughput.link_gbit'):g} Gbit/s "
        "(--max-bytes limits it)"
    )
    mesh = f", {found.rounds} rounds of the mesh" if found.rounds else ""
    secondary = profile.number("networking.most_networks")
    count = sum(secondary if one == "secondary" else 1 for one in networks_wanted(profile))
    return Cost(
        seconds=RESERVE * found.seconds * count,
        told=f"about {found.seconds:.0f} s and {found.bytes / 1e9:.1f} GB a network {limit}{mesh}",
    )
