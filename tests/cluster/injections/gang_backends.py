"""Sabotages of the gang schedulers beside the native one: what reaches them, and who does not run.

They share one cluster, and each breaks several at once: every one is assessed by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from kar_checks.cluster.client import Cluster, Object
from localcluster import LocalCluster
from localcluster.addons.install import wait_ready
from localcluster.addons.kueue import KUEUE
from tests.cluster.injections import Break, injection, second_scheduler
from tests.cluster.injections.scaling import no_replicas
from tests.cluster.injections.webhook import Answer, webhook

ADDONS = ("coscheduling", "kueue", "volcano")
SHORT = (
    *("--set", "gang.window_seconds=6", "--set", "gang.incomplete_seconds=4"),
    # Several gang schedulers on two processors: a witness may be late, and still is one.
    *("--set", "gang.witness_seconds=20"),
)
_QUEUE = "kueue.x-k8s.io/queue-name"
_COUNT = "kueue.x-k8s.io/pod-group-total-count"
_FAST = "kueue.x-k8s.io/pod-group-fast-admission"
_MIN_PARALLELISM = "kueue.x-k8s.io/job-min-parallelism"
_COSCHEDULING = "scheduling.x-k8s.io/pod-group"
_VOLCANO = "scheduling.k8s.io/group-name"
_GANG = "kar-checks.dev/gang"


_GROUP_OF_USER = """
apiVersion: scheduling.x-k8s.io/v1alpha1
kind: PodGroup
metadata: {name: "{{ group }}"}
spec: {minMember: {{ size }}, scheduleTimeoutSeconds: 5}
"""
DESCRIBED = (
    *("--set", f"gang.custom_scheduler={second_scheduler.NAME}"),
    *("--set", f"gang.custom_labels={_COSCHEDULING}: {{{{ group }}}}"),
    *("--set", f"gang.custom_objects={_GROUP_OF_USER}"),
    *("--set", "gang.custom_size_field=spec.minMember"),
)
"""Words for ``kar run`` that describe coscheduling as the user's own scheduler."""


def only(*names: str) -> tuple[str, ...]:
    """Return words for ``kar run`` that choose gang schedulers."""
    return ("--set", f"gang.backends={','.join(names)}")


def _sabotage(*names: str, words: tuple[str, ...] = ()) -> Callable[[Break], Break]:
    return injection(addons=ADDONS, words=(*only(*names), *SHORT, *words))


def _rule(group: str, resource: str) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": [resource],
    }


def _mutate(
    cluster: Cluster, name: str, respond: Mapping[tuple[str, str], Callable[[Object], Answer]]
) -> AbstractContextManager[None]:
    """Change what is created, by its group and resource, before Kueue's own webhook sees it.

    Webhooks are asked in the order of their names.
    """

    def answer(request: Object) -> Answer:
        resource = request["resource"]
        return respond[resource["group"], resource["resource"]](request["object"])

    rules = [_rule(*one) for one in respond]
    return webhook(cluster, name=f"a-{name}", rules=rules, respond=answer, mutating=True)


def _key(place: str, key: str) -> str:
    return f"/metadata/{place}/{key.replace('/', '~1')}"


def _replaced(body: Object, place: str, key: str, value: str) -> Answer:
    """Return the change of a label or annotation, where there is one."""
    if key not in (body["metadata"].get(place) or {}):
        return []
    return [{"op": "replace", "path": _key(place, key), "value": value}]


def _group(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(_GANG, ""))


def groups_changed(cluster: Cluster) -> AbstractContextManager[None]:
    """Volcano's PodGroups are of one, and what is for Kueue loses the name of its queue."""

    def strip(body: Object) -> Answer:
        if _QUEUE not in (body["metadata"].get("labels") or {}):
            return []
        return [{"op": "remove", "path": _key("labels", _QUEUE)}]

    def shrink(_: Object) -> Answer:
        return [{"op": "replace", "path": "/spec/minMember", "value": 1}]

    changes = {
        ("", "pods"): strip,
        ("batch", "jobs"): strip,
        ("scheduling.volcano.sh", "podgroups"): shrink,
    }
    return _mutate(cluster, "groups-changed", changes)


@_sabotage("kueue", "volcano")
def groups_changed_on_their_way_in(
    _: LocalCluster, cluster: Cluster
) -> AbstractContextManager[None]:
    """Volcano's PodGroups are of one, and what is for Kueue loses the name of its queue."""
    return groups_changed(cluster)


@_sabotage("kueue", "volcano", "coscheduling")
def members_led_astray(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Pods name a group that is not there, or one of two, and Jobs may be admitted in part."""

    def lead(body: Object) -> Answer:
        small = _group(body).startswith(("kueue-squeeze", "kueue-incomplete"))
        return [
            *_replaced(body, "labels", _COSCHEDULING, "elsewhere"),
            *_replaced(body, "annotations", _VOLCANO, "elsewhere"),
            *(_replaced(body, "annotations", _COUNT, "2") if small else []),
        ]

    def in_part(body: Object) -> Answer:
        annotations = {**(body["metadata"].get("annotations") or {}), _MIN_PARALLELISM: "1"}
        return [{"op": "add", "path": "/metadata/annotations", "value": annotations}]

    changes = {("", "pods"): lead, ("batch", "jobs"): in_part}
    return _mutate(cluster, "astray", changes)


@_sabotage("kueue", words=("--set", "gang.control_seconds=5"))
def queues_held(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Half of the LocalQueues are inactive, and half of the ClusterQueues are stopped."""

    def hold(body: Object) -> Answer:
        local = str(body["metadata"]["name"]).endswith(("squeeze", "fits"))
        if local is not (body["kind"] == "LocalQueue"):
            return []
        return [{"op": "add", "path": "/spec/stopPolicy", "value": "Hold"}]

    group = "kueue.x-k8s.io"
    return _mutate(cluster, "held", {(group, "localqueues"): hold, (group, "clusterqueues"): hold})


@_sabotage(
    *("kueue", "volcano", "coscheduling", "custom"),
    words=(*DESCRIBED, "--set", "gang.volcano_scheduler=default-scheduler"),
)
@contextmanager
def gangs_started_in_part(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Nobody holds gangs together.

    Volcano's pods ask the default scheduler, the second scheduler, which the user described, too,
    runs without its plugin, and Kueue is told that groups need next to nothing, and need not be
    complete.
    """

    def lower(body: Object) -> Answer:
        return [
            {
                "op": "replace",
                "path": f"/spec/podSets/{index}/template/spec/containers/0/resources/requests/cpu",
                "value": "1m",
            }
            for index, one in enumerate(body["spec"]["podSets"])
            if one.get("count", 1) > 1
        ]

    def hurry(body: Object) -> Answer:
        if _group(body) != "kueue-incomplete-gang":
            return []
        hurried = {**body["metadata"]["annotations"], _FAST: "true"}
        return [{"op": "replace", "path": "/metadata/annotations", "value": hurried}]

    changes = {("kueue.x-k8s.io", "workloads"): lower, ("", "pods"): hurry}
    with second_scheduler.without_coscheduling(cluster), _mutate(cluster, "in-part", changes):
        yield


@_sabotage("volcano", "coscheduling", words=("--set", "gang.control_seconds=5"))
@contextmanager
def gang_schedulers_stopped(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The APIs are served, and nobody schedules."""
    with ExitStack() as stack:
        for namespace, name in (
            (second_scheduler.NAMESPACE, second_scheduler.NAME),
            ("volcano-system", "volcano-scheduler"),
        ):
            stack.enter_context(no_replicas(cluster, namespace, name))
        yield


# No namespace can be removed as long as an aggregated API, which Kueue has too, does not answer.
@_sabotage("kueue", words=("--namespace", "default"))
@contextmanager
def kueue_stopped(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Kueue's API is served, and its controller does not run."""
    with no_replicas(cluster, "kueue-system", "kueue-controller-manager"):
        yield
    wait_ready(KUEUE, local)
