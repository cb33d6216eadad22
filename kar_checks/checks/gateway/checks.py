"""The checks of Gateway API for inference traffic, as data."""

from __future__ import annotations

from kar_checks.kit.topic import Check, Needs, Right, Topic

_ROOM = "kar_checks.checks.gateway"
_GROUP = "gateway.networking.k8s.io"
_NEEDS = Needs(
    rights=(
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("create", "get"), "", "pods/exec"),
        Right(("create", "get", "watch", "delete"), "", "services"),
        Right(("create", "get", "watch", "delete"), "", "configmaps"),
        Right(("create", "get", "watch", "delete"), _GROUP, "gateways"),
        Right(("create", "get", "watch", "patch", "delete"), _GROUP, "httproutes"),
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
    id="gateway",
    title="Gateway API for inference",
    label="ai_inference",
    requirement="ai_inference",
    any_of=True,
    official_link="https://github.com/cncf/k8s-ai-conformance",
    trial=f"{_ROOM}.trial:run",
    judge=f"{_ROOM}.judge:judge",
    observation=f"{_ROOM}.observation:GatewayObservation",
    tests=f"{_ROOM}.test_gateway",
    manifests=f"{_ROOM}.trial:manifests",
    common_needs=_NEEDS,
    checks=(
        Check(
            id="gateway.api",
            title="The Gateway API is established and serves v1",
            proves="The CRDs of GatewayClass, Gateway and HTTPRoute are established and serve v1; "
            "their bundle version and channel are recorded.",
            fails_when="One of them is installed, and another is missing, not established, or "
            "does not serve v1.",
            needs=Needs(
                rights=(Right(("get",), "apiextensions.k8s.io", "customresourcedefinitions", True),)
            ),
            budget_seconds=30,
        ),
        Check(
            id="gateway.class_accepted",
            title="A controller accepts the GatewayClass",
            proves="The class has the condition Accepted=True for its present generation.",
            fails_when="Its controller reports Accepted=False.",
            budget_seconds=30,
        ),
        Check(
            id="gateway.programmed",
            title="A Gateway is programmed and answers at its address",
            proves="A new Gateway becomes Accepted and Programmed, gets an address, counts its "
            "routes, and a backend behind it answers at that address.",
            fails_when="The controller reports it as not accepted or not programmed until the time "
            "is over, or something other than the backends of its routes answers at its address.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.route_status",
            title="The status of an HTTPRoute is true",
            proves="The class's controller reports a good route as Accepted and ResolvedRefs, and "
            "a route to a Service that is missing as ResolvedRefs=False.",
            fails_when="The good route is reported as bad, or the bad one as good.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.weighted_split",
            title="Traffic follows the weights of a route, and their changes",
            proves="Of a fixed number of POSTs the share of each backend is that of its weight, "
            "within an exact binomial interval, and after the weights are swapped as well.",
            fails_when="The interval of a share excludes its weight, in either phase.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.header_rule",
            title="A header rule always wins, and others follow the default",
            proves="Every POST with the header goes to its backend, and every one without it, or "
            "with another value, to the default. The case of a name does not matter, that of a "
            "value does.",
            fails_when="One request is answered by the other backend.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.unmatched",
            title="Requests that match no route reach no backend",
            proves="POSTs to an unknown path and to an unknown host are refused with 404, while a "
            "served path is answered, and by the backends' own counts none of them arrived.",
            fails_when="One of them arrives at a backend, is answered with success, or, while a "
            "served path is answered, with something other than 404.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.steady",
            title="A route that never changes is served all the time",
            proves="From the first measurement to the last, and for at least 30 s, a client sends "
            "five POSTs a second over a route that stays as it is, and each is answered with 200 "
            "by a backend, without a pause of more than a second.",
            fails_when="Bad answers or pauses make more than one outage, or one of more than 5 s. "
            "A single shorter one is inconclusive.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.exactly_once",
            title="Every POST arrives exactly once",
            proves="By an id in each request the backends count at the end of the trial how often "
            "it arrived, including the POSTs of the other measurements.",
            fails_when="A request arrives twice, or is answered and never arrives.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.bodies",
            title="Bodies of requests and answers arrive whole",
            proves="JSON bodies of several sizes, up to a stated one beyond 1 MiB, have the same "
            "SHA-256 at the backend as at the client, and so have answers of these sizes. A larger "
            "body may be refused, but not changed.",
            fails_when="The other side gets other bytes than were sent, or a stated size does not "
            "come through where smaller ones do. A refusal by 413 is inconclusive.",
            budget_seconds=120,
        ),
        Check(
            id="gateway.streaming",
            title="Streamed answers arrive as they are produced",
            proves="Server-sent events arrive through the gateway one by one, and no later than a "
            "plain answer does. Whether a long answer passes is recorded, and does not change the "
            "verdict.",
            fails_when="Events are missing, come in groups although they were produced apart, come "
            "together in less than half of the time in which they were produced, or come late, "
            "while without the gateway they do not.",
            budget_seconds=180,
        ),
        Check(
            id="gateway.claimed_features",
            title="What the class claims to support works",
            proves="Each of request timeout, backend timeout, retry and request mirroring that is "
            "in the class's supportedFeatures does what the API describes.",
            fails_when="A claimed feature is accepted and has no effect.",
            budget_seconds=120,
        ),
    ),
)
