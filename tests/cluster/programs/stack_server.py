"""A serving stack without a model, honest or lying as its environment says. Runs in pods.

``prefill`` and ``decode`` answer at once and export vLLM's metrics. Decode asks the prefill at
``PREFILL`` first, or without one says that it computed the prompt itself. It claims ``CLAIMS``
bytes of KV state for each request and ``CLAIMS_TOKEN`` for each token, and pulls ``MOVES`` and
``MOVES_TOKEN``; of the requests that ``RECOMPUTES`` names (``after N``, ``odd``, ``long N``) it
pulls nothing, and claims as ever. ``FAILS`` answers with errors, and a prefill dies after it handed
over ``DIES_AFTER`` times.
``legs`` stands before two servers of an engine (``PREFILL`` and ``DECODE``) and sends each request
to both, as llm-d's sidecar does. ``cache`` answers by itself, or every second time asks ``DECODE``.
``chatter`` is a sidecar at a port of its own, which pulls ``SIZE`` bytes from the one at ``PEER``
every ``BEAT`` seconds, whatever else happens.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8000
STARTED = time.time()
ROLE = sys.argv[1]
PREFILL, DECODE = os.environ.get("PREFILL", ""), os.environ.get("DECODE", "")
CLAIMS, MOVES = int(os.environ.get("CLAIMS", "0")), int(os.environ.get("MOVES", "0"))
FAILS = "FAILS" in os.environ
CLAIMS_TOKEN = int(os.environ.get("CLAIMS_TOKEN", "0"))
MOVES_TOKEN = int(os.environ.get("MOVES_TOKEN", "0"))
RECOMPUTES = os.environ.get("RECOMPUTES", "none 0").split()
DIES_AFTER = int(os.environ.get("DIES_AFTER", "0"))
PEER, CHATTER_PORT = os.environ.get("PEER", ""), 9000

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def ask(
    address: str, method: str, path: str, body: Any = None, request_id: str = ""
) -> tuple[int, bytes]:
    """Send one request to ``host:port``; returns (status, answer)."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        # A body that nobody reads would make the other side reset the connection.
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Server(ThreadingHTTPServer):
    """Takes several connections at once."""

    daemon_threads = True
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    """What all roles have in common."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer the questions of a client, of a scraper and of a decode."""
        if self.path == "/health":
            self.tell(200, b"ok\n")
        elif self.path.startswith("/kv/"):
            self.tell(200, bytes(int(self.path.removeprefix("/kv/"))))
            with _lock:
                _counts["kv"] += 1
            if _counts["kv"] == DIES_AFTER:
                threading.Timer(1.5, os._exit, [1]).start()
        elif self.path == "/v1/models":
            self.tell(200, {"data": [{"id": "none"}]})
        elif self.path == "/version" and ROLE in ("prefill", "decode"):
            self.tell(200, {"version": "0.11.0"})
        elif self.path == "/metrics" and ROLE in ("prefill", "decode"):
            with _lock:
                lines = [f"{name} {value}" for name, value in sorted(_counts.items())]
            lines += [f"process_start_time_seconds {STARTED:.3f}", ""]
            self.tell(200, "\n".join(lines).encode())
        else:
            self.tell(404, {})

    def do_POST(self) -> None:
        """Serve one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request_id = self.headers.get("X-Request-Id", "")
        print(json.dumps({"request_id": request_id}), flush=True)
        if FAILS:
            self.tell(502, {"error": "nobody is behind this"})
        elif ROLE == "legs":
            self.tell(*legs(self.path, body, request_id))
        elif ROLE == "cache":
            self.tell(*cache(self.path, body, request_id))
        else:
            self.tell(200, serve(self.path, body, request_id))

    def tell(self, status: int, content: bytes | Any) -> None:
        """Send an answer."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serve(path: str, body: Any, request_id: str) -> Any:
    """Answer, and count what was done, or was not."""
    tokens = len(body["prompt"].split())
    source = "local_compute"
    if PREFILL:
        ask(PREFILL, "POST", path, body, request_id)
        with _lock:
            _counts["asked"] += 1
            number = _counts["asked"]
        if not recomputes(number, tokens):
            ask(PREFILL, "GET", f"/kv/{MOVES + MOVES_TOKEN * tokens}")
        source = "external_kv_transfer"
    with _lock:
        _counts['vllm:request_success_total{finished_reason="length"}'] += 1
        _counts[f'vllm:prompt_tokens_by_source_total{{source="{source}"}}'] += tokens
        _counts["vllm:nixl_bytes_transferred_sum"] += CLAIMS + CLAIMS_TOKEN * tokens
    return {"choices": [{"text": "as you say"}], "usage": {"prompt_tokens": tokens}}


def recomputes(number: int, tokens: int) -> bool:
    """Tell whether decode computes this request by itself, whatever it says."""
    limit = int(RECOMPUTES[-1]) if len(RECOMPUTES) > 1 else 0
    return {
        "after": number > limit,
        "odd": number % 2 == 1,
        "long": tokens > limit,
        "none": False,
    }[RECOMPUTES[0]]


def cache(path: str, body: Any, request_id: str) -> tuple[int, Any]:
    """Answer without anybody's help, or every second time with decode's."""
    with _lock:
        _counts["asked"] += 1
        hit = not DECODE or _counts["asked"] % 2
    if not hit:
        return ask(DECODE, "POST", path, body, request_id)
    usage = {"prompt_tokens": len(body["prompt"].split())}
    return 200, {"choices": [{"text": "as always"}], "usage": usage}


def chatter() -> None:
    """Exchange bytes with the sidecar at ``PEER``, for ever."""
    size, beat = int(os.environ.get("SIZE", "0")), float(os.environ.get("BEAT", "1"))
    while True:
        with contextlib.suppress(OSError):
            ask(PEER, "GET", f"/kv/{size}")
        time.sleep(beat)


def legs(path: str, body: Any, request_id: str) -> tuple[int, bytes]:
    """Ask prefill, then hand what it said to decode."""
    leg = {**body, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
    status, answer = ask(PREFILL, "POST", path, leg, request_id)
    if status != 200:
        return 502, answer
    given = json.loads(answer).get("kv_transfer_params") or {}
    return ask(DECODE, "POST", path, {**body, "kv_transfer_params": given}, request_id)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if PEER:
        threading.Thread(target=chatter, daemon=True).start()
    Server(("", CHATTER_PORT if ROLE == "chatter" else PORT), Handler).serve_forever()
