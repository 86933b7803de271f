"""An inference request is a batch in other words: the same prices, records, counts and choice of a version."""

import gzip
import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from pricing.artifacts.deployment import Deployment, bucket_of, promote, split_traffic
from pricing.artifacts.store import Artifact
from pricing.house import BOUNDS, FEATURES, Column, Matrix
from pricing.inference.predictor import Predictor, load
from pricing.journal.journal import Journal, read
from pricing.journal.replay import replayed
from service.app import create_app
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry, ServedModel
from service.observability.metrics import WorkerMetrics
from service.open_inference.body import Tensor
from service.open_inference.tensors import read_columns
from service.settings import Settings
from tests.fake_service import DEFAULTS, HOUSE, NO_STORE, NOW, Always, calibration, fake_app, resources
from tests.fakes import SameIds, ThousandDollarsASquareFoot
from tests.service.open_inference.tensors import (
    INFER,
    LENGTH,
    binary,
    body_of,
    columns,
    infer,
    outputs_of,
    tensor,
)
from worker.wsgi import TAKES_STEPS

OUTPUTS: Final = ["price", "lower", "upper"]
HOUSES: Final = [HOUSE, HOUSE | {"square_feet": 0.123456, "bathrooms": 1.1}, HOUSE | {"distance_to_city": 90.1}]
FURTHER: Final = [
    tensor("latitude", 47.5, None, 47.1),
    tensor("zip_code", "98103", "99999", None, datatype="BYTES"),
    tensor("heating", "gas", None, "", datatype="BYTES"),
]
CODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


def app_of(artifact: Artifact, settings: Settings = DEFAULTS) -> FlaskClient:
    """A service of a real version."""
    model = ServedModel.of("1" * 64, artifact.manifest, load(artifact))
    return create_app(settings, resources(Always(model)), lambda: NOW).test_client()


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(published: Artifact, request: pytest.FixtureRequest) -> FlaskClient:
    return app_of(published, DEFAULTS.model_copy(update={"prediction_middleware": request.param}))


@pytest.fixture(scope="module")
def with_columns(knowing: Artifact) -> FlaskClient:
    return app_of(knowing)


def by_predict(client: FlaskClient, houses: list[dict[str, Any]], query: str = "") -> dict[str, list[float]]:
    """The same houses, one by one."""
    answers = [client.post(f"/predict{query}", json=house).get_json() for house in houses]
    return {
        "price": [answer["predicted_price"] for answer in answers],
        **{name: [answer["confidence_interval"][name] for answer in answers] for name in OUTPUTS[1:]},
    }


def test_an_answer_to_the_byte(published: Artifact) -> None:
    client = fake_app(published.manifest, ids=SameIds()).test_client()

    response = client.post(INFER, data=body_of(columns(), id="a name"))

    assert response.content_type == "application/json"
    assert response.data == (
        b'{"model_name":"appraiser","model_version":"v1.2.3","id":"a name","parameters":{"confidence_level":0.9},'
        b'"outputs":[{"name":"price","shape":[1],"datatype":"FP64","data":[2000000.0]},'
        b'{"name":"lower","shape":[1],"datatype":"FP64","data":[1000000.0]},'
        b'{"name":"upper","shape":[1],"datatype":"FP64","data":[4000000.0]}]}'
    )


def test_a_binary_answer_to_the_byte(published: Artifact) -> None:
    client = fake_app(published.manifest, ids=SameIds()).test_client()
    asked = [{"name": "prediction_id", "parameters": {"binary_data": True}}, {"name": "price"}]

    response = client.post(INFER, data=body_of(columns(), outputs=asked))

    head = (
        b'{"model_name":"appraiser","model_version":"v1.2.3","parameters":{"confidence_level":0.9},"outputs":['
        b'{"name":"prediction_id","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":40}},'
        b'{"name":"price","shape":[1],"datatype":"FP64","data":[2000000.0]}]}'
    )
    assert response.data == head + b"\x24\x00\x00\x00018cc4d1-5e00-7000-8000-000000000000"
    assert response.headers[LENGTH] == str(len(head))
    assert response.content_type == "application/octet-stream"


def test_a_model_and_its_server_are_described(published: Artifact, with_columns: FlaskClient) -> None:
    client = fake_app(published.manifest).test_client()
    fields = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in FEATURES]
    expected = {
        "name": "appraiser",
        "versions": ["v1.2.3"],
        "platform": "onnx_onnxv1",
        "inputs": fields,
        "outputs": [{"name": name, "datatype": "FP64", "shape": [-1]} for name in OUTPUTS],
    }
    server = {"name": "appraiser", "version": "1.0.0", "extensions": ["binary_tensor_data"]}

    assert client.get("/v2").get_json() == client.get("/v2/").get_json() == server
    assert client.get("/v2/models").get_json() == {"models": ["appraiser"]}
    assert client.get("/v2/models/appraiser").get_json() == expected
    assert client.get("/v2/models/appraiser/versions/v1.2.3").get_json() == expected
    for path in ("/v2/models/appraiser/ready", "/v2/models/appraiser/versions/v1.2.3/ready"):
        assert client.get(path).get_json() == {"name": "appraiser", "ready": True}
    assert client.get("/v2/health/live").get_json() == {"live": True}
    assert client.get("/v2/health/ready").get_json() == {"ready": True}
    further = with_columns.get("/v2/models/appraiser").get_json()["inputs"][len(FEATURES) :]
    assert [(found["name"], found["datatype"], found["parameters"]) for found in further] == [
        ("latitude", "FP64", {"optional": True}),
        ("zip_code", "BYTES", {"optional": True}),
        ("heating", "BYTES", {"optional": True}),
    ]


def test_a_service_without_a_model_is_live_and_not_ready() -> None:
    client = create_app(DEFAULTS, resources(ModelRegistry(NO_STORE)), lambda: NOW).test_client()
    refused = {"error": "No model has been loaded yet.", "ready": False}

    assert client.get("/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/appraiser/ready", "/v2/models/appraiser/versions/v1.0.0/ready"):
        response = client.get(path)
        assert (response.status_code, response.get_json()) == (503, refused)
    for response in (client.post(INFER, data=body_of(columns())), client.get("/v2/models/appraiser")):
        assert (response.status_code, response.get_json()) == (503, {"error": refused["error"]})


def test_the_model_has_the_name_of_the_setting(published: Artifact) -> None:
    client = fake_app(published.manifest, settings=DEFAULTS.model_copy(update={"inference_model_name": "houses"}))

    answer = infer(client.test_client(), columns(), "/v2/models/houses/infer")

    assert answer["model_name"] == "houses"


@pytest.mark.parametrize("level", [None, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["FP64", "INT64", "INT32", "UINT8", "FP32"])
@pytest.mark.parametrize("is_binary", [True, False])
def test_prices_are_those_of_predict_to_the_bit(
    client: FlaskClient, kind: str, level: float | None, *, is_binary: bool
) -> None:
    rooms = tensor("bedrooms", *(house["bedrooms"] for house in HOUSES), datatype=kind, shape=[len(HOUSES), 1])
    inputs, fields = columns(*HOUSES, bedrooms=rooms), {"parameters": {"confidence": level, "binary_data_output": True}}
    body, headers = binary(inputs, **fields) if is_binary else (body_of(inputs, **fields), {})

    response = client.post(INFER, data=body, headers=headers)

    assert outputs_of(response) == by_predict(client, HOUSES, "" if level is None else f"?confidence={level}")


@given(
    houses=st.lists(
        st.fixed_dictionaries(
            {
                name: st.integers(0, 50).map(float)
                if bounds.whole
                else st.floats(bounds.minimum or 0.0, bounds.maximum, exclude_min=bounds.above is not None)
                for name, bounds in BOUNDS.items()
            }
        ),
        min_size=1,
        max_size=20,
    ),
    is_binary=st.booleans(),
)
def test_any_houses_have_the_prices_of_a_batch(
    client: FlaskClient, houses: list[dict[str, float]], *, is_binary: bool
) -> None:
    inputs = columns(*houses)
    body, headers = binary(inputs) if is_binary else (body_of(inputs), {})

    found = outputs_of(client.post(INFER, data=body, headers=headers))

    answers = client.post("/predict/batch", json={"houses": houses}).get_json()["predictions"]
    assert found["price"] == [answer["predicted_price"] for answer in answers]
    assert found["upper"] == [answer["confidence_interval"]["upper"] for answer in answers]


@pytest.mark.parametrize("is_binary", [True, False])
def test_one_input_may_have_all_columns(client: FlaskClient, *, is_binary: bool) -> None:
    values = [house[name] for house in HOUSES for name in FEATURES]
    inputs = [tensor("any name", *values, datatype="FP32", shape=[len(HOUSES), len(FEATURES)])]
    body, headers = binary(inputs) if is_binary else (body_of(inputs), {})

    assert outputs_of(client.post(INFER, data=body, headers=headers)) == by_predict(client, HOUSES)


def test_one_input_may_have_the_five_fields_of_a_version_that_knows_categories(with_columns: FlaskClient) -> None:
    inputs = [tensor("x", *HOUSE.values(), datatype="FP32", shape=[1, len(FEATURES)])]

    found = infer(with_columns, inputs)["outputs"]

    assert [output["data"] for output in found] == list(by_predict(with_columns, [HOUSE]).values())


@pytest.mark.parametrize("width", [5, 6])
def test_one_input_has_the_further_columns_of_a_version_if_all_are_numbers(width: int) -> None:
    rows = [[*HOUSE.values(), 47.5][:width], [*HOUSE.values(), math.nan][:width]]
    content = memoryview(np.array(rows, "<f4").tobytes())

    found = read_columns([Tensor("x", [2, width], "FP32", content)], (*FEATURES, "latitude"), (), 2)

    assert found.rows == 2
    assert [column.tolist() for column in found.fields.values()] == [[value, value] for value in HOUSE.values()]
    assert found.further == ({"latitude": [47.5, None]} if width == 6 else {})


def test_elements_may_be_nested(client: FlaskClient) -> None:
    rows = [[house[name] for name in FEATURES] for house in HOUSES]
    flat, nested = (
        infer(client, columns(*HOUSES, age_years=tensor("age_years", *data, shape=[3, 1])))["outputs"]
        for data in ([10, 10, 10], [[10], [10], [10]])
    )

    assert flat == nested
    assert flat == infer(client, [tensor("x", *rows, datatype="FP32", shape=[3, 5])])["outputs"]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("is_binary", [True, False])
def test_a_body_may_be_compressed_and_its_header_is_of_the_plain_one(
    client: FlaskClient, coding: str, *, is_binary: bool
) -> None:
    body, headers = binary(columns(*HOUSES)) if is_binary else (body_of(columns(*HOUSES)), {})

    response = client.post(INFER, data=CODINGS[coding](body), headers=headers | {"Content-Encoding": coding})

    assert outputs_of(response) == by_predict(client, HOUSES)


@pytest.mark.parametrize("content_type", ["", "application/json", "application/octet-stream", "text/plain", "a/b; c=d"])
@pytest.mark.parametrize("is_binary", [True, False])
def test_the_content_type_is_not_looked_at(client: FlaskClient, content_type: str, *, is_binary: bool) -> None:
    body, headers = binary(columns()) if is_binary else (body_of(columns()), {})

    response = client.post(INFER, data=body, headers=headers | {"Content-Type": content_type})

    assert outputs_of(response) == by_predict(client, [HOUSE])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [*OUTPUTS]),
        ({"outputs": []}, [*OUTPUTS]),
        ({"outputs": None}, [*OUTPUTS]),
        ({"outputs": [{"name": "upper"}, {"name": "price"}]}, ["upper", "price"]),
        ({"outputs": [{"name": "prediction_id"}]}, ["prediction_id"]),
    ],
)
def test_the_outputs_are_those_that_are_asked_for(
    client: FlaskClient, asked: dict[str, Any], expected: list[str]
) -> None:
    assert [output["name"] for output in infer(client, columns(), **asked)["outputs"]] == expected


@pytest.mark.parametrize(
    ("of_request", "of_output", "is_binary"),
    [(None, None, False), (True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_an_output_is_binary_if_it_says_so_or_the_request_does(
    client: FlaskClient, *, of_request: bool | None, of_output: bool | None, is_binary: bool
) -> None:
    fields: dict[str, Any] = {"outputs": [{"name": "price", "parameters": {"binary_data": of_output}}]}

    response = client.post(INFER, data=body_of(columns(), parameters={"binary_data_output": of_request}, **fields))

    assert (LENGTH in response.headers) == is_binary
    assert outputs_of(response)["price"] == by_predict(client, [HOUSE])["price"]


@pytest.mark.parametrize(
    "fields",
    [
        {"model_name": "appraiser", "another": [1]},
        {"parameters": {"priority": 1, "timeout": 5, "sequence_id": 3, "sequence_start": True}},
        {"id": None, "parameters": None},
        {"outputs": [{"name": name, "parameters": {"another": 1}, "datatype": "FP64"} for name in OUTPUTS]},
    ],
)
def test_what_the_protocol_does_not_know_is_ignored(client: FlaskClient, fields: dict[str, Any]) -> None:
    answer = infer(client, [found | {"parameters": {"content_type": "np"}} for found in columns()], **fields)

    assert [output["data"] for output in answer["outputs"]] == list(by_predict(client, [HOUSE]).values())
    assert "id" not in answer


@pytest.mark.parametrize("is_binary", [True, False])
def test_further_columns_may_have_gaps_and_unknown_categories(with_columns: FlaskClient, *, is_binary: bool) -> None:
    gaps = {"latitude": float("nan"), "zip_code": "", "heating": ""}
    sent = [
        found | {"data": [gaps[found["name"]] if value is None else value for value in found["data"]]}
        for found in FURTHER
    ]
    inputs = [*columns(*HOUSES), *(sent if is_binary else FURTHER)]
    body, headers = binary(inputs) if is_binary else (body_of(inputs), {})
    given = [
        house | {found["name"]: found["data"][row] for found in FURTHER if found["data"][row] is not None}
        for row, house in enumerate(HOUSES)
    ]

    assert outputs_of(with_columns.post(INFER, data=body, headers=headers)) == by_predict(with_columns, given)


@pytest.mark.parametrize("present", [[], FURTHER[:1], FURTHER[1:2], FURTHER[::2]])
def test_any_further_column_may_be_absent(with_columns: FlaskClient, present: list[dict[str, Any]]) -> None:
    given = [house | {found["name"]: found["data"][row] for found in present} for row, house in enumerate(HOUSES)]
    found = infer(with_columns, [*columns(*HOUSES), *present])["outputs"]

    assert {output["name"]: output["data"] for output in found} == by_predict(with_columns, given)


@pytest.mark.parametrize("kind", ["INT64", "INT32", "FP64", "FP32"])
@pytest.mark.parametrize("is_binary", [True, False])
def test_a_category_may_be_a_number(with_columns: FlaskClient, kind: str, *, is_binary: bool) -> None:
    inputs = [*columns(), tensor("zip_code", 98103, datatype=kind)]
    body, headers = binary(inputs) if is_binary else (body_of(inputs), {})

    found = outputs_of(with_columns.post(INFER, data=body, headers=headers))

    assert found == by_predict(with_columns, [HOUSE | {"zip_code": "98103"}])


@pytest.mark.parametrize(
    ("further", "error"),
    [
        (tensor("latitude", 47, 91), "The value of row 1 of the input latitude is not valid: Input should be less *"),
        (tensor("latitude", "47", "47", datatype="BYTES"), "The value of row 0 of the input latitude is not valid: *"),
        (
            tensor("zip_code", "1", "x" * 201, datatype="BYTES"),
            "The value of row 1 of the input zip_code is not valid*",
        ),
        (tensor("longitude", 1, 2), "Input 5 is not known: no version in service has a column of this name."),
    ],
)
def test_a_further_column_that_is_not_valid_is_named_with_its_row(
    with_columns: FlaskClient, further: dict[str, Any], error: str
) -> None:
    response = with_columns.post(INFER, data=body_of([*columns(HOUSE, HOUSE), further]))

    assert response.status_code == 400
    assert response.get_json()["error"].startswith(error.removesuffix("*"))


class Split(ModelRegistry):
    """A champion with 90 % of the clients that knows columns, and a challenger with 10 % that does not."""

    def __init__(self, knowing: Artifact, published: Artifact) -> None:
        super().__init__(NO_STORE)
        seals = {"v2.0.0": "a" * 64, "v1.2.0": "b" * 64}
        first = Deployment(generation=1, **promote(None, "v2.0.0")._asdict(), sha256=seals)
        plan = split_traffic(first, {"v2.0.0": 90, "v1.2.0": 10})
        deployment = Deployment(generation=2, **plan._asdict(), sha256=seals)
        plain = published.manifest.model_copy(update={"version": "v1.2.0"})
        predictor = Predictor(ThousandDollarsASquareFoot(), calibration())
        models = {
            "v2.0.0": ServedModel.of("a" * 64, knowing.manifest, load(knowing)),
            "v1.2.0": ServedModel.of("b" * 64, plain, predictor),
        }
        self._serving = LoadedDeployment(deployment, models)


def test_a_split_gives_a_client_the_version_of_its_arm_whatever_columns_it_knows(
    knowing: Artifact, published: Artifact
) -> None:
    client = create_app(DEFAULTS, resources(Split(knowing, published)), lambda: NOW).test_client()
    inputs = [*columns(), tensor("zip_code", "98103", datatype="BYTES")]

    for number in range(100):
        name = f"client {number}"
        response = client.post(INFER, data=body_of(inputs), headers={"X-Client-Id": name})
        answer = response.get_json()
        by_batch = client.post("/predict", json=HOUSE, headers={"X-Client-Id": name}).get_json()
        expected = "v2.0.0" if bucket_of(name.encode(), 2) < 90 else "v1.2.0"
        assert answer["model_version"] == by_batch["model_version"] == expected
    for version in ("v2.0.0", "v1.2.0", "champion"):
        answer = infer(client, inputs, f"/v2/models/appraiser/versions/{version}/infer")
        assert answer["model_version"] == version.replace("champion", "v2.0.0")


def test_every_row_is_in_the_journal_and_can_be_priced_again(knowing: Artifact, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "here", 0, 1 << 20, 400)
    journal.start()
    model = ServedModel.of("1" * 64, knowing.manifest, load(knowing))
    parts = resources(Always(model), journal)
    client = create_app(DEFAULTS, parts, lambda: NOW).test_client()
    asked = {"outputs": [{"name": "prediction_id"}, {"name": "price"}], "parameters": {"confidence": 0.8}}
    body, headers = binary([*columns(*HOUSES), FURTHER[0] | {"data": [47.5, float("nan"), 47.1]}], **asked)

    found = outputs_of(client.post(INFER, data=body, headers=headers | {"X-Request-ID": "a-name"}))
    refused = client.post(INFER, data=body_of(columns(HOUSE, HOUSE | {"bedrooms": -1})))
    journal.stop()

    assert refused.status_code == 400
    records = list(read(tmp_path / "journal"))
    assert [record.prediction_id for record in records] == found["prediction_id"]
    assert [record.house for record in records] == [{name: float(value) for name, value in h.items()} for h in HOUSES]
    assert [record.columns for record in records] == [{"latitude": 47.5}, {}, {"latitude": 47.1}]
    assert {(record.request_id, record.confidence_level) for record in records} == {("a-name", 0.8)}
    assert [round(record.predicted_price, 2) for record in records] == found["price"]
    for record in records:
        assert replayed(record, model.predictor, knowing.manifest.columns).differences == []


class Counted(WorkerMetrics):
    """Metrics that remember what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[object] = []

    def batch(self, rows: int) -> None:
        self.given.append(("batch", rows))

    def journaled(self, rows: int, *, kept: bool) -> None:
        self.given.append(("journaled", rows, kept))

    def out_of_range(self, counts: Mapping[str, int]) -> None:
        self.given.append(("out of range", dict(counts)))


def test_a_request_is_counted_as_a_batch_is(published: Artifact) -> None:
    metrics = Counted()
    model = ServedModel.of("1" * 64, published.manifest, load(published))
    client = create_app(DEFAULTS, resources(Always(model), metrics=metrics), lambda: NOW).test_client()

    infer(client, columns(*HOUSES))
    by_inference = metrics.given.copy()
    metrics.given.clear()
    client.post("/predict/batch", json={"houses": HOUSES})

    assert by_inference == metrics.given
    assert ("batch", 3) in metrics.given


def test_a_large_request_takes_breaks_and_has_the_same_answer(published: Artifact) -> None:
    model = ServedModel.of("1" * 64, published.manifest, load(published))
    app = create_app(DEFAULTS, resources(Always(model)), lambda: NOW)
    body, headers = binary(columns(*HOUSES * 1_000), parameters={"binary_data_output": True})
    builder = EnvironBuilder(INFER, method="POST", data=body, headers=list(headers.items()))
    started: list[str] = []

    def start(status: str, _headers: object, _info: object = None, /) -> Any:  # noqa: ANN401 -- PEP 3333
        started.append(status)

    chunks = list(app(builder.get_environ() | {TAKES_STEPS: True}, start))

    assert started == ["200 OK"]
    assert chunks.count(b"") >= 6  # 3,000 houses in steps of 500
    assert b"".join(chunks) == app.test_client().post(INFER, data=body, headers=headers).data


def test_a_failure_is_answered_500_without_what_happened_inside(published: Artifact) -> None:
    class Fails(ThousandDollarsASquareFoot):
        def run(self, houses: Matrix) -> tuple[Column, Column]:
            raise RuntimeError(str(houses))

    response = fake_app(published.manifest, Fails()).test_client().post(INFER, data=body_of(columns()))

    assert response.status_code == 500
    assert json.loads(response.data) == {"error": "The service failed to answer; the failure has been logged."}
