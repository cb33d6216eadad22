from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import yaml

from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import POD
from kar_checks.model import Reason
from tests.unit.apiserver import ApiServer, write_kubeconfig


def test_a_kubeconfig_gives_context_cluster_and_server(tmp_path: Path) -> None:
    found = connect(write_kubeconfig(tmp_path, "https://api.example:6443"), None)
    assert (found.context, found.cluster, found.server) == (
        "research",
        "research",
        "https://api.example:6443",
    )


def test_the_environment_names_the_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_kubeconfig(tmp_path, "https://api.example")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{path}")
    assert connect(None, "research").server == "https://api.example"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "cannot be used"),
        ("", "cannot be used"),
        ("- 1", "cannot be used"),
        ("just words", "cannot be used"),
        ("apiVersion: v1\nkind: Config\n", "no current-context"),
        ("contexts: 5\ncurrent-context: x\n", "cannot be used"),
        ("contexts: [{name: x}]\ncurrent-context: x\nclusters: []\nusers: []\n", "cannot be used"),
        ("\xff", "cannot be used"),
    ],
)
def test_a_broken_kubeconfig_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(HarnessError, match=told) as caught:
        connect(path, None)
    assert caught.value.fault.reason is Reason.UNREACHABLE
    assert str(path) in caught.value.fault.message
    assert "\n" not in caught.value.fault.message


def test_a_missing_kubeconfig_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="there is no kubeconfig at") as caught:
        connect(tmp_path / "none", None)
    assert "--kubeconfig" in caught.value.fault.help


def test_an_unknown_context_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no context 'production'") as caught:
        connect(write_kubeconfig(tmp_path, "https://api.example"), "production")
    assert caught.value.fault.help == "it has: research"


def test_a_kubeconfig_without_a_current_context_asks_for_one(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, "https://api.example")
    path.write_text(path.read_text("utf-8").replace("current-context: research", ""), "utf-8")
    assert connect(path, "research").context == "research"
    with pytest.raises(HarnessError, match="no current-context: give --context") as caught:
        connect(path, None)
    assert caught.value.fault.help == "it has: research"


PLUGIN = """\
import datetime, json, pathlib
count = pathlib.Path(__file__).with_name("asked")
asked = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(asked))
seconds = 1 if asked == 1 else 3600
ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
print(json.dumps({
    "apiVersion": "client.authentication.k8s.io/v1",
    "kind": "ExecCredential",
    "status": {"token": f"token-{asked}", "expirationTimestamp": f"{ends:%Y-%m-%dT%H:%M:%SZ}"},
}))
"""


def test_a_token_that_expires_during_a_run_is_asked_for_again(
    api: ApiServer, tmp_path: Path
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    path = api.kubeconfig(tmp_path)
    stored = yaml.safe_load(path.read_text("utf-8"))
    stored["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(plugin)],
            "interactiveMode": "Never",
        }
    }
    path.write_text(yaml.safe_dump(stored), "utf-8")
    with contextlib.closing(Cluster(connect(path, None), run_id="tests")) as cluster:
        for _ in range(3):
            cluster.list(POD, "default")
    given = [one.headers["authorization"] for one in api.requests]
    assert given == ["Bearer token-2"] * 3, "the first one was over before it could be used"
