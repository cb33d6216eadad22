"""How the user names their stack: the settings ``stack.…``, checked before anything is stored."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from kar_checks.profile import Profile, ProfileError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""A bearer token (RFC 6750, section 2.1); nothing in it looks otherwise inside JSON."""
_SELECTORS = ("stack.prefill", "stack.decode")


def namespace(profile: Profile) -> str:
    """Return where the stack's pods are; empty if no stack was named.

    No message repeats a URL or a credential: either may hold a secret by mistake.

    Raises:
        ProfileError: the settings cannot be used.
    """
    url = profile.text("stack.url")
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProfileError("stack.url (--target-url) must be an http:// or https:// address")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ProfileError(
            "stack.url (--target-url) must hold no user, password, query or fragment: URLs are "
            "stored with the run; pass a bearer token with --target-credential"
        )
    _credential(profile.text("stack.credential"))
    chosen = [bool(profile.text(one)) for one in _SELECTORS]
    if any(chosen) and not all(chosen):
        raise ProfileError("give both --target-prefill and --target-decode, or neither")
    if found := profile.text("stack.namespace") or _of_service(parts.hostname):
        return found
    raise ProfileError(
        "the URL does not contain the namespace of its pods: give --target-namespace"
    )


def _of_service(host: str) -> str:
    words = host.split(".")
    return words[1] if len(words) == 2 or words[2:3] == ["svc"] else ""


def _credential(variable: str) -> None:
    if not variable:
        return
    if not _VARIABLE.fullmatch(variable) or variable not in os.environ:
        raise ProfileError(
            "stack.credential (--target-credential) must be the name of an environment variable "
            "that is set; the token itself belongs in no option"
        )
    if not _BEARER.fullmatch(os.environ[variable].strip()):
        raise ProfileError(
            "the environment variable that stack.credential (--target-credential) names holds no "
            "bearer token: letters, digits and -._~+/ with = at the end"
        )
