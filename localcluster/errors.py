"""The one exception that the local cluster raises on purpose."""

from pathlib import Path


class ClusterError(Exception):
    """One sentence about what failed, and the log that shows why."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (log: {self.log})" if self.log else message


class TimedOutError(ClusterError):
    """A program that did not end in time; on a busy machine it may at the next try."""
