"""How much KV state a batch has, and how much of it counters and interfaces show. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kar_checks.checks.disaggregation.observation import Batch, DisaggregationObservation
from kar_checks.model import Fact

Amounts = dict[str, float | None]
"""Bytes by who counted them; ``None`` where a counter or an interface was not read."""


@dataclass(frozen=True)
class Moved:
    """The state of one batch: its size, and what was counted of it."""

    tokens: int
    token_bytes: int
    counted: Amounts
    """By the counters of both servers."""
    carried: Amounts
    """By the kernel's counters on the interfaces of both pods."""

    @classmethod
    def of(cls, seen: DisaggregationObservation, batch: Batch) -> Moved:
        """Add up what was counted around a batch."""
        counters = batch.counters
        return cls(
            tokens=sum(one.tokens for one in batch.requests),
            token_bytes=seen.shape.token_bytes,
            counted={
                "decode received, by its counter": summed(one.received for one in counters),
                "prefill sent, by its counter": summed(one.sent for one in counters),
            },
            carried={
                f"interfaces of {part} {direction}, by the kernel": summed(
                    float(getattr(one, direction))
                    for one in batch.interfaces
                    if one.part == part and seen.interface in ("", one.device)
                )
                for part, direction in (("decode", "received"), ("prefill", "sent"))
            },
        )

    @property
    def size(self) -> int:
        """Bytes of the state of all requests that were sent."""
        return self.tokens * self.token_bytes

    @property
    def known(self) -> dict[str, float]:
        """What was read, counters first."""
        found = {**self.counted, **self.carried}
        return {name: amount for name, amount in found.items() if amount is not None}

    @property
    def unread(self) -> list[str]:
        """Counters and interfaces that were not read."""
        found = {**self.counted, **self.carried}
        return [name for name, amount in found.items() if amount is None]

    @property
    def facts(self) -> list[Fact]:
        """The size, and each amount beside it."""
        source = (
            f"{self.tokens} tokens of {self.token_bytes // 1024} KiB: 2 x layers x KV heads x head "
            "dimension x bytes per number"
        )
        return [
            Fact(name="size of the KV state", value=mib(self.size), source=source),
            *(
                Fact(
                    name=name,
                    value="missing" if amount is None else mib(amount),
                    expected=mib(self.size),
                )
                for name, amount in {**self.counted, **self.carried}.items()
            ),
        ]


def summed(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known, ``None`` if nothing is."""
    known = [one for one in values if one is not None]
    return sum(known) if known else None


def mib(size: float) -> str:
    """Return a number of bytes for people."""
    return f"{size / 2**20:,.0f} MiB"
