"""Sockets to an API server, through whatever proxy leads to it."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError
from urllib3.util import parse_url

from kar_checks.cluster.proxy import Proxy

_SOCKS_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


def open_socket(
    configuration: Any, proxy: Proxy | None, seconds: float, *, verify: bool = True
) -> socket.socket:
    """Return a connected socket to the server, with TLS if its address wants it.

    ``configuration`` is the official client's.

    Raises:
        HTTPError: as urllib3 raises for requests.
        OSError: as sockets raise it.
    """
    target = urlsplit(configuration.host)
    secure = target.scheme == "https"
    host, port = str(target.hostname), target.port or (443 if secure else 80)
    first = (host, port) if proxy is None or proxy.socks else (proxy.host, proxy.port)
    more: dict[str, Any] = {"timeout": seconds}
    if proxy is not None and not proxy.socks:
        more["proxy"] = parse_url(proxy.url)
        more["proxy_config"] = ProxyConfig(
            ssl_context=context_for(proxy),
            use_forwarding_for_https=False,
            assert_hostname=None,
            assert_fingerprint=None,
        )
    if secure:
        more["cert_reqs"] = ssl.CERT_REQUIRED
        if not verify or not configuration.verify_ssl:
            more |= {"cert_reqs": ssl.CERT_NONE, "assert_hostname": False}
        more["ca_certs"] = configuration.ssl_ca_cert
        more["cert_file"] = configuration.cert_file
        more["key_file"] = configuration.key_file
        more["server_hostname"] = configuration.tls_server_name
    connection: HTTPConnection
    if proxy is not None and proxy.socks:
        kind = socks_pools(proxy)[target.scheme].ConnectionCls
        connection = kind(*first, **more)  # type: ignore[assignment]
    else:
        connection = (HTTPSConnection if secure else HTTPConnection)(*first, **more)
    if proxy is not None and not proxy.socks:
        connection.set_tunnel(
            host,
            port,
            headers=proxy.headers,
            scheme="https" if proxy.scheme == "https" else "http",
        )
    try:
        connection.connect()
    except (OSError, HTTPError) as error:
        connection.close()
        if proxy is not None and not proxy.socks and not connection.has_connected_to_proxy:
            raise ProxyError("Cannot connect to proxy.", error) from error
        raise
    found: socket.socket = connection.sock
    return found


def context_for(proxy: Proxy) -> ssl.SSLContext | None:
    """Return the TLS of the way to a proxy: this machine trusts it, not the kubeconfig."""
    return ssl.create_default_context() if proxy.scheme == "https" else None


def socks_pools(proxy: Proxy) -> dict[str, type[HTTPConnectionPool]]:
    """Return the classes that let urllib3's requests go through a SOCKS 5 proxy."""

    class _Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _socks_socket(self, proxy)

    class _Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _socks_socket(self, proxy)

    class _PlainPool(HTTPConnectionPool):
        ConnectionCls = _Plain

    class _SecurePool(HTTPSConnectionPool):
        ConnectionCls = _Secure

    return {"http": _PlainPool, "https": _SecurePool}


def _socks_socket(connection: HTTPConnection, proxy: Proxy) -> socket.socket:
    seconds = connection.timeout if isinstance(connection.timeout, (int, float)) else None
    try:
        found = socket.create_connection((proxy.host, proxy.port), timeout=seconds)
    except OSError as error:
        raise ProxyError("Cannot connect to proxy.", error) from error
    try:
        _socks_connect(found, proxy, connection.host, int(connection.port or 443))
    except TimeoutError as error:
        found.close()
        raise ConnectTimeoutError(connection, "the SOCKS proxy did not connect in time") from error
    except OSError as error:
        found.close()
        raise NewConnectionError(connection, f"the SOCKS proxy: {error}") from error
    return found


def _socks_connect(found: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask for a connection as RFC 1928 and 1929 have it; the proxy resolves the name."""
    ways = b"\x00\x02" if proxy.user else b"\x00"
    found.sendall(bytes([5, len(ways)]) + ways)
    version, way = _exactly(found, 2)
    if version != 5:
        raise OSError("it does not speak SOCKS 5")
    if way == 2:
        user, password = proxy.user.encode(), proxy.password.encode()
        found.sendall(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        if _exactly(found, 2)[1] != 0:
            raise OSError("it does not accept the user and password")
    elif way != 0:
        raise OSError("it asks for a user and password")
    name = host.encode("idna" if not host.isascii() else "ascii")
    found.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", port))
    _, code, _, kind = _exactly(found, 4)
    if code != 0:
        raise OSError(f"it refused {host}:{port}: {_SOCKS_REFUSALS.get(code, f'code {code}')}")
    length = {1: 4, 4: 16}.get(kind) or _exactly(found, 1)[0]
    _exactly(found, length + 2)


def _exactly(found: socket.socket, count: int) -> bytes:
    out = b""
    while len(out) < count:
        part = found.recv(count - len(out))
        if not part:
            raise OSError("it hung up")
        out += part
    return out
