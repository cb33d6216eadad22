"""The official suite as one check, as data."""

from __future__ import annotations

from kar_checks.kit.topic import Check, Needs, Right, Topic

_ROOM = "kar_checks.checks.official"
_GATEWAY = "gateway.networking.k8s.io"
_POOLS = "inference.networking.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_MAKE = ("create", "get", "delete")
_READ = ("get", "list", "watch")
_NEEDS = Needs(
    # The suite makes its own namespaces, so that rights in one of ours are no help.
    rights=(
        Right((*_READ, "create", "delete"), "", "namespaces", cluster=True),
        Right(("list",), "apiextensions.k8s.io", "customresourcedefinitions", cluster=True),
        Right(("get", "list"), _GATEWAY, "gatewayclasses", cluster=True),
        Right((*_MAKE, "list"), _GATEWAY, "gateways", cluster=True),
        Right(_MAKE, _GATEWAY, "httproutes", cluster=True),
        Right((*_MAKE, "update"), "", "services", cluster=True),
        Right(_MAKE, "apps", "deployments", cluster=True),
        Right(("list",), "discovery.k8s.io", "endpointslices", cluster=True),
        Right(_MAKE, _RBAC, "roles", cluster=True),
        Right(_MAKE, _RBAC, "rolebindings", cluster=True),
        # It gives its pickers the right to read these, and who gives a right must have it.
        Right((*_READ, "create", "delete"), _POOLS, "inferencepools", cluster=True),
        Right(_READ, "", "pods", cluster=True),
        Right(
            ("list",),
            "networking.k8s.io",
            "networkpolicies",
            cluster=True,
            optional=True,
            only_for="a NetworkPolicy in the suite's namespaces that stops its tests",
        ),
    ),
    images=(),
)

TOPIC = Topic(
    id="official",
    title="Official inference suite",
    label="KAR-11",
    requirement="advanced_inference_ingress",
    any_of=True,
    asked_by="official.suite",
    ask="pass the command that starts the suite with --set official.suite=COMMAND",
    official_link="https://github.com/kubernetes-sigs/gateway-api-inference-extension/tree/main/conformance",
    trial=f"{_ROOM}.trial:run",
    judge=f"{_ROOM}.judge:judge",
    observation=f"{_ROOM}.observation:OfficialObservation",
    tests=f"{_ROOM}.test_official",
    manifests=f"{_ROOM}.trial:manifests",
    estimate=f"{_ROOM}.trial:cost",
    common_needs=_NEEDS,
    checks=(
        Check(
            id="official.inference_suite",
            title="The official suite of the inference extension passes",
            proves="Every test of the conformance suite of the Gateway API Inference Extension "
            "passes against the class: the gateway obeys whatever endpoint picker a pool has.",
            fails_when="A test fails, unless nothing but a known defect of the suite's own picker "
            "stopped it.",
            needs=Needs(images=()),
            budget_seconds=3700,
            disruption="capacity",
        ),
    ),
)
