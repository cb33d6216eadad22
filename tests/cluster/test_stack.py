"""The probe workload, deployed as if it were the user's own stack: the grade of proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kar_checks import paths
from kar_checks.cluster.client import Cluster
from kar_checks.model import Evidence, Outcome
from localcluster import LocalCluster
from localcluster.addons.inference_sim import INFERENCE_SIM
from tests.cluster.injections.stack import PORT, Serving, asked, chats_with
from tests.cluster.support import Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105 - of this test
_ROLE_LABELS = {False: "llm-d.ai/role", True: "disaggregatedset.x-k8s.io/role"}
SIMULATOR = INFERENCE_SIM.images[0].name
SHAPE = {"LAYERS": 8, "KV_HEADS": 4, "HEAD_DIM": 64, "DTYPE_BYTES": 2, "BLOCK_TOKENS": 64}
"""8 KiB for each prompt token."""


@contextmanager
def probe_workload(local: LocalCluster, cluster: Cluster, *, hide_ids: bool) -> Iterator[None]:
    """Router, prefill and decode; their logs can be hidden, as vLLM's are by default.

    Those with hidden logs are labelled as the pods of a DisaggregatedSet. The others have a sidecar
    each, and these exchange 5 MB a second, as much as the state of several requests.
    """

    def command(role: str) -> list[str]:
        words = ["python3", "-u", "/programs/disagg_server.py", role]
        return ["sh", "-c", f"exec {' '.join(words)} >/dev/null"] if hide_ids else words

    program = paths.data("probes", "disagg_server.py")
    with Serving(local, cluster, [program]) as stack:
        engines: dict[str, str] = {}
        for node, role in enumerate(("prefill", "decode")):
            chatter = chats_with(engines["prefill"]) if role == "decode" else {}
            engines[role] = stack.start(
                role,
                command("engine"),
                node=node,
                role=role,
                label=_ROLE_LABELS[hide_ids],
                env={f"KAR_{key}": value for key, value in SHAPE.items()},
                secret=role == "prefill",
                chatter=None if hide_ids else chatter,
            )
        env = {f"KAR_{role.upper()}": address for role, address in engines.items()}
        stack.start("router", command("router"), env={"KAR_PORT": PORT, **env})
        stack.front("hidden" if hide_ids else "shown", "router")
        yield


@pytest.mark.parametrize(
    ("hide_ids", "grade"),
    [
        pytest.param(
            False,
            "accounting, bytes and request ids (grade 1 of 4, the highest)",
            marks=pytest.mark.guard,
        ),
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
        words = asked("hidden" if hide_ids else "shown")
        # Nor may its page hold the token.
        done = kar.run("stack", *words, "--target-credential", "STACK_TOKEN", report=True)
    assert done.code == 0, done.output
    found = done.finding("stack.transferred")
    assert found.reason == "transferred"
    assert found.summary.startswith(f"proved by {grade}")
    assert ("Missing: 0 of 20 request ids" in found.summary) is hide_ids
    sources = " ".join(one.source for one in found.facts)
    assert f"by {_ROLE_LABELS[hide_ids]}=decode" in sources
    row = next(one for one in done.run.requirements if one.id == "disaggregated_inference")
    assert (row.outcome.value, row.evidence, row.counts) == ("pass", Evidence.REAL, True)
    assert TOKEN not in done.output
    assert done.folder is not None
    files = [one for one in done.folder.rglob("*") if one.is_file()]
    assert files
    assert not [one.name for one in files if TOKEN.encode() in one.read_bytes()]


@contextmanager
def simulators(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A pair of llm-d-inference-sim, behind a front that asks both and one that asks decode."""
    # Their sidecars exchange bytes with each other, which is no KV state.
    words = ["--port", str(PORT), "--model", "none", "--mode", "echo", "--force-dummy-tokenizer"]
    command = ["/app/llm-d-inference-sim", *words, "--max-model-len", "32768"]
    with Serving(local, cluster) as stack:
        pair: dict[str, str] = {}
        for node, role in enumerate(("prefill", "decode")):
            chatter = chats_with(pair["prefill"]) if role == "decode" else {}
            pair[role] = stack.start(
                role, command, node=node, role=role, image=SIMULATOR, chatter=chatter
            )
        told: dict[str, Any] = {role.upper(): address for role, address in pair.items()}
        stack.server("legs", "", **told)
        stack.front("legs", "legs")
        stack.front("alone-sim", "decode")
        yield


@pytest.mark.addons("inference-sim", "lws")
def test_a_simulator_never_passes(kar: Kar, local: LocalCluster, cluster: Cluster) -> None:
    with simulators(local, cluster):
        both = kar.run("stack", *asked("legs"))
        alone = kar.run("stack", *asked("alone-sim"))
    for done in (both, alone):
        assert done.finding("stack.served").outcome is Outcome.PASS, done.output
        row = next(one for one in done.run.requirements if one.id == "disaggregated_inference")
        assert (row.outcome.value != "pass", row.evidence, row.counts) == (
            True,
            Evidence.SIMULATED,
            False,
        )
    found = both.finding("stack.transferred")
    assert (found.outcome, found.reason) == (Outcome.INCONCLUSIVE, "simulator"), both.output
    assert "llm-d-inference-sim" in found.summary
    fallback = alone.finding("stack.transferred")
    assert (fallback.outcome, fallback.reason) == (Outcome.FAIL, "decode_only"), alone.output
