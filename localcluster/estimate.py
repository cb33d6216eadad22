"""How long it will take until everything is built and runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: From the last program to a ready cluster: images, start, add-ons.
START_SECONDS = 60.0
# A build that took what was foretold still has something to do, mostly to link.
_LEAST_LEFT = 0.05
# Until this has been used, the rate is a guess.
_FIRST_SECONDS = 20.0
# Builds that are done correct the forecast of the others, within limits.
_ENOUGH_DONE = 60.0
_CORRECTION = (0.3, 3.0)


@dataclass
class Forecast:
    """What is still to be built, in processor seconds, and what has been used so far."""

    weights: Mapping[str, float]
    cores: int
    done: dict[str, float] = field(default_factory=dict[str, float])

    def seconds_left(self, running: Mapping[str, float], elapsed: float) -> float:
        """Seconds until the cluster is ready.

        `running` has the processor seconds that each build in progress has used, `elapsed` the
        seconds since the first one began.
        """
        correction = self._correction()
        left = 0.0
        for name, weight in self.weights.items():
            if name not in self.done:
                expected = weight * correction
                left += max(expected - running.get(name, 0.0), expected * _LEAST_LEFT)
        return left / self._rate(running, elapsed) + START_SECONDS

    def _correction(self) -> float:
        foretold = sum(self.weights.get(name, 0.0) for name in self.done)
        if foretold < _ENOUGH_DONE:
            return 1.0
        least, most = _CORRECTION
        return min(max(sum(self.done.values()) / foretold, least), most)

    def _rate(self, running: Mapping[str, float], elapsed: float) -> float:
        """Processor seconds per second: what this machine has given so far."""
        used = sum(running.values()) + sum(self.done.values())
        if used < _FIRST_SECONDS or elapsed <= 0:
            return self.cores * 0.9
        return min(max(used / elapsed, 0.2), float(self.cores))


def in_words(seconds: float) -> str:
    """A duration as precise as an estimate can be."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min"
