"""A cluster that is not ours: each obstacle is named with the option that helps it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from tests.cluster.injections import SHORT_HOLD, SHORT_WINDOWS
from tests.cluster.injections.webhook import Answer, webhook
from tests.cluster.support import Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")

_ADMISSION = "admissionregistration.k8s.io"
POLICY = Kind(
    _ADMISSION,
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
BINDING = Kind(
    _ADMISSION,
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
CHECKS = ["resize.cpu_up_down", "resize.deferred", "gang.fits", "gang.incomplete_waits"]
TAINT = "dedicated=ai:NoSchedule"
OPT_OUT = "sidecar.test/inject=false"
LABEL = "cost-center=ai"
_ACTIVE_SECONDS = 30.0
OPTIONS = ["--toleration", TAINT, "--label", LABEL, "--annotation", OPT_OUT]
_PODS = [
    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
]


@contextmanager
def tainted(cluster: Cluster) -> Iterator[None]:
    """Two of the three nodes are for others."""
    taint = {"key": "dedicated", "value": "ai", "effect": "NoSchedule"}
    names = [one["metadata"]["name"] for one in cluster.list(kinds.NODE).items][:2]
    for name in names:
        cluster.patch(kinds.NODE, name, {"spec": {"taints": [taint]}})
    try:
        yield
    finally:
        for name in names:
            cluster.patch(kinds.NODE, name, {"spec": {"taints": None}})


@contextmanager
def label_wanted(cluster: Cluster) -> Iterator[None]:
    """A policy refuses pods without a cost centre."""
    name = "pods-need-a-cost-center"
    policy: Object = {
        "apiVersion": POLICY.api_version,
        "kind": POLICY.kind,
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": _PODS},
            "validations": [
                {
                    "expression": "has(object.metadata.labels) && "
                    "'cost-center' in object.metadata.labels",
                    "message": "every pod must have the label cost-center",
                }
            ],
        },
    }
    binding: Object = {
        "apiVersion": BINDING.api_version,
        "kind": BINDING.kind,
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {
                "namespaceSelector": {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/metadata.name",
                            "operator": "NotIn",
                            "values": ["kube-system"],
                        }
                    ]
                }
            },
        },
    }
    cluster.create(POLICY, policy)
    try:
        cluster.create(BINDING, binding)
        try:
            _wait_until_refused(cluster)
            yield
        finally:
            cluster.delete(BINDING, name)
    finally:
        cluster.delete(POLICY, name)


def _wait_until_refused(cluster: Cluster) -> None:
    """Wait until the API server applies the policy; it learns of one only some time later."""
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "policy-canary"},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    deadline = time.monotonic() + _ACTIVE_SECONDS
    while time.monotonic() < deadline:
        try:
            cluster.create(kinds.POD, pod, "default", dry_run=True)
        except ApiError:
            return
        time.sleep(0.2)
    raise TimeoutError(f"the API server did not apply the policy in {_ACTIVE_SECONDS} s")


@contextmanager
def sidecar_injected(cluster: Cluster) -> Iterator[None]:
    """A webhook adds a container to every pod that does not opt out."""

    def respond(request: Object) -> Answer:
        pod = request["object"]
        annotations = pod["metadata"].get("annotations") or {}
        if annotations.get("sidecar.test/inject") == "false":
            return []
        first = pod["spec"]["containers"][0]
        sidecar = {**first, "name": "injected-proxy", "command": ["sleep", "600"], "args": []}
        return [{"op": "add", "path": "/spec/containers/-", "value": sidecar}]

    with webhook(cluster, name="injector", rules=_PODS, respond=respond, mutating=True):
        yield


@contextmanager
def namespace(cluster: Cluster, name: str, hard: dict[str, str]) -> Iterator[str]:
    """A namespace at Pod Security level restricted, with a quota."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    meta = {"name": name, "labels": labels}
    cluster.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": hard},
    }
    cluster.create(kinds.QUOTA, quota, name)
    try:
        yield name
    finally:
        cluster.delete(kinds.NAMESPACE, name)


ROOMY = {"pods": "60", "requests.cpu": "20", "limits.cpu": "60", "limits.memory": "60Gi"}


def test_each_obstacle_is_named_with_the_option_that_helps(kar: Kar, cluster: Cluster) -> None:
    with ExitStack() as stack:
        stack.enter_context(tainted(cluster))
        stack.enter_context(label_wanted(cluster))
        poor = stack.enter_context(namespace(cluster, "team-poor", {"requests.cpu": "1m"}))
        found = kar("doctor", "--local-cluster", "--probe", "--namespace", poor)
        text = " ".join(found.output.split())
        assert found.code == 12, found.output
        assert f"--toleration {TAINT}" in text
        assert "cost-center" in text
        assert "--label" in text
        found = kar("doctor", "--local-cluster", "--probe", "--namespace", poor, "--label", LABEL)
        text = " ".join(found.output.split())
        assert "exceeded quota: tight" in text
        assert "--namespace" in text


def test_an_obstacle_that_is_met_is_an_error_with_the_option_that_helps(
    kar: Kar, cluster: Cluster
) -> None:
    with label_wanted(cluster):
        done = kar.run("resize.limits_only")
    finding = done.finding("resize.limits_only")
    assert (finding.outcome.value, finding.reason) == ("error", "refused_by_policy")
    assert "cost-center" in finding.summary
    assert "--label" in finding.help
    assert done.code == 10
    with namespace(cluster, "team-poorer", {"requests.cpu": "1m"}) as poor:
        done = kar.run("resize.limits_only", "--namespace", poor, *SHORT_HOLD)
    finding = done.finding("resize.limits_only")
    assert (finding.outcome.value, finding.reason) == ("error", "quota_exceeded")
    assert "--namespace" in finding.help


def test_an_injected_container_is_named_and_decides_nothing(kar: Kar, cluster: Cluster) -> None:
    with sidecar_injected(cluster):
        done = kar.run(
            "resize.qos_change_refused", "gang.incomplete_waits", *SHORT_WINDOWS, *SHORT_HOLD
        )
    for finding in done.run.findings:
        assert (finding.outcome.value, finding.reason) == ("inconclusive", "mutated"), finding
        assert "injected-proxy" in finding.summary
        assert "--annotation" in finding.help
    assert len(done.run.findings) == 2
    assert done.code == 11


def test_with_the_options_given_the_run_passes_on_the_hostile_cluster(
    kar: Kar, cluster: Cluster
) -> None:
    with ExitStack() as stack:
        for obstacle in (tainted, label_wanted, sidecar_injected):
            stack.enter_context(obstacle(cluster))
        team = stack.enter_context(namespace(cluster, "team-ai", ROOMY))
        done = kar.run(*CHECKS, "--namespace", team, *OPTIONS, *SHORT_WINDOWS, *SHORT_HOLD)
    assert done.code == 0, done.output
    assert {one.check for one in done.run.findings} == set(CHECKS)
