"""Choosing nodes on which the room can be sized exactly."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from kar_checks.checks.gang.observation import Canary
from kar_checks.checks.gang.stage import HALF
from kar_checks.checks.gang.watching import NodeRoom
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.quantity import millicores
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason

HOSTNAME = "kubernetes.io/hostname"
_TRIED = 30
"""So many nodes are looked at; a large cluster is not listed as a whole."""
_PODS = 12
"""More pods than any scenario has at a time."""


def choose(
    trial: Trial, places: int, wanted: int, *, canaries: Sequence[Canary], seconds: float
) -> list[tuple[str, NodeRoom]]:
    """Return up to ``wanted`` nodes with room for ``places`` members and a filler.

    Each with its hostname label. Small nodes come first: there the filler takes the least away
    from others. Where our pods, which are like the canaries, could preempt somebody's, that node
    is left alone.

    Raises:
        HarnessError: no node has the room.
    """
    member = int(trial.number("gang.member_millicores"))
    need = int((places + HALF + 1) * member)
    nodes = sorted(
        trial.facts.usable_nodes(trial.workspace.target),
        key=lambda node: millicores(node["status"]["allocatable"]["cpu"]),
    )
    found: list[tuple[str, NodeRoom]] = []
    why: list[str] = []
    short: set[str] = set()
    for node in nodes[:_TRIED]:
        hostname = (node["metadata"].get("labels") or {}).get(HOSTNAME)
        if not hostname:
            why.append(f"{node['metadata']['name']} has no label {HOSTNAME}")
            continue
        room = NodeRoom(trial.cluster, node, trial.workspace.run_id, seconds)
        room.settle(trial.number("gang.control_seconds"))
        if lacking := _lacking(room, need):
            short.update(lacking)
            room.close()
        elif reason := _preempts(room, canaries):
            why.append(f"{room.node} {reason}")
            room.close()
        else:
            found.append((str(hostname), room))
        if len(found) == wanted:
            break
    if not found:
        others = f": {'; '.join(why[:8])}" if why else ""
        if short:
            missing = {"cpu": Decimal(need) / 1000, "pods": Decimal(_PODS)}
            raise trial.no_room(
                f"no node has room for a gang, which needs {need}m of CPU and {_PODS} pods{others}",
                {one: missing[one] for one in sorted(short)},
            )
        raise HarnessError(
            Reason.UNSCHEDULABLE,
            f"no node can be used for the gangs{others or ': there is none'}",
            "choose other nodes with `--node-selector` and `--toleration`",
        )
    return found


def _lacking(room: NodeRoom, need: int) -> list[str]:
    """Return the resources of which a node has too little left."""
    cpu = ["cpu"] if room.free() < need else []
    return cpu + (["pods"] if room.free_pods() < _PODS else [])


def _preempts(room: NodeRoom, canaries: Sequence[Canary]) -> str:
    """Return whose pods ours could preempt on a node; empty if nobody's."""
    ours = max((one.priority for one in canaries if one.preempts), default=None)
    lowest = room.lowest_priority()
    if ours is not None and lowest is not None and lowest < ours:
        return f"runs pods of priority {lowest}, which ours ({ours}) could preempt"
    return ""
