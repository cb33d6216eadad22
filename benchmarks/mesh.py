"""Plans, simulates and renders the mesh of a large cluster without any network; see README.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import random
import shutil
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from kar_checks import profile, report
from kar_checks.checks.throughput.agenda import Agenda
from kar_checks.checks.throughput.figures import mesh_figures
from kar_checks.checks.throughput.observation import (
    POD_NETWORK,
    Mesh,
    NetworkSeen,
    ThroughputObservation,
)
from kar_checks.checks.throughput.statistics import node_figures, outliers
from kar_checks.checks.throughput.trial import mesh_seen
from kar_checks.report import figures
from probes import net_probe

BASE_REQUESTS = 21
"""What a run of the topic on three nodes counted: ConfigMaps, conductor, Job, lists, watches, log
and the removal of it all. None is made for each node."""
_OVERHEAD = 0.2


class Simulated(net_probe.Peer):
    """An agent that answers at once, as fast as the slower of the two nodes."""

    def __init__(self, name: str, speeds: dict[str, float]) -> None:
        self.hello = {"name": name, "address": name}
        self._name, self._speeds = name, speeds

    async def ask(self, order: dict[str, Any], _: float) -> dict[str, Any]:
        """Return what iperf3 would."""
        speed = min(self._speeds[self._name], self._speeds[order["host"]])
        speed *= random.uniform(0.9, 1.0)  # noqa: S311
        return {"json": {"end": {"sum_received": {"bits_per_second": speed}}}}


def page(stored: Path, mesh: Mesh, seed: int) -> dict[str, Any]:
    """Return what the page of a stored run of throughput costs with this mesh in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(stored, Path(folder) / stored.resolve().name))
        file = copy / "observations" / "throughput.json"
        seen = ThroughputObservation.model_validate_json(file.read_text("utf-8"))
        network = seen.networks[POD_NETWORK]
        if not isinstance(network, NetworkSeen):
            raise SystemExit(f"{stored} did not measure the pod network")
        network = network.model_copy(update={"mesh": mesh})
        kept = [one for one in seen.figures if one.kind != "heat" or one.variant != POD_NETWORK]
        changes = {
            "networks": {**seen.networks, POD_NETWORK: network},
            "figures": [*kept, *mesh_figures(POD_NETWORK, mesh, seed)],
        }
        file.write_text(seen.model_copy(update=changes).model_dump_json(), "utf-8")
        began = time.process_time()
        written = report.write_all(copy)[0]
        return {
            "page_cpu_seconds": round(time.process_time() - began, 2),
            "page_bytes": written.stat().st_size,
        }


def play(nodes: int, rounds: int, slow: int, stored: Path | None) -> dict[str, Any]:
    """Return the figures of one simulated mesh."""
    random.seed(1)
    names = [f"node-{number:04}" for number in range(nodes)]
    settings = [f"throughput.mesh_nodes={nodes}", f"throughput.mesh_rounds={rounds}"]
    agenda = Agenda(profile.load(None, settings), 7, frozenset(["throughput.mesh"]), nodes=nodes)
    plan = agenda.mesh(names)
    speeds = dict.fromkeys(names, 1e10)
    bad = random.sample(names, slow)
    speeds |= dict.fromkeys(bad, 1e9)

    conductor = net_probe.Conductor({"expect": []})
    conductor.peers = {name: Simulated(name, speeds) for name in names}
    printed = io.StringIO()
    began = time.monotonic()
    with contextlib.redirect_stdout(printed):
        asyncio.run(conductor._mesh(plan))
    conducted = time.monotonic() - began

    text = printed.getvalue()
    tracemalloc.start()
    seen: Mesh = mesh_seen(plan, [json.loads(line) for line in text.splitlines()], nodes)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Of the processor: other work of the machine does not count.
    began = time.process_time()
    drawn = mesh_figures("pod network", seen, 7)
    pictures = [figures.svg(one, f"f{number}") for number, one in enumerate(drawn)]
    rendered = time.process_time() - began
    found = outliers(node_figures(seen.megabits))
    return {
        "nodes": nodes,
        "rounds": len(plan["rounds"]),
        "pairs": seen.planned_pairs,
        "seconds_on_a_cluster": round(len(plan["rounds"]) * (agenda.mesh_seconds + _OVERHEAD)),
        "seconds_of_conducting_beside_it": round(conducted, 1),
        "api_requests": BASE_REQUESTS,
        "plan_bytes": len(json.dumps(plan)),
        "log_bytes": len(text),
        "observation_bytes": len(seen.model_dump_json()),
        "memory_of_the_result_bytes": held,
        "memory_while_reading_bytes": peak,
        "slow_nodes_found": sorted(seen.nodes[one] for one in found.nodes) == sorted(bad),
        "drawing_cpu_seconds": round(rendered, 2),
        "drawing_bytes": sum(len(one) for one in pictures),
        **(page(stored, seen, 7) if stored else {}),
    }


def main() -> None:
    """Print everything as JSON: a full tournament, and the default's sample of rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a stored run of throughput: time its page, too")
    given = parser.parse_args()
    whole = play(given.nodes, given.nodes, given.slow, given.run)
    sample = play(given.nodes, 9, given.slow, given.run)
    print(json.dumps({"all_rounds": whole, "nine_rounds": sample}, indent=1))


if __name__ == "__main__":
    main()
