"""The probe workload, deployed as if it were the user's own stack: the grade of proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kar_checks import paths
from kar_checks.cluster.client import Cluster
from kar_checks.model import Evidence
from localcluster import LocalCluster
from tests.cluster.injections.stack import ASKED, PORT, Serving
from tests.cluster.support import Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105 - of this test
SHAPE = {"LAYERS": 8, "KV_HEADS": 4, "HEAD_DIM": 64, "DTYPE_BYTES": 2, "BLOCK_TOKENS": 64}
"""8 KiB for each prompt token."""


@contextmanager
def probe_workload(local: LocalCluster, cluster: Cluster, *, hide_ids: bool) -> Iterator[None]:
    """Router, prefill and decode; their logs can be hidden, as vLLM's are by default."""

    def command(role: str) -> list[str]:
        words = ["python3", "-u", "/programs/disagg_server.py", role]
        return ["sh", "-c", f"exec {' '.join(words)} >/dev/null"] if hide_ids else words

    program = paths.data("probes", "disagg_server.py")
    with Serving(local, cluster, [program]) as stack:
        engines = {
            role: stack.start(
                role,
                command("engine"),
                node=node,
                role=role,
                env={f"KAR_{key}": value for key, value in SHAPE.items()},
                secret=role == "prefill",
            )
            for node, role in enumerate(("prefill", "decode"))
        }
        env = {f"KAR_{role.upper()}": address for role, address in engines.items()}
        stack.start("router", command("router"), env={"KAR_PORT": PORT, **env})
        stack.front("router")
        yield


@pytest.mark.parametrize(
    ("hide_ids", "grade"),
    [
        (False, "accounting, bytes and request ids (grade 1 of 4, the highest)"),
        (True, "accounting and bytes (grade 2 of 4)"),
    ],
)
def test_the_grade_says_what_was_proved(
    hide_ids: bool,
    grade: str,
    kar: Kar,
    local: LocalCluster,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STACK_TOKEN", TOKEN)
    with probe_workload(local, cluster, hide_ids=hide_ids):
        done = kar.run("stack", *ASKED, "--target-credential", "STACK_TOKEN")
    assert done.code == 0, done.output
    found = done.finding("stack.transferred")
    assert found.reason == "transferred"
    assert found.summary.startswith(f"proved by {grade}")
    assert ("Missing: 0 of 20 request ids" in found.summary) is hide_ids
    row = next(one for one in done.run.requirements if one.id == "disaggregated_inference")
    assert (row.outcome.value, row.evidence, row.counts) == ("pass", Evidence.REAL, True)
    assert TOKEN not in done.output
    assert done.folder is not None
    files = [one for one in done.folder.rglob("*") if one.is_file()]
    assert files
    assert not [one.name for one in files if TOKEN.encode() in one.read_bytes()]
