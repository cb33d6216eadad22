"""Kills, outages and a namespace that will not end: nothing measured is lost, nothing is left."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster
from kar_checks.model import Outcome
from kar_checks.store import StoredRun
from localcluster import LocalCluster
from tests.cluster.injections import SHORT_HOLD, SHORT_WINDOWS
from tests.cluster.support import BUSY, MOST_NOISY, Kar, ours

PODS = "/api/v1/pods"
FAST = "resize.memory_up"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_was_measured_and_cleans_up(
    number: signal.Signals, kar: Kar, cluster: Cluster
) -> None:
    process = kar.start("resize", "gang", *SHORT_HOLD, report=True)
    _wait_for_gang(kar, cluster)
    process.send_signal(number)
    done = kar.finish(process)
    assert done.code == 2, done.output
    assert done.run.info.interrupted == number.name
    assert _kept_of_resize(done.run) == 13, done.output
    assert not any(one.outcome is Outcome.FAIL for one in done.run.findings)
    assert number.name in (done.run.folder / "scorecard.html").read_text("utf-8")
    assert done.run.info.cleanup.verdict == "clean"
    assert ours(cluster) == []


def test_after_a_kill_cleanup_finds_everything_and_the_rest_is_readable(
    kar: Kar, cluster: Cluster
) -> None:
    process = kar.start("resize", "gang", *SHORT_HOLD)
    _wait_for_gang(kar, cluster)
    process.kill()
    done = kar.finish(process)
    assert ours(cluster) != []
    listed = kar("cleanup", "--local-cluster", "--dry-run")
    assert listed.code == 0
    assert ours(cluster) != []
    cleaned = kar("cleanup", "--local-cluster")
    assert cleaned.code == 0, cleaned.output
    assert ours(cluster) == []
    assert done.folder is not None
    assert kar("report", str(done.folder)).code == 0
    run = StoredRun(done.folder)
    assert _kept_of_resize(run) == 13
    assert run.info.finished is None


def test_cleanup_keeps_what_a_live_run_owns(kar: Kar, cluster: Cluster) -> None:
    process = kar.start(FAST, *SHORT_HOLD)
    kar.wait_for_objects(cluster, PODS)
    cleaned = kar("cleanup", "--local-cluster")
    done = kar.finish(process)
    assert "is still active" in cleaned.output
    assert done.code == 0, done.output
    assert ours(cluster) == []


def test_an_api_server_that_goes_away_for_30_s_fails_no_check(
    kar: Kar, cluster: Cluster, local: LocalCluster
) -> None:
    process = kar.start("resize", "gang.incomplete_waits", "gang.all_or_nothing", *SHORT_WINDOWS)
    kar.wait_for_objects(cluster, PODS, count=3)
    local.stop("kube-apiserver")
    time.sleep(30)
    local.start("kube-apiserver")
    local.ready()
    done = kar.finish(process)
    assert done.code in (0, 11), done.output
    assert {one.outcome for one in done.run.findings} <= {Outcome.PASS, Outcome.INCONCLUSIVE}
    assert len(done.run.findings) == 15
    assert any("did not answer" in text for text in _disturbances(done.run)), done.output
    assert done.run.info.cleanup.verdict == "clean"
    assert ours(cluster) == []


def test_a_namespace_that_refuses_to_end_is_a_leak_of_its_own(
    kar: Kar, cluster: Cluster, tmp_path: Path
) -> None:
    profile = tmp_path / "impatient.yaml"
    profile.write_text(
        "settings:\n  cleanup.seconds: {value: 8, origin: this test, date: 2026-11-22}\n", "utf-8"
    )
    process = kar.start(FAST, "--profile", str(profile))
    kar.wait_for_objects(cluster, PODS)
    namespace = _namespace(cluster)
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["sabotage.test/held"]},
    }
    cluster.create(kinds.CONFIG_MAP, held, namespace)
    try:
        done = kar.finish(process)
        assert done.code == 10, done.output
        assert done.finding(FAST).outcome is Outcome.PASS
        cleanup = done.run.info.cleanup
        assert cleanup.verdict == "leaked"
        assert [one.object.name for one in cleanup.leaks] == [namespace]
        assert "sabotage.test/held" in cleanup.leaks[0].why
        assert "kar cleanup --run" in done.output.replace("\n", " ")
    finally:
        free = {"metadata": {"finalizers": None}}
        cluster.patch(kinds.CONFIG_MAP, "held", free, namespace)
    assert kar("cleanup", "--local-cluster").code == 0
    assert ours(cluster) == []


def test_a_full_disk_is_told_and_loses_nothing_that_was_measured(
    kar: Kar, cluster: Cluster, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    # Room for what is measured, which is written anew at each step, and not for all of the pages.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220k", "tmpfs", str(small)], check=True)
    try:
        done = Kar(small).run(FAST, *SHORT_HOLD, report=True)
        assert done.code == 3, done.output
        assert "cannot be written" in " ".join(done.output.split())
        assert "Exit code 3" in done.output
        assert done.finding(FAST).outcome is Outcome.PASS
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert ours(cluster) == []


def test_keep_on_failure_keeps_only_after_a_bad_run(
    kar: Kar, cluster: Cluster, local: LocalCluster
) -> None:
    good = kar.run(FAST, *SHORT_HOLD, "--keep-on-failure")
    assert good.run.info.cleanup.verdict == "clean"
    impossible = "--image=python=docker.io/kar-checks/missing:none"
    bad = kar.run(FAST, "--keep-on-failure", impossible)
    assert bad.code == 10
    assert bad.finding(FAST).reason == "image_unavailable"
    assert bad.run.info.cleanup.verdict == "kept"
    assert "kubectl -n" in bad.output.replace("\n", " ")
    assert ours(cluster) != []
    assert kar("cleanup", "--local-cluster").code == 0
    assert ours(cluster) == []


def _kept_of_resize(run: StoredRun) -> int:
    """Count the checks of resize that passed, or would have without the tests beside them."""
    mine = [one for one in run.findings if one.check.startswith("resize.")]
    noisy = [one for one in mine if one.reason in BUSY]
    assert len(noisy) <= MOST_NOISY, noisy
    return len(noisy) + len([one for one in mine if one.outcome is Outcome.PASS])


def _wait_for_gang(kar: Kar, cluster: Cluster) -> None:
    """Wait until the trial before this one, of resize, has ended."""
    path = "/apis/scheduling.k8s.io/v1beta1/podgroups"
    kar.wait_for_objects(cluster, path, seconds=180)


def _namespace(cluster: Cluster) -> str:
    labels = "app.kubernetes.io/managed-by=kar-checks"
    return str(cluster.list(kinds.NAMESPACE, labels=labels).items[0]["metadata"]["name"])


def _disturbances(run: StoredRun) -> list[str]:
    out: list[str] = []
    for topic in ("resize", "gang"):
        text = run.observation_text(topic)
        out += json.loads(text)["disturbances"] if text else []
    return out
