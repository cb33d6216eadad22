"""Sabotages of the network between two nodes, and of the pods that measure it.

The kernel of a test machine need not have ``netem``: packets are lost by a random rule of nftables,
and links are narrowed by a token bucket (``tbf``) or by the MTU of a cable.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.facts import node_ready
from localcluster import LocalCluster
from localcluster.layout import MACHINE_ADDRESS, NODES
from localcluster.network import NAMESPACES
from localcluster.shell import run
from tests.cluster.injections import injection
from tests.cluster.injections.networking import offering
from tests.cluster.injections.waiting import wait
from tests.cluster.injections.webhook import Answer, webhook

FIRST, SECOND = NODES[0], NODES[1]


def _settings(**values: object) -> tuple[str, ...]:
    return tuple(
        word for name, value in values.items() for word in ("--set", f"throughput.{name}={value}")
    )


_DEMANDS: dict[str, object] = {
    # The nodes of this cluster are one machine: paced, its CPU does not decide.
    "max_bytes": 200000000,
    "side_cells": "",
    "omit_seconds": 0,
    "tcp_floor_mbit": 40,
    "mesh_floor_share": 0.5,
    "udp_mbit": 5,
    "udp_loss_ceiling_percent": 0.8,
    "latency_samples": 500,
    "latency_repeats": 1,
    "p99_ceiling_ms": 100,
}
DEMANDS = _settings(**_DEMANDS)
"""What the honest cluster meets, and a sabotaged one does not."""
LENIENT = _settings(
    **_DEMANDS
    | {
        "unstable_percent": 1000,
        "tcp_floor_mbit": 4,
        "mesh_floor_share": 0.02,
        "udp_loss_ceiling_percent": 50,
        "p99_ceiling_ms": 2000,
    }
)
"""For tests of other things: what else the machine does, another cluster say, decides nothing."""
SHORT = (
    *_settings(nodes=f"{FIRST.name},{SECOND.name}"),
    *_settings(cells="4 forward", side_cells="", repeats=2),
    # What else the machine does must not decide what a sabotage shows.
    *_settings(unstable_percent=1000),
)
QUICK = (*DEMANDS, *SHORT)
_IPERF3 = 7011
_BUSY_PORT = 7911
_AGENT = "kar-checks.dev/throughput"
_PODS: Object = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}


def _inside(node: str, *command: str, text: str | None = None) -> None:
    run(["nsenter", f"--net={NAMESPACES / node}", *command], stdin=text)


@contextmanager
def _bucket(rate: str, burst: str) -> Iterator[None]:
    """Let no more than ``rate`` through the second node's cable, either way."""
    words = f"tbf rate {rate} burst {burst} latency 100ms".split()
    run(["tc", "qdisc", "add", "dev", SECOND.link, "root", *words])
    try:
        _inside(SECOND.name, "tc", "qdisc", "add", "dev", "eth0", "root", *words)
        yield
    finally:
        run(["tc", "qdisc", "del", "dev", SECOND.link, "root"])
        _inside(SECOND.name, "tc", "qdisc", "del", "dev", "eth0", "root")


@contextmanager
def _rules(node: str, hook: str, rule: str) -> Iterator[None]:
    """Give a node a chain of its own with one rule of nftables."""
    table = f"table ip kar_sabotage {{\nchain c {{\n{hook}; policy accept;\n{rule}\n}}\n}}\n"
    _inside(node, "nft", "-f", "-", text=table)
    try:
        yield
    finally:
        _inside(node, "nft", "delete", "table", "ip", "kar_sabotage")


# What is written above the narrow rate waits in buffers, and the run for them.
@injection(words=(*QUICK, *_settings(max_bytes=40000000)))
@contextmanager
def node_is_shaped(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """One node's cable carries 20 Mbit/s, as with a wrong limit or a broken port."""
    wait("all nodes", lambda: all(node_ready(one) for one in cluster.list(kinds.NODE).items))
    with _bucket("20mbit", "16kb"):
        yield


@injection(addons=("dranet",), words=QUICK)
@contextmanager
def path_is_bad(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Of two nodes' networks each has faults of its own.

    One node loses two of a hundred packets of pods, and all datagrams above 1400 bytes. Its
    second network has another MTU than that of the other node.
    """
    hook = "type filter hook forward priority 0"
    lossy = "numgen random mod 100 < 2 drop\nmeta l4proto udp udp length > 1400 drop"
    node = local.nodes[1]

    def mtu(value: int) -> None:
        # The interface comes back some moments after the last pod that had it.
        found = ["ip", "link", "set", "net1", "mtu", str(value)]
        wait("net1 on the node", lambda: node.exec(found, check=False).returncode == 0)

    mtu(1400)
    try:
        with _rules(SECOND.name, hook, lossy):
            yield
    finally:
        mtu(1500)
        wait("its slices", lambda: len(offering(cluster)) == 2)


@injection(addons=("dranet",), words=(*QUICK, *_settings(networks="secondary")))
def agents_use_eth0(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook lets pods that have net1 measure over eth0."""

    def lead(request: Object) -> Answer:
        pod = request["object"]
        if _AGENT not in (pod["metadata"].get("labels") or {}):
            return []
        return [
            {"op": "replace", "path": f"/spec/containers/0/env/{index}/value", "value": "own"}
            for index, one in enumerate(pod["spec"]["containers"][0]["env"])
            if one["name"] == "KAR_MEASURE"
        ]

    return webhook(cluster, name="lead", rules=[_PODS], respond=lead, mutating=True)


@injection(words=(*QUICK, "--set", "pods.start_seconds=15"))
def all_on_one_node(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook puts all pods on one node, whatever they ask for."""

    def move(request: Object) -> Answer:
        if _AGENT not in (request["object"]["metadata"].get("labels") or {}):
            return []
        return [
            {"op": "remove", "path": "/spec/affinity"},
            {
                "op": "add",
                "path": "/spec/nodeSelector/kubernetes.io~1hostname",
                "value": FIRST.name,
            },
        ]

    return webhook(cluster, name="one-node", rules=[_PODS], respond=move, mutating=True)


@injection(words=SHORT)
def sender_is_limited(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook gives our pods a CPU limit, as a LimitRange would."""

    def limit(request: Object) -> Answer:
        if _AGENT not in (request["object"]["metadata"].get("labels") or {}):
            return []
        path = "/spec/containers/0/resources/limits/cpu"
        return [{"op": "add", "path": path, "value": "200m"}]

    return webhook(cluster, name="limit-cpu", rules=[_PODS], respond=limit, mutating=True)


@injection(words=QUICK)
@contextmanager
def server_is_busy(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """Whoever measures reaches an iperf3 server that is busy with somebody else."""
    quiet = subprocess.DEVNULL
    with contextlib.ExitStack() as stack:
        for words in (
            ["-s", "-p", str(_BUSY_PORT)],
            ["-c", "127.0.0.1", "-p", str(_BUSY_PORT), "-t", "600", "-b", "1M"],
        ):
            one = subprocess.Popen(["iperf3", *words], stdout=quiet, stderr=quiet)
            stack.callback(one.wait)
            stack.callback(one.kill)
            time.sleep(1)
            assert one.poll() is None, f"iperf3 {' '.join(words)} ended"
        stack.enter_context(
            _rules(
                FIRST.name,
                "type nat hook prerouting priority dstnat",
                f"tcp dport {_IPERF3} dnat to {MACHINE_ADDRESS}:{_BUSY_PORT}",
            )
        )
        yield
