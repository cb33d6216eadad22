"""Sabotages of Kueue: what reaches it, its queues, what it counts, and its controller."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.cluster import kinds
from kar_checks.cluster.client import MERGE, Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from localcluster import LocalCluster
from localcluster.addons.install import wait_ready
from localcluster.addons.kueue import KUEUE
from tests.cluster.injections import Break, injection
from tests.cluster.injections.webhook import Answer, webhook

_GROUP = "kueue.x-k8s.io"
_QUEUE = f"{_GROUP}/queue-name"
_COUNT = f"{_GROUP}/pod-group-total-count"
_ROLE = "kar-checks.dev/role"
_WATCH_SECONDS = 600
_CONTROLLER = Kind("apps", "v1", "deployments", "Deployment")
_WINDOWS = ("--set", "gang.window_seconds=8", "--set", "gang.incomplete_seconds=5")


def _rule(group: str, resource: str) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": [resource],
    }


def _kueue(*words: str) -> Callable[[Break], Break]:
    return injection(addons=("kueue",), words=("--set", "gang.backends=kueue", *_WINDOWS, *words))


def _mutate(
    cluster: Cluster, name: str, rules: list[Object], respond: Callable[[Object], Answer]
) -> AbstractContextManager[None]:
    """Change what is created before Kueue's own webhook sees it: they are asked by their names."""
    return webhook(cluster, name=f"a-{name}", rules=rules, respond=respond, mutating=True)


@_kueue()
def queue_label_stripped(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Pods and Jobs lose the name of their queue, so that Kueue lets them go."""

    def strip(request: Object) -> Answer:
        if _QUEUE not in (request["object"]["metadata"].get("labels") or {}):
            return []
        return [{"op": "remove", "path": f"/metadata/labels/{_QUEUE.replace('/', '~1')}"}]

    rules = [_rule("", "pods"), _rule("batch", "jobs")]
    return _mutate(cluster, "strip-queue", rules, strip)


@_kueue()
def pod_group_of_two(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Members say that their group is of two, so that it is complete, and admitted, too early."""

    def shrink(request: Object) -> Answer:
        if _COUNT not in (request["object"]["metadata"].get("annotations") or {}):
            return []
        path = f"/metadata/annotations/{_COUNT.replace('/', '~1')}"
        return [{"op": "replace", "path": path, "value": "2"}]

    return _mutate(cluster, "group-of-two", [_rule("", "pods")], shrink)


@_kueue()
def local_queue_held(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Every LocalQueue is inactive."""
    return _hold(cluster, "localqueues")


@_kueue()
def cluster_queue_stopped(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Every ClusterQueue is stopped."""
    return _hold(cluster, "clusterqueues")


def _hold(cluster: Cluster, resource: str) -> AbstractContextManager[None]:
    def hold(_: Object) -> Answer:
        return [{"op": "add", "path": "/spec/stopPolicy", "value": "Hold"}]

    return _mutate(cluster, f"hold-{resource}", [_rule(_GROUP, resource)], hold)


@_kueue()
def groups_counted_as_nothing(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Kueue is told that the pods of a group request next to nothing, and admits too much."""

    def lower(request: Object) -> Answer:
        sets = request["object"]["spec"]["podSets"]
        return [
            {
                "op": "replace",
                "path": f"/spec/podSets/{index}/template/spec/containers/0/resources/requests/cpu",
                "value": "1m",
            }
            for index, one in enumerate(sets)
            if one.get("count", 1) > 1
        ]

    return _mutate(cluster, "count-nothing", [_rule(_GROUP, "workloads")], lower)


@_kueue()
@contextmanager
def gates_lifted(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Somebody takes the gates from waiting members of a group, and they start without Kueue."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        begin = own.list(kinds.POD, labels=f"{_ROLE}=gang").resource_version
        thread = threading.Thread(target=_lift, args=(own, begin), daemon=True)
        thread.start()
        try:
            yield
        finally:
            own.stop()
            thread.join(10)


def _lift(own: Cluster, begin: str) -> None:
    deadline = time.monotonic() + _WATCH_SECONDS
    for change, pod in own.watch(
        kinds.POD, resource_version=begin, deadline=deadline, labels=f"{_ROLE}=gang"
    ):
        name, namespace = str(pod["metadata"]["name"]), pod["metadata"]["namespace"]
        if change == "ADDED" and name.endswith("-gang-0"):
            with contextlib.suppress(ApiError):
                own.patch(
                    kinds.POD, name, {"spec": {"schedulingGates": None}}, namespace,
                    content_type=MERGE,
                )  # fmt: skip


# No namespace can be removed as long as an aggregated API, which Kueue has too, does not answer.
@_kueue("--namespace", "default")
@contextmanager
def kueue_stopped(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Kueue's API is served, and its controller does not run."""
    _scale(cluster, 0)
    try:
        yield
    finally:
        _scale(cluster, 1)
        wait_ready(KUEUE, local)


def _scale(cluster: Cluster, replicas: int) -> None:
    name, namespace = "kueue-controller-manager", "kueue-system"
    cluster.patch(
        _CONTROLLER, name, {"spec": {"replicas": replicas}}, namespace, content_type=MERGE
    )
    deadline = time.monotonic() + 60
    while len(cluster.list(kinds.POD, namespace).items) != replicas:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} has not {replicas} pods after 60 s")
        time.sleep(0.2)
