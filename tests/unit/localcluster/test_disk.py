import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import disk, gobuild, machine
from localcluster.addons import find_addons
from localcluster.costs import COMMON, COSTS, USUAL, cost, costs, disk_mb, longest_first
from localcluster.errors import ClusterError
from localcluster.gobuild import GoBuild, go_environment
from localcluster.settings import Settings
from localcluster.startup import needed_builds


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("GOCACHE", "GOMODCACHE"):
        monkeypatch.delenv(name, raising=False)
    gobuild.go_environment.cache_clear()
    yield tmp_path / "kar-checks"
    gobuild.go_environment.cache_clear()


def fill(path: Path, size: int = 100_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_the_caches_of_go_are_the_clusters_own(tmp_path: Path) -> None:
    environment = go_environment()
    assert environment["GOCACHE"] == str(tmp_path / "kar-checks" / "compiled")
    assert environment["GOMODCACHE"] == str(tmp_path / "kar-checks" / "modules")


def test_caches_that_the_environment_names_are_used_and_never_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOCACHE", str(tmp_path / "theirs"))
    theirs = fill(tmp_path / "theirs" / "a")
    assert go_environment()["GOCACHE"] == str(tmp_path / "theirs")
    disk.prune([], [])
    assert theirs.exists()


def test_what_later_starts_need_stays(a_cache_of_its_own: Path) -> None:
    home = a_cache_of_its_own
    wanted, running, old = (
        fill(home / "go" / name / "program").parent for name in ("a-v2-0", "a-v1-0", "a-v0-0")
    )
    newest = fill(home / "images" / "docker.io-x-a-0123456789ab.tar")
    older = fill(home / "images" / "docker.io-x-a-ba9876543210.tar")
    other = fill(home / "images" / "docker.io-x-a-b-ba9876543210.tar")
    os.utime(older, (1, 1))
    manifest = fill(home / "upstream" / "dranet-v1" / "install.yaml")
    gone = [
        older,
        old,
        fill(home / "compiled" / "00" / "x"),
        fill(home / "modules" / "m@v1" / "x.go"),
        fill(home / "go" / ".build-1" / "x"),
    ]
    given = disk.prune([wanted], [running])
    assert [path.exists() for path in gone] == [False] * len(gone)
    assert all(path.exists() for path in (wanted, running, newest, other, manifest))
    assert set(given) == {
        "compiled packages",
        "Go modules",
        "programs of other versions",
        "images of other versions",
        "unfinished work",
    }
    assert all(100_000 <= size <= 120_000 for size in given.values())


def test_nothing_is_given_back_while_something_is_built(a_cache_of_its_own: Path) -> None:
    fill(a_cache_of_its_own / "compiled" / "x")
    with disk._lock(fcntl.LOCK_SH), pytest.raises(ClusterError, match="being built"):
        disk.prune([], [])


def test_what_a_build_took_is_summed_up(a_cache_of_its_own: Path) -> None:
    fill(a_cache_of_its_own / "before", 5_000_000)
    assert disk.summary(1000, 1090) == "took 1.5 minutes"
    with disk.spent([GoBuild(name="n")]):
        fill(a_cache_of_its_own / "compiled" / "x", 300_000_000)
    built = disk.last_build(0)
    assert built and built.bytes == pytest.approx(300_000_000, rel=0.01)
    assert "that took 0.3 GB of disk" in disk.summary(built.ended - 60, built.ended)
    # A build before that moment is another story.
    assert disk.summary(built.ended + 1, built.ended + 61) == "took 1.0 minutes"


def test_a_start_that_builds_nothing_records_nothing(a_cache_of_its_own: Path) -> None:
    with disk.spent([]):
        fill(a_cache_of_its_own / "x")
    assert disk.last_build(0) is None


def test_the_longest_build_is_begun_first_and_each_once() -> None:
    addons = find_addons(("dranet", "endpoint-picker"))
    builds = needed_builds(Settings(addons=("dranet", "endpoint-picker")), addons)
    names = [one.name for one in builds]
    assert names[0] == "kubernetes"
    assert sorted(names) == sorted(set(names))
    assert set(names) == {
        *("kubernetes", "containerd", "pause", "coredns", "dranet", "helm"),
        *("envoy-gateway", "inference-extension", "epp"),
    }
    assert [cost(one).cpu_seconds for one in builds[1:]] == sorted(
        (cost(one).cpu_seconds for one in builds[1:]), reverse=True
    )
    # What a build shares is begun before it.
    assert names.index("envoy-gateway") < names.index("epp")
    assert names.index("envoy-gateway") < names.index("inference-extension")


def test_builds_of_unknown_cost_are_counted_as_usual_ones() -> None:
    unknown, known = GoBuild(name="unheard-of"), GoBuild(name="pause")
    assert cost(unknown) == USUAL
    assert longest_first([known, unknown]) == [unknown, known]
    assert disk_mb([cost(known)]) < disk_mb([USUAL]) < disk_mb([cost(known), USUAL])
    assert max(COSTS.values(), key=lambda one: one.cpu_seconds) == COSTS["kubernetes"]


def test_the_first_build_pays_for_what_is_shared_when_nothing_is_compiled() -> None:
    kubernetes, helm = GoBuild(name="kubernetes"), GoBuild(name="helm")
    assert costs([kubernetes, helm], empty=True)["helm"] == COSTS["helm"]
    assert costs([helm], empty=False)["helm"] == COSTS["helm"]
    assert costs([helm], empty=True)["helm"] == COSTS["helm"].plus(COMMON)
    assert costs([], empty=True) == {}


def test_too_little_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=5 * 1024**3)

    def five_gib(path: Path) -> object:
        return usage

    monkeypatch.setattr(shutil, "disk_usage", five_gib)
    machine.require_disk(0)
    with pytest.raises(ClusterError, match=r"GiB of free disk are needed .* there are 5\.0 GiB"):
        machine.require_disk(8000)
