from __future__ import annotations

import pytest

from kar_checks.cluster.errors import ApiError, classify
from kar_checks.model import Reason

MESSAGES = [
    (401, "Unauthorized", Reason.FORBIDDEN, "kubeconfig"),
    (
        403,
        'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the '
        'namespace "team-a"',
        Reason.FORBIDDEN,
        "kar rbac",
    ),
    (
        403,
        'pods "p" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, '
        "limited: pods=9",
        Reason.QUOTA_EXCEEDED,
        "--namespace",
    ),
    (
        403,
        'pods "p" is forbidden: failed quota: compute: must specify limits.cpu for: main',
        Reason.QUOTA_EXCEEDED,
        "--namespace",
    ),
    (
        403,
        'pods "p" is forbidden: maximum memory usage per Container is 64Mi, but limit is 128Mi',
        Reason.QUOTA_EXCEEDED,
        "--namespace",
    ),
    (
        403,
        'pods "p" is forbidden: violates PodSecurity "restricted:latest": host namespaces',
        Reason.REFUSED_BY_POLICY,
        "Pod Security",
    ),
    (
        400,
        'admission webhook "validate.kyverno.svc" denied the request: label owner is required',
        Reason.REFUSED_BY_POLICY,
        "--label",
    ),
    (
        422,
        "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'b' denied "
        "request: only our registry",
        Reason.REFUSED_BY_POLICY,
        "--image-prefix",
    ),
    (
        403,
        'pods "p" is forbidden: unable to validate against any security context constraint: '
        "provider restricted-v2: .spec.securityContext.runAsUser: Invalid value: 65532: must be in "
        "the ranges: [1000700000, 1000709999]",
        Reason.REFUSED_BY_POLICY,
        "--platform-user",
    ),
    (403, 'forbidden: User "x" cannot get path "/apis"', Reason.FORBIDDEN, "system:discovery"),
    (500, "failed calling webhook: no endpoints", Reason.API_ERROR, "behind this webhook"),
    (503, "the server is currently unable to handle the request", Reason.UNREACHABLE, "healthy"),
    (404, 'pods "p" not found', Reason.API_ERROR, ""),
    (409, 'pods "p" already exists', Reason.API_ERROR, ""),
    (422, "spec.containers[0].name: Required value", Reason.API_ERROR, ""),
]


@pytest.mark.parametrize(("status", "message", "reason", "advice"), MESSAGES)
def test_a_refusal_has_a_typed_reason_and_the_option_that_helps(
    status: int, message: str, reason: Reason, advice: str
) -> None:
    found, told = classify(status, message)
    assert found is reason
    assert advice in told
    assert bool(told) is bool(advice)


def test_an_error_keeps_the_servers_own_words() -> None:
    error = ApiError(409, {"reason": "Conflict", "message": "was changed"}, "PATCH /x")
    assert (error.status, error.api_reason, error.server_message) == (
        409,
        "Conflict",
        "was changed",
    )
    assert error.fault.message == "PATCH /x: was changed"


@pytest.mark.parametrize("body", [None, {}, {"message": None, "reason": None}])
def test_an_error_without_words_says_its_status(body: dict[str, object] | None) -> None:
    error = ApiError(418, body, "GET /x")
    assert error.fault.message == "GET /x: HTTP 418"
    assert error.api_reason == ""
