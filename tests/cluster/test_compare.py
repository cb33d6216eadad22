"""Differently sabotaged clusters side by side, and a signed run of one of them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from kar_checks.cluster.client import Cluster
from localcluster import LocalCluster
from tests.cluster.injections import SHORT_HOLD, injections
from tests.cluster.support import Kar

CHECKS = ("resize.cpu_up_down", "resize.qos_change_refused")
OUTCOMES = {
    "kernel_written_back": ("fail", "inconclusive"),
    "resize_refused_by_policy": ("pass", "inconclusive"),
    "resize_clamped": ("pass", "fail"),
}


def test_sabotaged_clusters_differ_where_they_were_broken_and_a_signed_run_shows_a_changed_byte(
    local: LocalCluster, cluster: Cluster, kar: Kar, tmp_path: Path
) -> None:
    ids: list[str] = []
    for name in OUTCOMES:
        with contextlib.ExitStack() as stack:
            stack.enter_context(injections()[name].apply(local, cluster))
            done = kar.run(*CHECKS, f"--cluster-name={name}", *SHORT_HOLD)
        ids.append(done.run.info.id)
    into = tmp_path / "comparison"
    told = kar("compare", *ids, "--output", str(kar.output), "--into", str(into))
    assert told.code == 0, told.output
    found = json.loads((into / "compare.json").read_text("utf-8"))
    assert [one["label"] for one in found["runs"]] == list(OUTCOMES)
    assert found["unlike"] == []
    differing = {
        row["group"]: tuple(cell["outcome"] for cell in row["cells"])
        for group in found["groups"]
        for row in group["checks"]
        if row["differs"]
    }
    columns = zip(*OUTCOMES.values(), strict=True)
    assert differing == dict(zip(CHECKS, columns, strict=True)), told.output
    assert [one["id"] for one in found["groups"] if one["differs"]] == ["resize"]
    assert (into / "compare.html").read_text("utf-8").count("What is different") == 1

    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    place = ("--output", str(kar.output))
    assert kar("sign", "--key", str(private), *place).code == 0
    assert kar("verify", "--key", str(public), *place).code == 0
    path = done.run.folder / "observations" / "resize.json"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused = kar("verify", "--key", str(public), *place)
    assert (refused.code, refused.output) == (1, "observations/resize.json was changed\n")
