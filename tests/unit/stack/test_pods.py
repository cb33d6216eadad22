"""What is read of the stack's pods: interfaces, places of metrics, devices, restarts."""

from __future__ import annotations

import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks.checks.stack.engines import known
from kar_checks.checks.stack.pods import (
    _READ_ALL,
    Meter,
    address,
    addresses,
    parse_traffic,
    record,
    restarts,
)
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9999999      10    0    0    0     0          0         0  9999999      10    0    0    0     0       0          0
  eth0:    1000      10    0    0    0     0          0         0     2000      10    0    0    0     0       0          0
  net1:      30       1    0    0    0     0          0         0       40       1    0    0    0     0       0          0
"""  # noqa: E501 - as the kernel prints it


def test_every_interface_counts_but_the_loopback() -> None:
    found = parse_traffic(NET)
    assert (found.received, found.sent, found.devices) == (1030, 2040, ["eth0", "net1"])


def test_rdma_ports_count_in_their_own_units() -> None:
    ports = (
        "port mlx5_0/ports/1/counters/port_rcv_data 100\n"
        "port mlx5_0/ports/1/counters/port_xmit_data 200\n"
        "port rdmap0/ports/1/hw_counters/rx_bytes 7\n"
        "port rdmap0/ports/1/hw_counters/tx_bytes 8\n"
    )
    found = parse_traffic(NET + ports)
    assert (found.received, found.sent) == (1030 + 400 + 7, 2040 + 800 + 8)
    assert found.devices == ["eth0", "mlx5_0/1", "net1", "rdmap0/1"]


def pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "engine", "image": "example.org/vllm:1"}
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "n1", "containers": [container], **spec},
        "status": {"podIP": "10.0.0.1"},
    }


@pytest.mark.parametrize(
    ("container", "spec", "expected"),
    [
        ({}, {}, []),
        ({"resources": {"limits": {"nvidia.com/gpu": 1, "cpu": 2}}}, {}, []),
        ({"resources": {"limits": {"rdma/hca_shared": 1}}}, {}, ["rdma/hca_shared"]),
        ({"resources": {"limits": {"vpc.amazonaws.com/efa": 1}}}, {}, ["vpc.amazonaws.com/efa"]),
        ({}, {"resourceClaims": [{"name": "nic"}]}, ["claim nic"]),
        ({"securityContext": {"privileged": True}}, {}, ["devices of the node (privileged)"]),
    ],
)
def test_devices_past_the_interface_are_noted(
    container: dict[str, Any], spec: dict[str, Any], expected: list[str]
) -> None:
    item = pod(**spec)
    item["spec"]["containers"][0].update(container)
    found = record(item, "prefill", "by")
    assert found.devices == expected
    assert found.images == ["example.org/vllm:1"]


def test_declared_ports_are_asked_before_the_usual_ones() -> None:
    item = pod()
    item["spec"]["containers"][0]["ports"] = [
        {"containerPort": 9123},
        {"containerPort": 8000},
        {"containerPort": 53, "protocol": "UDP"},
    ]
    item["spec"]["initContainers"] = [
        {
            "name": "sidecar",
            "image": "i",
            "restartPolicy": "Always",
            "ports": [{"containerPort": 7}],
        },
        {"name": "once", "image": "i", "ports": [{"containerPort": 9}]},
    ]
    rest = [port for port in known().ports if port != 8000]
    assert address(item).ports == (9123, 8000, 7, *rest)
    assert address(item).address == "10.0.0.1"


def test_restarts_of_all_containers_count() -> None:
    item = pod()
    assert restarts(item) == 0
    item["status"]["containerStatuses"] = [{"name": "engine", "restartCount": 2}]
    item["status"]["initContainerStatuses"] = [{"name": "sidecar", "restartCount": 1}]
    assert restarts(item) == 3


@pytest.mark.parametrize(("index", "worker"), [("0", False), ("1", True), (None, False)])
def test_a_worker_of_a_group_is_told_from_its_leader(index: str | None, worker: bool) -> None:
    item = pod()
    if index is not None:
        item["metadata"]["labels"] = {"leaderworkerset.sigs.k8s.io/worker-index": index}
    assert record(item, "decode", "label").worker is worker


def test_connections_tell_with_whom_the_bytes_were_exchanged() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0] as other,
    ):
        one.sendall(bytes(50_000))
        got = 0
        while got < 50_000:
            got += len(other.recv(65_536))
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _READ_ALL],
            capture_output=True,
            text=True,
            check=True,
        )
    found = parse_traffic(done.stdout, {"127.0.0.1": "prefill-0"})
    assert found.at is not None and found.at > 0
    assert found.peers is not None
    received, sent = found.peers["prefill-0"]
    assert min(received, sent) >= 50_000
    assert parse_traffic(done.stdout, {}).peers == {}


def test_peers_are_known_by_all_addresses_of_the_pods() -> None:
    text = (
        f"{NET}12.50 99.00\npeers\npeer 10.0.0.9 5 6\npeer ::ffff:10.0.0.1 7 8\npeer fd00::1 1 2\n"
    )
    names = dict.fromkeys(["10.0.0.1", "fd00::1"], "d")
    found = parse_traffic(text, names)
    assert (found.at, found.peers) == (12.5, {"d": (8, 10)})
    assert parse_traffic(NET).peers is None
    item = pod()
    item["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    item["metadata"]["annotations"] = {
        "k8s.v1.cni.cncf.io/network-status": '[{"name": "rdma", "ips": ["192.168.7.3"]}, {}]'
    }
    assert addresses(item) == {"10.0.0.1", "fd00::1", "192.168.7.3"}
    item["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/network-status": "[null]"}
    assert addresses(item) == {"10.0.0.1", "fd00::1"}


class Container:
    """A container in which some programs are missing; keeps what was tried."""

    def __init__(self, *there: str) -> None:
        self.there = there
        self.tried: list[str] = []

    def exec(self, _namespace: str, _pod: str, argv: Any, **_: Any) -> Any:
        self.tried.append(argv[0])
        if argv[0] == "forbidden" or "forbidden" in self.there:
            raise HarnessError(Reason.FORBIDDEN, "exec is not allowed")
        good = argv[0] in self.there
        return SimpleNamespace(exit_code=0 if good else 127, stdout=NET, stderr="no such file")


def meter(container: Container, **spec: Any) -> Meter:
    item = pod(**spec)
    item["status"]["containerStatuses"] = [{"name": "engine"}]
    return Meter(cast("Any", SimpleNamespace(cluster=container)), "serving", item, {})


@pytest.mark.parametrize(
    ("there", "tried"),
    [
        (("python3", "sh", "cat"), ["python3", "python3"]),
        (("sh", "cat"), ["python3", "sh", "sh"]),
        (("cat",), ["python3", "sh", "cat", "cat"]),
    ],
)
def test_a_way_of_reading_that_works_is_kept(there: tuple[str, ...], tried: list[str]) -> None:
    container = Container(*there)
    one = meter(container)
    one.read()
    one.read()
    assert container.tried == tried
    assert [reading.received for reading in one.readings] == [1030, 1030]
    assert not one.why_not


@pytest.mark.parametrize(
    ("there", "spec", "why"),
    [
        ((), {}, "nothing that reads them"),
        (("forbidden",), {}, "exec is not allowed"),
        (("cat",), {"hostNetwork": True}, "node's network"),
    ],
)
def test_what_cannot_be_read_is_asked_for_once(
    there: tuple[str, ...], spec: dict[str, Any], why: str
) -> None:
    container = Container(*there)
    one = meter(container, **spec)
    one.read()
    tried = len(container.tried)
    one.read()
    assert len(container.tried) == tried
    assert why in one.why_not
    assert not one.readings


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"args": ["--model", "m", "--inter-token-latency=5"]}, ["--inter-token-latency"]),
        (
            {"command": ["sh", "-c", "exec /serve --model m --fake-metrics {}"]},
            ["--fake-metrics"],
        ),
        ({"command": ["vllm", "serve"], "args": ["--load-format", "dummy"]}, []),
        ({}, []),
    ],
)
def test_options_that_only_a_simulator_has_are_noted(
    words: dict[str, Any], expected: list[str]
) -> None:
    item = pod()
    item["spec"]["containers"][0].update(words)
    assert record(item, "decode", "by").flags == expected
