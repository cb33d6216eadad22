"""The configurations of docs/laptop.md: three nodes, and the gang API of the newest Kubernetes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from kar_checks.checks.registry import topics
from localcluster.releases import RELEASES

TEXT = (Path(__file__).parents[2] / "docs" / "laptop.md").read_text("utf-8")
KIND, K3D = (yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
NEWEST = RELEASES[0]


def flags(config: dict[str, Any]) -> list[str]:
    return [one["arg"] for one in config["options"]["k3s"]["extraArgs"]]


def test_both_have_three_nodes() -> None:
    assert [one["role"] for one in KIND["nodes"]] == ["control-plane", "worker", "worker"]
    assert K3D["servers"] + K3D["agents"] == 3


def test_both_serve_the_gang_api_that_the_suite_knows() -> None:
    assert KIND["featureGates"] == dict.fromkeys(NEWEST.gang_gates, True)
    assert KIND["runtimeConfig"] == {NEWEST.gang_api: "true"}
    gates = ",".join(f"{one}=true" for one in NEWEST.gang_gates)
    for component in ("apiserver", "controller-manager", "scheduler"):
        assert f"--kube-{component}-arg=feature-gates={gates}" in flags(K3D)
    assert f"--kube-apiserver-arg=runtime-config={NEWEST.gang_api}=true" in flags(K3D)
    for older in RELEASES[1:]:
        assert older.gang_api in TEXT
        assert all(f"`{gate}`" in TEXT for gate in older.gang_gates)


def test_every_topic_has_its_row_and_the_page_claims_no_trial() -> None:
    rows = set(re.findall(r"^\| ([a-z]+) \|", TEXT, re.MULTILINE)) - {"topic"}
    assert rows == {one.id for one in topics()}
    assert "Untested" in TEXT
