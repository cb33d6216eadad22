"""A pod of a gang: meets all its peers at the same instant, holds for a while, and ends well.

Rank 0 is the meeting place. Every other rank connects to it and keeps the connection; only when
all of them are connected at once does everybody get the list of those present. So a gang of N can
complete only if N members run at the same time, and nothing but one reachable address is needed.

Without ``KAR_MEET`` it stays until it is told to go: fillers and other pods that only take room.

Environment: ``KAR_RANK`` and ``KAR_SIZE`` (numbers), ``KAR_MEET`` (address of rank 0 or of a
Service before it), ``KAR_PORT``, ``KAR_HOLD`` (seconds to stay after the meeting). Prints one JSON
object a line: ``started``, ``met`` with the ranks that were present, ``completed``, ``told_to_go``.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any

RETRY_SECONDS = 0.1
CONNECT_SECONDS = 2.0


def say(event: str, **more: Any) -> None:
    """Print one line about what happened, with the clock of this node in seconds."""
    print(json.dumps({"event": event, "at": round(time.time(), 3), **more}), flush=True)


def listen(port: int) -> socket.socket:
    """Open the meeting place on every address of both families."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
            )
        except OSError:
            pass  # a kernel without IPv6
    return socket.create_server(("", port), backlog=64)


def gather(server: socket.socket, size: int) -> tuple[list[int], list[socket.socket]]:
    """Wait until all other ranks are connected at the same time.

    Returns the ranks that are present, 0 included, and their open connections. A member that
    closes its connection is no longer present.
    """
    present: dict[int, socket.socket] = {}
    unnamed: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while len(present) < size - 1:
            for key, _ in selector.select():
                if key.fileobj is server:
                    connection, _ = server.accept()
                    unnamed[connection] = b""
                    selector.register(connection, selectors.EVENT_READ)
                    continue
                connection = next(
                    one for one in [*unnamed, *present.values()] if one is key.fileobj
                )
                try:
                    data = connection.recv(64)
                except OSError:
                    data = b""
                name = unnamed.get(connection, b"") + data
                stranger = connection in unnamed and not name.strip().isdigit()
                if not data or stranger:
                    selector.unregister(connection)
                    unnamed.pop(connection, None)
                    present = {rank: one for rank, one in present.items() if one is not connection}
                    connection.close()
                elif connection in unnamed:
                    unnamed[connection] = name
                    if name.endswith(b"\n"):
                        present[int(unnamed.pop(connection))] = connection
    return [0, *sorted(present)], list(present.values())


def host(port: int, size: int) -> list[int]:
    """Be the meeting place (rank 0); returns the ranks that met."""
    with listen(port) as server:
        members, connections = gather(server, size)
        line = json.dumps(members).encode() + b"\n"
        for one in connections:
            one.sendall(line)
        for one in connections:
            one.close()
    return members


def join(meet: str, port: int, rank: int) -> list[int]:
    """Go to the meeting place and stay until everybody is there; returns the ranks that met."""
    while True:
        try:
            with socket.create_connection((meet, port), timeout=CONNECT_SECONDS) as connection:
                connection.settimeout(None)
                connection.sendall(f"{rank}\n".encode())
                with connection.makefile("rb") as stream:
                    line = stream.readline()
            if line.endswith(b"\n"):
                return [int(one) for one in json.loads(line)]
        except OSError:
            pass  # rank 0 does not listen yet
        time.sleep(RETRY_SECONDS)


def go(*_: object) -> None:
    """End at once on SIGTERM, so that the room is free without waiting for a grace period."""
    # No print(): the signal may have come in the middle of one.
    os.write(1, b'{"event": "told_to_go"}\n')
    os._exit(143)


def main() -> int:
    """Run one member."""
    signal.signal(signal.SIGTERM, go)
    rank, size = int(os.environ.get("KAR_RANK", "0")), int(os.environ.get("KAR_SIZE", "1"))
    meet, port = os.environ.get("KAR_MEET", ""), int(os.environ.get("KAR_PORT", "0"))
    say("started", rank=rank, size=size)
    if not meet:
        threading.Event().wait()
    members = host(port, size) if rank == 0 else join(meet, port, rank)
    say("met", rank=rank, members=members)
    time.sleep(float(os.environ.get("KAR_HOLD", "0")))
    say("completed", rank=rank)
    return 0


if __name__ == "__main__":
    sys.exit(main())
