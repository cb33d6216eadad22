from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from kar_checks.cluster import kueue, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.target import Target, Toleration
from kar_checks.model import Mutation, Reason

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


# -- what passes by itself ---------------------------------------------------------------------

PASSING = [
    ("ErrImagePull", "pull QPS exceeded"),
    ("ErrImagePull", "rpc error: code = Unknown desc = failed to pull: unexpected status: 429 Too "
     "Many Requests - toomanyrequests: You have reached your unauthenticated pull rate limit"),
    ("ErrImagePull", "failed to authorize: failed to fetch anonymous token: 429 Too Many Requests"),
    ("ErrImagePull", "net/http: TLS handshake timeout"),
    ("ErrImagePull", "dial tcp 1.2.3.4:443: i/o timeout"),
    ("ErrImagePull", "context deadline exceeded"),
    ("ErrImagePull", "unexpected status from HEAD request to https://r/v2/x: 503 Service Unavail"),
    ("ErrImagePull", "received unexpected HTTP status: 502 Bad Gateway"),
    ("ErrImagePull", "httpReadSeeker: failed open: unexpected EOF"),
    ("ErrImagePull", "read tcp 10.0.0.1: read: connection reset by peer"),
    ("ErrImagePull", "lookup r.example: Temporary failure in name resolution"),
    ("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: pull QPS exceeded'),
    ("ImagePullBackOff", 'Back-off pulling image "x"'),
    ("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting"),
    ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting"),
    ("CreateContainerError", "context deadline exceeded"),
    ("CreateContainerError", 'failed to reserve container name: name "main" is reserved for "3f"'),
    ("RunContainerError", "context deadline exceeded"),
]  # fmt: skip
FOR_GOOD = [
    ("ErrImagePull", "manifest unknown"),
    ("ErrImagePull", "docker.io/library/x:y: not found"),
    ("ErrImagePull", "failed to authorize: unexpected status: 401 Unauthorized"),
    ("ErrImagePull", "pull access denied, repository does not exist"),
    ("ErrImagePull", "unexpected status from HEAD request: 403 Forbidden"),
    ("ErrImagePull", "no matching manifest for linux/arm64 in the manifest list entries"),
    ("ErrImagePull", "dial tcp 127.0.0.1:1: connect: connection refused"),
    ("ErrImagePull", "dial tcp: lookup registry.example: no such host"),
    ("ErrImagePull", "tls: failed to verify certificate: x509: signed by unknown authority"),
    ("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: manifest unknown'),
    ("InvalidImageName", "couldn't parse image name"),
    ("ErrImageNeverPull", "image is not present with pull policy of Never"),
    ("CreateContainerConfigError", 'configmap "x" not found'),
    ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    ("RunContainerError", 'exec: "python3": executable file not found in $PATH'),
]


def held(reason: str, message: str) -> Object:
    pod = waiting(reason)
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = message
    return pod


@pytest.mark.parametrize(("reason", "message"), PASSING)
def test_what_the_kubelet_gets_over_is_waited_for_and_named_in_the_end(
    reason: str, message: str
) -> None:
    pod = held(reason, message)
    assert pods.hopeless(pod) is None
    error = pods.overdue(pod)
    assert error is not None
    assert message in error.fault.message
    pulled = reason.endswith(("Pull", "BackOff"))
    assert error.fault.reason is (Reason.IMAGE_UNAVAILABLE if pulled else Reason.POD_FAILED)


@pytest.mark.parametrize(("reason", "message"), FOR_GOOD)
def test_what_stays_is_not_waited_for(reason: str, message: str) -> None:
    error = pods.hopeless(held(reason, message))
    assert error is not None
    assert message in error.fault.message


def test_a_registry_that_limits_its_rate_is_told_from_one_that_lacks_the_image() -> None:
    limited = pods.overdue(held("ErrImagePull", "429 Too Many Requests"))
    assert limited is not None
    assert "limits its rate: give --pull-secret" in limited.fault.help


# -- gates -------------------------------------------------------------------------------------


def gated(*gates: str, **labels: str) -> Object:
    state = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    return {
        "metadata": {"name": "one", "labels": {"kueue.x-k8s.io/managed": "true", **labels}},
        "spec": {"schedulingGates": [{"name": one} for one in gates]},
        "status": {"phase": "Pending", "conditions": [{**state, "message": "gates"}]},
    }


@pytest.mark.parametrize("gates", [(), ("kueue.x-k8s.io/admission",), ("a/b", "kueue.x-k8s.io/t")])
def test_a_pod_that_kueue_gates_without_a_queue_is_hopeless(gates: tuple[str, ...]) -> None:
    error = pods.hopeless(gated(*gates))
    assert error is not None
    assert error.fault.reason is Reason.UNSCHEDULABLE
    assert "--label kueue.x-k8s.io/queue-name=" in error.fault.help


def test_a_pod_in_a_queue_waits_and_the_queue_is_named_in_the_end() -> None:
    pod = gated("kueue.x-k8s.io/admission", **{"kueue.x-k8s.io/queue-name": "team"})
    assert pods.hopeless(pod) is None
    assert pods.describe(pod).startswith("Pending, SchedulingGated [kueue.x-k8s.io/admission]: ")
    error = pods.overdue(pod)
    assert error is not None
    assert "the queue team does not admit it" in error.fault.message


def test_a_gate_of_somebody_else_may_be_lifted_and_is_named_in_the_end() -> None:
    pod = gated("example.com/checked")
    assert pods.hopeless(pod) is None
    error = pods.overdue(pod)
    assert error is not None
    assert "example.com/checked" in error.fault.message


@pytest.mark.parametrize(
    ("suspend", "labels", "told"),
    [
        (True, {}, "most likely by Kueue, and it names no queue"),
        (True, {"kueue.x-k8s.io/queue-name": "team"}, "the queue team does not admit it"),
        (False, {}, ""),
    ],
)
def test_a_job_that_is_suspended_says_by_whom(
    suspend: bool,
    labels: dict[str, str],
    told: str,
) -> None:
    job = {"metadata": {"name": "agents", "labels": labels}, "spec": {"suspend": suspend}}
    error = kueue.holds_job(job)
    assert (error is not None) is suspend
    assert error is None or told in error.fault.message


# -- room --------------------------------------------------------------------------------------

FULL = "0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint {a: b}."
NO_VICTIMS = " preemption: 0/3 nodes are available: 3 No preemption victims found."


def waiting_for(message: str, reason: str = "Unschedulable") -> Object:
    state = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    status = {"phase": "Pending", "conditions": [state]}
    return {"metadata": {"name": "one"}, "spec": {}, "status": status}


def turned_away(reason: str) -> Object:
    message = "Pod was rejected: Node didn't have enough resource: cpu"
    status = {"phase": "Failed", "reason": reason, "message": message}
    return {"metadata": {"name": "one"}, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("pod", "lacking"),
    [
        (waiting_for(FULL + NO_VICTIMS), ["cpu"]),
        (waiting_for("0/3 nodes: 1 Insufficient memory, 2 Insufficient cpu."), ["memory", "cpu"]),
        (waiting_for("0/1 nodes are available: 1 Too many pods."), ["pods"]),
        (waiting_for("0/1 nodes are available: 1 Insufficient ephemeral-storage."),
         ["ephemeral-storage"]),
        (waiting_for("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."), []),
        (waiting_for("0/1 nodes are available: 1 cannot allocate all claims."), []),
        (waiting_for("0/1 nodes are available: 1 node(s) were unschedulable."), []),
        (waiting_for(FULL, "SchedulingGated"), []),
        (turned_away("OutOfcpu"), ["cpu"]),
        (turned_away("OutOfpods"), ["pods"]),
        (turned_away("Evicted"), []),
    ],
)  # fmt: skip
def test_what_a_pod_has_no_room_for(pod: Object, lacking: list[str]) -> None:
    assert pods.short_of(pod) == lacking


def test_a_pod_without_room_is_waited_for_and_then_has_none() -> None:
    pod = waiting_for(FULL + NO_VICTIMS)
    assert pods.hopeless(pod) is None
    error = pods.overdue(pod)
    assert error is not None
    assert error.fault.reason is Reason.NO_ROOM
    assert error.fault.message == f"pod one has no room: {FULL.rstrip('.')}"


@pytest.mark.parametrize(
    ("reason", "expected"), [("OutOfcpu", Reason.NO_ROOM), ("Evicted", Reason.POD_FAILED)]
)
def test_a_pod_that_a_kubelet_turned_away_is_not_waited_for(reason: str, expected: Reason) -> None:
    error = pods.hopeless(turned_away(reason))
    assert error is not None
    assert error.fault.reason is expected
    assert "Node didn't have enough resource: cpu" in error.fault.message


def test_a_pod_behind_gates_has_not_been_tried() -> None:
    error = pods.overdue(gated("example.com/checked"))
    assert error is not None
    assert error.fault.reason is Reason.UNSCHEDULABLE


# -- the same program --------------------------------------------------------------------------

DIGEST = "sha256:677c"


@pytest.mark.parametrize(
    ("sent", "kept", "same"),
    [
        (f"docker.io/library/python:3@{DIGEST}", f"mirror.example/python:3@{DIGEST}", True),
        (f"docker.io/library/python:3@{DIGEST}", f"mirror.example/hub/python@{DIGEST}", True),
        (f"docker.io/python:3@{DIGEST}", "mirror.example/python:3@sha256:0000", False),
        (f"docker.io/python:3@{DIGEST}", "mirror.example/python:3", False),
        ("docker.io/python:3", "mirror.example/python:3", False),
        (f"docker.io/python:3@{DIGEST}", None, False),
    ],
)
def test_an_image_of_the_same_digest_is_the_same_program(
    sent: str, kept: str | None, *, same: bool
) -> None:
    one = Mutation(object="Pod/a", field="spec.containers[main].image", sent=sent, stored=kept)
    assert pods.same_program(one) is same
    assert (pods.relevant([one]) == []) is same
    assert "--image-prefix" in pods.opt_out([one])


def test_only_of_images_the_registry_is_advised() -> None:
    label = Mutation(object="Pod/a", field="metadata.labels.app", sent="x")
    digest = Mutation(object="Pod/a", field="spec.digest", sent=f"x@{DIGEST}", stored=f"y@{DIGEST}")
    assert pods.relevant([label, digest]) == [label, digest]
    assert pods.opt_out([label]) == pods.OPT_OUT
