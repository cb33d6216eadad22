"""From a kubeconfig to a configured transport, with one sentence for everything that goes wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kar_checks.cluster import kubeconfig as kubeconfigs
from kar_checks.cluster import proxy as proxies
from kar_checks.cluster import tunnel
from kar_checks.cluster.credentials import Credentials, Files
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.proxy import Proxy
from kar_checks.model import Reason

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Connection:
    """A loaded kubeconfig context. ``configuration`` belongs to the official client."""

    configuration: Any
    context: str
    cluster: str
    server: str
    namespace: str
    files: tuple[str, ...] = ()
    """The kubeconfig's files, by their full paths; none for a pod's own account."""
    credentials: Credentials | None = None
    """None for a pod's own account, whose token the official client reads again."""
    proxy: Proxy | None = None


def connect(
    kubeconfig: Path | None, context: str | None, *, in_cluster: bool = False
) -> Connection:
    """Load a kubeconfig; ``None`` takes ``KUBECONFIG``, the default place, or a pod's own account.

    With ``in_cluster`` it is the account, whatever kubeconfig lies about.

    Raises:
        HarnessError: the file is missing, broken, or has no such context; or the credentials that
            it names cannot be had.
    """
    from kubernetes import client

    configuration: Any = client.Configuration()
    if in_cluster:
        return _of_this_pod(configuration)
    given = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG", "")
    default = Path("~/.kube/config").expanduser()
    if not given and not default.exists() and (_ACCOUNT / "token").exists():
        return _of_this_pod(configuration)
    chosen = kubeconfigs.choose(given or str(default), context)
    cluster = chosen.cluster
    configuration.host = _server(chosen)
    configuration.ssl_ca_cert = Files().of(cluster, "certificate-authority", chosen)
    configuration.verify_ssl = not cluster.get("insecure-skip-tls-verify", False)
    if cluster.get("tls-server-name"):
        configuration.tls_server_name = str(cluster["tls-server-name"])
    proxy = _through(configuration, str(cluster.get("proxy-url") or ""))
    credentials = Credentials(chosen, configuration)
    _tune(configuration)
    return Connection(
        configuration,
        chosen.context,
        chosen.cluster_name,
        configuration.host,
        chosen.namespace,
        tuple(str(one) for one in chosen.files),
        credentials,
        proxy,
    )


def _of_this_pod(configuration: Any) -> Connection:
    from kubernetes import config as untyped

    config: Any = untyped
    try:
        config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise HarnessError(
            Reason.UNREACHABLE,
            f"there is no service account of a pod to use: {error}",
            "run it in a pod that mounts its account's token, or name a cluster with --kubeconfig",
        ) from error
    proxy = _through(configuration, "")
    _tune(configuration)
    namespace = _ACCOUNT / "namespace"
    return Connection(
        configuration,
        "in-cluster",
        "in-cluster",
        configuration.host,
        namespace.read_text("utf-8").strip() if namespace.exists() else "",
        proxy=proxy,
    )


def _server(chosen: kubeconfigs.Chosen) -> str:
    """Return the server's address; without a scheme it is that of client-go."""
    server = str(chosen.cluster.get("server") or "").rstrip("/")
    if not server:
        raise _unusable(chosen, f"the cluster {chosen.cluster_name!r} has no server")
    if "://" not in server:
        keys = ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify")
        secure = any(chosen.cluster.get(key) for key in keys) or any(
            chosen.user.get(key) for key in ("client-certificate", "client-certificate-data")
        )
        server = f"{'https' if secure else 'http'}://{server}"
    try:
        parts = urlsplit(server)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise _unusable(chosen, f"the server {server!r} is not an http:// or https:// address")
    return server


def _through(configuration: Any, given: str) -> Proxy | None:
    """Choose the proxy and hand it to the official client, which would choose by other rules."""
    proxy = proxies.choose(configuration.host, given, os.environ)
    direct = proxy is None or proxy.socks  # SOCKS is brought in by the client's own connections
    configuration.proxy = None if proxy is None or direct else proxy.url
    configuration.proxy_headers = None if proxy is None or direct else proxy.headers
    configuration.proxy_ssl_context = tunnel.context_for(proxy) if proxy is not None else None
    configuration.no_proxy = ""
    return proxy


def _unusable(chosen: kubeconfigs.Chosen, why: str) -> HarnessError:
    return HarnessError(
        Reason.UNREACHABLE,
        f"the kubeconfig {chosen.given} cannot be used: {why}",
        "look at it with `kubectl config view`",
    )


def _tune(configuration: Any) -> None:
    configuration.connection_pool_maxsize = 32
    configuration.retries = False
