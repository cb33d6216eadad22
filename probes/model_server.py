"""A simulated model server: OpenAI's endpoints, vLLM's metrics, and a load that can be set.

Nothing is computed: the answers name the pod that gave them, so that a client can count who
served. What it reports of its load is what it was told to report, and it counts how often
somebody read that.

Environment: ``KAR_NAME`` (the name in the answers), ``KAR_PORT``.

- ``POST /v1/completions``, ``/v1/chat/completions``: an answer, or with ``"stream": true``
  server-sent events; header ``x-kar-events`` says how many, ``x-kar-interval`` how many seconds
  apart. Each event carries the seconds since the first byte of the answer.
- ``GET /metrics``: ``vllm:num_requests_waiting`` and the like. Each read is counted.
- ``GET /ready``: 200, or 503 when it was told to be unready.
- ``GET`` or ``POST /kar/state``: its counts; the body of a POST changes ``waiting``, ``running``,
  ``kv``, ``ready``, ``delay`` (seconds before each answer of a model) and ``adapters``. With
  ``?token=A,B`` also ``ids``: how often each request of these tokens arrived, by its id.
- Any other path: who answered.

Every answer in JSON has ``received``: how many ``bytes`` the request's body had, and ``sha256``.

Request headers that steer an answer: ``x-kar-token`` (counted by its value), ``x-kar-request`` (the
id of the request within its token), ``x-kar-delay`` (seconds), ``x-kar-fail-first`` (503 to the
first request of that token), ``x-kar-answer-bytes`` (length of a ``filling`` in the answer, see
:func:`filling`). The answer's header ``x-kar-pod`` is the name, ``x-kar-revision`` is what the
request carried.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHUNK = 65536
KEPT = 262144
"""Bytes of a body that are kept to be read as JSON; of a longer one only the digest is known."""


def filling(size: int) -> str:
    """Return a text of a given length, the same for everybody."""
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


class State:
    """What the server reports and counts; its lock guards every field."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.load: dict[str, Any] = {
            "waiting": 0,
            "running": 0,
            "kv": 0.0,
            "ready": True,
            "delay": 0.0,
            "adapters": [],
        }
        self.scrapes = 0
        self.last_scrape = 0.0
        self.changed = time.monotonic()
        self.first_after_change: float | None = None
        self.served = 0
        self.tokens: dict[str, int] = {}
        self.ids: dict[str, Counter[str]] = {}

    def scraped(self) -> None:
        """Count a read of the metrics."""
        with self.lock:
            self.scrapes += 1
            self.last_scrape = time.monotonic()
            if self.first_after_change is None:
                self.first_after_change = self.last_scrape - self.changed

    def arrived(self, token: str, request: str) -> int:
        """Count a request, and return how many there were of its token."""
        with self.lock:
            self.served += 1
            if not token:
                return self.served
            if request:
                self.ids.setdefault(token, Counter())[request] += 1
            self.tokens[token] = self.tokens.get(token, 0) + 1
            return self.tokens[token]

    def change(self, wanted: dict[str, Any]) -> None:
        """Report another load from now on."""
        with self.lock:
            unknown = set(wanted) - set(self.load)
            if unknown:
                raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
            self.load.update(wanted)
            self.changed = time.monotonic()
            self.first_after_change = None

    def told(self, *tokens: str) -> dict[str, Any]:
        """Return everything that is known, with the ids of the requests of some tokens."""
        with self.lock:
            return {
                "ids": {one: dict(self.ids.get(one, {})) for one in tokens},
                "load": dict(self.load),
                "scrapes": self.scrapes,
                "scraped_after_seconds": self.first_after_change,
                "served": self.served,
                "tokens": dict(self.tokens),
            }

    def metrics(self, model: str) -> str:
        """Return the load as vLLM would."""
        with self.lock:
            load = dict(self.load)
        label = f'{{model_name="{model}"}}'
        adapters = ",".join(load["adapters"])
        lora = (
            f'{{max_lora="4",running_lora_adapters="{adapters}",waiting_lora_adapters=""}} '
            f"{time.time()}"
        )
        rows = [
            ("num_requests_waiting", f"{label} {load['waiting']}"),
            ("num_requests_running", f"{label} {load['running']}"),
            ("kv_cache_usage_perc", f"{label} {load['kv']}"),
            ("gpu_cache_usage_perc", f"{label} {load['kv']}"),
            ("cache_config_info", '{block_size="16",num_gpu_blocks="2048"} 1'),
            ("lora_requests_info", lora),
        ]
        return "".join(f"# TYPE vllm:{name} gauge\nvllm:{name}{value}\n" for name, value in rows)


class Handler(BaseHTTPRequestHandler):
    """One connection; ``server`` is a :class:`Server`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """Answer a request without a body."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a request with a body."""
        self._answer()

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        state = self.server.state
        body = self._body(path)
        if path == "/metrics":
            state.scraped()
            self._send(200, state.metrics(self.server.model).encode(), "text/plain; version=0.0.4")
        elif path == "/ready":
            self._send(200 if state.told()["load"]["ready"] else 503, b"{}")
        elif path == "/kar/state":
            try:
                if body:
                    state.change(json.loads(body))
            except ValueError as error:
                self._send(400, json.dumps({"error": str(error)}).encode())
                return
            tokens = urllib.parse.parse_qs(query).get("token", [""])[0].split(",")
            self._json(200, {"name": self.server.name, **state.told(*filter(None, tokens))})
        else:
            self._serve(path, body)

    def _serve(self, path: str, body: bytes) -> None:
        token = self.headers.get("x-kar-token", "")
        seen = self.server.state.arrived(token, self.headers.get("x-kar-request", ""))
        delay = float(self.headers.get("x-kar-delay", "0"))
        completion = path in ("/v1/completions", "/v1/chat/completions")
        if completion:
            delay += float(self.server.state.told()["load"]["delay"])
        if delay:
            time.sleep(delay)
        if self.headers.get("x-kar-fail-first") and seen == 1:
            self._told(503, {"error": "told to fail the first one"})
        elif completion:
            self._complete(path, body)
        else:
            self._told(200, {"name": self.server.name, "path": path})

    def _complete(self, path: str, body: bytes) -> None:
        try:
            # Of a long body only a part is here; then nothing is asked for but an answer.
            asked = json.loads(body or b"{}") if len(body) == self.received else {}
        except ValueError:
            self._told(400, {"error": "the body is not JSON"})
            return
        chat = path.endswith("chat/completions")
        head = {
            "id": "kar",
            "object": "chat.completion" if chat else "text_completion",
            "model": asked.get("model", self.server.model),
        }
        if asked.get("stream"):
            self._stream(head)
            return
        text = f"answered by {self.server.name}"
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        self._told(200, {**head, "choices": [{"index": 0, "finish_reason": "stop", **choice}]})

    def _stream(self, head: dict[str, Any]) -> None:
        count = int(self.headers.get("x-kar-events", "4"))
        interval = float(self.headers.get("x-kar-interval", "0.1"))
        self._head(200, "text/event-stream", None)
        began = time.monotonic()
        for index in range(count):
            if index:
                time.sleep(max(0.0, began + index * interval - time.monotonic()))
            event = {**head, "index": index, "at": round(time.monotonic() - began, 4)}
            self._chunk(f"data: {json.dumps(event)}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _body(self, path: str) -> bytes:
        """Read the body, and keep the beginning of one that is looked at."""
        self.received = 0
        self.digest = hashlib.sha256()
        keep = path.startswith(("/v1/", "/kar/"))
        kept: list[bytes] = []
        for piece in self._pieces():
            if keep and self.received < KEPT:
                kept.append(piece)
            self.received += len(piece)
            self.digest.update(piece)
        return b"".join(kept)

    def _pieces(self) -> Any:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield from self._read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        yield from self._read(int(self.headers.get("content-length", "0")))

    def _read(self, size: int) -> Any:
        while size > 0:
            piece = self.rfile.read(min(size, CHUNK))
            if not piece:
                return
            size -= len(piece)
            yield piece

    def _told(self, status: int, body: dict[str, Any]) -> None:
        """Answer a request whose body was counted."""
        body = {**body, "received": {"bytes": self.received, "sha256": self.digest.hexdigest()}}
        if size := int(self.headers.get("x-kar-answer-bytes", "0")):
            body["filling"] = filling(size)
        self._json(status, body)

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self._head(status, kind, len(body))
        self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("x-kar-pod", self.server.name)
        if revision := self.headers.get("x-kar-revision"):
            self.send_header("x-kar-revision", revision)
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the log for what matters."""


class Server(ThreadingHTTPServer):
    """The server with its state."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.model = os.environ.get("KAR_MODEL", "kar-model")
        self.state = State()
        super().__init__(("", port), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no trouble of ours."""


def main() -> None:
    """Serve until told to go."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    name = os.environ.get("KAR_NAME", "model")
    server = Server(name, int(os.environ.get("KAR_PORT", "8000")))
    print(json.dumps({"event": "serving", "name": name}), flush=True)
    server.serve_forever(poll_interval=0.5)


if __name__ == "__main__":
    main()
