from __future__ import annotations

from decimal import Decimal

import pytest

from kar_checks.cluster.quantity import mebibytes, millicores, parse, parse_or_none


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("100m", "0.1"),
        ("250u", "0.00025"),
        ("3n", "0.000000003"),
        ("2k", "2000"),
        ("1M", "1000000"),
        ("1G", "1000000000"),
        ("1Ki", "1024"),
        ("64Mi", "67108864"),
        ("1.5Gi", "1610612736"),
        ("1Ti", "1099511627776"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("12e-1", "1.2"),
        ("-1", "-1"),
        ("+1", "1"),
        (" 1 ", "1"),
        (4, "4"),
        (0.5, "0.5"),
    ],
)
def test_a_quantity_has_a_value(text: str | float, value: str) -> None:
    assert parse(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "m", "1x", "1 Gi", "1gi", "1K", "1ki", "Mi", "1.2.3", "1e", "--1"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse(text)
    assert parse_or_none(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1000), ("250m", 250), ("1.5", 1500), ("1u", 1), (2, 2000)],
)
def test_cpu_is_in_millicores_rounded_up(text: str | float, expected: int) -> None:
    assert millicores(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("64Mi", 64), ("1Gi", 1024), ("512Ki", 0.5)])
def test_memory_is_in_mebibytes(text: str, expected: float) -> None:
    assert mebibytes(text) == expected
