"""An admission webhook whose answers are a Python function, for sabotages of the local cluster."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.kinds import CONFIG_MAP, Kind

Answer = list[Object] | str
"""JSON patch operations (empty: leave it as it is), or the words of a refusal."""

_API = "admissionregistration.k8s.io"
_MUTATING = Kind(
    _API, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)
_VALIDATING = Kind(
    _API,
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
_CANARY = "webhook-canary"
_ACTIVE_SECONDS = 20.0


@contextmanager
def webhook(
    cluster: Cluster,
    *,
    name: str,
    rules: Sequence[Object],
    respond: Callable[[Object], Answer],
    mutating: bool,
    failure_policy: str = "Ignore",
) -> Iterator[None]:
    """Serve a webhook on this machine, register it, and wait until the API server asks it.

    ``rules`` are those of a webhook configuration; ``respond`` gets ``AdmissionReview.request``.
    An exception in ``respond`` refuses the request in its own words. The API server must reach
    127.0.0.1 of this machine, as the local cluster's does.

    Raises:
        TimeoutError: the API server did not ask it in time.
    """
    certificate, key = _certificate()
    asked = threading.Event()
    server = _serve(certificate, key, respond, asked)
    kind = _MUTATING if mutating else _VALIDATING
    url = f"https://127.0.0.1:{server.server_address[1]}/"
    entry: Object = {
        "clientConfig": {"url": url, "caBundle": base64.b64encode(certificate).decode()},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "failurePolicy": failure_policy,
    }
    canary_rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    only_default = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    body: Object = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name},
        "webhooks": [
            {**entry, "name": f"{name}.sabotage.test", "rules": list(rules)},
            {
                **entry,
                "name": f"canary.{name}.sabotage.test",
                "rules": [canary_rule],
                "namespaceSelector": only_default,
            },
        ],
    }
    try:
        cluster.create(kind, body)
        try:
            _wait_until_asked(cluster, asked)
            yield
        finally:
            cluster.delete(kind, name)
    finally:
        server.shutdown()
        server.server_close()


def _wait_until_asked(cluster: Cluster, asked: threading.Event) -> None:
    canary: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _CANARY}}
    deadline = time.monotonic() + _ACTIVE_SECONDS
    while not asked.wait(0.1):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the API server did not ask the webhook in {_ACTIVE_SECONDS} s")
        cluster.create(CONFIG_MAP, canary, "default", dry_run=True)


def _serve(
    certificate: bytes,
    key: bytes,
    respond: Callable[[Object], Answer],
    asked: threading.Event,
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request: Object = review["request"]
            if request.get("name") == _CANARY and request["resource"]["resource"] == "configmaps":
                asked.set()
                answer: Answer = []
            else:
                try:
                    answer = respond(request)
                except Exception as error:
                    answer = f"the sabotage itself failed: {type(error).__name__}: {error}"
            review["response"] = _response(str(request["uid"]), answer)
            del review["request"]
            text = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        cert_file, key_file = Path(folder, "cert.pem"), Path(folder, "key.pem")
        cert_file.write_bytes(certificate)
        key_file.write_bytes(key)
        context.load_cert_chain(cert_file, key_file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _response(uid: str, answer: Answer) -> Object:
    if isinstance(answer, str):
        return {"uid": uid, "allowed": False, "status": {"code": 403, "message": answer}}
    out: Object = {"uid": uid, "allowed": True}
    if answer:
        patch = base64.b64encode(json.dumps(answer).encode()).decode()
        out |= {"patchType": "JSONPatch", "patch": patch}
    return out


def _certificate() -> tuple[bytes, bytes]:
    """Return a self-signed certificate for 127.0.0.1 and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sabotage webhook")])
    moment = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(minutes=5))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
