"""The checks of disaggregated serving, as data."""

from __future__ import annotations

from kar_checks.kit.topic import Check, Needs, Right, Topic

_GATEWAYS = "gateway.networking.k8s.io"
_NEEDS = Needs(
    rights=(
        Right(("create", "get", "patch", "watch", "delete"), "apps", "deployments"),
        # Another form of prefill and decode; without it they are Deployments as well.
        Right(
            ("create", "get", "patch", "watch", "delete"),
            "leaderworkerset.x-k8s.io",
            "leaderworkersets",
            optional=True,
            variants=("leaderworkerset",),
        ),
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("get",), "", "pods/log"),
        Right(("create", "get"), "", "pods/exec"),
        Right(("create", "get", "delete"), "", "services"),
        Right(("create", "get", "delete"), "", "configmaps"),
        Right(("create", "get", "delete"), "", "secrets"),
        Right(("create", "get", "watch", "delete"), "networking.k8s.io", "networkpolicies"),
        # The way in; without them requests come by the router's Service.
        Right(("create", "get", "watch", "delete"), _GATEWAYS, "gateways", optional=True),
        Right(("create", "get", "watch", "delete"), _GATEWAYS, "httproutes", optional=True),
        Right(("list",), _GATEWAYS, "gatewayclasses", cluster=True, optional=True),
    ),
)

TOPIC = Topic(
    id="disaggregation",
    title="Disaggregated inference",
    label="KAR-41",
    requirement="disaggregated_inference",
    variants="disaggregation.workload",
    official_link="https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars/0041-disaggregated-inference",
    trial="kar_checks.checks.disaggregation.trial:run",
    judge="kar_checks.checks.disaggregation.judge:judge",
    observation="kar_checks.checks.disaggregation.observation:DisaggregationObservation",
    tests="kar_checks.checks.disaggregation.test_disaggregation",
    manifests="kar_checks.checks.disaggregation.workload:manifests",
    common_needs=_NEEDS,
    checks=(
        Check(
            id="disaggregation.separate_pods",
            title="Prefill and decode run in different pods on different nodes",
            proves="Every request was prefilled in a pod labelled prefill and decoded in a pod "
            "labelled decode, by what the pods themselves logged; no pod did both, and the two "
            "kinds ran on different nodes.",
            fails_when="A pod did both phases, a label contradicts what its pod did, requests "
            "were answered without prefill, or both kinds share a node although the cluster has "
            "more.",
            budget_seconds=90,
            needs=Needs(nodes=2),
        ),
        Check(
            id="disaggregation.state_transferred",
            title="The KV state moves from prefill to decode",
            proves="For a batch of unique long prompts the bytes that decode counted, those that "
            "prefill counted and those that the kernel counted on the interfaces of both pods are "
            "all about the computed size of the KV state of all requests that were sent; for a "
            "request straight to decode the transfer counters do not move.",
            fails_when="A counter of either side, or an interface, shows fewer bytes than the "
            "state has or more than one and a half times as many, the transfer of a request "
            "breaks, or requests are answered without any transfer.",
            budget_seconds=90,
        ),
        Check(
            id="disaggregation.request_ids",
            title="A request can be followed through both kinds of pod",
            proves="The id of each request, given by the client, appears in the log of exactly one "
            "prefill pod and of exactly one decode pod.",
            fails_when="An id is missing in the logs of one kind although others appear there or "
            "appears in the logs of several pods of a kind, or a request was worked on more than "
            "once.",
            budget_seconds=90,
        ),
        Check(
            id="disaggregation.correct_output",
            title="The answer follows from the transferred state",
            proves="Every answer is the one that the suite works out from prompt and secret, and "
            "its state moved; three controls show that it takes the transfer: straight to decode, "
            "without a prefill pod, and with a NetworkPolicy between the two where policies are "
            "enforced, no answer is right.",
            fails_when="An answer is wrong or missing, or all are right although their state did "
            "not move.",
            budget_seconds=120,
        ),
        Check(
            id="disaggregation.concurrency",
            title="Concurrent requests keep their states apart",
            proves="Of many requests at once each gets the answer to its own prompt, and its state "
            "is transferred once.",
            fails_when="A request gets the answer to another one, a wrong one or none, or its "
            "state moves in part or more than once.",
            budget_seconds=90,
        ),
        Check(
            id="disaggregation.streaming",
            title="A streamed answer comes in parts",
            proves="Through the same way, a completion and a chat completion arrive as server-sent "
            "events spread over the time in which they are made, and add up to the right answer.",
            fails_when="The parts come all at once, or do not add up to the right answer.",
            budget_seconds=90,
        ),
        Check(
            id="disaggregation.decode_scaling",
            title="Decode scales separately while requests are served",
            proves="Under a steady stream of requests a second decode pod starts, answers and "
            "is removed again, and every request gets its right answer.",
            fails_when="The new pod never answers, or a request gets a wrong answer or none.",
            budget_seconds=120,
        ),
        Check(
            id="disaggregation.prefill_lost",
            title="Losing prefill in the middle of a transfer gives no silent wrong answer",
            proves="When the prefill pod is deleted while its state is being pulled, the client "
            "gets a clear error, or a fallback that names itself, or the right answer.",
            fails_when="The client gets a wrong answer with status 200, or no complete answer and "
            "no error.",
            budget_seconds=120,
            disruption="none",
        ),
        Check(
            id="disaggregation.corrupted_block",
            title="A corrupted block is refused",
            proves="When one bit of one block is flipped on its way, the client gets an error that "
            "names it, and the same request without the flip is answered right.",
            fails_when="The request is answered from the corrupted state.",
            budget_seconds=90,
        ),
    ),
)
