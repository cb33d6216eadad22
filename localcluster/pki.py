"""Keys, certificates and kubeconfigs of one cluster."""

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcluster.layout import API_SERVICE_ADDRESS, API_URL, DNS_DOMAIN, MACHINE_ADDRESS, NODES
from localcluster.paths import KUBECONFIG, KUBECONFIGS, PKI, private_file, private_folder

_LIFETIME = datetime.timedelta(days=365)
# Clocks of containers and of the machine may differ by a little.
_CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for."""

    file: str
    name: str
    groups: Sequence[str] = ()
    hosts: Sequence[str] = ()


SERVERS = (
    Identity(
        "apiserver",
        "kube-apiserver",
        hosts=(
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{DNS_DOMAIN}",
            "localhost",
            "127.0.0.1",
            MACHINE_ADDRESS,
            API_SERVICE_ADDRESS,
        ),
    ),
    Identity("etcd", "etcd", hosts=("localhost", "127.0.0.1")),
    *(
        Identity(f"kubelet-{node.name}", node.name, hosts=(node.name, node.address))
        for node in NODES
    ),
)
CLIENTS = (
    Identity("etcd-client", "kube-apiserver-etcd-client"),
    Identity("kubelet-client", "kube-apiserver-kubelet-client", groups=("system:masters",)),
    Identity("front-proxy", "front-proxy-client"),
)
KUBECONFIG_OWNERS = (
    Identity("admin", "kubernetes-admin", groups=("system:masters",)),
    Identity("kube-controller-manager", "system:kube-controller-manager"),
    Identity("kube-scheduler", "system:kube-scheduler"),
    Identity("kube-proxy", "system:kube-proxy"),
    *(Identity(node.name, f"system:node:{node.name}", groups=("system:nodes",)) for node in NODES),
)


class Authority:
    """A certificate authority with a new key."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The authority's key, for the controller that signs certificate requests."""
        return key_pem(self._key)

    def issue(self, identity: Identity, *, server: bool) -> tuple[bytes, bytes]:
        """A new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in identity.groups),
                x509.NameAttribute(NameOID.COMMON_NAME, identity.name),
            ]
        )
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if identity.hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in identity.hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as unencrypted PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_all() -> None:
    """Make every key, certificate and kubeconfig of a new cluster."""
    private_folder(PKI)
    private_folder(KUBECONFIGS)
    authority = Authority("kar-checks local cluster")
    # Whoever holds a certificate of the cluster must not thereby get into etcd.
    etcd_authority = Authority("kar-checks local cluster etcd")
    # Nor may a client certificate of the cluster speak as the aggregating proxy.
    proxy_authority = Authority("kar-checks local cluster front proxy")
    private_file(PKI / "ca.crt", authority.pem)
    private_file(PKI / "ca.key", authority.key_pem)
    private_file(PKI / "etcd-ca.crt", etcd_authority.pem)
    private_file(PKI / "front-proxy-ca.crt", proxy_authority.pem)
    service_accounts = ec.generate_private_key(ec.SECP256R1())
    private_file(PKI / "service-accounts.key", key_pem(service_accounts))
    private_file(
        PKI / "service-accounts.pub",
        service_accounts.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    issuers = {
        "etcd": etcd_authority,
        "etcd-client": etcd_authority,
        "front-proxy": proxy_authority,
    }
    for identities, server in ((SERVERS, True), (CLIENTS, False)):
        for identity in identities:
            issuer = issuers.get(identity.file, authority)
            certificate, key = issuer.issue(identity, server=server)
            private_file(PKI / f"{identity.file}.crt", certificate)
            private_file(PKI / f"{identity.file}.key", key)
    for identity in KUBECONFIG_OWNERS:
        path = KUBECONFIG if identity.file == "admin" else kubeconfig_of(identity.file)
        private_file(path, kubeconfig(authority, identity))


def kubeconfig_of(component: str) -> Path:
    """The kubeconfig of a component or of a node's kubelet."""
    return KUBECONFIGS / f"{component}.yaml"


def kubeconfig(authority: Authority, identity: Identity) -> str:
    """A kubeconfig that needs no other file."""
    certificate, key = authority.issue(identity, server=False)
    name = "kar-checks-local"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": API_URL,
                        "certificate-authority-data": _base64(authority.pem),
                    },
                }
            ],
            "users": [
                {
                    "name": identity.name,
                    "user": {
                        "client-certificate-data": _base64(certificate),
                        "client-key-data": _base64(key),
                    },
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": identity.name}}],
            "current-context": name,
        },
        sort_keys=False,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
