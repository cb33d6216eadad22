from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kar_checks import __version__
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object, exit_code
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.model import Reason
from tests.unit.apiserver import (
    HANG_UP,
    LOSE,
    Answer,
    ApiServer,
    free_port,
    refusal,
    write_kubeconfig,
)


def config_map(name: str = "one", **labels: str) -> Object:
    meta: Object = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}


def pod(name: str) -> Object:
    meta = {"name": name, "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta}


# -- a server that is away ---------------------------------------------------------------------


def test_a_server_that_comes_back_is_waited_for_and_the_outage_is_noted(tmp_path: Path) -> None:
    port = free_port()
    client = Cluster(connect(write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}"), None))
    servers: list[ApiServer] = []
    late = threading.Timer(0.5, lambda: servers.append(ApiServer(port=port)))
    late.start()
    try:
        assert client.call("GET", "/version")["gitVersion"] == "v1.37.0"
        assert 0.4 < client.outages.seconds() < 60
        assert len(client.outages.spans) == 1
    finally:
        late.join()
        client.close()
        servers[0].close()


def test_a_server_that_stays_away_is_unreachable(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path, f"http://127.0.0.1:{free_port()}")
    client = Cluster(connect(kubeconfig, None), outage_seconds=0.3)
    with pytest.raises(HarnessError, match="did not answer for") as caught:
        client.call("GET", "/version")
    assert caught.value.fault.reason is Reason.UNREACHABLE
    assert client.requests > 1
    assert client.outages.seconds() >= 0.3


def test_an_impatient_request_is_sent_once(tmp_path: Path) -> None:
    client = Cluster(connect(write_kubeconfig(tmp_path, f"http://127.0.0.1:{free_port()}"), None))
    with pytest.raises(HarnessError):
        client.call("GET", "/version", patient=False)
    assert client.requests == 1


def test_an_interrupted_run_does_not_wait_for_a_server(tmp_path: Path) -> None:
    client = Cluster(connect(write_kubeconfig(tmp_path, f"http://127.0.0.1:{free_port()}"), None))
    client.stop()
    with pytest.raises(HarnessError):
        client.call("GET", "/version")
    assert client.requests == 1


@pytest.mark.parametrize(
    "trouble",
    [
        HANG_UP,
        Answer(429, "slow down"),
        refusal(429, "TooManyRequests", "the server has received too many requests"),
        Answer(502, "<html>bad gateway</html>"),
        Answer(503, "no healthy upstream"),
        refusal(503, "ServiceUnavailable", "apiserver not ready"),
        refusal(503, "ServiceUnavailable", "apiserver is shutting down"),
        refusal(504, "Timeout", "etcdserver: request timed out"),
        refusal(
            403,
            "Forbidden",
            'pods "a" is forbidden: error looking up service account ns/default: Get '
            '"https://10.0.0.1:6443/api/v1/namespaces/ns/serviceaccounts/default": dial tcp '
            "10.0.0.1:6443: connect: connection refused",
        ),
    ],
)
def test_a_passing_trouble_is_tried_again(
    cluster: Cluster, api: ApiServer, trouble: Answer
) -> None:
    api.answers.append(trouble)
    assert cluster.call("GET", "/version")["gitVersion"] == "v1.37.0"
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            refusal(503, "ServiceUnavailable", "the webhook's service has no endpoints"),
            "unreachable",
        ),
        (refusal(500, "InternalError", "boom"), "api_error"),
        (
            refusal(
                403,
                "Forbidden",
                'pods "a" is forbidden: error looking up service account ns/default: '
                'serviceaccount "default" not found',
            ),
            "api_error",
        ),
        (refusal(422, "Invalid", "spec.x: Invalid value"), "api_error"),
        (Answer(500, "<html>sorry</html>"), "api_error"),
        (Answer(403, ""), "api_error"),
    ],
)
def test_a_refusal_is_not_tried_again(
    cluster: Cluster, api: ApiServer, answer: Answer, reason: str
) -> None:
    api.answers.append(answer)
    with pytest.raises(ApiError) as caught:
        cluster.get(kinds.POD, "one", "ns")
    assert len(api.requests) == 1
    assert caught.value.status == answer.status
    assert caught.value.fault.reason.value == reason
    assert "GET /api/v1/namespaces/ns/pods/one" in caught.value.fault.message


@pytest.mark.parametrize("text", ["", "<html>a login page</html>", "[1]", "\x00"])
def test_an_answer_that_is_no_json_object_is_named(
    cluster: Cluster, api: ApiServer, text: str
) -> None:
    api.answers.append(Answer(200, text))
    with pytest.raises(HarnessError, match="not JSON") as caught:
        cluster.call("GET", "/version")
    assert caught.value.fault.reason is Reason.API_ERROR


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[int]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "server.pem"
    both.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_certificate_that_is_not_trusted_is_a_sentence(tmp_path: Path, self_signed: int) -> None:
    kubeconfig = write_kubeconfig(tmp_path, f"https://127.0.0.1:{self_signed}")
    client = Cluster(connect(kubeconfig, None))
    with pytest.raises(HarnessError, match="certificate verify failed") as caught:
        client.call("GET", "/version", patient=False)
    assert caught.value.fault.reason is Reason.UNREACHABLE


# -- who asks ----------------------------------------------------------------------------------


def test_every_request_says_who_sends_it_and_is_counted(cluster: Cluster, api: ApiServer) -> None:
    cluster.work_for("gang")
    cluster.create(kinds.CONFIG_MAP, config_map(), "ns")
    cluster.list(kinds.CONFIG_MAP, "ns")
    cluster.delete(kinds.CONFIG_MAP, "one", "ns")
    agents = {one.headers["User-Agent"] for one in api.requests}
    assert agents == {f"kar-checks/{__version__} gang 20261122-101504-9f3a"}
    assert {one.headers["authorization"] for one in api.requests} == {"Bearer a-token"}
    assert cluster.requests == len(api.requests) == 3


def test_requests_of_many_threads_are_all_counted(cluster: Cluster, api: ApiServer) -> None:
    threads = [threading.Thread(target=cluster.call, args=("GET", "/version")) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert cluster.requests == len(api.requests) == 20


# -- create, read, delete ----------------------------------------------------------------------


def test_a_create_refuses_unknown_fields(cluster: Cluster, api: ApiServer) -> None:
    cluster.create(kinds.CONFIG_MAP, config_map(), "ns")
    assert api.requests[0].query == {"fieldValidation": "Strict"}
    cluster.create(kinds.CONFIG_MAP, config_map("two"), "ns", dry_run=True)
    assert api.requests[1].query == {"fieldValidation": "Strict", "dryRun": "All"}


def test_a_create_whose_answer_was_lost_is_found_again(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(LOSE)
    made = cluster.create(kinds.CONFIG_MAP, config_map(run="mine"), "ns")
    assert made["metadata"]["uid"]
    assert [one.method for one in api.requests] == ["POST", "POST", "GET"]


def test_an_object_of_somebody_else_is_not_taken_for_a_lost_create(
    cluster: Cluster, api: ApiServer
) -> None:
    foreign = config_map(run="theirs")
    foreign["metadata"]["namespace"] = "ns"
    api.add(foreign, "configmaps")
    api.answers.append(HANG_UP)
    with pytest.raises(ApiError) as caught:
        cluster.create(kinds.CONFIG_MAP, config_map(run="mine"), "ns")
    assert caught.value.status == 409


def test_without_an_outage_a_name_that_is_taken_is_refused(
    cluster: Cluster, api: ApiServer
) -> None:
    cluster.create(kinds.CONFIG_MAP, config_map(run="mine"), "ns")
    with pytest.raises(ApiError) as caught:
        cluster.create(kinds.CONFIG_MAP, config_map(run="mine"), "ns")
    assert caught.value.api_reason == "AlreadyExists"


def test_a_list_reads_every_page(cluster: Cluster, api: ApiServer) -> None:
    first = {
        "metadata": {"continue": "more", "resourceVersion": "7"},
        "items": [pod("a"), pod("b")],
    }
    second = {"metadata": {"resourceVersion": "7"}, "items": [pod("c")]}
    api.answers.extend([Answer(200, first), Answer(200, second)])
    found = cluster.list(kinds.POD, "ns", labels="run=x", fields="spec.nodeName=n")
    assert [one["metadata"]["name"] for one in found.items] == ["a", "b", "c"]
    assert found.resource_version == "7"
    asked = {"limit": "500", "labelSelector": "run=x", "fieldSelector": "spec.nodeName=n"}
    assert api.requests[0].query == asked
    assert api.requests[1].query == {**asked, "continue": "more"}


def test_a_list_whose_token_expires_begins_again_at_once(cluster: Cluster, api: ApiServer) -> None:
    first = {"metadata": {"continue": "more", "resourceVersion": "7"}, "items": [pod("a")]}
    whole = {"metadata": {"resourceVersion": "9"}, "items": [pod("a"), pod("b")]}
    expired = refusal(410, "Expired", "The provided continue parameter is too old")
    api.answers.extend([Answer(200, first), expired, Answer(200, whole)])
    found = cluster.list(kinds.POD, "ns", labels="run=x")
    assert [one["metadata"]["name"] for one in found.items] == ["a", "b"]
    assert found.resource_version == "9"
    assert api.requests[2].query == {"labelSelector": "run=x"}
    api.answers.append(expired)
    with pytest.raises(ApiError):
        cluster.list(kinds.POD, "ns")


def test_a_list_without_items_is_empty(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(Answer(200, {"metadata": {"resourceVersion": "7"}, "items": None}))
    assert cluster.list(kinds.POD).items == []


def test_what_is_not_there_is_none_and_what_is_forbidden_is_an_error(
    cluster: Cluster, api: ApiServer
) -> None:
    assert cluster.find(kinds.POD, "one", "ns") is None
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot get resource "pods"'))
    with pytest.raises(ApiError) as caught:
        cluster.find(kinds.POD, "one", "ns")
    assert caught.value.fault.reason is Reason.FORBIDDEN


def test_a_delete_takes_only_the_object_with_that_uid(cluster: Cluster, api: ApiServer) -> None:
    uid = cluster.create(kinds.CONFIG_MAP, config_map(), "ns")["metadata"]["uid"]
    assert cluster.delete(kinds.CONFIG_MAP, "one", "ns", uid="another") is False
    assert cluster.find(kinds.CONFIG_MAP, "one", "ns")
    assert cluster.delete(kinds.CONFIG_MAP, "one", "ns", uid=uid, grace=0) is True
    assert api.asked("DELETE")[-1].body["gracePeriodSeconds"] == 0
    assert cluster.delete(kinds.CONFIG_MAP, "one", "ns", uid=uid) is False


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        (kinds.CONFIG_MAP, "Background"),
        (kinds.DEPLOYMENT, "Foreground"),
        (kinds.LEADER_WORKER_SET, "Foreground"),
    ],
)
def test_what_has_pods_of_its_own_goes_after_them(
    cluster: Cluster, api: ApiServer, kind: kinds.Kind, policy: str
) -> None:
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "one"}}
    cluster.create(kind, body, "ns")
    cluster.delete(kind, "one", "ns")
    assert api.asked("DELETE")[-1].body["propagationPolicy"] == policy


def test_another_conflict_of_a_delete_is_an_error(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(refusal(409, "Conflict", "the namespace is being finalized"))
    with pytest.raises(ApiError):
        cluster.delete(kinds.CONFIG_MAP, "one", "ns", uid="u")


def test_a_patch_says_what_kind_it_is(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(Answer(200, {}))
    cluster.patch(kinds.POD, "one", {"spec": {}}, "ns", subresource="resize")
    asked = api.requests[0]
    assert asked.path == "/api/v1/namespaces/ns/pods/one/resize"
    assert asked.headers["Content-Type"] == "application/strategic-merge-patch+json"


def test_what_the_server_keeps_byte_by_byte_is_sent_without_blanks(
    cluster: Cluster, api: ApiServer
) -> None:
    body = {"metadata": {"name": "one"}, "kind": "ResourceClaim"}
    cluster.create(kinds.RESOURCE_CLAIM, body, "ns")
    asked = api.asked("POST")[-1]
    assert asked.headers["Content-Type"] == "application/yaml"
    sent = '{"kind":"ResourceClaim","metadata":{"name":"one"}}'
    assert asked.headers["Content-Length"] == str(len(sent))


def test_a_log_is_text_and_its_refusal_an_error(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(Answer(200, '{"a": 1}\nplain\n'))
    assert cluster.pod_log("ns", "one", "main", tail=2) == '{"a": 1}\nplain\n'
    assert api.requests[0].query == {"container": "main", "tailLines": "2"}
    with pytest.raises(ApiError, match="log of pod one"):
        cluster.pod_log("ns", "one")


# -- watches -----------------------------------------------------------------------------------


def changes(cluster: Cluster, seconds: float = 5.0, version: str = "1") -> list[tuple[str, str]]:
    return [
        (change, str(item["metadata"]["resourceVersion"]))
        for change, item in cluster.watch(
            kinds.POD, "ns", resource_version=version, deadline=time.monotonic() + seconds
        )
    ]


def at(change: str, version: int) -> bytes:
    item = {"metadata": {"name": "one", "resourceVersion": str(version)}}
    return json.dumps({"type": change, "object": item}).encode() + b"\n"


GONE = json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old"}}).encode() + b"\n"


def until_gone(cluster: Cluster) -> list[tuple[str, str]]:
    """Return what a watch yields up to its error."""
    seen: list[tuple[str, str]] = []
    with pytest.raises(ApiError) as caught:
        for change, item in cluster.watch(
            kinds.POD, "ns", resource_version="1", deadline=time.monotonic() + 30
        ):
            seen.append((change, str(item["metadata"]["resourceVersion"])))
    assert caught.value.status == 410
    return seen


def test_events_may_be_split_anywhere(cluster: Cluster, api: ApiServer) -> None:
    whole = at("ADDED", 2) + b"\n" + at("MODIFIED", 3) + GONE
    api.streams.append([whole[n : n + 7] for n in range(0, len(whole), 7)])
    assert until_gone(cluster) == [("ADDED", "2"), ("MODIFIED", "3")]


@pytest.mark.parametrize("ending", [(), (b'{"type": "MODI', b"")], ids=["ends", "breaks"])
def test_a_watch_goes_on_where_its_stream_ended(
    cluster: Cluster, api: ApiServer, ending: tuple[bytes, ...]
) -> None:
    api.streams.extend([[at("ADDED", 2), *ending], [at("DELETED", 5), GONE]])
    assert until_gone(cluster) == [("ADDED", "2"), ("DELETED", "5")]
    assert [one.query["resourceVersion"] for one in api.asked("GET", "pods")] == ["1", "2"]


def test_a_bookmark_moves_the_start_and_is_not_told(cluster: Cluster, api: ApiServer) -> None:
    api.streams.extend([[at("BOOKMARK", 9)], [GONE]])
    assert until_gone(cluster) == []
    assert api.requests[-1].query["resourceVersion"] == "9"


@pytest.mark.parametrize(
    "trouble",
    [Answer(429, {}), Answer(502, {}), refusal(503, "ServiceUnavailable", "apiserver not ready")],
)
def test_a_watch_outlasts_a_passing_trouble(
    cluster: Cluster, api: ApiServer, trouble: Answer
) -> None:
    api.answers.append(trouble)
    api.streams.append([at("ADDED", 2), GONE])
    assert until_gone(cluster) == [("ADDED", "2")]


def test_a_watch_that_is_refused_is_an_error(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot watch resource "pods"'))
    with pytest.raises(ApiError) as caught:
        changes(cluster)
    assert caught.value.fault.reason is Reason.FORBIDDEN


def test_a_stream_that_is_no_json_is_an_error_of_the_harness(
    cluster: Cluster, api: ApiServer
) -> None:
    api.streams.append([b"<html>a login page</html>\n"])
    with pytest.raises(HarnessError, match="not JSON"):
        changes(cluster)


def test_a_watch_ends_at_its_deadline(cluster: Cluster, api: ApiServer) -> None:
    api.streams.append([at("ADDED", 2), 20.0])
    began = time.monotonic()
    assert changes(cluster, seconds=0.3) == [("ADDED", "2")]
    assert 0.3 <= time.monotonic() - began < 10


def test_streams_that_end_at_once_are_not_asked_for_without_pause(
    cluster: Cluster, api: ApiServer
) -> None:
    api.streams.extend([[]] * 1000)
    changes(cluster, seconds=0.5)
    assert 1 < len(api.requests) <= 10


def test_stop_ends_a_quiet_watch_and_later_requests_work(cluster: Cluster, api: ApiServer) -> None:
    threading.Timer(0.2, cluster.stop).start()
    began = time.monotonic()
    assert changes(cluster, seconds=60, version="0") == []
    assert time.monotonic() - began < 20
    assert cluster.call("GET", "/version")
    assert changes(cluster, seconds=60) == []
    cluster.resume()
    api.streams.append([at("ADDED", 2), GONE])
    assert until_gone(cluster) == [("ADDED", "2")]


def ended(**more: object) -> str:
    return json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", **more})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ('{"kind": "Status", "status": "Success"}', 0),
        (ended(details={"causes": [{"reason": "ExitCode", "message": "7"}]}), 7),
        ("", None),
    ],
)
def test_the_end_of_an_exec_tells_its_exit_code(status: str, code: int | None) -> None:
    assert exit_code(status, "p", "sh") == code


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (
            'OCI runtime exec failed: exec: "sh": executable file not found in $PATH',
            Reason.IMAGE_LACKS_TOOL,
            "exec in pod p: the image has no sh",
        ),
        ("task is paused", Reason.API_ERROR, "exec in pod p: task is paused"),
    ],
)
def test_a_program_that_could_not_be_started_is_told(
    message: str, reason: Reason, words: str
) -> None:
    # The kubelet puts the runtime's words where an exit code would be, without its reason.
    status = ended(message=message, details={"causes": [{"message": message}]})
    with pytest.raises(HarnessError) as caught:
        exit_code(status, "p", "sh")
    assert (caught.value.fault.reason, caught.value.fault.message) == (reason, words)
