"""The page where a key is required, where the service is gone or busy, and where a key may not do everything."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, Route, expect

from pricing.artifacts.store import Artifact, Store
from service.access.api_keys import KeyStore
from tests.browser import Watched, needs_chromium
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn

pytestmark = needs_chromium
LINK: Final = "/#square_feet=2000&bedrooms=3&bathrooms=2&age_years=10&distance_to_city=5"


@pytest.fixture(scope="module")
def locked(published: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GunicornProcess, KeyStore]]:
    """A service that requires keys, and its keys."""
    store = Store(tmp_path_factory.mktemp("locked") / "artifacts")
    store.publish(published)
    store.deploy(published.manifest.version)
    env = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_REQUIRE_KEYS": "true"}
    keys = KeyStore(store.root)
    keys.create("somebody else", ["predict"], None)
    with gunicorn(None, cwd=ROOT, workers=1, env=env) as process:
        yield process, keys


def enter(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use this key").click()


def has_price(page: Page) -> None:
    expect(page.locator("#price")).to_contain_text("$")


def test_a_key_is_asked_for_and_kept_for_the_tab_only(locked: tuple[GunicornProcess, KeyStore], tabs: Watched) -> None:
    server, keys = locked
    _, good = keys.create("a person", ["predict", "read"], None)
    page = tabs.open(f"{server.url}{LINK}")
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.get_by_label("API key")).to_have_accessible_description(
        "An API key is required. Send it in the X-API-Key header or as `Authorization: Bearer <key>`. "
        "It is kept for this tab only."
    )
    enter(page, "wrong")
    expect(page.locator("#key-reason")).to_have_text("This key is not valid.")

    enter(page, good)

    has_price(page)
    expect(page.locator("#version")).to_contain_text("v1.0.0 learned from")
    expect(page.locator("#key")).to_be_hidden()
    assert good not in page.url
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    page.reload()
    has_price(page)
    other = tabs.open(f"{server.url}{LINK}")
    expect(other.get_by_label("API key")).to_be_visible()


def test_a_key_that_may_not_read_still_prices(locked: tuple[GunicornProcess, KeyStore], tabs: Watched) -> None:
    server, keys = locked
    _, predicts = keys.create("a terminal", ["predict"], None)
    page = tabs.open(f"{server.url}{LINK}")

    enter(page, predicts)

    has_price(page)
    expect(page.locator("#version")).to_have_text("v1.0.0")
    expect(page.locator("#what-if")).to_be_hidden()


def test_a_service_that_is_gone_is_asked_again_until_it_is_back(artifacts: Path, tabs: Watched) -> None:
    env = {"APPRAISER_ARTIFACTS": str(artifacts)}
    with gunicorn(None, cwd=ROOT, workers=1, env=env) as first:
        page = tabs.open(f"{first.url}{LINK}")
        has_price(page)
        before = page.locator("#price").text_content()
        port = first.port

    page.get_by_label("Living area", exact=True).fill("3000")
    expect(page.locator("#state")).to_contain_text("The service does not answer. The next attempt is in")
    assert page.locator("#price").text_content() == before

    with gunicorn(None, cwd=ROOT, workers=1, env=env, port=port):
        expect(page.locator("#price")).not_to_have_text(str(before))
        expect(page.locator("#state")).to_be_empty()
    tabs.faults[:] = [fault for fault in tabs.faults if "net::ERR" not in fault]


def test_a_busy_service_is_asked_again_when_it_said(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}{LINK}")
    has_price(page)
    before = str(page.locator("#price").text_content())
    refused: list[Route] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route)
        route.fulfill(status=429, headers={"Retry-After": "2"}, json={"detail": "Too many requests."})

    page.route("**/predict?*", refuse_once)
    page.get_by_label("Living area", exact=True).fill("3000")

    expect(page.locator("#state")).to_contain_text("Too many requests")
    expect(page.locator("#state")).to_contain_text("The next attempt is in 2 s.")
    expect(page.locator("#price")).not_to_have_text(before)


def test_a_failure_is_shown_in_its_own_words(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}{LINK}")
    has_price(page)
    page.route("**/predict?*", lambda route: route.fulfill(status=500, json={"detail": "The service failed."}))
    page.get_by_label("Living area", exact=True).fill("3000")

    expect(page.get_by_role("alert")).to_have_text("The service failed.")
    expect(page.locator("#price")).not_to_contain_text("$")


def test_the_documentation_sends_a_request_with_a_key(locked: tuple[GunicornProcess, KeyStore], tabs: Watched) -> None:
    server, keys = locked
    _, good = keys.create("a reader of the documentation", ["predict"], None)
    page = tabs.open(f"{server.url}/docs#/predictions/predict")
    operation = page.locator("#operations-predictions-predict")
    status = operation.locator(".live-responses-table td.response-col_status").last

    operation.get_by_role("button", name="Execute").click()
    expect(status).to_contain_text("401")
    page.locator(".auth-wrapper .authorize").click()
    page.get_by_label("Value:").first.fill(good)
    page.get_by_role("button", name="Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    operation.get_by_role("button", name="Execute").click()

    expect(status).to_contain_text("200")
    expect(operation.locator(".live-responses-table")).to_contain_text("predicted_price")


def test_the_documentation_sends_each_of_its_examples_without_a_key(server: GunicornProcess, tabs: Watched) -> None:
    page = tabs.open(f"{server.url}/docs")
    for operation in page.locator(".opblock").all():
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        expected = re.compile("200|404") if "report" in str(operation.get_attribute("id")) else "200"
        expect(operation.locator(".live-responses-table td.response-col_status").last).to_contain_text(expected)
