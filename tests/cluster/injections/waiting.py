"""Waiting until a sabotage is in effect, or undone."""

from __future__ import annotations

import time
from collections.abc import Callable

_POLL_SECONDS = 0.2


def wait(what: str, done: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it was not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
