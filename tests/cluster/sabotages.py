"""The list of sabotages; the catalogue of checks is made from it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

FILE = Path(__file__).with_name("sabotages.yaml")


def rows() -> list[dict[str, Any]]:
    """Return the rows: check, injection, outcome, reason, and the variant where there is one."""
    return cast("list[dict[str, Any]]", yaml.safe_load(FILE.read_text("utf-8")))
