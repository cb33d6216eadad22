"""A gateway of the tests, with a controller and a data plane of its own, to break in one place.

It serves the GatewayClass ``standin`` on the machine's address: routes by host, path, header and
weight, in the order of the rules. A fault is one word that it looks at where it would do right.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kar_checks.cluster import kinds
from kar_checks.cluster.client import MERGE, Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from localcluster import LocalCluster
from localcluster.layout import MACHINE_ADDRESS

CLASS = "standin"
CONTROLLER = "sabotage.test/standin"
WORDS = ("--set", f"gateway.class={CLASS}", "--set", "gateway.settle_seconds=4")
_POLL_SECONDS = 0.2
_CHUNK = 16384


class Standin:
    """The gateway's state. ``fault`` is empty for an honest one.

    Those that touch different questions may come together: first, shadowed, leaky, collecting.
    """

    def __init__(self, cluster: Cluster, fault: str) -> None:
        self.cluster = cluster
        self.fault = fault
        self.routes: dict[str, Object] = {}
        self.pods: dict[str, list[Object]] = {}
        self.services: dict[tuple[str, str], Object] = {}
        self.stopping = threading.Event()

    # -- controller -------------------------------------------------------------------------

    def control(self) -> None:
        """Write statuses and learn routes until told to stop."""
        while not self.stopping.wait(_POLL_SECONDS):
            with contextlib.suppress(ApiError, OSError):
                self.reconcile()

    def reconcile(self) -> None:
        """Look at everything once."""
        gateways = [
            one
            for one in self.cluster.list(kinds.GATEWAY).items
            if one["spec"]["gatewayClassName"] == CLASS
        ]
        names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in gateways}
        routes = [
            one
            for one in self.cluster.list(kinds.HTTP_ROUTE).items
            if any(
                (one["metadata"]["namespace"], parent["name"]) in names
                for parent in one["spec"]["parentRefs"]
            )
        ]
        self.services = {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one
            for one in self.cluster.list(kinds.SERVICE).items
        }
        spaces = {namespace for namespace, _ in names}
        self.pods = {one: self.cluster.list(kinds.POD, one).items for one in spaces}
        for one in routes:
            known = self.routes.get(one["metadata"]["uid"])
            if known is None or self.fault != "deaf":
                self.routes[one["metadata"]["uid"]] = one
            self._route_status(one)
        for one in gateways:
            self._gateway_status(one, len(routes))

    def _gateway_status(self, gateway: Object, routes: int) -> None:
        listener: Object = {
            "name": "http",
            "attachedRoutes": routes,
            "supportedKinds": [],
            "conditions": [condition(gateway, "Accepted", True)],
        }
        said = [condition(gateway, kind, True) for kind in ("Accepted", "Programmed")]
        address = {"type": "IPAddress", "value": MACHINE_ADDRESS}
        if self.fault == "refusing":
            said[1] = condition(gateway, "Programmed", False, "NoResources")
        self._write(
            kinds.GATEWAY,
            gateway,
            {"addresses": [address], "conditions": said, "listeners": [listener]},
        )

    def _route_status(self, route: Object) -> None:
        space = route["metadata"]["namespace"]
        resolved = self.fault == "lying" or all(
            (space, backend["name"]) in self.services
            for rule in route["spec"]["rules"]
            for backend in rule["backendRefs"]
        )
        said = [
            condition(route, "Accepted", True),
            condition(route, "ResolvedRefs", resolved, "BackendNotFound"),
        ]
        parent = {
            "parentRef": route["spec"]["parentRefs"][0],
            "controllerName": CONTROLLER,
            "conditions": said,
        }
        self._write(kinds.HTTP_ROUTE, route, {"parents": [parent]})

    def _write(self, kind: Kind, stored: Object, status: Object) -> None:
        old: Object = stored.get("status") or {}
        if all(_without_times(old.get(key)) == _without_times(status[key]) for key in status):
            return
        meta = stored["metadata"]
        self.cluster.patch(
            kind,
            meta["name"],
            {"status": status},
            meta["namespace"],
            subresource="status",
            content_type=MERGE,
        )

    # -- data plane -------------------------------------------------------------------------

    def find(self, host: str, path: str, headers: Any) -> Object | None:
        """Return the rule for a request, with its route's namespace."""
        for route in list(self.routes.values()):
            if host in route["spec"]["hostnames"]:
                rules = route["spec"]["rules"]
                for rule in rules[::-1] if "shadowed" in self.fault else rules:
                    if _matches(rule, path, headers):
                        return {"namespace": route["metadata"]["namespace"], **rule}
        for route in list(self.routes.values()) if "leaky" in self.fault else []:
            rule = {"namespace": route["metadata"]["namespace"], **route["spec"]["rules"][0]}
            if self.address(rule):
                return rule
        return None

    def address(self, rule: Object) -> tuple[str, int] | None:
        """Return where a request that matched a rule goes."""
        backends: list[Object] = rule["backendRefs"]
        weights = [int(one.get("weight", 1)) for one in backends]
        chosen = random.choices(backends, weights)[0]  # noqa: S311 - no secret
        if "first" in self.fault:
            chosen = backends[0]
        service = self.services.get((rule["namespace"], chosen["name"]))
        selector = service["spec"].get("selector") if service else None
        for pod in self.pods.get(rule["namespace"], []):
            labels = pod["metadata"].get("labels") or {}
            if selector and selector.items() <= labels.items() and "podIP" in pod["status"]:
                return str(pod["status"]["podIP"]), int(chosen["port"])
        return None


def condition(stored: Object, kind: str, good: bool, why: str = "Refused") -> Object:
    return {
        "type": kind,
        "status": "True" if good else "False",
        "reason": kind if good else why,
        "message": "the tests' gateway says so",
        "observedGeneration": stored["metadata"].get("generation", 0),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def _without_times(said: Any) -> Any:
    if isinstance(said, list):
        return [_without_times(one) for one in said]
    if isinstance(said, dict):
        return {key: _without_times(one) for key, one in said.items() if "Time" not in key}
    return said


def _matches(rule: Object, path: str, headers: Any) -> bool:
    for match in rule.get("matches") or [{}]:
        wanted = match.get("path") or {"value": "/"}
        pairs = match.get("headers") or []
        if path.startswith(wanted["value"]) and all(
            headers.get(one["name"]) == one["value"] for one in pairs
        ):
            return True
    return False


def _handler(standin: Standin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            if standin.fault == "plain":
                self._short(200, b"hello from a web server")
                return
            host = self.headers.get("host", "").partition(":")[0]
            rule = standin.find(host, self.path, self.headers)
            address = standin.address(rule) if rule else None
            if rule is None or address is None:
                self._short(404 if rule is None else 503, b"")
                return
            self._forward(rule, address, body)

        def do_POST(self) -> None:
            self.do_GET()

        def _short(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _forward(self, rule: Object, address: tuple[str, int], body: bytes) -> None:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
            for one in rule.get("filters") or []:
                for pair in one.get("requestHeaderModifier", {}).get("set", []):
                    headers[pair["name"]] = pair["value"]
            connection = http.client.HTTPConnection(*address, timeout=90)
            try:
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
                self._pass_on(response)
            except OSError:
                self._short(502, b"")
            finally:
                connection.close()

        def _pass_on(self, response: http.client.HTTPResponse) -> None:
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() in ("x-kar-pod", "x-kar-revision", "content-type"):
                    other = "gateway-blue" if standin.fault == "impostor" else value
                    self.send_header(name, other if name.lower() == "x-kar-pod" else value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            held = b""
            while piece := response.read1(_CHUNK):
                held += piece
                if "collecting" not in standin.fault:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(held), held))
                    held = b""
            if held:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(held), held))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def standin(local: LocalCluster, fault: str, features: tuple[str, ...] = ()) -> Iterator[None]:
    """Serve the class, honestly but for one fault."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        gateway = Standin(own, fault)
        body: Object = {
            "apiVersion": kinds.GATEWAY_CLASS.api_version,
            "kind": kinds.GATEWAY_CLASS.kind,
            "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER},
        }
        stored = own.create(kinds.GATEWAY_CLASS, body)
        accepted = condition(stored, "Accepted", True)
        status: Object = {"conditions": [accepted]}
        if features:
            status["supportedFeatures"] = [{"name": one} for one in features]
        own.patch(
            kinds.GATEWAY_CLASS,
            CLASS,
            {"status": status},
            subresource="status",
            content_type=MERGE,
        )
        server = _Server((MACHINE_ADDRESS, 80), _handler(gateway))
        threads = [
            threading.Thread(target=server.serve_forever, daemon=True),
            threading.Thread(target=gateway.control, daemon=True),
        ]
        for one in threads:
            one.start()
        try:
            yield
        finally:
            gateway.stopping.set()
            server.shutdown()
            server.server_close()
            for one in threads:
                one.join(10)
            own.delete(kinds.GATEWAY_CLASS, CLASS)
