"""Which cluster and which user a kubeconfig means: files merged and chosen as kubectl does it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from kar_checks import plain_yaml
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

Object = dict[str, Any]

_LOOK = "look at it with `kubectl config view`"
_PATHS = {
    "clusters": ("certificate-authority",),
    "users": ("client-certificate", "client-key", "tokenFile"),
}
"""Fields with a path that is relative to the folder of the file in which it is written."""
_ENTRY = {"clusters": "cluster", "users": "user", "contexts": "context"}


@dataclass(frozen=True)
class Chosen:
    """One context of merged kubeconfigs, with absolute paths. ``user`` is empty if there is none.

    ``files`` are those that exist, ``given`` is how they were named.
    """

    given: str
    files: tuple[Path, ...]
    context: str
    cluster_name: str
    cluster: Object
    user_name: str
    user: Object
    namespace: str


def choose(given: str, context: str | None) -> Chosen:
    """Merge the files of a path list and return a context, by default the current one.

    As in kubectl, the first file that names a current context, and the first entry of a name, win;
    files that are missing or empty are passed over.

    Raises:
        HarnessError: there is no file, one cannot be read, or the context is not complete.
    """
    files = _files(given)
    if not files:
        raise HarnessError(
            Reason.UNREACHABLE,
            f"there is no kubeconfig at {given}",
            "name one with --kubeconfig, or start the local cluster with `kar cluster up`",
        )
    merged: dict[str, dict[str, Object]] = {section: {} for section in _ENTRY}
    current = ""
    contents = [(file, _read(file, given)) for file in files]
    if not any(content for _, content in contents):
        raise _unusable(given, "it is empty")
    for file, content in contents:
        current = current or _text(content.get("current-context"))
        for section, entries in merged.items():
            for name, entry in _entries(content, section, file, given):
                entries.setdefault(name, entry)
    return _chosen(given, files, merged, context or current)


def _chosen(
    given: str, files: tuple[Path, ...], merged: dict[str, dict[str, Object]], context: str
) -> Chosen:
    contexts = merged["contexts"]
    if context not in contexts:
        which = f"context {context!r}" if context else "current-context: give --context"
        raise HarnessError(
            Reason.UNREACHABLE,
            f"the kubeconfig {given} has no {which}",
            f"it has: {', '.join(contexts) or 'none'}",
        )
    entry = contexts[context]
    cluster_name, user_name = _text(entry.get("cluster")), _text(entry.get("user"))
    if not cluster_name:
        raise _unusable(given, f"the context {context!r} names no cluster")
    if cluster_name not in merged["clusters"]:
        raise _unusable(
            given, f"the context {context!r} names the cluster {cluster_name!r}, which it lacks"
        )
    if user_name and user_name not in merged["users"]:
        raise _unusable(
            given, f"the context {context!r} names the user {user_name!r}, which it lacks"
        )
    return Chosen(
        given=given,
        files=files,
        context=context,
        cluster_name=cluster_name,
        cluster=merged["clusters"][cluster_name],
        user_name=user_name,
        user=merged["users"].get(user_name, {}),
        namespace=_text(entry.get("namespace")),
    )


def _files(given: str) -> tuple[Path, ...]:
    whole = Path(given).expanduser()
    if given and whole.exists():
        return (whole.absolute(),)
    parts = dict.fromkeys(one for one in given.split(os.pathsep) if one)
    paths = [Path(one).expanduser() for one in parts]
    return tuple(one.absolute() for one in paths if one.exists())


def _read(file: Path, given: str) -> Object:
    where = "" if str(file) == given else f"{file}: "
    if file.is_dir():
        raise _unusable(given, f"{where}it is a folder: name the file in it")
    try:
        content = plain_yaml.parse(file.read_bytes())
    except OSError as error:
        raise _unusable(given, f"{where}{error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _unusable(given, f"{where}not valid YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise _unusable(given, f"{where}not valid YAML: {text}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _unusable(given, f"{where}it holds no object")
    return cast("Object", content)


def _entries(content: Object, section: str, file: Path, given: str) -> list[tuple[str, Object]]:
    listed = content.get(section) or []
    if not isinstance(listed, list):
        raise _unusable(given, f"{file}: {section} is not a list")
    out: list[tuple[str, Object]] = []
    for one in listed:
        if not isinstance(one, dict) or "name" not in one:
            raise _unusable(given, f"{file}: an entry of {section} has no name")
        named = cast("Object", one)
        held = named.get(_ENTRY[section]) or {}
        if not isinstance(held, dict):
            raise _unusable(
                given, f"{file}: the entry {named['name']!r} of {section} holds no object"
            )
        out.append((str(named["name"]), _resolved(cast("Object", held), section, file.parent)))
    return out


def _resolved(entry: Object, section: str, folder: Path) -> Object:
    out = dict(entry)
    for key in _PATHS.get(section, ()):
        if out.get(key):
            out[key] = str(folder / Path(str(out[key])))
    plugin = out.get("exec") if section == "users" else None
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command") or ""):
        # Only a command without a slash is looked up on PATH.
        out["exec"] = {**cast("Object", plugin), "command": str(folder / str(plugin["command"]))}
    return out


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _unusable(given: str, why: str) -> HarnessError:
    return HarnessError(Reason.UNREACHABLE, f"the kubeconfig {given} cannot be used: {why}", _LOOK)
