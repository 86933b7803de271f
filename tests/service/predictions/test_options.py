"""What is asked of a prediction, a level or a version, may stand in the query or in the body: with the same answer."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from pricing.artifacts.store import Artifact
from pricing.house import FEATURES
from service.app import create_app
from tests.fake_service import DEFAULTS, HOUSE, NOW, Always, fake_app, fake_model, resources
from tests.fakes import KeptInMemory, SameIds, ThousandDollarsASquareFoot

BODIES: dict[str, dict[str, Any]] = {"/predict": dict(HOUSE), "/predict/batch": {"houses": [HOUSE, HOUSE]}}


@pytest.fixture(scope="module", params=[True, False], ids=["middleware", "view"])
def client(published: Artifact, request: pytest.FixtureRequest) -> FlaskClient:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": request.param})
    return fake_app(published.manifest, settings=settings, ids=SameIds()).test_client()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("confidence=0.5", {"confidence": 0.5}),
        ("confidence=0.905", {"confidence": 0.905}),
        ("model_version=champion", {"model_version": "champion"}),
        ("model_version=v1.2.3&confidence=0.99", {"confidence": 0.99, "model_version": "v1.2.3"}),
        ("model_version=v9.9.9", {"model_version": "v9.9.9"}),
        ("", {"confidence": None, "model_version": None}),
    ],
)
def test_the_answer_is_that_of_the_query_to_the_byte(
    client: FlaskClient, path: str, query: str, asked: dict[str, object]
) -> None:
    by_query = client.post(f"{path}?{query}", json=BODIES[path])
    by_body = client.post(path, json=BODIES[path] | asked)
    by_both = client.post(f"{path}?{query}", json=BODIES[path] | asked)

    assert by_query.status_code == (404 if "v9" in query else 200)
    assert (by_body.status_code, by_body.data) == (by_query.status_code, by_query.data)
    assert (by_both.status_code, by_both.data) == (by_query.status_code, by_query.data)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("query", "asked", "loc"),
    [
        ("", {"confidence": "0.5"}, ["body", "confidence"]),
        ("", {"confidence": 0.4}, ["body", "confidence"]),
        ("", {"confidence": True}, ["body", "confidence"]),
        ("", {"confidence": [0.5]}, ["body", "confidence"]),
        ("", {"model_version": 1}, ["body", "model_version"]),
        ("", {"model_version": ""}, ["body", "model_version"]),
        ("", {"model_version": "PLANTED"}, ["body", "model_version"]),
        ("confidence=0.9", {"confidence": 0.5}, ["query", "confidence"]),
        ("model_version=v1.2.3", {"model_version": "champion"}, ["query", "model_version"]),
        ("confidence=high", {"confidence": 0.5}, ["query", "confidence"]),
    ],
)
def test_what_is_wrong_or_contradicts_the_query_is_refused(
    client: FlaskClient, path: str, query: str, asked: dict[str, object], loc: list[str]
) -> None:
    response = client.post(f"{path}?{query}", json=BODIES[path] | asked)

    assert response.status_code == 422
    assert [problem["loc"] for problem in response.get_json()["detail"]] == [loc]
    assert b"PLANTED" not in response.data


@pytest.mark.parametrize("asked", [{"confidence": 0.5}, {"model_version": "champion"}])
def test_a_house_of_a_batch_has_no_level_of_its_own(client: FlaskClient, asked: dict[str, object]) -> None:
    response = client.post("/predict/batch", json={"houses": [HOUSE, HOUSE | asked]})

    assert response.status_code == 422
    (problem,) = response.get_json()["detail"]
    assert problem == {
        "type": "misplaced",
        "loc": ["body", "houses", 1, *asked],
        "msg": "This applies to the whole batch: send it in the query, or in the body beside houses.",
    }


@pytest.mark.parametrize("path", BODIES)
def test_the_journal_and_the_cache_know_a_house_by_its_fields_alone(published: Artifact, path: str) -> None:
    journal = KeptInMemory()
    models = Always(fake_model(published.manifest, ThousandDollarsASquareFoot()))
    client = create_app(DEFAULTS, resources(models, journal), lambda: NOW).test_client()
    asked = {"confidence": 0.9, "model_version": "champion"}
    plain = client.post(path, json=BODIES[path])
    answers = [client.post(path, json=BODIES[path] | asked), client.post(f"{path}?confidence=0.9", json=BODIES[path])]

    assert [answer.headers.get("X-Cache") for answer in (plain, *answers)] == (
        ["miss", "hit", "hit"] if path == "/predict" else [None] * 3
    )
    assert {tuple(entry[1]) for _, entry in journal.records} == {FEATURES}
