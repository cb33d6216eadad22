"""The overview of a fleet: it sorts without a server, and nobody is shut out of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from kar_checks.history.fleet import Fleet, Member, survey
from kar_checks.report import fleet_page, write_all
from tests.unit.report import samples


@pytest.fixture(scope="module")
def overview(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with a cluster for most states."""
    folder = tmp_path_factory.mktemp("fleet")
    names = ("passed", "troubled", "hostile")
    for name in names:
        sample = getattr(samples, name)()
        sample.info = sample.info.model_copy(update={"finished": samples.START, "interrupted": ""})
        write_all(sample.write(folder / name).folder)
    fleet = Fleet(clusters=[Member(name=one) for one in (*names, "missing")])
    found = survey([folder], samples.START + timedelta(hours=3), fleet=fleet)
    return fleet_page.write_all(found, folder)[0].as_uri()


def names(page: Page) -> list[str]:
    return page.locator("tbody th").all_inner_texts()


def test_a_click_on_a_column_sorts_by_it(overview: str, browser: Browser) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(overview)
    as_rendered = names(page)
    assert as_rendered[-1] == "passed", "the worst stand first"
    page.get_by_role("button", name="Cluster").click()
    assert names(page) == sorted(as_rendered)
    page.get_by_role("button", name="Cluster").click()
    assert names(page) == sorted(as_rendered, reverse=True)
    page.get_by_role("button", name="Passed", exact=True).click()
    counts = page.locator("tbody td:nth-child(5)").all_inner_texts()
    assert counts[-1] == "—", "what is not known stays below"
    assert len(set(counts)) > 2
    assert [int(one) for one in counts[:-1]] == sorted(int(one) for one in counts[:-1])
    page.get_by_role("button", name="Passed", exact=True).click()
    assert page.locator("tbody td:nth-child(5)").all_inner_texts()[-1] == "—"
    assert page.locator("th[aria-sort]").count() == 1
    assert said == []
    page.get_by_role("link", name="passed").click()
    assert page.url.endswith("/scorecard.html")
    page.close()


def test_without_scripts_the_table_is_whole(overview: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(overview)
    assert page.locator("tbody tr").count() == 4
    assert page.locator("button").count() == 0
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(scheme: str, overview: str, browser: Browser) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(overview)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    assert [one["id"] for one in found.response["violations"]] == []
    context.close()


def test_hundreds_of_rows_stay_a_small_page(tmp_path: Path) -> None:
    samples.troubled().write(tmp_path / "c")
    one = survey([tmp_path], samples.START + timedelta(hours=3))
    rows = [one.rows[0].model_copy(update={"name": f"c{number}"}) for number in range(500)]
    page = fleet_page.render(one.model_copy(update={"rows": rows}), tmp_path)
    assert page.count("<tr>") == 501
    assert len(page) < 2_000_000
