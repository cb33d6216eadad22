"""What several files use: a small API server, and clients that talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from tests.unit.apiserver import ApiServer


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    """A client that gives an API server ten seconds to come back."""
    client = Cluster(
        connect(api.kubeconfig(tmp_path), None), run_id="20261122-101504-9f3a", outage_seconds=10
    )
    yield client
    client.close()
