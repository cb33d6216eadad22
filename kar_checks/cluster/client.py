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
from dataclasses import dataclass, field
from typing import Any, cast

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from kar_checks import __version__
from kar_checks.cluster.connect import Connection
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.model import Reason

Object = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
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


@dataclass(frozen=True)
class ExecResult:
    """What a command printed; ``exit_code`` is ``None`` if it did not end in time."""

    exit_code: int | None
    stdout: str
    stderr: str


def exit_code(status: str, pod: str, program: str) -> int | None:
    """Return the exit code that the end of an exec tells; ``None`` if it was broken off.

    Raises:
        HarnessError: the program could not even be started.
    """
    if not status:
        return None
    told = json.loads(status)
    if told.get("status") == "Success":
        return 0
    for cause in (told.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    text = str(told.get("message", ""))
    # Runtimes that cannot start a program say so in words of their own, without an exit code.
    missing = "not found" in text or "no such file" in text
    raise HarnessError(
        Reason.IMAGE_LACKS_TOOL if missing else Reason.API_ERROR,
        f"exec in pod {pod}: the image has no {program}"
        if missing
        else f"exec in pod {pod}: {_first_line(text)}",
    )


class Cluster:
    """One API server. Safe to share between threads; close it at the end."""

    def __init__(
        self, connection: Connection, *, run_id: str = "-", outage_seconds: float = 60.0
    ) -> None:
        from kubernetes import client

        self.connection = connection
        self.outages = Outages()
        self.stopping = threading.Event()
        """Set when the run is being interrupted: waits end at their next step."""
        self._run_id = run_id
        self._outage_seconds = outage_seconds
        self._api: Any = client.ApiClient(connection.configuration)
        self._lock = threading.Lock()
        self._requests = 0
        self._topic = "-"
        self._streams: list[Any] = []

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
    ) -> tuple[int, str]:
        """Send one request and return (status, text); an unreachable server is waited for.

        Raises:
            HarnessError: the server stayed away for longer than the outage time.
        """
        first_failure = 0.0
        pause = 0.2
        while True:
            try:
                response = self._send(method, path, body, query, content_type, accept, READ_SECONDS)
                status, text = response.status, _text(response)
            except (HTTPError, OSError) as error:
                problem = _first_line(error)
                status, text = 0, problem
            if status != 0 and not _passing(status, text):
                if first_failure and status:
                    self._note_outage(first_failure)
                return status, text
            moment = time.monotonic()
            first_failure = first_failure or moment
            waited = moment - first_failure
            if not patient or waited >= self._outage_seconds or self.stopping.is_set():
                self._note_outage(first_failure)
                raise HarnessError(
                    Reason.UNREACHABLE,
                    f"the API server at {self.connection.server} did not answer for "
                    f"{waited:.0f} s ({text[:200]})",
                    "check the address, the network and the credentials of the kubeconfig",
                )
            self.stopping.wait(pause)
            pause = min(pause * 2, 2.0)

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
        with self._lock:
            self._requests += 1
        timeout = (CONNECT_SECONDS, read_seconds)
        try:
            response = self._api.call_api(*request, _request_timeout=timeout)
        except ApiException as error:
            # The official client makes this of a TLS failure, and of nothing else here.
            raise SSLError(str(error.reason).replace("\n", ": ")) from error
        return cast("urllib3.BaseHTTPResponse", response.response)

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
            content = answer or {"message": text[:300].strip() or f"HTTP {status}"}
            raise ApiError(status, content, f"{method} {path}")
        if answer is None:
            raise HarnessError(
                Reason.API_ERROR,
                f"{method} {path}: the answer is not JSON",
                "is this address really a Kubernetes API server?",
            )
        return answer

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

    def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        """Read a whole collection, in pages; without a namespace across all of them."""
        items: list[Object] = []
        proceed = ""
        while True:
            query = [("limit", "500")]
            query += [("labelSelector", labels)] if labels else []
            query += [("fieldSelector", fields)] if fields else []
            query += [("continue", proceed)] if proceed else []
            answer = self.call("GET", kind.path(namespace), query=query)
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

        # The official client cannot limit the time of the handshake, which a hung kubelet holds
        # up for ever; a thread that it holds is left behind.
        threading.Thread(target=work, daemon=True).start()
        try:
            return done.result(timeout=seconds + CONNECT_SECONDS)
        except TimeoutError as error:
            raise HarnessError(
                Reason.TIMEOUT,
                f"exec in pod {pod}: no answer within {seconds + CONNECT_SECONDS:.0f} s",
                "look whether the kubelet of its node is healthy",
            ) from error

    def _exec(
        self, namespace: str, pod: str, argv: Sequence[str], container: str, seconds: float
    ) -> ExecResult:
        """Run a command over a websocket.

        It is opened directly: the official helper swaps a method of the shared client while it
        runs, which sends other threads' requests astray.
        """
        import websocket
        from kubernetes.client import ApiException
        from kubernetes.stream import ws_client as untyped

        ws_client: Any = untyped
        query = [("command", word) for word in argv]
        query += [("container", container)] if container else []
        query += [("stdout", "true"), ("stderr", "true")]
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        request = self._api.param_serialize(
            method="GET", resource_path=path, header_params={}, auth_settings=["BearerToken"]
        )
        with self._lock:
            self._requests += 1
        try:
            channel: Any = ws_client.websocket_call(
                self._api.configuration,
                "GET",
                request[1],
                query_params=query,
                headers=request[2],
                _preload_content=False,
            )
        except ApiException as error:
            text = str(error.reason)
            forbidden = " 403 " in f" {text} "
            raise HarnessError(
                Reason.FORBIDDEN if forbidden else Reason.API_ERROR,
                f"exec in pod {pod}: {_first_line(text)}",
                "grant create (and get) on pods/exec, see `kar rbac`" if forbidden else "",
            ) from error
        try:
            channel.run_forever(timeout=seconds)
            out, err = channel.read_stdout(timeout=0) or "", channel.read_stderr(timeout=0) or ""
            code: int | None = None
            if not channel.is_open():
                code = exit_code(channel.read_channel(ws_client.ERROR_CHANNEL), pod, argv[0])
        except (websocket.WebSocketException, OSError) as error:
            raise HarnessError(
                Reason.API_ERROR, f"exec in pod {pod}: broken off: {_first_line(error)}"
            ) from error
        finally:
            channel.close()
        return ExecResult(code, out, err)

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

        A broken connection is taken up again where it ended. ``deadline`` is of the monotonic
        clock. The generator ends at the deadline, or when ``stop`` or :meth:`stop` is called.

        Raises:
            ApiError: the server refused, or has forgotten that version (status 410).
        """
        version = resource_version
        asked_at = 0.0
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
                    "GET", path, None, query, "", "application/json", read_seconds=left
                )
            except (HTTPError, OSError):
                self.raw("GET", "/version")  # waits for the server, or raises
                continue
            try:
                if response.status >= 400:
                    text = _text(response)
                    if _passing(response.status, text):
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
                    if change != "BOOKMARK":
                        yield change, item
            except (HTTPError, OSError):
                continue
            finally:
                with self._lock, contextlib.suppress(ValueError):
                    self._streams.remove(response)
                response.close()

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


def _first_line(error: object) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
