"""The checks of advanced inference ingress, as data."""

from __future__ import annotations

from kar_checks.kit.topic import Check, Needs, Right, Topic

_ROOM = "kar_checks.checks.routing"
_GROUP = "gateway.networking.k8s.io"
_POOLS = "inference.networking.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_X_POOLS = "inference.networking.x-k8s.io"
_MAKE = ("create", "get", "watch", "delete")
_READ = ("get", "list", "watch")
_NEEDS = Needs(
    rights=(
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("create", "get"), "", "pods/exec"),
        Right(_MAKE, "", "services"),
        Right(_MAKE, "", "configmaps"),
        Right(_MAKE, "", "serviceaccounts"),
        # Who gives the picker its rights must have them.
        Right(_MAKE, _RBAC, "roles"),
        Right(_MAKE, _RBAC, "rolebindings"),
        Right(_READ, _X_POOLS, "inferenceobjectives"),
        Right(_READ, _X_POOLS, "inferencemodelrewrites"),
        Right(("create", "get", "list", "watch", "delete"), _POOLS, "inferencepools"),
        Right(_MAKE, _GROUP, "gateways"),
        Right(_MAKE, _GROUP, "httproutes"),
        Right(("list",), _GROUP, "gatewayclasses", cluster=True),
        Right(
            ("list",),
            "networking.k8s.io",
            "networkpolicies",
            optional=True,
            only_for="the NetworkPolicy that keeps traffic from the backends",
        ),
    ),
)

TOPIC = Topic(
    id="routing",
    title="Advanced inference ingress",
    label="KAR-11",
    requirement="advanced_inference_ingress",
    any_of=True,
    official_link="https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars/0011-advanced-inference-ingress",
    trial=f"{_ROOM}.trial:run",
    judge=f"{_ROOM}.judge:judge",
    observation=f"{_ROOM}.observation:RoutingObservation",
    tests=f"{_ROOM}.test_routing",
    manifests=f"{_ROOM}.trial:manifests",
    common_needs=_NEEDS,
    checks=(
        Check(
            id="routing.pool_status",
            title="The status of an InferencePool is true",
            proves="The class's controller reports a good InferencePool as Accepted and "
            "ResolvedRefs, and one whose picker is missing as ResolvedRefs=False; requests to that "
            "one reach no server.",
            fails_when="The good pool is reported as bad, the bad one as good, or requests to it "
            "are answered.",
            budget_seconds=150,
        ),
        Check(
            id="routing.follows_load",
            title="Picks follow the load that model servers report",
            proves="Three servers get even shares while they report the same. When one of them "
            "reports a queue and a full cache, its share falls, and returns when another one does "
            "so instead: phases in random order, sample size fixed beforehand, half of the "
            "requests over new connections, no prefix twice. If nothing read the reports, a server "
            "that really is slow must lose its share.",
            fails_when="The share of a loaded server does not fall, although its report was read "
            "or it really was slow; one server gets everything; or a change of load is not read "
            "within the window.",
            budget_seconds=180,
        ),
        Check(
            id="routing.prefix_affinity",
            title="Requests with the same prefix go to the same server",
            proves="Repeated requests with one long prefix go where its first one went, and "
            "different prefixes go to more than one server.",
            fails_when="The picker is configured for it and repeated prefixes are spread as by "
            "chance, or all prefixes go to one server.",
            budget_seconds=150,
        ),
        Check(
            id="routing.adapter_affinity",
            title="Requests for a LoRA adapter go to the server that has it",
            proves="Requests that name an adapter as their model go to the server that reports it "
            "as loaded, and to another one when that one reports it instead: sample size fixed "
            "beforehand, no prefix twice.",
            fails_when="The picker is configured for it and such requests are spread as by chance, "
            "or stay where the adapter was.",
            budget_seconds=150,
        ),
        Check(
            id="routing.avoids_unready",
            title="A server that is not ready gets nothing",
            proves="A server that got its share gets none as long as its readiness probe fails, "
            "and the others answer everything.",
            fails_when="A request reaches the server that is not ready.",
            budget_seconds=150,
        ),
        Check(
            id="routing.steady",
            title="A pool is served all the time",
            proves="While changes of load converge, and for at least 30 s in all, a client sends "
            "five completions a second to the pool, and each is answered with 200 by a server, "
            "without a pause of more than a second; the samples in between count as well.",
            fails_when="Bad answers or pauses make more than one outage, or one of more than 5 s. "
            "A single shorter one is inconclusive.",
            budget_seconds=150,
        ),
        Check(
            id="routing.failure_mode",
            title="Without its picker a pool fails open or closed, as it states",
            proves="When the picker's pod is gone, requests to the pool with FailClose are refused "
            "and reach no server, while all to the pool with FailOpen and to a Service before the "
            "same servers are answered.",
            fails_when="The closed pool answers, or the open one does not.",
            budget_seconds=180,
        ),
    ),
)
