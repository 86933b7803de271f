"""The OpenAPI document says what the service does: every answer is held against it and against the models behind it."""

import json
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel
from werkzeug.test import TestResponse

from pricing.artifacts.store import Artifact, Store
from pricing.house import BOUNDS, FEATURES, UNITS
from service.app import Application, create_app
from service.contract import (
    Health,
    Houses,
    Live,
    ModelInfo,
    ModelList,
    OneHouse,
    Options,
    Prediction,
    Predictions,
    ValidationProblems,
)
from service.deployment.loaded_models import ModelRegistry
from service.observability.observer import name_of
from tests.bodies import BODY, CASES, Case
from tests.fake_service import DEFAULTS, HOUSE, TRAINED, Broken, fake_app, resources

DOCUMENTATION: Final = {
    "/",
    "/v2/",  # as /v2
    "/static/<path:filename>",
    "/docs",
    "/docs/",
    "/openapi.json",
    "/docs/static/<path:filename>",
    "/docs/swagger/<path:filename>",
}
READ: Final[dict[str, type[BaseModel]]] = {
    "/health": Health,
    "/health/ready": Health,
    "/health/live": Live,
    "/models": ModelList,
    "/model/info": ModelInfo,
}
BODIES: Final[dict[str, type[BaseModel]]] = {"/predict": OneHouse, "/predict/batch": Houses}
ANSWERS: Final[dict[str, type[BaseModel]]] = {**READ, "/predict": Prediction, "/predict/batch": Predictions}
GOOD: Final[dict[str, object]] = {"/predict": HOUSE, "/predict/batch": {"houses": [HOUSE]}}
OF_EVERY_REQUEST: Final = {("X-Request-ID", "header", False), ("traceparent", "header", False)}
REFUSALS: Final[dict[str, type[BaseModel]]] = dict.fromkeys(
    [*BODIES, "/model/info", "/model/report"], ValidationProblems
)


@pytest.fixture(scope="module")
def app(published: Artifact) -> Application:
    return fake_app(published.manifest)


@pytest.fixture(scope="module")
def client(app: Application) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def document(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


def validator(document: dict[str, Any], schema: dict[str, Any]) -> OAS31Validator:
    return OAS31Validator(schema | {"components": document["components"]})


def assert_is_documented(document: dict[str, Any], response: TestResponse) -> None:
    operation = document["paths"][response.request.path][response.request.method.lower()]
    assert str(response.status_code) in operation["responses"]
    media = operation["responses"][str(response.status_code)]["content"]
    assert response.content_type in media
    validator(document, media[response.content_type]["schema"]).validate(response.get_json())


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def test_it_is_an_openapi_3_1_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_route_is_in_it_and_nothing_else(app: Application, document: dict[str, Any]) -> None:
    routes = {
        (name_of(rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
        if rule.rule not in DOCUMENTATION
    }

    assert {(path, method) for path, item in document["paths"].items() for method in item} == routes


def test_every_operation_has_a_name_of_its_own_and_a_summary(document: dict[str, Any]) -> None:
    found = [operation for _, operation in operations(document)]

    assert len({operation["operationId"] for operation in found}) == len(found)
    assert all(operation["summary"] for operation in found)


@pytest.mark.parametrize("path", READ)
def test_what_is_read_is_what_the_model_and_the_document_say(
    client: FlaskClient, document: dict[str, Any], path: str
) -> None:
    response = client.get(path)

    assert response.status_code == 200
    READ[path].model_validate_json(response.data)  # these models forbid further keys
    assert_is_documented(document, response)


def test_the_model_is_described_with_what_it_holds(client: FlaskClient) -> None:
    info = client.get("/model/info").get_json()

    assert (info["version"], info["generation"], info["family"]) == ("v1.2.3", 7, "gradient-boosting")
    ranges = {feature["name"]: (feature["trained_from"], feature["trained_to"]) for feature in info["features"]}
    assert ranges == TRAINED
    assert [feature["unit"] for feature in info["features"]] == list(UNITS.values())


def test_the_levels_that_are_listed_can_be_asked_for(published: Artifact, artifacts_client: FlaskClient) -> None:
    levels = artifacts_client.get("/model/info").get_json()["confidence_levels"]

    assert tuple(levels) == published.manifest.calibration.levels
    held = [artifacts_client.post(f"/predict?confidence={level}", json=HOUSE).get_json() for level in levels]
    assert [answer["confidence_level"] for answer in held] == levels


@pytest.fixture
def artifacts_client(store: Store) -> FlaskClient:
    models = ModelRegistry(store)
    models.load()
    return create_app(DEFAULTS, resources(models)).test_client()


def test_every_answer_of_the_table_of_bodies_is_documented(client: FlaskClient, document: dict[str, Any]) -> None:
    seen = set()
    for case in CASES:
        response = client.post(case.path, data=case.body, content_type=case.content_type)
        assert_is_documented(document, response)
        seen.add(response.status_code)

    assert seen == {200, 413, 415, 422}


def test_every_answer_without_a_model_is_documented(document: dict[str, Any], store: Store) -> None:
    client = create_app(DEFAULTS, resources(ModelRegistry(store))).test_client()

    for response in [*(client.get(path) for path in READ), *(client.post(path, json=HOUSE) for path in BODIES)]:
        assert_is_documented(document, response)


def test_every_failure_is_documented(document: dict[str, Any]) -> None:
    client = create_app(DEFAULTS, resources(Broken())).test_client()
    responses = [client.get(path) for path in READ if path != "/health/live"]
    responses += [client.post("/predict", json=HOUSE), client.post("/predict/batch", json={"houses": [HOUSE]})]

    for response in responses:
        assert response.status_code == 500
        assert_is_documented(document, response)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.status in {200, 422} and case.blamed != BODY and len(case.body) < 3_000],
    ids=lambda case: case.name,
)
def test_the_schema_of_the_request_accepts_what_the_service_accepts(document: dict[str, Any], case: Case) -> None:
    (media,) = document["paths"][case.path]["post"]["requestBody"]["content"].values()
    body = json.loads(case.body, parse_constant=lambda _: None)  # NaN is no JSON

    assert validator(document, media["schema"]).is_valid(body) == (case.status == 200)


def test_every_example_keeps_to_its_schema_and_its_model(document: dict[str, Any]) -> None:
    models = {"200": ANSWERS, "422": REFUSALS}
    checked = 0
    for path, operation in operations(document):
        for example in request_examples(operation):
            if path in BODIES:
                BODIES[path].model_validate(example)
            else:  # of the Open Inference Protocol, whose schemas are not made of models
                (media,) = operation["requestBody"]["content"].values()
                validator(document, media["schema"]).validate(example)
            checked += 1
        for status, response in operation["responses"].items():
            for media in response["content"].values():
                if "example" in media:
                    models[status][path].model_validate_json(json.dumps(media["example"]))
                    validator(document, media["schema"]).validate(media["example"])
                    checked += 1

    assert checked >= 6  # a body, an answer and a refusal for each of the two predictions


def request_examples(operation: dict[str, Any]) -> list[Any]:
    media = operation.get("requestBody", {"content": {}})["content"]
    return [example["value"] for content in media.values() for example in content["examples"].values()]


def test_the_examples_of_requests_are_answered_200(client: FlaskClient, document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        for example in request_examples(operation):
            response = client.post(path.format(name="appraiser", version="v1.2.3"), json=example)
            assert response.status_code == 200
            media = operation["responses"]["200"]["content"]["application/json"]
            validator(document, media["schema"]).validate(response.get_json())


def test_the_examples_of_the_schemas_keep_to_them(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        for part in (schema, *schema.get("properties", {}).values()):
            for example in part.get("examples", []):
                validator(document, part).validate(example)


def test_the_fields_have_the_bounds_and_units_of_the_house(document: dict[str, Any]) -> None:
    for name in ("OneHouse", "HouseOfBatch"):
        schema = document["components"]["schemas"][name]
        fields = {name: field for name, field in schema["properties"].items() if name not in Options.model_fields}
        found = {
            name: (field.get("exclusiveMinimum"), field.get("minimum"), field.get("maximum"), "multipleOf" in field)
            for name, field in fields.items()
        }

        assert found == {name: tuple(bounds) for name, bounds in BOUNDS.items()}
        assert schema["required"] == list(FEATURES)
        assert {name: field["x-unit"] for name, field in fields.items()} == UNITS
        assert all(UNITS[name] in field["description"] for name, field in fields.items())


def test_version_level_and_client_are_documented_on_both_predictions(document: dict[str, Any]) -> None:
    for path in BODIES:
        parameters = {found["name"]: found for found in document["paths"][path]["post"]["parameters"]}
        assert {(name, found["in"], found["required"]) for name, found in parameters.items()} == {
            ("model_version", "query", False),
            ("confidence", "query", False),
            ("explain", "query", False),
            *([("comparables", "query", False)] if path == "/predict" else []),
            ("X-Client-Id", "header", False),
            *OF_EVERY_REQUEST,
        }
        schema = parameters["confidence"]["schema"]
        assert (schema["minimum"], schema["maximum"], schema["default"]) == (0.5, 0.99, 0.9)
        assert parameters["explain"]["schema"] == {"type": "boolean", "title": "Explain", "default": False}
        if path == "/predict":
            count = parameters["comparables"]["schema"]
            assert count == {"type": "integer", "title": "Comparables", "minimum": 1, "maximum": 20}
        version = parameters["model_version"]["schema"]
        assert (version["type"], "default" in version) == ("string", False)  # no query can say null


def test_the_header_of_the_cache_is_documented_where_it_is_sent(document: dict[str, Any], client: FlaskClient) -> None:
    sent = {path: "X-Cache" in client.post(path, json=body).headers for path, body in GOOD.items()}
    responses = {path: document["paths"][path]["post"]["responses"]["200"] for path in GOOD}
    documented = {path: "X-Cache" in response["headers"] for path, response in responses.items()}

    assert sent == documented == {"/predict": True, "/predict/batch": False}


def test_every_request_may_be_named_and_every_answer_is(document: dict[str, Any], client: FlaskClient) -> None:
    for path, operation in operations(document):
        found = {(parameter["name"], parameter["in"], parameter["required"]) for parameter in operation["parameters"]}
        assert found >= OF_EVERY_REQUEST
        assert all("X-Request-ID" in response["headers"] for response in operation["responses"].values())
        assert client.get(path, headers={"X-Request-ID": "mine"}).headers["X-Request-ID"] == "mine"
    assert document["components"]["headers"]["X-Request-ID"]["required"]


def test_what_is_answered_before_there_is_a_request_is_documented(document: dict[str, Any]) -> None:
    problem = {"$ref": "#/components/schemas/Problem"}
    for path, operation in operations(document):
        for status in ("400", "414", "431", "501"):
            (media,) = operation["responses"][status]["content"].values()
            if path.startswith("/v2") and status == "400":  # of its own, too, in its own form
                assert problem in media["schema"]["anyOf"]
            else:
                assert media["schema"] == problem


def test_every_link_leads_from_a_real_answer_to_one(document: dict[str, Any], client: FlaskClient) -> None:
    by_id = {operation["operationId"]: path for path, operation in operations(document)}
    followed = set()
    for path, operation in operations(document):
        for link in operation["responses"]["200"].get("links", {}).values():
            asked = {name: at(pointer, ask(client, path).get_json()) for name, pointer in link["parameters"].items()}
            assert asked == {"model_version": "v1.2.3"}
            assert ask(client, by_id[link["operationId"]], asked).status_code == 200
            followed.add((operation["operationId"], link["operationId"]))

    assert followed == {
        ("predict", "model_info"),
        ("predict_batch", "model_info"),
        ("models", "model_info"),
        ("models", "predict"),
        ("models", "predict_batch"),
    }


def ask(client: FlaskClient, path: str, query: dict[str, str] | None = None) -> TestResponse:
    if path in GOOD:
        return client.post(path, json=GOOD[path], query_string=query)
    return client.get(path, query_string=query)


def at(expression: str, answer: Any) -> Any:  # noqa: ANN401 -- JSON
    """What a runtime expression of OpenAPI says of an answer's body."""
    for part in expression.removeprefix("$response.body#/").split("/"):
        answer = answer[int(part) if isinstance(answer, list) else part]
    return answer


@pytest.mark.parametrize("rows", [1, 17, 10_000])
def test_the_limit_of_a_batch_is_the_one_of_the_settings(published: Artifact, rows: int) -> None:
    client = fake_app(published.manifest, settings=DEFAULTS.model_copy(update={"max_batch_rows": rows})).test_client()
    houses = client.get("/openapi.json").get_json()["components"]["schemas"]["Houses"]["properties"]["houses"]

    assert (houses["minItems"], houses["maxItems"]) == (1, rows)
    assert f"1 to {rows:,} houses" in houses["description"]
    assert client.post("/predict/batch", json={"houses": [HOUSE] * rows}).status_code == 200
    assert client.post("/predict/batch", json={"houses": [HOUSE] * (rows + 1)}).status_code == 422
