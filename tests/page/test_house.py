"""The page as a person uses it, in a real browser on a real service."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser import Watched, needs_chromium
from tests.fake_service import HOUSE
from tests.gunicorn_process import GunicornProcess

pytestmark = needs_chromium
TYPING: Final = 150  # milliseconds
THINKING: Final = 450
PREDICT: Final = re.compile(r"/predict(\?|$)")


def answer(server: GunicornProcess, house: Mapping[str, Any], **query: object) -> dict[str, Any]:
    response = httpx.post(f"{server.url}/predict", json=house, params={k: str(v) for k, v in query.items()})
    found: dict[str, Any] = response.raise_for_status().json()
    return found


def dollars(amount: float) -> str:
    return f"${amount:,.0f}"


def shows(page: Page, found: Mapping[str, Any]) -> None:
    """Wait until the page shows this answer."""
    expect(page.locator("#price")).to_have_text(dollars(found["predicted_price"]))
    interval = found["confidence_interval"]
    share, low, high = found["confidence_level"], dollars(interval["lower"]), dollars(interval["upper"])
    expect(page.locator("#interval")).to_have_text(
        f"{share:.0%} of such houses sell for {low} to {high}".replace("%", " %")
    )


def field(page: Page, label: str) -> Locator:
    return page.get_by_label(label, exact=True)


def addresses(tabs: Watched, path: str) -> list[str]:
    """The requests to a path, without its beginning."""
    found = [request.url.partition("/predict") for request in tabs.requests]
    return ["/predict" + rest for _, predict, rest in found if predict and ("/predict" + rest).split("?")[0] == path]


def test_the_price_of_a_house_follows_what_is_typed(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    shows(page, answer(server, HOUSE))

    field(page, "Living area").fill("3000")

    shows(page, answer(server, HOUSE | {"square_feet": 3000}))
    expect(page.locator("#version")).to_contain_text("v1.0.0 learned from made-up sales")


def test_typing_asks_once_when_it_pauses(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    expect(page.locator("#reasons svg")).to_be_visible()
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    tabs.requests.clear()

    field(page, "Living area").fill("")
    for digit in "2750":
        page.clock.run_for(TYPING - 1)
        field(page, "Living area").press_sequentially(digit)

    assert addresses(tabs, "/predict") == []
    page.clock.run_for(TYPING)
    shows(page, answer(server, HOUSE | {"square_feet": 2750}))
    assert len(addresses(tabs, "/predict")) == 1
    with page.expect_request(PREDICT):
        page.clock.run_for(THINKING)
    assert len(addresses(tabs, "/predict")) == 2


def test_the_newest_change_wins_and_the_older_request_is_given_up(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    shows(page, answer(server, HOUSE))
    never: list[Route] = []
    page.route(
        PREDICT, lambda route: never.append(route) if "1111" in str(route.request.post_data) else route.continue_()
    )
    with page.expect_event("requestfailed", lambda request: "1111" in str(request.post_data)):
        with page.expect_request(lambda request: "1111" in str(request.post_data)):
            field(page, "Living area").fill("1111")
        field(page, "Living area").fill("2222")

    shows(page, answer(server, HOUSE | {"square_feet": 2222}))


def test_the_slider_changes_the_level_and_by_keyboard_too(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    shows(page, answer(server, HOUSE))
    band = page.locator("#bar .band")
    wide = band.bounding_box()

    page.get_by_label("Certainty").press("Home")

    shows(page, answer(server, HOUSE, confidence=0.5))
    narrow = band.bounding_box()
    assert wide is not None
    assert narrow is not None
    assert narrow["width"] < wide["width"]


def test_a_warning_is_in_plain_words(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/#square_feet=9000&bedrooms=3&bathrooms=2&age_years=10&distance_to_city=5")

    shows(page, answer(server, HOUSE | {"square_feet": 9000}))
    expect(page.locator("#warnings li")).to_contain_text("Living area: 9000 square feet is outside of")


@pytest.mark.parametrize(
    ("label", "typed", "sentence"),
    [
        ("Living area", "-5", "Input should be greater than 0"),
        ("Number of bedrooms", "2.5", "Input should be a multiple of 1"),
        ("Age of the building", "", "Field required"),
    ],
)
def test_an_error_stands_beside_its_field_until_it_is_mended(
    server: GunicornProcess, tabs: Watched, label: str, typed: str, sentence: str
) -> None:
    page = tabs.open(f"{server.url}/")
    shows(page, answer(server, HOUSE))
    place = field(page, label)
    before = place.input_value()

    place.fill(typed)

    expect(place).to_have_attribute("aria-invalid", "true")
    expect(place).to_have_accessible_description(re.compile(re.escape(sentence)))
    expect(page.locator("#price")).to_have_text("\u2013")
    expect(page.locator("#failure")).to_have_text("Correct the marked fields.")

    place.fill(before)

    shows(page, answer(server, HOUSE))
    expect(place).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#failure")).to_be_empty()


def test_what_is_no_number_is_named_where_it_was_typed(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    shows(page, answer(server, HOUSE))

    field(page, "Living area").fill("")
    field(page, "Living area").press_sequentially("e")

    expect(field(page, "Living area")).to_have_accessible_description(re.compile("Input should be a number"))


def test_the_address_holds_the_house(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    shows(page, answer(server, HOUSE))
    field(page, "Living area").fill("2500")
    shared = answer(server, HOUSE | {"square_feet": 2500})
    shows(page, shared)
    field(page, "Number of bedrooms").fill("4")
    shows(page, answer(server, HOUSE | {"square_feet": 2500, "bedrooms": 4}))

    page.go_back()
    shows(page, shared)
    expect(field(page, "Number of bedrooms")).to_have_value("3")
    shows(tabs.open(page.url), shared)
    page.go_back()
    shows(page, answer(server, HOUSE))
    page.go_forward()
    shows(page, shared)


def test_columns_may_stay_empty_and_take_what_is_known(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/#model_version=v3.0.0")
    shows(page, answer(several, HOUSE, model_version="v3.0.0"))
    note = page.locator("#warnings li")
    expect(note).to_have_text("Not given: Latitude, Postal code, Heating. Each, if known, may narrow the interval.")
    expect(page.locator("datalist").first.locator("option")).to_have_count(20)

    field(page, "Latitude").fill("47.5")
    field(page, "Postal code").fill("98103")
    field(page, "Heating").fill("gas")

    known = HOUSE | {"latitude": 47.5, "zip_code": "98103", "heating": "gas"}
    shows(page, answer(several, known, model_version="v3.0.0"))
    expect(note).to_have_count(0)
    shows(tabs.open(page.url), answer(several, known, model_version="v3.0.0"))

    field(page, "Heating").fill("steam")
    expect(note).to_contain_text("Heating: this version has not seen this value")
    field(page, "Latitude").fill("99")
    expect(field(page, "Latitude")).to_have_accessible_description(re.compile("less than or equal to 90"))


def test_a_version_can_be_chosen_and_brings_its_columns(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/#model_version=v3.0.0")
    choice = page.get_by_label("Version")
    expect(choice).to_have_value("v3.0.0")
    expect(choice.locator("option")).to_have_text(
        ["the service decides", "v3.0.0, champion, 50 % of the clients", "v1.0.0, challenger, 50 % of the clients"]
    )
    field(page, "Postal code").fill("98103")

    choice.select_option("v1.0.0")

    shows(page, answer(several, HOUSE, model_version="v1.0.0"))
    expect(page.locator("#columns")).to_be_hidden()
    assert "model_version=v1.0.0" in page.url
    choice.select_option("v3.0.0")
    expect(field(page, "Postal code")).to_be_visible()


def test_a_tab_keeps_its_version_in_a_split(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/")
    expect(page.locator("#version strong")).to_have_text(re.compile("v"))
    version = page.locator("#version strong").text_content()

    for square_feet in (1500, 1600, 1700, 1800):
        field(page, "Living area").fill(str(square_feet))
        shows(page, answer(several, HOUSE | {"square_feet": square_feet}, model_version=version))


def test_a_version_that_is_not_in_service_is_named_and_another_can_be_chosen(
    several: GunicornProcess, tabs: Watched
) -> None:
    page = tabs.open(f"{several.url}/#model_version=v9.9.9")

    expect(page.locator("#failure")).to_contain_text("This version is not in service")
    page.get_by_label("Version").select_option("v1.0.0")
    shows(page, answer(several, HOUSE, model_version="v1.0.0"))


def test_what_if_shows_prices_as_one_field_moves(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/")
    found = answer(server, HOUSE)
    shows(page, found)
    assert addresses(tabs, "/predict/batch") == []  # nothing is asked for until somebody asks

    expect(page.locator("#reasons svg")).to_be_visible()
    tabs.requests.clear()
    page.get_by_role("button", name="Living area").click()

    plot = page.get_by_role("img", name=re.compile("Price by Living area"))
    expect(plot.locator(".own text")).to_have_text(dollars(found["predicted_price"]))
    assert (len(addresses(tabs, "/predict/batch")), addresses(tabs, "/predict")) == (1, [])
    page.locator("#what-if summary").click()
    rows = page.locator("#what-if tbody tr")
    assert 20 <= rows.count() <= 26
    own = rows.filter(has=page.get_by_role("rowheader", name="2000", exact=True))
    expect(own.locator("td").first).to_have_text(dollars(found["predicted_price"]))
    page.get_by_role("button", name="Number of bedrooms").click()
    expect(page.get_by_role("img", name=re.compile("Price by Number of bedrooms"))).to_be_visible()
    values = page.locator("#what-if tbody th").all_text_contents()
    assert all(value.isdigit() for value in values)


def test_what_if_shows_categories_by_price(several: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{several.url}/#model_version=v3.0.0&heating=gas")
    page.get_by_role("button", name="Heating").click()

    plot = page.get_by_role("img", name=re.compile("Price by Heating"))
    expect(plot.locator(".own text")).to_have_text("gas")
    prices = {
        heating: answer(several, HOUSE | {"heating": heating}, model_version="v3.0.0")
        for heating in ("gas", "oil", "heat pump")
    }
    expected = sorted(prices, key=lambda heating: -prices[heating]["predicted_price"])
    assert plot.locator("g text").all_text_contents() == expected
