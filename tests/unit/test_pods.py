from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from kar_checks.cluster import pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.target import Target, Toleration
from kar_checks.model import Reason

CONTAINER: Object = {
    "name": "main",
    "image": "python:3",
    "command": ["python", "-c", "pass"],
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}},
    "env": [{"name": "A", "value": "1"}],
}
BODY: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one", "labels": {"app": "x"}},
    "spec": {"containers": [CONTAINER], "volumes": [{"name": "code", "configMap": {"name": "c"}}]},
}
SENT = Target(tolerations=[Toleration(key="gpu")]).dress(BODY, run_id="r1", owner="o")


def stored() -> Object:
    """Return the pod as a server with its defaults keeps it."""
    out = copy.deepcopy(SENT)
    out["metadata"] |= {"uid": "u", "resourceVersion": "5", "managedFields": [{}]}
    out["metadata"]["labels"]["topology.kubernetes.io/zone"] = "a"
    spec = out["spec"]
    spec |= {
        "schedulerName": "default-scheduler",
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "priority": 0,
    }
    spec["tolerations"].insert(0, {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"})
    spec["imagePullSecrets"] = [{"name": "of-the-account"}]
    spec["containers"][0] |= {"imagePullPolicy": "IfNotPresent"}
    spec["containers"][0]["resources"]["limits"] = {"cpu": "1000m"}
    spec["containers"][0]["resources"]["requests"] = {"cpu": "0.1", "memory": "65536Ki"}
    spec["volumes"][0]["configMap"]["defaultMode"] = 420
    return out


def test_the_servers_defaults_are_no_mutations() -> None:
    assert pods.mutations(SENT, stored()) == []


def _sidecar(pod: Object) -> None:
    pod["spec"]["containers"].append({"name": "istio-proxy", "image": "proxy"})


def _init(pod: Object) -> None:
    pod["spec"]["initContainers"] = [{"name": "istio-init", "image": "proxy"}]


def _image(pod: Object) -> None:
    pod["spec"]["containers"][0]["image"] = "mirror/python:3"


def _request(pod: Object) -> None:
    pod["spec"]["containers"][0]["resources"]["requests"]["memory"] = "128Mi"


def _limit(pod: Object) -> None:
    del pod["spec"]["containers"][0]["resources"]["limits"]


def _label(pod: Object) -> None:
    del pod["metadata"]["labels"]["app"]


def _label_changed(pod: Object) -> None:
    pod["metadata"]["labels"]["app"] = "y"


def _command(pod: Object) -> None:
    pod["spec"]["containers"][0]["command"][2] = "import this"


def _word(pod: Object) -> None:
    pod["spec"]["containers"][0]["command"].append("--more")


def _env(pod: Object) -> None:
    pod["spec"]["containers"][0]["env"][0]["value"] = "2"


def _selector(pod: Object) -> None:
    del pod["spec"]["nodeSelector"]["kubernetes.io/os"]


def _container_gone(pod: Object) -> None:
    pod["spec"]["containers"] = [{"name": "another"}]


def _user(pod: Object) -> None:
    pod["spec"]["securityContext"]["runAsUser"] = 1000


def _token(pod: Object) -> None:
    pod["spec"]["automountServiceAccountToken"] = True


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (_sidecar, "spec.containers[istio-proxy]", "added"),
        (_init, "spec.initContainers[istio-init]", "added"),
        (_image, "spec.containers[main].image", "mirror/python:3"),
        (_request, "spec.containers[main].resources.requests.memory", "128Mi"),
        (_limit, "spec.containers[main].resources.limits.cpu", None),
        (_label, "metadata.labels.app", None),
        (_label_changed, "metadata.labels.app", "y"),
        (_command, "spec.containers[main].command[2]", "import this"),
        (_word, "spec.containers[main].command[3]", "--more"),
        (_env, "spec.containers[main].env[A].value", "2"),
        (_selector, "spec.nodeSelector.kubernetes.io/os", None),
        (_container_gone, "spec.containers[main].image", None),
        (_user, "spec.securityContext.runAsUser", 1000),
        (_token, "spec.automountServiceAccountToken", True),
    ],
)
def test_what_the_cluster_changed_is_named(
    change: Callable[[Object], None], field: str, value: object
) -> None:
    pod = stored()
    change(pod)
    found = {one.field: one for one in pods.mutations(SENT, pod)}
    assert field in found
    assert found[field].stored == value
    assert found[field].object == "Pod/one"
    if change is not _container_gone:
        assert len(found) == 1


@pytest.mark.parametrize(
    ("sent", "kept", "same"),
    [("1", "1000m", True), ("64Mi", "65536Ki", True), ("1", "2", False), ("a", "b", False)],
)
def test_quantities_are_compared_by_value(sent: str, kept: str, same: bool) -> None:
    def one(value: str) -> Object:
        return {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": value}}

    assert (pods.mutations(one(sent), one(kept)) == []) is same


# -- what a pod tells --------------------------------------------------------------------------


def waiting(reason: str, *, init: bool = False) -> Object:
    key = "initContainerStatuses" if init else "containerStatuses"
    status = {
        "name": "main",
        "image": "python:3",
        "state": {"waiting": {"reason": reason, "message": "because"}},
    }
    return {"metadata": {"name": "one"}, "status": {"phase": "Pending", key: [status]}}


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("ErrImagePull", Reason.IMAGE_UNAVAILABLE),
        ("ImagePullBackOff", Reason.IMAGE_UNAVAILABLE),
        ("InvalidImageName", Reason.IMAGE_UNAVAILABLE),
        ("CreateContainerConfigError", Reason.POD_FAILED),
        ("RunContainerError", Reason.POD_FAILED),
        ("ContainerCreating", None),
        ("PodInitializing", None),
    ],
)
def test_a_pod_that_can_never_start_is_hopeless(
    reason: str, expected: Reason | None, init: bool
) -> None:
    error = pods.hopeless(waiting(reason, init=init))
    assert (error.fault.reason if error else None) == expected
    if error:
        assert reason in error.fault.message
        assert "because" in error.fault.message


def test_a_failed_pod_is_hopeless_and_says_how_it_ended() -> None:
    ended = {"name": "main", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    pod = {
        "metadata": {"name": "one"},
        "status": {"phase": "Failed", "containerStatuses": [ended]},
    }
    error = pods.hopeless(pod)
    assert error is not None
    assert error.fault.message == "pod one failed: main exited with 3 (Error)"


@pytest.mark.parametrize("phase", ["Pending", "Running", "Succeeded", ""])
def test_other_phases_are_not_hopeless(phase: str) -> None:
    assert pods.hopeless({"metadata": {"name": "one"}, "status": {"phase": phase}}) is None
    assert pods.hopeless({"metadata": {"name": "one"}}) is None


def test_a_pod_is_described_by_what_holds_it() -> None:
    unplaced = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes",
    }
    pending = {"status": {"phase": "Pending", "conditions": [unplaced]}}
    assert pods.describe(pending) == "Pending, Unschedulable: 0/3 nodes"
    assert pods.describe(waiting("ErrImagePull")) == "Pending, ErrImagePull"
    assert pods.describe({"status": {"phase": "Running"}}) == "Running"


def test_ready_and_bound_need_a_positive_sign() -> None:
    ready = {"type": "Ready", "status": "True"}
    assert pods.ready({"status": {"conditions": [ready]}})
    assert not pods.ready({"status": {"conditions": [{**ready, "status": "Unknown"}]}})
    assert not pods.ready({})
    assert pods.bound({"spec": {"nodeName": "n"}})
    assert not pods.bound({"spec": {}})
    assert not pods.bound({})
