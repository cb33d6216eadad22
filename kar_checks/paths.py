"""Finds what is not library code (probes/, manifests/, reports/), in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def data(room: Literal["probes", "manifests", "reports"], *parts: str) -> Path:
    """Return the path of a file in ``room``.

    Raises:
        FileNotFoundError: neither the checkout nor the wheel has it.
    """
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        path = base.joinpath(room, *parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"{'/'.join((room, *parts))} is neither in the package nor beside it")
