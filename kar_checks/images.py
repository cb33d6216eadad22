"""Images in registries: how to copy them by digest, and whether they are there.

A registry is asked by the OCI distribution API, anonymously and for manifests only: no layer is
downloaded, and nothing that a person's tools know, such as a password, is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

TOOLS = ("crane", "skopeo")
_TIMEOUT = 30.0
_LARGEST = 4 << 20
"""The most that a registry must accept as a manifest, by the distribution specification."""
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = {"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}


@dataclass(frozen=True)
class Reference:
    """An image's reference in its parts."""

    host: str
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """Host and repository."""
        return f"{self.host}/{self.repository}"

    @property
    def by_digest(self) -> str:
        """The reference by digest alone where it has one: not every tool takes tag and digest."""
        return f"{self.name}@{self.digest}" if self.digest else self.by_tag

    @property
    def by_tag(self) -> str:
        """The reference by tag where it has one."""
        return f"{self.name}:{self.tag}" if self.tag else f"{self.name}@{self.digest}"


def parse(given: str) -> Reference:
    """Return a reference's parts.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([^@\s]+?)(?::([\w.-]{1,128}))?(?:@(sha256:[0-9a-f]{64}))?", given)
    if not found:
        raise ValueError(f"{given!r} is not an image reference")
    name, tag, digest = found[1], found[2] or "", found[3] or ""
    host, slash, repository = name.partition("/")
    if not slash or not (set(host) & {".", ":"} or host == "localhost"):
        host, repository = "docker.io", name if slash else f"library/{name}"
    return Reference(host, repository, tag or ("" if digest else "latest"), digest)


def copying(tool: str, source: str, target: str) -> list[str]:
    """Return the command that copies an image with all its architectures and its digest."""
    origin, place = parse(source).by_digest, parse(target).by_tag
    if tool == "skopeo":
        return [
            tool,
            "copy",
            "--all",
            "--preserve-digests",
            f"docker://{origin}",
            f"docker://{place}",
        ]
    return [tool, "copy", origin, place]


@dataclass(frozen=True)
class Seen:
    """What a registry says of an image."""

    state: Literal["there", "not there", "not known"]
    told: str


def look(given: str, architectures: Iterable[str]) -> Seen:
    """Ask a registry whether it has exactly this image, for all of these architectures.

    The digest is computed from what the registry sends, not taken from its word.
    """
    image = parse(given)
    if not image.digest:
        return Seen("not known", "it has no digest: a tag can point to any image")
    try:
        registry = _Registry(image)
        body = registry.get(image.digest)
        if body is None:
            return Seen("not there", "the registry does not have it")
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if found != image.digest:
            return Seen("not there", f"the registry sends another one, {found}")
        manifest: Any = json.loads(body)
        listed = manifest.get("manifests")
        if listed is None:
            return Seen("there", "one manifest; its architecture is not looked at")
        for wanted in architectures:
            parts = [one["digest"] for one in listed if _platform(one) == ("linux", wanted)]
            if not parts:
                return Seen("not there", f"it has nothing for linux/{wanted}")
            if any(registry.get(one) is None for one in parts):
                return Seen("not there", f"its part for linux/{wanted} was not copied")
    except _CannotAskError as error:
        return Seen("not known", str(error))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Seen("not known", "the registry's answer is not a manifest")
    return Seen("there", f"with linux/{', linux/'.join(architectures)}")


def _platform(entry: dict[str, Any]) -> tuple[str, str]:
    told = entry.get("platform") or {}
    return str(told.get("os", "")), str(told.get("architecture", ""))


class _CannotAskError(Exception):
    """Why a registry gave no answer, in one sentence."""


class _Registry:
    """Gets manifests of one repository."""

    def __init__(self, image: Reference) -> None:
        host = "registry-1.docker.io" if image.host == "docker.io" else image.host
        # As container engines do: no TLS on this machine itself.
        here = host.partition(":")[0] in ("localhost", "127.0.0.1")
        self._base = f"{'http' if here else 'https'}://{host}/v2/{image.repository}/manifests/"
        self._host = host
        self._token = ""

    def get(self, digest: str) -> bytes | None:
        """Return a manifest, ``None`` if there is none."""
        try:
            return self._fetch(digest)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code != 401 or self._token:
                raise self._no(f"it answers {error.code}") from error
            self._token = self._ask_for_token(error.headers.get("WWW-Authenticate", ""))
        except (urllib.error.URLError, OSError) as error:
            raise self._no(str(getattr(error, "reason", error))) from error
        return self.get(digest)

    def _fetch(self, digest: str) -> bytes:
        more = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        asked = urllib.request.Request(self._base + digest, headers={**_ACCEPT, **more})  # noqa: S310
        with urllib.request.urlopen(asked, timeout=_TIMEOUT) as answer:  # noqa: S310 - as given
            return bytes(answer.read(_LARGEST + 1))

    def _ask_for_token(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        given = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = given.pop("realm", "")
        if kind.lower() != "bearer" or not realm.startswith(("https://", "http://")):
            raise self._no("it asks for credentials")
        query = urllib.parse.urlencode({key: given[key] for key in given if key != "error"})
        try:
            with urllib.request.urlopen(f"{realm}?{query}", timeout=_TIMEOUT) as answer:  # noqa: S310
                told: Any = json.loads(answer.read(_LARGEST))
            return str(told.get("token") or told["access_token"])
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise self._no("it asks for credentials") from error

    def _no(self, why: str) -> _CannotAskError:
        return _CannotAskError(
            f"{self._host} was asked anonymously, and {why}; ask it with your credentials: "
            "`crane digest` or `skopeo inspect`"
        )
