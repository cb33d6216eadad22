"""Stage lines with elapsed seconds on standard error."""

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 10.0


class Progress:
    """Prints what is being done and how long it has taken so far."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._start = time.monotonic()
        self._quiet = quiet
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """Seconds since this progress began."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        with self._lock:
            print(f"[{self.elapsed:6.1f}s] {text}", file=sys.stderr, flush=True)

    @contextmanager
    def heartbeat(self, text: str) -> Generator[None]:
        """Announce a long step, repeat that it is alive, and say how long it took."""
        self.say(text)
        begin = time.monotonic()
        done = threading.Event()

        def beat() -> None:
            while not done.wait(HEARTBEAT_SECONDS):
                self.say(f"{text}: still at it after {time.monotonic() - begin:.0f} s")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        self.say(f"{text}: done in {time.monotonic() - begin:.1f} s")
