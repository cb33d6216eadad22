"""The CronJob that `kar install` applies really runs on its schedule, under its own rights."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import Kind
from kar_checks.commands import install
from kar_checks.history.runs import load
from localcluster import LocalCluster
from scripts import runner_image
from tests.cluster.support import Kar

PLACE = "kar-nightly"
CHECK = "resize.requests_only"
VOLUME = Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
SECONDS = 240
"""The next minute is at most 60 s away, a run takes 20 s; the rest is for a busy machine."""


@pytest.fixture
def volume(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A volume whose content is a folder of this machine, writable for everybody."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": PLACE},
        "spec": {
            "storageClassName": PLACE,
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(folder)},
        },
    }
    cluster.create(VOLUME, body)
    yield folder
    cluster.delete(VOLUME, PLACE)


def _jobs(cluster: Cluster) -> list[Object]:
    return cluster.list(kinds.JOB, PLACE).items


def test_the_cron_job_runs_on_its_schedule_and_keeps_a_history(
    local: LocalCluster, cluster: Cluster, kar: Kar, volume: Path, tmp_path: Path
) -> None:
    node = local.nodes[0]
    image = tmp_path / "runner.tar"
    runner_image.make(image)
    local.import_image(node, image)
    image.unlink()
    words = (
        *("install", "--local-cluster", "--apply", "--runner", runner_image.NAME, CHECK),
        *("--schedule", "* * * * *", "--storage-class", PLACE),
        *("--node-selector", f"kubernetes.io/hostname={node.name}"),
    )
    done = kar(*words)
    made: list[Object] = [
        one for one in yaml.safe_load_all(done.output.partition("# applied")[0]) if one
    ]
    try:
        assert done.code == 0, done.output
        deadline = time.monotonic() + SECONDS
        while not any((one.get("status") or {}).get("succeeded") for one in _jobs(cluster)):
            failed = [one["status"] for one in _jobs(cluster) if one["status"].get("failed")]
            assert not failed, f"{failed}\n{_logs(cluster)}"
            assert time.monotonic() < deadline, f"{_jobs(cluster)}\n{_logs(cluster)}"
            time.sleep(1)
        (past, *_) = [load(one) for one in volume.iterdir() if (one / "run.json").is_file()]
        assert past.complete
        assert past.findings[(CHECK, "")].outcome == "pass"
        account = f"system:serviceaccount:{PLACE}:kar-checks"
        assert past.run.info.environment.user == account
        stored = json.loads((volume / "history" / "history.json").read_text("utf-8"))
        assert past.id in stored["runs"]
        assert "kar_last_run_timestamp_seconds{" in (volume / "history" / "kar.prom").read_text()
    finally:
        _remove(cluster, made)


def _logs(cluster: Cluster) -> str:
    return "\n".join(
        cluster.pod_log(one["metadata"]["name"], PLACE)
        for one in cluster.list(kinds.POD, PLACE).items
        if one["status"]["phase"] in ("Succeeded", "Failed")
    )


def _remove(cluster: Cluster, made: list[Object]) -> None:
    """Delete all that was applied; the namespace last, and awaited with what is in it."""
    for body in reversed(made):
        kind, meta = install.KINDS[body["kind"]], body["metadata"]
        if not kind.namespaced:
            cluster.delete(kind, meta["name"])
    deadline = time.monotonic() + 90
    while cluster.find(kinds.NAMESPACE, PLACE):
        assert time.monotonic() < deadline, "the namespace of the CronJob stays"
        time.sleep(0.5)
