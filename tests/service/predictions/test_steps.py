"""A large batch is answered in steps: the same answer, the same books, told once."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from werkzeug.test import EnvironBuilder

from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from service.app import Application, create_app
from service.deployment.loaded_models import ServedModel
from service.observability.logs import RequestLog
from service.resources import Resources
from tests.fake_service import DEFAULTS, HOUSE, INSIDE, NOW, Always, fake_model, resources
from tests.fakes import KeptInMemory, SameIds, ThousandDollarsASquareFoot
from worker.wsgi import TAKES_STEPS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from pricing.journal.journal import Columns, Context, Entry

ROWS: Final = 1_000
ORIGIN: Final = "https://a.example"
OUTSIDE: Final = HOUSE | {"square_feet": 9_000}
BODY: Final = json.dumps({"houses": [*[HOUSE] * (ROWS - 1), OUTSIDE]}).encode()
BAD: Final = json.dumps({"houses": [HOUSE] * (ROWS - 1) + [HOUSE | {"bedrooms": -1}]}).encode()


class Pieces(KeptInMemory):
    """A journal that remembers how many records came at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[int] = []

    def append(self, context: "Context", entries: "list[Entry]", columns: "Columns | None" = None) -> bool:
        self.pieces.append(len(entries))
        return super().append(context, entries, columns)


class Swapped(Always):
    """Models that a test replaces."""

    def swap(self, model: ServedModel) -> None:
        self._serving = Always(model).serving()


class Graph(ThousandDollarsASquareFoot):
    """A graph that fails when a test says so."""

    is_broken = False

    def __init__(self) -> None:
        self.most = 0

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        self.most = max(self.most, len(houses))
        if self.is_broken:
            raise RuntimeError(INSIDE)
        return super().run(houses)


class Service:
    """The whole application over the fake model, its journal and its log."""

    def __init__(self, published: Artifact, folder: Path, **settings: Any) -> None:  # noqa: ANN401 -- of any type
        self.journal = Pieces()
        self.graph = Graph()
        self.models = Swapped(fake_model(published.manifest, self.graph))
        self._log = folder / "log"
        log = RequestLog(os.open(self._log, os.O_WRONLY | os.O_CREAT))
        made = resources(self.models, self.journal)
        self.app: Application = create_app(
            DEFAULTS.model_copy(update=settings),
            Resources(made.models, made.metrics, made.exposition, made.books, log),
            lambda: NOW,
            SameIds(),
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture
def service(published: Artifact, tmp_path: Path) -> Service:
    return Service(published, tmp_path)


class Asked:
    """A request in steps: `statuses` has what `start_response` was told."""

    def __init__(
        self, service: Service, body: bytes, *, takes_steps: bool = True, path: str = "/predict/batch"
    ) -> None:
        self.statuses: list[str] = []
        self.headers: list[tuple[str, str]] = []
        environ = environ_of(path, body) | ({TAKES_STEPS: True} if takes_steps else {}) | {"HTTP_ORIGIN": ORIGIN}
        self.answer = service.app(environ, self._start)
        self.chunks: Iterator[bytes] = iter(self.answer)

    def _start(self, status: str, headers: list[tuple[str, str]], _exc_info: object = None, /) -> Callable[..., object]:
        self.statuses.append(status)
        self.headers = headers
        return self.statuses.append

    def breaks(self) -> Iterator[int]:
        """Take one step after the other, up to the answer."""
        for number, chunk in enumerate(self.chunks):
            if chunk:
                self.body = chunk + b"".join(self.chunks)
                return
            yield number

    def whole(self) -> bytes:
        list(self.breaks())
        return self.body


def environ_of(path: str, body: bytes) -> "WSGIEnvironment":
    return EnvironBuilder(path, method="POST", data=body, content_type="application/json").get_environ()


@pytest.mark.parametrize("body", [BODY, BAD, BODY[:-1], b" " * 20_000, b'{"houses": [' + b"1," * 20_000 + b"1]}"])
def test_an_answer_in_steps_is_the_same_to_the_byte(service: Service, body: bytes) -> None:
    steps, at_once = Asked(service, body), Asked(service, body, takes_steps=False)

    assert (steps.statuses, len(at_once.statuses)) == ([], 1)
    assert steps.whole() == at_once.whole()
    assert (steps.statuses, steps.headers) == (at_once.statuses, at_once.headers)


def test_a_large_batch_has_a_break_after_each_part_of_its_work(service: Service) -> None:
    assert len(list(Asked(service, BODY).breaks())) >= 5


@pytest.mark.parametrize(
    ("path", "body", "takes_steps"),
    [
        ("/predict/batch", BODY, False),
        ("/predict/batch", json.dumps({"houses": [HOUSE]}).encode(), True),
        ("/predict", json.dumps(HOUSE).encode().ljust(16_384), True),
    ],
)
def test_everything_else_is_answered_at_once(service: Service, path: str, body: bytes, *, takes_steps: bool) -> None:
    asked = Asked(service, body, takes_steps=takes_steps, path=path)

    assert asked.statuses == ["200 OK"]
    assert list(asked.breaks()) == []


def test_without_the_middleware_a_batch_is_answered_at_once(published: Artifact, tmp_path: Path) -> None:
    asked = Asked(Service(published, tmp_path, prediction_middleware=False), BODY)

    assert asked.statuses == ["200 OK"]


def test_a_batch_is_journaled_in_one_piece_with_its_last_step_and_told_once(service: Service) -> None:
    asked = Asked(service, BODY)

    for _ in asked.breaks():
        assert (service.journal.pieces, service.lines) == ([], [])

    assert service.journal.pieces == [ROWS]
    assert json.loads(asked.body)["count"] == ROWS
    (line,) = service.lines
    assert (line["status"], line["rows"], line["route"]) == (200, ROWS, "/predict/batch")


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_batch_that_is_given_up_is_in_no_book(service: Service, steps: int) -> None:
    asked = Asked(service, BODY)
    for _ in range(steps):
        assert next(asked.chunks) == b""
    close: Callable[[], None] = asked.answer.close  # type: ignore[attr-defined]
    close()

    assert (service.journal.pieces, service.lines, asked.statuses) == ([], [], [])


def test_a_swap_in_a_break_changes_nothing_of_a_batch(service: Service) -> None:
    expected = Asked(service, BODY, takes_steps=False).whole()
    served = service.models.serving().champion
    other = served.manifest.model_copy(update={"version": "v9.9.9"})
    asked = Asked(service, BODY)
    for _ in range(4):  # it has been read and has chosen its model
        assert next(asked.chunks) == b""
    service.models.swap(replace(served, manifest=other, digest="1" * 64))

    assert asked.whole() == expected
    assert {context.source.model_version for context, _ in service.journal.records} == {"v1.2.3"}
    assert b"v9.9.9" in Asked(service, BODY).whole()


def test_what_fails_in_a_step_is_answered_500_and_told_once(service: Service) -> None:
    asked = Asked(service, BODY)
    service.graph.is_broken = True

    assert json.loads(asked.whole()) == {"detail": "The service failed to answer; the failure has been logged."}
    assert asked.statuses == ["500 Internal Server Error"]
    assert ([line["status"] for line in service.lines], service.journal.pieces) == ([500], [])


SINGLE: Final = json.dumps(HOUSE | {"explain": True}).encode()
FEW: Final = json.dumps({"houses": [HOUSE, OUTSIDE, HOUSE], "explain": True}).encode()


@pytest.mark.parametrize(("path", "body"), [("/predict", SINGLE), ("/predict/batch", FEW)])
def test_an_explanation_has_breaks_also_of_a_small_request(service: Service, path: str, body: bytes) -> None:
    steps, at_once = Asked(service, body, path=path), Asked(service, body, path=path, takes_steps=False)

    assert (steps.statuses, len(at_once.statuses)) == ([], 1)
    for _ in steps.breaks():
        assert service.journal.pieces == [len(json.loads(body).get("houses", [1]))]  # of the one that was answered
    assert steps.body == at_once.whole()
    assert steps.statuses == ["200 OK"]
    assert {*steps.headers} - {*at_once.headers} <= {("X-Cache", "miss")}  # it was the first to be priced
    assert service.graph.most <= 200


def test_what_is_asked_without_an_explanation_is_answered_at_once(service: Service) -> None:
    for body in (json.dumps(HOUSE).encode(), SINGLE.replace(b"true", b"false")):
        assert Asked(service, body, path="/predict").statuses == ["200 OK"]


@pytest.mark.parametrize(("path", "body"), [("/predict", SINGLE), ("/predict/batch", FEW)])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_an_explained_prediction_that_is_given_up_is_in_no_book(
    service: Service, path: str, body: bytes, steps: int
) -> None:
    asked = Asked(service, body, path=path)
    for _ in range(steps):
        assert next(asked.chunks) == b""
    close: Callable[[], None] = asked.answer.close  # type: ignore[attr-defined]
    close()

    assert (service.journal.pieces, service.lines, asked.statuses) == ([], [], [])


def test_an_explanation_that_fails_is_answered_500_and_recorded_nowhere(service: Service) -> None:
    asked = Asked(service, SINGLE, path="/predict")
    assert next(asked.chunks) == b""  # it has its price
    service.graph.is_broken = True

    assert json.loads(asked.whole()) == {"detail": "The service failed to answer; the failure has been logged."}
    assert (asked.statuses, service.journal.pieces) == (["500 Internal Server Error"], [])


def test_a_swap_in_a_break_changes_nothing_of_an_explanation(service: Service, published: Artifact) -> None:
    expected = Asked(service, SINGLE, path="/predict", takes_steps=False).whole()
    asked = Asked(service, SINGLE, path="/predict")
    assert next(asked.chunks) == b""
    other = published.manifest.model_copy(update={"background": published.manifest.background[:1]})
    service.models.swap(fake_model(other, service.graph))

    assert asked.whole() == expected
    assert Asked(service, SINGLE, path="/predict").whole() != expected


@pytest.mark.parametrize(("path", "body"), [("/predict", SINGLE), ("/predict/batch", FEW)])
def test_what_is_refused_in_a_step_has_the_status_and_the_headers_of_any_refusal(
    published: Artifact, tmp_path: Path, path: str, body: bytes
) -> None:
    service = Service(published, tmp_path, cors_origins=(ORIGIN,))
    service.models.swap(fake_model(published.manifest.model_copy(update={"background": ()}), service.graph))

    steps, at_once = Asked(service, body, path=path), Asked(service, body, path=path, takes_steps=False)

    assert steps.whole() == at_once.whole()
    assert steps.statuses == at_once.statuses == ["404 Not Found"]
    assert steps.headers == at_once.headers
    assert ("Access-Control-Allow-Origin", ORIGIN) in steps.headers
    assert service.journal.pieces == []
