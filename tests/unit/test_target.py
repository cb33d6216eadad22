from __future__ import annotations

import copy
from typing import Any

import pytest

from kar_checks.cluster.client import Object
from kar_checks.cluster.target import (
    IMAGES,
    Target,
    Toleration,
    parse_pairs,
    parse_toleration,
    pod_templates,
)

POD_SPEC: Object = {
    "containers": [{"name": "main", "image": "python"}],
    "initContainers": [{"name": "first", "image": "python"}],
}


def pod() -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": dict(POD_SPEC)}


def templated(kind: str) -> Object:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": copy.deepcopy(POD_SPEC)}
    grouped = kind == "LeaderWorkerSet"
    return {
        "apiVersion": "x/v1",
        "kind": kind,
        "metadata": {"name": "d"},
        "spec": {"leaderWorkerTemplate": {"workerTemplate": template}}
        if grouped
        else {"template": template},
    }


def config_map() -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}


TARGET = Target(
    namespace="team-a",
    node_selector={"pool": "ai"},
    tolerations=[Toleration(key="gpu"), Toleration(key="x", operator="Equal", value="y")],
    labels={"cost-centre": "42"},
    annotations={"owner": "me"},
    pull_secrets=["registry"],
    runtime_class="gvisor",
)


def dress(body: Object, target: Target = TARGET) -> Object:
    return target.dress(body, run_id="r1", owner="host/1/2/3")


def pod_of(body: Object) -> Object:
    (found,) = pod_templates(body)
    return found


WITH_PODS = [pod(), templated("Job"), templated("Deployment"), templated("LeaderWorkerSet")]


@pytest.mark.parametrize("body", [*WITH_PODS, config_map()], ids=lambda one: str(one["kind"]))
def test_every_object_carries_owner_and_options(body: Object) -> None:
    meta = dress(body)["metadata"]
    assert meta["labels"] == {
        "cost-centre": "42",
        "app.kubernetes.io/managed-by": "kar-checks",
        "kar-checks.dev/run": "r1",
    } | (meta["labels"] if body["kind"] == "Pod" else {})
    assert meta["annotations"]["owner"] == "me"
    assert meta["annotations"]["kar-checks.dev/owner"] == "host/1/2/3"


@pytest.mark.parametrize("body", WITH_PODS, ids=lambda one: str(one["kind"]))
def test_every_option_reaches_every_pod(body: Object) -> None:
    dressed = pod_of(dress(body))
    spec = dressed["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "ai"}
    assert spec["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "x", "operator": "Equal", "value": "y"},
    ]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["runtimeClassName"] == "gvisor"
    assert dressed["metadata"]["labels"]["cost-centre"] == "42"
    assert dressed["metadata"]["labels"]["kar-checks.dev/run"] == "r1"
    assert dressed["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert dressed["metadata"]["annotations"]["owner"] == "me"
    assert dressed["metadata"]["annotations"]["kar-checks.dev/owner"] == "host/1/2/3"
    assert dressed["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"] == [
        {
            "matchExpressions": [
                {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
            ]
        }
    ]


@pytest.mark.parametrize("body", WITH_PODS, ids=lambda one: str(one["kind"]))
def test_every_pod_passes_pod_security_restricted(body: Object) -> None:
    spec = pod_of(dress(body))["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["automountServiceAccountToken"] is False
    for container in [*spec["containers"], *spec["initContainers"]]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_where_the_platform_gives_the_user_none_is_set() -> None:
    spec = dress(pod(), Target(run_as_user=None))["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert "runAsUser" not in spec["securityContext"]


def test_without_options_no_option_is_sent() -> None:
    spec = dress(pod(), Target())["spec"]
    assert spec["tolerations"] == []
    assert not {"imagePullSecrets", "runtimeClassName"} & set(spec)


def test_what_a_manifest_says_itself_wins_over_options() -> None:
    body = pod()
    body["metadata"] |= {"labels": {"cost-centre": "7"}, "annotations": {"owner": "check"}}
    body["spec"] |= {
        "nodeSelector": {"pool": "mine"},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 7},
    }
    dressed = dress(body)
    assert dressed["metadata"]["labels"]["cost-centre"] == "7"
    assert dressed["metadata"]["annotations"]["owner"] == "check"
    assert dressed["spec"]["nodeSelector"]["pool"] == "mine"
    assert dressed["spec"]["tolerations"][0] == {"operator": "Exists"}
    assert len(dressed["spec"]["tolerations"]) == 3
    assert dressed["spec"]["terminationGracePeriodSeconds"] == 0
    assert dressed["spec"]["securityContext"]["runAsUser"] == 7


def test_nobody_can_take_our_ownership_marks_away() -> None:
    body = config_map()
    body["metadata"]["labels"] = {"kar-checks.dev/run": "another"}
    target = Target(labels={"app.kubernetes.io/managed-by": "helm"})
    labels = dress(body, target)["metadata"]["labels"]
    assert labels["kar-checks.dev/run"] == "r1"
    assert labels["app.kubernetes.io/managed-by"] == "kar-checks"


def test_architectures_are_asked_for_beside_a_manifests_own_affinity() -> None:
    body = pod()
    mine = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
    body["spec"]["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [mine]}]
            }
        }
    }
    required = dress(body)["spec"]["affinity"]["nodeAffinity"]
    (term,) = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [one["key"] for one in term["matchExpressions"]] == [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
    ]


@pytest.mark.parametrize("body", [*WITH_PODS, config_map()], ids=lambda one: str(one["kind"]))
def test_a_manifest_is_not_changed_by_dressing_it(body: Object) -> None:
    before = copy.deepcopy(body)
    first = dress(body)
    assert body == before
    assert dress(body) == first


# -- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), IMAGES["python"]),
        (Target(image_prefix="mirror.example/hub/"), "mirror.example/hub/library/python:3.13-slim"),
        (Target(image_prefix="m:5000"), "m:5000/library/python:3.13-slim"),
        (Target(images={"python": "own:1"}, image_prefix="m"), "own:1"),
    ],
)
def test_an_image_can_come_from_elsewhere(target: Target, expected: str) -> None:
    found = target.image("python")
    assert found == expected or found.startswith(f"{expected}@sha256:")


def test_images_are_pinned_by_digest() -> None:
    assert all("@sha256:" in one for one in IMAGES.values())


# -- options -----------------------------------------------------------------------------------


def test_pairs_are_read() -> None:
    given = ["a=b", "example.com/c=d=e", "f="]
    assert parse_pairs(given, "--label") == {"a": "b", "example.com/c": "d=e", "f": ""}


@pytest.mark.parametrize("given", ["a", "=b", "", "a b=c"])
def test_what_is_no_pair_is_refused_with_its_option(given: str) -> None:
    with pytest.raises(ValueError, match=r"--label .* is not of the form KEY=VALUE"):
        parse_pairs([given], "--label")


TOLERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("gpu", {"key": "gpu", "operator": "Exists"}),
    ("gpu=yes", {"key": "gpu", "operator": "Equal", "value": "yes"}),
    ("gpu=", {"key": "gpu", "operator": "Equal"}),
    ("gpu:NoSchedule", {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}),
    (
        "gpu=yes:NoExecute",
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"},
    ),
    ("*", {"operator": "Exists"}),
]


@pytest.mark.parametrize(("given", "expected"), TOLERATIONS)
def test_a_toleration_is_read(given: str, expected: dict[str, Any]) -> None:
    assert parse_toleration(given).object() == expected


@pytest.mark.parametrize("given", ["", "=yes", ":NoSchedule", "gpu:Never", "gpu=yes:noschedule"])
def test_what_is_no_toleration_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="--toleration"):
        parse_toleration(given)


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("given", "tolerated"),
    [
        ("*", True),
        ("gpu", True),
        ("gpu=yes", True),
        ("gpu=yes:NoSchedule", True),
        ("gpu:NoSchedule", True),
        ("gpu=no", False),
        ("gpu=", False),
        ("gpu:NoExecute", False),
        ("cpu", False),
    ],
)
def test_a_toleration_fits_a_taint(given: str, tolerated: bool) -> None:
    assert Target(tolerations=[parse_toleration(given)]).tolerates(TAINT) is tolerated


def test_no_toleration_fits_no_taint() -> None:
    assert not Target().tolerates(TAINT)
    assert Target(tolerations=[parse_toleration("gpu=")]).tolerates({"key": "gpu"})
