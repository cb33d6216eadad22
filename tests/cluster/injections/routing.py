"""Sabotages of inference routing: pickers and gateways that decide by something else than load.

Where the picker is at fault, the real one runs with another configuration. Where the gateway is, or
where a gateway picks by itself, it is the gateway of the tests with one fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.checks.routing.picker import CONFIG
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import Kind
from localcluster import LocalCluster
from tests.cluster.injections import injection
from tests.cluster.injections.standin import WORDS, standin

_ADDONS = ("endpoint-picker",)
_QUICK = (
    *("--set", "routing.convergence_seconds=1"),
    *("--set", "gateway.steady_seconds=8"),
)
_STANDIN = (*WORDS, *_QUICK)
_built_in = injection(addons=_ADDONS, words=(*_STANDIN, "--set", "routing.picker=built-in"))
_RANDOM = CONFIG.replace("max-score-picker", "random-picker")
_OTHER = "another-pool"
_ELSEWHERE = "envoy-gateway-system"


@injection(addons=_ADDONS, words=(*_QUICK, "--set", f"routing.picker_config={_RANDOM}"))
@contextmanager
def picks_at_random(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The picker reads and scores as ever, and then chance decides."""
    yield


@injection(
    addons=_ADDONS,
    words=(
        *_QUICK,
        "--set",
        f"routing.picker_args=--pool-name={_OTHER} --pool-namespace={_ELSEWHERE}",
    ),
)
@contextmanager
def reads_another_pool(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The picker looks at another pool, and the gateway cannot do what it says."""
    group = kinds.ROLE.group
    objects: list[tuple[Kind, Object]] = [
        (
            kinds.INFERENCE_POOL,
            {
                "spec": {
                    "selector": {"matchLabels": {"app": "inference-extension"}},
                    "targetPorts": [{"number": 5005}],
                    "endpointPickerRef": {"name": "none", "port": {"number": 9002}},
                }
            },
        ),
        (
            kinds.ROLE,
            {
                "rules": [
                    {"apiGroups": [one], "resources": [what], "verbs": ["get", "list", "watch"]}
                    for one, what in (("", "pods"), (kinds.INFERENCE_POOL.group, "inferencepools"))
                ]
            },
        ),
        (
            kinds.ROLE_BINDING,
            {
                "roleRef": {"apiGroup": group, "kind": "Role", "name": _OTHER},
                "subjects": [
                    {"apiGroup": group, "kind": "Group", "name": "system:serviceaccounts"}
                ],
            },
        ),
    ]
    with contextlib.ExitStack() as made:
        for kind, body in objects:
            head = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": _OTHER}}
            cluster.create(kind, {**head, **body}, _ELSEWHERE)
            made.callback(cluster.delete, kind, _OTHER, _ELSEWHERE)
        yield


@injection(addons=_ADDONS, words=_STANDIN)
def picker_is_never_asked(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """The gateway takes a pool for a Service: it knows no picker and misses none."""
    return standin(local, "asks_nobody")


@_built_in
def picks_without_readiness(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """A gateway that picks by itself and well, but for servers that are not ready."""
    return standin(local, "unready_too")


@injection(
    addons=_ADDONS,
    words=(
        *_STANDIN,
        *("--set", "routing.picker=built-in"),
        *("--set", "gateway.steady_seconds=24"),
    ),
)
def pool_out_of_order_now_and_then(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """In 2 s of every 10 s everything is answered by 503."""
    return standin(local, "outages")


@_built_in
def counts_requests_in_flight(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Reports are never read; the server with the fewest open requests is next, ready or not."""
    return standin(local, "in_flight")


@_built_in
def picks_always_the_first(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Reports are read, and the first server gets everything."""
    return standin(local, "constant")


@_built_in
def session_affinity(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Reports are read, and a client always gets the same server."""
    return standin(local, "sticky")


@_built_in
def reads_only_once(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """Reports are read when a server appears, and never again."""
    return standin(local, "stale")
