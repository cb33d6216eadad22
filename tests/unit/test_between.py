"""What stands between us and an API server is named: proxies, sign-in pages, authorities."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kar_checks.cluster import kinds, proxy
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Fault, Reason
from tests.unit.apiserver import Answer, ApiServer, free_port, refusal, write_kubeconfig
from tests.unit.between import (
    Authority,
    ExecServer,
    HttpProxy,
    Listener,
    SocksProxy,
    answered,
)

VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(authority: Authority) -> Iterator[ApiServer]:
    """An API server with TLS, for the name api.example and this machine."""
    server = ApiServer(tls=authority.server())
    yield server
    server.close()


def kubeconfig(folder: Path, authority: Authority, **cluster: Any) -> Path:
    """Name a server that only a proxy reaches; its certificate is the local one's."""
    given = {
        "certificate-authority": str(authority.file),
        "tls-server-name": "127.0.0.1",
        **cluster,
    }
    return write_kubeconfig(folder, "https://api.example:6443", **given)


def through(address: str) -> dict[str, Any]:
    return {"proxy-url": address}


def fault_of(path: Path, seconds: float = 1.0) -> Fault:
    """Return why the version cannot be read."""
    with (
        contextlib.closing(Cluster(connect(path, None), outage_seconds=seconds)) as client,
        pytest.raises(HarnessError) as caught,
    ):
        client.call("GET", "/version", patient=False)
    assert "\n" not in caught.value.fault.message
    assert "did not answer for 0 s" not in caught.value.fault.message
    assert caught.value.fault.help
    return caught.value.fault


def version_by(path: Path) -> str:
    with contextlib.closing(Cluster(connect(path, None), outage_seconds=1)) as client:
        return str(client.call("GET", "/version", patient=False)["gitVersion"])


# -- which proxy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "excepted", "expected"),
    [
        ("https://api.example.com:6443", "", False),
        ("https://api.example.com:6443", "*", True),
        ("https://api.example.com:6443", "example.com", True),
        ("https://api.example.com:6443", "EXAMPLE.com", True),
        ("https://api.example.com:6443", ".example.com", True),
        ("https://api.example.com:6443", "*.example.com", True),
        ("https://example.com:6443", ".example.com", False),
        ("https://notexample.com", "example.com", False),
        ("https://api.example.com:6443", "api.example.com:6443", True),
        ("https://api.example.com:6443", "api.example.com:443", False),
        ("https://api.example.com", "api.example.com:443", True),
        ("https://10.1.2.3:6443", "10.0.0.0/8", True),
        ("https://10.1.2.3:6443", " 192.168.0.0/16 , 10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:443", False),
        ("https://10.1.2.3:6443", "11.0.0.0/8,1.2.3,.2.3", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "fd00::2", False),
    ],
)
def test_no_proxy_excepts_what_it_does_in_kubectl(
    server: str, excepted: str, *, expected: bool
) -> None:
    assert proxy.bypassed(urlsplit(server), excepted) is expected
    found = proxy.choose(server, "", {"HTTPS_PROXY": "p:3128", "NO_PROXY": excepted})
    assert (found is None) is expected


def test_the_kubeconfigs_proxy_comes_first_and_is_never_excepted() -> None:
    given = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}
    found = proxy.choose("https://x", "http://b:2", given)
    assert found is not None
    assert (found.url, found.of_environment) == ("http://b:2", False)
    assert proxy.choose("https://x", "", {"ALL_PROXY": "http://a:1"}) is None
    assert proxy.choose("https://x", "", {"HTTP_PROXY": "http://a:1"}) is None
    lower = proxy.choose("http://x", "", {"http_proxy": "a"})
    assert lower is not None
    assert lower.url == "http://a:80"


@pytest.mark.parametrize(
    "address", ["proxy.example:3128", "ftp://a", "http://", "http://a:b", "http://u:p@:1"]
)
def test_an_address_that_is_no_proxys_is_one_sentence(tmp_path: Path, address: str) -> None:
    path = write_kubeconfig(tmp_path, "https://x", **through(address))
    with pytest.raises(
        HarnessError, match=r"the proxy '.*' .proxy-url of the kubeconfig."
    ) as caught:
        connect(path, None)
    assert "u:p" not in caught.value.fault.message


# -- HTTP proxies ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["environment", "kubeconfig"])
def test_user_and_password_of_a_proxy_are_sent(
    secure: ApiServer,
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    between = HttpProxy(secure.port, credentials="me@corp:p@ss:w/d+é")
    address = f"http://me%40corp:p%40ss%3Aw%2Fd+%C3%A9@127.0.0.1:{between.port}"
    more: dict[str, Any] = {}
    if by == "environment":
        monkeypatch.setenv("HTTPS_PROXY", address)
    else:
        more = through(address)
    assert version_by(kubeconfig(tmp_path, authority, **more)) == "v1.37.0"
    assert between.heads[0].startswith("CONNECT api.example:6443 ")
    assert not any("Proxy-Authorization" in one.headers for one in secure.requests)
    between.close()


@pytest.mark.parametrize(
    ("credentials", "refuses", "user", "told", "helps"),
    [
        ("a:b", 0, "", "asks for a user (407)", "USER:PASSWORD@"),
        ("a:b", 0, "a:c@", "does not accept the user and password (407)", "percent-encoded"),
        ("", 403, "", "refuses connections to api.example:6443 (403)", "allow CONNECT"),
        ("", 502, "", "cannot reach api.example:6443 (502)", "NO_PROXY"),
    ],
)
def test_a_proxy_that_refuses_is_named_and_not_the_kubeconfig(
    secure: ApiServer,
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    credentials: str,
    refuses: int,
    user: str,
    told: str,
    helps: str,
) -> None:
    between = HttpProxy(secure.port, credentials=credentials, refuses=refuses)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{user}127.0.0.1:{between.port}")
    fault = fault_of(kubeconfig(tmp_path, authority))
    assert fault.message.startswith(f"the proxy http://127.0.0.1:{between.port} (HTTPS_PROXY) ")
    assert told in fault.message
    assert helps in fault.help
    assert "a:c" not in fault.message + fault.help
    assert fault.reason is Reason.UNREACHABLE
    between.close()


def test_a_proxy_that_is_not_there_is_named(tmp_path: Path, authority: Authority) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    fault = fault_of(kubeconfig(tmp_path, authority, **through(address)))
    assert f"the proxy {address} (proxy-url of the kubeconfig) refuses conn" in fault.message
    assert "remove proxy-url" in fault.help


def test_a_proxy_in_front_of_a_plain_server_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asks(Listener):
        def serve(self, client: Any) -> None:
            client.recv(4096)
            client.sendall(answered("407 Who are you", "").encode())

    between = Asks()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{between.port}")
    fault = fault_of(write_kubeconfig(tmp_path, "http://api.example"))
    assert "asks for a user (407)" in fault.message
    between.close()


def test_what_only_this_machine_serves_is_reached_without_the_environments_proxy(
    api: ApiServer, secure: ApiServer, tmp_path: Path, authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    between = HttpProxy(secure.port, refuses=403)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{between.port}")
    known: dict[str, Any] = {"certificate-authority": str(authority.file)}
    assert version_by(secure.kubeconfig(tmp_path, **known)) == "v1.37.0"
    path = write_kubeconfig(tmp_path, f"https://127.0.0.1:{free_port()}", **known)
    assert "refuses connections to 127.0.0.1" in fault_of(path).message
    between.close()


def test_a_proxy_with_tls_is_trusted_by_this_machine_and_not_by_the_kubeconfig(
    secure: ApiServer, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corp").mkdir()
    corp = Authority(tmp_path / "corp", "Corp")
    between = HttpProxy(secure.port, credentials="a:b")
    between.tls = corp.server()
    path = kubeconfig(tmp_path, authority, **{"proxy-url": f"https://a:b@127.0.0.1:{between.port}"})
    assert "speaks no TLS that is accepted" in fault_of(path).message
    monkeypatch.setenv("SSL_CERT_FILE", str(corp.file))
    assert version_by(path) == "v1.37.0"
    assert between.heads[-1].startswith("CONNECT api.example:6443 ")
    between.close()


# -- SOCKS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", [("", ""), ("me", "pass:word")])
def test_a_bastions_socks_proxy_works_and_resolves_the_name(
    secure: ApiServer, tmp_path: Path, authority: Authority, credentials: tuple[str, str]
) -> None:
    between = SocksProxy(secure.port, credentials=credentials)
    user = "me:pass%3Aword@" if credentials[0] else ""
    address = f"socks5://{user}127.0.0.1:{between.port}"
    path = kubeconfig(tmp_path, authority, **through(address))
    assert version_by(path) == "v1.37.0"
    assert between.names == ["api.example"]
    between.close()


@pytest.mark.parametrize(
    ("credentials", "refuses", "told"),
    [
        (("a", "b"), 0, "asks for a user and password"),
        (("", ""), 2, "refused api.example:6443: not allowed by its rules"),
        (("", ""), 4, "refused api.example:6443: host unreachable"),
    ],
)
def test_a_socks_proxy_that_refuses_is_named(
    secure: ApiServer,
    tmp_path: Path,
    authority: Authority,
    credentials: tuple[str, str],
    refuses: int,
    told: str,
) -> None:
    between = SocksProxy(secure.port, credentials=credentials, refuses=refuses)
    address = f"socks5://127.0.0.1:{between.port}"
    fault = fault_of(kubeconfig(tmp_path, authority, **through(address)))
    assert fault.message.startswith(f"the proxy {address} (proxy-url of the kubeconfig) ")
    assert told in fault.message
    between.close()


def test_a_socks_proxy_that_is_not_there_is_named(tmp_path: Path, authority: Authority) -> None:
    address = f"socks5://127.0.0.1:{free_port()}"
    fault = fault_of(kubeconfig(tmp_path, authority, **through(address)))
    assert f"the proxy {address} (proxy-url of the kubeconfig) refuses conn" in fault.message


# -- servers that are away, and strangers that answer ------------------------------------------


def test_a_refused_connection_says_that_nothing_listens(tmp_path: Path) -> None:
    port = free_port()
    fault = fault_of(write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    assert fault.message == (
        f"the API server at http://127.0.0.1:{port} did not answer: the connection to "
        f"127.0.0.1:{port} was refused, so nothing listens there"
    )


def test_a_name_that_nobody_knows_is_named(tmp_path: Path) -> None:
    fault = fault_of(write_kubeconfig(tmp_path, "https://api.invalid:6443"))
    assert "the name api.invalid cannot be resolved" in fault.message


def test_a_server_that_says_nothing_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Listener):
        def serve(self, client: Any) -> None:
            client.recv(4096)
            time.sleep(3)

    monkeypatch.setattr("kar_checks.cluster.client.READ_SECONDS", 0.3)
    silent = Silent()
    client = Cluster(connect(write_kubeconfig(tmp_path, f"http://127.0.0.1:{silent.port}"), None))
    with contextlib.closing(client), pytest.raises(HarnessError, match="sends no answer"):
        client.raw("GET", "/version", patient=False, seconds=0.3)
    silent.close()


def test_a_redirect_to_a_sign_in_page_is_named_without_its_query(
    api: ApiServer, tmp_path: Path
) -> None:
    to = {"Location": "https://login.example/start?token=secret"}
    api.answers.append(Answer(302, "<html>", headers=to))
    fault = fault_of(api.kubeconfig(tmp_path))
    assert "redirects to https://login.example/start (HTTP 302)" in fault.message
    assert "secret" not in fault.message
    assert len(api.requests) == 1


@pytest.mark.parametrize("status", [200, 403, 404, 511])
def test_a_web_page_in_place_of_an_answer_is_named_by_its_title(
    api: ApiServer, tmp_path: Path, status: int
) -> None:
    page = "<!DOCTYPE html><html><head><title>Sign in &amp; go</title></head></html>"
    api.answers.append(Answer(status, page))
    fault = fault_of(api.kubeconfig(tmp_path))
    assert "a web page ('Sign in & go')" in fault.message
    assert "something in front of http://127.0.0.1" in fault.message


def test_plain_http_to_a_server_with_tls_is_told(api: ApiServer, tmp_path: Path) -> None:
    api.answers.append(Answer(400, "Client sent an HTTP request to an HTTPS server.\n"))
    assert "expects https://" in fault_of(api.kubeconfig(tmp_path)).message


def test_tls_to_a_plain_server_is_told(api: ApiServer, tmp_path: Path) -> None:
    fault = fault_of(write_kubeconfig(tmp_path, f"https://127.0.0.1:{api.port}"))
    assert "does not speak TLS" in fault.message


def test_answers_may_be_compressed(api: ApiServer, cluster: Cluster) -> None:
    body = {"gitVersion": "v1.37.0"}
    api.answers.append(Answer(200, body, headers={"Content-Encoding": "gzip"}))
    assert cluster.call("GET", "/version") == body


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("patient", [True, False])
def test_a_server_that_says_when_to_come_back_is_heeded(
    api: ApiServer, cluster: Cluster, status: int, *, patient: bool
) -> None:
    busy = refusal(status, "TooManyRequests", "wait")
    api.answers.append(Answer(status, busy.body, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert cluster.call("GET", "/version", patient=patient)["gitVersion"]
    assert time.monotonic() - began >= 1


def test_a_server_that_stays_busy_is_told_as_busy(api: ApiServer, tmp_path: Path) -> None:
    busy = refusal(429, "TooManyRequests", "too many")
    api.answers.extend([Answer(429, busy.body, headers={"Retry-After": "1"})] * 5)
    fault = fault_of(api.kubeconfig(tmp_path), seconds=0.5)
    assert "it gets too many requests (429" in fault.message


# -- certificates ------------------------------------------------------------------------------


def test_an_intercepting_authority_is_named(
    secure: ApiServer, tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "Corp Web Gateway")
    path = secure.kubeconfig(tmp_path, **{"certificate-authority": str(other.file)})
    fault = fault_of(path)
    assert "was signed by 'CN=authority', which the kubeconfig does not trust" in fault.message
    assert "certificate verify failed" in fault.message
    assert "NO_PROXY" in fault.help
    assert "certificate-authority" in fault.help


@pytest.mark.parametrize(
    ("addresses", "days", "told"),
    [
        (("127.0.0.1",), -1, "is not valid now (valid "),
        (("127.0.0.9",), 1, "is not for 127.0.0.1; it is for 127.0.0.9"),
    ],
)
def test_a_certificate_that_does_not_fit_is_told_apart(
    tmp_path: Path, authority: Authority, addresses: tuple[str, ...], days: int, told: str
) -> None:
    server = ApiServer(tls=authority.server(addresses, days))
    path = server.kubeconfig(tmp_path, **{"certificate-authority": str(authority.file)})
    assert told in fault_of(path).message
    server.close()


def test_a_file_that_is_no_certificate_is_one_sentence(secure: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    path = secure.kubeconfig(tmp_path, **{"certificate-authority": str(tmp_path / "ca")})
    assert "its certificate-authority" in fault_of(path).message


# -- credentials -------------------------------------------------------------------------------


def _jwt(end: datetime) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": end.timestamp()}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.x"


def test_credentials_that_ran_out_are_told(
    api: ApiServer, tmp_path: Path, authority: Authority
) -> None:
    unauthorized = refusal(401, "Unauthorized", "Unauthorized")
    old = {"token": _jwt(datetime(2026, 1, 2, 3, 4, tzinfo=UTC))}
    certificate, key = authority.pair("me", days=-2)
    expired = {"client-certificate": str(certificate), "client-key": str(key)}
    for user, told in (
        (old, "the token of user 'research' expired on 2026-01-02 at 03:04 UTC"),
        ({"token": "opaque"}, "the token of user 'research' is not accepted"),
        (expired, "the client certificate of user 'research' expired on "),
        ({"username": "a", "password": "b"}, "servers since 1.19 take none"),
        ({}, "gives no credentials"),
    ):
        api.answers.append(unauthorized)
        fault = fault_of(api.kubeconfig(tmp_path, user=user))
        assert told in fault.message
        assert fault.reason is Reason.FORBIDDEN


def test_groups_of_an_impersonation_are_each_sent(api: ApiServer, tmp_path: Path) -> None:
    user = {"token": "t", "as": "jane", "as-groups": ["dev", "ops"]}
    assert version_by(api.kubeconfig(tmp_path, user=user))
    assert api.requests[0].headers["Impersonate-User"] == "jane"
    assert api.requests[0].headers["Impersonate-Group"] in ("dev", "ops")


# -- exec --------------------------------------------------------------------------------------

STATUS = json.dumps(
    {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message":
     'pods "p" is forbidden: User "x" cannot create resource "pods/exec" in API group ""'}
)  # fmt: skip


def executed(server: Listener, folder: Path, **cluster: Any) -> Any:
    path = write_kubeconfig(folder, f"http://127.0.0.1:{server.port}", **cluster)
    with contextlib.closing(Cluster(connect(path, None))) as client:
        return client.exec("ns", "p", ["id", "-u"], seconds=3)


def test_what_a_command_prints_comes_in_many_frames(tmp_path: Path) -> None:
    done = b'\x03{"status": "Success"}'
    server = ExecServer(frames=[b"\x01ab\xc3", b"\x02oops", b"\x01\xa4" + b"c" * 300, done])
    found = executed(server, tmp_path)
    assert (found.exit_code, found.stdout, found.stderr) == (0, "ab\u00e4" + "c" * 300, "oops")
    head = server.heads[0]
    assert head.startswith("GET /api/v1/namespaces/ns/pods/p/exec?command=id&command=-u&stdout=")
    assert "authorization: Bearer a-token" in head
    server.close()


def test_a_command_that_does_not_end_has_no_exit_code(tmp_path: Path) -> None:
    server = ExecServer(frames=[b"\x01begun"], close_frame=True)
    assert executed(server, tmp_path).exit_code is None
    server.close()


def test_a_connection_that_breaks_within_a_command_is_an_error(tmp_path: Path) -> None:
    server = ExecServer(frames=[b"\x01begun"], close_frame=False)
    with pytest.raises(HarnessError, match="exec in pod p: broken off"):
        executed(server, tmp_path)
    server.close()


@pytest.mark.parametrize(
    ("answer", "reason", "told", "helps"),
    [
        (
            answered("403 Forbidden", STATUS, Content_Type="application/json"),
            Reason.FORBIDDEN,
            'cannot create resource "pods/exec"',
            "grant create (and get) on pods/exec",
        ),
        (
            answered("403 Forbidden", "<html><title>Blocked</title></html>"),
            Reason.UNREACHABLE,
            "refuses the upgrade to WebSocket (HTTP 403, 'Blocked')",
            "pass upgrades to WebSocket",
        ),
        (answered("400 Bad Request", ""), Reason.UNREACHABLE, "(HTTP 400)", "pass upgrades"),
        (answered("426 Upgrade Required", "x"), Reason.UNREACHABLE, "(HTTP 426)", "pass upgrades"),
        (answered("502 Bad Gateway", "x"), Reason.UNREACHABLE, "(HTTP 502)", "pass upgrades"),
        (answered("200 OK", "{}"), Reason.UNREACHABLE, "(HTTP 200)", "pass upgrades"),
        (
            answered("302 Found", "", Location="https://login.example"),
            Reason.UNREACHABLE,
            "does not complete the upgrade",
            "pass upgrades",
        ),
        (
            answered("404 Not Found", '{"kind": "Status", "message": "pods \\"p\\" not found"}'),
            Reason.API_ERROR,
            'pods "p" not found',
            "",
        ),
    ],
)
def test_who_refuses_an_exec_is_told_apart(
    tmp_path: Path, answer: str, reason: Reason, told: str, helps: str
) -> None:
    server = ExecServer(answer=answer)
    with pytest.raises(HarnessError) as caught:
        executed(server, tmp_path)
    fault = caught.value.fault
    assert (fault.reason, told in fault.message) == (reason, True), fault
    assert helps in fault.help
    assert "right" not in fault.message or reason is Reason.FORBIDDEN
    server.close()


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_an_exec_goes_through_the_proxy_with_its_password(tmp_path: Path, kind: str) -> None:
    server = ExecServer(frames=[b'\x03{"status": "Success"}'])
    between: HttpProxy | SocksProxy
    if kind == "http":
        between = HttpProxy(server.port, credentials="a:b?>")
    else:
        between = SocksProxy(server.port, credentials=("a", "b?>"))
    address = f"{kind}://a:b%3F%3E@127.0.0.1:{between.port}"
    path = write_kubeconfig(tmp_path, "http://api.example", **through(address))
    with contextlib.closing(Cluster(connect(path, None))) as client:
        assert client.exec("ns", "p", ["id"]).exit_code == 0
    between.close()
    server.close()


def test_a_proxy_that_refuses_the_tunnel_of_an_exec_is_named(tmp_path: Path) -> None:
    between = HttpProxy(1, refuses=403)
    address = f"http://127.0.0.1:{between.port}"
    path = write_kubeconfig(tmp_path, "http://api.example", **through(address))
    with (
        contextlib.closing(Cluster(connect(path, None))) as client,
        pytest.raises(HarnessError, match=r"refuses connections to api.example:80 .403.") as caught,
    ):
        client.exec("ns", "p", ["id"])
    assert caught.value.fault.reason is Reason.UNREACHABLE
    between.close()


# -- watches that something swallows -----------------------------------------------------------


def test_a_watch_that_is_swallowed_is_compared_with_a_list(
    api: ApiServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kar_checks.cluster.client.SILENT_SECONDS", 0.3)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}}
    first = api.add(pod, "pods")
    api.streams.extend([[5.0]] * 20)
    key = ("v1", "ns", "pods", "p")
    new = json.loads(json.dumps(first))
    later = threading.Timer(0.5, lambda: api.put("MODIFIED", key, new))
    gone = threading.Timer(1.2, lambda: api.put("DELETED", key, json.loads(json.dumps(new))))
    later.start()
    gone.start()
    seen = [
        (change, item["metadata"]["name"])
        for change, item in cluster.watch(
            kinds.POD, "ns", resource_version="1", deadline=time.monotonic() + 2.5
        )
    ]
    later.join()
    gone.join()
    assert seen == [("MODIFIED", "p"), ("MODIFIED", "p"), ("DELETED", "p")] or seen == [
        ("MODIFIED", "p"),
        ("DELETED", "p"),
    ]


def test_a_redirect_to_https_says_what_to_write(api: ApiServer, tmp_path: Path) -> None:
    to = {"Location": f"https://127.0.0.1:{api.port}/version"}
    api.answers.append(Answer(301, "", headers=to))
    assert "with https://" in fault_of(api.kubeconfig(tmp_path)).help


def test_a_client_certificate_that_the_server_refuses_is_told_with_its_end(
    tmp_path: Path, authority: Authority
) -> None:
    context = authority.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    server = ApiServer(tls=context)
    certificate, key = authority.pair("me", days=-2)
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    known = {"certificate-authority": str(authority.file)}
    fault = fault_of(server.kubeconfig(tmp_path, user=user, **known))
    assert "the client certificate of user 'research' expired on" in fault.message
    server.close()


def test_an_exec_that_hangs_in_the_handshake_is_a_timeout(tmp_path: Path) -> None:
    class Hangs(Listener):
        def serve(self, client: Any) -> None:
            client.recv(4096)
            time.sleep(12)

    server = Hangs()
    path = write_kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")
    with (
        contextlib.closing(Cluster(connect(path, None))) as client,
        pytest.raises(HarnessError, match="no answer within 5 s") as caught,
    ):
        client.exec("ns", "p", ["id"], seconds=0.3)
    assert caught.value.fault.reason is Reason.TIMEOUT
    server.close()
