"""``kar metrics``: what `kar regress` or `kar fleet` wrote last, for whoever scrapes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kar_checks.report.openmetrics import CONTENT_TYPE

PATH = "/metrics"


def serve(file: Path, listen: str, ready: Callable[[ThreadingHTTPServer], None]) -> None:
    """Answer ``GET /metrics`` with the file's text as it is then, until interrupted.

    ``listen`` is ``ADDRESS:PORT``; ``ready`` gets the server before its first answer.

    Raises:
        ValueError: nobody can listen there.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"--listen {listen!r} is not of the form ADDRESS:PORT")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != PATH:
                self._answer(404, "text/plain", f"metrics are at {PATH}\n".encode())
                return
            try:
                # Written atomically by whoever writes it.
                self._answer(200, CONTENT_TYPE, file.read_bytes())
            except OSError as error:
                # No metrics are not metrics without samples: the scrape fails.
                self._answer(503, "text/plain", f"{file}: {error.strerror}\n".encode())

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing: a scraper asks every few seconds."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    try:
        server = Server((host.strip("[]"), int(port)), Handler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on {listen}: {error}") from error
    with server:
        ready(server)
        server.serve_forever()


def serve_until_told(file: Path, listen: str) -> None:
    """Serve a file and say where; SIGTERM ends it as an interrupt does.

    Raises:
        ValueError: nobody can listen there.
    """
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(
        file,
        listen,
        lambda server: print(f"{file} at port {server.server_address[1]}, path {PATH}", flush=True),
    )
