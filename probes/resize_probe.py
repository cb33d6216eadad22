"""First process of a container whose resources change: says what the kernel says, and who it is.

``serve SOCKET``  (as PID 1) keeps what it is told in memory, watches the kernel's files and prints
                  a JSON line at its start and at each change. SIGTERM ends it at once (code 143).
``ask SOCKET JSON``  prints PID 1's answer. The JSON may hold ``keep`` (a text to remember; only
                  the first one counts), ``nonce`` (proved by a keyed hash of it under the kept
                  text, which a process started later cannot do) and ``burn`` (seconds of a busy
                  loop in this container, measured by the kernel's own counters).

Only the standard library; the kernel's files are read as they are and not interpreted.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.15
CONNECT_SECONDS = 15.0
STOPPED = 143

V2_VALUES = ("cpu.max", "cpu.weight", "memory.max")
V2_COUNTERS = ("cpu.stat", "memory.current")
V1_VALUES = {
    "cpu.cfs_quota_us": "cpu",
    "cpu.cfs_period_us": "cpu",
    "cpu.shares": "cpu",
    "memory.limit_in_bytes": "memory",
}
V1_COUNTERS = {"cpu.stat": "cpu", "cpuacct.usage": "cpuacct", "memory.usage_in_bytes": "memory"}


def find_files(
    mountinfo: str, own: str, exists: Callable[[str], bool]
) -> tuple[str, dict[str, str]]:
    """Return the version of the control groups and the path of each file that is there.

    ``mountinfo`` and ``own`` are the texts of ``/proc/self/mountinfo`` and ``/proc/self/cgroup``.
    Version 1 counts if it has the CPU controller, also when version 2 is mounted beside it.
    """
    mounts: dict[str, str] = {}
    unified = ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        target, kind = before.split()[4], after.split()[0]
        if kind == "cgroup2":
            unified = unified or target
        elif kind == "cgroup":
            for name in after.split()[2].split(","):
                mounts.setdefault(name, target)
    places: dict[str, str] = {}
    for line in own.splitlines():
        _, names, place = line.split(":", 2)
        for name in names.split(","):
            places[name] = place.rstrip("/")
    if "cpu" in mounts:
        wanted = {**V1_VALUES, **V1_COUNTERS}
        version, pairs = (
            "v1",
            [(f, mounts.get(c, ""), places.get(c, "")) for f, c in wanted.items()],
        )
    elif unified:
        version = "v2"
        pairs = [(f, unified, places.get("", "")) for f in (*V2_VALUES, *V2_COUNTERS)]
    else:
        return "", {}
    found: dict[str, str] = {}
    for file, mount, place in pairs:
        for path in (f"{mount}{place}/{file}", f"{mount}/{file}"):
            if mount and exists(path):
                found[file] = path
                break
    return version, found


def read(path: str) -> str | None:
    """Return a file's text, ``None`` if it cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


class Kernel:
    """The kernel's files about this container."""

    def __init__(self, version: str, files: dict[str, str]) -> None:
        self.version = version
        self._files = files

    @classmethod
    def here(cls) -> Kernel:
        """Find the files of the container that this process runs in."""
        texts = (read("/proc/self/mountinfo") or "", read("/proc/self/cgroup") or "")
        return cls(*find_files(*texts, lambda path: Path(path).exists()))

    def values(self) -> dict[str, str]:
        """Return what resources are set to; a file that cannot be read is missing."""
        return self._read(V1_VALUES if self.version == "v1" else V2_VALUES)

    def counters(self) -> dict[str, int]:
        """Return usage: ``nr_periods``, ``nr_throttled``, ``usage_ns``, ``memory_bytes``."""
        texts = self._read(V1_COUNTERS if self.version == "v1" else V2_COUNTERS)
        stat = dict(line.split() for line in texts.get("cpu.stat", "").splitlines())
        found = {
            "nr_periods": stat.get("nr_periods"),
            "nr_throttled": stat.get("nr_throttled"),
            "usage_ns": texts.get("cpuacct.usage"),
            "memory_bytes": texts.get("memory.usage_in_bytes") or texts.get("memory.current"),
        }
        if "usage_usec" in stat:
            found["usage_ns"] = str(int(stat["usage_usec"]) * 1000)
        return {name: int(value) for name, value in found.items() if value is not None}

    def _read(self, names: Any) -> dict[str, str]:
        texts = {name: read(self._files[name]) for name in names if name in self._files}
        return {name: text for name, text in texts.items() if text is not None}


def start_time(stat: str) -> int:
    """Return field 22 of ``/proc/PID/stat``: clock ticks after boot."""
    return int(stat.rpartition(")")[2].split()[19])


def prove(kept: str, nonce: str) -> str:
    """Return the keyed hash that only a process with ``kept`` in its memory can give."""
    return hashlib.blake2b(nonce.encode(), key=kept.encode()[:64], digest_size=16).hexdigest()


class Keeper:
    """What PID 1 remembers."""

    def __init__(self, kernel: Kernel, stat: str) -> None:
        self.kept = ""
        self.started = start_time(stat)
        self.kernel = kernel
        self.values: dict[str, str] = {}
        self.changes: list[tuple[float, dict[str, str]]] = []

    def look(self) -> bool:
        """Read the kernel's values; returns whether they changed."""
        values = self.kernel.values()
        if values == self.values:
            return False
        self.values = values
        self.changes.append((time.time(), values))
        return True

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return everything that PID 1 knows, and the changes since it was last asked."""
        self.kept = self.kept or str(question.get("keep", ""))
        self.look()
        changes, self.changes = self.changes, []
        nonce = str(question.get("nonce", ""))
        return {
            "now": time.time(),
            "pid": os.getpid(),
            "started": self.started,
            "proof": prove(self.kept, nonce) if self.kept and nonce else "",
            "version": self.kernel.version,
            "page": os.sysconf("SC_PAGE_SIZE"),
            "values": self.values,
            "counters": self.kernel.counters(),
            "changes": changes,
        }


def serve(path: str) -> None:
    """Answer questions and watch the kernel's files for ever."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(STOPPED))
    keeper = Keeper(Kernel.here(), read("/proc/self/stat") or "")
    keeper.look()
    _say({"event": "started", "started": keeper.started, "values": keeper.values})
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        door.settimeout(POLL_SECONDS)
        while True:
            try:
                talk, _ = door.accept()
            except TimeoutError:
                pass
            else:
                _serve_one(talk, keeper)
            if keeper.look():
                _say({"event": "changed", "values": keeper.values})


def _serve_one(talk: socket.socket, keeper: Keeper) -> None:
    with talk:
        talk.settimeout(2)
        try:
            with talk.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps(keeper.answer(json.loads(stream.readline()))) + "\n")
        except (OSError, ValueError) as error:
            _say({"event": "bad question", "error": str(error)})


def _say(line: dict[str, Any]) -> None:
    print(json.dumps({"at": time.time(), **line}), flush=True)


def ask(path: str, question: dict[str, Any]) -> dict[str, Any]:
    """Ask PID 1, after a busy loop if the question wants one.

    Raises:
        OSError: nobody answered in time.
    """
    seconds = float(question.get("burn", 0))
    burned = _burn(seconds) if seconds else {}
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as talk:
                talk.settimeout(CONNECT_SECONDS)
                talk.connect(path)
                with talk.makefile("rw", encoding="utf-8") as stream:
                    stream.write(json.dumps(question) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = json.loads(stream.readline())
                    return {**answer, "burned": burned}
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _burn(seconds: float) -> dict[str, float]:
    """Spin, and return by how much the container's counters grew (``seconds`` is wall time)."""
    kernel = Kernel.here()
    before, began = kernel.counters(), time.monotonic()
    while time.monotonic() - began < seconds:
        pass
    after, took = kernel.counters(), time.monotonic() - began
    grown = {name: after[name] - before[name] for name in before if name in after}
    return {"seconds": took, **{name: float(value) for name, value in grown.items()}}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(ask(sys.argv[2], json.loads(sys.argv[3]))))
