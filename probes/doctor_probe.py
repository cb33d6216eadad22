"""What `kar doctor --probe` runs in its pods.

``serve PORT``              (as PID 1) prints a JSON line once it listens, then answers each
                            connection with the pod's host name, until SIGTERM.
``resolve NAME``            prints ``{"addresses": [...]}`` or ``{"error": text}``, and ``seconds``.
``ask ADDRESS PORT``        connects, and prints ``{"said": text}`` or ``{"error": text}``, and
                            ``seconds``.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time

ASK_SECONDS = 10.0


def serve(port: int) -> None:
    """Answer every connection with the host name."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    try:
        # One socket for both families; without IPv6 in the kernel only for one.
        server = socket.create_server(
            ("", port), family=family, dualstack_ipv6=socket.has_dualstack_ipv6()
        )
    except OSError:
        server = socket.create_server(("", port))
    print(json.dumps({"listening": server.getsockname()[1]}), flush=True)
    while True:
        client, _ = server.accept()
        with client:
            try:
                client.sendall(socket.gethostname().encode())
            except OSError:
                continue


def resolve(name: str, seconds: float = ASK_SECONDS) -> dict[str, object]:
    """Look a name up as programs in pods do.

    A resolver that gets no answer tries each search domain for 10 s: nobody waits for all of them.
    """
    out: dict[str, object] = {}

    def look() -> None:
        try:
            found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
        except OSError as error:
            out["error"] = str(error)
        else:
            out["addresses"] = sorted({str(one[4][0]) for one in found})

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(seconds)
    return out or {"error": f"no answer within {seconds:.0f} s"}


def ask(address: str, port: int) -> dict[str, object]:
    """Read what the server at an address says."""
    try:
        with socket.create_connection((address, port), timeout=ASK_SECONDS) as client:
            said = b""
            while part := client.recv(256):
                said += part
    except OSError as error:
        return {"error": str(error)}
    return {"said": said.decode("utf-8", "replace")}


def main(words: list[str]) -> None:
    """Do what the words say."""
    if words[0] == "serve":
        serve(int(words[1]))
        return
    began = time.monotonic()
    found = resolve(words[1]) if words[0] == "resolve" else ask(words[1], int(words[2]))
    print(json.dumps({**found, "seconds": round(time.monotonic() - began, 3)}))


if __name__ == "__main__":
    main(sys.argv[1:])
