"""Stage lines with elapsed seconds on standard error, and one line with the time that is left."""

import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster.estimate import Forecast, in_words

# How often the line of what is going on is shown: in place on a terminal, otherwise as a new one.
TERMINAL_SECONDS = 2.0
LINE_SECONDS = 30.0
#: From then on there is time for a suggestion.
SUGGESTION_SECONDS = 60.0
_ERASE = "\r\x1b[K"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Step:
    """Something that takes long and is going on.

    `pid` is its process, once it has one, `cpu_seconds` what that used, once it has ended.
    """

    name: str
    begin: float
    pid: int | None = None
    cpu_seconds: float | None = None


class Progress:
    """Prints what is being done, how long it has taken so far, and how long it will take."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._start = time.monotonic()
        self._quiet = quiet
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._ticker: threading.Thread | None = None
        self._terminal = sys.stderr.isatty()
        self._forecast: Forecast | None = None
        self._forecast_begin = 0.0
        self._suggestion = ""

    @property
    def elapsed(self) -> float:
        """Seconds since this progress began."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        with self._lock:
            erase = _ERASE if self._terminal else ""
            print(f"{erase}[{self.elapsed:6.1f}s] {text}", file=sys.stderr, flush=True)

    def foretell(self, forecast: Forecast, suggestion: str) -> None:
        """Show the time left from now on, and once a suggestion of what to do until then."""
        self._forecast, self._forecast_begin = forecast, time.monotonic()
        self._suggestion = suggestion

    @contextmanager
    def heartbeat(self, text: str, name: str | None = None) -> Generator[Step]:
        """Show that a long step is going on, and how long it took.

        One line serves all steps at a time. A step with a `name` belongs to the forecast.
        """
        step = Step(name or text, time.monotonic())
        if name is None:
            self.say(text)
        with self._lock:
            self._steps.append(step)
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()
        try:
            yield step
        finally:
            with self._lock:
                self._steps.remove(step)
        took = f"{time.monotonic() - step.begin:.1f} s"
        if step.cpu_seconds is not None:
            took += f", {step.cpu_seconds:.0f} CPU seconds"
            if self._forecast:
                self._forecast.done[step.name] = step.cpu_seconds
        self.say(f"{text}: done in {took}")

    def _tick(self) -> None:
        shown = time.monotonic()
        while True:
            time.sleep(TERMINAL_SECONDS)
            with self._lock:
                steps = list(self._steps)
                if not steps:
                    self._ticker = None
                    return
            if self._suggestion and self.elapsed > SUGGESTION_SECONDS:
                self.say(self._suggestion)
                self._suggestion = ""
            if self._terminal:
                self._show_in_place(self._line(steps))
            elif time.monotonic() - shown >= LINE_SECONDS:
                shown = time.monotonic()
                self.say(self._line(steps))

    def _line(self, steps: list[Step]) -> str:
        names = ", ".join(step.name for step in steps)
        if self._forecast is None:
            longest = time.monotonic() - min(step.begin for step in steps)
            return f"{names}: still at it after {longest:.0f} s"
        used = {step.name: processor_seconds(step.pid) for step in steps if step.pid}
        left = self._forecast.seconds_left(used, time.monotonic() - self._forecast_begin)
        counts = f"{len(self._forecast.done)} of {len(self._forecast.weights)} built"
        return f"about {in_words(left)} until the cluster is ready ({counts}; now {names})"

    def _show_in_place(self, text: str) -> None:
        if self._quiet:
            return
        with self._lock:
            line = f"[{self.elapsed:6.1f}s] {text}"
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print(f"{_ERASE}{line[: width - 1]}", end="", file=sys.stderr, flush=True)


def processor_seconds(pid: int, proc: Path = Path("/proc")) -> float:
    """The processor seconds of a process and of all below it, ended ones included."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for stat in proc.glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            # It ended meanwhile.
            continue
        # The name in parentheses may contain anything, spaces and parentheses too.
        fields = text.rpartition(")")[2].split()
        one = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(one)
        ticks[one] = sum(int(field) for field in fields[11:15])
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += ticks.get(one, 0)
        waiting += children.get(one, [])
    return total / _TICKS
