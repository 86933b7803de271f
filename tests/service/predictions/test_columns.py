"""Requests to a version that knows further columns: every body is answered exactly as the table says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from pricing.artifacts.deployment import Deployment
from pricing.artifacts.store import Artifact
from pricing.inference.predictor import load
from pricing.journal.journal import Journal, read
from pricing.journal.replay import replayed
from service.app import create_app
from service.contract import ModelInfo, Prediction, Predictions, ValidationProblems
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry, ServedModel
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.metrics import Files, WorkerMetrics
from service.predictions.recorder import PredictionRecorder
from service.resources import Resources
from tests.fake_service import DEFAULTS, HOUSE, NO_STORE, NOW, Always, resources
from tests.fakes import KeptInMemory

Loc = tuple[str | int, ...]
NUMBER, CATEGORY = "latitude", "zip_code"
KNOWN: Final = ["latitude", "zip_code", "heating"]
LONG: Final = "x" * 201
DEEP: Final = "[" * 100 + "]" * 100


class Case(NamedTuple):
    """JSON text of columns, and where the answer finds a problem in them; a body without one is answered 200."""

    columns: str
    blamed: tuple[str, ...] = ()


def one(name: str, *texts: str, bad: bool) -> list[Case]:
    return [Case(f'"{name}": {text}', (name,) if bad else ()) for text in texts]


CASES: Final = [
    *one(NUMBER, "null", "47", "47.5", "-0.0", "4.75e1", "90", "-90", "1e-320", bad=False),
    *one(NUMBER, '"47.5"', '""', "true", "false", "[]", "[47.5]", "{}", '{"value": 47.5}', DEEP, bad=True),
    *one(NUMBER, "90.0000001", "-91", "1e9", "1e308", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", bad=True),
    *one(NUMBER, "9" * 400, "-" + "9" * 400, "9" * 4_000, bad=True),
    *one(CATEGORY, "null", "98103", "98103.0", '"98103"', '" 98103 "', '"98103.0"', "9.8103e4", bad=False),
    *one(CATEGORY, '""', '" "', '"}, {"', '"\\u0000"', '"\\ud83d\\ude00"', '"99999"', "-1", "0.5", "1e300", bad=False),
    *one(CATEGORY, "1e-300", f'"{LONG[1:]}"', "12345678901234567890123", bad=False),
    *one(CATEGORY, "true", "false", "[]", '["98103"]', "{}", '{"code": 98103}', DEEP, bad=True),
    *one(CATEGORY, f'"{LONG}"', "NaN", "Infinity", "1e999", "9" * 400, "9" * 4_000, bad=True),
    *one("heating", '"gas"', '"GAS"', "1", "null", bad=False),
    *one("heating", "true", "[]", "{}", "NaN", bad=True),
    *one("a name that no version knows", "true", "[]", "{}", '"x"', DEEP, bad=False),
    Case('"latitude": true, "zip_code": [], "heating": {}', ("latitude", "zip_code", "heating")),
    Case('"heating": {}, "zip_code": "98103", "latitude": "x"', ("latitude", "heating")),
    Case('"latitude": "x", "latitude": 47.5'),
    Case('"latitude": 47.5, "latitude": "x"', ("latitude",)),
    Case('"Latitude": true, "LATITUDE": []'),
]


def body_of(case: Case) -> bytes:
    return (json.dumps(HOUSE)[:-1] + ", " + case.columns + "}").encode()


def batch_of(*bodies: bytes) -> bytes:
    return b'{"houses": [' + b", ".join(bodies) + b"]}"


@pytest.fixture(scope="module")
def model(knowing: Artifact) -> ServedModel:
    return ServedModel.of("1" * 64, knowing.manifest, load(knowing))


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(model: ServedModel, request: pytest.FixtureRequest) -> FlaskClient:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": request.param})
    return create_app(settings, resources(Always(model)), lambda: NOW).test_client()


def post(client: FlaskClient, path: str, body: bytes) -> tuple[int, Any]:
    response = client.post(path, data=body, content_type="application/json")
    return response.status_code, response.get_json()


def predict(client: FlaskClient, **columns: object) -> dict[str, Any]:
    status, answer = post(client, "/predict", json.dumps(HOUSE | columns).encode())
    assert status == 200
    Prediction.model_validate(answer)
    found: dict[str, Any] = answer
    return found


def locs(answer: dict[str, Any]) -> list[Loc]:
    ValidationProblems.model_validate(answer)
    return [tuple(problem["loc"]) for problem in answer["detail"]]


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.columns[:40])
def test_a_body_with_columns_is_answered_as_the_table_says(client: FlaskClient, case: Case) -> None:
    status, answer = post(client, "/predict", body_of(case))

    assert status == (422 if case.blamed else 200)
    if case.blamed:
        assert locs(answer) == [("body", name) for name in case.blamed]
    else:
        Prediction.model_validate(answer)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.columns[:40])
def test_a_batch_blames_the_row(client: FlaskClient, case: Case) -> None:
    status, answer = post(client, "/predict/batch", batch_of(json.dumps(HOUSE).encode(), body_of(case)))

    assert status == (422 if case.blamed else 200)
    if case.blamed:
        assert locs(answer) == [("body", "houses", 1, name) for name in case.blamed]
    else:
        Predictions.model_validate(answer)


def test_a_batch_lists_at_most_20_problems_also_of_rows_that_are_read_later(client: FlaskClient) -> None:
    good, bad = json.dumps(HOUSE).encode(), body_of(Case('"latitude": true, "zip_code": []'))

    status, answer = post(client, "/predict/batch", batch_of(*[good] * 600, *[bad] * 30))

    assert status == 422
    assert locs(answer) == [("body", "houses", 600 + n, name) for n in range(10) for name in (NUMBER, CATEGORY)]


@given(
    st.dictionaries(
        st.sampled_from([*KNOWN, "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_no_columns_break_the_service(model: ServedModel, columns: dict[str, object]) -> None:
    client = create_app(DEFAULTS, resources(Always(model)), lambda: NOW).test_client()
    body = json.dumps(HOUSE | columns).encode()

    (alone, one), (together, many) = post(client, "/predict", body), post(client, "/predict/batch", batch_of(body))

    assert alone == together
    assert alone in {200, 422}
    if alone == 200:
        assert one["predicted_price"] == many["predictions"][0]["predicted_price"]


def test_the_forms_of_a_category_have_one_price(client: FlaskClient) -> None:
    forms = [98103, 98103.0, "98103", " 98103 ", "98103.0"]
    assert len({predict(client, zip_code=form)["predicted_price"] for form in forms}) == 1
    assert predict(client, zip_code=98118)["predicted_price"] > predict(client, zip_code=98103)["predicted_price"] * 1.1


def test_null_and_absent_are_the_same_and_listed_once(client: FlaskClient) -> None:
    absent, null = predict(client, heating="oil"), predict(client, heating="oil", latitude=None, zip_code=None)

    assert absent["not_given"] == null["not_given"] == ["latitude", "zip_code"]
    assert absent["predicted_price"] == null["predicted_price"]
    assert predict(client, heating="oil", latitude=47.3, zip_code=98103)["not_given"] == []


def test_a_batch_lists_a_column_that_nobody_gave_once(client: FlaskClient) -> None:
    houses = [HOUSE | {"zip_code": 98103}, HOUSE | {"zip_code": 98104, "latitude": 47.5}]
    _, answer = post(client, "/predict/batch", json.dumps({"houses": houses}).encode())

    assert answer["not_given"] == ["heating"]
    assert [prediction.get("not_given") for prediction in answer["predictions"]] == [["latitude"], None]


def test_an_unseen_category_is_priced_as_unknown_with_a_warning(client: FlaskClient) -> None:
    unseen, unknown = predict(client, zip_code="10001"), predict(client)

    assert unseen["predicted_price"] == unknown["predicted_price"]
    assert unseen["confidence_interval"] == unknown["confidence_interval"]
    message = "zip_code has a value that the model was not trained on, and is priced as unknown."
    assert unseen["warnings"] == [{"field": "zip_code", "msg": message}]
    assert "10001" not in json.dumps(unseen["warnings"])
    assert "warnings" not in unknown


def test_a_number_out_of_range_warns(client: FlaskClient) -> None:
    (warning,) = predict(client, latitude=80)["warnings"]
    assert (warning["field"], warning["value"]) == ("latitude", 80.0)


def test_a_house_of_which_more_is_known_has_the_narrower_interval(client: FlaskClient) -> None:
    def width(**columns: object) -> float:
        answer = predict(client, **columns)
        interval = answer["confidence_interval"]
        ratio: float = interval["upper"] / interval["lower"]
        return ratio

    assert width(latitude=47.3, zip_code=98103, heating="oil") < width(heating="oil") < width()


def test_a_version_with_the_five_fields_ignores_columns_and_lists_none(published: Artifact) -> None:
    model = ServedModel.of("2" * 64, published.manifest, load(published))
    client = create_app(DEFAULTS, resources(Always(model)), lambda: NOW).test_client()

    status, answer = post(client, "/predict", json.dumps(HOUSE | {"latitude": "x", "zip_code": []}).encode())

    assert status == 200
    assert "not_given" not in answer


class Both(ModelRegistry):
    """Two versions in service, the second one as challenger with a tenth of the clients."""

    def __init__(self, champion: ServedModel, challenger: ServedModel) -> None:
        super().__init__(NO_STORE)
        models = {model.manifest.version: model for model in (champion, challenger)}
        digests = {version: model.digest for version, model in models.items()}
        first, second = models
        deployment = Deployment(generation=1, champion=first, previous=second, sha256=digests)
        self._serving = LoadedDeployment(deployment, models)


def test_versions_in_service_read_the_columns_that_they_know(published: Artifact, model: ServedModel) -> None:
    five = ServedModel.of("2" * 64, published.manifest, load(published))
    client = create_app(DEFAULTS, resources(Both(five, model)), lambda: NOW).test_client()
    bad = json.dumps(HOUSE | {"latitude": "x"}).encode()

    assert post(client, "/predict?model_version=v1.0.0", bad)[0] == 200
    status, answer = post(client, "/predict?model_version=v2.0.0", bad)
    assert (status, locs(answer)) == (422, [("body", "latitude")])
    in_body = json.dumps(HOUSE | {"latitude": 47.3, "model_version": "v2.0.0"}).encode()
    assert post(client, "/predict", in_body)[1]["not_given"] == ["zip_code", "heating"]
    batch = json.dumps({"houses": [HOUSE | {"latitude": 47.3}], "model_version": "v2.0.0"}).encode()
    assert post(client, "/predict/batch", batch)[1]["not_given"] == ["zip_code", "heating"]


def test_the_cache_tells_given_columns_apart(model: ServedModel) -> None:
    settings = DEFAULTS.model_copy(update={"cache_size": 10})
    client = create_app(settings, resources(Always(model)), lambda: NOW).test_client()

    def ask(**columns: object) -> tuple[str, float]:
        response = client.post("/predict", json=HOUSE | columns)
        return response.headers["X-Cache"], response.get_json()["predicted_price"]

    first = ask(zip_code=98103)
    assert first[0] == "miss"
    assert ask(zip_code=98104)[0] == "miss"
    assert ask(zip_code="98103") == ("hit", first[1])
    assert ask()[0] == "miss"
    assert ask(zip_code=None)[0] == "hit"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path, "here", 0, segment_bytes=1_000_000, keep_days=1)
    yield found
    found.close()


def test_the_journal_holds_the_columns_and_replays_them(
    journal: Journal, knowing: Artifact, model: ServedModel
) -> None:
    client = create_app(DEFAULTS, resources(Always(model), journal), lambda: NOW).test_client()
    hostile = '}},{"prediction_id":"'
    first = predict(client, latitude=47.25, zip_code=98103)
    houses = [HOUSE | {"zip_code": hostile}, HOUSE | {"heating": "gas"}, HOUSE]
    _, rest = post(client, "/predict/batch", json.dumps({"houses": houses}).encode())

    records = list(read(journal.root))

    assert [record.columns for record in records] == [
        {"latitude": 47.25, "zip_code": "98103"},
        {"zip_code": hostile},
        {"heating": "gas"},
        {},
    ]
    answers = [first, *rest["predictions"]]
    assert [record.prediction_id for record in records] == [answer["prediction_id"] for answer in answers]
    again = [replayed(record, model.predictor, knowing.manifest.columns) for record in records]
    assert [(found.differences, found.ulps) for found in again] == [([], 0.0)] * 4


def test_metrics_count_given_values_only(model: ServedModel, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    slot = run.claim()
    assert slot is not None
    models, metrics = Always(model), WorkerMetrics(Files.of(*slot.metrics))
    books = PredictionRecorder(KeptInMemory(), metrics)
    service = Resources(models, metrics, Exposition(run, NO_STORE, models), books)
    client = create_app(DEFAULTS, service, lambda: NOW).test_client()
    predict(client, latitude=47.5)
    predict(client, zip_code="unseen")
    post(client, "/predict/batch", json.dumps({"houses": [HOUSE | {"latitude": 47.1}, HOUSE]}).encode())

    lines = client.get("/metrics", headers={"Accept": "text/plain"}).text.splitlines()
    counts = {
        name: float(line.split()[-1])
        for line in lines
        for name in ("square_feet", *KNOWN)
        if line.startswith("appraiser_feature_value_count") and f'"{name}"' in line
    }
    assert counts == {"square_feet": 4, "latitude": 2, "zip_code": 0, "heating": 0}
    assert 'appraiser_out_of_range_total{feature="zip_code"} 1.0' in lines


def test_model_info_and_openapi_describe_the_columns(client: FlaskClient) -> None:
    info = ModelInfo.model_validate(client.get("/model/info").get_json())
    assert [(column.name, column.kind) for column in info.columns] == [
        ("latitude", "number"),
        ("zip_code", "category"),
        ("heating", "category"),
    ]
    assert info.columns[0].unit == "degrees"
    assert 0.05 < info.columns[0].missing < 0.15
    assert [category.value for category in info.columns[2].categories] == ["gas", "heat pump", "oil"]

    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    for name in ("OneHouse", "HouseOfBatch"):
        properties = schemas[name]["properties"]
        assert properties["latitude"]["anyOf"] == [
            {"type": "number", "minimum": -90.0, "maximum": 90.0},
            {"type": "null"},
        ]
        assert {"type": "string", "maxLength": 200} in properties["zip_code"]["anyOf"]
        assert set(schemas[name]["required"]) == set(HOUSE)


def test_the_matrix_of_a_request_is_that_of_training(model: ServedModel) -> None:
    assert model.columns is not None
    row = model.columns.read({"latitude": 47.123, "zip_code": "98103", "heating": None})
    code = next(c.code for c in model.manifest.columns[1].categories if c.value == "98103")
    assert row.numbers[:2] == [47.123, code]
    assert np.isnan(row.numbers[2])
