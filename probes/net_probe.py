"""Measures a network between pods: one conductor tells agents, one a node, what to measure when.

``conduct PLAN``  waits for the agents that the plan expects, works off its rounds, and prints a
                  JSON line for every agent, every step and at the end; then it closes its port and
                  stays until it is told to go. It also starts an agent of its own, ``beside``, for
                  the way between two pods of one node.
``agent``         serves iperf3 (TCP and UDP), echoes requests and datagrams, and does what the
                  conductor says. Two agents never measure with a third at the same time.

The plan is a JSON file: ``expect`` (names of agents), ``wait_seconds``, ``steps`` (one after the
other; ``client`` and ``server`` name agents) and ``mesh`` (all pairs of ``nodes`` in the given
``rounds`` of a round-robin tournament, pairs of a round at once). Nothing here judges: what went
wrong is an ``error`` beside the result.

Environment of an agent: ``KAR_CONDUCTOR`` (address), ``KAR_NAME``, ``KAR_NODE``, ``KAR_POD``,
``KAR_ADDRESS`` (the pod's own) and ``KAR_MEASURE``: which address is measured, ``own``, ``other``
(the first of another interface) or an address. Orders and answers always take the pod's own.
Only the standard library and the program iperf3. SIGTERM ends everything at once (code 143).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

CONTROL, IPERF3, ECHO, DATAGRAM = 7010, 7011, 7012, 7013
LINE = 64 << 20
RETRY_SECONDS = 0.2
BUSY_RETRIES = 8
BUSY_PAUSE = 0.25
LEEWAY = 15.0
DATAGRAM_TRIES = 5
DATAGRAM_SECONDS = 0.3
_SIOCGIFCONF = 0x8912
_IFREQ = 40
_MOST_ADDRESSES = 256
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE = 10, 23, 3
"""Linux: set the don't-fragment bit, and send whatever the path's MTU is believed to be."""
_CPU_STAT = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")

Message = dict[str, Any]


def say(**more: Any) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps(more, separators=(",", ":")) + "\n")
    sys.stdout.flush()


# -- what an agent can tell about itself -----------------------------------------------------


def interfaces(root: str = "/sys/class/net") -> list[Message]:
    """Return name, MTU and addresses of every interface but the loopback."""
    found: list[Message] = []
    fours, sixes = _addresses_4(), _addresses_6()
    for path in sorted(Path(root).iterdir()):
        if path.name == "lo":
            continue
        with contextlib.suppress(OSError):
            addresses = [*fours.get(path.name, []), *sixes.get(path.name, [])]
            mtu = int((path / "mtu").read_text())
            found.append({"name": path.name, "mtu": mtu, "addresses": addresses})
    return found


def _udp_overrun(proc: Path) -> int:
    lines = [line.split() for line in (proc / "snmp").read_text().splitlines()]
    names, values = (one for one in lines if one[0] == "Udp:")
    found = int(dict(zip(names, values, strict=False))["RcvbufErrors"])
    with contextlib.suppress(OSError, KeyError):
        sixes = dict(line.split() for line in (proc / "snmp6").read_text().splitlines())
        found += int(sixes["Udp6RcvbufErrors"])
    return found


def _addresses_4() -> dict[str, list[str]]:
    """Return all IPv4 addresses of each interface; ``eth0:1`` is a further one of eth0."""
    room = array.array("B", bytes(_IFREQ * _MOST_ADDRESSES))
    address, size = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        answer = fcntl.ioctl(one, _SIOCGIFCONF, struct.pack("iP", size, address))
    found: dict[str, list[str]] = {}
    for start in range(0, struct.unpack("iP", answer)[0], _IFREQ):
        entry = room.tobytes()[start : start + _IFREQ]
        name = entry[:16].partition(b"\0")[0].decode().partition(":")[0]
        found.setdefault(name, []).append(socket.inet_ntoa(entry[20:24]))
    return found


def _addresses_6(path: str = "/proc/net/if_inet6") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            digits, _, _, scope, _, name = line.split()
            if scope == "00":  # global
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                found.setdefault(name, []).append(address)
    return found


def measured(wanted: str, own: str, known: list[Message]) -> Message:
    """Return the ``interface`` and the ``address`` that are measured; empty if there is no such."""
    address = own if wanted == "own" else wanted
    for one in known:
        for each in one["addresses"]:
            if each == address or (wanted == "other" and own not in one["addresses"]):
                return {"interface": one["name"], "address": each}
    return {"interface": "", "address": own if wanted == "own" else ""}


def mtu_of(address: str) -> int:
    """Return the MTU of the interface with an address; that of Ethernet if there is none."""
    for one in interfaces():
        if address in one["addresses"]:
            return int(one["mtu"])
    return 1500


def counters(
    root: str = "/sys/class/net", stats: tuple[str, ...] = _CPU_STAT, proc: str = "/proc/net"
) -> Message:
    """Return bytes of every interface as [received, sent], how often the CPU was throttled, and
    how many datagrams had arrived and found the buffer of their program full.

    A counter that cannot be read is missing.
    """
    found: Message = {"bytes": {}}
    with contextlib.suppress(OSError, ValueError, KeyError):
        found["udp_overrun"] = _udp_overrun(Path(proc))
    for path in Path(root).iterdir():
        with contextlib.suppress(OSError):
            both = [int((path / "statistics" / f"{way}_bytes").read_text()) for way in ("rx", "tx")]
            found["bytes"][path.name] = both
    for stat in stats:
        with contextlib.suppress(OSError, ValueError):
            values = dict(line.split() for line in Path(stat).read_text().splitlines())
            if "nr_throttled" in values:
                found["nr_throttled"] = int(values["nr_throttled"])
                break
    return found


def iperf3_version() -> str:
    """Return the first line that the program says about itself; empty if there is none."""
    if not shutil.which("iperf3"):
        return ""
    done = subprocess.run(["iperf3", "--version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[:2])


# -- what an agent does ------------------------------------------------------------------------


CHILDREN: list[subprocess.Popen[bytes]] = []
"""The iperf3 server, or the agent beside: it ends with us."""


def serve_iperf3() -> None:
    """Keep an iperf3 server, for ever; one that ends is started again."""
    quiet = subprocess.DEVNULL
    while True:
        argv = ["iperf3", "-s", "-p", str(IPERF3)]
        CHILDREN[:] = [subprocess.Popen(argv, stdout=quiet, stderr=quiet)]
        CHILDREN[0].wait()
        time.sleep(RETRY_SECONDS)


def listen(port: int, kind: socket.SocketKind) -> socket.socket:
    """Open a socket on every address of both families."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            one = socket.socket(socket.AF_INET6, kind)
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return _bound(one, ("::", port))
    return _bound(socket.socket(socket.AF_INET, kind), ("0.0.0.0", port))  # noqa: S104 - a pod's


def _bound(one: socket.socket, address: tuple[str, int]) -> socket.socket:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(address)
    if one.type == socket.SOCK_STREAM:
        one.listen(8)
    return one


def serve_echo(server: socket.socket) -> None:
    """Send every request back as it came."""
    while True:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(65536):
                connection.sendall(data)


def serve_datagrams(server: socket.socket) -> None:
    """Answer every datagram with its length, in a datagram that fits everywhere."""
    while True:
        data, sender = server.recvfrom(65536)
        with contextlib.suppress(OSError):
            server.sendto(b"%d" % len(data), sender)


def iperf3(order: Message) -> Message:
    """Run the iperf3 client; its JSON as it is, or an ``error``.

    A server may still be closing the test before: it says that it is busy, and is asked again.
    """
    argv = ["iperf3", "-J", "-c", order["host"], "-p", str(IPERF3), *order["args"]]
    if order.get("bind"):
        argv += ["-B", order["bind"]]
    found: Message = {}
    for attempt in range(BUSY_RETRIES):
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=order["seconds"], check=False
            )
        except subprocess.TimeoutExpired:
            return {"argv": argv, "error": f"iperf3 did not end within {order['seconds']:g} s"}
        found = {"argv": argv, "exit_code": done.returncode, "tries": attempt + 1}
        try:
            found["json"] = result(done.stdout)
        except ValueError as error:
            told = (done.stderr or done.stdout).strip()[:300]
            return {**found, "error": f"iperf3 printed {error}: {told or 'nothing at all'}"}
        refused = found["json"].get("error")
        if not refused:
            return found
        found["error"] = str(refused)
        if "busy" not in found["error"]:
            return found
        time.sleep(BUSY_PAUSE)
    return found


def result(text: str) -> Message:
    """Return the one JSON object that iperf3 printed; warnings may stand before and after it.

    Raises:
        ValueError: there is none, or more than one, so that nobody knows which one counts.
    """
    lines = text.splitlines(keepends=True)
    begin = next((at for at, line in enumerate(lines) if line.startswith("{")), None)
    if begin is None:
        raise ValueError("no JSON")
    whole = "".join(lines[begin:])
    try:
        found: Message
        found, end = json.JSONDecoder().raw_decode(whole)
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if "{" in whole[end:]:
        raise ValueError("more than one result")
    return found


def request_response(order: Message) -> Message:
    """Send requests over one connection, each after the answer to the one before.

    Returns ``samples_us``, one number for each answer, in the order in which they came.
    """
    samples = array.array("d")
    payload = b"x" * int(order["size"])
    deadline = time.monotonic() + order["seconds"]
    source = (order["bind"], 0) if order.get("bind") else None
    try:
        with socket.create_connection(
            (order["host"], ECHO), timeout=5, source_address=source
        ) as one:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(order["seconds"])
            warm_up = int(order["warm_up"])
            for number in range(warm_up + int(order["count"])):
                if time.monotonic() > deadline:
                    break
                began = time.perf_counter_ns()
                one.sendall(payload)
                left = len(payload)
                while left:
                    data = one.recv(left)
                    if not data:
                        raise ConnectionError("the other side closed the connection")
                    left -= len(data)
                if number >= warm_up:
                    samples.append((time.perf_counter_ns() - began) / 1000)
    except OSError as error:
        return {"samples_us": [], "error": f"{type(error).__name__}: {error}"}
    return {"samples_us": [round(one, 1) for one in samples]}


def datagrams(order: Message) -> Message:
    """Send datagrams that must not be fragmented, each size several times until it is answered.

    Returns for each size of the whole packet (``mtu`` stands for that of the interface): how many
    were sent, whether one was answered, and what the kernel said if it sent none.
    """
    family = socket.AF_INET6 if ":" in order["host"] else socket.AF_INET
    headers = 48 if family == socket.AF_INET6 else 28
    found: list[Message] = []
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
        else:
            one.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
        if order.get("bind"):
            one.bind((order["bind"], 0))
        one.connect((order["host"], DATAGRAM))
        one.settimeout(DATAGRAM_SECONDS)
        own = mtu_of(one.getsockname()[0])
        for size in (own if size == "mtu" else size for size in order["sizes"]):
            payload = b"x" * (int(size) - headers)
            seen: Message = {"bytes": size, "sent": 0, "answered": False, "error": ""}
            while seen["sent"] < DATAGRAM_TRIES and not seen["answered"]:
                seen["sent"] += 1
                try:
                    one.send(payload)
                    while int(one.recv(64)) != len(payload):
                        pass  # a late answer to another size
                    seen["answered"] = True
                except TimeoutError:
                    continue
                except OSError as error:
                    seen["error"] = error.strerror or str(error)
                    time.sleep(DATAGRAM_SECONDS / 3)
            found.append(seen)
    return {"sizes": found}


DEEDS = {"iperf3": iperf3, "latency": request_response, "datagrams": datagrams}


def agent() -> int:
    """Serve, go to the conductor, and do what it says until it is done."""
    for serve, kind, port in (
        (serve_echo, socket.SOCK_STREAM, ECHO),
        (serve_datagrams, socket.SOCK_DGRAM, DATAGRAM),
    ):
        server = listen(port, kind)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    version = iperf3_version()
    if version:
        threading.Thread(target=serve_iperf3, daemon=True).start()
    known = interfaces()
    hello = {
        "name": os.environ["KAR_NAME"],
        "node": os.environ["KAR_NODE"],
        "pod": os.environ["KAR_POD"],
        "iperf3": version,
        "cores": len(os.sched_getaffinity(0)),
        "interfaces": known,
        **measured(os.environ["KAR_MEASURE"], os.environ["KAR_ADDRESS"], known),
    }
    with _connected(os.environ["KAR_CONDUCTOR"]) as connection:
        stream = connection.makefile("rwb")
        stream.write(json.dumps(hello).encode() + b"\n")
        stream.flush()
        for line in stream:
            order = json.loads(line)
            if order["do"] == "end":
                return 0
            stream.write(json.dumps(obey(order)).encode() + b"\n")
            stream.flush()
    return 1


def obey(order: Message) -> Message:
    """Do one thing; what goes wrong in it is the answer."""
    if order["do"] == "counters":
        return counters()
    try:
        return DEEDS[order["do"]](order)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _connected(conductor: str) -> socket.socket:
    while True:
        try:
            connection = socket.create_connection((conductor, CONTROL), timeout=5)
        except OSError:
            time.sleep(RETRY_SECONDS)
            continue
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


# -- the conductor -----------------------------------------------------------------------------


def tournament(count: int) -> list[list[tuple[int, int]]]:
    """Return rounds of pairs in which each of ``count`` meets each other once (circle method).

    Nobody is in two pairs of a round; with an odd count one rests in each. The first of a pair is
    the client: the lower one if their sum is even, so that everybody sends and receives.
    """
    ring: list[int | None] = [*range(count)]
    if count % 2:
        ring.append(None)
    size = len(ring)
    rounds: list[list[tuple[int, int]]] = []
    for _ in range(size - 1):
        pairs: list[tuple[int, int]] = []
        for place in range(size // 2):
            one, other = ring[place], ring[size - 1 - place]
            if one is not None and other is not None:
                low, high = sorted((one, other))
                pairs.append((high, low) if (low + high) % 2 else (low, high))
        rounds.append(pairs)
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return rounds


class Peer:
    """An agent that said hello."""

    def __init__(
        self, hello: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.hello = hello
        self._reader = reader
        self._writer = writer

    @property
    def address(self) -> str:
        """The address that is measured; empty if it has none."""
        return str(self.hello["address"])

    async def ask(self, order: Message, seconds: float) -> Message:
        """Give an order and return the answer.

        Raises:
            OSError: it has gone.
            TimeoutError: it does not answer.
        """
        self._writer.write(json.dumps(order).encode() + b"\n")
        await self._writer.drain()
        line = await asyncio.wait_for(self._reader.readline(), seconds)
        if not line.endswith(b"\n"):
            raise ConnectionError("it has gone")
        answer: Message = json.loads(line)
        return answer

    def end(self) -> None:
        """Let it go home."""
        with contextlib.suppress(OSError):
            self._writer.write(b'{"do": "end"}\n')
            self._writer.close()


class Conductor:
    """Works off a plan."""

    def __init__(self, plan: Message) -> None:
        self.plan = plan
        self.peers: dict[str, Peer] = {}
        self._complete = asyncio.Event()

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note an agent; a second one of the same name is only told of."""
        line = await reader.readline()
        try:
            hello = json.loads(line)
            name = str(hello["name"])
        except (ValueError, KeyError, TypeError):
            writer.close()
            return
        peer = Peer(hello, reader, writer)
        say(event="agent", **hello)
        if name in self.peers:
            peer.end()
            return
        self.peers[name] = peer
        if set(self.plan["expect"]) <= set(self.peers):
            self._complete.set()

    async def run(self) -> None:
        """Wait for the agents, then measure; the port is open meanwhile."""
        server = await asyncio.start_server(self.welcome, sock=_control(), limit=LINE)
        async with server:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), self.plan["wait_seconds"])
            say(event="begin", missing=sorted(set(self.plan["expect"]) - set(self.peers)))
            for step in self.plan["steps"]:
                await self._step(step)
            if self.plan.get("mesh"):
                await self._mesh(self.plan["mesh"])
            say(event="end")
            for peer in self.peers.values():
                peer.end()

    async def _step(self, step: Message) -> None:
        ends = {side: self.peers.get(step[side]) for side in ("client", "server")}
        found: Message = {"event": "step", "id": step["id"], "at": round(time.time(), 3)}
        absent = [step[side] for side, peer in ends.items() if peer is None]
        if absent:
            say(**found, error=f"there is no agent {', '.join(absent)}")
            return
        client, server = ends["client"], ends["server"]
        assert client and server  # noqa: S101 - for the type checker: nobody is absent
        try:
            before = await self._counters(client, server)
            answer = await self._measure(client, server, step["order"])
            after = await self._counters(client, server)
        except (OSError, TimeoutError) as error:
            say(**found, error=f"an agent was lost: {error or type(error).__name__}")
            return
        say(**found, before=before, after=after, **answer)

    async def _measure(self, client: Peer, server: Peer, order: Message) -> Message:
        for one in (client, server):
            if not one.address:
                return {"error": f"{one.hello['name']} has no address on the network"}
        order = {**order, "host": server.address, "bind": client.address}
        return await client.ask(order, 2 * order["seconds"] + LEEWAY)

    async def _counters(self, client: Peer, server: Peer) -> Message:
        order = {"do": "counters"}
        first = await client.ask(order, LEEWAY)
        return {"client": first, "server": await server.ask(order, LEEWAY)}

    async def _mesh(self, mesh: Message) -> None:
        """Measure each pair of the chosen rounds; one line a round: [client, server, Mbit/s].

        A kubelet keeps 10 MiB of a log: the 499,500 pairs of 1,000 nodes take 7.
        """
        rounds = tournament(len(mesh["nodes"]))
        for number in mesh["rounds"]:
            began = time.monotonic()
            found = await asyncio.gather(*(self._pair(mesh, *pair) for pair in rounds[number]))
            say(
                event="round",
                number=number,
                seconds=round(time.monotonic() - began, 2),
                pairs=[one[:3] for one in found if not one[3]],
                errors=[one for one in found if one[3]],
            )

    async def _pair(self, mesh: Message, one: int, other: int) -> tuple[int, int, int | None, str]:
        client, server = (self.peers.get(mesh["nodes"][index]) for index in (one, other))
        if client is None or server is None:
            return one, other, None, "there is no agent"
        try:
            answer = await self._measure(client, server, mesh["order"])
            if answer.get("error"):
                return one, other, None, str(answer["error"])[:120]
            speed = float(answer["json"]["end"]["sum_received"]["bits_per_second"])
            if not math.isfinite(speed):
                return one, other, None, f"iperf3 reports {speed} bit/s"
            if speed <= 0:
                return one, other, None, "nothing was received"
            return one, other, round(speed / 1e6), ""
        except (OSError, TimeoutError, KeyError, TypeError, ValueError) as error:
            return one, other, None, f"{type(error).__name__}: {error}"[:120]


def _control() -> socket.socket:
    server = listen(CONTROL, socket.SOCK_STREAM)
    server.listen(2048)
    server.setblocking(False)
    return server


def conduct(plan: str) -> int:
    """Start the agent beside, and work off the plan."""
    own = {**os.environ, "KAR_CONDUCTOR": "localhost", "KAR_NAME": "beside"}
    CHILDREN.append(subprocess.Popen([sys.executable, "-u", __file__, "agent"], env=own))
    asyncio.run(Conductor(json.loads(Path(plan).read_text("utf-8"))).run())
    threading.Event().wait()  # until somebody has read what was printed
    return 0


def go(*_: object) -> None:
    """End at once on SIGTERM, and take the children along."""
    for one in CHILDREN:
        one.terminate()
    os._exit(143)


def main(argv: list[str]) -> int:
    """Run one of the two."""
    signal.signal(signal.SIGTERM, go)
    code = conduct(argv[1]) if argv[0] == "conduct" else agent()
    for one in CHILDREN:
        one.terminate()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
