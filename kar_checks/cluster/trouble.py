"""What keeps us from an API server, in one sentence that names the culprit and what helps."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from kar_checks.cluster import tunnel
from kar_checks.cluster.connect import Connection
from kar_checks.cluster.proxy import Proxy, bracketed

_CHECK = "check the address in the kubeconfig and the network, and see whether `kubectl` reaches it"
_LOOK_SECONDS = 3.0


@dataclass(frozen=True)
class Trouble:
    """Why no answer came. ``cause`` goes behind "did not answer", ``message`` stands for itself."""

    cause: str = ""
    message: str = ""
    advice: str = _CHECK


def explain(error: Exception, connection: Connection) -> Trouble:
    """Return what an error of the transport means."""
    text = first_line(error)
    if found := _of_proxy(error, text, connection):
        return found
    where = _where(connection)
    if isinstance(error, SSLError | ssl.SSLError) or "SSL" in text or "certificate" in text:
        return _of_tls(text, connection)
    if isinstance(error, NameResolutionError):
        host = urlsplit(connection.server).hostname
        return Trouble(
            cause=f"the name {host} cannot be resolved",
            advice="check the server's name in the kubeconfig, the DNS and the VPN",
        )
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return Trouble(
            cause=f"no connection to {where} was established in time",
            advice="look for a firewall, a VPN that is off or a cluster that is gone, or choose "
            "another cluster with --context",
        )
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return Trouble(
            cause=f"{where} accepts connections but sends no answer",
            advice="check whether the API server is healthy, and what is in front of it",
        )
    if "refused" in text:
        return Trouble(
            cause=f"the connection to {where} was refused, so nothing listens there",
            advice="check the address in the kubeconfig, and whether the API server (or the "
            "tunnel to it) runs",
        )
    if "reset by peer" in text or "without response" in text or "hang up" in text:
        return Trouble(
            cause=f"{where} closed the connection without an answer",
            advice="check for a firewall that cuts it, and whether the server expects https://",
        )
    return Trouble(cause=text)


def through(proxy: Proxy, status: int, target: str) -> Trouble:
    """Return what it means that a proxy answered a request or a tunnel with an error."""
    where = f"the proxy {proxy.url} ({proxy.origin})"
    aside = _aside(proxy, target)
    if status == 407:
        asked = "does not accept the user and password" if proxy.user else "asks for a user"
        return Trouble(
            message=f"{where} {asked} (407)",
            advice=f"give them as {proxy.scheme}://USER:PASSWORD@{bracketed(proxy.host)}:"
            f"{proxy.port}, special characters percent-encoded{aside}",
        )
    if status in (502, 503, 504):
        return Trouble(
            message=f"{where} cannot reach {target} ({status})",
            advice=f"check the server's address in the kubeconfig{aside}",
        )
    return Trouble(
        message=f"{where} refuses connections to {target} ({status})",
        advice=f"have the proxy allow CONNECT to {target}{aside}",
    )


def _aside(proxy: Proxy, target: str) -> str:
    host = urlsplit(f"//{target}").hostname
    if proxy.origin.startswith("proxy-url"):
        return ", or remove proxy-url from the kubeconfig where no proxy is needed"
    return f", or add {host} to NO_PROXY where no proxy is needed"


def _of_proxy(error: Exception, text: str, connection: Connection) -> Trouble | None:
    proxy = connection.proxy
    if proxy is None:
        return None
    target = _where(connection)
    if found := re.search(r"Tunnel connection failed: (\d+)", text):
        return through(proxy, int(found[1]), target)
    where = f"the proxy {proxy.url} ({proxy.origin})"
    if "the SOCKS proxy" in text:
        _, _, why = text.partition("the SOCKS proxy")
        why = why.removeprefix(": it").removeprefix(":").strip()
        return Trouble(message=f"{where} {why}", advice=f"check the proxy{_aside(proxy, target)}")
    if not isinstance(error, ProxyError):
        return None
    if "refused" in text:
        why = "refuses connections: nothing listens there"
    elif "resolve" in text or "Name or service" in text or "known" in text:
        why = "has a name that cannot be resolved"
    elif "timed out" in text:
        why = "does not answer"
    elif "SSL" in text:
        why = "speaks no TLS that is accepted: write http:// if it accepts plain connections"
    else:
        why = f"cannot be used: {text}"
    return Trouble(message=f"{where} {why}", advice=f"check the proxy{_aside(proxy, target)}")


def _of_tls(text: str, connection: Connection) -> Trouble:
    server, host = connection.server, urlsplit(connection.server).hostname
    if broken := _own_files(connection.configuration):
        return broken
    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text or "UNKNOWN_PROTO" in text:
        return Trouble(
            message=f"{server} does not speak TLS",
            advice="check scheme and port: it may expect http://, or may not be an API server",
        )
    if "verify failed" not in text and "doesn't match" not in text:
        who = connection.credentials
        described = who.describe() if who is not None and connection.configuration.cert_file else ""
        alert = "alert" in text.lower()
        if alert or "expired" in described:
            return Trouble(
                message=f"{server} closed the TLS connection: {text}"
                + (f"; {described}" if "expired" in described else ""),
                advice="renew the client certificate in the kubeconfig, if it has one",
            )
        return Trouble(cause=f"the TLS connection failed: {text}")
    seen = _certificate(connection)
    if "expired" in text or "not yet valid" in text:
        when = f" (valid {seen.valid})" if seen else ""
        return Trouble(
            message=f"the certificate of {server} is not valid now{when}: {text}",
            advice="renew the API server's certificate, or set this machine's clock",
        )
    if "ismatch" in text or "doesn't match" in text or "not valid for" in text:
        names = f"; it is for {seen.names}" if seen and seen.names else ""
        return Trouble(
            message=f"the certificate of {server} is not for {host}{names}: {text}",
            advice="use one of its names as the server in the kubeconfig, or set tls-server-name",
        )
    signed = f"was signed by {seen.issuer!r}, which" if seen else "was signed by an authority that"
    known = "the kubeconfig" if connection.configuration.ssl_ca_cert else "this machine"
    return Trouble(
        message=f"the certificate of {server} {signed} {known} does not trust: {text}",
        advice="if that authority is your company's, a proxy opens the connection: except "
        f"{host} from it (NO_PROXY), or add the authority's certificate to "
        "certificate-authority in the kubeconfig; otherwise get the cluster's current kubeconfig",
    )


def _own_files(configuration: Any) -> Trouble | None:
    """Return which file of the kubeconfig is no certificate or key, if one is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        what = "certificate-authority"
        if configuration.ssl_ca_cert:
            context.load_verify_locations(configuration.ssl_ca_cert)
        what = "client-certificate or its client-key"
        if configuration.cert_file:
            # A key with a passphrase would be asked for at the terminal.
            context.load_cert_chain(configuration.cert_file, configuration.key_file, lambda: "")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        return Trouble(
            message=f"the kubeconfig cannot be used: its {what} cannot be read ({why})",
            advice="get a new kubeconfig from whoever runs the cluster",
        )
    return None


@dataclass(frozen=True)
class _Certificate:
    issuer: str
    names: str
    valid: str


def _certificate(connection: Connection) -> _Certificate | None:
    """Look at the server's certificate without trusting it; nothing is sent."""
    from cryptography import x509

    try:
        found = tunnel.open_socket(
            connection.configuration, connection.proxy, _LOOK_SECONDS, verify=False
        )
        try:
            data: Any = found.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        finally:
            found.close()
        read = x509.load_der_x509_certificate(data)
    except (HTTPError, OSError, ValueError, AttributeError, TypeError):
        return None
    try:
        kinds = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(one.value) for one in kinds]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return _Certificate(
        issuer=read.issuer.rfc4514_string(),
        names=", ".join(names[:6]),
        valid=f"{read.not_valid_before_utc:%Y-%m-%d} to {read.not_valid_after_utc:%Y-%m-%d}",
    )


def page(text: str) -> str | None:
    """Return the title of an HTML page, empty without one; ``None`` if it is no HTML."""
    if not re.match(r"\s*(<!doctype html|<html|<head|<body|<!--)", text[:200], re.IGNORECASE):
        return None
    found = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return " ".join(unescape(found[1]).split())[:80] if found else ""


SIGN_IN = (
    "sign in to whatever guards the API server (a VPN, a portal), or leave the proxy out for it "
    "(NO_PROXY)"
)
"""What helps where a web page answers."""


def web_page(text: str, server: str) -> str:
    """Return who must have sent a web page, in words; empty if it is none."""
    title = page(text)
    if title is None:
        return ""
    named = f" ({title!r})" if title else ""
    return f"a web page{named}, so something in front of {server} answers"


def _where(connection: Connection) -> str:
    parts = urlsplit(connection.server)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{bracketed(parts.hostname or '')}:{port}"


def first_line(error: Exception) -> str:
    """Return an error in one line, without the noise of pools."""
    text = str(error).strip() or type(error).__name__
    # The original of what the official client words anew is more exact.
    found = re.sub(r"^\w*Connection(Pool)?\(host=[^)]*\): ", "", text.splitlines()[0])
    return found[:300]


BUSY = {
    True: "check which client sends that many requests (API priority and fairness), and run again",
    False: "check whether the API server is healthy, and what is in front of it",
}
"""What helps against an answer that tells to come back, by whether it was 429."""


def answered(status: int, text: str) -> str:
    """Return what an answer says that is none: nobody behind a gateway, too many requests."""
    said = page(text)
    words = (f"a web page {said!r}" if said else "a web page") if said is not None else text
    if status == 429:
        return f"it gets too many requests (429: {words.strip()[:200]})"
    return f"HTTP {status}: {words.strip()[:200]}"
