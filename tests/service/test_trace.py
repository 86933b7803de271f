"""The id of a request: the client's if it is sane, and else a new one; and who asks, in a distributed trace."""

import re
from typing import Any, Final

import pytest

from pricing.artifacts.store import Artifact
from pricing.ids import Ids
from service.app import Application, create_app
from service.deployment.loaded_models import ModelRegistry
from service.trace import Parent, Trace, begin, of, parent_of
from tests.fake_service import DEFAULTS, HOUSE, NO_STORE, Broken, fake_app, resources

OURS: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
REQUEST_ID_PATTERN: Final = [
    "a",
    "0",
    "a" * 128,
    "0af7651916cd43dd8448eb211c80319c",
    "Root=1-67891233-abcdef012345678912345678",
    "a/b@c",
]
INSANE: Final = {
    "empty": "",
    "too long": "a" * 129,
    "space": "a b",
    "space at the end": "a ",
    "line": "a\r\nX-Other: b",
    "line at the end": "a\n",
    "escaped line": "a%0d%0ab",
    "backslash": "a\\nb",
    "double quote": 'a"b',
    "single quote": "a'b",
    "braces": "{a}",
    "angle": "<a>",
    "sent twice": "a, b",
    "sent twice, as gunicorn joins it": "a,b",
    "latin": "\xe9",
    "utf-8": "é".encode().decode("latin-1"),
    "digits of another script": "\u0661",
    "zero": "a\x00",
    "escape": "\x1b[31m",
}
T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("given", REQUEST_ID_PATTERN)
def test_a_sane_id_is_taken(given: str) -> None:
    environ: dict[str, Any] = {"HTTP_X_REQUEST_ID": given}

    trace = begin(environ, Ids())

    assert trace == Trace(given)
    assert of(environ) is trace


@pytest.mark.parametrize("given", INSANE.values(), ids=INSANE)
def test_another_id_is_replaced(given: str) -> None:
    assert OURS.fullmatch(begin({"HTTP_X_REQUEST_ID": given}, Ids()).request_id)


def test_each_request_without_an_id_gets_one_of_its_own() -> None:
    ids = Ids()

    assert len({begin({}, ids).request_id for _ in range(100)}) == 100


def test_without_an_observer_a_request_has_no_id() -> None:
    assert of({}) == Trace("")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(f"00-{T}-{S}-01", Parent(T, S), id="sampled"),
        pytest.param(f"00-{T}-{S}-00", Parent(T, S), id="not sampled"),
        pytest.param(f"00-{T}-{S}-ff", Parent(T, S), id="flags that nobody knows"),
        pytest.param(f"01-{T}-{S}-01", Parent(T, S), id="later version"),
        pytest.param(f"cc-{T}-{S}-01-what-the-future-brings", Parent(T, S), id="later version with more"),
        pytest.param(f"cc-{T}-{S}-01.what", None, id="later version with more and no dash"),
        pytest.param(f"ff-{T}-{S}-01", None, id="version ff"),
        pytest.param(f"00-{T}-{S}-01-more", None, id="version 00 with more"),
        pytest.param(f"00-{T}-{S}-01-", None, id="version 00 with a dash more"),
        pytest.param(f"00-{'0' * 32}-{S}-01", None, id="trace of zeros"),
        pytest.param(f"00-{T}-{'0' * 16}-01", None, id="span of zeros"),
        pytest.param(f"00-{T.upper()}-{S}-01", None, id="upper case trace"),
        pytest.param(f"00-{T}-{S.upper()}-01", None, id="upper case span"),
        pytest.param(f"0A-{T}-{S}-01", None, id="upper case version"),
        pytest.param(f"00-{T}-{S}-0A", None, id="upper case flags"),
        pytest.param(f"00-{T[1:]}-{S}-01", None, id="trace too short"),
        pytest.param(f"00-{T}0-{S}-01", None, id="trace too long"),
        pytest.param(f"00-{T}-{S[1:]}-01", None, id="span too short"),
        pytest.param(f"00-{T}-{S}-1", None, id="flags too short"),
        pytest.param(f"00-{T}-{S}", None, id="no flags"),
        pytest.param(f"0-{T}-{S}-01", None, id="version too short"),
        pytest.param(f"00_{T}_{S}_01", None, id="no dashes"),
        pytest.param(f"00-{'g' * 32}-{S}-01", None, id="no hexadecimal"),
        pytest.param(f" 00-{T}-{S}-01", None, id="space before"),
        pytest.param(f"00-{T}-{S}-01\n", None, id="line at the end"),
        pytest.param(f"00-{T}-{S}-01, 00-{T}-{S}-01", None, id="sent twice"),
        pytest.param("", None, id="empty"),
    ],
)
def test_traceparent_is_parsed_as_the_w3c_says(header: str, expected: Parent | None) -> None:
    assert parent_of(header) == expected
    assert begin({"HTTP_TRACEPARENT": header}, Ids()).parent == expected


def prediction(**changes: object) -> dict[str, Any]:
    return {"path": "/predict", "method": "POST", "json": HOUSE} | changes


ANSWERS: Final[dict[int, dict[str, Any]]] = {
    200: prediction(),
    404: prediction(path="/nothing"),
    405: prediction(method="DELETE"),
    413: prediction(json=HOUSE | {"more": "x" * 2_000}),
    415: prediction(content_type="text/csv"),
    422: prediction(json={}),
    500: prediction(),
    503: prediction(),
}


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "view"])
@pytest.mark.parametrize("status", ANSWERS)
def test_every_answer_has_the_id_once(published: Artifact, status: int, *, middleware: bool) -> None:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": middleware, "max_body_bytes": 1_024})
    apps: dict[int, Application] = {
        500: create_app(settings, resources(Broken())),
        503: create_app(settings, resources(ModelRegistry(NO_STORE))),
    }
    client = apps.get(status, fake_app(published.manifest, settings=settings)).test_client()

    taken = client.open(**ANSWERS[status], headers={"X-Request-ID": "mine"})
    made = client.open(**ANSWERS[status], headers={"X-Request-ID": "not mine"})

    assert [taken.status_code, made.status_code] == [status, status]
    assert taken.headers.getlist("X-Request-ID") == ["mine"]
    (request_id,) = made.headers.getlist("X-Request-ID")
    assert OURS.fullmatch(request_id)


def test_the_only_prediction_of_a_request_has_the_id_that_was_made_for_it(published: Artifact) -> None:
    request_id, names = ids_of(published, prediction())

    assert names == [request_id]


def test_no_client_chooses_the_id_of_its_prediction(published: Artifact) -> None:
    chosen = Ids().one()

    request_id, (name,) = ids_of(published, prediction(headers={"X-Request-ID": chosen}))

    assert request_id == chosen
    assert OURS.fullmatch(name)
    assert name != chosen


def test_predictions_of_a_batch_have_ids_of_their_own(published: Artifact) -> None:
    request_id, names = ids_of(published, prediction(path="/predict/batch", json={"houses": [HOUSE, HOUSE]}))

    assert len({request_id, *names}) == 3


def ids_of(published: Artifact, request: dict[str, Any]) -> tuple[str, list[str]]:
    answer = fake_app(published.manifest, ids=Ids()).test_client().open(**request)
    content: dict[str, Any] = answer.get_json()
    return answer.headers["X-Request-ID"], [found["prediction_id"] for found in content.get("predictions", [content])]
