"""Servers that lie about disaggregated serving. Runs in pods: standard library only.

``liar`` answers at once and exports vLLM's metrics: as prefill it says that it computed each
prompt, as decode that it pulled the KV state, and nothing but text moves. ``legs`` stands before
two servers of an engine and sends each request to both, as llm-d's sidecar does.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8000
CLAIMED = 2_000_000
"""Bytes of KV state that a liar claims for each request."""
STARTED = time.time()

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def post(address: str, path: str, body: Any, request_id: str) -> tuple[int, Any]:
    """Send one request to ``host:port``; returns (status, answer)."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    """What both have in common."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer the questions of a client and of a scraper."""
        if self.path == "/health":
            self.tell("ok\n")
        elif self.path == "/v1/models":
            self.tell({"data": [{"id": os.environ.get("MODEL", "liar")}]})
        elif self.path == "/version":
            self.tell({"version": "0.11.0"})
        elif self.path == "/metrics" and ROLE != "legs":
            with _lock:
                lines = [f"{name} {value}" for name, value in sorted(_counts.items())]
            self.tell("\n".join([*lines, f"process_start_time_seconds {STARTED:.3f}", ""]))
        else:
            self.tell({}, 404)

    def do_POST(self) -> None:
        """Serve one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request_id = self.headers["X-Request-Id"]
        print(json.dumps({"request_id": request_id}), flush=True)
        if ROLE == "legs":
            self.tell(*legs(self.path, body, request_id))
        else:
            self.tell(lie(self.path, body, request_id))

    def tell(self, content: Any, status: int = 200) -> None:
        """Send an answer."""
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def lie(path: str, body: Any, request_id: str) -> Any:
    """Answer at once, and count what was never done."""
    tokens = len(body["prompt"].split())
    if ROLE == "decode":
        post(os.environ["PREFILL"], path, body, request_id)
        source, moved = "external_kv_transfer", CLAIMED
    else:
        source, moved = "local_compute", 0
    with _lock:
        _counts['vllm:request_success_total{finished_reason="length"}'] += 1
        _counts[f'vllm:prompt_tokens_by_source_total{{source="{source}"}}'] += tokens
        _counts["vllm:nixl_bytes_transferred_sum"] += moved
    return {"choices": [{"text": "as you say"}], "usage": {"prompt_tokens": tokens}}


def legs(path: str, body: Any, request_id: str) -> tuple[Any, int]:
    """Ask prefill, then hand what it said to decode."""
    leg = {**body, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
    status, answer = post(os.environ["PREFILL"], path, leg, request_id)
    if status != 200:
        return answer, 502
    given = answer.get("kv_transfer_params") or {}
    status, answer = post(
        os.environ["DECODE"], path, {**body, "kv_transfer_params": given}, request_id
    )
    return answer, status


if __name__ == "__main__":
    ROLE = sys.argv[1]
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
