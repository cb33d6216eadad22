"""Errors of the harness, each with a typed reason: a refusal is never taken for a verdict."""

from __future__ import annotations

import re
from typing import Any

from kar_checks.model import Fault, Reason


class HarnessError(Exception):
    """The harness could not measure; carries a :class:`Fault`."""

    def __init__(self, reason: Reason, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(reason=reason, message=message, help=advice)


def internal(error: Exception) -> HarnessError:
    """Return the error of a fault in our own code: it must not end in silence."""
    found = HarnessError(
        Reason.INTERNAL,
        f"{type(error).__name__}: {error}",
        "this is a defect of kar-checks: please report it with the run folder",
    )
    found.__cause__ = error
    return found


class ApiError(HarnessError):
    """The API server answered with an error status.

    ``status`` is the HTTP status, ``api_reason`` the machine-readable reason of the Status object
    (``NotFound``, ``Conflict``, …), ``server_message`` its text.
    """

    def __init__(self, status: int, body: dict[str, Any] | None, request: str) -> None:
        content = body or {}
        self.status = status
        self.api_reason = str(content.get("reason") or "")
        self.server_message = str(content.get("message") or f"HTTP {status}")
        reason, advice = classify(status, self.server_message)
        super().__init__(reason, f"{request}: {self.server_message}", advice)


_QUOTA = re.compile(r"exceeded quota|failed quota|must specify .* for: ")
_LIMIT_RANGE = re.compile(r"(minimum|maximum) .* usage per|limit to request ratio")
_PSA = re.compile(r"violates PodSecurity")
_POLICY = re.compile(
    r"admission webhook|ValidatingAdmissionPolicy|denied the request|is forbidden: .*policy"
)
_SCC = re.compile(r"security context constraint")
_DISCOVERY = re.compile(r"cannot get path")
_WEBHOOK = re.compile(r"failed calling webhook")
_RBAC = re.compile(r"cannot \w+ resource|User .* cannot|is not allowed to")


def classify(status: int, message: str) -> tuple[Reason, str]:
    """Return the typed reason of a refusal, and the option that helps."""
    if status == 401:
        return Reason.FORBIDDEN, "the credentials are not accepted: renew the kubeconfig"
    if _QUOTA.search(message) or _LIMIT_RANGE.search(message):
        return (
            Reason.QUOTA_EXCEEDED,
            "raise the quota, or use a namespace with room: --namespace NAME",
        )
    if _PSA.search(message):
        return (
            Reason.REFUSED_BY_POLICY,
            "use a namespace whose Pod Security level allows it: --namespace NAME",
        )
    if _SCC.search(message):
        return (
            Reason.REFUSED_BY_POLICY,
            "this is OpenShift: give --platform-user to let it assign the user id itself",
        )
    if _POLICY.search(message):
        return (
            Reason.REFUSED_BY_POLICY,
            "meet the policy with --label, --annotation, --image-prefix or --runtime-class, "
            "or use a namespace that it exempts: --namespace NAME",
        )
    if _WEBHOOK.search(message):
        return Reason.API_ERROR, "check whether the pods behind this webhook run and answer"
    if status == 403 and _DISCOVERY.search(message):
        return Reason.FORBIDDEN, "bind the ClusterRole system:discovery to this user"
    if status == 403 and _RBAC.search(message):
        return Reason.FORBIDDEN, "grant the rights that `kar rbac` prints"
    if status in (502, 503, 504):
        return Reason.UNREACHABLE, "check whether the API server is healthy, and run again"
    return Reason.API_ERROR, ""
