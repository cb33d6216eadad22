from __future__ import annotations

import time

import pytest

from kar_checks.redact import MARK, redact

SECRETS = [
    "Authorization: Bearer SECRET.abcdefgh",
    '"authorization": "SECRET words here"',
    "curl -H 'X: bearer SECRETabcdefghijk'",
    "token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJTRUNSRVQifQ.SECRET-sig_x",
    "password=SECRET",
    "PASSWORD: SECRET",
    'DB_PASSWORD="SECRET with blanks"',
    "{'api_key': 'SECRET'}",
    '{"clientSecret":"SECRET"}',
    "AWS_SECRET_ACCESS_KEY=SECRET",
    "client-key-data: SECRET==",
    "id-token: SECRET",
    "https://user:SECRET@registry.example/v2",
    "kubectl --token SECRET get pods",
    "kubectl --token=SECRET get pods",
    '{"name": "HF_TOKEN", "value": "SECRET"}',
    "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\nSECRET that was cut",
    "hf_SECRETabcdefghijklmnop",
    "ghp_SECRETabcdefghijklmnop123",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_credential_goes_and_stays_away(text: str) -> None:
    once = redact(text)
    assert "SECRET" not in once.replace("AWS_SECRET_ACCESS_KEY", "")
    assert MARK in once
    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 128",
        "tokens=4096",
        "secretName: registry",
        "--pull-secret=registry",
        "40000 100000",
        "podgroups.scheduling.k8s.io is forbidden: cannot create",
        "sha256:5f55cdf0c5d9dc1a5f55cdf0c5d9dc1a",
        "basic scheduling works",
        "https://kubernetes.io:443/docs@v1",
    ],
)
def test_words_that_only_look_alike_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("part", ["a", "eyJ-", "password ", "token=", "://a:", '"', "-----BEGIN "])
def test_endless_text_takes_no_endless_time(part: str) -> None:
    started = time.monotonic()
    redact(part * 20_000)
    assert time.monotonic() - started < 3
