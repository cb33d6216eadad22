from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from localcluster.pki import Authority, Identity, kubeconfig


def test_a_certificate_names_its_owner_and_is_signed() -> None:
    authority = Authority("test")
    identity = Identity("f", "me", groups=("g",), hosts=("h.example", "10.0.0.1"))
    pem, key = authority.issue(identity, server=True)
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.subject.rfc4514_string() == "CN=me,O=g"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["h.example"]
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_kubeconfig_needs_no_other_file() -> None:
    text = kubeconfig(Authority("test"), Identity("admin", "me"))
    assert "client-key-data" in text
    assert "certificate-authority:" not in text
