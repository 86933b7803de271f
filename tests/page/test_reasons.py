"""Why this price, comparable sales and the report, as the page shows what the service answers."""

import re
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import Watched, needs_chromium
from tests.fake_service import HOUSE
from tests.gunicorn_process import GunicornProcess

pytestmark = needs_chromium
KNOWN: Final = HOUSE | {"latitude": 47.5, "zip_code": "98103", "heating": "gas"}
CELLS: Final = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
LINK: Final = "/#" + "&".join(f"{name}={value}" for name, value in KNOWN.items())


def asked(server: GunicornProcess, query: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.post(f"{server.url}/predict?{query}", json=KNOWN).raise_for_status().json()
    return found


def predictions(tabs: Watched) -> list[str]:
    """The queries of the requests for a price, and for more than a price."""
    return [request.url.partition("/predict?")[2] for request in tabs.requests if "/predict?" in request.url]


def dollars(amount: float) -> str:
    return f"${amount:,.0f}"


def change(amount: float) -> str:
    return f"{'-' if amount < 0 else '+'}{dollars(abs(amount))}" if round(amount) else dollars(0)


def test_the_waterfall_goes_from_the_average_sale_to_this_house(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}{LINK}&model_version=v3.0.0")
    found = asked(several, "explain=true&model_version=v3.0.0")
    explanation = found["explanation"]
    parts = sorted(explanation["contributions"], key=lambda part: -abs(part["price"]))

    rows = page.locator("#reasons .waterfall g text:last-of-type")
    expect(rows).to_have_text(
        [
            dollars(explanation["base_price"]),
            *[change(part["price"]) for part in parts],
            dollars(found["predicted_price"]),
        ]
    )
    expect(page.locator("#reasons .waterfall .down")).to_have_count(sum(part["price"] < 0 for part in parts))
    page.locator("#reasons summary").click()
    widths = page.locator("#reasons tbody tr td:last-child")
    expect(widths).to_have_text([dollars(explanation["base_width"]), *[change(part["width"]) for part in parts]])


def test_comparable_sales_come_with_the_reasons_in_one_request(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}{LINK}&model_version=v3.0.0")
    sales = asked(several, "comparables=5&model_version=v3.0.0")["comparables"]

    expect(page.locator("#comparables thead th")).to_have_text(["Sale", "This house", "1", "2", "3", "4", "5"])
    rows = {row[0]: row[1:] for row in page.locator("#comparables tbody tr").evaluate_all(CELLS)}
    assert rows["Sold for"] == ["", *[dollars(sale["price"]) for sale in sales]]
    assert rows["At the valuation date"] == ["", *[dollars(sale["time_adjusted_price"]) for sale in sales]]
    assert rows["Adjusted to this house"] == ["", *[dollars(sale["adjusted_price"]) for sale in sales]]
    assert rows["Similarity"] == ["", *[f"{sale['similarity'] * 100:.0f} %" for sale in sales]]
    assert rows["Living area"] == ["2000", *[f"{sale['house']['square_feet']:g}" for sale in sales]]
    expect(page.locator("#reasons svg")).to_be_visible()
    assert [("explain" in query, "comparables" in query) for query in predictions(tabs)] == [
        (False, False),
        (True, True),
    ]


def test_a_version_without_sales_is_asked_for_them_once(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}{LINK}&model_version=v1.0.0")
    expect(page.locator("#reasons svg")).to_be_visible()
    expect(page.locator("#comparables")).to_be_hidden()
    assert len([query for query in predictions(tabs) if "comparables" in query]) == 2  # with the reasons, and alone
    tabs.requests.clear()

    before = page.locator("#reasons .waterfall").get_attribute("aria-label")
    page.get_by_label("Living area", exact=True).fill("3000")

    expect(page.locator("#reasons .waterfall")).not_to_have_attribute("aria-label", str(before))
    assert [("explain" in query, "comparables" in query) for query in predictions(tabs)] == [
        (False, False),
        (True, False),
    ]


def test_sales_with_coordinates_are_shown_where_they_are(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/docs")

    def with_coordinates(route: Route) -> None:
        answer = route.fetch().json()
        for place, sale in enumerate(answer.get("comparables", [])):
            sale["house"] |= {"latitude": 47.5 + place / 100, "longitude": -122.3}
        route.fulfill(json=answer)

    page.route(re.compile(r"/predict\?"), with_coordinates)
    page.goto(f"{several.url}{LINK}&model_version=v3.0.0")

    marks = page.get_by_role("img", name="Where the sales are").locator("circle")
    expect(marks).to_have_count(5)  # this house has no longitude
    heights = [float(str(mark.get_attribute("cy"))) for mark in marks.all()]
    assert heights == sorted(heights, reverse=True)  # farther to the north is higher
    assert len({mark.get_attribute("cx") for mark in marks.all()}) == 1


def with_reports(page: Page, status: int) -> None:
    """A service that knows reports; of this version there is one, or there is none."""

    def add(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("<body ", "<body data-report ", 1))

    page.route(re.compile(r":\d+/$"), add)
    page.route("**/model/report?*", lambda route: route.fulfill(status=status, content_type="text/html", body="<p>Yes"))


@pytest.mark.parametrize(("status", "links"), [(200, 1), (404, 0)])
def test_the_report_is_linked_if_there_is_one(server: GunicornProcess, tabs: Watched, status: int, links: int) -> None:
    page = tabs.open(f"{server.url}/docs")
    with_reports(page, status)
    with page.expect_response("**/model/report?*"):
        page.goto(f"{server.url}/")
    expect(page.locator("#price")).to_contain_text("$")
    link = page.get_by_role("link", name="Its report")

    expect(link).to_have_count(links)
    if links:
        expect(link).to_have_attribute("href", "model/report?model_version=v1.0.0")


def test_with_a_key_the_report_is_saved(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/docs")
    with_reports(page, 200)
    page.evaluate("sessionStorage.setItem('appraiser-key', 'a key')")
    page.goto(f"{server.url}/")

    with page.expect_download() as saved:
        page.get_by_role("link", name="Save its report").click()

    assert saved.value.suggested_filename == "report-v1.0.0.html"
    assert saved.value.path().read_text("utf-8") == "<p>Yes"
