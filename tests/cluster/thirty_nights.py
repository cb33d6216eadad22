"""Thirty real runs of the local cluster, some with a fault: `make nightly-series`, a quarter hour.

After each of them `kar regress` must tell what was done to the cluster, and nothing else. Its name
keeps it out of `make test`, which has no time for it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from localcluster import LocalCluster
from tests.cluster.injections import injections
from tests.cluster.injections.webhook import Answer, webhook
from tests.cluster.support import Kar

NIGHTS = 30
CPU, QOS, GANG = "resize.cpu_up_down", "resize.qos_change_refused", "gang.all_or_nothing"
SETTLES = "resize: a resize settles"
WORDS = (CPU, QOS, GANG, "--set", "gang.window_seconds=5")

RACING = (3, 5, 7)
REFUSING = 10
SLOW = range(14, NIGHTS)
WORN = range(14, NIGHTS)
UNGROUPED = range(20, 23)
CLAMPED = range(26, NIGHTS)

CHANGED: dict[int, list[tuple[str, str, int]]] = {
    3: [(CPU, "worse", 3)],
    4: [(CPU, "better", 4)],
    16: [(SETTLES, "worse", SLOW[0])],
    20: [(f"{GANG}[native]", "worse", 20)],
    23: [(f"{GANG}[native]", "better", 23)],
    26: [(QOS, "worse", 26)],
}
"""By the night that tells it: what, which way, and since which night."""
FLAPPING = range(5, 17)
"""From the third change until fewer than three lie within the last ten decided runs."""
ENVIRONMENT = {WORN[0]: ["node kar3: taints: — → worn:PreferNoSchedule"]}
DELAY_SECONDS = 3.0


def slow_resizes(cluster: Cluster) -> AbstractContextManager[None]:
    """The API server takes its time with every resize."""

    def wait(_: Object) -> Answer:
        time.sleep(DELAY_SECONDS)
        return []

    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["pods/resize"],
    }
    return webhook(cluster, name="slow-resizes", rules=[rule], respond=wait, mutating=False)


def no_pods(cluster: Cluster) -> AbstractContextManager[None]:
    """A policy lets nobody make pods, so that nothing can be measured."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    return webhook(
        cluster, name="no-pods", rules=[rule], respond=lambda _: "not tonight", mutating=False
    )


@contextmanager
def worn_node(cluster: Cluster) -> Iterator[None]:
    """A taint that keeps nobody away: something else that changed in the cluster."""

    def taint(taints: list[Object]) -> None:
        cluster.patch(kinds.NODE, "kar3", {"spec": {"taints": taints}})

    taint([{"key": "worn", "effect": "PreferNoSchedule"}])
    try:
        yield
    finally:
        taint([])


def faults(night: int, local: LocalCluster, cluster: Cluster) -> Iterator[Any]:
    """Yield what is done to the cluster in a night."""
    known = injections()
    if night in RACING:
        yield known["kernel_written_back"].apply(local, cluster)
    if night == REFUSING:
        yield no_pods(cluster)
    if night in SLOW:
        yield slow_resizes(cluster)
    if night in WORN:
        yield worn_node(cluster)
    if night in UNGROUPED:
        yield known["scheduler_ignores_gangs"].apply(local, cluster)
    if night in CLAMPED:
        yield known["resize_clamped"].apply(local, cluster)


def test_every_injected_change_and_no_other_is_told(
    local: LocalCluster, cluster: Cluster, kar: Kar, tmp_path: Path
) -> None:
    ids: list[str] = []
    for night in range(NIGHTS):
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            for one in faults(night, local, cluster):
                stack.enter_context(one)
            done = kar.run(*WORDS)
        ids.append(done.run.info.id)
        told = kar("regress", "--output", str(kar.output))
        found = json.loads((kar.output / "history" / "history.json").read_text("utf-8"))
        seconds = time.monotonic() - began
        print(f"\nnight {night} ({seconds:.0f} s), exit {told.code}: {told.output}", flush=True)
        assert said(found, ids) == expected(night), told.output
        assert told.code == code(night), told.output
    page = tmp_path / "runs" / "history" / "history.html"
    print(f"The page: {page}")
    assert page.stat().st_size < 1_000_000
    assert [len(found["runs"]), found["troubles"]] == [NIGHTS, []]
    assert sorted(key(one, ids) for one in [*found["earlier"], *found["changed"]]) == sorted(
        one for night in CHANGED for one in CHANGED[night]
    )


def key(change: dict[str, Any], ids: list[str]) -> tuple[str, str, int]:
    return change["name"], change["direction"], ids.index(change["since"])


def name(sentence: str) -> str:
    return sentence.partition(":")[0]


def said(found: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    """What a history says with its latest run."""
    return {
        "changed": [key(one, ids) for one in found["changed"]],
        "environment": found["environment"],
        "flapping": [name(one) for one in found["flapping"]],
        "unmeasured": [name(one) for one in found["unmeasured"]],
        "standing": [name(one) for one in found["standing"]],
    }


def expected(night: int) -> dict[str, Any]:
    """What it must say, by what was done."""
    standing = [f"{GANG}[native]"] if night in UNGROUPED[1:] else []
    standing += [QOS] if night in CLAMPED[1:] else []
    # Where no CPU follows a resize, nothing says why one was refused: its control fails.
    unmeasured = [QOS] if night in RACING else []
    if night == REFUSING:
        unmeasured = [f"{GANG}[native]", CPU, QOS]
    return {
        "changed": CHANGED.get(night, []),
        "environment": ENVIRONMENT.get(night, []),
        "flapping": [CPU] if night in FLAPPING else [],
        "unmeasured": unmeasured,
        "standing": standing,
    }


def code(night: int) -> int:
    """The exit code that it must have."""
    if any(way == "worse" for _, way, _ in CHANGED.get(night, [])):
        return 1
    undecided = night in (0, REFUSING, *FLAPPING)
    return 11 if undecided else 0
