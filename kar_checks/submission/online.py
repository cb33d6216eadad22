"""Requests each URL of a submission as the programme's validator does: HEAD, then GET."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import urllib3

from kar_checks import __version__
from kar_checks.submission.document import Checklist, Field
from kar_checks.submission.rules import Problem

SECONDS = 30.0
AT_ONCE = 4
_TOO_MANY = 429
_AGENT = f"kar-checks/{__version__} (checks the links of an AI conformance submission)"


def unreachable(document: Checklist, seconds: float = SECONDS) -> list[Problem]:
    """Return a problem for each URL that does not answer with a status below 400.

    A server that asks for fewer requests (429) is a warning: it says nothing about the page.
    """
    places: dict[str, Field] = {}
    for url, field in _urls(document):
        places.setdefault(url, field)
    with (
        urllib3.PoolManager(headers={"User-Agent": _AGENT}) as pool,
        ThreadPoolExecutor(AT_ONCE) as workers,
    ):
        told = workers.map(lambda url: _answer(pool, url, seconds), places)
        found = list(zip(places.items(), told, strict=True))
    return [
        Problem(
            field.line,
            field.column,
            f"{url} {answer}",
            "warning" if answer.endswith(str(_TOO_MANY)) else "error",
        )
        for (url, field), answer in found
        if answer
    ]


def _urls(document: Checklist) -> Iterator[tuple[str, Field]]:
    for field in document.metadata.values():
        if isinstance(field.value, str) and field.value.startswith(("http://", "https://")):
            yield field.value, field
    for item in document.items:
        listed = item.fields.get("evidence")
        if listed is None or not isinstance(listed.value, list):
            continue
        for entry in listed.value:
            if isinstance(entry, str) and entry.startswith(("http://", "https://")):
                yield entry, listed


def _answer(pool: urllib3.PoolManager, url: str, seconds: float) -> str:
    """Return what is wrong with a URL; empty if it answers."""
    told = ""
    for method in ("HEAD", "GET"):
        try:
            answer = pool.request(
                method, url, timeout=seconds, retries=urllib3.Retry(10, connect=0, read=0, other=0)
            )
        except urllib3.exceptions.MaxRetryError as error:
            told = f"does not answer: {error.reason or 'too many redirects'}"
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            told = f"does not answer: {error}"
        else:
            if answer.status < 400:
                return ""
            told = f"answers {answer.status}"
    return told
