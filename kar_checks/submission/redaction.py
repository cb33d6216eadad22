"""Hiding where a run took place: first every value that the run knows, then what looks like one."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from kar_checks.store import StoredRun

Redact = Callable[[str], str]

ADDRESS, HOST, UID, CLUSTER, MAC = "[address]", "[host]", "[uid]", "[cluster]", "[mac]"
_SHORTEST = 4
"""A known value of fewer characters is hidden only where it is a word of its own."""
_UID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_MAC = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![\w:])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_MAYBE_IPV6 = re.compile(r"(?<![\w:.])[0-9a-fA-F]{0,4}:[0-9a-fA-F:.]*[0-9a-fA-F:](?![\w:])")
# As clouds and DNS name machines: ip-10-0-3-17, 10-0-3-17.namespace.pod.
_DASHED = re.compile(r"\b(?:ip-)?\d{1,3}(?:-\d{1,3}){3}(?:\.[a-z0-9.-]*[a-z0-9])?", re.IGNORECASE)
_HOST_KEYS = ("host", "hostname", "nodename", "node", "server", "address", "podip", "hostip", "ip")


def redactor(run: StoredRun) -> Redact:
    """Return what hides a run's place in any text.

    Node names become numbers, so that a reader can still tell nodes apart. Every other value that
    the run knows (addresses, hosts, UIDs, the cluster's name) becomes a word, and so does whatever
    has the form of an address, a UID or a MAC address.
    """
    known = known_values(run)
    pattern = re.compile("|".join(_literal(one) for one in sorted(known, key=len, reverse=True)))

    def redact(text: str) -> str:
        if known:
            text = pattern.sub(lambda found: known[found[0]], text)
        text = _UID.sub(UID, text)
        text = _MAC.sub(MAC, text)
        text = _MAYBE_IPV6.sub(_if_address, text)
        text = _IPV4.sub(ADDRESS, text)
        return _DASHED.sub(HOST, text)

    return redact


def known_values(run: StoredRun) -> dict[str, str]:
    """Return every value of a run that says where it took place, with what stands for it."""
    place = run.info.environment
    known: dict[str, str] = {}
    for name in (place.cluster, place.context, place.user):
        known[name] = CLUSTER
    known[place.cluster_uid] = UID
    for uid in (one.uid for one in place.nodes):
        known[uid] = UID
    for topic in run.info.topics:
        text = run.observation_text(topic.id)
        if text is not None:
            known |= dict(_found(json.loads(text)))
    names = sorted({one.name for one in place.nodes})
    known |= {name: f"node-{1 + number}" for number, name in enumerate(names)}
    return {value: word for value, word in known.items() if value.strip()}


def _found(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield addresses, hosts and UIDs of an observation, by the names of their fields."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _found(below, str(name).lower().replace("_", ""))
    elif isinstance(value, list):
        for below in value:
            yield from _found(below, key)
    elif isinstance(value, str) and value:
        if key == "uid":
            yield value, UID
        elif _is_address(value):
            yield value, ADDRESS
        elif key in _HOST_KEYS and "." in value and not value.endswith((".svc", ".local")):
            yield value, HOST


def _literal(value: str) -> str:
    if len(value) >= _SHORTEST:
        return re.escape(value)
    return rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return text.strip(":") != "" and not text.isdigit()


def _if_address(found: re.Match[str]) -> str:
    # A full stop or a colon behind an address belongs to the sentence.
    text = found[0]
    for end in (len(text), len(text) - 1):
        if _is_address(text[:end]) and ":" in text[:end]:
            return ADDRESS + text[end:]
    return text
