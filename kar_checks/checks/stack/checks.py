"""The checks of the user's own disaggregated serving stack, as data."""

from __future__ import annotations

from kar_checks.kit.option import Option
from kar_checks.kit.topic import Check, Needs, Right, Topic
from kar_checks.model import Evidence

_NEEDS = Needs(
    rights=(
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("get",), "", "pods/log"),
        # The client waits between its requests until the interfaces of the stack were read.
        Right(("create", "get"), "", "pods/exec"),
        Right(("create", "get", "delete"), "", "configmaps"),
        Right(("create", "get", "delete"), "", "secrets"),
        # The stack is looked at and never changed: its pods, their logs, their interfaces.
        Right(("get", "list"), "", "pods", stack=True),
        Right(("get",), "", "pods/log", stack=True),
        Right(("create", "get"), "", "pods/exec", stack=True, optional=True),
    ),
)

TOPIC = Topic(
    id="stack",
    title="Disaggregated serving: your own stack",
    label="KAR-41",
    requirement="disaggregated_inference",
    official_link="https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars/0041-disaggregated-inference",
    evidence=Evidence.REAL,
    asked_by="stack.url",
    ask="pass its address with --target-url",
    trial="kar_checks.checks.stack.trial:run",
    judge="kar_checks.checks.stack.judge:judge",
    observation="kar_checks.checks.stack.observation:StackObservation",
    tests="kar_checks.checks.stack.test_stack",
    manifests="kar_checks.checks.stack.client:manifests",
    common_needs=_NEEDS,
    stack_namespace="kar_checks.checks.stack.address:namespace",
    options=(
        Option("--target-url", "Assess this stack, as reached in the cluster.", key="stack.url"),
        Option("--target-model", "Its model; default: the first served.", key="stack.model"),
        Option(
            "--target-namespace",
            "Namespace of its pods; default: from the URL.",
            key="stack.namespace",
        ),
        Option(
            "--target-prefill",
            "Its prefill pods; default: by well-known labels.",
            metavar="SELECTOR",
            key="stack.prefill",
        ),
        Option("--target-decode", "Its decode pods.", metavar="SELECTOR", key="stack.decode"),
        Option(
            "--target-credential",
            "Environment variable with a bearer token; stored nowhere.",
            metavar="VARIABLE",
            key="stack.credential",
        ),
    ),
    checks=(
        Check(
            id="stack.served",
            title="Your stack answers",
            proves="Each of the counted requests, sent from a pod in the cluster to the stack's "
            "own address, was answered with text that it generated.",
            fails_when="A request gets a server error or an answer without text.",
            budget_seconds=300,
        ),
        Check(
            id="stack.separate_phases",
            title="Prefill and decode run in separate pods",
            proves="Pods of both phases exist and none serves both, and the counters or the logs "
            "of both show that they worked on our requests.",
            fails_when="All requests were answered and the prefill pods did nothing for them, or "
            "the same pods serve both phases.",
            budget_seconds=300,
        ),
        Check(
            id="stack.transferred",
            title="The KV state moves from prefill to decode",
            proves="Prompts that nobody has sent before were computed by prefill pods and the "
            "state of every one arrived in decode pods, with a grade of proof: the engines' own "
            "token accounts; bytes that the interfaces of both sides carried beyond what they "
            "carry without requests, more for long prompts than for short ones, and as many as "
            "the engines count or the connections between the pods carried; and our request ids "
            "in the logs of exactly one pod of each phase.",
            fails_when="Decode computed the prompts itself although every request was answered, "
            "or the interfaces did not carry what the engines claim, or hardly more than text.",
            budget_seconds=300,
        ),
    ),
)
