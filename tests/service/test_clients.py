"""The requests of the original's clients, and what HTTP clients do besides, to a real gunicorn with two workers."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any

import httpx
import numpy as np
import pytest

from tests.bodies import EDGES, GOOD, MAX_BYTES
from tests.gunicorn_process import HOST, GunicornProcess

SINGLE = {"square_feet": 2000, "bedrooms": 3, "bathrooms": 2, "age_years": 10, "distance_to_city": 5}
BATCH = {
    "houses": [
        {"square_feet": 1500, "bedrooms": 2, "bathrooms": 1, "age_years": 20, "distance_to_city": 10},
        {"square_feet": 2500, "bedrooms": 4, "bathrooms": 3, "age_years": 5, "distance_to_city": 3},
    ]
}


def assert_keeps_the_contract(answer: dict[str, Any]) -> None:
    types = [(name, type(value)) for name, value in answer.items()][:4]
    assert types == [
        ("predicted_price", float),
        ("confidence_interval", dict),
        ("model_version", str),
        ("predicted_at", str),
    ]
    interval = answer["confidence_interval"]
    assert [(name, type(value)) for name, value in interval.items()] == [("lower", float), ("upper", float)]
    assert 0 < interval["lower"] < answer["predicted_price"] < interval["upper"] < math.inf
    assert answer["model_version"] == "v1.0.0"
    said = datetime.fromisoformat(answer["predicted_at"])
    assert said.utcoffset() == timedelta(0)
    assert abs(said - datetime.now(UTC)) < timedelta(minutes=5)


def numbers(answer: dict[str, Any]) -> tuple[float, float, float]:
    return answer["predicted_price"], answer["confidence_interval"]["lower"], answer["confidence_interval"]["upper"]


def test_the_clients_of_the_original_get_their_four_fields(http: httpx.Client) -> None:
    response = http.post("/predict", json=SINGLE)

    assert response.status_code == 200
    assert_keeps_the_contract(response.json())


def test_the_clients_of_the_original_get_their_batch_in_order(http: httpx.Client) -> None:
    response = http.post("/predict/batch", json=BATCH)

    assert response.status_code == 200
    answers = response.json()["predictions"]
    assert len(answers) == 2
    for answer, house in zip(answers, BATCH["houses"], strict=True):
        assert_keeps_the_contract(answer)
        assert answer["predicted_price"] == http.post("/predict", json=house).json()["predicted_price"]


def test_invalid_data_gets_the_shape_of_fastapi(http: httpx.Client) -> None:
    single = http.post("/predict", json=SINGLE | {"square_feet": -100})
    batch = http.post("/predict/batch", json={"houses": [SINGLE, SINGLE | {"bedrooms": "three"}]})

    too_small = {"type": "greater_than", "loc": ["body", "square_feet"], "msg": "Input should be greater than 0"}
    assert (single.status_code, single.json()) == (422, {"detail": [too_small]})
    no_number = {
        "type": "float_type",
        "loc": ["body", "houses", 1, "bedrooms"],
        "msg": "Input should be a valid number",
    }
    assert (batch.status_code, batch.json()) == (422, {"detail": [no_number]})


def test_the_clients_of_the_original_learn_which_model_answers(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ready", "version": "v1.0.0", "generation": 1}
    assert {"version", "family", "trained_at", "features", "metrics"} <= set(http.get("/model/info").json())


def test_a_connection_is_kept_for_further_requests_whatever_the_answer(server: GunicornProcess) -> None:
    connection = HTTPConnection(HOST, server.port, timeout=30)
    statuses, sockets = [], []
    for path, body in (
        ("/predict", GOOD),
        ("/predict", b"{"),
        ("/nothing", GOOD),
        ("/predict/batch", b""),
        ("/predict", GOOD),
    ):
        connection.request("POST", path, body)
        with connection.getresponse() as response:
            response.read()
            statuses.append(response.status)
            sockets.append(connection.sock)
    connection.close()

    assert statuses == [200, 422, 404, 422, 200]
    assert sockets == [sockets[0]] * 5  # http.client would have opened a new one where the server had closed
    assert sockets[0] is not None


def chunks(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_body_in_chunks_is_answered_like_a_whole_one(http: httpx.Client, size: int) -> None:
    response = http.post("/predict", content=chunks(GOOD, size))

    assert response.request.headers["Transfer-Encoding"] == "chunked"
    assert response.status_code == 200
    assert response.json()["predicted_price"] == http.post("/predict", content=GOOD).json()["predicted_price"]


def test_too_many_chunks_are_refused(http: httpx.Client) -> None:
    assert http.post("/predict", content=chunks(GOOD.ljust(MAX_BYTES), 65_536)).status_code == 200

    assert http.post("/predict", content=chunks(GOOD.ljust(MAX_BYTES + 1), 65_536)).status_code == 413


def test_a_higher_level_has_a_wider_interval_around_the_same_price(http: httpx.Client) -> None:
    answers = [http.post(f"/predict?confidence={level}", json=SINGLE).json() for level in (0.5, 0.7, 0.9, 0.99)]

    prices, lowers, uppers = zip(*map(numbers, answers), strict=True)
    assert len(set(prices)) == 1
    assert list(lowers) == sorted(set(lowers), reverse=True)
    assert list(uppers) == sorted(set(uppers))


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_a_prediction_takes_no_other_method(http: httpx.Client, path: str, method: str) -> None:
    response = http.request(method, path)

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert_is_a_sentence(response)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/model/info", "/docs", "/openapi.json"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
def test_what_is_read_takes_no_other_method(http: httpx.Client, path: str, method: str) -> None:
    response = http.request(method, path)

    assert (response.status_code, set(response.headers["Allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert_is_a_sentence(response)


@pytest.mark.parametrize(
    "path",
    ["/PLANTED", "/predict//", "/predict/PLANTED", "/health//ready", "/%ff", "/docs//", "/docs/static/../app.py"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_a_path_that_is_not_there_is_said_so(http: httpx.Client, path: str, method: str) -> None:
    response = http.request(method, path)

    assert response.status_code == 404
    assert_is_a_sentence(response)


def assert_is_a_sentence(response: httpx.Response) -> None:
    assert response.headers["Content-Type"] == "application/json"
    if response.request.method == "HEAD":
        assert response.content == b""
    else:
        assert list(response.json()) == ["detail"]
        assert response.json()["detail"].endswith(".")
    assert b"PLANTED" not in response.content


def houses_of_every_kind() -> list[dict[str, float]]:
    """Sixty ordinary houses, and the corners of the contract."""
    columns = np.random.default_rng(0).uniform([300, 0, 0.5, 0, 0], [9000, 8, 6, 120, 60], size=(60, 5)).round(2)
    columns[:, 1] = columns[:, 1].round()
    rows = columns.tolist() + [[float(edges[side]) for edges in EDGES.values()] for side in (1, 2)]
    return [dict(zip(EDGES, row, strict=True)) for row in rows]


def test_a_house_has_the_same_price_alone_and_in_batches_of_any_order_and_size(http: httpx.Client) -> None:
    houses = houses_of_every_kind()
    alone = [numbers(http.post("/predict", json=house).json()) for house in houses]
    rng = np.random.default_rng(1)

    for size in (2, 3, 17, len(houses), len(houses)):
        order = rng.permutation(len(houses)).tolist()
        together: dict[int, tuple[float, float, float]] = {}
        for part in (order[start : start + size] for start in range(0, len(order), size)):
            answers = http.post("/predict/batch", json={"houses": [houses[row] for row in part]}).json()["predictions"]
            together |= dict(zip(part, map(numbers, answers), strict=True))
        assert [together[row] for row in range(len(houses))] == alone


def test_an_upgrade_to_websocket_is_answered_as_the_request_it_also_is(http: httpx.Client) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert http.get("/health", headers=upgrade).status_code == 200
