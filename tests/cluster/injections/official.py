"""A sabotage of what the official inference suite asks, as its program told of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kar_checks.cluster.client import Cluster
from localcluster import LocalCluster
from tests.cluster.injections import injection

_PROGRAM = Path(__file__).parents[1] / "programs" / "official_suite.py"
_COMMAND = shlex.join([sys.executable, str(_PROGRAM)])


@injection(
    addons=("endpoint-picker",),
    words=("--set", "gateway.class=envoy", "--set", f"official.suite={_COMMAND}"),
)
@contextmanager
def routes_without_status(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The gateway may not say anything about its routes; played back from the suite's own words."""
    yield
