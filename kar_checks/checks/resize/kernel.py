"""What the kernel's files must hold for given resources, by the rules of the runtimes. Pure.

Rules: quota is the limit times the period, which the systemd cgroup driver rounds up to whole
10 millicores (runc #4622); shares are ``request * 1024 / 1000``, between 2 and 262144; the weight
of version 2 follows from the shares by one of two formulas, depending on the age of runc or crun
(runc #4896, crun #1767); a memory limit is rounded down to whole pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kar_checks.checks.resize.observation import Kernel, Resources
from kar_checks.cluster import quantity
from kar_checks.model import Fact

_UNLIMITED_V1 = 1 << 62


class NotObservableError(Exception):
    """A file of the kernel is missing or holds no number, as in some sandboxes."""


def cpu_limit(kernel: Kernel) -> float | None:
    """Return the CPU limit in millicores, ``None`` if there is none.

    Raises:
        NotObservableError: the file cannot be read.
    """
    if kernel.version == "v1":
        quota, period = _text(kernel, "cpu.cfs_quota_us"), _text(kernel, "cpu.cfs_period_us")
        return None if quota == "-1" else 1000 * _number(quota) / _number(period)
    quota, _, period = _text(kernel, "cpu.max").partition(" ")
    return None if quota == "max" else 1000 * _number(quota) / _number(period)


def memory_limit(kernel: Kernel) -> int | None:
    """Return the memory limit in bytes, ``None`` if there is none.

    Raises:
        NotObservableError: the file cannot be read.
    """
    file = "memory.limit_in_bytes" if kernel.version == "v1" else "memory.max"
    text = _text(kernel, file)
    if text == "max" or _number(text) >= _UNLIMITED_V1:
        return None
    return _number(text)


def cpu_weight(kernel: Kernel) -> int:
    """Return the shares of version 1 or the weight of version 2.

    Raises:
        NotObservableError: the file cannot be read.
    """
    return _number(_text(kernel, "cpu.shares" if kernel.version == "v1" else "cpu.weight"))


def shares(request: int) -> int:
    """Return the CPU shares for a request in millicores."""
    return min(max(request * 1024 // 1000, 2), 262144)


def weights(request: int) -> set[int]:
    """Return every weight of version 2 that a correct runtime may set for a request."""
    return set(fair("v2", request))


def fair(version: str, request: int) -> list[int]:
    """Return what a kernel of this version may weigh a request with, one value for each formula."""
    if version == "v1":
        return [shares(request)]
    given = shares(request)
    log = math.log2(given)
    return [
        1 + (given - 2) * 9999 // 262142,
        math.ceil(10 ** ((log**2 + 125 * log) / 612 - 7 / 34)),
    ]


def compare(kernel: Kernel, wanted: Resources) -> list[Fact]:
    """Return a fact per value that the resources determine; see :func:`differs`.

    Raises:
        NotObservableError: a file that is needed cannot be read.
    """
    out: list[Fact] = []
    limits, requests = wanted.get("limits", {}), wanted.get("requests", {})
    if "cpu" in limits:
        want = quantity.millicores(limits["cpu"])
        good = sorted({max(want, 10), -(-want // 10) * 10})
        seen = cpu_limit(kernel)
        out.append(
            Fact(
                name="CPU limit",
                value="none" if seen is None else f"{seen:g} m",
                expected=" or ".join(f"{one} m" for one in good),
                source="cpu.max" if kernel.version == "v2" else "cpu.cfs_quota_us",
            )
        )
    if "cpu" in requests:
        want = quantity.millicores(requests["cpu"])
        weighed = set(fair(kernel.version, want))
        out.append(
            Fact(
                name="CPU weight",
                value=str(cpu_weight(kernel)),
                expected=" or ".join(str(one) for one in sorted(weighed)),
                source="cpu.weight" if kernel.version == "v2" else "cpu.shares",
            )
        )
    if "memory" in limits:
        want = int(quantity.parse(limits["memory"]))
        held = memory_limit(kernel)
        out.append(
            Fact(
                name="memory limit",
                value="none" if held is None else f"{held} B",
                expected=f"{want - want % kernel.page} B",
                source="memory.max" if kernel.version == "v2" else "memory.limit_in_bytes",
            )
        )
    return out


def differs(fact: Fact) -> bool:
    """Say whether a fact's value is none of those that were expected."""
    return fact.value not in fact.expected.split(" or ")


def merged(base: Resources, change: Mapping[str, Mapping[str, str]]) -> Resources:
    """Return resources after a strategic merge of ``change``."""
    return {
        part: {**base.get(part, {}), **change.get(part, {})}
        for part in ("requests", "limits")
        if part in base or part in change
    }


def same(one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]) -> bool:
    """Say whether two sets of resources are equal as quantities."""
    return _amounts(one) == _amounts(other)


def _amounts(given: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], object]:
    return {
        (part, name): quantity.parse(value)
        for part, values in given.items()
        for name, value in values.items()
        if name in ("cpu", "memory")
    }


def _text(kernel: Kernel, file: str) -> str:
    if file not in kernel.files:
        raise NotObservableError(f"{file} cannot be read inside the container")
    return kernel.files[file]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise NotObservableError(f"{text[:40]!r} is not a number") from error
