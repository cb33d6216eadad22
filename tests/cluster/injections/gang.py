"""Sabotages of gang scheduling: the scheduler, admission, and bindings of single pods."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.checks.gang.native import GROUP as NATIVE_GROUP
from kar_checks.checks.gang.native import VERSIONS as NATIVE_VERSIONS
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from localcluster import LocalCluster
from tests.cluster.injections import SHORT_WINDOWS, injection
from tests.cluster.injections.webhook import Answer, webhook

_GANG = "kar-checks.dev/gang"
_ROLE = "kar-checks.dev/role"
_MERGE = "application/merge-patch+json"
_WATCH_SECONDS = 600
_PODS: Object = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}
_BINDINGS: Object = {**_PODS, "resources": ["pods/binding"]}
_GROUPS: Object = {
    "apiGroups": ["scheduling.k8s.io"],
    "apiVersions": ["*"],
    "operations": ["CREATE"],
    "resources": ["podgroups"],
}


def _gates(local: LocalCluster, on: bool) -> dict[str, bool]:
    return dict.fromkeys(local.settings.release.gang_gates, on)


@injection(words=SHORT_WINDOWS)
@contextmanager
def scheduler_ignores_gangs(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """The API accepts and keeps gangs, and the scheduler treats their pods one by one."""
    local.restart("kube-scheduler", feature_gates=_gates(local, on=False))
    try:
        yield
    finally:
        local.restart("kube-scheduler")
        local.ready()


@injection(words=(*SHORT_WINDOWS, "--set", "gang.bind_seconds=10"))
@contextmanager
def scheduler_stands_still(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """Nothing is scheduled at all: every pod waits, and that proves nothing."""
    local.pause("kube-scheduler")
    try:
        yield
    finally:
        local.resume("kube-scheduler")
        local.restart("kube-scheduler")
        local.ready()


@injection(words=SHORT_WINDOWS)
@contextmanager
def no_gang_scheduler(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """No API server serves groups."""
    off = _gates(local, on=False)
    local.restart("kube-apiserver", feature_gates=off)
    local.restart("kube-scheduler", feature_gates=off)
    local.ready()
    try:
        yield
    finally:
        local.restart("kube-apiserver")
        local.restart("kube-scheduler")
        local.ready()


@injection(words=SHORT_WINDOWS)
def group_field_stripped(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook takes away what makes a pod a member."""

    def strip(request: Object) -> Answer:
        if "schedulingGroup" not in request["object"]["spec"]:
            return []
        return [{"op": "remove", "path": "/spec/schedulingGroup"}]

    return webhook(cluster, name="strip-group", rules=[_PODS], respond=strip, mutating=True)


@injection(words=SHORT_WINDOWS)
def group_of_one(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook makes every group as small as can be, so that each pod may start by itself."""

    def shrink(_: Object) -> Answer:
        return [{"op": "replace", "path": "/spec/schedulingPolicy/gang/minCount", "value": 1}]

    return webhook(cluster, name="group-of-one", rules=[_GROUPS], respond=shrink, mutating=True)


@injection(words=SHORT_WINDOWS)
def requests_halved(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook makes pods smaller, so that more of them fit than was calculated."""

    def halve(request: Object) -> Answer:
        if _GANG not in (request["object"]["metadata"].get("labels") or {}):
            return []
        path = "/spec/containers/0/resources/requests/cpu"
        return [{"op": "replace", "path": path, "value": "25m"}]

    return webhook(cluster, name="halve-requests", rules=[_PODS], respond=halve, mutating=True)


@injection(words=SHORT_WINDOWS)
def control_not_bound(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Plain pods of the control group cannot be bound, whatever room there is."""
    return _refuse_bindings(cluster, lambda pod: pod["labels"].get(_ROLE) == "control")


@injection(words=SHORT_WINDOWS)
def witness_not_bound(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Plain pods beside the waiting gang cannot be bound."""
    return _refuse_bindings(cluster, lambda pod: pod["labels"].get(_ROLE) == "witness")


@injection(words=(*SHORT_WINDOWS, "--set", "gang.bind_seconds=10"))
def one_binding_refused(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The scheduler decides for the whole gang, and one of its members cannot be bound."""

    def unlucky(pod: Object) -> bool:
        return pod["labels"].get(_ROLE) == "gang" and str(pod["name"]).endswith("-1")

    return _refuse_bindings(cluster, unlucky)


def _refuse_bindings(
    cluster: Cluster, chosen: Callable[[Object], bool]
) -> AbstractContextManager[None]:
    def refuse(request: Object) -> Answer:
        pod = cluster.get(kinds.POD, request["name"], request["namespace"])["metadata"]
        if chosen({"name": pod["name"], "labels": pod.get("labels") or {}}):
            return "this pod gets no node"
        return []

    return webhook(
        cluster, name="refuse-binding", rules=[_BINDINGS], respond=refuse, mutating=False
    )


@injection(words=SHORT_WINDOWS)
def late_partial_start(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """A waiting member gets a node some seconds after it was created, behind the scheduler."""
    return _with_pods(local, _bind_late)


@injection(words=SHORT_WINDOWS)
def foreign_pod_arrives(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Somebody else's pod lands on the node while the gang waits there."""
    return _with_pods(local, _put_stranger)


@injection(words=SHORT_WINDOWS)
def filler_deleted_early(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Somebody deletes the pod that fills the node while the gang waits."""
    return _with_pods(local, _delete_filler)


@injection(words=SHORT_WINDOWS)
def group_deleted_midway(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Somebody deletes the PodGroup while its gang waits."""
    return _with_pods(local, _delete_group)


@injection(words=SHORT_WINDOWS)
def group_made_smaller_midway(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Somebody makes the PodGroup as small as can be while its gang waits."""
    return _with_pods(local, _shrink_group)


def _delete_group(own: Cluster, pod: Object) -> None:
    time.sleep(2)
    own.delete(*_group_of(own, pod))


def _shrink_group(own: Cluster, pod: Object) -> None:
    time.sleep(2)
    kind, name, namespace = _group_of(own, pod)
    body: Object = {"spec": {"schedulingPolicy": {"gang": {"minCount": 1}}}}
    own.patch(kind, name, body, namespace, content_type=_MERGE)


def _group_of(own: Cluster, pod: Object) -> tuple[Kind, str, str]:
    """Return how the PodGroup of a pod is addressed, in the version that the server has."""
    served = own.call("GET", f"/apis/{NATIVE_GROUP}")["versions"]
    version = next(one for one in NATIVE_VERSIONS if one in {each["version"] for each in served})
    kind = Kind(NATIVE_GROUP, version, "podgroups", "PodGroup")
    return kind, str(pod["spec"]["schedulingGroup"]["podGroupName"]), pod["metadata"]["namespace"]


def _bind_late(own: Cluster, pod: Object) -> None:
    node = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"]
    namespace, name = pod["metadata"]["namespace"], str(pod["metadata"]["name"])
    time.sleep(3)
    body: Object = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
    with contextlib.suppress(ApiError):
        own.call("POST", kinds.POD.path(namespace, name, "binding"), body=body)


def _put_stranger(own: Cluster, pod: Object) -> None:
    node = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"]
    container: Object = {
        "name": "main",
        "image": pod["spec"]["containers"][0]["image"],
        "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": "5m"}},
    }
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"stranger-{node}"},
        "spec": {
            "nodeName": node,
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
        },
    }
    own.create(kinds.POD, body, "default")


def _delete_filler(own: Cluster, pod: Object) -> None:
    namespace, name = pod["metadata"]["namespace"], str(pod["metadata"]["name"])
    backend, scenario = name.split("-")[:2]
    time.sleep(2)
    own.delete(kinds.POD, f"{backend}-{scenario}-filler-0", namespace)


@contextmanager
def _with_pods(local: LocalCluster, react: Callable[[Cluster, Object], None]) -> Iterator[None]:
    """Call ``react`` once with the first member of each gang that was created, in a thread."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        begin = own.list(kinds.POD, labels=_GANG).resource_version
        busy: list[threading.Thread] = []

        def follow() -> None:
            deadline = time.monotonic() + _WATCH_SECONDS
            for change, pod in own.watch(
                kinds.POD, resource_version=begin, deadline=deadline, labels=f"{_ROLE}=gang"
            ):
                name = str(pod["metadata"]["name"])
                if change == "ADDED" and name.endswith("-0") and "canary" not in name:
                    busy.append(threading.Thread(target=react, args=(own, pod), daemon=True))
                    busy[-1].start()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            own.stop()
            for one in [thread, *busy]:
                one.join(10)
            for pod in own.list(kinds.POD, "default").items:
                if pod["metadata"]["name"].startswith("stranger-"):
                    own.delete(kinds.POD, pod["metadata"]["name"], "default", grace=0)
