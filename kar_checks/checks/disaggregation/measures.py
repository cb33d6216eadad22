"""What runs are compared by: how fast the KV state moves, and how long an answer takes."""

from __future__ import annotations

from kar_checks.checks.disaggregation.observation import Batch
from kar_checks.model import Fault, Measure


def of(main: Batch | Fault | None) -> list[Measure]:
    """Return the measures of the batch that everything is claimed of; right answers count."""
    right = [one for one in main.requests if one.right] if isinstance(main, Batch) else []
    found = [
        Measure(
            name="KV state moves from prefill to decode",
            unit="MiB/s",
            better="higher",
            samples=[
                line.bytes / 2**20 / line.transfer_seconds
                for one in right
                for line in one.of("decode")
                if line.bytes and line.transfer_seconds > 0
            ],
            how="bytes and seconds that decode logs for a request, one sample for each",
        ),
        Measure(
            name="a request is answered",
            unit="s",
            better="lower",
            samples=[one.seconds for one in right],
            how="at the client, through router, prefill and decode; one sample for each",
        ),
    ]
    return [one for one in found if one.samples]
