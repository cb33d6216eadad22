"""Credential plugins: run as client-go does, and told in their own words when they fail."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kar_checks.cluster import kinds, plugin
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason
from tests.unit.apiserver import ApiServer, refusal

V1 = "client.authentication.k8s.io/v1"


def settings(tmp_path: Path, code: str, **more: Any) -> dict[str, Any]:
    path = tmp_path / "plugin.py"
    path.write_text(code)
    return {"apiVersion": V1, "command": sys.executable, "args": [str(path)], **more}


def credential(**status: str) -> str:
    given = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(json.dumps(given))})"


def issued(given: dict[str, Any], *, attended: bool = False, **more: Any) -> plugin.Issued:
    return plugin.run(given, {"server": "https://s"}, environment={}, attended=attended, **more)


def test_a_plugin_gets_its_arguments_environment_and_the_cluster(tmp_path: Path) -> None:
    code = (
        "import json, os, sys\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "said = [os.environ['WHO'], info['spec'], sys.stdin.read()]\n"
        f"print(json.dumps({{'apiVersion': '{V1}', 'kind': 'ExecCredential', 'status':"
        " {'token': json.dumps(said)}}))\n"
    )
    given = settings(
        tmp_path,
        code,
        env=[{"name": "WHO", "value": "me"}],
        provideClusterInfo=True,
        interactiveMode="IfAvailable",
    )
    assert json.loads(issued(given).token) == [
        "me",
        {"interactive": False, "cluster": {"server": "https://s"}},
        "",
    ]


def test_a_plugin_that_is_missing_is_named_with_its_hint() -> None:
    given = {"apiVersion": V1, "command": "no-such-plugin", "installHint": "Install it\n  from X."}
    with pytest.raises(
        HarnessError, match="no-such-plugin of the kubeconfig is not inst"
    ) as caught:
        issued(given)
    assert caught.value.fault.reason is Reason.FORBIDDEN
    assert caught.value.fault.help.endswith("Install it from X.")


@pytest.mark.parametrize(
    ("code", "more", "told"),
    [
        (
            "import sys; sys.exit('the session expired:\\n  run: sso login')",
            {},
            "exit code 1: the ",
        ),
        ("import os; os.kill(os.getpid(), 9)", {}, "was ended by signal 9"),
        ("print('hello')", {}, "printed no ExecCredential"),
        ("", {}, "printed no ExecCredential"),
        ("print('[]')", {}, "printed no ExecCredential"),
        (credential(), {}, "neither a token nor a certificate"),
        (credential(clientCertificateData="x"), {}, "neither a token nor a certificate"),
        (
            credential(token="t").replace("/v1", "/v1beta1"),  # noqa: S106 - no secret
            {},
            "printed client.authentication.k8s.io/v1beta1 ExecCredential",
        ),
        ("", {"interactiveMode": "Always"}, "needs a terminal"),
        ("", {"apiVersion": "v1"}, "has the apiVersion 'v1'"),
        ("", {"command": ""}, "names no command"),
        ("", {"command": "/"}, "cannot be started: Permission denied"),
    ],
)
def test_a_plugin_that_fails_is_told_in_its_own_words(
    tmp_path: Path, code: str, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(HarnessError) as caught:
        issued(settings(tmp_path, code, **more))
    assert told in caught.value.fault.message
    assert "\n" not in caught.value.fault.message
    assert caught.value.fault.reason is Reason.FORBIDDEN


def test_a_plugin_that_waits_for_somebody_is_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "_QUIET_SECONDS", 0.1)
    code = (
        "import subprocess, sys, time\n"
        "print('open https://login.example and enter CODE', file=sys.stderr, flush=True)\n"
        "subprocess.run(['sleep', '20'])\n"
    )
    with pytest.raises(HarnessError, match="did not end within 1 s: open https://login") as caught:
        issued(settings(tmp_path, code), seconds=1)
    assert "sign in once by hand" in caught.value.fault.help
    assert "open https://login.example and enter CODE" in capsys.readouterr().err


def _with_plugin(api: ApiServer, tmp_path: Path, code: str, **more: Any) -> Cluster:
    user = {"exec": settings(tmp_path, code, interactiveMode="Never", **more)}
    return Cluster(connect(api.kubeconfig(tmp_path, user=user), None), outage_seconds=1)


COUNTED = (
    "import json, pathlib\n"
    "count = pathlib.Path(__file__).with_name('asked')\n"
    "asked = int(count.read_text()) + 1 if count.exists() else 1\n"
    "count.write_text(str(asked))\n"
    f"print(json.dumps({{'apiVersion': '{V1}', 'kind': 'ExecCredential', 'status':"
    " {'token': f'token-{asked}'}}))\n"
)


def test_what_the_server_does_not_accept_any_more_is_asked_for_again(
    api: ApiServer, tmp_path: Path
) -> None:
    with contextlib.closing(_with_plugin(api, tmp_path, COUNTED)) as cluster:
        api.answers.append(refusal(401, "Unauthorized", "Unauthorized"))
        assert cluster.list(kinds.POD, "ns").items == []
    assert [one.headers["authorization"] for one in api.requests] == [
        "Bearer token-1",
        "Bearer token-2",
    ]


def test_what_is_not_accepted_twice_is_an_error_that_names_the_plugin(
    api: ApiServer, tmp_path: Path
) -> None:
    with contextlib.closing(_with_plugin(api, tmp_path, COUNTED)) as cluster:
        api.answers.extend([refusal(401, "Unauthorized", "Unauthorized")] * 2)
        with pytest.raises(HarnessError) as caught:
            cluster.list(kinds.POD, "ns")
    assert "come from the plugin" in caught.value.fault.message
    assert caught.value.fault.reason is Reason.FORBIDDEN
    assert "renew the kubeconfig" in caught.value.fault.help
