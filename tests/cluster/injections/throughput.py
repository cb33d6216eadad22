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

from kar_checks.cluster.client import Cluster, Object
from localcluster import LocalCluster
from localcluster.layout import MACHINE_ADDRESS, NODES
from localcluster.network import NAMESPACES
from localcluster.shell import run
from tests.cluster.injections import injection
from tests.cluster.injections.webhook import Answer, webhook

FIRST, SECOND = NODES[0], NODES[1]
PAIR = ("--set", f"throughput.nodes={FIRST.name},{SECOND.name}")
QUICK = (*PAIR, "--set", "throughput.side_cells=")
# What else the machine does must not decide what a sabotage shows.
STEADY = ("--set", "throughput.unstable_percent=1000")
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


@injection(
    words=(
        *QUICK,
        *STEADY,
        *("--set", "throughput.tcp_floor_mbit=1000"),
        *("--set", "throughput.mesh_floor_share=0.5"),
    )
)
def node_is_shaped(_: LocalCluster, __: Cluster) -> AbstractContextManager[None]:
    """One node's cable carries 100 Mbit/s, as with a wrong limit or a broken port."""
    return _bucket("100mbit", "64kb")


@injection(
    words=(
        *QUICK,
        *("--set", "throughput.latency_samples=300"),
        *("--set", "throughput.p99_ceiling_ms=2"),
    )
)
def requests_are_delayed(_: LocalCluster, __: Cluster) -> AbstractContextManager[None]:
    """A bucket of one packet at a low rate: each request waits some milliseconds."""
    return _bucket("200kbit", "1600")


@injection(words=(*QUICK, "--set", "throughput.udp_loss_ceiling_percent=0.5"))
def packets_are_lost(_: LocalCluster, __: Cluster) -> AbstractContextManager[None]:
    """One node loses two of a hundred packets that it forwards."""
    hook = "type filter hook forward priority 0"
    return _rules(SECOND.name, hook, "meta l4proto udp numgen random mod 100 < 2 drop")


@injection(words=QUICK)
@contextmanager
def path_is_narrow(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The cable of one node carries smaller packets than its pods believe, and tells nobody."""
    run(["ip", "link", "set", SECOND.link, "mtu", "1400"])
    try:
        yield
    finally:
        run(["ip", "link", "set", SECOND.link, "mtu", "1500"])


@injection(words=(*QUICK, "--set", "pods.start_seconds=20"))
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


@injection(words=(*QUICK, *STEADY))
def sender_is_limited(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook gives our pods a CPU limit, as a LimitRange would."""

    def limit(request: Object) -> Answer:
        if _AGENT not in (request["object"]["metadata"].get("labels") or {}):
            return []
        path = "/spec/containers/0/resources/limits/cpu"
        return [{"op": "add", "path": path, "value": "100m"}]

    return webhook(cluster, name="limit-cpu", rules=[_PODS], respond=limit, mutating=True)


@injection(words=(*QUICK, "--set", "throughput.repeats=1"))
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
