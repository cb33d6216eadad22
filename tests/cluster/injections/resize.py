"""Sabotages of in-place resize, from the host and by webhooks: never in the checks' own code."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kar_checks.cluster import kinds, quantity
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.connect import connect
from localcluster import ClusterError, LocalCluster
from tests.cluster.injections import SHORT_HOLD, injection
from tests.cluster.injections.webhook import Answer, webhook

LABELS = "app.kubernetes.io/name=kar-resize"
_VALUES = (
    *("cpu.max", "cpu.weight", "memory.max"),
    *("cpu.cfs_quota_us", "cpu.shares", "memory.limit_in_bytes"),
    "memory.memsw.limit_in_bytes",  # version 1 lets no memory limit exceed it
)
_POD_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "weight": ("cpu.shares", "cpu.weight"),
}
SHORT_SETTLE = (*SHORT_HOLD, "--set", "resize.settle_seconds=10")
"""A resize that others undo never comes to rest as we asked."""
_RECOMMENDED: Object = {
    "requests": {"cpu": "40m", "memory": "40Mi"},
    "limits": {"cpu": "350m", "memory": "112Mi"},
}
"""What another resizer wants: the sizes of no check."""
_BACK_SECONDS = 2.0
_WATCH_SECONDS = 600
_POLL_SECONDS = 0.02
_HANG_SECONDS = 100
"""Longer than a resize may take and an exec may stay unanswered; the cleanup needs the kubelet."""


@contextmanager
def _on_every_pod(local: LocalCluster, react: Callable[[Cluster, Object], None]) -> Iterator[None]:
    """Call ``react`` with every state of the trial's pods, in a thread."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        begin = own.list(kinds.POD, labels=LABELS).resource_version

        def follow() -> None:
            deadline = time.monotonic() + _WATCH_SECONDS
            for change, pod in own.watch(
                kinds.POD, resource_version=begin, deadline=deadline, labels=LABELS
            ):
                if change != "DELETED":
                    react(own, pod)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            own.stop()
            thread.join(10)


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return [one for one in found if one.get("containerID")]


def _node(local: LocalCluster, pod: Object) -> Any:
    return next(one for one in local.nodes if one.name == pod["spec"]["nodeName"])


def _being_resized(pod: Object) -> bool:
    """Say whether a resize made a new generation; a deletion makes one, too."""
    meta = pod["metadata"]
    return int(meta["generation"]) > 1 and "deletionTimestamp" not in meta


@injection(words=SHORT_HOLD)
@contextmanager
def kernel_written_back(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Somebody on the node keeps writing the first values into the kernel's files."""
    first: dict[Path, str] = {}
    known: set[str] = set()
    ended = threading.Event()

    def note(_: Cluster, pod: Object) -> None:
        for container in _containers(pod):
            if container["containerID"] in known or _being_resized(pod):
                continue
            known.add(container["containerID"])
            for name in _VALUES:
                for path in _node(local, pod).container_cgroup_files(
                    pod["metadata"]["uid"], container["containerID"], name
                ):
                    first[path] = path.read_text()

    def write_back() -> None:
        while not ended.wait(_POLL_SECONDS):
            for path, value in list(first.items()):
                # The container may have gone, or its pod's own limit may forbid the value.
                with contextlib.suppress(OSError):
                    if path.read_text() != value:
                        path.write_text(value.strip())

    with _beside(write_back, ended), _on_every_pod(local, note):
        yield


@contextmanager
def _beside(work: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    """Run ``work`` in a thread until ``ended`` is set at the end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


@contextmanager
def _pod_group_stays(local: LocalCluster, what: str) -> Iterator[None]:
    """The group above each container keeps its first values; the container's own files do not."""
    first: dict[Path, str] = {}
    ended = threading.Event()

    def note(_: Cluster, pod: Object) -> None:
        for container in [] if _being_resized(pod) else _containers(pod):
            for name in _POD_FILES[what]:
                for path in _node(local, pod).container_cgroup_files(
                    pod["metadata"]["uid"], container["containerID"], name
                ):
                    above = path.parent.parent / name
                    first.setdefault(above, above.read_text().strip())

    def write_back() -> None:
        while not ended.wait(_POLL_SECONDS):
            for path, value in list(first.items()):
                with contextlib.suppress(OSError):  # the pod may have gone
                    if path.read_text().strip() != value:
                        path.write_text(value)

    with _beside(write_back, ended), _on_every_pod(local, note):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def pod_memory_limit_stays(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """The pod's own memory limit stays as it was: the container's new one cannot be used up."""
    with _pod_group_stays(local, "memory"):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def pod_weight_stays(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """The pod's own CPU weight stays as it was: beside other pods the request changes nothing."""
    with _pod_group_stays(local, "weight"):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def containers_run_part_time(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """What resized containers compute stands still for 85 ms of every 100 ms; no file shows it.

    A quota of the pod that stayed behind does the same. Version 1 refuses to set one below a
    container's, and nothing can be started in a frozen container, so the children of the first
    process are stopped: it has them do its work.
    """
    ended = threading.Event()
    first: set[int] = set()

    def note(_: Cluster, pod: Object) -> None:
        for container in _containers(pod) if _being_resized(pod) else []:
            with contextlib.suppress(ClusterError):
                first.add(_node(local, pod).container_pid1(container["containerID"]))

    def tell(what: signal.Signals) -> None:
        for pid in list(first):
            with contextlib.suppress(OSError):  # it may have gone
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(child), what)

    def cycle() -> None:
        while not ended.wait(0.085):
            tell(signal.SIGCONT)
            time.sleep(0.015)
            tell(signal.SIGSTOP)
        tell(signal.SIGCONT)

    with _beside(cycle, ended), _on_every_pod(local, note):
        yield


@contextmanager
def _old_values_return(local: LocalCluster, *, above: bool) -> Iterator[None]:
    """Each changed file gets its former value again after 2 s, once; ``above``: of the pod only."""
    ended = threading.Event()
    places: dict[tuple[str, str, str], Path] = {}
    held: dict[tuple[str, str, str], str] = {}
    due: dict[tuple[str, str, str], tuple[float, str]] = {}

    def note(_: Cluster, pod: Object) -> None:
        uid = str(pod["metadata"]["uid"])
        for container in _containers(pod):
            for name in _VALUES:
                for path in _node(local, pod).container_cgroup_files(
                    uid, container["containerID"], name
                ):
                    key = ("pod" if above else container["name"], uid, name)
                    places[key] = path.parent.parent / name if above else path

    def write_back() -> None:
        while not ended.wait(_POLL_SECONDS):
            for key, path in list(places.items()):
                with contextlib.suppress(OSError):  # the container may have gone
                    value = path.read_text().strip()
                    if key in due and time.monotonic() > due[key][0]:
                        path.write_text(due[key][1])
                        held[key] = due.pop(key)[1]
                    elif held.setdefault(key, value) != value:
                        due[key] = (time.monotonic() + _BACK_SECONDS, held[key])
                        held[key] = value

    with _beside(write_back, ended), _on_every_pod(local, note):
        yield


@injection(words=("--set", "resize.hold_seconds=6"))
@contextmanager
def old_values_return(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Something on the node writes the containers' old values back 2 s after a resize."""
    with _old_values_return(local, above=False):
        yield


@injection(words=("--set", "resize.hold_seconds=8"))
@contextmanager
def old_pod_values_return(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Something on the node writes the old values of the pods' groups back 2 s after a resize."""
    with _old_values_return(local, above=True):
        yield


@injection(words=("--set", "resize.hold_seconds=6"))
@contextmanager
def status_goes_back(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Another writer of pod statuses puts the first resources back 2 s after a resize."""
    first: dict[str, list[Object]] = {}
    timers: list[threading.Timer] = []

    def note(own: Cluster, pod: Object) -> None:
        uid = str(pod["metadata"]["uid"])
        told = (pod.get("status") or {}).get("containerStatuses") or []
        if not _being_resized(pod):
            first[uid] = told
        elif uid in first and [one.get("resources") for one in told] != [
            one.get("resources") for one in first[uid]
        ]:
            body: Object = {
                "status": {"containerStatuses": first.pop(uid), "observedGeneration": 1}
            }
            meta = pod["metadata"]

            def patch() -> None:
                own.patch(kinds.POD, meta["name"], body, meta["namespace"], subresource="status")

            timers.append(threading.Timer(_BACK_SECONDS, patch))
            timers[-1].start()

    try:
        with _on_every_pod(local, note):
            yield
            for timer in timers:
                timer.join()
    finally:
        for timer in timers:
            timer.cancel()


@injection(words=SHORT_HOLD)
@contextmanager
def first_process_escapes(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """A container's first process leaves its control group, whose files go on to look right."""
    done: set[str] = set()

    def move(_: Cluster, pod: Object) -> None:
        uid = str(pod["metadata"]["uid"])
        if not _being_resized(pod) or uid in done:
            return
        done.add(uid)
        node = _node(local, pod)
        for container in _containers(pod):
            pid = node.container_pid1(container["containerID"])
            for name in ("memory.limit_in_bytes", "cpu.shares", "memory.max"):
                for path in node.container_cgroup_files(uid, container["containerID"], name):
                    outside = path.parent.parent.parent  # of all Burstable pods
                    with contextlib.suppress(OSError):
                        (outside / "cgroup.procs").write_text(str(pid))

    with _on_every_pod(local, move):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def container_killed_during_resize(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """The first process of each container is killed as soon as its pod is resized."""
    done: set[str] = set()

    def kill(_: Cluster, pod: Object) -> None:
        if not _being_resized(pod) or pod["metadata"]["uid"] in done:
            return
        done.add(pod["metadata"]["uid"])
        for container in _containers(pod):
            with contextlib.suppress(ClusterError, OSError):
                pid = _node(local, pod).container_pid1(container["containerID"])
                os.kill(pid, signal.SIGKILL)

    with _on_every_pod(local, kill):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def pod_replaced_during_resize(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Each pod is deleted as soon as it is resized, and one of the same name takes its place."""
    done: set[str] = set()
    replacements: list[Object] = []

    def replace(own: Cluster, pod: Object) -> None:
        meta = pod["metadata"]
        if not _being_resized(pod) or meta["uid"] in done:
            return
        done.add(meta["uid"])
        own.delete(kinds.POD, meta["name"], meta["namespace"], uid=meta["uid"], grace=0)
        body: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": meta["name"], "labels": meta["labels"]},
            "spec": {key: value for key, value in pod["spec"].items() if key != "nodeName"},
        }
        replacements.append(own.create(kinds.POD, body, meta["namespace"]))

    with _on_every_pod(local, replace):
        yield
    for pod in replacements:  # they are not the run's, which leaves them where they are
        meta = pod["metadata"]
        cluster.delete(kinds.POD, meta["name"], meta["namespace"], grace=0)


@injection()
@contextmanager
def kubelet_hangs_during_resize(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """The kubelet stops answering at the moment when a pod of its node is resized."""
    paused: list[str] = []
    timers: list[threading.Timer] = []

    def pause(_: Cluster, pod: Object) -> None:
        if _being_resized(pod) and not paused:
            paused.append(f"kubelet@{pod['spec']['nodeName']}")
            local.pause(paused[0])
            timers.append(threading.Timer(_HANG_SECONDS, local.resume, paused))
            timers[0].start()

    try:
        with _on_every_pod(local, pause):
            yield
    finally:
        for timer in timers:
            timer.cancel()
            local.resume(paused[0])
        local.ready()


@contextmanager
def _answering(
    cluster: Cluster,
    name: str,
    resource: str,
    operation: str,
    respond: Callable[[Object], Answer],
) -> Iterator[None]:
    """Let a mutating webhook answer one operation on pods, or on a subresource of theirs."""
    rule: Object = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": [operation],
        "resources": [resource],
    }
    with webhook(cluster, name=name, rules=[rule], respond=respond, mutating=True):
        yield


def _ours(request: Object) -> bool:
    labels = request["object"]["metadata"].get("labels") or {}
    return labels.get("app.kubernetes.io/name") == "kar-resize"


@injection(words=SHORT_HOLD)
@contextmanager
def resize_policy_ignored(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A webhook turns RestartContainer into NotRequired when pods are created."""

    def respond(request: Object) -> list[Object]:
        if not _ours(request):
            return []
        return [
            {
                "op": "replace",
                "path": f"/spec/containers/{index}/resizePolicy/{place}/restartPolicy",
                "value": "NotRequired",
            }
            for index, container in enumerate(request["object"]["spec"]["containers"])
            for place, policy in enumerate(container.get("resizePolicy") or [])
            if policy["restartPolicy"] == "RestartContainer"
        ]

    with _answering(cluster, "resize-policy-ignored", "pods", "CREATE", respond):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def resize_clamped(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A webhook turns requests that must be refused into no change, so that they are accepted."""

    def respond(request: Object) -> list[Object]:
        out: list[Object] = []
        old = request["oldObject"]["spec"]["containers"]
        for index, container in enumerate(request["object"]["spec"]["containers"]):
            asked, limits = container["resources"]["requests"], container["resources"]["limits"]
            guaranteed = all(asked[name] == limits[name] for name in ("cpu", "memory"))
            if _ours(request) and (guaranteed or quantity.parse(asked["cpu"]) > 2):
                path = f"/spec/containers/{index}/resources"
                out.append({"op": "replace", "path": path, "value": old[index]["resources"]})
        return out

    with _answering(cluster, "resize-clamped", "pods/resize", "UPDATE", respond):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def observed_generation_pinned(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A webhook keeps status.observedGeneration of the trial's pods at 1."""

    def respond(request: Object) -> list[Object]:
        if not _ours(request):
            return []
        return [{"op": "add", "path": "/status/observedGeneration", "value": 1}]

    with _answering(cluster, "observed-generation-pinned", "pods/status", "UPDATE", respond):
        yield


@injection(words=SHORT_HOLD)
@contextmanager
def resize_refused_by_policy(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A policy forbids large resizes, in words that name neither QoS classes nor nodes.

    Only a mutating webhook is asked before the API server's own rules.
    """

    def respond(request: Object) -> list[Object] | str:
        asked = request["object"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
        if _ours(request) and quantity.millicores(asked) > 50:
            return "resizes need a ticket"
        return []

    with _answering(cluster, "resize-refused-by-policy", "pods/resize", "UPDATE", respond):
        yield


@injection(words=SHORT_SETTLE)
@contextmanager
def resize_undone(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A webhook puts the former resources back into each resize request."""

    def respond(request: Object) -> list[Object]:
        old = request["oldObject"]["spec"]
        return [
            {
                "op": "replace",
                "path": f"/spec/{room}/{index}/resources",
                "value": container["resources"],
            }
            for room in ("containers", "initContainers")
            for index, container in enumerate(old.get(room) or [])
            if _ours(request)
        ]

    with _answering(cluster, "resize-undone", "pods/resize", "UPDATE", respond):
        yield


@injection(words=SHORT_SETTLE)
@contextmanager
def resized_by_another(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Another resizer, such as an autoscaler, gives pods its own sizes right after each resize."""
    made: set[tuple[str, int]] = set()

    def resize(own: Cluster, pod: Object) -> None:
        meta = pod["metadata"]
        if not _being_resized(pod) or (meta["uid"], int(meta["generation"])) in made:
            return
        containers = [
            {"name": one["name"], "resources": _RECOMMENDED} for one in pod["spec"]["containers"]
        ]
        body: Object = {"spec": {"containers": containers}}
        done = own.patch(kinds.POD, meta["name"], body, meta["namespace"], subresource="resize")
        made.add((meta["uid"], int(done["metadata"]["generation"])))

    with _on_every_pod(local, resize):
        yield
