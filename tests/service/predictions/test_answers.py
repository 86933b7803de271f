"""What a prediction says, to the byte, from a model whose prices can be computed in the head."""

from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from pricing.artifacts.store import Artifact
from service.predictions.handler import timestamp
from tests.fake_service import DEFAULTS, HOUSE, RATIOS, TRAINED, fake_app
from tests.fakes import SameIds

ANSWER = (
    b'{"predicted_price":2000000.0,"confidence_interval":{"lower":1000000.0,"upper":4000000.0},'
    b'"model_version":"v1.2.3","predicted_at":"2024-01-01T12:00:00.000+00:00","confidence_level":0.9,'
    b'"prediction_id":"018cc4d1-5e00-7000-8000-000000000000"}'
)


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(published: Artifact, request: pytest.FixtureRequest) -> FlaskClient:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": request.param})
    return fake_app(published.manifest, settings=settings, ids=SameIds()).test_client()


def predict(client: FlaskClient, house: dict[str, float], query: str = "") -> dict[str, Any]:
    response = client.post(f"/predict{query}", json=house)
    assert response.status_code == 200
    answer: dict[str, Any] = response.get_json()
    return answer


def predict_batch(client: FlaskClient, *houses: dict[str, float], query: str = "") -> list[dict[str, Any]]:
    response = client.post(f"/predict/batch{query}", json={"houses": houses})
    assert response.status_code == 200
    answers: list[dict[str, Any]] = response.get_json()["predictions"]
    return answers


def test_an_answer_to_the_byte(client: FlaskClient) -> None:
    assert client.post("/predict", json=HOUSE).data == ANSWER


def test_an_answer_with_a_warning_to_the_byte(client: FlaskClient) -> None:
    warning = (
        b',"warnings":[{"field":"distance_to_city","value":90.1,"trained_from":0.1,"trained_to":80.3,'
        b'"msg":"distance_to_city 90.1 is outside of 0.1 to 80.3, which the model was trained on."}]}'
    )
    assert client.post("/predict", json=HOUSE | {"distance_to_city": 90.1}).data == ANSWER[:-1] + warning


def test_a_batch_to_the_byte(client: FlaskClient) -> None:
    smaller = ANSWER.replace(b"2000000.0", b"1500000.0").replace(b"1000000.0", b"750000.0")
    smaller = smaller.replace(b"4000000.0", b"3000000.0").replace(b'0"}', b'1"}')

    answer = client.post("/predict/batch", json={"houses": [HOUSE, HOUSE | {"square_feet": 1500}]}).data

    assert answer == b'{"predictions":[' + ANSWER + b"," + smaller + b'],"count":2}'


def test_cents_are_rounded_only_at_the_edge(client: FlaskClient) -> None:
    answer = predict(client, HOUSE | {"square_feet": 0.123456}, "?confidence=0.5")

    assert answer["predicted_price"] == 123.46  # of 123.456
    assert answer["confidence_interval"]["lower"] == 98.76  # 123.456 / 1.25 is 98.7648, 123.46 / 1.25 is 98.768


@pytest.mark.parametrize("query", ["", "?confidence=0.5", "?confidence=0.99"])
def test_a_house_has_the_same_numbers_alone_and_in_a_batch(client: FlaskClient, query: str) -> None:
    houses = [HOUSE | {"square_feet": size} for size in (0.123456, 512.34, 6000)]

    alone = [predict(client, house, query) for house in houses]
    together = predict_batch(client, *houses, query=query)

    assert [answer.pop("prediction_id")[-1] for answer in alone] == ["0", "0", "0"]
    assert [answer.pop("prediction_id")[-1] for answer in together] == ["0", "1", "2"]
    assert together == alone


@pytest.mark.parametrize(
    ("query", "held"),
    [
        ("", 0.9),
        ("?confidence=0.5", 0.5),
        ("?confidence=0.50", 0.5),
        ("?confidence=5e-1", 0.5),
        ("?confidence=0.9", 0.9),
        ("?confidence=0.99", 0.99),
        ("?confidence=0.905", 0.91),
        ("?confidence=0.5001", 0.9),
        ("?confidence=0.5&confidence=0.5", 0.5),
        ("?&&", 0.9),
    ],
)
def test_the_interval_holds_the_level_asked_for_or_the_next_higher(
    client: FlaskClient, query: str, held: float
) -> None:
    single, batch = predict(client, HOUSE, query), predict_batch(client, HOUSE, query=query)

    assert batch == [single]
    assert single["confidence_level"] == held
    assert single["predicted_price"] == 2_000_000
    assert single["confidence_interval"] == {"lower": 2_000_000 / RATIOS[held], "upper": 2_000_000 * RATIOS[held]}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    "value", ["0.49", "0.4999999", "0.991", "1", "-0.9", "90", "", "nan", "inf", "-inf", "high", "0,9", "0.9%00", "%ff"]
)
def test_a_level_that_cannot_be_held_is_refused(client: FlaskClient, path: str, value: str) -> None:
    house = HOUSE if path == "/predict" else {"houses": [HOUSE]}

    response = client.post(f"{path}?confidence={value}", json=house)

    assert response.status_code == 422
    assert [problem["loc"] for problem in response.get_json()["detail"]] == [["query", "confidence"]]
    assert [set(problem) for problem in response.get_json()["detail"]] == [{"type", "loc", "msg"}]


@pytest.mark.parametrize("query", ["confidence=PLANTED", "PLANTED=1", "confidence=0.9&confidence=PLANTED"])
def test_what_is_wrong_with_a_query_is_not_echoed(client: FlaskClient, query: str) -> None:
    response = client.post(f"/predict?{query}", json=HOUSE)

    assert response.status_code == 422
    assert b"PLANTED" not in response.data


@pytest.mark.parametrize("field", TRAINED)
@pytest.mark.parametrize("edge", [0, 1])
def test_nothing_is_warned_of_at_the_edges_of_the_training_range(client: FlaskClient, field: str, edge: int) -> None:
    assert "warnings" not in predict(client, HOUSE | {field: TRAINED[field][edge]})


OUTSIDE = {
    "square_feet": (499.9, 5000.1),
    "bedrooms": (0, 7),
    "bathrooms": (0.5, 8.25),
    "age_years": (None, 150.5),
    "distance_to_city": (0.09, 80.31),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in OUTSIDE.items() for value in values if value is not None]
)
def test_a_value_outside_of_the_training_range_is_named_with_the_range(
    client: FlaskClient, field: str, value: float
) -> None:
    lowest, highest = TRAINED[field]

    assert predict(client, HOUSE | {field: value})["warnings"] == [
        {
            "field": field,
            "value": value,
            "trained_from": lowest,
            "trained_to": highest,
            "msg": f"{field} {value:g} is outside of {lowest:g} to {highest:g}, which the model was trained on.",
        }
    ]


def test_several_values_outside_are_all_named_in_the_order_of_the_fields(client: FlaskClient) -> None:
    answer = predict(client, {name: values[1] for name, values in OUTSIDE.items() if values[1] is not None})

    assert [warning["field"] for warning in answer["warnings"]] == list(TRAINED)


def test_in_a_batch_only_the_row_outside_is_warned_of(client: FlaskClient) -> None:
    answers = predict_batch(client, HOUSE, HOUSE | {"age_years": 200}, HOUSE, HOUSE | {"bedrooms": 50})

    named = [[warning["field"] for warning in answer.get("warnings", [])] for answer in answers]
    assert named == [[], ["age_years"], [], ["bedrooms"]]


@given(st.integers(0, 4_102_444_800_000_000_000))
def test_a_stamp_is_what_isoformat_says(nanoseconds: int) -> None:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000)
    assert timestamp(nanoseconds) == moment.isoformat(timespec="milliseconds")
