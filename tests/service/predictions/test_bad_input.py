"""Every body of the table, by every path it can take, is answered exactly as the table says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
from flask.testing import FlaskClient
from pydantic import BaseModel

from pricing.artifacts.store import Artifact, Store
from service.app import create_app
from service.contract import Prediction, Predictions, Problem, ValidationProblems
from service.deployment.loaded_models import ModelRegistry
from tests.bodies import BATCHES, CASES, GOOD, ILL, JSON, MARKER, MAX_BYTES, Case, house
from tests.fake_service import DEFAULTS, fake_app, resources
from tests.gunicorn_process import OUR_WORKER, ROOT, gunicorn

MAX_ANSWER_BYTES = 8 * 1024
ANSWERS: Final[dict[int, type[BaseModel]]] = {200: Prediction, 413: Problem, 415: Problem, 422: ValidationProblems}
WITHOUT_MIDDLEWARE = DEFAULTS.model_copy(update={"prediction_middleware": False})


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Clients(NamedTuple):
    middleware: FlaskClient
    view: FlaskClient


@pytest.fixture(scope="module")
def clients(published: Artifact) -> Clients:
    fast, plain = fake_app(published.manifest), fake_app(published.manifest, settings=WITHOUT_MIDDLEWARE)
    return Clients(fast.test_client(), plain.test_client())


def send(client: FlaskClient, case: Case) -> Answer:
    response = client.post(case.path, data=case.body, content_type=case.content_type)
    return Answer(response.status_code, dict(response.headers), response.data)


def assert_is_the_answer(answer: Answer, case: Case) -> None:
    assert (answer.status, blamed(answer)) == (case.status, list(case.blamed))
    assert answer.headers["Content-Type"] == JSON
    assert MARKER.encode() not in answer.body
    model = Predictions if case in BATCHES and case.status == 200 else ANSWERS[case.status]
    model.model_validate_json(answer.body)  # these models forbid further keys
    assert case.status == 200 or len(answer.body) <= MAX_ANSWER_BYTES


def blamed(answer: Answer) -> list[tuple[str | int, ...]]:
    detail: Any = json.loads(answer.body).get("detail")
    return [tuple(problem["loc"]) for problem in detail] if isinstance(detail, list) else []


@pytest.mark.parametrize("path", Clients._fields)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_body_is_answered_as_the_table_says(clients: Clients, path: str, case: Case) -> None:
    assert_is_the_answer(send(getattr(clients, path), case), case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_view_answers_with_the_bytes_of_the_middleware(clients: Clients, case: Case) -> None:
    for client in (clients.view, clients.middleware):
        send(client, case)  # whatever other tests have sent, now both have it in their caches
    view, middleware = send(clients.view, case), send(clients.middleware, case)

    assert view.headers.pop("X-Request-ID") != middleware.headers.pop("X-Request-ID")
    assert (view.status, view.headers) == (middleware.status, middleware.headers)
    assert without_what_is_its_own(view) == without_what_is_its_own(middleware)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_finite_is_said_to_be_so(clients: Clients, text: str) -> None:
    answer = send(clients.middleware, Case(text, house("bathrooms", text), 422))

    problem = {"type": "finite_number", "loc": ["body", "bathrooms"], "msg": "Input should be a finite number"}
    assert json.loads(answer.body) == {"detail": [problem]}


def test_the_table_is_as_long_as_it_should_be() -> None:
    bad = [case for case in (*ILL, *BATCHES) if case.status != 200]

    assert len(bad) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.fixture(scope="module", params=["own", "gthread"])
def either_server(artifacts: Path, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """With our worker and with gthread, one of each, so that every case meets what the case before left behind."""
    environment = {"APPRAISER_ARTIFACTS": str(artifacts), "APPRAISER_WORKER": request.param}
    with gunicorn(None, cwd=ROOT, workers=1, env=environment) as process, httpx.Client(base_url=process.url) as client:
        assert f"Using worker: {OUR_WORKER if request.param == 'own' else request.param}" in process.log
        yield client


def post(server: httpx.Client, case: Case) -> Answer:
    headers = {} if case.content_type is None else {"Content-Type": case.content_type}
    if case.status == 413:
        headers["Connection"] = "close"  # gthread closes behind a body that was not read, and does not say so
    response = server.post(case.path, content=case.body, headers=headers)
    return Answer(response.status_code, {"Content-Type": response.headers["Content-Type"]}, response.content)


def test_chunks_are_read_to_their_end_and_no_further_than_allowed(either_server: httpx.Client) -> None:
    for body, status in ((GOOD, 200), (GOOD.ljust(MAX_BYTES), 200), (GOOD.ljust(MAX_BYTES + 1), 413), (b"", 422)):
        chunks = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
        response = either_server.post("/predict", content=chunks, headers={"Connection": "close"})
        assert response.request.headers["Transfer-Encoding"] == "chunked"
        assert response.status_code == status


def without_what_is_its_own(answer: Answer) -> bytes:
    """Two answers to the same house differ in their time and their id."""
    return re.sub(rb'"(predicted_at|prediction_id)":"[^"]+"', rb'"\1":""', answer.body)


def test_the_whole_table_over_a_real_gunicorn(either_server: httpx.Client, artifacts: Path) -> None:
    models = ModelRegistry(Store(artifacts))
    models.load()
    in_process = create_app(DEFAULTS, resources(models)).test_client()

    for case in CASES:
        answer = post(either_server, case)
        assert_is_the_answer(answer, case)
        if case.status != 413:  # the worker refuses those itself, before the application would
            assert without_what_is_its_own(answer) == without_what_is_its_own(send(in_process, case)), case.name
