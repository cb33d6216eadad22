"""What the cluster's caches hold on the disk, and giving back what later starts do not need."""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from localcluster.errors import ClusterError
from localcluster.gobuild import GoBuild, go_environment
from localcluster.paths import cache, private_file, private_folder

_IMAGE = re.compile(r"(?P<label>.+)-[0-9a-f]{12}\.tar")


@dataclass(frozen=True)
class Spent:
    """What the last build took: when it ended (seconds since 1970), how long, and its disk."""

    ended: float
    seconds: float
    bytes: int


_SPENT = TypeAdapter(Spent)


def size(folder: Path) -> int:
    """The bytes of disk that a folder takes; a file that is linked twice counts twice."""
    total = 0
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            try:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:
                # Whoever wrote it has moved it.
                continue
    return total


def _go_caches() -> tuple[Path, Path]:
    """Go's caches of compiled packages and of modules that builds use."""
    environment = go_environment()
    return Path(environment["GOCACHE"]), Path(environment["GOMODCACHE"])


def has_compiled() -> bool:
    """Whether Go's cache has compiled packages that a build could share."""
    compiled, _ = _go_caches()
    return (compiled / "00").is_dir()


def _held() -> int:
    """The bytes in everything that a build may fill."""
    others = [one for one in _go_caches() if not one.is_relative_to(cache())]
    return sum(size(one) for one in (cache(), *others))


@contextmanager
def _lock(kind: int) -> Generator[None]:
    home = private_folder(cache())
    descriptor = os.open(home / "building.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def spent(missing: Sequence[GoBuild]) -> Generator[None]:
    """Record what building takes; nothing may be given back meanwhile."""
    with _lock(fcntl.LOCK_SH):
        if not missing:
            yield
            return
        begin, before = time.monotonic(), _held()
        yield
        took = Spent(time.time(), time.monotonic() - begin, max(0, _held() - before))
        private_file(cache() / "last-build.json", json.dumps(asdict(took)))


def last_build(since: float) -> Spent | None:
    """What the last build took, if it ended after this moment (seconds since 1970)."""
    try:
        found = _SPENT.validate_json((cache() / "last-build.json").read_text())
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.ended >= since else None


def summary(since: float, now: float) -> str:
    """How long everything since a moment took, and what disk building took in it."""
    text = f"took {(now - since) / 60:.1f} minutes"
    built = last_build(since)
    if built:
        text += (
            f", {built.seconds / 60:.1f} of them to build; that took {built.bytes / 1e9:.1f} GB of "
            "disk (`kar cluster prune` gives back what later starts do not need)"
        )
    return text


def prune(programs: Iterable[Path] | None, used: Iterable[Path]) -> dict[str, int]:
    """Remove what later starts do not need; returns the bytes given back, by what they were.

    `programs` are the folders of programs that this version asks for (without them all are kept),
    `used` those of the running cluster. Caches of Go outside of the cluster's own are not touched.
    """
    try:
        with _lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            return {
                what: bytes_
                for what, folders in _superfluous(programs, used).items()
                if (bytes_ := sum(_remove(folder) for folder in folders))
            }
    except BlockingIOError:
        raise ClusterError("something is being built; wait for its end") from None


def _superfluous(programs: Iterable[Path] | None, used: Iterable[Path]) -> dict[str, list[Path]]:
    compiled, modules = ([one] if one.is_relative_to(cache()) else [] for one in _go_caches())
    home = cache() / "go"
    kept = None if programs is None else {*programs, *used}
    built = [one for one in home.glob("*-*") if one.is_dir() and not one.name.startswith(".")]
    return {
        "compiled packages": compiled,
        "Go modules": modules,
        "programs of other versions": [
            one for one in built if kept is not None and one not in kept
        ],
        "images of other versions": _older_images(cache() / "images"),
        "unfinished work": [*home.glob(".build-*"), *(cache() / "upstream").glob(".copy-*")],
    }


def _older_images(home: Path) -> list[Path]:
    """All images but the newest one of each name."""
    newest: dict[str, Path] = {}
    older: list[Path] = []
    for image in sorted(home.glob("*.tar"), key=lambda one: one.stat().st_mtime):
        if match := _IMAGE.fullmatch(image.name):
            if match["label"] in newest:
                older.append(newest[match["label"]])
            newest[match["label"]] = image
    return older


def _remove(path: Path) -> int:
    """Remove a file or folder; returns the bytes that it had."""
    if path.is_dir():
        found = size(path)
        shutil.rmtree(path)
        return found
    if not path.exists():
        return 0
    found = path.stat().st_blocks * 512
    path.unlink()
    return found
