"""Sabotages of the Gateway API: a gateway of the tests with faults, or a broken installation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.cluster import kinds, wait
from kar_checks.cluster.client import MERGE, Cluster, Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from localcluster import LocalCluster
from tests.cluster.injections import injection
from tests.cluster.injections.standin import CLASS, WORDS, condition, standin

_ADDONS = ("endpoint-picker",)
_WORDS = (
    *WORDS,
    *("--set", "gateway.long_answer_seconds=2"),
    *("--set", "gateway.steady_seconds=8"),
)
_stand_in = injection(addons=_ADDONS, words=_WORDS)


# From outside: this machine reaches the stand-in, and not the addresses that the real gateway has.
@injection(addons=_ADDONS, words=(*_WORDS, "--set", "gateway.client=outside"))
def honest_standin(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """No fault but a claim that is not kept: what the other sabotages change are their faults."""
    return standin(local, "", ("HTTPRouteRequestTimeout",))


@_stand_in
def a_fault_for_each_question(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Weights are 100 and 0, the default comes before the rule, what no route is for goes to some
    backend, and an answer is passed on when it is complete."""
    return standin(local, "first, shadowed, leaky, collecting")


@_stand_in
def good_only_for_gets(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Of POSTs the weights are ignored, each is delivered twice, and bodies are cut at 1 MiB;
    events go on in pairs, a second late; values of headers are matched without regard to case."""
    return standin(local, "first_for_post, doubled, cut, paired, caseless")


@injection(addons=_ADDONS, words=(*_WORDS, "--set", "gateway.steady_seconds=24"))
def out_of_order_now_and_then(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """In 2 s of every 10 s everything is answered by 503."""
    return standin(local, "outages")


@injection(
    addons=_ADDONS,
    words=(
        *_WORDS,
        *("--set", "gateway.settle_seconds=20"),
        *("--set", "gateway.requests=200"),
        *("--set", "gateway.rule_requests=24"),
    ),
)
def slow_but_right(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Each request takes 0.4 s, names of headers go on in small letters, bodies in chunks; only a
    claim is not kept."""
    return standin(local, "lower, pieces, slow", ("HTTPRouteRequestTimeout",))


@_stand_in
def redirects_to_https(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """The entry point answers everything with a redirection to https."""
    return standin(local, "https")


@_stand_in
def plain_web_server(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """What answers at the address is a web server that says 200 to everything."""
    return standin(local, "plain", ("HTTPRouteRequestTimeout",))


@_stand_in
def changes_not_followed(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """A route stays for ever what it was when it came."""
    return standin(local, "deaf")


@_stand_in
def missing_backend_resolved(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Every route is said to be fine, and names of headers are matched by case."""
    return standin(local, "lying, cased_names")


@_stand_in
def answers_for_another(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Every answer bears the name of one backend."""
    return standin(local, "impostor")


@injection(
    addons=_ADDONS,
    words=(
        "--set",
        f"gateway.class={CLASS},unwilling,nobody",
        "--set",
        "gateway.programmed_seconds=3",
    ),
)
@contextmanager
def classes_that_do_not_work(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The Gateways of one class are not programmed, another is not accepted, a third is missing."""
    body: Object = {
        "apiVersion": kinds.GATEWAY_CLASS.api_version,
        "kind": kinds.GATEWAY_CLASS.kind,
        "metadata": {"name": "unwilling"},
        "spec": {"controllerName": "sabotage.test/unwilling"},
    }
    stored = cluster.create(kinds.GATEWAY_CLASS, body)
    try:
        cluster.patch(
            kinds.GATEWAY_CLASS,
            "unwilling",
            {"status": {"conditions": [condition(stored, "Accepted", False)]}},
            subresource="status",
            content_type=MERGE,
        )
        with standin(local, "refusing"):
            yield
    finally:
        cluster.delete(kinds.GATEWAY_CLASS, "unwilling")


@injection(addons=("gateway", "network-policy"), words=("--set", "gateway.settle_seconds=10"))
@contextmanager
def new_namespaces_deny(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A controller puts a policy into every new namespace that lets nobody in to servers.

    It leaves our client out: on the local cluster one for all pods keeps even answers from it.
    """
    named = (one["metadata"]["name"] for one in cluster.list(kinds.NAMESPACE).items)
    # That of the row was made a moment ago, and the run will find the policy in it.
    known = {one for one in named if not one.startswith("row-")}
    stopping = threading.Event()

    def generate() -> None:
        while not stopping.wait(0.1):
            for one in cluster.list(kinds.NAMESPACE).items:
                name = one["metadata"]["name"]
                if name in known or one["metadata"].get("deletionTimestamp"):
                    continue
                known.add(name)
                with contextlib.suppress(ApiError):
                    cluster.create(kinds.NETWORK_POLICY, _DENY, name)

    thread = threading.Thread(target=generate, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(10)


_DENY: Object = {
    "apiVersion": kinds.NETWORK_POLICY.api_version,
    "kind": kinds.NETWORK_POLICY.kind,
    "metadata": {"name": "deny-in"},
    "spec": {
        "podSelector": {
            "matchExpressions": [{"key": "kar-checks.dev/server", "operator": "Exists"}]
        },
        "policyTypes": ["Ingress"],
    },
}


@injection()
@contextmanager
def half_of_the_gateway_api(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Of the Gateway API all but the routes was installed."""
    made: list[Object] = []
    try:
        installed = (kinds.GATEWAY_CLASS, kinds.GATEWAY)
        made.extend(cluster.create(kinds.CRD, _definition(kind)) for kind in installed)
        for one in made:
            wait.wait_for(
                cluster,
                kinds.CRD,
                one["metadata"]["name"],
                "",
                goal=_established,
                seconds=20,
                what="the definition",
                begin=one,
            )
        yield
    finally:
        for one in made:
            name, uid = one["metadata"]["name"], one["metadata"]["uid"]
            cluster.delete(kinds.CRD, name)
            assert wait.wait_gone(cluster, kinds.CRD, name, "", uid=uid, seconds=20)


def _definition(kind: Kind) -> Object:
    """Return a definition without any rule for what an object holds."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": kinds.CRD.api_version,
        "kind": kinds.CRD.kind,
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {"plural": kind.plural, "kind": kind.kind},
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }


def _established(stored: Object) -> bool:
    said: list[Object] = (stored.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in said)
