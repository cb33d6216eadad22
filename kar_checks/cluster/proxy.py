"""Which proxy leads to an API server, by the rules of kubectl (Go's ``net/http``)."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True)
class Proxy:
    """A proxy without the credentials in its address; ``origin`` names where it was given."""

    scheme: str
    host: str
    port: int
    origin: str
    user: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        """The address, without user and password, so that it may be shown."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"

    @property
    def of_environment(self) -> bool:
        """Say whether the environment names it, and not the kubeconfig."""
        return self.origin.upper().endswith("_PROXY")

    @property
    def socks(self) -> bool:
        """Say whether it speaks SOCKS 5, as a bastion's ``ssh -D`` does."""
        return self.scheme.startswith("socks5")

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP proxy gets with each request or tunnel."""
        if not self.user and not self.password:
            return {}
        both = f"{self.user}:{self.password}".encode()
        return {"Proxy-Authorization": f"Basic {base64.b64encode(both).decode()}"}


def choose(server: str, given: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy to a server: the kubeconfig's ``proxy-url``, or else the environment's.

    ``NO_PROXY`` holds for the environment's only. ``ALL_PROXY`` means nothing to kubectl.

    Raises:
        HarnessError: the address of the proxy cannot be used.
    """
    if given:
        return parse(given, "proxy-url of the kubeconfig")
    target = urlsplit(server)
    for name in (f"{target.scheme.upper()}_PROXY", f"{target.scheme}_proxy"):
        address = environment.get(name, "")
        if not address:
            continue
        excepted = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
        if bypassed(target, excepted):
            return None
        # Only the environment's may lack its scheme, as ever with curl and Go.
        return parse(address if "://" in address else f"http://{address}", name)
    return None


def parse(address: str, origin: str) -> Proxy:
    """Return the proxy that an address means.

    Raises:
        HarnessError: it is no address of a proxy; its user and password are not repeated.
    """
    shown = address.rpartition("@")[2]
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _unusable(shown, origin, str(error)) from error
    if parts.scheme not in _PORTS or not host:
        raise _unusable(shown, origin, "it must begin with http://, https:// or socks5://")
    return Proxy(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        origin=origin,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def bypassed(target: SplitResult, excepted: str) -> bool:
    """Say whether ``NO_PROXY`` excepts a server: names, .subdomains, addresses, CIDRs, ports."""
    host = (target.hostname or "").rstrip(".").lower()
    port = str(target.port or _PORTS[target.scheme])
    address = _address(host)
    return any(
        _matches(one.strip().lower(), host, port, address) for one in excepted.split(",") if one
    )


def is_loopback(server: str) -> bool:
    """Say whether a server is this machine, which kubectl reaches without the environment's."""
    host = urlsplit(server).hostname or ""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def bracketed(host: str) -> str:
    """Return a host as it is written before a port."""
    return f"[{host}]" if ":" in host else host


def _matches(
    entry: str, host: str, port: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if entry == "*":
        return True
    if not entry:
        return False
    if address is not None:
        try:
            if address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            pass
    name, wanted = _split_port(entry)
    if wanted and wanted != port:
        return False
    if address is not None:
        return _address(name) == address
    # `.example.com` and `*.example.com` are subdomains only, `example.com` is both.
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else f".{host}".endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = entry.rpartition(":")
    # An IPv6 address without brackets has colons, and no port.
    return (name, port) if colon and ":" not in name and port.isdigit() else (entry, "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unusable(address: str, origin: str, why: str) -> HarnessError:
    return HarnessError(
        Reason.UNREACHABLE,
        f"the proxy {address!r} ({origin}) cannot be used: {why}",
        "write it as http://USER:PASSWORD@HOST:PORT, special characters percent-encoded",
    )
