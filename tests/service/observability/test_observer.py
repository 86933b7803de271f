"""Whoever answers, and however: one id, one count, one line."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.routing import Map, Rule
from werkzeug.test import Client

from pricing.ids import Ids
from service.access.security_headers import DATA_HEADERS
from service.deployment.loaded_models import ModelRegistry
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.logs import RequestLog
from service.observability.metrics import Files, WorkerMetrics
from service.observability.observer import Observer, Routes
from service.reply import json_reply
from tests.bodies import GOOD
from tests.fake_service import INSIDE, NO_STORE
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FAILED: Final = {"detail": "The service failed to answer; the failure has been logged."}
RULES: Final = Map(
    [
        Rule("/predict"),
        Rule("/docs"),
        Rule("/docs/static/<path:name>"),
        Rule("/docs/swagger/<path:name>"),
        Rule("/v2/models/<name>"),
        Rule("/v2/models/<name>/infer"),
    ]
)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/predict", "/predict"),
        ("/docs", "/docs"),
        ("/docs/static/docs.css", "/docs/static/"),
        ("/docs/static/none/of/ours", "/docs/static/"),
        ("/docs/swagger/swagger-ui.css", "/docs/swagger/"),
        ("/v2/models/x.y-z", "/v2/models/{name}"),
        ("/v2/models/x/infer", "/v2/models/{name}/infer"),
        ("/v2/models/x/infer/", "other"),
        ("/v2/models/x/y/infer", "other"),
        ("/v2/models//infer", "other"),
        ("/v2/models/", "other"),
        ("/docs/static", "other"),
        ("/docs/", "other"),
        ("/predict/", "other"),
        ("//predict", "other"),
        ("/PREDICT", "other"),
        ("/", "other"),
        ("*", "other"),
        ("", "other"),
    ],
)
def test_a_path_has_one_of_few_names(path: str, route: str) -> None:
    assert Routes(RULES).of(path) == route


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/predict/", "/predict"),
        ("/docs/", "/docs"),
        ("/predict//", "/predict//"),
        ("//predict/", "//predict/"),
        ("/predict/.", "/predict/."),
        ("/docs//", "/docs//"),
        ("/docs/static/docs.css/", "/docs/static/docs.css/"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_one_slash_at_the_end_of_a_route_is_taken_off(path: str, found: str) -> None:
    assert Routes(RULES).without_slash(path) == found


def fails_at_once(_environ: "WSGIEnvironment", _start: "StartResponse") -> "Iterable[bytes]":
    raise RuntimeError(INSIDE)


def fails_after_it_began(_environ: "WSGIEnvironment", start: "StartResponse") -> "Iterable[bytes]":
    start("200 OK", [("Content-Type", "text/plain"), ("X-Request-ID", "the first one's")])
    raise RuntimeError(INSIDE)


def answers_twice(environ: "WSGIEnvironment", start: "StartResponse") -> "Iterable[bytes]":
    json_reply(200, {}).send(start)
    return json_reply(200, environ["PATH_INFO"]).send(start)


class Observed:
    """An application with an observer around it, its counts and its lines."""

    def __init__(self, application: "WSGIApplication", folder: Path) -> None:
        run = RunFolder(folder)
        metrics = WorkerMetrics(Files.of(*run.claim().metrics))
        self._log = folder / "log"
        self._exposition = Exposition(run, NO_STORE, ModelRegistry(NO_STORE))
        self.observer = Observer(
            Routes(RULES), metrics, RequestLog(os.open(self._log, os.O_WRONLY | os.O_CREAT)), Ids()
        )
        self.client = Client(self.observer.around(application))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def counts(self, beginning: str) -> list[str]:
        text = self._exposition.text().body.decode()
        return [line for line in text.splitlines() if line.startswith(beginning)]


def test_an_application_that_raises_is_answered_500_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    observed = Observed(fails_at_once, tmp_path)

    response = observed.client.get("/predict", headers={"X-Request-ID": "mine"})

    assert (response.status_code, response.json) == (500, FAILED)
    assert response.headers.getlist("X-Request-ID") == ["mine"]
    assert [(line["level"], line["status"], line["request_id"]) for line in observed.lines] == [("error", 500, "mine")]
    assert observed.counts("appraiser_requests_total") == [
        'appraiser_requests_total{method="GET",route="/predict",status="500",version=""} 1.0'
    ]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert (str(record.exc_info[1]), record.__dict__["request_id"]) == (INSIDE, "mine")


def test_what_was_no_request_is_counted_and_told_and_has_an_id(tmp_path: Path) -> None:
    observed = Observed(fails_at_once, tmp_path)

    *headers, (name, request_id) = observed.observer.unparsed(414)

    assert (tuple(headers), name) == (DATA_HEADERS, "X-Request-ID")
    assert [(line["status"], line["request_id"]) for line in observed.lines] == [(414, request_id)]
    assert observed.counts("appraiser_unparsed") == ['appraiser_unparsed_requests_total{status="414"} 1.0']


APPLICATION: Final = """
from pathlib import Path
from pricing.ids import Ids
from service.app import create_app
from service.access.security_headers import DATA_HEADERS
from service.observability.logs import RequestLog
from service.observability.metrics import WorkerMetrics
from service.observability.observer import Observer, Routes
from tests.service.observability.test_observer import RULES, answers_twice, fails_after_it_began, fails_at_once

class Application:
    '''Applications that fail, by their path, and ours.'''

    def __init__(self):
        ours = create_app()
        self.observer, self.limits = ours.observer, ours.limits
        bad = {"/" + bad.__name__: bad for bad in (answers_twice, fails_after_it_began, fails_at_once)}
        self._bad = {path: self.observer.around(application) for path, application in bad.items()}
        self._ours = ours

    def __call__(self, environ, start_response):
        return self._bad.get(environ["PATH_INFO"], self._ours)(environ, start_response)
"""


def serve(artifacts: Path, folder: Path, **env: str) -> Iterator[GunicornProcess]:
    """Our application, and some that fail, with one worker, a limit of 1,024 bytes and half a second for a body."""
    (folder / "gunicorn.conf.py").write_text(
        f"import runpy\nglobals().update(runpy.run_path('{ROOT}/gunicorn.conf.py'))"
    )
    (folder / "application.py").write_text(APPLICATION)
    settings = {"ARTIFACTS": str(artifacts), "BODY_SECONDS": "0.5", "MAX_BODY_BYTES": "1024"} | env
    environment = {f"APPRAISER_{name}": value for name, value in settings.items()}
    with gunicorn("application:Application()", cwd=folder, workers=1, env=environment) as server:
        yield server


@pytest.fixture(scope="module")
def ours(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    yield from serve(artifacts, tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def gthread(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    yield from serve(artifacts, tmp_path_factory.mktemp("gthread"), WORKER="gthread")


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    head = [f"{line} HTTP/1.1", "Host: test", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def predict(body: bytes, *headers: str, line: str = "POST /predict") -> bytes:
    return request(line, f"Content-Length: {len(body)}", *headers, body=body)


ANSWERS: Final = {
    "200": predict(GOOD),
    "200 of HEAD": request("HEAD /health"),
    "200 of a file": request("GET /docs/static/docs.js"),
    "404": request("GET /nothing"),
    "404 of a file": request("GET /docs/static/nothing"),
    "405": request("GET /predict"),
    "415": predict(GOOD, "Content-Type: text/csv"),
    "422": predict(b"{}"),
    "500 at once": request("GET /fails_at_once"),
    "500 later": request("GET /fails_after_it_began"),
    "500 twice": request("GET /answers_twice"),
    "413 of a length": predict(GOOD.ljust(1025)),
}
EARLY: Final = {
    "413 of chunks": request("POST /predict", "Transfer-Encoding: chunked", body=b"401\r\n" + b" " * 1025 + b"\r\n"),
    "408": request("POST /predict", "Content-Length: 10", body=b"{"),
}
UNPARSED: Final = {
    "400 of a line": b"nonsense\r\n\r\n",
    "400 of a length": request("POST /predict", "Content-Length: many"),
    "413 of more digits than Python reads": request("POST /predict", "Content-Length: " + "1" * 5_000),
    "414": request("GET /" + "x" * 5_000),
    "431 of a long header": request("GET /health", "X-Long: " + "x" * 10_000),
    "431 of many headers": request("GET /health", *(f"X-{number}: x" for number in range(200))),
    "501": request("POST /predict", "Transfer-Encoding: none-we-know"),
}


def ask(server: GunicornProcess, sent: bytes) -> tuple[int, list[str]]:
    """The status of the answer, and its request ids."""
    with server.connect() as client:
        client.sendall(sent)
        with client.makefile("rb") as stream:
            status, *headers = stream.read().partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = [header.split(": ", 1) for header in headers]
    return int(status.split()[1]), [value for name, value in pairs if name.lower() == "x-request-id"]


def with_id(sent: bytes, *ids: str) -> bytes:
    line, _, rest = sent.partition(b"\r\n")
    return b"\r\n".join([line, *(b"X-Request-ID: " + given.encode("latin-1") for given in ids), rest])


def told(server: GunicornProcess, request_id: str) -> list[dict[str, Any]]:
    """The lines of a request."""
    lines = map(json.loads, server.log.splitlines())
    return [line for line in lines if line["event"] == "request" and line.get("request_id") == request_id]


def assert_one_id(server: GunicornProcess, name: str, sent: bytes) -> None:
    mine = f"of-{name.replace(' ', '-')}"
    for given, is_taken in (([mine], True), (["of mine"], False), (["a", "b"], False), (["\xe9"], False)):
        status, found = ask(server, with_id(sent, *given))

        assert status == int(name[:3])
        assert len(found) == 1
        assert (found == given) == is_taken
        assert re.fullmatch(r"[A-Za-z0-9-]{5,40}", found[0])
        assert [line["status"] for line in told(server, found[0])] == [status]


@pytest.mark.parametrize("name", ANSWERS | EARLY)
def test_each_answer_of_our_worker_has_one_id_and_one_line(ours: GunicornProcess, name: str) -> None:
    assert_one_id(ours, name, (ANSWERS | EARLY)[name])


# What has begun cannot be taken back there: gunicorn keeps the headers of the first answer beside those of the second.
@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in {"500 later", "500 twice"}])
def test_so_has_each_answer_in_threads(gthread: GunicornProcess, name: str) -> None:
    assert_one_id(gthread, name, ANSWERS[name])


def unparsed(server: GunicornProcess) -> dict[str, float]:
    """How many were no HTTP, by status."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    samples = (s for family in families for s in family.samples if s.name == "appraiser_unparsed_requests_total")
    return {sample.labels["status"]: sample.value for sample in samples}


@pytest.mark.parametrize("name", UNPARSED)
def test_what_is_no_http_has_an_id_and_a_line_too(ours: GunicornProcess, name: str) -> None:
    before = unparsed(ours)

    status, (request_id,) = ask(ours, UNPARSED[name])

    assert status == int(name[:3])
    assert [line["status"] for line in told(ours, request_id)] == [status]
    assert unparsed(ours) == before | {name[:3]: before.get(name[:3], 0.0) + 1.0}


def answered(server: GunicornProcess, status: str) -> float:
    """How many predictions were answered with a status."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    samples = (s for family in families for s in family.samples if s.name == "appraiser_requests_total")
    wanted = {"route": "/predict", "method": "POST", "status": status, "version": ""}
    return sum(sample.value for sample in samples if sample.labels == wanted)


def test_early_answers_are_counted_at_their_route(ours: GunicornProcess) -> None:
    before = answered(ours, "408")
    ask(ours, EARLY["408"])

    assert answered(ours, "408") == before + 1.0


@pytest.fixture
def small(artifacts: Path, tmp_path: Path) -> Iterator[GunicornProcess]:
    """With room for one request in hand."""
    yield from serve(artifacts, tmp_path, MAX_IN_HAND="1", BODY_SECONDS="600")


def test_who_finds_no_room_is_told_and_counted_while_health_and_metrics_answer(small: GunicornProcess) -> None:
    half = request("POST /predict", "Content-Length: 10", "Expect: 100-continue", "X-Request-ID: late")
    with small.connect() as first:
        first.sendall(half)
        assert first.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"

        assert ask(small, half) == (503, ["late"])
        assert [line["status"] for line in told(small, "late")] == [503]
        assert answered(small, "503") == 1.0
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert ask(small, request(f"GET {path}"))[0] == 200
        assert ask(small, predict(GOOD))[0] == 200
