"""Credential plugins of a kubeconfig (``user.exec``), run as client-go runs them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast

from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason
from kar_checks.redact import redact

Object = dict[str, Any]

_API = "client.authentication.k8s.io/"
_EXTENSION = "client.authentication.k8s.io/exec"
_LOOK_SECONDS = 0.25
_QUIET_SECONDS = 3.0
"""From then on what a plugin prints is shown: it may ask somebody to sign in."""
ALONE_SECONDS = 60.0
"""The most that a plugin gets where nobody can answer it."""
ATTENDED_SECONDS = 300.0


@dataclass(frozen=True)
class Issued:
    """What a plugin gave: a token, a client certificate with its key (PEM), or both."""

    token: str
    certificate: str
    key: str
    expires: datetime | None


def run(
    settings: Object,
    cluster: Object,
    *,
    environment: Mapping[str, str],
    attended: bool,
    seconds: float | None = None,
) -> Issued:
    """Ask a plugin for credentials.

    ``attended`` says whether somebody sits at a terminal, ``seconds`` limits the time.

    Raises:
        HarnessError: it is not installed, fails, or gives nothing that can be used; with the
            plugin's own words and the kubeconfig's ``installHint``.
    """
    name = str(settings.get("command") or "")
    if not name:
        raise _failed("the kubeconfig names no command for its credential plugin", settings)
    version = str(settings.get("apiVersion") or "")
    if not version.startswith(_API):
        raise _failed(
            f"the credential plugin {name} has the apiVersion {version!r}, not {_API}v1", settings
        )
    mode = str(settings.get("interactiveMode") or "IfAvailable")
    if mode == "Always" and not attended:
        raise _failed(
            f"the credential plugin {name} needs a terminal (interactiveMode Always)",
            settings,
            "run kar in a terminal, or use a kubeconfig with a token",
        )
    interactive = attended and mode != "Never"
    spec: Object = {"interactive": interactive}
    if settings.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(cluster)
    told = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    more = {str(one["name"]): str(one.get("value", "")) for one in settings.get("env") or []}
    limit = seconds or (ATTENDED_SECONDS if interactive else ALONE_SECONDS)
    ended = _run(
        [name, *(str(one) for one in settings.get("args") or [])],
        {**environment, **more, "KUBERNETES_EXEC_INFO": json.dumps(told)},
        settings,
        interactive=interactive,
        seconds=limit,
    )
    return _issued(ended, name, version, settings)


def _run(
    argv: list[str],
    environment: dict[str, str],
    settings: Object,
    *,
    interactive: bool,
    seconds: float,
) -> str:
    name = argv[0]
    try:
        process = subprocess.Popen(
            argv,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except FileNotFoundError as error:
        raise _failed(
            f"the credential plugin {name} of the kubeconfig is not installed",
            settings,
            f"install {name}, or put it on PATH",
        ) from error
    except OSError as error:
        raise _failed(
            f"the credential plugin {name} cannot be started: {error.strerror or error}", settings
        ) from error
    out, printed = _Follower(process.stdout), _Follower(process.stderr)
    # Whoever has to sign in must see where; a plugin that simply works stays silent.
    began, shown, overdue = time.monotonic(), 0, False
    while True:
        try:
            code = process.wait(timeout=_LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            spent = time.monotonic() - began
        except BaseException:
            process.kill()
            raise
        if interactive or spent > _QUIET_SECONDS:
            for line in printed.lines[shown:]:
                print(f"kar: {name}: {line.rstrip()}", file=sys.stderr, flush=True)
                shown += 1
        if spent > seconds:
            overdue = True
            process.kill()
    # What it started may keep its output open.
    text, words = out.text(), _last(printed.text())
    if overdue:
        raise _failed(
            f"the credential plugin {name} did not end within {seconds:.0f} s{words}",
            settings,
            "it may be waiting for somebody to sign in: sign in once by hand, with "
            "`kubectl get nodes` for instance, and try again",
        )
    if code != 0:
        ended = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise _failed(
            f"the credential plugin {name} {ended}{words}", settings, "sign in again, or renew it"
        )
    return text


class _Follower:
    """Reads what a program prints while it runs."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes] | None) -> None:
        for line in stream or ():
            self.lines.append(line.decode("utf-8", "replace"))

    def text(self) -> str:
        """Return everything, once it has ended."""
        self._thread.join(timeout=1.0)
        return "".join(self.lines)


def _issued(text: str, name: str, version: str, settings: Object) -> Issued:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _failed(f"the credential plugin {name} printed no ExecCredential", settings)
    answer = cast("Object", found)
    if answer.get("apiVersion") != version or answer.get("kind") != "ExecCredential":
        got = f"{answer.get('apiVersion')} {answer.get('kind')}"
        raise _failed(
            f"the credential plugin {name} printed {got}, and the kubeconfig expects {version} "
            "ExecCredential",
            settings,
            "set its apiVersion in the kubeconfig to what the plugin prints, or update the plugin",
        )
    status = cast("Object", answer.get("status") or {})
    token = str(status.get("token") or "")
    certificate = str(status.get("clientCertificateData") or "")
    key = str(status.get("clientKeyData") or "")
    if not token and not (certificate and key):
        raise _failed(
            f"the credential plugin {name} gave neither a token nor a certificate with its key",
            settings,
        )
    return Issued(token, certificate, key, _moment(status.get("expirationTimestamp")))


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _cluster_info(cluster: Object) -> Object:
    keys = (
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority-data",
        "proxy-url",
    )
    out = {key: cluster[key] for key in keys if key in cluster}
    for one in cluster.get("extensions") or []:
        if one.get("name") == _EXTENSION:
            out["config"] = one.get("extension")
    return out


def _last(printed: str) -> str:
    """Return the end of what a plugin printed, in one line."""
    lines = [one.strip() for one in printed.splitlines()]
    text = " / ".join(one for one in lines if one)
    return f": {redact(text[-400:])}" if text else ""


def _failed(message: str, settings: Object, advice: str = "") -> HarnessError:
    hint = " ".join(str(settings.get("installHint") or "").split())
    helps = "; ".join(one for one in (advice, hint) if one)
    return HarnessError(Reason.FORBIDDEN, message, helps)


def attended() -> bool:
    """Say whether somebody sits at a terminal and could answer a plugin."""
    with contextlib.suppress(ValueError, AttributeError):
        return os.isatty(sys.stdin.fileno())
    return False
