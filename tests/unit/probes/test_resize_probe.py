"""The resize probe: as a real process, and its reading of both versions of control groups."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[3] / "probes" / "resize_probe.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("resize_probe", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


probe: Any = _load()
Process = subprocess.Popen[str]


def run(*words: str) -> Process:
    argv = [sys.executable, "-I", "-S", str(FILE), *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def door(tmp_path: Path) -> str:
    return str(tmp_path / "door")


@pytest.fixture
def first(door: str) -> Iterator[Process]:
    process = run("serve", door)
    yield process
    process.kill()
    process.wait()


def ask(door: str, **question: Any) -> dict[str, Any]:
    out, _ = run("ask", door, json.dumps(question)).communicate(timeout=60)
    said: dict[str, Any] = json.loads(out)
    return said


def proof(kept: str, nonce: str) -> str:
    return hashlib.blake2b(nonce.encode(), key=kept.encode(), digest_size=16).hexdigest()


def test_it_remembers_the_first_text_only(first: Process, door: str) -> None:
    assert ask(door, nonce="a", keep="one")["proof"] == proof("one", "a")
    assert ask(door, nonce="b", keep="two")["proof"] == proof("one", "b")
    assert ask(door)["started"] == ask(door)["started"]


def test_a_later_process_cannot_prove_it(first: Process, door: str) -> None:
    before = ask(door, nonce="a", keep="one")
    first.kill()
    first.wait()
    second = run("serve", door)
    try:
        after = ask(door, nonce="b")
        assert after["proof"] == ""
        assert after["pid"] != before["pid"]
    finally:
        second.kill()
        second.wait()


def test_it_says_that_it_started_and_ends_at_once_when_asked(first: Process, door: str) -> None:
    ask(door)
    first.send_signal(signal.SIGTERM)
    assert first.wait(2) == 143
    assert first.stdout is not None
    assert json.loads(first.stdout.readline())["event"] == "started"


def work(door: str, **wanted: Any) -> dict[str, Any]:
    done: dict[str, Any] = ask(door, work=wanted)["work"]
    return done


def test_a_busy_loop_is_measured(first: Process, door: str) -> None:
    done = work(door, do="burn", seconds=0.2)
    assert done["seconds"] >= 0.2
    assert 0 < done["used"] <= done["seconds"]
    assert done["cpu"] in work(door, do="pick")["cpus"]


def test_a_loop_on_one_cpu_tells_its_cpu_time_on_the_way(first: Process, door: str) -> None:
    done = work(door, do="spin", seconds=0.3, cpu=work(door, do="pick")["cpu"])
    times = [at for at, _ in done["samples"]]
    used = [seconds for _, seconds in done["samples"]]
    assert times == sorted(times)
    assert used == sorted(used)
    assert used[-1] - used[0] <= times[-1] - times[0] + 0.02


def test_a_loop_ends_early_when_it_is_told_to(first: Process, door: str) -> None:
    begun = time.monotonic()
    cpu = work(door, do="pick")["cpu"]
    loop = run("ask", door, json.dumps({"work": {"do": "spin", "seconds": 30, "cpu": cpu}}))
    time.sleep(1)
    work(door, do="stop")
    out, _ = loop.communicate(timeout=60)
    samples = json.loads(out)["work"]["samples"]
    assert samples[-1][0] - samples[0][0] < time.monotonic() - begun
    assert len(work(door, do="spin", seconds=0.2, cpu=cpu)["samples"]) > 1


def test_page_cache_lingers_after_the_answer(first: Process, door: str) -> None:
    done = work(door, do="fill", bytes=3 << 20, enough=0, linger=20)
    left = work(door, do="usage")
    assert left["clock"] < done["until"]


def test_work_that_cannot_be_done_is_said_at_once(first: Process, door: str) -> None:
    assert "OSError" in work(door, do="spin", seconds=9, cpu=4095)["error"]


def test_the_first_process_goes_on_while_its_child_works(first: Process, door: str) -> None:
    busy = run("ask", door, json.dumps({"work": {"do": "burn", "seconds": 1}}))
    assert ask(door, nonce="a", keep="one")["proof"] == proof("one", "a")
    assert busy.poll() is None
    busy.wait()


class Usage:
    """A kernel that charges what is said."""

    def __init__(self, *usages: int) -> None:
        self.left = list(usages)

    def counters(self) -> dict[str, int]:
        return {"memory_bytes": self.left.pop(0) if len(self.left) > 1 else self.left[0]}

    def high(self) -> int | None:
        return None


@pytest.mark.parametrize(
    ("usage", "asked", "how"),
    [
        (9, "", "hole"),
        (7, "", "written"),
        (7, "hole", "hole"),
        (9, "written", "written"),
    ],
)
def test_page_cache_is_filled_from_a_hole_and_else_written(
    tmp_path: Path, usage: int, asked: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "UNRECLAIMABLE", set())
    path = str(tmp_path / "file")
    done = probe.fill(Usage(usage), path, 3 << 20, 8, how=asked, linger=0)
    assert (done["how"], done["bytes"]) == (how, 3 << 20)
    assert {use for _, use in done["samples"]} == {usage}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", ["", "written"])
def test_memory_that_cannot_be_reclaimed_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(probe, "file_system", lambda *_: "tmpfs")
    path = str(tmp_path / "file")
    assert probe.fill(Usage(1), path, 3 << 20, 8, how=asked, linger=0)["how"] == "hole"


def test_the_file_system_under_a_path() -> None:
    mounts = "1 0 0:1 / / rw - overlay o rw\n2 1 8:1 / /talk rw - ext4 /dev/sda rw"
    assert probe.file_system(mounts, "/talk/main.fill") == "ext4"
    assert probe.file_system(mounts, "/talks") == "overlay"


def test_idle_time_is_the_cpus_own_and_unknown_where_it_is_faked() -> None:
    stat = "cpu  1 1 1 900 100\ncpu0 1 1 1 300 50 7\ncpu11 1 1 1 600 50"
    ticks = 100  # a second on Linux, whatever the kernel's own rate
    assert probe.idle_seconds(stat, 0) == 350 / ticks
    assert probe.idle_seconds(stat, 1) is None
    assert probe.stat_text("9 1 0:9 / /proc/stat rw - fuse.lxcfs lxcfs rw") == ""
    assert probe.stat_text("9 1 0:9 / /proc rw - proc proc rw").startswith("cpu ")


V1_MOUNTS = """
30 29 0:26 /pod/one /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 /pod/one /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
32 29 0:28 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw
""".strip()
V2_MOUNTS = "30 29 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw"


@pytest.mark.parametrize(
    ("mounts", "own", "there", "version", "file", "path"),
    [
        (
            V1_MOUNTS,
            "5:cpu,cpuacct:/pod/one\n4:memory:/pod/one",
            {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"},
            "v1",
            "cpu.cfs_quota_us",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us",
        ),
        (
            V1_MOUNTS,
            "4:memory:/pod/one",
            {"/sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes"},
            "v1",
            "memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes",
        ),
        (V2_MOUNTS, "0::/", {"/sys/fs/cgroup/cpu.max"}, "v2", "cpu.max", "/sys/fs/cgroup/cpu.max"),
        (
            V2_MOUNTS,
            "0::/pod/one",
            {"/sys/fs/cgroup/pod/one/cpu.max", "/sys/fs/cgroup/cpu.max"},
            "v2",
            "cpu.max",
            "/sys/fs/cgroup/pod/one/cpu.max",
        ),
        ("1 0 0:1 / / rw - overlay overlay rw", "", set(), "", "cpu.max", None),
    ],
)
def test_where_the_files_are(
    mounts: str, own: str, there: set[str], version: str, file: str, path: str | None
) -> None:
    found, files = probe.find_files(mounts, own, there.__contains__)
    assert (found, files.get(file)) == (version, path)


def test_version_2_values_and_counters(tmp_path: Path) -> None:
    texts = {
        "cpu.max": "10000 100000\n",
        "cpu.stat": "usage_usec 1500\nnr_periods 7\nnr_throttled 3\n",
        "memory.current": "4096\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = {name: str(tmp_path / name) for name in (*texts, "cpu.weight")}
    kernel = probe.Kernel("v2", files)
    assert kernel.values() == {"cpu.max": "10000 100000"}
    assert kernel.counters() == {
        "nr_periods": 7,
        "nr_throttled": 3,
        "usage_ns": 1_500_000,
        "memory_bytes": 4096,
    }


def watched(tmp_path: Path) -> tuple[Any, Path]:
    file = tmp_path / "cpu.max"
    file.write_text("10000 100000")
    stat = Path("/proc/self/stat").read_text()
    keeper = probe.Keeper(probe.Kernel("v2", {"cpu.max": str(file)}), stat)
    keeper.look()
    return keeper, file


def test_changes_are_told_again_until_they_are_known(tmp_path: Path) -> None:
    keeper, file = watched(tmp_path)
    file.write_text("20000 100000")
    values = [values["cpu.max"] for _, values in keeper.answer({})["changes"]]
    assert values == ["10000 100000", "20000 100000"]
    assert len(keeper.answer({"since": [keeper.started, 1]})["changes"]) == 1
    assert keeper.answer({"since": [keeper.started, 2]})["changes"] == []
    assert len(keeper.answer({"since": [keeper.started - 9, 2]})["changes"]) == 2


def test_the_same_value_again_and_other_files_are_no_change(tmp_path: Path) -> None:
    keeper, file = watched(tmp_path)
    file.write_text("10000 100000\n")
    (tmp_path / "cpuset.cpus").write_text("0-1")
    (tmp_path / "memory.high").write_text("5")
    assert not keeper.look()
    assert len(keeper.changes) == 1


def test_values_read_while_they_are_written_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"quota": iter("1222"), "period": iter("1122")}
    monkeypatch.setattr(probe, "read", lambda path: next(texts[path]))
    files = {"cpu.cfs_quota_us": "quota", "cpu.cfs_period_us": "period"}
    values = probe.Kernel("v1", files).values()
    assert values == {"cpu.cfs_quota_us": "2", "cpu.cfs_period_us": "2"}


def test_version_2_reclaims_from_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max")
    kernel = probe.Kernel("v2", {"memory.max": str(tmp_path / "memory.max")})
    assert kernel.high() is None
    (tmp_path / "memory.high").write_text("max")
    assert kernel.high() is None
    (tmp_path / "memory.high").write_text("4096")
    assert kernel.high() == 4096
