"""``kar cleanup``: finds by label whatever killed runs left, and removes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.ownership import (
    Leftover,
    find_dependents,
    find_leftovers,
    owner_lives,
    remove_all,
)
from kar_checks.exits import Exit
from kar_checks.model import Reason
from kar_checks.options import Options

SEARCHED: tuple[Kind, ...] = (
    kinds.DEPLOYMENT,
    kinds.LEADER_WORKER_SET,
    kinds.JOB,
    kinds.HTTP_ROUTE,
    kinds.INFERENCE_POOL,
    kinds.GATEWAY,
    kinds.POD,
    kinds.RESOURCE_CLAIM,
    kinds.DEVICE_CLASS,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
    kinds.SECRET,
    kinds.NETWORK_POLICY,
    kinds.ROLE_BINDING,
    kinds.ROLE,
    kinds.SERVICE_ACCOUNT,
    *(
        Kind("scheduling.k8s.io", version, "podgroups", "PodGroup")
        for version in ("v1beta1", "v1alpha3", "v1alpha2")
    ),
    kinds.VOLCANO_POD_GROUP,
    kinds.COSCHEDULING_POD_GROUP,
    *(
        Kind("kueue.x-k8s.io", version, plural, kind, namespaced=kind == "LocalQueue")
        for plural, kind in (
            ("localqueues", "LocalQueue"),
            ("clusterqueues", "ClusterQueue"),
            ("resourceflavors", "ResourceFlavor"),
            ("topologies", "Topology"),
        )
        for version in ("v1beta2", "v1beta1")
    ),
    kinds.NAMESPACE,
)
"""Every kind that some check creates, in the order in which they are deleted."""

MADE_FOR_OURS: tuple[Kind, ...] = tuple(
    Kind("kueue.x-k8s.io", version, "workloads", "Workload") for version in ("v1beta2", "v1beta1")
)
"""Kueue keeps the pods of a group by a finalizer as long as their Workload is there.

It goes after them: while they are there, Kueue makes another one.
"""


def remove_leftovers(options: Options, *, run_id: str, yes: bool, dry_run: bool) -> int:
    """Delete what earlier runs left, and return the exit code.

    Objects of a run that still lives are kept unless the user agrees.
    """
    cluster = Cluster(connect(options.kubeconfig, options.context, in_cluster=options.in_cluster))
    try:
        found = _find(cluster, run_id, options.target.namespace)
        alive = [one for one in found if owner_lives(one.owner)]
        if alive and not dry_run and not (yes or _agrees(alive)):
            kept = {one.uid for one in alive}
            found = [one for one in found if one.uid not in kept]
            print(f"kept: {len(alive)} objects of a run that is still active")
        for one in found:
            where = f"{one.namespace}/" if one.namespace else ""
            print(f"{one.kind.kind} {where}{one.name} (run {one.run_id})")
        if not found:
            print("nothing of kar-checks is left")
            return int(Exit.OK)
        if dry_run:
            return int(Exit.OK)
        owned = [(one.kind, one.namespace, one.name, one.uid) for one in found]
        done = remove_all(cluster, owned, run_id=run_id or "ID", seconds=90)
    finally:
        cluster.close()
    for leak in done.leaks:
        print(f"left: {leak.object.kind} {leak.object.name}: {leak.why}", file=sys.stderr)
    print(f"removed {len(found) - len(done.leaks)} objects")
    return int(Exit.HARNESS if done.leaks else Exit.OK)


def _find(cluster: Cluster, run_id: str, namespace: str) -> list[Leftover]:
    found: dict[str, Leftover] = {}

    def search(kind: Kind, look: Callable[[], list[Leftover]]) -> None:
        try:
            for one in look():
                found.setdefault(one.uid, one)
        except HarnessError as error:
            if error.fault.reason is not Reason.FORBIDDEN:
                raise
            print(f"not searched: {kind.plural}: {error.fault.message}", file=sys.stderr)

    for kind in SEARCHED:
        search(kind, partial(find_leftovers, cluster, [kind], run_id=run_id, namespace=namespace))
    labelled = list(found.values())
    for kind in MADE_FOR_OURS:
        search(kind, partial(find_dependents, cluster, [kind], labelled))
    return list(found.values())


def _agrees(alive: Sequence[Leftover]) -> bool:
    runs = ", ".join(sorted({one.run_id for one in alive}))
    if not sys.stdin.isatty():
        print(f"run {runs} is still active; --yes also deletes its objects", file=sys.stderr)
        return False
    answer = input(f"run {runs} is still active; also delete its {len(alive)} objects? [y/N] ")
    return answer.strip().lower() in ("y", "yes")
