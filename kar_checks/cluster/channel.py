"""A command in a container: the channels of ``exec`` over a websocket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from urllib3.exceptions import HTTPError

from kar_checks.cluster import trouble, tunnel
from kar_checks.cluster.connect import Connection
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.model import Reason

_STDOUT, _STDERR, _STATUS = 1, 2, 3
_CLOSE_SECONDS = 2.0
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


@dataclass(frozen=True)
class ExecResult:
    """What a command printed; ``exit_code`` is ``None`` if it did not end in time."""

    exit_code: int | None
    stdout: str
    stderr: str


def exit_code(status: str, pod: str, program: str) -> int | None:
    """Return the exit code that the end of an exec reports; ``None`` if it was broken off.

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
    text = str(told.get("message") or "failed")
    # Runtimes that cannot start a program say so in words of their own, without an exit code.
    missing = "not found" in text or "no such file" in text
    raise HarnessError(
        Reason.IMAGE_LACKS_TOOL if missing else Reason.API_ERROR,
        f"exec in pod {pod}: the image has no {program}"
        if missing
        else f"exec in pod {pod}: {text.strip().splitlines()[0][:300]}",
    )


def run(
    connection: Connection,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Sequence[tuple[str, str]],
    *,
    pod: str,
    program: str,
    connect_seconds: float,
    handshake_seconds: float,
    seconds: float,
) -> ExecResult:
    """Open the channels, wait for the end of the command, and return what it printed.

    It is opened here and not by the official client, which sends no password to a proxy, reads no
    error that something in between answers, and cannot limit the time of the handshake.

    Raises:
        HarnessError: the connection could not be made or broke.
    """
    import websocket

    channel = websocket.WebSocket()
    try:
        found = tunnel.open_socket(connection.configuration, connection.proxy, connect_seconds)
        _open(channel, found, connection, path, query, headers, handshake_seconds)
    except (websocket.WebSocketException, HTTPError, OSError) as error:
        raise _not_opened(error, connection, pod) from error
    try:
        return _follow(channel, pod, program, seconds)
    except (websocket.WebSocketException, OSError) as error:
        raise HarnessError(
            Reason.API_ERROR,
            f"exec in pod {pod}: broken off: {trouble.first_line(error)}",
            "check whether a proxy or load balancer in front of the API server cuts WebSockets",
        ) from error
    finally:
        channel.close(timeout=1)


def _open(
    channel: Any,
    found: socket.socket,
    connection: Connection,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Sequence[tuple[str, str]],
    seconds: float,
) -> None:
    found.settimeout(seconds)
    server = connection.configuration.host
    url = f"ws{server.removeprefix('http')}{path}?{urlencode(query)}"
    try:
        channel.connect(
            url,
            socket=found,
            timeout=seconds,
            header=[f"{name}: {value}" for name, value in headers],
            subprotocols=list(_PROTOCOLS),
            suppress_origin=True,
            redirect_limit=0,
        )
    except BaseException:
        found.close()
        raise


def _not_opened(error: Exception, connection: Connection, pod: str) -> HarnessError:
    import websocket

    between = "something between here and the API server"
    if connection.proxy is not None:
        between = f"the proxy {connection.proxy.url} or what is behind it"
    advice = (
        "let the proxy or load balancer pass upgrades to WebSocket (kubectl exec needs them as "
        "well), or run behind it, for example in the cluster (`kar install`)"
    )
    if isinstance(error, websocket.WebSocketBadStatusException):
        status = int(error.status_code)
        body = bytes(error.resp_body or b"").decode("utf-8", "replace")
        if told := _status_object(body):
            return _refused(status, told, pod)
        if status == 407 and connection.proxy is not None:
            found = trouble.through(connection.proxy, status, connection.server)
            return HarnessError(Reason.UNREACHABLE, f"exec in pod {pod}: {found.message}", advice)
        page = trouble.page(body)
        shown = f", {page!r}" if page else ""
        return HarnessError(
            Reason.UNREACHABLE,
            f"exec in pod {pod}: {between} refuses the upgrade to WebSocket (HTTP {status}{shown}):"
            " the API server itself would have answered with a Status object",
            advice,
        )
    text = trouble.first_line(error)
    if isinstance(error, websocket.WebSocketException):
        # A redirect, an answer without the upgrade, or a connection that ends within it.
        return HarnessError(
            Reason.UNREACHABLE,
            f"exec in pod {pod}: {between} does not complete the upgrade to WebSocket: {text}",
            advice,
        )
    found = trouble.explain(error, connection)
    said = found.message or f"the API server did not answer: {found.cause}"
    return HarnessError(Reason.UNREACHABLE, f"exec in pod {pod}: {said}", found.advice)


def _status_object(body: str) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("kind") == "Status" else None


def _refused(status: int, told: dict[str, Any], pod: str) -> HarnessError:
    error = ApiError(status, told, f"exec in pod {pod}")
    if error.fault.reason is Reason.FORBIDDEN and status == 403:
        return HarnessError(
            Reason.FORBIDDEN,
            error.fault.message,
            "grant create (and get) on pods/exec, see `kar rbac`",
        )
    return error


def _follow(channel: Any, pod: str, program: str, seconds: float) -> ExecResult:
    import websocket

    parts: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: [], _STATUS: []}
    deadline = time.monotonic() + seconds
    ended = False
    while not ended and (left := deadline - time.monotonic()) > 0:
        channel.settimeout(left)
        try:
            opcode, frame = channel.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            break
        except websocket.WebSocketConnectionClosedException:
            if not parts[_STATUS]:
                raise
            break
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            ended = True
        elif opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data:
            number = frame.data[0]
            if number in parts:
                parts[number].append(bytes(frame.data[1:]))
        if parts[_STATUS]:
            # The status comes last, but for the close, which not every server sends.
            deadline = min(deadline, time.monotonic() + _CLOSE_SECONDS)
    out = {key: b"".join(value).decode("utf-8", "replace") for key, value in parts.items()}
    code = exit_code(out[_STATUS], pod, program)
    return ExecResult(code, out[_STDOUT], out[_STDERR])
