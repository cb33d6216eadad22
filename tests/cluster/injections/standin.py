"""A gateway of the tests, with a controller and a data plane of its own, to break in one place.

It serves the GatewayClass ``standin`` on the machine's address: routes by host, path, header and
weight, in the order of the rules, and picks a server of an InferencePool by itself: the one that
reports the least load, or that had the same prefix before. A fault is one word that it looks at
where it would do right.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import random
import re
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import MERGE, Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.facts import gather
from kar_checks.cluster.kinds import Kind
from localcluster import LocalCluster
from localcluster.layout import MACHINE_ADDRESS

CLASS = "standin"
CONTROLLER = "sabotage.test/standin"
WORDS = ("--set", f"gateway.class={CLASS}", "--set", "gateway.settle_seconds=4")
_POLL_SECONDS = 0.2
_PREFIX = 2000
_LOAD = re.compile(
    r"^vllm:(num_requests_waiting|kv_cache_usage_perc)\{[^}]*\} (\S+)$", re.MULTILINE
)
_CHUNK = 16384
_SLOW_SECONDS = 0.4


class Standin:
    """The gateway's state. ``fault`` is empty for an honest one.

    Those that touch different questions may come together: first, shadowed, leaky, collecting, and
    of those for POST only: first_for_post, doubled, cut, paired, caseless.

    Some are no faults: lower (names of headers in small letters), pieces (bodies go on in chunks
    of odd sizes, and answers with a length) and slow (each request takes a while).
    """

    def __init__(self, cluster: Cluster, fault: str) -> None:
        self.cluster = cluster
        self.fault = fault
        pool = kinds.INFERENCE_POOL
        facts = gather(cluster)
        self.serves_pools = facts.serves(pool.group, pool.version, pool.plural)
        self.routes: dict[str, Object] = {}
        self.pods: dict[str, list[Object]] = {}
        self.services: dict[tuple[str, str], Object] = {}
        self.pools: dict[tuple[str, str], Object] = {}
        self.reports: dict[str, float] = {}
        self.prefixes: dict[str, str] = {}
        self.in_flight: Counter[str] = Counter()
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
        if self.serves_pools:
            self.pools = {
                (one["metadata"]["namespace"], one["metadata"]["name"]): one
                for one in self.cluster.list(kinds.INFERENCE_POOL).items
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
        for (space, _), pool in self.pools.items():
            if space in spaces:
                self._pool_status(pool)
                self._read_reports(pool)

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
        resolved = "lying" in self.fault or all(
            (space, backend["name"])
            in (self.pools if backend.get("kind") == kinds.INFERENCE_POOL.kind else self.services)
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

    def _pool_status(self, pool: Object) -> None:
        said = [
            condition(pool, "Accepted", True),
            condition(pool, "ResolvedRefs", not self._picker_missing(pool), "InvalidExtensionRef"),
        ]
        parent = {
            "parentRef": {"name": "standin"},
            "controllerName": CONTROLLER,
            "conditions": said,
        }
        self._write(kinds.INFERENCE_POOL, pool, {"parents": [parent]})

    def _picker_missing(self, pool: Object) -> bool:
        named: Object = pool["spec"].get("endpointPickerRef") or {}
        service = (pool["metadata"]["namespace"], named.get("name", ""))
        return bool(named) and self.fault != "asks_nobody" and service not in self.services

    def _read_reports(self, pool: Object) -> None:
        """Scrape the pool's servers, as a picker does."""
        for pod in self._servers(pool):
            address = pod["status"]["podIP"]
            if self.fault == "in_flight" or (self.fault == "stale" and address in self.reports):
                continue
            with contextlib.suppress(OSError):
                port = pool["spec"]["targetPorts"][0]["number"]
                with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=2) as text:
                    found = _LOAD.findall(text.read().decode())
                self.reports[address] = sum(float(value) for _, value in found)

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

    def out_of_order(self) -> bool:
        """Say whether it is in those 2 s of every 10 s in which it refuses everything."""
        return "outages" in self.fault and time.monotonic() % 10 < 2

    def find(self, host: str, path: str, headers: Any) -> Object | None:
        """Return the rule for a request, with its route's namespace."""
        for route in list(self.routes.values()):
            if host in route["spec"]["hostnames"]:
                rules = route["spec"]["rules"]
                for rule in rules[::-1] if "shadowed" in self.fault else rules:
                    if _matches(rule, path, headers, self.fault):
                        return {"namespace": route["metadata"]["namespace"], **rule}
        for route in list(self.routes.values()) if "leaky" in self.fault else []:
            rule = {"namespace": route["metadata"]["namespace"], **route["spec"]["rules"][0]}
            if self.address(rule):
                return rule
        return None

    def _servers(self, pool: Object) -> list[Object]:
        wanted = pool["spec"]["selector"]["matchLabels"].items()
        return [
            pod
            for pod in self.pods.get(pool["metadata"]["namespace"], [])
            if wanted <= (pod["metadata"].get("labels") or {}).items()
            and (self.fault in ("unready_too", "in_flight") or pods.ready(pod))
        ]

    def pick(self, pool: Object, body: bytes, client: str) -> tuple[str, int] | None:
        """Return the server of a pool for a request."""
        if self._picker_missing(pool) or not self._picker_lives(pool):
            return None
        addresses = sorted(str(pod["status"]["podIP"]) for pod in self._servers(pool))
        if not addresses:
            return None
        port = int(pool["spec"]["targetPorts"][0]["number"])
        prefix = body[:_PREFIX].decode("utf-8", "replace") if len(body) > _PREFIX else ""
        if self.fault == "constant":
            chosen = addresses[0]
        elif self.fault == "sticky":
            chosen = addresses[zlib.crc32(client.encode()) % len(addresses)]
        elif self.fault == "in_flight":
            chosen = min(addresses, key=lambda one: (self.in_flight[one], random.random()))  # noqa: S311
        elif prefix and self.prefixes.get(prefix) in addresses:
            chosen = self.prefixes[prefix]
        else:
            chosen = min(addresses, key=lambda one: (self.reports.get(one, 0), random.random()))  # noqa: S311
        if prefix:
            self.prefixes[prefix] = chosen
        return chosen, port

    def _picker_lives(self, pool: Object) -> bool:
        """A pool without a living picker serves as its failureMode says."""
        named: Object = pool["spec"].get("endpointPickerRef") or {}
        if not named or self.fault == "asks_nobody" or named.get("failureMode") == "FailOpen":
            return True
        space = pool["metadata"]["namespace"]
        selector = self.services[space, named["name"]]["spec"]["selector"].items()
        return any(
            selector <= (pod["metadata"].get("labels") or {}).items()
            for pod in self.pods.get(space, [])
        )

    def address(
        self, rule: Object, body: bytes = b"", client: str = "", method: str = "GET"
    ) -> tuple[str, int] | None:
        """Return where a request that matched a rule goes."""
        backends: list[Object] = rule["backendRefs"]
        weights = [int(one.get("weight", 1)) for one in backends]
        chosen = random.choices(backends, weights)[0]  # noqa: S311 - no secret
        words = self.fault.split(", ")
        if "first" in words or ("first_for_post" in words and method == "POST"):
            chosen = backends[0]
        if chosen.get("kind") == kinds.INFERENCE_POOL.kind:
            pool = self.pools.get((rule["namespace"], chosen["name"]))
            return self.pick(pool, body, client) if pool else None
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


def _matches(rule: Object, path: str, headers: Any, fault: str) -> bool:
    for match in rule.get("matches") or [{}]:
        wanted = match.get("path") or {"value": "/"}
        pairs = match.get("headers") or []
        if path.startswith(wanted["value"]) and all(
            _has(headers, one["name"], one["value"], fault) for one in pairs
        ):
            return True
    return False


def _has(headers: Any, name: str, value: str, fault: str) -> bool:
    if "cased_names" in fault:
        return any((one, found) == (name, value) for one, found in headers.items())
    found = headers.get(name)
    if "caseless" in fault:
        return found is not None and found.lower() == value.lower()
    return bool(found == value)


def _handler(standin: Standin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            if standin.fault == "plain":
                self._short(200, b"hello from a web server")
                return
            if standin.out_of_order():
                self._short(503, b"")
                return
            if "slow" in standin.fault:
                time.sleep(_SLOW_SECONDS)
            if "https" in standin.fault:
                self._short(301, b"", f"https://{self.headers.get('host', '')}{self.path}")
                return
            host = self.headers.get("host", "").partition(":")[0]
            rule = standin.find(host, self.path, self.headers)
            address = (
                standin.address(rule, body, self.client_address[0], self.command) if rule else None
            )
            if rule is None or address is None:
                self._short(404 if rule is None else 503, b"")
                return
            self._forward(rule, address, body)

        def do_POST(self) -> None:
            self.do_GET()

        def _short(self, status: int, body: bytes, location: str = "") -> None:
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _forward(self, rule: Object, address: tuple[str, int], body: bytes) -> None:
            dropped = ("transfer-encoding", "content-length")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
            if "lower" in standin.fault:
                headers = {k.lower(): v for k, v in headers.items()}
            if "cut" in standin.fault:
                body = body[: 2**20]
            for one in rule.get("filters") or []:
                for pair in one.get("requestHeaderModifier", {}).get("set", []):
                    headers[pair["name"]] = pair["value"]
            connection = http.client.HTTPConnection(*address, timeout=90)
            standin.in_flight[address[0]] += 1
            try:
                if "doubled" in standin.fault and self.command == "POST":
                    # By another connection, and nobody waits for its answer.
                    again = threading.Thread(
                        target=_send_again, args=(address, self.path, body, dict(headers))
                    )
                    again.start()
                sent: Any = _pieces(body) if "pieces" in standin.fault and body else body or None
                connection.request(self.command, self.path, sent, headers)
                response = connection.getresponse()
                self._pass_on(response)
            except OSError:
                self._short(502, b"")
            finally:
                standin.in_flight[address[0]] -= 1
                connection.close()

        def _pass_on(self, response: http.client.HTTPResponse) -> None:
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() in ("x-kar-pod", "x-kar-revision", "content-type"):
                    other = "gateway-blue" if standin.fault == "impostor" else value
                    self.send_header(name, other if name.lower() == "x-kar-pod" else value)
            if "pieces" in standin.fault and response.getheader("content-length"):
                text = response.read()
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                return
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            if "paired" in standin.fault and response.getheader("content-type", "").endswith(
                "event-stream"
            ):
                self._in_pairs(response)
                return
            held = b""
            while piece := response.read1(_CHUNK):
                held += piece
                if "collecting" not in standin.fault:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(held), held))
                    held = b""
            if held:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(held), held))
            self.wfile.write(b"0\r\n\r\n")

        def _in_pairs(self, response: http.client.HTTPResponse) -> None:
            """Pass events on two by two, a second late."""
            held: list[bytes] = []
            due: queue.Queue[tuple[float, bytes]] = queue.Queue()

            def write() -> None:
                while (one := due.get())[1]:
                    time.sleep(max(0.0, one[0] - time.monotonic()))
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(one[1]), one[1]))

            writer = threading.Thread(target=write)
            writer.start()
            while piece := response.read1(_CHUNK):
                held.append(piece)
                if len(held) == 2:
                    due.put((time.monotonic() + 1, b"".join(held)))
                    held = []
            if held:
                due.put((time.monotonic() + 1, b"".join(held)))
            due.put((0, b""))
            writer.join()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _send_again(address: tuple[str, int], path: str, body: bytes, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=90)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", path, body or None, headers)
        connection.getresponse().read()
    connection.close()


def _pieces(body: bytes) -> Iterator[bytes]:
    """Yield a body in pieces, which go on as chunks."""
    size = max(7, len(body) // 13)
    for start in range(0, len(body), size):
        yield body[start : start + size]


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
