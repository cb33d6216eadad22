"""YAML files of ours, read by libyaml where PyYAML has it: about eight times as fast.

What a user wrote is read by ``yaml.safe_load``, whose errors are told in more words.
"""

from __future__ import annotations

from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """Return the content of one YAML document."""
    return yaml.load(text, _LOADER)  # noqa: S506 - either loader is a safe one
