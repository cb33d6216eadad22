"""First process of a container whose resources change: says what the kernel says, and who it is.

``serve SOCKET``  (as PID 1) keeps what it is told in memory, watches the kernel's files and prints
                  a JSON line at its start and at each change. SIGTERM ends it at once (code 143).
``ask SOCKET JSON``  prints PID 1's answer. The JSON may hold ``keep`` (a text to remember; only
                  the first one counts), ``nonce`` (proved by a keyed hash of it under the kept
                  text, which a process started later cannot do), ``since`` (the start time of a
                  first process and how many of its changes are known) and ``work``.

``work`` is done by a child of PID 1, so that it is limited by whatever limits PID 1 and not by
what the runtime gives to a new process of the container:

``{"do": "burn", "seconds": 1}``  a busy loop on the idlest CPU
``{"do": "spin", "seconds": 1, "cpu": 3}``  a busy loop on one CPU, with its CPU time on the way;
                  it ends early when ``{"do": "stop"}`` says so
``{"do": "fill", "bytes": 1, "enough": 1, "how": "hole", "linger": 1}``  page cache: a file is read;
                  ``how`` is ``written`` if its bytes must be real, or empty to write them only if
                  the usage stays below ``enough``; it stays for some seconds after the answer
``{"do": "usage"}``  the container's memory usage now
``{"do": "pick"}``  the CPUs that PID 1 may use, and which of them is the idlest

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.15
CONNECT_SECONDS = 15.0
STOPPED = 143
PICK_SECONDS = 0.2
SAMPLE_SECONDS = 0.05
MOST_CHANGES = 2000
BLOCK = 1 << 20
UNRECLAIMABLE = {"tmpfs", "ramfs", "hugetlbfs"}
"""File systems whose pages are charged, but cannot be reclaimed: filling them would kill."""

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
        """Return what resources are set to; a file that cannot be read is missing.

        The files are not written at one moment: what is read twice the same is no mixture.
        """
        names = V1_VALUES if self.version == "v1" else V2_VALUES
        found = self._read(names)
        for _ in range(3):
            again = self._read(names)
            if again == found:
                break
            found = again
        return found

    def high(self) -> int | None:
        """Return the usage from which version 2 reclaims (``memory.high``), if there is one."""
        near = self._files.get("memory.max")
        text = read(str(Path(near).with_name("memory.high"))) if near else None
        return int(text) if text is not None and text.isdigit() else None

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
        if len(self.changes) < MOST_CHANGES:
            self.changes.append((time.monotonic(), values))
        return True

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return everything that PID 1 knows, and the changes that are new to who asks.

        Changes are kept: an answer that is lost on its way is asked for again.
        """
        self.kept = self.kept or str(question.get("keep", ""))
        self.look()
        started, known = question.get("since", (0, 0))
        nonce = str(question.get("nonce", ""))
        return {
            "now": time.time(),
            "clock": time.monotonic(),
            "pid": os.getpid(),
            "started": self.started,
            "proof": prove(self.kept, nonce) if self.kept and nonce else "",
            "version": self.kernel.version,
            "page": os.sysconf("SC_PAGE_SIZE"),
            "values": self.values,
            "counters": self.kernel.counters(),
            "changes": self.changes[known if started == self.started else 0 :],
        }


def serve(path: str) -> None:
    """Answer questions and watch the kernel's files for ever."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(STOPPED))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children that work
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
                _serve_one(talk, keeper, path)
            if keeper.look():
                _say({"event": "changed", "values": keeper.values})


def _serve_one(talk: socket.socket, keeper: Keeper, path: str) -> None:
    with talk:
        talk.settimeout(2)
        try:
            with talk.makefile("rw", encoding="utf-8") as stream:
                question = json.loads(stream.readline())
                if "work" not in question:
                    stream.write(json.dumps(keeper.answer(question)) + "\n")
                elif os.fork() == 0:
                    _child(stream, question["work"], path)
        except (OSError, ValueError) as error:
            _say({"event": "bad question", "error": str(error)})


def _child(stream: Any, wanted: dict[str, Any], path: str) -> None:
    """Work and end: a child must never go on as if it were the first process."""
    try:
        try:
            done = work(wanted, path)
        except Exception as error:
            done = {"error": repr(error)}  # whatever it was, the caller reads it
        stream.write(json.dumps(done) + "\n")
        stream.flush()
        if "until" in done:
            stream.close()
            time.sleep(max(0.0, done["until"] - time.monotonic()))
    finally:
        os._exit(0)


def _say(line: dict[str, Any]) -> None:
    print(json.dumps({"at": time.time(), **line}), flush=True)


def ask(path: str, question: dict[str, Any]) -> dict[str, Any]:
    """Ask PID 1, after the work that the question wants.

    Raises:
        OSError: nobody answered in time.
    """
    wanted = question.pop("work", None)
    done = {}
    if wanted:
        done = _talk(path, {"work": wanted}, CONNECT_SECONDS + float(wanted.get("seconds", 0)))
    return {**_talk(path, question, CONNECT_SECONDS), "work": done}


def _talk(path: str, question: dict[str, Any], seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as talk:
                talk.settimeout(seconds)
                talk.connect(path)
                with talk.makefile("rw", encoding="utf-8") as stream:
                    stream.write(json.dumps(question) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = json.loads(stream.readline())
                    return answer
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def work(wanted: dict[str, Any], path: str) -> dict[str, Any]:
    """Do what is wanted, see the top of the file; ``path`` is the socket, files are beside it."""
    kernel, what = Kernel.here(), wanted["do"]
    seconds = float(wanted.get("seconds", 0))
    stop = Path(f"{path}.stop")
    if what == "pick":
        return {"cpus": sorted(os.sched_getaffinity(0)), "cpu": pick()}
    if what == "burn":
        return burn(kernel, seconds)
    if what == "spin":
        stop.unlink(missing_ok=True)
        return spin(kernel, seconds, int(wanted["cpu"]), stop)
    if what == "stop":
        stop.touch()
        return {}
    if what == "usage":
        return {"clock": time.monotonic(), "usage": kernel.counters().get("memory_bytes")}
    return fill(
        kernel,
        f"{path}.fill",
        int(wanted["bytes"]),
        int(wanted["enough"]),
        how=str(wanted.get("how", "")),
        linger=float(wanted.get("linger", 0)),
    )


def idle_seconds(stat: str, cpu: int) -> float | None:
    """Return how long a CPU has had nothing to do, by the text of ``/proc/stat``."""
    for line in stat.splitlines():
        name, *numbers = line.split()
        if name == f"cpu{cpu}":
            return (int(numbers[3]) + int(numbers[4])) / os.sysconf("SC_CLK_TCK")
    return None


def stat_text(mountinfo: str | None = None) -> str:
    """Return ``/proc/stat``, or nothing where something else has been mounted over it."""
    lines = (mountinfo or read("/proc/self/mountinfo") or "").splitlines()
    if any(line.split()[4] == "/proc/stat" for line in lines):
        return ""
    return read("/proc/stat") or ""


def pick() -> int:
    """Return the CPU, of those that this process may use, that was idle for longest just now."""
    allowed = sorted(os.sched_getaffinity(0))
    before = stat_text()
    time.sleep(PICK_SECONDS)
    after = stat_text()

    def rested(cpu: int) -> float:
        return (idle_seconds(after, cpu) or 0) - (idle_seconds(before, cpu) or 0)

    return max(allowed, key=rested)


def burn(kernel: Kernel, seconds: float) -> dict[str, Any]:
    """Spin on the idlest CPU; returns wall time, CPU time, and how long that CPU was idle."""
    cpu = pick()
    os.sched_setaffinity(0, {cpu})
    before, idle = kernel.counters(), idle_seconds(stat_text(), cpu)
    used, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < seconds:
        pass
    took, used = time.monotonic() - began, time.process_time() - used
    later, after = idle_seconds(stat_text(), cpu), kernel.counters()
    rested = None if idle is None or later is None else max(0.0, later - idle)
    return {
        "cpu": cpu,
        "seconds": took,
        "used": used,
        "idle": rested,
        **{one: float(after[one] - before[one]) for one in before if one in after},
    }


def spin(kernel: Kernel, seconds: float, cpu: int, stop: Path) -> dict[str, Any]:
    """Spin on one CPU; returns (monotonic time, CPU time) and throttling on the way."""
    os.sched_setaffinity(0, {cpu})
    began = time.monotonic()
    samples: list[tuple[float, float]] = []
    periods: list[tuple[float, int, int]] = []

    def note() -> None:
        now = round(time.monotonic(), 4)
        samples.append((now, round(time.process_time(), 5)))
        seen = kernel.counters()
        if "nr_throttled" in seen:
            periods.append((now, seen["nr_periods"], seen["nr_throttled"]))

    due = began
    while (now := time.monotonic()) - began < seconds:
        if now >= due:
            note()
            due = now + SAMPLE_SECONDS
            if stop.exists():
                break
    note()
    return {"cpu": cpu, "samples": samples, "periods": periods}


def file_system(mountinfo: str, path: str) -> str:
    """Return the type of the file system that a path is on."""
    best, found = "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        target = before.split()[4]
        inside = path == target or path.startswith(target.rstrip("/") + "/")
        if inside and len(target) >= len(best):
            best, found = target, after.split()[0]
    return found


def fill(
    kernel: Kernel, path: str, size: int, enough: int, *, how: str, linger: float
) -> dict[str, Any]:
    """Fill the page cache with a file; returns usage on the way.

    A hole is read like any file: its pages are charged, and nothing goes to the disk. Where that
    charges nothing the file is written, if its pages can be reclaimed there. The pages go with
    this process, which has the only name of the file.
    """
    kind = file_system(read("/proc/self/mountinfo") or "", path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    Path(path).unlink()
    samples: list[tuple[float, int]] = []
    os.ftruncate(handle, size)
    possible = kind not in UNRECLAIMABLE
    written = how == "written" and possible
    if not written:
        _through(kernel, handle, size, samples)
        written = how == "" and possible and max(usage for _, usage in samples) < enough
    if written:
        block = os.urandom(BLOCK)
        for offset in range(0, size, BLOCK):
            os.pwrite(handle, block[: size - offset], offset)
        _through(kernel, handle, size, samples)
    return {
        "bytes": size,
        "how": "written" if written else "hole",
        "file_system": kind,
        "high": kernel.high(),
        "available": available((read("/proc/meminfo") or "").splitlines()),
        "samples": samples,
        "until": time.monotonic() + linger,
    }


def available(meminfo: Iterable[str]) -> int | None:
    """Return the bytes that the machine can give without swapping (``MemAvailable``)."""
    found = [line.split()[1] for line in meminfo if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _through(kernel: Kernel, handle: int, size: int, samples: list[tuple[float, int]]) -> None:
    block = bytearray(BLOCK)
    for offset in range(0, size, BLOCK):
        os.preadv(handle, [block], offset)
        if not samples or time.monotonic() - samples[-1][0] >= SAMPLE_SECONDS:
            _sample(kernel, samples)
    _sample(kernel, samples)


def _sample(kernel: Kernel, samples: list[tuple[float, int]]) -> None:
    usage = kernel.counters().get("memory_bytes")
    if usage is None:
        raise OSError("the container's memory usage cannot be read")
    samples.append((round(time.monotonic(), 4), usage))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(ask(sys.argv[2], json.loads(sys.argv[3]))))
