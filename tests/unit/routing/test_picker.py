"""The picker's own count of its picks, as it tells it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kar_checks.checks.routing.picker import Picker
from kar_checks.kit.http_testbed.site import Site

_COUNTED = """\
# TYPE inference_extension_scheduler_attempts_total counter
inference_extension_scheduler_attempts_total{status="failure",target_model_name="m"} 3
inference_extension_scheduler_attempts_total{status="success",target_model_name="m"} 150
inference_extension_scheduler_attempts_total{status="success",target_model_name="n"} 1.2e+01
"""
_NOT_YET = "inference_extension_scheduler_e2e_duration_seconds_count 0\n"


class Told:
    """A site whose client gets this answer from the picker."""

    def __init__(self, status: int, text: str) -> None:
        self.answer = [status, text]

    def do(self, task: dict[str, Any], *, inside: bool) -> dict[str, Any]:
        assert inside
        assert task["targets"] == [["192.0.2.9", 9090, "GET", "/metrics", ""]]
        return {"answers": [self.answer]}


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, _COUNTED, 162),
        (200, _NOT_YET, 0),
        (200, "process_cpu_seconds_total 1\n", None),
        (401, _COUNTED, None),
        (0, "ConnectionRefusedError", None),
    ],
)
def test_a_count_that_is_missing_is_no_zero(status: int, text: str, expected: int | None) -> None:
    picker = Picker(name="p", address="192.0.2.9", declares_prefix=True, declares_adapters=True)
    assert picker.decisions(cast("Site", Told(status, text))) == expected
