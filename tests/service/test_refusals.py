"""What the worker answers in the application's place has the headers of all answers: security, id, and CORS."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from service.access.security_headers import DATA_HEADERS
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.raw_http import everything, request

PAGE: Final = "https://shop.example"
ORIGIN: Final = f"Origin: {PAGE}"
LARGE: Final = "9" * 8
PARSED: Final = {
    413: request("/predict", ORIGIN, f"Content-Length: {LARGE}", method="POST"),
    408: request("/predict", ORIGIN, "Content-Length: 100", method="POST"),
}
UNPARSED: Final = {
    400: request("/predict", ORIGIN, "Content-Length: x", method="POST"),
    414: request(f"/{'x' * 5_000}", ORIGIN),
    431: request("/predict", ORIGIN, f"X: {'x' * 9_000}"),
    501: request("/predict", ORIGIN, "Transfer-Encoding: unknown", method="POST"),
}


@pytest.fixture(scope="module", params=[PAGE, "*"])
def open_to(request: pytest.FixtureRequest, artifacts: Path) -> Iterator[tuple[GunicornProcess, str]]:
    """A service that pages of an origin may ask, or of all."""
    environment = {
        "APPRAISER_ARTIFACTS": str(artifacts),
        "APPRAISER_CORS_ORIGINS": request.param,
        "APPRAISER_BODY_SECONDS": "1",
    }
    with gunicorn(None, cwd=ROOT, workers=1, env=environment) as server:
        yield server, request.param


def refused(server: GunicornProcess, sent: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a request."""
    with server.connect() as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR) if b"Content-Length: 100" not in sent else None
        head, _, body = everything(client).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert body.startswith(b'{"detail":')
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Request-ID"]
    assert headers.items() >= dict(DATA_HEADERS).items()
    return int(first.split(" ")[1]), headers


@pytest.mark.parametrize("status", PARSED)
def test_a_page_may_read_why_its_request_was_refused(open_to: tuple[GunicornProcess, str], status: int) -> None:
    found, headers = refused(open_to[0], PARSED[status])

    assert (found, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (status, PAGE, "Origin")
    assert "X-Request-ID" in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("status", UNPARSED)
def test_where_the_origin_is_not_known_only_a_page_of_a_service_for_all_may(
    open_to: tuple[GunicornProcess, str], status: int
) -> None:
    server, origins = open_to
    found, headers = refused(server, UNPARSED[status])

    assert found == status
    assert headers.get("Access-Control-Allow-Origin") == ("*" if origins == "*" else None)
