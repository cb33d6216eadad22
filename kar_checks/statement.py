"""A signed statement over a run: an in-toto test result in a DSSE envelope, verified offline.

The subjects are all files of the run folder, each with its SHA-256. A rendered page that is made
only after signing is listed as not covered; anything else that is added, changed or removed breaks
the statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kar_checks.model import Finding, Outcome
from kar_checks.store import StoredRun, write_atomically

FILE = "statement.dsse.json"
STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD = "application/vnd.in-toto+json"
RENDERED = frozenset({"scorecard.html", "kar-junit.xml", "pytest.html", "summary.md"})
"""Made from the other files, by `kar run` and again by `kar report`."""


class StatementError(ValueError):
    """A key or a statement that cannot be used, in one sentence."""


class BadSignatureError(StatementError):
    """The signature is not by the given key, or the statement cannot be read."""


@contextmanager
def _extra() -> Iterator[None]:
    """Surround the imports of what only signing needs, and name the extra if one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StatementError(
            "`kar sign` and `kar verify` need packages that are not installed; "
            "install them with `pip install 'kar-checks[sign]'`"
        ) from error


@dataclass(frozen=True)
class Verified:
    """What a good signature covers, and every file that no longer is what was signed."""

    key: str
    result: str
    changed: list[str]
    covered: list[str]
    uncovered: list[str]
    """Rendered files that were made after signing."""


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a run folder, by its path there.

    Links have no digest of their own: they are ``link``, which no signed digest is equal to.
    """
    out: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            out[name] = "link"
        elif path.is_file() and name != FILE:
            out[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def statement(run: StoredRun) -> dict[str, Any]:
    """Return the in-toto statement of a run, as its JSON says it.

    What was neither passed nor failed has no place in a test result; it is in ``findings.json``,
    which is a subject. A run with anything undecided is ``WARNED``, never ``PASSED``.
    """
    with _extra():
        from google.protobuf.json_format import MessageToDict
        from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
        from in_toto_attestation.v1.statement import Statement

    profile = json.dumps(run.info.profile, sort_keys=True).encode()
    predicate = {
        "result": _result(run.findings),
        "configuration": [
            {
                "name": f"profile {run.info.profile.get('name', '')}",
                "digest": {"sha256": hashlib.sha256(profile).hexdigest()},
            }
        ],
        "passedTests": _names(run.findings, Outcome.PASS),
        "failedTests": _names(run.findings, Outcome.FAIL),
    }
    subjects = [
        ResourceDescriptor(name=name, digest={"sha256": digest}).pb
        for name, digest in digests(run.folder).items()
    ]
    made = Statement(subjects=subjects, predicate_type=TEST_RESULT, predicate=predicate)
    made.validate()
    return cast("dict[str, Any]", MessageToDict(made.pb))


def _result(findings: list[Finding]) -> str:
    outcomes = {one.outcome for one in findings}
    if Outcome.FAIL in outcomes:
        return "FAILED"
    decided = outcomes <= {Outcome.PASS, Outcome.NOT_APPLICABLE}
    return "PASSED" if Outcome.PASS in outcomes and decided else "WARNED"


def _names(findings: list[Finding], outcome: Outcome) -> list[str]:
    return sorted(
        f"{one.check}[{one.variant}]" if one.variant else one.check
        for one in findings
        if one.outcome is outcome
    )


def sign(run: StoredRun, key: Path) -> Path:
    """Sign a run with a private key (PEM: Ed25519, ECDSA or RSA); returns the envelope's path.

    Raises:
        StatementError: the key cannot be read or used, the run is damaged, or the extra is missing.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with _extra():
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import CryptoSigner

    try:
        signer = CryptoSigner(load_pem_private_key(key.read_bytes(), None))
    except OSError as error:
        raise StatementError(f"the key {key} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise StatementError(f"{key} is not a private key in PEM without a passphrase") from error
    if run.damaged:
        raise StatementError(f"a damaged run is not signed: {next(iter(run.damaged.values()))}")
    links = [name for name, digest in digests(run.folder).items() if digest == "link"]
    if links:
        raise StatementError(f"{run.folder / links[0]} is a link, which a signature cannot cover")
    payload = json.dumps(statement(run), sort_keys=True).encode()
    envelope = Envelope(payload, PAYLOAD, {})
    envelope.sign(signer)
    path = run.folder / FILE
    write_atomically(path, json.dumps(envelope.to_dict(), indent=1) + "\n")
    return path


def verify(folder: Path, key: Path) -> Verified:
    """Check a run folder against its signed statement; needs no network and no cluster.

    Raises:
        StatementError: no statement, an unusable key, a bad signature, or the extra is missing.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with _extra():
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import SSlibKey

    try:
        public = SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    except OSError as error:
        raise StatementError(f"the key {key} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise StatementError(f"{key} is not a public key in PEM") from error
    path = folder / FILE
    try:
        envelope = Envelope.from_dict(json.loads(path.read_text("utf-8")))
        envelope.verify([public], 1)
        payload: dict[str, Any] = json.loads(envelope.payload)
    except OSError as error:
        raise StatementError(f"{path} cannot be read: {error.strerror}") from error
    except VerificationError as error:
        raise BadSignatureError(f"the signature of {path} is not by this key") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadSignatureError(f"{path} is not a signed statement") from error
    if payload.get("_type") != STATEMENT or payload.get("predicateType") != TEST_RESULT:
        raise StatementError(f"{path} states something else than a test result")
    signed = {str(one["name"]): str(one["digest"]["sha256"]) for one in payload["subject"]}
    present = digests(folder)
    return Verified(
        key=public.keyid,
        result=str(payload["predicate"]["result"]),
        changed=_changed(signed, present),
        covered=sorted(signed),
        uncovered=[name for name in present if name not in signed and name in RENDERED],
    )


def _changed(signed: dict[str, str], present: dict[str, str]) -> list[str]:
    out: list[str] = []
    for name, digest in signed.items():
        if name not in present:
            out.append(f"{name} is missing")
        elif present[name] != digest:
            again = " (`kar report` renders it again)" if name in RENDERED else ""
            out.append(f"{name} was changed{again}")
    added = [name for name in present if name not in signed and name not in RENDERED]
    return [*out, *(f"{name} was added" for name in added)]


def state(folder: Path, keys: Sequence[Path]) -> str:
    """Say in a few words what is known of a run's signature; ``keys`` are public ones.

    Raises:
        StatementError: a key cannot be read.
    """
    if not (folder / FILE).exists():
        return "not signed"
    if not keys:
        return "signed, not verified: give the public key with --key"
    for key in keys:
        try:
            found = verify(folder, key)
        except BadSignatureError:
            continue
        files = f"; changed since: {', '.join(found.changed)}" if found.changed else ""
        return f"signed by key {found.key[:16]}{files or ', unchanged'}"
    return "signed by none of the given keys"
