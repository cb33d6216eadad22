"""The page of a comparison and that of a history, as people meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from kar_checks.commands import series as command
from kar_checks.model import Outcome
from tests.unit.history.series import LATENCY, night, series
from tests.unit.history.test_nightly import ALL, MEMORY

PAGES = ("compare", "history")
Open = Callable[..., Page]
OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A comparison of three clusters, one of them hostile, and a history of nineteen nights."""
    folder = tmp_path_factory.mktemp("series")
    ids: list[str] = []
    for number, name in enumerate(("alpha", "beta", HOSTILE)):
        made = night(number)
        made.environment(cluster=name, cluster_uid=name)
        if number:
            made.judged(MEMORY, Outcome.FAIL, HOSTILE)
        ids.append(made.write(folder / "clusters").id)
    into = folder / "comparison"
    with pytest.MonkeyPatch.context() as patch:
        # What these runs observed was left out, so that nothing can be judged again from it.
        patch.setattr(command, "judged", lambda run, _: (run.findings, False))
        command.compare_runs(
            ids, folder / "clusters", into, allow_different=False, most_days_apart=7
        )
    series(folder / "nights", 19, *ALL)
    command.regress(folder / "nights", folder / "history")
    return {
        "compare": (into / "compare.html").as_uri(),
        "history": (folder / "history" / "history.html").as_uri(),
    }


@pytest.fixture
def visit(browser: Browser, addresses: dict[str, str]) -> Iterator[Open]:
    """Open a page; at the end it has said nothing and asked for nothing."""
    seen: list[str] = []

    def open_page(name: str, width: int = 1280) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: seen.append(f"request: {request.url}"))
        page.goto(addresses[name])
        page.evaluate(OPEN_ALL)
        seen.remove(f"request: {addresses[name]}")
        return page

    yield open_page
    for one in browser.contexts:
        one.close()
    assert seen == []


@pytest.mark.parametrize("name", PAGES)
def test_a_telephone_needs_no_sideways_scrolling(name: str, visit: Open) -> None:
    page = visit(name, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_barrier(
    name: str, scheme: str, addresses: dict[str, str], browser: Browser
) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(addresses[name])
    page.evaluate(OPEN_ALL)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    context.close()
    assert [one["id"] for one in found.response["violations"]] == []


def test_what_differs_stands_on_the_first_screen_for_each_cluster(visit: Open) -> None:
    page = visit("compare")
    row = page.locator("tr.sub").filter(has_text="Memory follows upwards")
    assert row.count() == 1, "it stands among the differences and nowhere else"
    box = row.bounding_box()
    assert box is not None and box["y"] < 900
    cells = row.locator("td").all_inner_texts()
    assert [cell.split("\n")[0].strip() for cell in cells] == ["passed", "failed", "failed"]
    assert "<script>" in cells[1], "what a cluster says is shown as text"


def test_what_changed_since_last_time_stands_on_the_first_screen(visit: Open) -> None:
    page = visit("history")
    told = page.locator("section").first.locator("ul.changes > li")
    assert told.count() == 1
    text = told.inner_text()
    assert text.startswith(f"worse · throughput: {LATENCY}")
    assert "Since 2026-12-08 21:00 UTC" in text
    assert "nodes kar1, kar2, kar3: kernel" in text, "what else changed stands beside it"
    box = told.bounding_box()
    assert box is not None and box["y"] + box["height"] < 900
    assert page.locator("svg.trend").count() == 4
    strip = page.locator("tr").filter(has_text=MEMORY).locator(".strip")
    assert strip.get_attribute("aria-label") == "12 passed, 7 failed"
