"""Who we are to an API server, renewed while a run lasts, and told when it is not accepted."""

from __future__ import annotations

import atexit
import base64
import binascii
import json
import os
import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kar_checks.cluster import plugin
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kubeconfig import Chosen
from kar_checks.model import Reason

_READ_AGAIN_SECONDS = 60.0
"""How long a token from a file is used before the file is read again, as in client-go."""
_EARLY_SECONDS = 10.0
"""How long before its end a plugin's credential is renewed."""
_BEARER = "BearerToken"


class Credentials:
    """The user of a kubeconfig's context, put into the official client's ``configuration``."""

    def __init__(self, chosen: Chosen, configuration: Any) -> None:
        self._chosen = chosen
        self._user = chosen.user
        self._configuration = configuration
        self._lock = threading.Lock()
        self._files = Files()
        self._token_read = 0.0
        self._issued: plugin.Issued | None = None
        self._legacy: Any = None
        self._load()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers of an impersonation (``as``, ``as-groups``, …) that kubectl sends, too."""
        user = self._user
        out = [("Impersonate-User", str(user["as"]))] if user.get("as") else []
        out += [("Impersonate-Uid", str(user["as-uid"]))] if user.get("as-uid") else []
        out += [("Impersonate-Group", str(one)) for one in user.get("as-groups") or []]
        for key, values in (user.get("as-user-extra") or {}).items():
            out += [(f"Impersonate-Extra-{key}", str(one)) for one in values or []]
        return out

    def refresh(self, *, refused: bool = False) -> bool:
        """Renew what has run out, or with ``refused`` what the server does not accept any more.

        Returns whether anything changed.

        Raises:
            HarnessError: the plugin or the file that gives it failed.
        """
        with self._lock:
            before = self._now()
            if self._issued is not None:
                ends = self._issued.expires
                left = (ends - datetime.now(UTC)).total_seconds() if ends else None
                if refused or (left is not None and left < _EARLY_SECONDS):
                    self._ask_plugin()
            elif self._user.get("tokenFile"):
                if refused or time.monotonic() - self._token_read > _READ_AGAIN_SECONDS:
                    self._read_token()
            elif self._legacy is not None:
                self._bearer(str(self._legacy.get_api_key_with_prefix(_BEARER)))
            return self._now() != before

    def _now(self) -> tuple[Any, ...]:
        one = self._configuration
        return one.api_key.get(_BEARER), one.cert_file, one.key_file

    def _load(self) -> None:
        user, configuration = self._user, self._configuration
        # TLS with a client certificate goes with any other credential.
        configuration.cert_file = self._file(user, "client-certificate")
        configuration.key_file = self._file(user, "client-key")
        if configuration.cert_file and not configuration.key_file:
            raise _unusable(self._chosen, "it has a client-certificate and no client-key")
        if user.get("tokenFile"):
            self._read_token()
        elif user.get("token"):
            self._bearer(f"Bearer {str(user['token']).strip()}")
        elif user.get("exec"):
            self._ask_plugin()
        elif user.get("auth-provider"):
            self._load_legacy()
        elif user.get("username"):
            both = f"{user['username']}:{user.get('password') or ''}".encode()
            self._bearer(f"Basic {base64.b64encode(both).decode()}")

    def _bearer(self, value: str) -> None:
        self._configuration.api_key[_BEARER] = value

    def _read_token(self) -> None:
        path = Path(str(self._user["tokenFile"]))
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeError) as error:
            token = ""
            if _BEARER not in self._configuration.api_key:
                why = getattr(error, "strerror", None) or str(error)
                raise _unusable(self._chosen, f"its tokenFile {path}: {why}") from error
        self._token_read = time.monotonic()
        if token:  # while a file is replaced, the last token goes on
            self._bearer(f"Bearer {token}")
        elif _BEARER not in self._configuration.api_key:
            raise _unusable(self._chosen, f"its tokenFile {path} is empty")

    def _ask_plugin(self) -> None:
        settings = self._user["exec"]
        if not isinstance(settings, dict):
            raise _unusable(self._chosen, "its user's exec holds no object")
        given = plugin.run(
            settings,
            self._chosen.cluster,
            environment=os.environ,
            attended=plugin.attended(),
        )
        self._issued = given
        if given.token:
            self._bearer(f"Bearer {given.token}")
        if given.certificate:
            self._configuration.cert_file = self._files.write(given.certificate.encode())
            self._configuration.key_file = self._files.write(given.key.encode())

    def _load_legacy(self) -> None:
        """Let the official client read an ``auth-provider``, as old kubeconfigs have it."""
        from kubernetes import client
        from kubernetes import config as untyped

        config: Any = untyped
        name = str((self._user["auth-provider"] or {}).get("name") or "")
        named = {"name": "x"}
        content = {
            "current-context": "x",
            "contexts": [{**named, "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{**named, "cluster": {"server": "http://x"}}],
            "users": [{**named, "user": {"auth-provider": self._user["auth-provider"]}}],
        }
        scratch: Any = client.Configuration()
        try:
            config.load_kube_config_from_dict(content, client_configuration=scratch)
        except Exception as error:
            # It asks an identity provider, over libraries of whose errors nobody keeps a list.
            text = str(error).strip().splitlines() or [type(error).__name__]
            raise _old_provider(name, f": {text[0]}") from error
        if not scratch.api_key.get(_BEARER):
            raise _old_provider(name, "")
        self._legacy = scratch
        self._bearer(str(scratch.api_key[_BEARER]))

    def _file(self, entry: dict[str, Any], key: str) -> str | None:
        return self._files.of(entry, key, self._chosen)

    def describe(self) -> str:
        """Say which credential is used, and that it has run out if that can be seen."""
        user, name = self._user, self._chosen.user_name
        if not user:
            return f"the context {self._chosen.context!r} of the kubeconfig gives no credentials"
        whose = f"of user {name!r}"
        if self._issued is not None:
            command = str((user.get("exec") or {}).get("command"))
            return f"the credentials {whose} come from the plugin {command}"
        value = str(self._configuration.api_key.get(_BEARER) or "")
        if value.startswith("Basic "):
            return f"the user name and password {whose} are used; servers since 1.19 take none"
        if value:
            where = f" (from {user['tokenFile']})" if user.get("tokenFile") else ""
            return f"the token {whose}{where} {_ended(_token_end(value))}"
        if self._configuration.cert_file:
            return f"the client certificate {whose} {_ended(_certificate_end(self._configuration))}"
        return f"the user {name!r} of the kubeconfig has no credentials"


class Files:
    """Data of a kubeconfig as files of our own, which go with the process."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0

    def write(self, content: bytes) -> str:
        """Put content into a new file, readable by nobody else, and return its path."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kar-"))
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._count += 1
        path = self._folder / str(self._count)
        path.touch(mode=0o600)
        path.write_bytes(content)
        return str(path)

    def of(self, entry: dict[str, Any], key: str, chosen: Chosen) -> str | None:
        """Return the file for ``KEY-data`` or ``KEY`` of an entry, data first; none for neither.

        Raises:
            HarnessError: the data is no base64, or the file cannot be read.
        """
        data, path = entry.get(f"{key}-data"), entry.get(key)
        if data:
            try:
                return self.write(base64.b64decode("".join(str(data).split()), validate=True))
            except (binascii.Error, ValueError) as error:
                raise _unusable(chosen, f"its {key}-data is not base64") from error
        if not path:
            return None
        try:
            Path(str(path)).read_bytes()
        except OSError as error:
            why = error.strerror or str(error)
            raise _unusable(chosen, f"its {key} {path}: {why}") from error
        return str(path)


def _unusable(chosen: Chosen, why: str) -> HarnessError:
    return HarnessError(
        Reason.UNREACHABLE,
        f"the kubeconfig {chosen.given} cannot be used: {why}",
        "look at it with `kubectl config view`, or get a new one from whoever runs the cluster",
    )


def _old_provider(name: str, why: str) -> HarnessError:
    return HarnessError(
        Reason.FORBIDDEN,
        f"the kubeconfig's auth-provider {name!r} gives no token{why}",
        "kubectl dropped gcp and azure in 1.26: get a kubeconfig with a credential plugin "
        "(gke-gcloud-auth-plugin, kubelogin), or sign in again",
    )


def _ended(end: datetime | None) -> str:
    if end is None:
        return "is not accepted"
    if end < datetime.now(UTC):
        return f"expired on {end:%Y-%m-%d at %H:%M} UTC"
    return f"is not accepted, though it is good until {end:%Y-%m-%d %H:%M} UTC"


def _token_end(value: str) -> datetime | None:
    """Return when a JSON Web Token ends; ``None`` for any other token."""
    parts = value.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None


def _certificate_end(configuration: Any) -> datetime | None:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(Path(configuration.cert_file).read_bytes())
    except (OSError, ValueError):
        return None
    return found.not_valid_after_utc
