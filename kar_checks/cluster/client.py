"""A small typed facade over the official client's transport.

Objects are plain dicts, so that fields which no released client knows survive in both directions.
Every request has a timeout, is counted, and says who sends it; an API server that goes away is
waited for, up to a stated time, because losing a connection is no verdict on the cluster.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, cast

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ReadTimeoutError, SSLError

from kar_checks import __version__
from kar_checks.cluster import channel, trouble, tunnel
from kar_checks.cluster.channel import ExecResult as ExecResult
from kar_checks.cluster.channel import exit_code as exit_code
from kar_checks.cluster.connect import Connection
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.proxy import is_loopback
from kar_checks.model import Reason

Object = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
SILENT_SECONDS = 20.0
"""After so long without a byte a watch is compared with a list: a proxy may hold events back."""
GLANCE_SECONDS = 5.0
LEAST_OUTAGE = 0.2
WATCH_PAUSE = 0.2
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Listing:
    """A list of objects and the resourceVersion from which a watch goes on."""

    items: list[Object]
    resource_version: str


@dataclass
class Outages:
    """Times at which the API server did not answer, as (start, seconds) of the monotonic clock."""

    spans: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def seconds(self) -> float:
        """Return how long the server was away in all."""
        return sum(length for _, length in self.spans)


class Stop:
    """Ends one watch from another thread, without waiting for its next event."""

    def __init__(self) -> None:
        self.asked = False
        self._response: urllib3.BaseHTTPResponse | None = None

    def __call__(self) -> None:
        """End it now."""
        self.asked = True
        if self._response is not None:
            with contextlib.suppress(Exception):
                self._response.shutdown()

    def covers(self, response: urllib3.BaseHTTPResponse) -> None:
        """Name the stream that the watch reads at the moment."""
        self._response = response
        if self.asked:
            self()


class Cluster:
    """One API server. Safe to share between threads; close it at the end."""

    def __init__(
        self, connection: Connection, *, run_id: str = "-", outage_seconds: float = 60.0
    ) -> None:
        self.connection = connection
        self.outages = Outages()
        self.stopping = threading.Event()
        """Set when the run is being interrupted: waits end at their next step."""
        self._run_id = run_id
        self._outage_seconds = outage_seconds
        self._reached = False
        self._api: Any = self._transport()
        self._lock = threading.Lock()
        self._requests = 0
        self._topic = "-"
        self._streams: list[Any] = []

    def _transport(self) -> Any:
        from kubernetes import client

        api: Any = client.ApiClient(self.connection.configuration)
        if not self.connection.configuration.verify_ssl:
            # The kubeconfig wants it so, and kubectl says nothing about it, either.
            urllib3.disable_warnings(InsecureRequestWarning)
        proxy = self.connection.proxy
        if proxy is not None and proxy.socks:
            api.rest_client.pool_manager.pool_classes_by_scheme = tunnel.socks_pools(proxy)
        return api

    def close(self) -> None:
        """Close every connection."""
        self._api.close()

    @property
    def requests(self) -> int:
        """How many API requests were sent so far."""
        return self._requests

    def work_for(self, topic: str) -> None:
        """Name the topic that later requests belong to, for the user agent."""
        self._topic = topic

    @property
    def user_agent(self) -> str:
        """``kar-checks/VERSION topic run-id``: lets an audit log tell our requests apart."""
        return f"kar-checks/{__version__} {self._topic} {self._run_id}"

    # -- plain requests ---------------------------------------------------------------------

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
        accept: str = "application/json",
        patient: bool = True,
        seconds: float = READ_SECONDS,
    ) -> tuple[int, str]:
        """Send one request and return (status, text); an unreachable server is waited for.

        ``seconds`` is how long one answer may take.

        Raises:
            HarnessError: the server stayed away for longer than the outage time.
        """
        first_failure = 0.0
        pause = 0.2
        renewed = False
        around: trouble.Trouble | None = None
        while True:
            wait: float | None = None
            try:
                response = self._send(method, path, body, query, content_type, accept, seconds)
                status, text = response.status, _text(response)
            except (HTTPError, OSError) as error:
                status, text = 0, ""
                found = around or trouble.explain(error, self.connection)
                if self._goes_around(found):
                    around = found
                    continue
            else:
                self._refuse_strangers(response, f"{method} {path}")
                self._reached = True
                if status == 401 and not renewed and self._renew():
                    renewed = True
                    continue
                wait = _retry_after(response)
                if wait is None and not _passing(status, text):
                    if first_failure:
                        self._note_outage(first_failure)
                    return status, text
                found = trouble.Trouble(
                    cause=trouble.answered(status, text), advice=trouble.BUSY[status == 429]
                )
            moment = time.monotonic()
            first_failure = first_failure or moment
            waited = moment - first_failure
            # Who says when to come back is there, and gets its time even where nobody is patient.
            waits = patient or wait is not None
            if not waits or waited >= self._outage_seconds or self.stopping.is_set():
                self._note_outage(first_failure)
                raise self._unreachable(found, waited)
            self.stopping.wait(min(wait, self._outage_seconds) if wait is not None else pause)
            pause = min(pause * 2, 2.0)

    def _goes_around(self, found: trouble.Trouble) -> bool:
        """Leave the environment's proxy out for this machine, as kubectl does without asking it.

        It is asked first, since the address may be the proxy's own: a bastion that is an API server
        is called 127.0.0.1 in its kubeconfig. What it said is told if nobody answers here, either.
        """
        proxy = self.connection.proxy
        if self._reached or proxy is None or not proxy.of_environment or not found.message:
            return False
        if not is_loopback(self.connection.server):
            return False
        self.connection = replace(self.connection, proxy=None)
        self.connection.configuration.proxy = None
        self._api = self._transport()
        return True

    def _unreachable(self, found: trouble.Trouble, waited: float) -> HarnessError:
        length = f"{waited:.0f}" if waited >= 1 else f"{waited:.1f}"
        lasted = f" for {length} s" if waited >= LEAST_OUTAGE else ""
        if found.message:
            message = found.message + (f" (tried{lasted})" if lasted else "")
        else:
            server = self.connection.server
            message = f"the API server at {server} did not answer{lasted}: {found.cause}"
        return HarnessError(Reason.UNREACHABLE, message, found.advice)

    def _refuse_strangers(self, response: urllib3.BaseHTTPResponse, request: str) -> None:
        """Raise if it was not the API server that answered, but a proxy or a sign-in page."""
        status, proxy = response.status, self.connection.proxy
        if status == 407 and proxy is not None:
            raise self._unreachable(trouble.through(proxy, status, self.connection.server), 0)
        if not 300 <= status < 400 or status == 304:
            return
        server = self.connection.server
        to = str(response.headers.get("Location") or "nowhere").partition("?")[0][:200]
        secured = to.startswith(f"https{server.removeprefix('http')}")
        raise HarnessError(
            Reason.UNREACHABLE,
            f"{request}: {server} redirects to {to} (HTTP {status}), which no API server does",
            "write the server in the kubeconfig with https://"
            if secured
            else "sign in to whatever guards it (a VPN, a portal), or take the server's own "
            "address into the kubeconfig",
        )

    def _renew(self) -> bool:
        """Renew credentials that the server does not accept any more, if they can be."""
        credentials = self.connection.credentials
        if credentials is None or not credentials.refresh(refused=True):
            return False
        self._api = self._transport()
        return True

    def _note_outage(self, began: float) -> None:
        with self._lock:
            self.outages.spans.append((began, time.monotonic() - began))

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Sequence[tuple[str, str]],
        content_type: str,
        accept: str,
        read_seconds: float,
    ) -> urllib3.BaseHTTPResponse:
        from kubernetes.client import ApiException

        if self.connection.credentials is not None and self.connection.credentials.refresh():
            self._api = self._transport()
        headers = {"Accept": accept, "User-Agent": self.user_agent}
        if body is not None:
            headers["Content-Type"] = content_type
        request = self._api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list(query),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        # The generated client puts its own user agent over ours.
        request[2]["User-Agent"] = self.user_agent
        request = (*request[:2], self._impersonated(request[2]), *request[3:])
        with self._lock:
            self._requests += 1
        timeout = (CONNECT_SECONDS, read_seconds)
        try:
            response = self._api.call_api(*request, _request_timeout=timeout)
        except ApiException as error:
            # The official client makes this of a TLS failure, and of nothing else here.
            raise SSLError(str(error.reason).replace("\n", ": ")) from error
        return cast("urllib3.BaseHTTPResponse", response.response)

    def _impersonated(self, headers: dict[str, str]) -> Any:
        credentials = self.connection.credentials
        if credentials is None or not credentials.headers:
            return headers
        out = urllib3.HTTPHeaderDict(headers)
        for name, value in credentials.headers:
            out.add(name, value)
        return out

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
        accept: str = "application/json",
        patient: bool = True,
    ) -> Object:
        """Send one request and return the JSON answer.

        Raises:
            ApiError: the server refused.
            HarnessError: the server cannot be reached.
        """
        status, text = self.raw(
            method,
            path,
            body=body,
            query=query,
            content_type=content_type,
            accept=accept,
            patient=patient,
        )
        answer = _json(text)
        if status >= 400:
            raise self._refusal(status, answer, text, f"{method} {path}")
        if answer is None:
            page = trouble.web_page(text, self.connection.server)
            raise HarnessError(
                Reason.API_ERROR,
                f"{method} {path}: the answer is not JSON{f' but {page}' if page else ''}",
                trouble.SIGN_IN if page else "is this address really a Kubernetes API server?",
            )
        return answer

    def _refusal(self, status: int, answer: Object | None, text: str, request: str) -> HarnessError:
        server, plain = self.connection.server, text[:300].strip()
        if status == 400 and "HTTP request to an HTTPS server" in text:
            return HarnessError(
                Reason.UNREACHABLE,
                f"{server} expects https:// ({plain})",
                "write the server in the kubeconfig with https://",
            )
        page = trouble.web_page(text, server) if answer is None else ""
        if page and status == 404:
            # Not an object that is missing: whoever answers knows nothing of objects.
            return HarnessError(
                Reason.API_ERROR,
                f"{request}: the answer is {page}",
                "check the server's address in the kubeconfig, its path included",
            )
        if page:
            answer = {"message": f"HTTP {status} with {page}"}
        error = ApiError(status, answer or {"message": plain or f"HTTP {status}"}, request)
        if page and not error.fault.help:
            error.fault = error.fault.model_copy(update={"help": trouble.SIGN_IN})
        if status == 401 and self.connection.credentials is not None:
            error.fault = error.fault.model_copy(
                update={
                    "message": f"{error.fault.message}: {self.connection.credentials.describe()}"
                }
            )
        return error

    # -- verbs ------------------------------------------------------------------------------

    def get(self, kind: Kind, name: str, namespace: str = "", subresource: str = "") -> Object:
        """Read an object."""
        return self.call("GET", kind.path(namespace, name, subresource))

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """Read an object, ``None`` if it is not there."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def glance(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """Read an object once and briefly; ``None`` if no answer came.

        Raises:
            ApiError: the server refused, or has no such object (status 404).
        """
        path = kind.path(namespace, name)
        try:
            status, text = self.raw("GET", path, patient=False, seconds=GLANCE_SECONDS)
        except HarnessError:
            return None
        answer = _json(text)
        if status >= 400:
            raise ApiError(status, answer, f"GET {path}")
        return answer

    def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        """Read a whole collection, in pages; without a namespace across all of them."""
        chosen = [("labelSelector", labels)] if labels else []
        chosen += [("fieldSelector", fields)] if fields else []
        items: list[Object] = []
        proceed = ""
        while True:
            query = [("limit", "500"), *chosen]
            query += [("continue", proceed)] if proceed else []
            try:
                answer = self.call("GET", kind.path(namespace), query=query)
            except ApiError as error:
                if error.status != 410 or not proceed:
                    raise
                # The server forgot the version of the first page: as client-go does, read all
                # of it anew and at once, which cannot happen again.
                items = []
                answer = self.call("GET", kind.path(namespace), query=chosen)
            items += answer.get("items") or []
            meta = answer.get("metadata") or {}
            proceed = meta.get("continue") or ""
            if not proceed:
                return Listing(items, str(meta.get("resourceVersion", "")))

    def create(
        self, kind: Kind, body: Object, namespace: str = "", *, dry_run: bool = False
    ) -> Object:
        """Create an object; unknown fields are refused instead of dropped.

        A create whose answer was lost with the connection is found again by the run's label.
        """
        query = [("fieldValidation", "Strict")] + ([("dryRun", "All")] if dry_run else [])
        before = len(self.outages.spans)
        try:
            return self.call("POST", kind.path(namespace), query=query, **_written(kind, body))
        except ApiError as error:
            retried = len(self.outages.spans) > before
            if error.status != 409 or not retried or error.api_reason != "AlreadyExists":
                raise
            found = self.get(kind, body["metadata"]["name"], namespace)
            ours = (body["metadata"].get("labels") or {}).items()
            if not ours <= (found["metadata"].get("labels") or {}).items():
                raise
            return found

    def review(self, kind: Kind, body: Object) -> Object:
        """Post an object that is answered and not stored (access and self reviews)."""
        return self.call("POST", kind.path(), body=body)

    def patch(
        self,
        kind: Kind,
        name: str,
        body: Any,
        namespace: str = "",
        *,
        subresource: str = "",
        content_type: str = STRATEGIC_MERGE,
        dry_run: bool = False,
    ) -> Object:
        """Patch an object or a subresource."""
        query = [("fieldValidation", "Strict")] + ([("dryRun", "All")] if dry_run else [])
        path = kind.path(namespace, name, subresource)
        return self.call("PATCH", path, body=body, query=query, content_type=content_type)

    def delete(
        self, kind: Kind, name: str, namespace: str = "", *, uid: str = "", grace: int | None = None
    ) -> bool:
        """Delete an object; with ``uid`` only that very one. Returns whether it was there.

        One whose controller makes pods goes after them, so that its end is theirs, too.
        """
        body: Object = {"propagationPolicy": "Foreground" if kind.makes_pods else "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            self.call("DELETE", kind.path(namespace, name), body=body)
        except ApiError as error:
            if error.status == 404 or (
                error.status == 409 and uid and "UID" in error.server_message
            ):
                return False
            raise
        return True

    def pod_log(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        tail: int | None = None,
        since_seconds: int | None = None,
    ) -> str:
        """Return a container's log so far; of the last lines or seconds only, if asked."""
        query = [("container", container)] if container else []
        query += [("tailLines", str(tail))] if tail is not None else []
        query += [("sinceSeconds", str(since_seconds))] if since_seconds is not None else []
        status, text = self.raw(
            "GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query=query, accept="*/*"
        )
        if status >= 400:
            raise ApiError(status, _json(text), f"log of pod {pod}")
        return text

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str = "",
        seconds: float = 20,
    ) -> ExecResult:
        """Run a command in a container.

        Raises:
            HarnessError: the connection could not be made, broke, or a kubelet that hangs left
                it without an answer.
        """
        done: Future[ExecResult] = Future()

        def work() -> None:
            try:
                done.set_result(self._exec(namespace, pod, argv, container, seconds))
            except BaseException as error:
                done.set_exception(error)

        # Each step has a time limit of its own, and a server that sends a byte now and then keeps
        # to all of them; a thread that it holds is left behind.
        threading.Thread(target=work, daemon=True).start()
        try:
            return done.result(timeout=seconds + CONNECT_SECONDS)
        except TimeoutError as error:
            raise HarnessError(
                Reason.TIMEOUT,
                f"exec in pod {pod}: no answer within {seconds + CONNECT_SECONDS:.0f} s",
                "check whether the kubelet of its node is healthy",
            ) from error

    def _exec(
        self, namespace: str, pod: str, argv: Sequence[str], container: str, seconds: float
    ) -> ExecResult:
        """Run a command over a websocket of its own."""
        if self.connection.credentials is not None:
            self.connection.credentials.refresh()
        query = [("command", word) for word in argv]
        query += [("container", container)] if container else []
        query += [("stdout", "true"), ("stderr", "true")]
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        request = self._api.param_serialize(
            method="GET", resource_path=path, header_params={}, auth_settings=["BearerToken"]
        )
        headers = [
            (name, value) for name, value in request[2].items() if name.lower() == "authorization"
        ]
        headers.append(("User-Agent", self.user_agent))
        if self.connection.credentials is not None:
            headers += self.connection.credentials.headers
        with self._lock:
            self._requests += 1
        return channel.run(
            self.connection,
            path,
            query,
            headers,
            pod=pod,
            program=argv[0],
            connect_seconds=CONNECT_SECONDS,
            # A kubelet that hangs holds the handshake up; whoever waits gives up before.
            handshake_seconds=seconds + 2 * CONNECT_SECONDS,
            seconds=seconds,
        )

    # -- watches ----------------------------------------------------------------------------

    def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str,
        deadline: float,
        labels: str = "",
        fields: str = "",
        stop: Stop | None = None,
    ) -> Generator[tuple[str, Object]]:
        """Yield (type, object) of every change after ``resource_version`` until ``deadline``.

        A broken connection is taken up again where it ended. One that stays silent is compared
        with a list, as a proxy may hold back what comes; then a change that no event told is
        yielded as ``MODIFIED``, or ``DELETED`` if an event was seen of the object before.
        ``deadline`` is of the monotonic clock. The generator ends at the deadline, or when
        ``stop`` or :meth:`stop` is called.

        Raises:
            ApiError: the server refused, or has forgotten that version (status 410).
        """
        version = resource_version
        asked_at = 0.0
        known: dict[str, Object] = {}
        while (left := deadline - time.monotonic()) > 0 and not self.stopping.is_set():
            if stop is not None and stop.asked:
                return
            # Streams that end at once must not become a storm of requests.
            self.stopping.wait(max(0.0, asked_at + WATCH_PAUSE - time.monotonic()))
            asked_at = time.monotonic()
            query = [
                ("watch", "true"),
                ("resourceVersion", version),
                ("allowWatchBookmarks", "true"),
                ("timeoutSeconds", str(max(1, int(left) + 1))),
            ]
            query += [("labelSelector", labels)] if labels else []
            query += [("fieldSelector", fields)] if fields else []
            path = kind.path(namespace)
            try:
                response = self._send(
                    "GET",
                    path,
                    None,
                    query,
                    "",
                    "application/json",
                    read_seconds=min(left, SILENT_SECONDS),
                )
            except ReadTimeoutError:
                if time.monotonic() < deadline:
                    missed, version = self._missed(kind, namespace, query[4:], version, known)
                    yield from missed
                continue
            except (HTTPError, OSError):
                self.raw("GET", "/version")  # waits for the server, or raises
                continue
            try:
                self._refuse_strangers(response, f"watch {path}")
                if response.status >= 400:
                    text = _text(response)
                    if response.status == 401 and self._renew():
                        continue
                    wait = _retry_after(response)
                    if wait is not None or _passing(response.status, text):
                        self.stopping.wait(min(wait or 0.0, max(0.0, left)))
                        continue
                    raise ApiError(response.status, _json(text), f"watch {path}")
                with self._lock:
                    self._streams.append(response)
                if stop is not None:
                    stop.covers(response)
                for event in _events(response):
                    change, item = str(event["type"]), cast("Object", event["object"])
                    if change == "ERROR":
                        raise ApiError(int(item.get("code", 500)), item, f"watch {path}")
                    version = str(item["metadata"]["resourceVersion"])
                    if change == "BOOKMARK":
                        continue
                    _note(known, change, item)
                    yield change, item
            except ReadTimeoutError:
                if time.monotonic() < deadline:
                    missed, version = self._missed(kind, namespace, query[4:], version, known)
                    yield from missed
            except (HTTPError, OSError):
                continue
            finally:
                with self._lock, contextlib.suppress(ValueError):
                    self._streams.remove(response)
                response.close()

    def listen(
        self, kind: Kind, namespace: str, *, resource_version: str, labels: str, seconds: float
    ) -> Generator[tuple[str, Object]]:
        """Yield what a watch tells over one connection, without bookmarks; nothing is taken up.

        It ends with the connection, by whoever closes it, or after ``seconds`` without a word.

        Raises:
            ApiError: the server refused.
        """
        query = [
            ("watch", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(int(seconds) + 60)),
            ("labelSelector", labels),
        ]
        path = kind.path(namespace)
        try:
            response = self._send("GET", path, None, query, "", "application/json", seconds)
        except (HTTPError, OSError):
            return
        try:
            if response.status >= 400:
                raise ApiError(response.status, _json(_text(response)), f"watch {path}")
            for event in _events(response):
                yield str(event["type"]), cast("Object", event["object"])
        except (HTTPError, OSError):
            return
        finally:
            response.close()

    def _missed(
        self,
        kind: Kind,
        namespace: str,
        query: Sequence[tuple[str, str]],
        version: str,
        known: dict[str, Object],
    ) -> tuple[Sequence[tuple[str, Object]], str]:
        """Return what a silent watch did not tell since ``version``, and the version it is at now.

        Nothing if the server cannot be asked: whoever watches finds that out by other means.
        """
        try:
            status, text = self.raw(
                "GET", kind.path(namespace), query=query, patient=False, seconds=GLANCE_SECONDS
            )
            answer = _json(text) or {}
            if status != 200:
                return [], version
            items = cast("list[Object]", answer.get("items") or [])
            latest = str((answer.get("metadata") or {}).get("resourceVersion") or "")
            since = int(version)
            newer = [one for one in items if int(one["metadata"]["resourceVersion"]) > since]
            if int(latest) <= since:
                return [], version
        except (HarnessError, ValueError):
            return [], version
        there = {str(one["metadata"].get("uid")) for one in items}
        out = [("DELETED", one) for uid, one in known.items() if uid not in there]
        out += [("MODIFIED", {**_typed(kind), **one}) for one in newer]
        for change, one in out:
            _note(known, change, one)
        return out, latest

    def stop(self) -> None:
        """End every watch and every pause at once; later plain requests still work (cleanup)."""
        self.stopping.set()
        with self._lock:
            for stream in self._streams:
                with contextlib.suppress(Exception):
                    stream.shutdown()

    def resume(self) -> None:
        """Allow watches again, for the cleanup after a :meth:`stop`."""
        self.stopping.clear()


def _typed(kind: Kind) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind}


def _note(known: dict[str, Object], change: str, item: Object) -> None:
    uid = str(item["metadata"].get("uid"))
    if change == "DELETED":
        known.pop(uid, None)
    else:
        known[uid] = item


def _events(response: urllib3.BaseHTTPResponse) -> Generator[Object]:
    """Split a watch's stream into events."""
    rest = b""
    while chunk := response.read1(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                event = _json(line.decode("utf-8", "replace"))
                if event is None:
                    raise HarnessError(
                        Reason.API_ERROR,
                        "the answer to a watch is not JSON",
                        "is this address really a Kubernetes API server?",
                    )
                yield event


def _written(kind: Kind, body: Object) -> dict[str, Any]:
    """Return a body as it is to be sent.

    The official client writes JSON with blanks, and the server keeps opaque parts of an object
    byte by byte. When a driver applies a claim's status, they come back without blanks, and the
    server takes that for a forbidden change (seen with 1.37.0). JSON is YAML, which the client
    sends as it is given.
    """
    if not kind.opaque:
        return {"body": body}
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return {"body": text, "content_type": "application/yaml"}


def _text(response: urllib3.BaseHTTPResponse) -> str:
    return response.data.decode("utf-8", "replace")


def _json(text: str) -> Object | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return cast("Object", found) if isinstance(found, dict) else None


_SERVER_TROUBLE = ("apiserver not ready", "apiserver is shutting down", "etcd")
"""What an API server says of itself while it comes or goes."""
_OWN_LOOKUP = re.compile(r'error looking up [^:]+: Get \\?"https?://')
"""An API server that ends refuses what it cannot look up at itself any more, as if forbidden."""


def _passing(status: int, text: str) -> bool:
    """Tell a trouble that passes from a refusal: nobody behind a gateway, too many requests."""
    if status == 429 or (status in (403, 500) and _OWN_LOOKUP.search(text)):
        return True
    if status not in (502, 503, 504):
        return False
    refused = (_json(text) or {}).get("kind") == "Status"
    return not refused or any(one in text for one in _SERVER_TROUBLE)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    """Return for how long the server asks us to stay away, as client-go heeds it; or nothing."""
    if response.status != 429 and response.status < 500:
        return None
    told = str(response.headers.get("Retry-After") or "")
    return float(told) if told.isdigit() else None
