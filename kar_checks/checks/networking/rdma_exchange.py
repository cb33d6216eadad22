"""Exchanging data over RDMA devices that have no IP interface, by perftest's ib_write_bw.

The image of the probe pods must have that program. Its two ends find each other by TCP on the pod
network, a few kilobytes; where the data itself goes, the counters say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from kar_checks.checks.networking.rdma import port_of, ways
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.networks.records import Exchange, PodOnNetwork, RdmaEnd
from kar_checks.kit.networks.stage import MIB, PORT, Stage
from kar_checks.model import Fault

SIZE = 1 << 16
"""Bytes of a message: the program's default, and little memory to lock."""
_FEWEST = 5
"""Messages that the program wants at least."""


def exchange(stage: Stage, pods: list[PodOnNetwork], address: str) -> Exchange | None:
    """Let two pods write as much into each other's memory; ``address`` is the second's by TCP.

    Returns the record of the first way that works, or else of the last one; ``None`` where
    something that is needed is not there.

    Raises:
        HarnessError: the probe could not be asked.
    """
    ports = [port for one in pods if (port := port_of(one)) is not None]
    lacking = not all(one.look.verbs.program for one in pods)
    if len(ports) < 2 or lacking or not address:
        return None
    count = math.ceil(stage.trial.number("networking.mebibytes") * MIB / SIZE)
    order = {
        "tcp_port": PORT + 1,
        "size": SIZE,
        "count": max(_FEWEST, count),
        "ipv6": ":" in address,
        "seconds": stage.trial.number("networking.transfer_seconds"),
    }
    found: Exchange | None = None
    for number, (gids, *indices) in enumerate(ways(*ports)):
        work: dict[str, Callable[[], RdmaEnd]] = {}
        for pod, port, gid, peer in zip(pods, ports, indices, (address, ""), strict=True):
            own = {"device": port.device, "port": port.port, "gid": gid, "peer": peer}
            label = f"rdma{number}-{'client' if peer else 'server'}"
            work[label] = partial(stage.exchange, pod, order | own, label)
        ends: list[RdmaEnd] = []
        for part in stage.trial.side_by_side(work).values():
            if isinstance(part, Fault):
                raise HarnessError(part.reason, part.message, part.help)
            ends.append(part)
        found = Exchange(size=SIZE, count=order["count"], gids=gids, ends=(ends[0], ends[1]))
        if not all(one.exit_code for one in ends):
            break  # it worked, or an end waited in vain
    return found
