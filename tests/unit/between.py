"""What stands between us and an API server: certificates, proxies, and ends of a websocket."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    name: str = "authority"

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.file = self.folder / f"{self.name}.pem"
        self.file.write_bytes(_pem(self._signed(self.subject, self.key.public_key(), ca=True)))

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        ca: bool,
        addresses: Sequence[str] = (),
        days: int = 1,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), True)
        )
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
            made = made.add_extension(x509.SubjectAlternativeName(names), False)
        return made.sign(self.key, hashes.SHA256())

    def pair(self, name: str, addresses: Sequence[str] = (), days: int = 1) -> tuple[Path, Path]:
        """Issue a certificate and return it with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issued = self._signed(subject, key.public_key(), ca=False, addresses=addresses, days=days)
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(_pem(issued))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def server(self, addresses: Sequence[str] = ("127.0.0.1",), days: int = 1) -> ssl.SSLContext:
        """Return what a server needs to be this authority's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair("server", addresses, days))
        return context


def _pem(one: x509.Certificate) -> bytes:
    return one.public_bytes(serialization.Encoding.PEM)


@dataclass
class Listener:
    """Accepts connections on loopback; a subclass says what becomes of one."""

    port: int = field(default=0, init=False)
    tls: ssl.SSLContext | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._served, args=(client,), daemon=True).start()

    def _served(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._server.close()


def head(client: socket.socket) -> str:
    """Read the head of a request."""
    out = b""
    while b"\r\n\r\n" not in out:
        part = client.recv(4096)
        if not part:
            break
        out += part
    return out.decode()


@dataclass
class HttpProxy(Listener):
    """Tunnels every CONNECT to one port, if it likes who asks."""

    target: int
    credentials: str = ""
    refuses: int = 0
    host: str = "127.0.0.1"
    heads: list[str] = field(default_factory=list[str])

    def serve(self, client: socket.socket) -> None:
        asked = head(client)
        self.heads.append(asked)
        wanted = base64.b64encode(self.credentials.encode()).decode()
        if self.refuses:
            client.sendall(f"HTTP/1.1 {self.refuses} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        if self.credentials and f"Proxy-Authorization: Basic {wanted}" not in asked:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _join(client, self.host, self.target)


@dataclass
class SocksProxy(Listener):
    """SOCKS 5 to one port."""

    target: int
    credentials: tuple[str, str] = ("", "")
    refuses: int = 0
    host: str = "127.0.0.1"
    names: list[str] = field(default_factory=list[str])

    def serve(self, client: socket.socket) -> None:
        _, count = client.recv(2)
        ways = client.recv(count)
        wanted = 2 if self.credentials[0] else 0
        if wanted not in ways:
            client.sendall(b"\x05\xff")
            return
        client.sendall(bytes([5, wanted]))
        if wanted:
            given = client.recv(512)
            length = given[1]
            both = given[2 : 2 + length].decode(), given[3 + length :].decode()
            client.sendall(bytes([1, int(both != self.credentials)]))
        asked = client.recv(512)
        self.names.append(asked[5:-2].decode())
        client.sendall(bytes([5, self.refuses, 0, 1]) + bytes(4) + struct.pack(">H", 0))
        if not self.refuses:
            _join(client, self.host, self.target)


def _join(client: socket.socket, host: str, port: int) -> None:
    with socket.create_connection((host, port)) as upstream:
        back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
        back.start()
        _copy(client, upstream)
        back.join(5)


def _copy(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            to.sendall(part)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@dataclass
class ExecServer(Listener):
    """Answers one exec: with ``answer`` as it is, or with the frames of a websocket."""

    answer: str = ""
    frames: Sequence[bytes] = ()
    close_frame: bool = True
    heads: list[str] = field(default_factory=list[str])

    def serve(self, client: socket.socket) -> None:
        asked = head(client)
        self.heads.append(asked)
        if self.answer:
            client.sendall(self.answer.encode())
            return
        key = next(
            line.split(": ")[1]
            for line in asked.split("\r\n")
            if line.lower().startswith("sec-websocket-key")
        )
        seal = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324 - RFC 6455
        client.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {base64.b64encode(seal).decode()}\r\n"
            "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n".encode()
        )
        for one in self.frames:
            size = bytes([len(one)]) if len(one) < 126 else b"\x7e" + struct.pack(">H", len(one))
            client.sendall(b"\x82" + size + one)
        if self.close_frame:
            client.sendall(b"\x88\x02\x03\xe8")
            client.recv(1024)


def answered(status: str, body: str, **headers: str) -> str:
    """Return an HTTP answer as text."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"
