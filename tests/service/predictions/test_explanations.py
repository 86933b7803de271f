"""Why a price: an answer that was asked to explain itself, beside the one that was not."""

from typing import Any, Final

import pytest
from flask.testing import FlaskClient

from pricing.artifacts.groups import groups_of
from pricing.artifacts.store import Artifact
from pricing.house import FEATURES
from pricing.inference.predictor import load
from service.app import create_app
from service.contract import MAX_EXPLAINED, Prediction, Predictions
from service.deployment.loaded_models import ServedModel
from tests.fake_service import DEFAULTS, HOUSE, NOW, Always, resources
from tests.fakes import KeptInMemory, SameIds

EXPLAIN: Final = "explain=true"
OTHER: Final = HOUSE | {"square_feet": 1_234, "age_years": 77}
COLUMNS: Final = HOUSE | {"latitude": 47.31, "zip_code": "98103"}
SINGLE, BATCH = "/predict", "/predict/batch"
BODIES: Final[dict[str, dict[str, Any]]] = {SINGLE: dict(HOUSE), BATCH: {"houses": [HOUSE, OTHER]}}


def served(artifact: Artifact) -> ServedModel:
    return ServedModel.of("1" * 64, artifact.manifest, load(artifact))


def client_of(artifact: Artifact, journal: KeptInMemory | None = None, **settings: object) -> FlaskClient:
    made = resources(Always(served(artifact)), journal)
    return create_app(DEFAULTS.model_copy(update=settings), made, lambda: NOW, SameIds()).test_client()


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(published: Artifact, request: pytest.FixtureRequest) -> FlaskClient:
    return client_of(published, prediction_middleware=request.param)


@pytest.fixture(scope="module")
def knows(knowing: Artifact) -> FlaskClient:
    return client_of(knowing)


def explained(client: FlaskClient, house: dict[str, Any], query: str = EXPLAIN) -> dict[str, Any]:
    response = client.post(f"{SINGLE}?{query}", json=house)
    assert response.status_code == 200
    Prediction.model_validate_json(response.data)
    answer: dict[str, Any] = response.get_json()
    return answer


def cents(dollars: float) -> int:
    found = round(dollars * 100)
    assert dollars == found / 100  # it is rounded to cents, and no -0.0
    return found


def check_sums(answer: dict[str, Any]) -> None:
    found, interval = answer["explanation"], answer["confidence_interval"]
    price, width = (
        cents(found[f"base_{name}"]) + sum(cents(part[name]) for part in found["contributions"])
        for name in ("price", "width")
    )
    assert price == cents(answer["predicted_price"])
    assert width == cents(interval["upper"]) - cents(interval["lower"])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_it_adds_up_to_the_answer_to_the_cent(client: FlaskClient, knows: FlaskClient, level: float) -> None:
    query = f"{EXPLAIN}&confidence={level}"
    for number in range(40):
        house = HOUSE | {"square_feet": 700 + 97 * number, "age_years": number * 2.7}
        check_sums(explained(client, house, query))
        check_sums(explained(knows, COLUMNS | house, query))
        check_sums(explained(knows, house, query))  # with nothing known beyond the fields


def test_the_fields_of_a_version_are_its_groups(client: FlaskClient, knows: FlaskClient, knowing: Artifact) -> None:
    five, more = (explained(found, HOUSE)["explanation"]["contributions"] for found in (client, knows))

    assert [(part["group"], part["fields"]) for part in five] == [(name, [name]) for name in FEATURES]
    groups = groups_of(knowing.manifest.columns)
    assert [(part["group"], part["fields"]) for part in more] == [(group.name, list(group.fields)) for group in groups]


def test_the_base_is_that_of_the_version(client: FlaskClient) -> None:
    first, other = explained(client, HOUSE)["explanation"], explained(client, OTHER)["explanation"]
    assert (first["base_price"], first["base_width"]) == (other["base_price"], other["base_width"])

    wider = explained(client, HOUSE, f"{EXPLAIN}&confidence=0.99")["explanation"]
    assert first["base_price"] == wider["base_price"]
    assert first["base_width"] < wider["base_width"]


@pytest.mark.parametrize("path", BODIES)
def test_all_else_of_the_answer_is_as_without_it_to_the_byte(client: FlaskClient, path: str) -> None:
    plain, more = (client.post(f"{path}{query}", json=BODIES[path]) for query in ("", f"?{EXPLAIN}"))

    answers = [more.get_json()] if path == SINGLE else more.get_json()["predictions"]
    assert all(list(answer)[-1] == "explanation" for answer in answers)
    begin = more.data.index(b',"explanation"')
    assert plain.data.startswith(more.data[:begin])
    assert b"explanation" not in plain.data


def test_houses_of_a_batch_are_explained_as_alone(client: FlaskClient, knows: FlaskClient) -> None:
    houses: list[dict[str, Any]] = [HOUSE, COLUMNS, OTHER, COLUMNS | {"heating": "oil", "zip_code": None}]
    for found in (client, knows):
        response = found.post(f"{BATCH}?{EXPLAIN}", json={"houses": houses})
        Predictions.model_validate_json(response.data)

        alone = [explained(found, house)["explanation"] for house in houses]
        assert [answer["explanation"] for answer in response.get_json()["predictions"]] == alone


def test_a_batch_is_explained_up_to_a_limit(client: FlaskClient) -> None:
    most = [HOUSE] * MAX_EXPLAINED
    for query, beside in ((EXPLAIN, {}), ("", {"explain": True})):
        assert client.post(f"{BATCH}?{query}", json={"houses": most} | beside).status_code == 200

        response = client.post(f"{BATCH}?{query}", json={"houses": [*most, HOUSE]} | beside)

        assert response.status_code == 422
        message = "List should have at most 20 items if prices are explained, not 21"
        assert response.get_json() == {"detail": [{"type": "too_long", "loc": ["body", "houses"], "msg": message}]}
    assert client.post(BATCH, json={"houses": [*most, HOUSE], "explain": False}).status_code == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("explain=true", {"explain": True}),
        ("explain=True", {"explain": True}),
        ("explain=true&explain=true&confidence=0.5", {"explain": True, "confidence": 0.5}),
        ("explain=false", {"explain": False}),
        ("", {"explain": None}),
    ],
)
def test_it_is_asked_for_in_the_query_or_in_the_body(
    client: FlaskClient, path: str, query: str, asked: dict[str, Any]
) -> None:
    by_query = client.post(f"{path}?{query}", json=BODIES[path])
    by_body = client.post(path, json=BODIES[path] | asked)
    by_both = client.post(f"{path}?{query}", json=BODIES[path] | asked)

    assert by_query.status_code == 200
    assert (b"explanation" in by_query.data) == bool(asked["explain"])
    assert by_query.data == by_body.data == by_both.data


WRONG: Final[tuple[object, ...]] = ("true", 1, 0, [], {}, "PLANTED")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("query", "asked", "loc"),
    [
        *((f"explain={text}", {}, ["query", "explain"]) for text in ("", "1", "0", "yes", "on", "PLANTED", "null")),
        ("explain=true&explain=false", {}, ["query", "explain"]),
        *(("", {"explain": value}, ["body", "explain"]) for value in WRONG),
        ("explain=true", {"explain": False}, ["query", "explain"]),
        ("explain=false", {"explain": True}, ["query", "explain"]),
        ("explanation=true", {}, ["query"]),
    ],
)
def test_what_is_wrong_or_contradicts_the_query_is_refused(
    client: FlaskClient, path: str, query: str, asked: dict[str, Any], loc: list[str]
) -> None:
    response = client.post(f"{path}?{query}", json=BODIES[path] | asked)

    assert response.status_code == 422
    assert [problem["loc"] for problem in response.get_json()["detail"]] == [loc]
    assert b"PLANTED" not in response.data


def test_a_house_of_a_batch_is_not_explained_alone(client: FlaskClient) -> None:
    response = client.post(BATCH, json={"houses": [HOUSE, HOUSE | {"explain": True}]})

    assert response.status_code == 422
    (problem,) = response.get_json()["detail"]
    assert (problem["type"], problem["loc"]) == ("misplaced", ["body", "houses", 1, "explain"])


@pytest.mark.parametrize("path", BODIES)
def test_a_version_without_a_background_says_so_and_prices_as_ever(published: Artifact, path: str) -> None:
    before = published._replace(manifest=published.manifest.model_copy(update={"background": ()}))
    journal = KeptInMemory()
    client = client_of(before, journal)

    response = client.post(f"{path}?{EXPLAIN}", json=BODIES[path])

    message = "This version cannot explain its prices: an earlier release made it. Train another version."
    assert (response.status_code, response.get_json()) == (404, {"detail": message})
    assert journal.records == []  # nothing was answered
    assert client.post(path, json=BODIES[path]).data == client_of(published).post(path, json=BODIES[path]).data


@pytest.mark.parametrize("path", BODIES)
def test_the_journal_has_the_prediction_and_no_explanation(published: Artifact, path: str) -> None:
    plain, explaining = KeptInMemory(), KeptInMemory()
    client_of(published, plain).post(path, json=BODIES[path])
    client_of(published, explaining).post(path, json=BODIES[path] | {"explain": True})

    assert len(plain.records) == len(answers_of(path))
    assert [entry for _, entry in explaining.records] == [entry for _, entry in plain.records]


def answers_of(path: str) -> list[dict[str, Any]]:
    houses: list[dict[str, Any]] = BODIES[path].get("houses", [HOUSE])
    return houses


def test_the_header_of_the_cache_is_about_the_price(published: Artifact) -> None:
    client = client_of(published, cache_size=10)

    found = [client.post(f"{SINGLE}?{query}", json=HOUSE) for query in ("", EXPLAIN, EXPLAIN, "")]

    assert [response.headers["X-Cache"] for response in found] == ["miss", "hit", "hit", "hit"]
    assert found[1].data == found[2].data
    assert found[0].data == found[3].data


def test_model_info_does_not_grow_by_the_background(client: FlaskClient) -> None:
    assert "background" not in client.get("/model/info").get_json()
