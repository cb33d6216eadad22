"""Sabotages of the Gateway API: a gateway of the tests with one fault, or a broken installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kar_checks.cluster import kinds
from kar_checks.cluster.client import MERGE, Cluster
from localcluster import LocalCluster
from localcluster.shell import run
from tests.cluster.injections import injection
from tests.cluster.injections.standin import WORDS, standin

_ADDONS = ("gateway",)
_WORDS = (*WORDS, "--set", "gateway.long_answer_seconds=2")
_stand_in = injection(addons=_ADDONS, words=_WORDS)


@_stand_in
def honest_standin(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """No fault but a claim that is not kept: what the other sabotages change is one thing each."""
    return standin(local, "", ("HTTPRouteRequestTimeout",))


@_stand_in
def plain_web_server(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """What answers at the address is a web server that says 200 to everything."""
    return standin(local, "plain", ("HTTPRouteRequestTimeout",))


@_stand_in
def all_to_the_first_backend(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """The weights are 100 and 0, whatever the route says."""
    return standin(local, "first")


@_stand_in
def header_rule_shadowed(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """The default comes before the rule."""
    return standin(local, "shadowed")


@_stand_in
def changes_not_followed(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """A route stays for ever what it was when it came."""
    return standin(local, "deaf")


@_stand_in
def unmatched_to_a_backend(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """What no route is for goes to some backend."""
    return standin(local, "leaky")


@_stand_in
def answers_collected(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """An answer is passed on when it is complete."""
    return standin(local, "collecting")


@_stand_in
def missing_backend_resolved(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Every route is said to be fine."""
    return standin(local, "lying")


@_stand_in
def answers_for_another(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Every answer bears the name of one backend."""
    return standin(local, "impostor")


@injection(addons=_ADDONS, words=(*_WORDS, "--set", "gateway.programmed_seconds=3"))
def gateway_refused(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """The class is accepted, and its Gateways are not programmed."""
    return standin(local, "refusing")


@_stand_in
def class_refused(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """The controller does not want the class."""
    return standin(local, "unwilling")


@injection(addons=_ADDONS, words=("--set", "gateway.class=nobody"))
@contextmanager
def class_missing(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The class that the user named does not exist."""
    yield


@injection(addons=_ADDONS)
@contextmanager
def routes_without_v1(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """HTTPRoute is served in its beta version only."""
    name = f"{kinds.HTTP_ROUTE.plural}.{kinds.HTTP_ROUTE.group}"
    before: list[dict[str, Any]] = cluster.get(kinds.CRD, name)["spec"]["versions"]

    def serve(on: bool) -> None:
        versions = [{**one, "served": on or one["name"] != "v1"} for one in before]
        cluster.patch(kinds.CRD, name, {"spec": {"versions": versions}}, content_type=MERGE)

    serve(False)
    try:
        yield
    finally:
        serve(True)
        # Its watch was cut off; without a new start it tries again only after half a minute.
        words = ["-n", "envoy-gateway-system", "deployment/envoy-gateway"]
        local_kubectl(local, "rollout", "restart", *words)
        local_kubectl(local, "rollout", "status", "--timeout=60s", *words)


def local_kubectl(local: LocalCluster, *words: str) -> None:
    """Run kubectl with every right."""
    run([*local.kubectl, *words], timeout=70)
