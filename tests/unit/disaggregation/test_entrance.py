"""The way to the router: a Gateway where there is a class for one, else the Service, and why."""

from __future__ import annotations

from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.disaggregation import figures
from kar_checks.checks.disaggregation.entrance import HOST, Entrance
from kar_checks.cluster import facts, kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason
from tests.unit.apiserver import ApiServer, refusal
from tests.unit.disaggregation.cases import seen

SERVED = frozenset({(kinds.GATEWAY.group, kinds.GATEWAY.version, kinds.GATEWAY.plural)})


def entrance(cluster: Cluster, *settings: str, served: Any = SERVED) -> Entrance:
    space = Workspace(cluster, Target(namespace="ns"), run_id="r1", until=9e9)
    known = facts.Facts(version="v1.37.0", user="u", cluster_uid="", nodes=[], served=served)
    chosen = [f"disaggregation.{one}" for one in settings]
    return Entrance(Trial(cluster, space, known, profile.load(None, chosen), frozenset()))


def gateway_class(name: str, accepted: str) -> Object:
    return {
        "apiVersion": kinds.GATEWAY_CLASS.api_version,
        "kind": kinds.GATEWAY_CLASS.kind,
        "metadata": {"name": name, "generation": 1},
        "spec": {"controllerName": "example.org/c"},
        "status": {
            "conditions": [{"type": "Accepted", "status": accepted, "observedGeneration": 1}]
        },
    }


def gateway_of(api: ApiServer) -> Object:
    return next(one for key, one in api.objects.items() if key[2] == kinds.GATEWAY.plural)


def programmed(api: ApiServer) -> None:
    gateway = gateway_of(api)
    gateway["status"] = {
        "addresses": [{"value": "192.0.2.7"}],
        "conditions": [{"type": "Programmed", "status": "True"}],
    }
    api.add(gateway, kinds.GATEWAY.plural)


def test_requests_come_through_a_gateway_of_the_first_accepted_class(
    cluster: Cluster, api: ApiServer
) -> None:
    for name, accepted in (("a", "False"), ("b", "True"), ("c", "True")):
        api.add(gateway_class(name, accepted), kinds.GATEWAY_CLASS.plural)
    found = entrance(cluster)
    found.begin()
    assert gateway_of(api)["spec"]["gatewayClassName"] == "b"
    (route,) = (one for key, one in api.objects.items() if key[2] == kinds.HTTP_ROUTE.plural)
    assert route["spec"]["hostnames"] == [HOST]
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "kar-disagg-router", "port": 8000}]
    assert rule["timeouts"] == {"request": "60s"}
    programmed(api)
    assert found.ready()
    assert (found.address, found.told) == ("192.0.2.7:80", "Gateway of class b")
    found.close(HarnessError(Reason.TIMEOUT, "no answer"))
    assert (found.address, found.told) == ("", "Service (through a Gateway of class b: no answer)")


@pytest.mark.parametrize(
    ("settings", "classes", "told"),
    [
        ([], {}, "Service (no accepted GatewayClass)"),
        ([], {"a": "False"}, "Service (no accepted GatewayClass)"),
        (["gateway=b"], {"a": "True"}, "Service (no accepted GatewayClass b)"),
        (["gateway=none"], {"a": "True"}, "Service (disaggregation.gateway is none)"),
        (
            ["gateway_seconds=0.1"],
            {"a": "True"},
            "Service (a Gateway of class a: not programmed in 0 s)",
        ),
    ],
)
def test_otherwise_they_come_by_the_service_and_the_reason_is_told(
    cluster: Cluster, api: ApiServer, settings: list[str], classes: dict[str, str], told: str
) -> None:
    for name, accepted in classes.items():
        api.add(gateway_class(name, accepted), kinds.GATEWAY_CLASS.plural)
    found = entrance(cluster, *settings)
    found.begin()
    assert not found.ready()
    assert (found.address, found.told) == ("", told)


def test_who_may_not_make_a_gateway_comes_by_the_service(cluster: Cluster, api: ApiServer) -> None:
    api.add(gateway_class("a", "True"), kinds.GATEWAY_CLASS.plural)
    found = entrance(cluster)
    cluster.list(kinds.GATEWAY_CLASS)
    api.answers.append(refusal(403, "Forbidden", "no listing for you"))
    found.begin()
    assert not found.ready()
    assert "no listing for you" in found.told


def test_without_the_gateway_api_nothing_is_asked(cluster: Cluster, api: ApiServer) -> None:
    found = entrance(cluster, served=frozenset())
    found.begin()
    assert not found.ready()
    assert found.told == "Service (no Gateway API)"
    assert not api.asked("GET", kinds.GATEWAY_CLASS.plural)


def test_a_gateway_is_a_stop_on_the_way() -> None:
    way = figures.draw(seen(route="Gateway of class b"))[0]
    names = [one.name for one in way.stops]
    assert names == ["client", "Gateway", "router", "decode", "prefill"]
    steps = [(names[one.source], names[one.target]) for one in way.hops]
    assert steps[:3] == [("client", "Gateway"), ("Gateway", "router"), ("router", "decode")]
    assert steps[-2:] == [("router", "Gateway"), ("Gateway", "client")]
    assert [steps[n] for n, one in enumerate(way.hops) if one.heavy] == [("prefill", "decode")]
