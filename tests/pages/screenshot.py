"""Takes the picture of a scorecard's first screen: ``python tests/pages/screenshot.py RUN PNG``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = Path("/usr/bin/chromium")


def take(run: Path, picture: Path) -> None:
    """Write the first screen of ``run``'s scorecard."""
    page_file = (run / "scorecard.html").resolve()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": 1280, "height": 1000}, device_scale_factor=1.5, color_scheme="light"
        )
        page.goto(page_file.as_uri())
        page.screenshot(path=picture)
        browser.close()


def take_apart(run: Path, picture: Path) -> None:
    """The same in a process of its own, for callers that have a browser already."""
    subprocess.run([sys.executable, __file__, run, picture], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tests/pages/screenshot.py RUN_FOLDER PICTURE.png")
    take(Path(sys.argv[1]), Path(sys.argv[2]))
