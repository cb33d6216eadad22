"""The probe that looks at interfaces and carries bytes; its two ends meet on this machine."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes import nic_probe

PROBE = Path(nic_probe.__file__)
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "net1\t0010C6C6\t00000000\t0001\t0\t0\t0\t00FCFFFF\t0\t0\t0\n"
    "eth0\t00000000\t0101E10A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)
ROUTES6 = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 00000400 00000001 00000000 00000003 eth1\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-u", str(PROBE), "serve", str(port)], stdout=subprocess.PIPE, text=True
    )
    yield process, port
    process.kill()
    process.wait()


def send(port: int, **changes: Any) -> dict[str, Any]:
    order = {
        "from": "127.0.0.1",
        "to": "127.0.0.1",
        "port": port,
        "bytes": 3_000_001,
        "seconds": 10,
        **changes,
    }
    return nic_probe.send(order)


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def test_bytes_go_both_ways_and_both_ends_count_them(
    server: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = server
    assert line(process)["event"] == "ready"
    sent = send(port)
    served = line(process)
    for end in (sent, served):
        assert (end["sent"], end["received"], end["intact"]) == (3_000_001, 3_000_001, True)
        risen = end["after"]["lo"][0] - end["before"]["lo"][0]
        assert risen >= 6_000_002
        assert len(end["samples"]) >= 2
    assert served["peer"] == "127.0.0.1"
    process.terminate()
    assert process.wait(5) == nic_probe.STOPPED


def test_a_server_that_is_not_there_is_an_error_and_no_zero() -> None:
    sent = send(free_port(), seconds=0.5)
    assert "refused" in sent["error"]
    assert "received" not in sent


def test_a_client_that_breaks_off_is_an_error(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    line(process)
    with socket.create_connection(("127.0.0.1", port)) as one:
        assert one.recv(1)  # it counts now
        one.sendall(struct.pack("!Q", 100) + b"x")
    served = line(process)
    assert served["intact"] is False


def test_damaged_bytes_are_noticed() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"abc" + b"0" * 32)
        assert nic_probe.pull(right, 3) == (3, False)
        assert nic_probe.push(left, 3) == 3
        assert nic_probe.pull(right, 3) == (3, True)


def test_the_machine_is_looked_at() -> None:
    found = nic_probe.interfaces()
    assert found["interfaces"]["lo"]["mtu"] == "65536"
    assert "127.0.0.1" in found["interfaces"]["lo"]["addresses"]


def test_the_default_interface_is_that_of_the_default_route() -> None:
    assert nic_probe.default_interface(ROUTES, "") == "eth0"
    assert nic_probe.default_interface("Iface\n", ROUTES6) == "eth1"
    assert nic_probe.default_interface("", "") == ""


def test_link_local_addresses_are_left_out() -> None:
    text = (
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
    )
    assert nic_probe.ipv6_addresses(text) == {"eth0": ["fd00::2"]}


def test_further_addresses_belong_to_their_interface() -> None:
    def entry(name: str, address: str) -> bytes:
        told = struct.pack("=HH", 2, 0) + socket.inet_aton(address)
        return name.encode().ljust(16, b"\0") + told.ljust(24, b"\0")

    entries = entry("eth0", "10.0.0.1") + entry("eth0:1", "10.0.0.2")
    assert nic_probe.parse_ifconf(entries) == {"eth0": ["10.0.0.1", "10.0.0.2"]}


def test_the_pci_function_is_found_above_a_virtio_device() -> None:
    path = Path("/sys/devices/pci0000:00/0000:00:03.0/virtio2")
    assert nic_probe.pci_address(path) == "0000:00:03.0"
    assert nic_probe.pci_address(Path("/sys/devices/vmbus")) == ""


def test_device_nodes_are_listed_and_nothing_else(tmp_path: Path) -> None:
    assert "null" in nic_probe.device_nodes()
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio" / "file").touch()
    (tmp_path / "stdout").symlink_to("/dev/null")
    assert nic_probe.device_nodes(tmp_path) == []


def test_the_driver_of_each_named_function_is_found(tmp_path: Path) -> None:
    driver = tmp_path / "drivers" / "vfio-pci"
    driver.mkdir(parents=True)
    function = tmp_path / "devices" / "0000:3b:02.1"
    function.mkdir(parents=True)
    (function / "driver").symlink_to(driver)
    texts = ["0000:3b:02.1,0000:3b:02.2", '{"0000:3b:02.1": {"vfio": {"mount": "/dev/vfio/12"}}}']
    found = nic_probe.pci_drivers(texts, tmp_path / "devices")
    assert found == {"0000:3b:02.1": "vfio-pci", "0000:3b:02.2": ""}


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def test_netlink_tells_the_kind_of_an_interface() -> None:
    info = attribute(18 | 0x8000, attribute(1, b"macvlan\0"))
    body = b"\0" * 16 + attribute(3, b"net1\0") + info
    plain = b"\0" * 16 + attribute(3, b"eth0\0")
    answer = b"".join(
        struct.pack("=IHHII", 16 + len(one), 16, 2, 1, 0) + one for one in (body, plain)
    )
    done = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
    assert nic_probe.link_kinds(answer + done) == {"net1": "macvlan", "eth0": ""}
    assert "lo" in nic_probe.link_kinds(nic_probe.ask_links())
