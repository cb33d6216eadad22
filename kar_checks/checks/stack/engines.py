"""What is known of serving engines: ``engines.yaml``, typed, and how samples become quantities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Literal

import yaml

from kar_checks.model import Record

Role = Literal["prefill", "decode", "both"]
Quantity = Literal["requests", "computed", "received", "bytes", "failures"]


class RoleLabel(Record):
    """A label by which a framework marks the phase that a pod serves."""

    label: str
    prefill: list[str]
    decode: list[str]
    both: list[str] = []


class Metric(Record):
    """One name of a quantity; of its samples those with these ``labels`` are summed."""

    metric: str
    """As the engine itself calls it, with the first of its prefixes."""
    labels: dict[str, str] = {}
    factor: float = 1
    part: bool = False
    """Whether it tells a part of the quantity only, so that more may be right, too."""


class Engine(Record):
    """A serving engine, known by how its metrics begin."""

    name: str
    title: str
    prefixes: list[str]
    """How its metrics begin: by itself, then as others pass them on."""
    bare: list[str] = []
    """Metrics that some releases export without any prefix."""
    version: str = ""
    """A path at which it tells its version."""
    quantities: dict[Quantity, list[Metric]]

    def names(self, metric: str) -> list[str]:
        """Return every name that a metric of this engine has somewhere, its own first."""
        rest = metric.removeprefix(self.prefixes[0])
        return [prefix + rest for prefix in self.prefixes] + [rest] * (rest in self.bare)

    def exports(self, name: str) -> bool:
        """Say whether a metric, or the beginning of its name, is one of this engine's."""
        return name in self.bare or name.startswith(tuple(self.prefixes))


class Simulator(Record):
    """A server that invents what it says, and by what it is known."""

    name: str
    images: list[str]
    """Parts of image references."""
    words: list[str]
    """Parts of what it answers at the version path, or of its command."""
    flags: list[str]
    """Options that no real engine has."""


class Known(Record):
    """Everything in ``engines.yaml``."""

    roles: list[RoleLabel]
    worker: str
    """The label that tells a leader from its workers."""
    ports: list[int]
    paths: list[str]
    engines: list[Engine]
    start: str
    """The metric with the start time of the process."""
    simulators: list[Simulator]

    def metrics(self) -> list[str]:
        """Return every metric that is read, so that a probe need not print all of them."""
        names = {
            name
            for engine in self.engines
            for given in engine.quantities.values()
            for one in given
            for name in engine.names(one.metric)
        }
        return sorted({*names, self.start})


class Sample(Record):
    """One line of a server's metrics."""

    name: str
    labels: dict[str, str] = {}
    value: float


@cache
def known() -> Known:
    """Return what is known of engines."""
    text = resources.files(__package__).joinpath("engines.yaml").read_text("utf-8")
    return Known.model_validate(yaml.safe_load(text))


def role_of(labels: Mapping[str, str]) -> tuple[Role, str] | None:
    """Return the phase that a pod's labels name, and the label that says so."""
    for one in known().roles:
        value = labels.get(one.label, "")
        for role in ("prefill", "decode", "both"):
            if value and value in getattr(one, role):
                return role, f"{one.label}={value}"
    return None


def is_worker(labels: Mapping[str, str]) -> bool:
    """Say whether a pod's labels make it a worker, for which its leader serves and counts."""
    return labels.get(known().worker, "0") != "0"


def engines_of(families: Iterable[str]) -> list[Engine]:
    """Return the engines whose metrics are among these families, in the order of the data."""
    names = list(families)
    return [one for one in known().engines if any(map(one.exports, names))]


def quantities(families: Iterable[str], samples: Iterable[Sample]) -> dict[Quantity, float]:
    """Return what a pod's samples say, by quantity; what it does not export is absent."""
    given = list(samples)
    out: dict[Quantity, float] = {}
    for quantity, (name, one) in _told(families, given).items():
        # A labelled series that has not been counted yet is absent; its metric is not.
        values = [
            sample.value
            for sample in given
            if sample.name == name and one.labels.items() <= sample.labels.items()
        ]
        out[quantity] = sum(values) * one.factor
    return out


def told_in_part(quantity: Quantity, families: Iterable[str], samples: Iterable[Sample]) -> bool:
    """Say whether what a pod tells of a quantity may be a part of it only."""
    found = _told(families, list(samples)).get(quantity)
    return found is not None and found[1].part


def _told(families: Iterable[str], samples: list[Sample]) -> dict[Quantity, tuple[str, Metric]]:
    """Return by which metric each quantity is told, and under which name."""
    there = {one.name for one in samples}
    out: dict[Quantity, tuple[str, Metric]] = {}
    for engine in engines_of(families):
        for quantity, metrics in engine.quantities.items():
            for one in metrics:
                name = next((name for name in engine.names(one.metric) if name in there), "")
                if quantity not in out and name:
                    out[quantity] = name, one
    return out


def started(samples: Iterable[Sample]) -> float | None:
    """Return when the server's process started, in seconds of the epoch."""
    values = [one.value for one in samples if one.name == known().start]
    return max(values) if values else None
