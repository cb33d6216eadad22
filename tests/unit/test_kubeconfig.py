"""Files of KUBECONFIG are merged as kubectl does it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Reason

Object = dict[str, Any]


def written(
    path: Path,
    name: str = "a",
    *,
    server: str = "https://a.example",
    user: Object | None = None,
    cluster: Object | None = None,
    **top: Any,
) -> Path:
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": name, "user": {"token": "t"} if user is None else user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        **top,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body), "utf-8")
    return path


def several(*paths: Path | str) -> Path:
    return Path(":".join(str(one) for one in paths))


def test_the_first_current_context_wins(tmp_path: Path) -> None:
    a = written(tmp_path / "a", "staging")
    b = written(tmp_path / "b", "production")
    assert connect(several(a, b), None).context == "staging"
    assert connect(several(b, a), None).context == "production"
    assert connect(several(a, b), "production").context == "production"


def test_of_two_entries_of_a_name_the_first_wins(tmp_path: Path) -> None:
    a = written(tmp_path / "a", "default", server="https://a.example", user={"token": "of-a"})
    b = written(tmp_path / "b", "default", server="https://b.example", user={"token": "of-b"})
    found = connect(several(a, b), None)
    assert found.server == "https://a.example"
    assert found.configuration.api_key["BearerToken"] == "Bearer of-a"


@pytest.mark.parametrize(
    "other",
    ["", "{}", "# nothing\n", "current-context: ''\n", "contexts: null\nusers: null\n", "---\n"],
)
def test_files_without_content_are_passed_over(tmp_path: Path, other: str) -> None:
    a = written(tmp_path / "a")
    (tmp_path / "b").write_text(other)
    none = tmp_path / "none"
    for given in (several(a, tmp_path / "b"), several(tmp_path / "b", none, a), several("", a, "")):
        found = connect(given, None)
        assert found.context == "a"
    assert found.files == (str(a),)


def test_context_of_one_file_cluster_of_another(tmp_path: Path) -> None:
    a = written(tmp_path / "a", clusters=[], users=[])
    top: Object = {"current-context": "other"}
    b = written(tmp_path / "b", **top)
    assert connect(several(a, b), None).server == "https://a.example"


@pytest.mark.parametrize("user", [None, {}])
def test_a_user_may_be_null(tmp_path: Path, user: Object | None) -> None:
    path = written(tmp_path / "a", users=[{"name": "a", "user": user}])
    assert connect(path, None).configuration.api_key == {}


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    first = written(tmp_path / "one" / "config", "one")
    second = written(
        tmp_path / "two" / "config",
        "two",
        cluster={"certificate-authority": "pki/ca.crt"},
        user={"client-certificate": "me.crt", "client-key": "me.key"},
    )
    (tmp_path / "two" / "pki").mkdir()
    for name in ("pki/ca.crt", "me.crt", "me.key"):
        (tmp_path / "two" / name).write_text("x")
    found = connect(several(first, second), "two").configuration
    assert found.ssl_ca_cert == str(tmp_path / "two" / "pki" / "ca.crt")
    assert found.cert_file == str(tmp_path / "two" / "me.crt")


def test_data_comes_before_files(tmp_path: Path) -> None:
    data = base64.b64encode(b"of the data").decode()
    path = written(
        tmp_path / "a",
        cluster={"certificate-authority-data": data, "certificate-authority": "missing"},
    )
    found = connect(path, None).configuration
    assert Path(found.ssl_ca_cert).read_text() == "of the data"
    assert Path(found.ssl_ca_cert).stat().st_mode & 0o077 == 0


def test_a_token_file_comes_before_a_token_and_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-file\n")
    path = written(tmp_path / "a", user={"tokenFile": "token", "token": "old"})
    found = connect(path, None)
    assert found.configuration.api_key["BearerToken"] == "Bearer of-the-file"
    (tmp_path / "token").write_text("rotated")
    assert found.credentials is not None
    assert found.credentials.refresh() is False, "not before its minute is over"
    assert found.credentials.refresh(refused=True) is True
    assert found.configuration.api_key["BearerToken"] == "Bearer rotated"
    (tmp_path / "token").write_text("")
    assert found.credentials.refresh(refused=True) is False, "while it is replaced"


@pytest.mark.parametrize(
    ("server", "more", "expected"),
    [
        ("api.example:6443", {}, "http://api.example:6443"),
        ("api.example:6443", {"insecure-skip-tls-verify": True}, "https://api.example:6443"),
        ("https://api.example/k8s/clusters/c-1/", {}, "https://api.example/k8s/clusters/c-1"),
    ],
)
def test_servers_are_completed_as_in_kubectl(
    tmp_path: Path, server: str, more: Object, expected: str
) -> None:
    path = written(tmp_path / "a", server=server, cluster=more)
    assert connect(path, None).server == expected


def test_impersonation_is_sent_along(tmp_path: Path) -> None:
    user = {"token": "t", "as": "jane", "as-groups": ["dev", "ops"], "as-user-extra": {"r": ["x"]}}
    credentials = connect(written(tmp_path / "a", user=user), None).credentials
    assert credentials is not None
    assert credentials.headers == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-r", "x"),
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"contexts": [{"name": "a", "context": {"user": "a"}}]}, "names no cluster"),
        ({"contexts": [{"name": "a", "context": {"cluster": "b"}}]}, "the cluster 'b', which"),
        ({"contexts": [{"name": "a", "context": None}]}, "names no cluster"),
        ({"users": []}, "the user 'a', which it lacks"),
        ({"clusters": [{"name": "a", "cluster": {}}]}, "the cluster 'a' has no server"),
        ({"clusters": [{"name": "a", "cluster": None}]}, "the cluster 'a' has no server"),
        ({"clusters": [{"name": "a", "cluster": {"server": "ftp://x"}}]}, "is not an http:// or"),
        (
            {"clusters": [{"name": "a", "cluster": {"server": "https://x:y"}}]},
            "is not an http:// or",
        ),
        ({"clusters": [{"cluster": {}}]}, "an entry of clusters has no name"),
        ({"clusters": {"a": {}}}, "clusters is not a list"),
        ({"users": [{"name": "a", "user": "me"}]}, "holds no object"),
        ({"users": [{"name": "a", "user": {"tokenFile": "none"}}]}, "No such file"),
        ({"users": [{"name": "a", "user": {"client-certificate": "none"}}]}, "No such file"),
        (
            {"users": [{"name": "a", "user": {"client-certificate-data": "eA=="}}]},
            "no client-key",
        ),
        ({"users": [{"name": "a", "user": {"client-certificate-data": "?"}}]}, "is not base64"),
        (
            {
                "clusters": [
                    {"name": "a", "cluster": {"server": "https://x", "certificate-authority": "n"}}
                ]
            },
            "its certificate-authority ",
        ),
        ({"users": [{"name": "a", "user": {"auth-provider": {"name": "gcp"}}}]}, "'gcp' gives no"),
    ],
)
def test_what_is_incomplete_is_one_sentence(tmp_path: Path, changes: Object, told: str) -> None:
    path = written(tmp_path / "a", **changes)
    with pytest.raises(HarnessError) as caught:
        connect(path, None)
    assert told in caught.value.fault.message
    assert "\n" not in caught.value.fault.message
    assert caught.value.fault.help


def test_a_folder_and_a_file_that_may_not_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="it is a folder: name the file in it"):
        connect(tmp_path, None)
    path = tmp_path / "tabs"
    path.write_text("a:\n\tb: 1\n")
    with pytest.raises(HarnessError, match="not valid YAML at line 2"):
        connect(path, None)


def test_outside_of_a_pod_in_cluster_takes_no_other_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(written(tmp_path / "a")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(HarnessError, match="there is no service account") as caught:
        connect(None, None, in_cluster=True)
    assert caught.value.fault.reason is Reason.UNREACHABLE
