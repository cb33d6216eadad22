"""Says which network interfaces a pod has, and carries bytes between two pods over one of them.

``serve PORT``  (as PID 1) prints a JSON line about the pod's interfaces, then answers one client
                after the other on every address, and prints a line about each transfer.
``look``        prints that line about the interfaces once more.
``send JSON``   is a client of ``serve``: ``from`` and ``to`` are addresses, ``port``, ``bytes`` how
                many go each way, ``seconds`` the time limit. Prints a line about the transfer.
``exchange JSON``  is one end of an exchange over an RDMA device by ib_write_bw, which the image
                must have: ``device`` and ``port``, ``gid`` an index or null, ``peer`` the other
                pod's address or empty to wait for it, ``tcp_port``, ``ipv6``, ``size`` and
                ``count`` of the messages that go each way, ``seconds``. Prints a line about it.

Both ends of a transfer print the byte counters of all their interfaces as they were before,
meanwhile and after. Only the standard library; sysfs is read as it is and not interpreted.
"""

from __future__ import annotations

import array
import errno
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NET = Path("/sys/class/net")
RDMA = Path("/sys/class/infiniband")
VERBS = Path("/sys/class/infiniband_verbs")
NODES = Path("/dev/infiniband")
DEV = Path("/dev")
PCI_DEVICES = Path("/sys/bus/pci/devices")
_MOST_DEVICES = 500
PROGRAM = "ib_write_bw"
QUIET_SECONDS = 1.0
"""How long the counters are watched before anything of ours is sent."""
_COUNTED_SECONDS = 2.0
"""Drivers do not refresh counters at each reading, but by default every 10 ms."""
SAMPLE_SECONDS = 0.02
_MOST_SAMPLES = 400
_BLOCK = 1 << 20
_HEADER = struct.Struct("!Q")
_COUNTING = b"+"
"""What a client waits for: bytes before the first look at the counters would be missed."""
_DIGEST = hashlib.sha256().digest_size
_SIOCGIFCONF = 0x8912
_IFREQ = 40
_PCI = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_FILES = ("address", "carrier", "ifindex", "iflink", "mtu", "operstate", "speed", "type")
_RTM_NEWLINK, _RTM_GETLINK, _DUMP = 16, 18, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
STOPPED = 143


def interfaces(net: Path = NET, proc: Path = Path("/proc/net")) -> dict[str, Any]:
    """Return what the kernel says about each interface, and which one has the default route."""
    addresses = ipv4_addresses() if net == NET else {}
    for name, found in ipv6_addresses(_read(proc / "if_inet6")).items():
        addresses.setdefault(name, []).extend(found)
    kinds = link_kinds(ask_links()) if net == NET else {}
    names = sorted(one.name for one in net.iterdir() if one.is_dir()) if net.is_dir() else []
    environment = {k: v for k, v in os.environ.items() if k.startswith("PCIDEVICE_")}
    return {
        "interfaces": {
            name: describe(net / name)
            | {"addresses": addresses.get(name, []), "kind": kinds.get(name, "")}
            for name in names
        },
        "default": default_interface(_read(proc / "route"), _read(proc / "ipv6_route")),
        "infiniband": sorted(one.name for one in NODES.glob("*")),
        "verbs": {
            "program": shutil.which(PROGRAM) or "",
            "locked_memory": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
            "ports": rdma_ports(),
        },
        "environment": environment,
        "devices": device_nodes(),
        "drivers": pci_drivers(environment.values()),
    }


def device_nodes(dev: Path = DEV) -> list[str]:
    """Return the device nodes below a folder, by their paths in it; terminals are left out."""
    out: list[str] = []
    for folder, folders, names in os.walk(dev):
        folders[:] = [one for one in folders if one not in ("pts", "shm", "mqueue")]
        for name in names:
            path = Path(folder) / name
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                out.append(str(path.relative_to(dev)))
    return sorted(out)[:_MOST_DEVICES]


def pci_drivers(texts: Iterable[str], devices: Path = PCI_DEVICES) -> dict[str, str]:
    """Return the kernel's driver of each PCI function that texts name; empty if it has none."""
    found = sorted({address for text in texts for address in _PCI.findall(text)})
    links = {one: devices / one / "driver" for one in found}
    return {one: link.resolve().name if link.exists() else "" for one, link in links.items()}


def describe(folder: Path) -> dict[str, Any]:
    """Return one interface's files and what is known about its device."""
    device = folder / "device"
    return {
        **{name: _read(folder / name) for name in _FILES},
        "master": (folder / "master").resolve().name if (folder / "master").exists() else "",
        "pci": pci_address(device.resolve()) if device.exists() else "",
        "vendor": _read(device / "vendor"),
        "numa_node": _read(device / "numa_node"),
        "rdma": sorted(one.name for one in (device / "infiniband").glob("*")),
    }


def pci_address(device: Path) -> str:
    """Return the address of the PCI function in a device's path (a virtio device is below one)."""
    found = [part for part in device.parts if _PCI.fullmatch(part)]
    return found[-1] if found else ""


def ask_links() -> bytes:
    """Return the kernel's answer to a netlink dump of all interfaces."""
    request = struct.pack("=IHHII", 17, _RTM_GETLINK, _DUMP, 1, 0) + b"\0"
    out = b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
        one.send(request)
        while True:
            part = one.recv(1 << 16)
            out += part
            kinds = [kind for kind, _ in messages(part)]
            if not kinds or kinds[-1] in (_NLMSG_DONE, _NLMSG_ERROR):
                return out


def link_kinds(answer: bytes) -> dict[str, str]:
    """Return the kind of each virtual interface (macvlan, veth, …); hardware has none."""
    out: dict[str, str] = {}
    for kind, body in messages(answer):
        if kind == _RTM_NEWLINK:
            found = fields(body[16:])
            name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
            told = fields(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
            out[name] = told.rstrip(b"\0").decode()
    return out


def messages(text: bytes) -> list[tuple[int, bytes]]:
    """Split a netlink answer into (type, body)."""
    out: list[tuple[int, bytes]] = []
    while len(text) >= 16:
        length, kind = struct.unpack("=IH", text[:6])
        if length < 16:
            break
        out.append((kind, text[16:length]))
        text = text[(length + 3) & ~3 :]
    return out


def fields(text: bytes) -> dict[int, bytes]:
    """Split netlink attributes by their number; the flags in its high bits are left out."""
    out: dict[int, bytes] = {}
    while len(text) >= 4:
        length, kind = struct.unpack("=HH", text[:4])
        if length < 4:
            break
        out[kind & 0x3FFF] = text[4:length]
        text = text[(length + 3) & ~3 :]
    return out


def default_interface(ipv4: str, ipv6: str) -> str:
    """Return the interface of the default route, from ``/proc/net/route`` and ``ipv6_route``."""
    for line in ipv4.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            return fields[0]
    for line in ipv6.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            return fields[9]
    return ""


def ipv4_addresses() -> dict[str, list[str]]:
    """Return the IPv4 addresses of each interface, asked from the kernel."""
    room = array.array("B", bytes(_IFREQ * 128))
    address, size = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        answer = fcntl.ioctl(one, _SIOCGIFCONF, struct.pack("iP", size, address))
    return parse_ifconf(room.tobytes()[: struct.unpack("iP", answer)[0]])


def parse_ifconf(entries: bytes) -> dict[str, list[str]]:
    """Return the addresses in what SIOCGIFCONF fills in; ``eth0:1`` is a further one of eth0."""
    out: dict[str, list[str]] = {}
    for start in range(0, len(entries), _IFREQ):
        entry = entries[start : start + _IFREQ]
        name = entry[:16].partition(b"\0")[0].decode().partition(":")[0]
        out.setdefault(name, []).append(socket.inet_ntoa(entry[20:24]))
    return out


def ipv6_addresses(text: str) -> dict[str, list[str]]:
    """Return the addresses in ``/proc/net/if_inet6`` but those of the link alone."""
    out: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 6 and fields[3] != "20":
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
            out.setdefault(fields[5], []).append(address)
    return out


def counters(net: Path = NET) -> dict[str, list[int]]:
    """Return [received, sent] bytes of each interface; one without counters is left out."""
    out: dict[str, list[int]] = {}
    for one in sorted(net.iterdir()):
        found = [_read(one / "statistics" / f"{way}_bytes") for way in ("rx", "tx")]
        if all(text.isdigit() for text in found):
            out[one.name] = [int(text) for text in found]
    return out


def rdma_ports() -> list[dict[str, Any]]:
    """Return each port of the RDMA devices that may be used here, as sysfs describes it.

    sysfs can show all devices of the host; those of this pod have a node under ``/dev``.
    """
    out: list[dict[str, Any]] = []
    for node in sorted(NODES.glob("uverbs*")):
        device = RDMA / (_read(VERBS / node.name / "ibdev") or "none")
        out += [
            {
                "device": device.name,
                "port": folder.name,
                "openable": os.access(node, os.R_OK | os.W_OK),
                "link_layer": _read(folder / "link_layer"),
                "state": _read(folder / "state"),
                "pci": pci_address((device / "device").resolve()),
                "numa_node": _read(device / "device" / "numa_node"),
                "gids": gids(folder),
            }
            for folder in sorted((device / "ports").glob("*"))
        ]
    return out


def gids(folder: Path) -> list[dict[str, Any]]:
    """Return the port's GIDs that are set, with their index and type."""
    out: list[dict[str, Any]] = []
    for one in sorted((folder / "gids").glob("*"), key=lambda one: int(one.name)):
        gid = _read(one)
        if gid.strip("0:"):
            kind = _read(folder / "gid_attrs" / "types" / one.name)
            out.append({"index": int(one.name), "gid": gid, "type": kind})
    return out


def port_counters(device: str, port: str) -> list[int]:
    """Return [received, sent] bytes of an RDMA device's port; empty if it counts none.

    ``counters`` are in words of 4 bytes (the kernel's ABI/stable/sysfs-class-infiniband); drivers
    without them count bytes in ``hw_counters``.
    """
    folder = RDMA / device / "ports" / port
    for received, sent, unit in (
        ("counters/port_rcv_data", "counters/port_xmit_data", 4),
        ("hw_counters/rx_bytes", "hw_counters/tx_bytes", 1),
    ):
        found = [_read(folder / received), _read(folder / sent)]
        if all(text.isdigit() for text in found):
            return [int(text) * unit for text in found]
    return []


class Meter(threading.Thread):
    """Reads all counters again and again, and once more at the end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.began = time.monotonic()
        self.samples: list[tuple[float, dict[str, list[int]]]] = []
        self._over = threading.Event()
        self._sample()
        self.start()

    def run(self) -> None:
        """Sample until :meth:`finish`."""
        while not self._over.wait(SAMPLE_SECONDS):
            if len(self.samples) < _MOST_SAMPLES:
                self._sample()

    def finish(self) -> dict[str, Any]:
        """Return the counters before, after and meanwhile."""
        self._over.set()
        self.join()
        self._sample()
        return {
            "before": self.samples[0][1],
            "after": self.samples[-1][1],
            "samples": [[at, found] for at, found in self.samples],
        }

    def _sample(self) -> None:
        self.samples.append((round(time.monotonic() - self.began, 4), counters()))


def blocks(count: int) -> Any:
    """Yield ``count`` bytes that do not repeat, in blocks."""
    block = hashlib.shake_256(b"kar-checks").digest(_BLOCK)
    for start in range(0, count, _BLOCK):
        yield start.to_bytes(8, "big") + block[8 : min(_BLOCK, count - start)]


def push(connection: socket.socket, count: int) -> int:
    """Send ``count`` bytes and their digest; returns how many."""
    digest = hashlib.sha256()
    sent = 0
    for block in blocks(count):
        piece = block[: count - sent]
        connection.sendall(piece)
        digest.update(piece)
        sent += len(piece)
    connection.sendall(digest.digest())
    return sent


def pull(connection: socket.socket, count: int) -> tuple[int, bool]:
    """Receive ``count`` bytes and their digest; returns how many, and whether it agrees."""
    digest = hashlib.sha256()
    received = 0
    while received < count:
        piece = connection.recv(min(_BLOCK, count - received))
        if not piece:
            return received, False
        digest.update(piece)
        received += len(piece)
    return received, _exactly(connection, _DIGEST) == digest.digest()


def serve(port: int) -> None:
    """Answer clients for ever; each is told to begin, sends, and then receives as much."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.create_server(
        ("", port), family=family, dualstack_ipv6=family == socket.AF_INET6
    ) as listening:
        say({"event": "ready", **interfaces()})
        while True:
            connection, peer = listening.accept()
            with connection:
                connection.settimeout(60)
                say(_answer(connection, peer[0]))


def _answer(connection: socket.socket, peer: str) -> dict[str, Any]:
    meter = Meter()
    out: dict[str, Any] = {"event": "served", "peer": plain(peer)}
    out["local"] = plain(connection.getsockname()[0])
    try:
        connection.sendall(_COUNTING)
        (count,) = _HEADER.unpack(_exactly(connection, _HEADER.size))
        out["received"], out["intact"] = pull(connection, count)
        out["sent"] = push(connection, count)
        connection.recv(1)  # the client's end, so that its last bytes are counted here, too
    except (OSError, struct.error) as error:
        out["error"] = str(error)
    return out | meter.finish()


def connect(order: dict[str, Any]) -> socket.socket:
    """Connect; a server that is about to listen, and a neighbour to be found, are waited for."""
    deadline = time.monotonic() + order["seconds"]
    while True:
        try:
            return socket.create_connection(
                (order["to"], order["port"]),
                timeout=order["seconds"],
                source_address=(order["from"], 0),
            )
        except OSError as error:
            early = error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH)
            if not early or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def send(order: dict[str, Any]) -> dict[str, Any]:
    """Carry bytes to a server and back, from a given address."""
    out: dict[str, Any] = {"event": "sent", "local": order["from"], "peer": order["to"]}
    meter = Meter()
    try:
        with connect(order) as connection:
            _exactly(connection, len(_COUNTING))
            connection.sendall(_HEADER.pack(order["bytes"]))
            out["sent"] = push(connection, order["bytes"])
            out["received"], out["intact"] = pull(connection, order["bytes"])
    except OSError as error:
        out["error"] = str(error)
    return out | meter.finish()


def exchange(order: dict[str, Any]) -> dict[str, Any]:
    """Write ``count`` messages into the other pod's memory while it does the same to this one."""
    where = f"{order['device']}/{order['port']}"

    def read() -> dict[str, list[int]]:
        found = port_counters(order["device"], order["port"])
        return counters(NET) | ({where: found} if found else {})

    out: dict[str, Any] = {"event": "exchanged", "on": where, "before": read()}
    time.sleep(QUIET_SECONDS)
    out["quiet"] = read()
    out["argv"] = arguments(order)
    out |= run(out["argv"], time.monotonic() + order["seconds"])
    wanted = order["size"] * order["count"]
    counted = time.monotonic() + (_COUNTED_SECONDS if out["exit_code"] == 0 else 0)
    while time.monotonic() < counted and not _risen(out["quiet"], read(), where, wanted):
        time.sleep(SAMPLE_SECONDS)
    return out | {"after": read()}


def arguments(order: dict[str, Any]) -> list[str]:
    """Return ib_write_bw's command line; its ends find each other by TCP, at ``peer``."""
    out = [PROGRAM, "-b", "-F", "--report_gbits", "-d", order["device"], "-i", order["port"]]
    out += ["-p", str(order["tcp_port"]), "-s", str(order["size"]), "-n", str(order["count"])]
    if order["gid"] is not None:
        out += ["-x", str(order["gid"])]
    if order["ipv6"]:
        out.append("--ipv6-addr")
    return [*out, order["peer"]] if order["peer"] else out


def run(argv: list[str], deadline: float) -> dict[str, Any]:
    """Run a program until a deadline; returns its exit code, if it ended, and what it printed.

    An end whose peer does not listen yet is started again.
    """
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=left, check=False
            )
        except subprocess.TimeoutExpired as error:
            return _printed(None, error.stdout or b"", error.stderr or b"")
        except OSError as error:
            return _printed(None, b"", str(error).encode())
        early = done.returncode != 0 and b"Couldn't connect" in done.stderr
        if not early or time.monotonic() > deadline:
            return _printed(done.returncode, done.stdout, done.stderr)
        time.sleep(0.2)


def _printed(code: int | None, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    texts = {"stdout": stdout.decode(errors="replace"), "stderr": stderr.decode(errors="replace")}
    return {"exit_code": code, **texts}


def _risen(was: dict[str, Any], now: dict[str, Any], where: str, wanted: int) -> bool:
    """Say whether a port's counters rose by what is wanted, or there are none."""
    both = zip(was.get(where, []), now.get(where, []), strict=False)
    return all(after - before >= wanted for before, after in both)


def plain(address: str) -> str:
    """Return an IPv4 address that a dual-stack socket shows as an IPv6 one."""
    return address.removeprefix("::ffff:")


def say(line: dict[str, Any]) -> None:
    """Print one JSON line."""
    print(json.dumps(line), flush=True)


def _exactly(connection: socket.socket, count: int) -> bytes:
    out = b""
    while len(out) < count:
        piece = connection.recv(count - len(out))
        if not piece:
            return out
        out += piece
    return out


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def main(argv: list[str]) -> int:
    """Do what the command line says."""
    match argv:
        case ["serve", port]:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(STOPPED))
            serve(int(port))
        case ["look"]:
            say({"event": "looked", **interfaces()})
        case ["send", order]:
            say(send(json.loads(order)))
        case ["exchange", order]:
            say(exchange(json.loads(order)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
