"""What is read of the stack's pods: interfaces, places of metrics, devices, restarts."""

from __future__ import annotations

from typing import Any

import pytest

from kar_checks.checks.stack.engines import known
from kar_checks.checks.stack.pods import address, parse_traffic, record, restarts

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
