from pathlib import Path

import pytest

from localcluster import cgroups
from localcluster.cgroups import Hierarchy, container_files, container_processes, hierarchies

VERSION_1 = """\
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""
VERSION_2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n"


def test_a_version_1_host_has_a_tree_per_controller() -> None:
    trees = hierarchies(VERSION_1)
    assert [tree.root.name for tree in trees] == ["cpu,cpuacct", "cpuset", "unified"]
    assert "cpuset" in trees[1].options
    assert [tree.unified for tree in trees] == [False, False, True]


def test_a_version_2_host_has_one_tree() -> None:
    assert hierarchies(VERSION_2) == [Hierarchy(Path("/sys/fs/cgroup"), True, frozenset())]


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two version 1 trees with a guaranteed pod in one quality class and one outside."""
    roots = [tmp_path / "cpu", tmp_path / "memory"]
    found = [Hierarchy(root, False, frozenset({root.name})) for root in roots]
    monkeypatch.setattr(cgroups, "hierarchies", lambda: found)
    for root in roots:
        for pod in ("kubepods/podA", "kubepods/burstable/podB"):
            folder = root / "kar2" / pod / "cid"
            folder.mkdir(parents=True)
            (folder / "cgroup.procs").write_text("41\n42\n")
    for pod in ("kubepods/podA", "kubepods/burstable/podB"):
        (roots[0] / "kar2" / pod / "cid" / "cpu.cfs_quota_us").write_text("1")
    return roots


@pytest.mark.parametrize("pod", ["A", "B"])
def test_a_containers_file_is_found_in_its_own_tree(trees: list[Path], pod: str) -> None:
    files = container_files("kar2", pod, "containerd://cid", "cpu.cfs_quota_us")
    assert [file.parent.parent.name for file in files] == [f"pod{pod}"]
    assert files[0].is_relative_to(trees[0])


def test_a_container_of_another_node_is_not_found(trees: list[Path]) -> None:
    assert container_files("kar1", "A", "cid", "cpu.cfs_quota_us") == []


def test_a_containers_processes_are_listed_once(trees: list[Path]) -> None:
    assert container_processes("kar2", "cid") == {41, 42}
