"""Sabotages of the local cluster: context managers that break one thing and mend it again.

Each takes the local cluster and its API, and is known by its name in the YAML file beside its
module, which says what it must make of each check.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from kar_checks.cluster.client import Cluster
from localcluster import LocalCluster

Break = Callable[[LocalCluster, Cluster], AbstractContextManager[None]]


@dataclass(frozen=True)
class Injection:
    """A sabotage, the add-ons that its cluster has, and further words for ``kar run``."""

    apply: Break
    addons: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


#: A broken gang shows itself at once; only the honest run watches as long as the profile says.
SHORT_WINDOWS = (
    "--set",
    "gang.window_seconds=10",
    "--set",
    "gang.incomplete_seconds=6",
)

#: What a resize spoils shows itself soon; only the honest run holds as long as it should.
SHORT_HOLD = ("--set", "resize.hold_seconds=5")

_FOUND: dict[str, Injection] = {}


def injection(
    *, addons: tuple[str, ...] = (), words: tuple[str, ...] = ()
) -> Callable[[Break], Break]:
    """Register a context manager under its own name."""

    def register(function: Break) -> Break:
        _FOUND[function.__name__] = Injection(function, addons, words)
        return function

    return register


def injections() -> dict[str, Injection]:
    """Return every sabotage of the modules beside this one, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_FOUND)
