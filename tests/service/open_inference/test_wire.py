"""Inference requests over a real connection: large, in many chunks, too large; and bytes that no client writes."""

import random
from collections.abc import Iterator
from typing import Final

import httpx
import pytest
from flask.testing import FlaskClient

from pricing.artifacts.store import Artifact
from tests.fake_service import HOUSE, fake_app
from tests.gunicorn_process import GunicornProcess
from tests.raw_http import everything, request
from tests.service.open_inference.tensors import INFER, LENGTH, binary, body_of, columns, tensor

VERSIONED: Final = "/v2/models/appraiser/versions/v1.0.0/infer"
BINARY: Final = {"parameters": {"binary_data_output": True}}
MUTANTS: Final = 3_000
PIECES: Final = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-1",
    b"1e9",
    b"null",
    b"true",
    b"\x00",
    b"\xff\xff\xff\xff",
)


@pytest.mark.parametrize("path", [INFER, VERSIONED])
def test_ten_thousand_houses_fit_in_one_request(http: httpx.Client, path: str) -> None:
    body, headers = binary(columns(*[HOUSE] * 10_000), **BINARY)
    assert len(body) > 400_000

    response = http.post(path, content=body, headers=headers)

    assert response.status_code == 200
    assert len(response.content) - int(response.headers[LENGTH]) == 3 * 8 * 10_000


def test_a_body_may_come_in_many_chunks(http: httpx.Client) -> None:
    body, headers = binary(columns(*[HOUSE] * 100), **BINARY)

    def chunks() -> Iterator[bytes]:
        for place in range(0, len(body), 7):
            yield body[place : place + 7]

    whole = http.post(INFER, content=body, headers=headers)
    response = http.post(INFER, content=chunks(), headers=headers)

    assert response.request.headers["Transfer-Encoding"] == "chunked"
    assert (response.status_code, response.content) == (200, whole.content)


@pytest.mark.parametrize(
    ("path", "length", "status", "error"),
    [
        (INFER, 1_048_577, 413, "The body is too large: at most 1,048,576 bytes are accepted."),
        (VERSIONED, 1_048_577, 413, "The body is too large: at most 1,048,576 bytes are accepted."),
        ("/v2/health/live", 16_385, 413, "The body is too large: at most 16,384 bytes are accepted."),
    ],
)
def test_what_the_worker_refuses_has_the_form_of_the_protocol_too(
    server: GunicornProcess, path: str, length: int, status: int, error: str
) -> None:
    with server.connect() as client:
        client.sendall(request(path, f"Content-Length: {length}", method="POST"))
        head, _, body = everything(client).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert body.startswith(b'{"error":"')
    assert error.encode() in body


def mutant(draw: random.Random, valid: bytes) -> bytes:
    """A valid body with a few pieces cut out, doubled or replaced."""
    found = bytearray(valid)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(found) + 1)
        end = min(len(found), place + draw.choice((0, 1, 1, 2, 4, 40)))
        replaced = draw.choice((draw.choice(PIECES), draw.randbytes(draw.randint(0, 4)), bytes(found[place:end]) * 2))
        found[place:end] = replaced
    return bytes(found)


@pytest.fixture(scope="module")
def fake(published: Artifact) -> FlaskClient:
    return fake_app(published.manifest).test_client()


@pytest.mark.parametrize("seed", range(4))
def test_no_mutant_of_a_valid_request_is_answered_5xx(fake: FlaskClient, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 -- nothing secret
    text = tensor("zip_code", "98103", "", datatype="BYTES")
    valid = [
        (body_of([*columns(HOUSE, HOUSE)], id="a", outputs=[{"name": "price"}], **BINARY), {}),
        binary(columns(HOUSE, HOUSE, age_years=tensor("age_years", "1", "22", datatype="BYTES")), id="a"),
        binary([*columns(HOUSE, HOUSE), text]),
        binary([tensor("x", *HOUSE.values(), datatype="FP32", shape=[1, 5])], **BINARY),
    ]
    statuses: set[int] = set()
    for _ in range(MUTANTS):
        body, headers = draw.choice(valid)
        if headers and draw.random() < 0.2:
            headers = {LENGTH: draw.choice(["", "0", "-1", str(draw.randrange(10_000)), "9" * 20, "1e3"])}
        response = fake.post(INFER, data=mutant(draw, body), headers=headers)
        statuses.add(response.status_code)
        assert response.status_code == 200 or list(response.get_json()) == ["error"]

    assert statuses == {200, 400}
