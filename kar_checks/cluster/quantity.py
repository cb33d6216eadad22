"""Kubernetes quantities: ``100m``, ``1.5``, ``64Mi``."""

from __future__ import annotations

import re
from decimal import Decimal

_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([numkMGTPE]|[KMGTPE]i)?")


def parse(text: str | float) -> Decimal:
    """Return a quantity in its base unit (cores, bytes).

    Raises:
        ValueError: it is not a quantity.
    """
    found = _FORM.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"not a quantity: {text!r}")
    return Decimal(found[1]) * _FACTORS[found[2] or ""]


def parse_or_none(text: str) -> Decimal | None:
    """Return a quantity, ``None`` if the text is something else."""
    try:
        return parse(text)
    except ValueError:
        return None


def millicores(text: str | float) -> int:
    """Return a CPU quantity in millicores, rounded up as the kubelet does."""
    value = parse(text) * 1000
    return int(value) + (value != int(value))


def mebibytes(text: str | float) -> float:
    """Return a memory quantity in MiB."""
    return float(parse(text) / 2**20)
