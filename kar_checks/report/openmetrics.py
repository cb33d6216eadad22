"""OpenMetrics text: gauges without times, as the textfile collector wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kar_checks import words

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True)
class Family:
    """A gauge with its samples: labels and value. One without samples is left out."""

    name: str
    about: str
    samples: Sequence[tuple[dict[str, str], float]]


def text(families: Sequence[Family]) -> str:
    """Return the families as a whole exposition."""
    out: list[str] = []
    for one in families:
        if one.samples:
            out.extend((f"# HELP {one.name} {one.about}", f"# TYPE {one.name} gauge"))
            out.extend(f"{one.name}{_labels(more)} {value!r}" for more, value in one.samples)
    return "\n".join([*out, "# EOF"]) + "\n"


def _labels(given: dict[str, str]) -> str:
    def quoted(value: str) -> str:
        return words.safe(value, 300).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    return "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in given.items()) + "}"
