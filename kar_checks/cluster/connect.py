"""From a kubeconfig to a configured transport, with one sentence for everything that goes wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason


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


def connect(kubeconfig: Path | None, context: str | None) -> Connection:
    """Load a kubeconfig; ``None`` takes ``KUBECONFIG``, the default place, or a pod's own account.

    Raises:
        HarnessError: the file is missing, broken, or has no such context.
    """
    from kubernetes import client
    from kubernetes import config as untyped

    config: Any = untyped
    configuration = client.Configuration()
    given = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG", "")
    default = Path("~/.kube/config").expanduser()
    token = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    if not given and not default.exists() and token.exists():
        config.load_incluster_config(client_configuration=configuration)
        _tune(configuration)
        namespace = token.with_name("namespace")
        return Connection(
            configuration,
            "in-cluster",
            "in-cluster",
            configuration.host,
            namespace.read_text("utf-8").strip() if namespace.exists() else "",
        )
    files = given or str(default)
    found = [one for one in files.split(os.pathsep) if one and Path(one).expanduser().exists()]
    if not found:
        raise HarnessError(
            Reason.UNREACHABLE,
            f"there is no kubeconfig at {files}",
            "name one by --kubeconfig, or start the local cluster with `kar cluster up`",
        )
    try:
        merged: dict[str, Any] = config.kube_config.KubeConfigMerger(files).config.value
        contexts = {str(one["name"]): one["context"] for one in merged["contexts"]}
        chosen = context or str(merged.get("current-context") or "")
        if chosen not in contexts:
            which = f"context {chosen!r}" if chosen else "current-context: give --context"
            raise HarnessError(
                Reason.UNREACHABLE,
                f"the kubeconfig {files} has no {which}",
                f"it has: {', '.join(contexts) or 'none'}",
            )
        entry = contexts[chosen]
        config.load_kube_config(
            config_file=files, context=chosen, client_configuration=configuration
        )
    except (
        config.ConfigException,
        yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HarnessError(
            Reason.UNREACHABLE,
            f"the kubeconfig {files} cannot be used: {first}",
            "check the file with `kubectl config view`",
        ) from error
    _tune(configuration)
    return Connection(
        configuration,
        chosen,
        str(entry["cluster"]),
        configuration.host,
        str(entry.safe_get("namespace") or ""),
        tuple(str(Path(one).expanduser().absolute()) for one in found),
    )


def _tune(configuration: Any) -> None:
    configuration.connection_pool_maxsize = 32
    configuration.retries = False
