"""Pages of other origins may ask where the operator says so, and nowhere else."""

import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError
from werkzeug.test import TestResponse

from pricing.artifacts.store import Artifact
from service.settings import Settings
from tests.fake_service import DEFAULTS, HOUSE, fake_app

PAGE = "https://shop.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


def client(published: Artifact, *origins: str) -> FlaskClient:
    return fake_app(published.manifest, settings=DEFAULTS.model_copy(update={"cors_origins": origins})).test_client()


def told(response: TestResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers if name.startswith("Access-Control") or name == "Vary"}


def test_without_a_setting_no_page_may_ask(published: Artifact) -> None:
    plain = client(published)

    assert told(plain.post("/predict", json=HOUSE, headers={"Origin": PAGE})) == {}
    assert plain.options("/predict", headers=PREFLIGHT).status_code == 405


@pytest.mark.parametrize("origins", [(PAGE,), ("https://other.example", PAGE), ("*",)])
def test_a_page_of_an_origin_that_is_named_may_ask_and_read(published: Artifact, origins: tuple[str, ...]) -> None:
    answered = client(published, *origins).post("/predict", json=HOUSE, headers={"Origin": PAGE})
    refused = client(published, *origins).post("/predict", json={}, headers={"Origin": PAGE})

    assert (answered.status_code, refused.status_code) == (200, 422)
    for response in (answered, refused):
        assert told(response) == {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": PAGE,
            "Access-Control-Expose-Headers": "Retry-After, X-Cache, X-Request-ID",
        }


def test_a_browser_that_asks_before_it_asks_is_answered_without_a_key(published: Artifact) -> None:
    found = client(published, PAGE).options("/predict", headers=PREFLIGHT)

    assert (found.status_code, found.data) == (204, b"")
    assert told(found) == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": PAGE,
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": (
            "Authorization, Content-Encoding, Content-Type, Traceparent, X-API-Key, X-Client-Id, X-Request-ID"
        ),
        "Access-Control-Max-Age": "600",
    }


@pytest.mark.parametrize("origin", ["https://evil.example", "http://shop.example", "https://shop.example.evil", "null"])
def test_a_page_of_another_origin_is_told_nothing(published: Artifact, origin: str) -> None:
    named = client(published, PAGE)

    assert told(named.post("/predict", json=HOUSE, headers={"Origin": origin})) == {"Vary": "Origin"}
    assert told(named.options("/predict", headers=PREFLIGHT | {"Origin": origin})) == {"Vary": "Origin"}
    assert told(named.post("/predict", json=HOUSE)) == {"Vary": "Origin"}


def test_the_setting_is_a_list_of_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPRAISER_CORS_ORIGINS", f" {PAGE} ,https://b.example:8443,")
    assert Settings().cors_origins == (PAGE, "https://b.example:8443")

    for wrong in ("shop.example", f"{PAGE}/path", "ftp://shop.example", "https://*.example/"):
        monkeypatch.setenv("APPRAISER_CORS_ORIGINS", wrong)
        with pytest.raises(ValidationError):
            Settings()
