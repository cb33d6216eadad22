"""The local cluster as a fixture, and ``kar`` as a command that really runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from localcluster import ClusterError, LocalCluster
from localcluster.settings import Settings
from scripts.row_plugin import CLUSTER_SECONDS
from tests.cluster.support import Kar, Machine, ours

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """The local cluster's machine; ends at the end what the tests started."""
    try:
        LocalCluster.load()
        was_there = True
    except ClusterError:
        was_there = False
    found = Machine()
    yield found
    if not was_there:
        found.down()


@pytest.fixture(autouse=True)
def cluster_seconds(request: pytest.FixtureRequest) -> Iterator[None]:
    """Report how long a test waited for its cluster: that depends on the test before."""
    if "machine" not in request.fixturenames:
        yield
        return
    machine: Machine = request.getfixturevalue("machine")
    before = machine.seconds
    yield
    request.node.user_properties.append((CLUSTER_SECONDS, machine.seconds - before))


@pytest.fixture
def local(machine: Machine, request: pytest.FixtureRequest) -> LocalCluster:
    """The local cluster, up and ready: bare, or with the add-ons that the test's marker names."""
    marker: pytest.Mark | None = request.node.get_closest_marker("addons")
    return machine.up(Settings(addons=marker.args if marker else ()))


@pytest.fixture
def cluster(local: LocalCluster) -> Iterator[Cluster]:
    """The API of the local cluster, with every right."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="tests")) as found:
        yield found


@pytest.fixture
def kar(local: LocalCluster, tmp_path: Path) -> Kar:
    """The command, with its runs in a folder of the test."""
    return Kar(tmp_path / "runs")


@pytest.fixture
def run_pytest(local: LocalCluster) -> Callable[..., int]:
    """Plain pytest in a process of its own; returns its exit status."""

    def run(*words: str) -> int:
        done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False)
        return done.returncode

    return run


@pytest.fixture
def leaves_nothing(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Assert at the end (and when called) that no object of ours is left."""

    def check() -> None:
        assert ours(cluster) == []

    yield check
    check()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that want the same cluster come together, those that replace it come last."""

    def cluster(item: pytest.Item) -> tuple[bool, tuple[str, ...]]:
        marker = item.get_closest_marker("addons")
        addons = tuple(sorted(marker.args)) if marker else ()
        return item.get_closest_marker("localcluster") is not None, addons

    items.sort(key=cluster)
