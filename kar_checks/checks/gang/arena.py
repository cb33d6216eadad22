"""Choosing nodes on which the room can be sized exactly."""

from __future__ import annotations

from collections.abc import Sequence

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
    for node in nodes[:_TRIED]:
        hostname = (node["metadata"].get("labels") or {}).get(HOSTNAME)
        if not hostname:
            why.append(f"{node['metadata']['name']} has no label {HOSTNAME}")
            continue
        room = NodeRoom(trial.cluster, node, trial.workspace.run_id, seconds)
        room.settle(trial.number("gang.control_seconds"))
        if reason := _unfit(room, need, canaries):
            why.append(f"{room.node} {reason}")
            room.close()
            continue
        found.append((str(hostname), room))
        if len(found) == wanted:
            break
    if not found:
        raise HarnessError(
            Reason.UNSCHEDULABLE,
            f"no node has room for the gangs ({need} m CPU): {'; '.join(why[:8]) or 'no nodes'}",
            "choose nodes that have free CPU with `--node-selector` and `--toleration`",
        )
    return found


def _unfit(room: NodeRoom, need: int, canaries: Sequence[Canary]) -> str:
    if room.free() < need:
        return f"has {room.free()} m free"
    if room.free_pods() < _PODS:
        return f"takes only {room.free_pods()} pods more"
    ours = max((one.priority for one in canaries if one.preempts), default=None)
    lowest = room.lowest_priority()
    if ours is not None and lowest is not None and lowest < ours:
        return f"runs pods of priority {lowest}, which ours ({ours}) could preempt"
    return ""
