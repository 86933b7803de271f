"""What every answer tells a browser, whoever gives the answer."""

from typing import Final

import httpx
import pytest

from service.api.routes import ACCESS
from tests.bodies import GOOD
from tests.fake_service import DEFAULTS, HOUSE
from tests.gunicorn_process import GunicornProcess

ALL: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
DATA: Final = ALL | {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
PAGE: Final = ALL | {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
PAGES: Final = (
    "/",
    "/static/page.js",
    "/static/nothing",
    "/docs",
    "/docs/static/docs.js",
    "/docs/swagger/css/swagger-ui.css",
    "/docs/static/nothing",
)
OTHERS: Final = (
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/models",
    "/model/info",
    "/model/report",  # of a version that was published without one
    "/openapi.json",
    "/predict",
    "/v2",
    "/v2/",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/appraiser",
    "/v2/models/appraiser/infer",
    "/v2/models/appraiser/ready",
    "/v2/models/appraiser/versions/v1.0.0",
    "/v2/models/appraiser/versions/v1.0.0/infer",
    "/v2/models/appraiser/versions/v1.0.0/ready",
    "/nowhere",
)


def told(response: httpx.Response) -> dict[str, str]:
    """Of those headers, what it has."""
    return {name: response.headers[name] for name in DATA if name in response.headers}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_use_what_is_its_own(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert told(response) | {"Cache-Control": ""} == PAGE | {"Cache-Control": ""}
    assert "*" not in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", OTHERS)
def test_every_other_answer_may_use_nothing_and_be_kept_by_nobody(http: httpx.Client, path: str) -> None:
    assert told(http.get(path)) == DATA


def test_each_route_is_among_them() -> None:
    paths = {path.format(name="appraiser", version="v1.0.0") for path in ACCESS if not path.endswith("/")}
    assert paths - {"/predict/batch"} <= {*PAGES, *OTHERS}


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, GOOD, "application/json"),
        (422, b"{}", "application/json"),
        (415, GOOD, "text/plain"),
        (413, GOOD.ljust(DEFAULTS.max_body_bytes + 1), "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_predictions_and_refusals_have_them(
    http: httpx.Client, path: str, status: int, body: bytes, content_type: str
) -> None:
    if path == "/predict/batch" and status == 200:
        response = http.post(path, json={"houses": [HOUSE]})
    else:
        response = http.post(path, content=body, headers={"Content-Type": content_type})

    assert (response.status_code, told(response)) == (status, DATA)
    assert "Server" not in response.headers


def test_what_is_no_http_is_answered_with_them_too(server: GunicornProcess) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/9\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()

    assert answer.startswith("HTTP/1.1 4")
    for name, value in DATA.items():
        assert f"\r\n{name}: {value}\r\n" in answer
    assert "\r\nServer:" not in answer
