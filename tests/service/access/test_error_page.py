"""Errors are pages where a browser navigates, and the same JSON as ever for every other client."""

import re
from typing import Final

import httpx
import pytest
from werkzeug.test import EnvironBuilder

from pricing.artifacts.store import Artifact
from service.access.error_page import for_people
from service.access.security_headers import DATA_HEADERS, PAGE_HEADERS
from service.app import create_app
from service.reply import json_reply
from tests.fake_service import DEFAULTS, INSIDE, Broken, resources

BROWSERS: Final = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "text/html",
    "application/json;q=0.5, text/html",
)
OTHERS: Final = (
    "",
    "*/*",
    "application/json",
    "application/json, text/plain, */*",
    "application/json, text/html",
    "application/json, text/html;q=0.9",
    "text/css,*/*;q=0.1",
    "text/html;q=0, */*",
)
NOWHERE: Final = b'{"detail":"This path does not exist; /docs lists the endpoints."}'


def page_of(response: httpx.Response) -> str:
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Vary"] == "Accept"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == dict(PAGE_HEADERS)["Content-Security-Policy"]
    return response.text


@pytest.mark.parametrize("accept", BROWSERS)
def test_a_browser_gets_a_page_that_says_what_the_json_says(http: httpx.Client, accept: str) -> None:
    response = http.get("/nowhere", headers={"Accept": accept})

    assert response.status_code == 404
    assert "<h1>Not Found</h1>" in page_of(response)
    assert "This path does not exist; /docs lists the endpoints." in response.text


@pytest.mark.parametrize("accept", OTHERS)
def test_every_other_client_gets_the_json_that_it_always_got(http: httpx.Client, accept: str) -> None:
    response = http.get("/nowhere", headers={"Accept": accept})

    assert (response.status_code, response.content) == (404, NOWHERE)
    assert response.headers["Content-Type"] == "application/json"
    assert "Vary" not in response.headers
    assert {name: response.headers[name] for name, _ in DATA_HEADERS} == dict(DATA_HEADERS)


def test_a_method_that_a_path_does_not_take_is_a_page_too(http: httpx.Client) -> None:
    response = http.get("/predict", headers={"Accept": "text/html"})

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert "<h1>Method Not Allowed</h1>" in page_of(response)


def test_what_no_browser_sends_by_itself_is_answered_in_json(http: httpx.Client) -> None:
    # Java's default Accept prefers HTML, whatever its client reads.
    java = "text/html, image/gif, image/jpeg, */*; q=0.2"

    assert http.post("/predict", json={}, headers={"Accept": java}).headers["Content-Type"] == "application/json"
    assert http.post("/nowhere", headers={"Accept": java}).content == NOWHERE


def test_a_failure_is_a_page_without_what_happened_inside(published: Artifact) -> None:
    del published
    client = create_app(DEFAULTS, resources(Broken())).test_client()
    response = client.get("/models", headers={"Accept": "text/html"})

    assert response.status_code == 500
    assert "<h1>Internal Server Error</h1>" in response.text
    assert INSIDE not in response.text
    assert response.headers["Content-Security-Policy"] == dict(PAGE_HEADERS)["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/nowhere", "./"),
        ("/", "./"),
        ("/a/b/c", "../../"),
        ("/a/", "../"),
        ("/a%2Fb", "./"),
        ("/a/b?c=/d/e", "../"),
        ("http://host/a/b", "../"),
        ("//a", "../"),
        ("/a://b", "../../"),
    ],
)
def test_its_links_lead_to_the_service_from_any_path(path: str, root: str) -> None:
    environ = EnvironBuilder(headers=[("Accept", "text/html")]).get_environ() | {"RAW_URI": path}
    page = for_people(json_reply(404, {"detail": "Nothing."}), environ).body.decode()

    assert re.findall(r'href="([^"]*)"', page) == [
        f"{root}static/icon.svg",
        f"{root}static/page.css",
        root,
        f"{root}docs",
    ]


def test_texts_are_never_taken_for_html() -> None:
    environ = EnvironBuilder(headers=[("Accept", "text/html")]).get_environ()
    problems = [{"type": "x", "loc": ["query"], "msg": "<script>"}, {"type": "x", "loc": ["query"], "msg": "a & b"}]
    page = for_people(json_reply(422, {"detail": problems}), environ).body

    assert b"<p>&lt;script&gt;; a &amp; b</p>" in page
