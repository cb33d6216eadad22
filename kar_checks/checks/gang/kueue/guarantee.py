"""What Kueue's admission holds beyond the quota: found out and shown, and no part of a verdict.

A gang has quota for all of its members, and one of them fits on no node. Admission by quota lets
the others start; topology-aware scheduling, which asks the nodes, holds the gang back as a whole.
"""

from __future__ import annotations

from typing import Any, cast

import yaml

from kar_checks import plain_yaml
from kar_checks.checks.gang.kueue import CONFIG_NAME, CONFIG_NAMESPACE
from kar_checks.checks.gang.kueue import api as kueue
from kar_checks.checks.gang.kueue.stage import QuotaStage
from kar_checks.checks.gang.observation import Fragmented, PodsReady
from kar_checks.checks.gang.placement import SIZE
from kar_checks.cluster import kinds
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.quantity import millicores
from kar_checks.kit.trial import Trial

_DEFAULT_TIMEOUT = "30m"
"""Kueue's own."""


def fragmented(stage: QuotaStage) -> Fragmented:
    """Let a gang with quota for all, and a node for all but one, be admitted or not."""
    stage.gang("gang", SIZE)
    stage.add("gang", range(SIZE - 1))
    stage.add_homeless("gang", SIZE - 1)
    stage.await_refusal("gang")
    stage.own.wait(
        lambda: len(stage.bound("gang")) == SIZE - 1,
        stage.trial.number("gang.fragmented_seconds"),
    )
    stage.own.sync()
    return Fragmented(
        size=SIZE,
        bound=len(stage.bound("gang")),
        admitted=kueue.admitted(stage.workload("gang") or {}),
        said=stage.refusal("gang").condition,
    )


def all_nodes(trial: Trial) -> int | None:
    """Return the allocatable millicores of all nodes for our pods, if we may list nodes."""
    if trial.facts.nodes is None:
        return None
    usable = trial.facts.usable_nodes(trial.workspace.target)
    return sum(millicores(one["status"]["allocatable"]["cpu"]) for one in usable)


def pods_ready(trial: Trial) -> PodsReady | None:
    """Read ``waitForPodsReady`` of Kueue's configuration, which not everybody may."""
    try:
        found = trial.cluster.find(kinds.CONFIG_MAP, CONFIG_NAME, CONFIG_NAMESPACE)
    except HarnessError:
        return None
    text = ((found or {}).get("data") or {}).get("controller_manager_config.yaml")
    return None if text is None else wait_for_pods_ready(str(text))


def wait_for_pods_ready(config: str) -> PodsReady | None:
    """Return what a configuration says of it; ``None`` if that cannot be understood."""
    try:
        loaded: Any = plain_yaml.parse(config)
    except yaml.YAMLError:
        return None
    if not isinstance(loaded, dict):
        return None
    wait: Any = cast("dict[str, Any]", loaded).get("waitForPodsReady")
    # Before v1beta2 of the configuration it had a switch of its own.
    if not isinstance(wait, dict) or cast("dict[str, Any]", wait).get("enable") is False:
        return PodsReady(on=False)
    said = cast("dict[str, Any]", wait)
    return PodsReady(
        on=True,
        timeout=str(said.get("timeout", _DEFAULT_TIMEOUT)),
        blocks=bool(said.get("blockAdmission", False)),
    )
