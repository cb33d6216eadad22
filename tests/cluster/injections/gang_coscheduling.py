"""Sabotages of coscheduling, and of the same scheduler described as the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.cluster.client import Cluster, Object
from localcluster import LocalCluster
from tests.cluster.injections import SHORT_WINDOWS, injection
from tests.cluster.injections.scaling import no_replicas
from tests.cluster.injections.webhook import Answer, webhook

_ONLY = ("--set", "gang.backends=coscheduling")
_LABEL = "scheduling.x-k8s.io/pod-group"


@injection(
    addons=("coscheduling",),
    words=(*_ONLY, *SHORT_WINDOWS, "--set", "gang.coscheduling_scheduler=default-scheduler"),
)
@contextmanager
def coscheduling_other_scheduler(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The pods ask a scheduler that knows nothing of their groups, and places them one by one."""
    yield


@injection(addons=("coscheduling",), words=(*_ONLY, "--set", "gang.control_seconds=5"))
def coscheduling_stopped(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The API is served, and nobody schedules."""
    return no_replicas(cluster, "scheduler-plugins", "scheduler-plugins-scheduler")


@injection(addons=("coscheduling",), words=_ONLY)
def coscheduling_group_of_one(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook makes every group as small as can be."""
    rule = {
        "apiGroups": ["scheduling.x-k8s.io"],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["podgroups"],
    }

    def shrink(_: Object) -> Answer:
        return [{"op": "replace", "path": "/spec/minMember", "value": 1}]

    return webhook(cluster, name="group-of-one", rules=[rule], respond=shrink, mutating=True)


@injection(addons=("coscheduling",), words=_ONLY)
def coscheduling_label_changed(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook sends the members to a group that is not there."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }

    def lead_astray(request: Object) -> Answer:
        if _LABEL not in (request["object"]["metadata"].get("labels") or {}):
            return []
        path = f"/metadata/labels/{_LABEL.replace('/', '~1')}"
        return [{"op": "replace", "path": path, "value": "elsewhere"}]

    return webhook(cluster, name="astray", rules=[rule], respond=lead_astray, mutating=True)


def _described(label: str) -> tuple[str, ...]:
    group = """
apiVersion: scheduling.x-k8s.io/v1alpha1
kind: PodGroup
metadata: {name: "{{ group }}"}
spec: {minMember: {{ size }}, scheduleTimeoutSeconds: 5}
"""
    settings = {
        "backends": "custom",
        "custom_scheduler": "scheduler-plugins-scheduler",
        "custom_labels": f"{label}: {{{{ group }}}}",
        "custom_objects": group,
        "custom_size_field": "spec.minMember",
    }
    return tuple(
        word for key, value in settings.items() for word in ("--set", f"gang.{key}={value}")
    )


DESCRIBED = _described(_LABEL)
"""Words for ``kar run`` that describe coscheduling as the user's own scheduler."""


@injection(addons=("coscheduling",), words=(*_described("pod-group"), *SHORT_WINDOWS))
@contextmanager
def custom_label_misspelt(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The user's description names a label that the scheduler does not know."""
    yield
