"""Stored runs as parts of a series: what each is called, what it measured, what it ran on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kar_checks.model import Finding, Measure, NodeInfo
from kar_checks.store import StoredRun, StoreError

_MEASURES = TypeAdapter(list[Measure])
Key = tuple[str, str]
"""A check and a variant, or a measure with its topic and a variant."""


@dataclass(frozen=True)
class Past:
    """A stored run with what other runs are compared by."""

    run: StoredRun
    measures: dict[tuple[str, str, str], Measure]
    """By (topic, name, variant)."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.info.id

    @property
    def findings(self) -> dict[Key, Finding]:
        """The findings by check and variant."""
        return {(one.check, one.variant): one for one in self.run.findings}

    @property
    def complete(self) -> bool:
        """Whether it went to its end."""
        return self.run.info.finished is not None and not self.run.info.interrupted

    @property
    def cluster(self) -> str:
        """What tells its cluster from others: the UID of kube-system, else the name."""
        place = self.run.info.environment
        return place.cluster_uid or place.cluster

    @property
    def settings(self) -> dict[str, Any]:
        """The values of the settings that it was measured with, and of those it was judged with."""
        measured = _values(self.run.info.profile)
        judged = _values(self.run.info.judged_with or {})
        changed = {
            f"{key} (judged with)": value
            for key, value in judged.items()
            if key not in measured or measured[key] != value
        }
        return {**measured, **changed}


def _values(profile: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = profile.get("settings") or {}
    return {key: one.get("value") if isinstance(one, dict) else one for key, one in given.items()}


def load(folder: Path) -> Past:
    """Read a run folder.

    Raises:
        StoreError: it is none, or was changed.
    """
    run = StoredRun(folder)
    measures: dict[tuple[str, str, str], Measure] = {}
    for path in sorted((folder / "observations").glob("*.json")):
        if path.stem in run.damaged:
            continue
        try:
            raw: Any = json.loads(path.read_text("utf-8"))
            for one in _MEASURES.validate_python(raw.get("measures", [])):
                if one.samples:
                    measures[(path.stem, one.name, one.variant)] = one
        except (OSError, ValueError, AttributeError, RecursionError, ValidationError) as error:
            first = str(error).splitlines()[0]
            raise StoreError(f"{path} cannot be read: {first}") from error
    return Past(run, measures)


def load_all(parent: Path) -> tuple[list[Past], list[str]]:
    """Return the runs of a folder by their start, and a sentence for each that cannot be read.

    Copies that `kar judge` made are left out: they are no runs of their own.

    Raises:
        StoreError: there is no such folder.
    """
    if not parent.is_dir():
        raise StoreError(f"there is no folder {parent} with runs")
    found: list[Past] = []
    troubles: list[str] = []
    for folder in sorted(parent.iterdir()):
        if folder.is_symlink() or not (folder / "run.json").is_file():
            continue
        try:
            past = load(folder)
            if not past.run.is_copy:
                found.append(past)
        except StoreError as error:
            troubles.append(str(error))
    return sorted(found, key=lambda one: (one.run.info.started, one.id)), troubles


def shapes(nodes: Sequence[NodeInfo]) -> list[str]:
    """Return the kinds of nodes with their number, the most frequent first."""
    counted = Counter(
        ", ".join(
            part
            for part in (
                one.instance_type,
                one.architecture,
                f"{one.cpu} CPU" if one.cpu else "",
                f"{one.memory} memory" if one.memory else "",
            )
            if part
        )
        or "unknown shape"
        for one in nodes
    )
    return [f"{number} x {shape}" for shape, number in counted.most_common()]


def setting_changes(before: Past, after: Past) -> list[str]:
    """Return the settings that two runs were judged and measured by differently."""
    first, second = before.settings, after.settings
    return [
        f"{key}: {first.get(key, '—')} → {second.get(key, '—')}"
        for key in sorted({*first, *second})
        if first.get(key) != second.get(key)
    ]


_NODE_FIELDS = {
    "kubelet": "kubelet",
    "kernel": "kernel",
    "runtime": "container runtime",
    "os": "system",
    "instance_type": "instance type",
    "architecture": "architecture",
    "cpu": "allocatable CPU",
    "memory": "allocatable memory",
    "taints": "taints",
    "unschedulable": "cordoned",
    "ready": "ready",
}


def environment_changes(before: Past, after: Past) -> list[str]:
    """Return what else is different: versions, nodes, add-ons, options, the suite itself."""
    first, second = before.run.info.environment, after.run.info.environment
    out: list[str] = []
    for what, old, new in (
        ("suite", before.run.info.suite_version, after.run.info.suite_version),
        ("Kubernetes", first.server_version, second.server_version),
        ("checklist", before.run.info.kubernetes_minor, after.run.info.kubernetes_minor),
        ("user", first.user, second.user),
    ):
        if old != new:
            out.append(f"{what}: {old or '—'} → {new or '—'}")
    out += _node_changes(first.nodes, second.nodes)
    if first.apis and second.apis:
        gone, come = set(first.apis) - set(second.apis), set(second.apis) - set(first.apis)
        out += [f"API {one} is no longer served" for one in sorted(gone)]
        out += [f"API {one} is newly served" for one in sorted(come)]
    for name in sorted({*first.images, *second.images}):
        old, new = first.images.get(name, "—"), second.images.get(name, "—")
        if old != new:
            out.append(f"image {name}: {old} → {new}")
    for name in sorted({*first.options, *second.options}):
        if first.options.get(name) != second.options.get(name):
            out.append(f"option {name}: {first.options.get(name)} → {second.options.get(name)}")
    out += [f"setting {one}" for one in setting_changes(before, after)]
    return out


def _node_changes(before: Sequence[NodeInfo], after: Sequence[NodeInfo]) -> list[str]:
    first, second = {one.name: one for one in before}, {one.name: one for one in after}
    out = [f"node {name} left" for name in sorted(set(first) - set(second))]
    out += [
        f"node {name} joined ({shapes([second[name]])[0].removeprefix('1 x ')})"
        for name in sorted(set(second) - set(first))
    ]
    told: dict[str, list[str]] = {}
    for name in sorted(set(first) & set(second)):
        old, new = first[name], second[name]
        if old.uid != new.uid:
            told.setdefault("was replaced by another of its name", []).append(name)
        for field, word in _NODE_FIELDS.items():
            a, b = getattr(old, field), getattr(new, field)
            if a != b:
                told.setdefault(f"{word}: {_plain(a)} → {_plain(b)}", []).append(name)
    return out + [f"{_names(names)}: {what}" for what, names in told.items()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) if isinstance(value, list) else str(value)) or "—"


def _names(names: list[str]) -> str:
    if len(names) == 1:
        return f"node {names[0]}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"nodes {', '.join(names[:3])}{more}"
