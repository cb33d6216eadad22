"""Our throughput divided by a hand-started iperf3 between the same two pods; see README.md.

On the local cluster: the conductor runs in this process, which pods can reach there, so that its
steps and `iperf3` by exec can alternate. Prints every pair, the ratio of the medians, the spreads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import random
import statistics
import sys
import time
from typing import Any

from kar_checks import paths, profile
from kar_checks.checks.throughput import crew, iperf
from kar_checks.checks.throughput.agenda import Agenda
from kar_checks.checks.throughput.observation import Cell
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.local import local_images, local_kubeconfig
from kar_checks.store import new_run_id
from localcluster.layout import MACHINE_ADDRESS, NODES
from probes import net_probe

FIRST, SECOND = NODES[0].name, NODES[1].name
CELL = Cell(streams=4, direction="forward")


class Alternating(net_probe.Conductor):
    """Measures by itself and by hand in turns, each pair in an order of its own."""

    def __init__(self, pairs: int, order: dict[str, Any], cluster: Cluster, namespace: str) -> None:
        super().__init__({"expect": [FIRST, SECOND], "wait_seconds": 60, "mesh": None, "steps": []})
        self.pairs, self.order = pairs, order
        self.cluster, self.namespace = cluster, namespace
        self.found: list[dict[str, float]] = []

    async def alternate(self) -> None:
        """Wait for the agents, then measure in turns."""
        server = await asyncio.start_server(self.welcome, sock=net_probe._control())
        async with server:
            await asyncio.wait_for(self._complete.wait(), 60)
            for _ in range(self.pairs):
                ways = [("ours", self._ours), ("by_hand", self._by_hand)]
                random.shuffle(ways)
                self.found.append({name: await measure() for name, measure in ways})
            for peer in self.peers.values():
                peer.end()

    async def _ours(self) -> float:
        printed = io.StringIO()
        step = {"id": "tcp", "client": FIRST, "server": SECOND, "order": self.order}
        with contextlib.redirect_stdout(printed):
            await self._step(step)
        run = iperf.tcp_run(json.loads(printed.getvalue()), CELL, 0, judged=True, evidence="")
        if run.received is None:
            raise SystemExit(run.error)
        return run.received

    async def _by_hand(self) -> float:
        name, host = str(self.peers[FIRST].hello["pod"]), self.peers[SECOND].address
        argv = ["iperf3", "-J", "-c", host, "-p", str(net_probe.IPERF3), *self.order["args"]]
        while True:
            done = await asyncio.to_thread(
                self.cluster.exec, self.namespace, name, argv, seconds=60
            )
            told = json.loads(done.stdout)
            if "busy" not in str(told.get("error")):
                return float(told["end"]["sum_received"]["bits_per_second"])
            await asyncio.sleep(0.25)


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=3)
    given = parser.parse_args()
    settings = [f"throughput.seconds={given.seconds}", "throughput.cells=4 forward"]
    agenda = Agenda(profile.load(None, settings), 1, frozenset(["throughput.tcp"]), nodes=2)
    order = agenda.tcp_order(CELL)
    target = Target(images=local_images())
    with contextlib.closing(
        Cluster(connect(local_kubeconfig(), None), run_id="benchmark")
    ) as cluster:
        workspace = Workspace(cluster, target, run_id=new_run_id(), until=time.time() + 900)
        try:
            workspace.open()
            data = {"net_probe.py": paths.data("probes", "net_probe.py").read_text("utf-8")}
            meta = {"name": "kar-probe-net-probe"}
            workspace.create(
                kinds.CONFIG_MAP,
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data},
            )
            workspace.create(
                kinds.JOB,
                crew.agents(
                    "benchmark",
                    [FIRST, SECOND],
                    MACHINE_ADDRESS,
                    image=target.image("net"),
                    probe=meta["name"],
                    host_network=False,
                ),
            )
            conductor = Alternating(given.pairs, order, cluster, workspace.namespace)
            with contextlib.redirect_stdout(sys.stderr):  # the agents' greetings
                asyncio.run(conductor.alternate())
        finally:
            workspace.close()
    print(json.dumps(summary(conductor.found), indent=1))


def summary(found: list[dict[str, float]]) -> dict[str, Any]:
    """Return the medians, their ratio, the median of the pairs' ratios, and the spreads."""
    medians = {name: statistics.median(one[name] for one in found) for name in ("ours", "by_hand")}
    return {
        "pairs": [{name: round(value / 1e9, 3) for name, value in one.items()} for one in found],
        "median_gbit": {name: round(value / 1e9, 3) for name, value in medians.items()},
        "ratio_of_medians": round(medians["ours"] / medians["by_hand"], 4),
        "median_of_ratios": round(statistics.median(o["ours"] / o["by_hand"] for o in found), 4),
        "variation_percent": {
            name: round(
                100
                * statistics.stdev(one[name] for one in found)
                / statistics.fmean(one[name] for one in found),
                1,
            )
            for name in medians
        },
    }


if __name__ == "__main__":
    main()
