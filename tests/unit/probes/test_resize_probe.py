"""The resize probe: as a real process, and its reading of both versions of control groups."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
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
    out, _ = run("ask", door, json.dumps(question)).communicate(timeout=20)
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


def test_a_busy_loop_is_measured(first: Process, door: str) -> None:
    assert ask(door, burn=0.2)["burned"]["seconds"] == pytest.approx(0.2, abs=0.15)


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


def test_changes_are_told_once(tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    file.write_text("10000 100000")
    keeper = probe.Keeper(
        probe.Kernel("v2", {"cpu.max": str(file)}), Path("/proc/self/stat").read_text()
    )
    keeper.look()
    file.write_text("20000 100000")
    values = [values["cpu.max"] for _, values in keeper.answer({})["changes"]]
    assert values == ["10000 100000", "20000 100000"]
    assert keeper.answer({})["changes"] == []
