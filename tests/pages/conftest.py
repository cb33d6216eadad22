"""A real browser: Debian's Chromium, offline, on pages rendered from sample runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from kar_checks.report import write_all
from tests.unit.report import samples

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(
            f"{CHROMIUM} is missing: the page tests need it (apt-get install chromium)",
            pytrace=False,
        )
    with sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def scorecards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of each sample's page."""
    found: dict[str, str] = {}
    for name in ("passed", "troubled", "hostile"):
        run = getattr(samples, name)().write(tmp_path_factory.mktemp(name))
        found[name] = write_all(run.folder)[0].as_uri()
    return found
