"""A tiny API server: keeps objects, answers watches, and fails in whatever way a test asks for."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import yaml

Object = dict[str, Any]
Key = tuple[str, str, str, str]
"""(API, namespace, plural, name)"""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What the next request gets; ``lose`` does what was asked and never says so."""

    status: int = 200
    body: Any = ""
    instead: Literal["answer", "hang up", "lose"] = "answer"
    headers: dict[str, str] = field(default_factory=dict[str, str])


HANG_UP = Answer(instead="hang up")
LOSE = Answer(instead="lose")
BREAK = b""
"""In a stream: the connection breaks here."""


def refusal(status: int, reason: str, message: str) -> Answer:
    """Return an error as the API server itself words it."""
    return Answer(status, _status(status, reason, message))


def event(change: str, item: Object) -> bytes:
    return json.dumps({"type": change, "object": item}).encode() + b"\n"


@dataclass
class ApiServer:
    """Answers from memory, but for the first requests if there are ``answers`` or ``streams``."""

    port: int = 0
    version: str = "v1.37.0"
    answers: deque[Answer] = field(default_factory=deque[Answer])
    streams: deque[Sequence[bytes | float]] = field(default_factory=deque[Sequence[bytes | float]])
    """For the next watches: bytes to send, seconds to pause."""
    requests: list[Request] = field(default_factory=list[Request])
    objects: dict[Key, Object] = field(default_factory=dict[Key, Object])
    denied: set[str] = field(default_factory=set[str])
    """Resources on which no right is granted."""
    tls: ssl.SSLContext | None = None
    served: dict[str, Object] = field(default_factory=dict[str, Object])
    """Answers to single paths, discovery for instance."""

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self.log: list[tuple[int, str, Key, Object]] = []
        self._counter = 0
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = _Server(("127.0.0.1", self.port), handler)
        self.port = self._http.server_port
        if self.tls is not None:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True)
        self.stopped = False
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.stopped = True
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path, **cluster: Any) -> Path:
        return write_kubeconfig(folder, self.url, **cluster)

    def next_number(self) -> int:
        self._counter += 1
        return self._counter

    def put(self, change: str, key: Key, item: Object) -> None:
        """Store a change, as whoever else is in the cluster would make it, and tell the watches."""
        with self.changed:
            number = self.next_number()
            item["metadata"]["resourceVersion"] = str(number)
            if change == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = item
            self.log.append((number, change, key, json.loads(json.dumps(item))))
            self.changed.notify_all()

    def add(self, item: Object, plural: str) -> Object:
        """Put in an object of somebody else."""
        meta = item["metadata"]
        namespace = str(meta.get("namespace", ""))
        meta.setdefault("uid", f"uid-{self.next_number()}")
        self.put("ADDED", (str(item["apiVersion"]), namespace, plural, str(meta["name"])), item)
        return item

    def asked(self, method: str, part: str = "") -> list[Request]:
        return [one for one in self.requests if one.method == method and part in one.path]


def write_kubeconfig(
    folder: Path, server: str, *, user: Object | None = None, **cluster: Any
) -> Path:
    path = folder / "kubeconfig"
    named = {"name": "research"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "research",
        "contexts": [{**named, "context": {"cluster": "research", "user": "research"}}],
        "clusters": [{**named, "cluster": {"server": server, **cluster}}],
        "users": [{**named, "user": {"token": "a-token"} if user is None else user}],
    }
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _status(code: int, reason: str, message: str) -> Object:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Stay quiet."""

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        asked = Request(self.command, parts.path, query, dict(self.headers.items()), body)
        self.api.requests.append(asked)
        if query.get("watch"):
            self._watch(asked)
            return
        scripted = self.api.answers.popleft() if self.api.answers else None
        if scripted is None or scripted.instead == "lose":
            status, answer = self._serve(asked)
        else:
            status, answer = scripted.status, scripted.body
        if scripted and scripted.instead != "answer":
            self._hang_up()
            return
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        more = scripted.headers if scripted else {}
        if more.get("Content-Encoding") == "gzip":
            data = gzip.compress(data)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_PATCH = _handle  # noqa: N815

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, asked: Request) -> tuple[int, Any]:
        api = self.api
        fixed: dict[str, Object] = {
            "/version": {"gitVersion": api.version},
            "/api": {"items": []},
            "/apis": {"items": []},
        }
        fixed |= api.served
        if asked.path in fixed:
            return 200, fixed[asked.path]
        key = _key(asked.path)
        if key[2].startswith("selfsubject"):
            return 201, self._review(asked.body)
        if asked.method == "POST":
            return self._create((*key[:3], str(asked.body["metadata"]["name"])), asked.body)
        if asked.method == "GET" and not key[3]:
            return 200, self._list(key, asked.query)
        found = api.objects.get(key)
        if found is None:
            return 404, _status(404, "NotFound", f'{key[2]} "{key[3]}" not found')
        if asked.method == "DELETE":
            return self._delete(key, found, asked.body or {})
        return 200, found

    def _review(self, body: Object) -> Object:
        wanted = (body.get("spec") or {}).get("resourceAttributes") or {}
        allowed = wanted.get("resource") not in self.api.denied
        return {"status": {"allowed": allowed, "userInfo": {"username": "somebody"}}}

    def _list(self, key: Key, query: dict[str, str]) -> Object:
        wanted = [one for one in query.get("labelSelector", "").split(",") if one]
        labels = [one.split("=") for one in wanted if "!=" not in one]
        excluded = [one.split("!=") for one in wanted if "!=" in one]
        with self.api.changed:
            items = [
                one
                for name, one in self.api.objects.items()
                if name[0] == key[0]
                and name[2] == key[2]
                and key[1] in ("", name[1])
                and all((one["metadata"].get("labels") or {}).get(k) == v for k, v in labels)
                and all((one["metadata"].get("labels") or {}).get(k) != v for k, v in excluded)
            ]
            latest = self.api.log[-1][0] if self.api.log else 0
        return {"metadata": {"resourceVersion": str(latest)}, "items": items}

    def _create(self, key: Key, body: Object) -> tuple[int, Any]:
        if key in self.api.objects:
            return 409, _status(409, "AlreadyExists", f'{key[2]} "{key[3]}" already exists')
        body["metadata"]["uid"] = f"uid-{self.api.next_number()}"
        if key[1]:
            body["metadata"]["namespace"] = key[1]
        self.api.put("ADDED", key, body)
        return 201, body

    def _delete(self, key: Key, found: Object, body: Object) -> tuple[int, Any]:
        wanted = (body.get("preconditions") or {}).get("uid", found["metadata"]["uid"])
        if wanted != found["metadata"]["uid"]:
            return 409, _status(409, "Conflict", "the UID in the precondition does not match")
        held = found["metadata"].get("finalizers")
        self.api.put("MODIFIED" if held else "DELETED", key, found)
        return 200, found

    def _watch(self, asked: Request) -> None:
        scripted = self.api.answers.popleft() if self.api.answers else None
        if scripted:
            data = json.dumps(scripted.body).encode()
            self.send_response(scripted.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            if self.api.streams:
                self._play(self.api.streams.popleft())
            else:
                self._follow(asked)
        except OSError:
            self.close_connection = True  # whoever watched has gone

    def _play(self, stream: Sequence[bytes | float]) -> None:
        for one in stream:
            if isinstance(one, float):
                time.sleep(one)
            elif one == BREAK:
                self._hang_up()
                return
            else:
                self._chunk(one)
        self._chunk(b"")

    def _follow(self, asked: Request) -> None:
        """Send every change after the version that was asked for, until time is up."""
        key = _key(asked.path)
        seen = int(asked.query["resourceVersion"])
        name = asked.query.get("fieldSelector", "").removeprefix("metadata.name=")
        until = time.monotonic() + int(asked.query["timeoutSeconds"])
        while time.monotonic() < until and not self.api.stopped:
            with self.api.changed:
                new = [one for one in self.api.log if one[0] > seen]
                if not new:
                    self.api.changed.wait(0.05)
            for number, change, at, item in new:
                seen = number
                same = (at[0], at[2]) == (key[0], key[2]) and key[1] in ("", at[1])
                if same and name in ("", at[3]):
                    self._chunk(event(change, item))
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def _key(path: str) -> Key:
    parts = path.strip("/").split("/")
    head, rest = (2, parts[2:]) if parts[0] == "api" else (3, parts[3:])
    api = "/".join(parts[1:head])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    return api, namespace, rest[0], rest[1] if len(rest) > 1 else ""
