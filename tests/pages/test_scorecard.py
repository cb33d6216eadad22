"""The scorecard as people meet it: on a screen, a telephone, paper, and in the dark."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.pages import screenshot

SAMPLES = ("passed", "troubled", "hostile")
Open = Callable[..., Page]

OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"


@pytest.fixture
def visit(browser: Browser, scorecards: dict[str, str]) -> Iterator[Open]:
    """Open a sample's page; at the end, no console message and no request of its own."""
    seen: list[str] = []
    contexts: list[Any] = []

    def open_page(name: str, **options: Any) -> Page:
        given: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, **options}
        context = browser.new_context(offline=True, **given)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url == scorecards[name] or request.url.startswith("data:")
                else seen.append(f"request: {request.url}")
            ),
        )
        page.goto(scorecards[name])
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert seen == []


@pytest.mark.parametrize("name", SAMPLES)
def test_it_loads_nothing_and_complains_about_nothing(name: str, visit: Open) -> None:
    page = visit(name)
    page.evaluate(OPEN_ALL)
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SAMPLES)
def test_axe_finds_no_barrier(
    name: str, scheme: str, browser: Browser, scorecards: dict[str, str]
) -> None:
    # axe is injected, so that the page's own policy (no script) has to stand aside here.
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, offline=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(scorecards[name])
    page.evaluate(OPEN_ALL)
    found = Axe().run(
        page,
        options={
            "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
            "resultTypes": ["violations"],
        },
    )
    serious = [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}"
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical", "moderate")
    ]
    context.close()
    assert serious == []


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_telephone_needs_no_sideways_scrolling(name: str, opened: bool, visit: Open) -> None:
    page = visit(name, viewport={"width": 360, "height": 740})
    if opened:
        page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_paper_shows_what_the_rows_hide(visit: Open) -> None:
    page = visit("passed")
    hidden = page.locator("#check-gang.all_or_nothing-native".replace(".", "\\.")).locator("dl")
    assert not hidden.is_visible()
    page.emulate_media(media="print")
    assert hidden.is_visible()
    assert page.locator("figure svg").first.is_visible()


def test_a_printed_page_in_a_dark_room_is_light(visit: Open) -> None:
    page = visit("passed", color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(media="print")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark, light) == ("rgb(16, 20, 24)", "rgb(255, 255, 255)")


def test_rows_open_without_a_script(visit: Open) -> None:
    page = visit("passed", java_script_enabled=False)
    row = page.locator("#requirement-gang_scheduling")
    body = row.locator(".meaning")
    assert not body.is_visible()
    row.locator("summary").first.click()
    assert body.is_visible()


def test_rows_open_by_keyboard(visit: Open) -> None:
    page = visit("passed")
    row = page.locator("#requirement-gang_scheduling")
    row.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert row.locator(".meaning").is_visible()


def test_a_link_opens_the_row_that_it_leads_to(visit: Open) -> None:
    page = visit("troubled")
    page.get_by_role("link", name="Less CPU arrives without a restart").first.click()
    assert page.get_by_text("The status says 200m").first.is_visible()


def test_the_first_screen_answers_what_and_what_next(visit: Open) -> None:
    page = visit("troubled")
    broken = "The status says 200m, but cpu.max still allows 400m"
    for text in ("research-eu-1", "8 requirements —", "What to do next", broken):
        box = page.get_by_text(text).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, text


def test_the_picture_of_the_readme_can_be_taken(scorecards: dict[str, str], tmp_path: Path) -> None:
    # In a process of its own: two of playwright's loops cannot share one.
    picture = tmp_path / "first-screen.png"
    run = Path(scorecards["passed"].removeprefix("file://")).parent
    screenshot.take_apart(run, picture)
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert (width, height) == (1920, 1500)
