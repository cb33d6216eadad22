"""Takes secrets out of text that a cluster printed, before it is stored or shown.

Probes print nothing secret, but a cluster may: an error of a webhook, an environment variable in a
pod's description. A pattern that hits too much costs a word on a page; one that hits too little
costs a credential. The words that only look alike (``max_tokens``, ``secretName``) are spared.
"""

from __future__ import annotations

import re

MARK = "[redacted]"

_WORD = (
    r"(?:passwords?|passwd|passphrase|secret|secret[_-]?key|(?:access|auth|id|refresh|bearer)?"
    r"[_-]?token|api[_-]?key|access[_-]?key|private[_-]?key|client-key-data|credentials?)"
)
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&"'}\]]+)"""

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
        ),
        MARK,
    ),
    (re.compile(r"(?i)(\bauthorization[\"']?\s?[:=]\s?[\"']?)[^\r\n\"']+"), rf"\1{MARK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{12,}"), rf"\1 {MARK}"),
    (re.compile(r"\beyJ[\w-]{5,4000}\.[\w-]{5,8000}(?:\.[\w-]*)?"), MARK),
    (re.compile(r"(://)[^/\s:@]{1,200}:[^/\s@]{1,400}@"), rf"\1{MARK}@"),
    (
        re.compile(
            r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,255}|github_pat_\w{20,255}|hf_\w{20,100}"
            r"|nvapi-[\w-]{20,200}|sk-[\w-]{20,200}|xox[abp]-[\w-]{10,200}|AIza[\w-]{30,60}"
            r"|ya29\.[\w-]{20,400})"
        ),
        MARK,
    ),
    # {"name": "DB_PASSWORD", "value": "…"}: an environment variable in a pod's description
    (
        re.compile(
            rf"(?i)({_WORD}[\"']?\s?,\s?[\"']?value[\"']?\s?[:=]\s?)(?!\s|\[redacted\]){_VALUE}"
        ),
        rf"\1{MARK}",
    ),
    (
        re.compile(rf"(?i)(?<!pull-)({_WORD}[\"']?\s{{0,4}}[:=]\s{{0,4}})(?!\[redacted\]){_VALUE}"),
        rf"\1{MARK}",
    ),
    (
        re.compile(r"(?i)(--(?:password|token|client-key|api-key)\s)(?!\[redacted\])[^\s]+"),
        rf"\1{MARK}",
    ),
)


def redact(text: str) -> str:
    """Return ``text`` with everything that looks like a credential replaced; idempotent."""
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text
