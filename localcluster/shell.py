"""Running other programs and turning their failure into one sentence."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.errors import ClusterError, TimedOutError


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with its output captured."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as missing:
        raise ClusterError(f"the program {words[0]!r} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise TimedOutError(f"`{' '.join(words)}` did not end within {timeout:.0f} s") from late
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise ClusterError(f"`{' '.join(words)}` failed: {reason}")
    return done


def answer(argv: Sequence[str | Path], timeout: float = 10) -> str | None:
    """What a program prints, for a question that is asked again; nothing if it fails or is late."""
    try:
        done = run(argv, check=False, timeout=timeout)
    except TimedOutError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
