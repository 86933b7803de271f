"""What every page keeps: accessibility, the content security policy, its size, its print, a prefix of a proxy."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import DESKTOP, PHONE, Watched, needs_chromium, watched
from tests.gunicorn_process import GunicornProcess
from tests.nginx_process import needs_nginx, nginx

pytestmark = needs_chromium
FIRST_VIEW_BYTES: Final = 100_000
HOUSE: Final = (
    "/#model_version=v3.0.0&square_feet=9000&bedrooms=3&bathrooms=2&age_years=10&distance_to_city=5"
    "&latitude=47.5&heating=steam"
)


def full(page: Page) -> None:
    """Wait until a page has all that it can have."""
    expect(page.locator("#reasons svg")).to_be_visible()
    expect(page.locator("#comparables table")).to_be_visible()
    page.get_by_role("button", name="Living area").click()
    expect(page.locator("#what-if svg").first).to_be_visible()
    text = "square_feet,bedrooms,bathrooms,age_years,distance_to_city\n2000,3,2,10,5\n-1,3,2,10,5\n"
    file: Any = {"name": "two.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.get_by_label("Choose a CSV file").set_input_files(file)
    expect(page.locator("#file tr.bad")).to_be_visible()


def invalid(page: Page) -> None:
    """Wait until a field is not valid."""
    page.get_by_label("Living area", exact=True).fill("-1")
    expect(page.locator("[aria-invalid]")).to_be_visible()


def tried(page: Page) -> None:
    """Try a request of the documentation."""
    page.locator("#operations-predictions-predict .execute").click()
    expect(
        page.locator("#operations-predictions-predict .live-responses-table td.response-col_status").last
    ).to_have_text("200")


VIEWS: Final[dict[str, tuple[str, dict[str, int], Callable[[Page], None]]]] = {
    "house": (HOUSE, DESKTOP, full),
    "house-phone": (HOUSE, PHONE, full),
    "invalid-phone": (HOUSE, PHONE, invalid),
    "docs": ("/docs", DESKTOP, lambda page: expect(page.locator(".opblock").first).to_be_visible()),
    "docs-tried": ("/docs#/predictions/predict", DESKTOP, tried),
    "report": ("/model/report", DESKTOP, lambda page: expect(page.locator("h1")).to_contain_text("v3.0.0")),
    "error-phone": ("/no/where", PHONE, lambda page: expect(page.locator("h1")).to_have_text("Not Found")),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_page_has_no_violation_that_axe_knows(
    several: GunicornProcess, tabs: Watched, tmp_path: Path, view: str, scheme: str
) -> None:
    path, viewport, prepare = VIEWS[view]
    page = tabs.open(f"{several.url}{path}", color_scheme=scheme, viewport=viewport)
    prepare(page)

    found = Axe().run(page).response["violations"]
    page.screenshot(path=tmp_path / f"{view}-{scheme}.png", full_page=True)

    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_axe_would_find_a_violation(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/no/where")
    page.evaluate("document.querySelector('h1').before(document.createElement('button'))")

    found = Axe().run(page).response["violations"]

    assert "button-name" in {rule["id"] for rule in found}


@pytest.mark.parametrize(
    "breach",
    [
        "document.body.setAttribute('style', 'color: red')",
        "document.body.append(Object.assign(document.createElement('script'), { textContent: '1' }))",
        "fetch('http://127.0.0.2/').catch(() => {})",
        "new Image().src = 'http://127.0.0.2/x.png'",
        "setTimeout(() => { throw new Error('broken'); })",
    ],
)
def test_a_page_that_breaks_a_rule_would_be_seen(server: GunicornProcess, browser: Browser, breach: str) -> None:
    def break_it() -> None:
        with watched(browser) as tabs:
            page = tabs.open(f"{server.url}/no/where")
            page.evaluate(breach)
            page.reload()  # and with it all that was reported

    with pytest.raises(AssertionError, match=r"policy:|foreign:|error:"):
        break_it()


def test_the_first_view_is_small(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/health/live")
    wire = page.context.new_cdp_session(page)
    received: list[float] = []
    wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    wire.send("Network.enable")
    page.goto(f"{several.url}{HOUSE}")
    expect(page.locator("#reasons svg")).to_be_visible()
    page.wait_for_load_state("networkidle")

    assert len(received) > 10  # the page, its style, its modules, their answers
    assert sum(received) <= FIRST_VIEW_BYTES


def test_it_prints_as_one_page(several: GunicornProcess, tabs: Watched, tmp_path: Path) -> None:
    page = tabs.open(f"{several.url}{HOUSE}")
    full(page)

    printed = page.pdf(path=tmp_path / "house.pdf", format="A4")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.screenshot(path=tmp_path / "house-print.png", full_page=True)

    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1
    expect(page.locator("#address")).to_have_text(page.url)
    for hidden in ("#file", "nav", ".choices", "#confidence"):
        expect(page.locator(hidden).first).to_be_hidden()


def test_it_can_be_used_by_keyboard_alone(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    expect(page.locator("#price")).to_contain_text("$")
    before = str(page.locator("#price").text_content())
    visited = []
    for _ in range(14):
        page.keyboard.press("Tab")
        visited.append(
            page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()")
        )

    assert (
        visited
        == [
            "Appraiser",
            "API",
            "Living area",
            "Number of bedrooms",
            "Number of bathrooms",
            "Age of the building",
            "Distance to the city center",
            "Certainty",
            *["What makes the interval wider or narrower"][: "What makes the interval wider or narrower" in visited],
            "Living area",
            "Number of bedrooms",
            "Number of bathrooms",
            "Age of the building",
            "Distance to the city center",
            "Choose a CSV file",
        ][: len(visited)]
    )
    page.get_by_label("Living area", exact=True).press("ArrowUp")
    expect(page.locator("#price")).not_to_have_text(before)


def test_a_screen_reader_hears_the_price_when_typing_pauses(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")

    expect(page.locator("#spoken")).to_contain_text("Estimated price $")
    expect(page.locator("#spoken")).to_contain_text("90 % of such houses sell for $")


@needs_nginx
def test_below_a_prefix_of_a_proxy_all_is_asked_for_below_it(server: GunicornProcess, tabs: Watched) -> None:
    listen = "listen {};\nlocation /appraiser/ {{ proxy_pass http://appraiser/; }}"
    with nginx(server.port, listen=listen) as proxy:
        page = tabs.open(f"{proxy.url}/appraiser/")
        expect(page.locator("#reasons svg")).to_be_visible()
        page.get_by_role("button", name="Living area").click()
        expect(page.locator("#what-if svg").first).to_be_visible()
        page.goto(f"{proxy.url}/appraiser/no/where")
        expect(page.locator("h1")).to_have_text("Not Found")
        page.get_by_role("link", name="Price a house").click()
        expect(page.locator("#price")).to_contain_text("$")
        page.get_by_role("link", name="API").click()
        expect(page.locator(".opblock").first).to_be_visible()

    assert [url for url in {request.url for request in tabs.requests} if f"{proxy.url}/appraiser/" not in url] == []
