"""Expected kernel values, by the rules of the runtimes."""

from __future__ import annotations

import pytest

from kar_checks.checks.resize import kernel
from kar_checks.checks.resize.kernel import NotObservableError
from kar_checks.checks.resize.observation import Kernel
from kar_checks.checks.resize.plans import sized

MIB = 1 << 20


def v1(quota: str = "10000", shares: str = "102", memory: int = 64 * MIB) -> Kernel:
    return Kernel(
        version="v1",
        files={
            "cpu.cfs_quota_us": quota,
            "cpu.cfs_period_us": "100000",
            "cpu.shares": shares,
            "memory.limit_in_bytes": str(memory),
        },
    )


def v2(limit: str = "10000 100000", weight: str = "4", memory: str = str(64 * MIB)) -> Kernel:
    files = {"cpu.max": limit, "cpu.weight": weight, "memory.max": memory}
    return Kernel(version="v2", files=files)


@pytest.mark.parametrize(
    ("seen", "wanted", "wrong"),
    [
        (v1(), sized("100m", "32Mi", "100m", "64Mi"), []),
        (v2(), sized("100m", "32Mi", "100m", "64Mi"), []),
        (v2(weight="17"), sized("100m"), []),
        (v2(weight="10"), sized("100m"), ["CPU weight"]),
        (v1(shares="100"), sized("100m"), ["CPU weight"]),
        (v1(quota="11000"), sized(max_cpu="105m"), []),
        (v1(quota="10500"), sized(max_cpu="105m"), []),
        (v1(quota="10100"), sized(max_cpu="105m"), ["CPU limit"]),
        (v1(quota="-1"), sized(max_cpu="100m"), ["CPU limit"]),
        (v2("max 100000"), sized(max_cpu="100m"), ["CPU limit"]),
        (v2("5000 50000"), sized(max_cpu="100m"), []),
        (v1(memory=0x7FFFFFFFFFFFF000), sized(max_memory="64Mi"), ["memory limit"]),
        (v2(memory="max"), sized(max_memory="64Mi"), ["memory limit"]),
        (v1(memory=999424), sized(max_memory="1M"), []),
        (v1(), sized(memory="1Gi"), []),
    ],
)
def test_values_against_resources(
    seen: Kernel, wanted: dict[str, dict[str, str]], wrong: list[str]
) -> None:
    assert [one.name for one in kernel.compare(seen, wanted) if kernel.differs(one)] == wrong


@pytest.mark.parametrize(
    ("request_", "old", "new"),
    [(100, 4, 17), (200, 8, 29), (500, 20, 59), (1000, 39, 100), (2000, 79, 174)],
)
def test_both_formulas_of_the_weight(request_: int, old: int, new: int) -> None:
    assert kernel.weights(request_) == {old, new}


@pytest.mark.parametrize(("request_", "shares"), [(1, 2), (2, 2), (10, 10), (1000, 1024)])
def test_shares(request_: int, shares: int) -> None:
    assert kernel.shares(request_) == shares


@pytest.mark.parametrize("seen", [Kernel(), v2(limit="?"), v1(quota="?")])
def test_what_cannot_be_read_is_not_observable(seen: Kernel) -> None:
    with pytest.raises(NotObservableError):
        kernel.compare(seen, sized(max_cpu="100m"))


def test_equal_quantities_in_other_words() -> None:
    assert kernel.same(sized("0.1", "1Gi"), sized("100m", "1024Mi"))
    assert not kernel.same(sized("0.1"), sized("100m", "1Gi"))
