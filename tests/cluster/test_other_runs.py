"""Another run that starts and ends while one measures: it is noticed, and fails nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kar_checks.cluster.client import Cluster
from kar_checks.model import Outcome
from tests.cluster.support import Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.parametrize(
    ("long", "short"),
    [
        (
            ("gang.incomplete_waits", "--set", "gang.incomplete_seconds=45"),
            ("gang.fits",),
        ),
        (
            ("disaggregation.prefill_lost", "disaggregation.decode_scaling"),
            ("disaggregation.corrupted_block",),
        ),
    ],
    ids=["gang", "disaggregation"],
)
def test_a_run_within_a_run_is_noticed(
    kar: Kar, cluster: Cluster, tmp_path: Path, long: tuple[str, ...], short: tuple[str, ...]
) -> None:
    process = kar.start(*long)
    kar.wait_for_objects(cluster, "/api/v1/pods")
    inner = Kar(tmp_path / "inner").run(*short)
    assert process.poll() is None, "the longer run ended too early to say anything"
    outer = kar.finish(process)
    (seen,) = outer.run.info.beside
    assert seen.id == inner.run.info.id
    assert seen.first is not None
    assert seen.last is not None
    assert outer.run.info.started < seen.first < seen.last
    assert [one.id for one in inner.run.info.beside] == [outer.run.info.id]
    assert f"run {seen.id}" in " ".join(outer.output.split())
    topic = long[0].partition(".")[0]
    stored = json.loads(outer.run.observation_text(topic) or "{}")
    assert [one["id"] for one in stored["beside"]] == [seen.id]
    for done in (outer, inner):
        assert not any(one.outcome is Outcome.FAIL for one in done.run.findings), done.output
