"""The log: JSON, a line for a request, whoever says it; nothing in it of what a client has sent; readable by people."""

import fcntl
import json
import logging
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.logs import RequestLog, formatter
from tests.bodies import GOOD
from tests.fake_service import HOUSE
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.waiting import wait_until

SECRET: Final = "hunter2"  # noqa: S105 -- to be looked for
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
# A service whose predictions fail, with all that they know in the local variables of the traceback.
BROKEN: Final = """
from dataclasses import replace
from service.app import create_app
from service.resources import Resources
from service.settings import read_settings
from tests.fake_service import Broken

def app():
    settings = read_settings()
    return create_app(settings, replace(Resources.acquire(settings), models=Broken()))
"""
CONFIGURATION: Final = """
import os, runpy, sys
{before}
globals().update(runpy.run_path({path!r}))
"""
SAY: Final = """
import logging, sys
from logging.config import dictConfig
from service.observability.logs import RequestLog, configuration

dictConfig(dict(configuration()))
def fail(password):
    raise ValueError("on purpose")
try:
    fail("hunter2")
except ValueError as error:
    logging.getLogger("service.errors").error("a request failed", exc_info=error, extra={"request_id": "mine"})
logging.getLogger("gunicorn.error").info("Listening at: %s (%d)", "here", 7)
logging.getLogger("somebody.else").info("nobody wants to know")
RequestLog().write(200, {"request_id": "mine", "milliseconds": 1.5})
"""


def lines(text: str) -> list[dict[str, Any]]:
    """The log; each of its lines has to be JSON."""
    return [json.loads(line) for line in text.splitlines()]


def of_request(server: GunicornProcess, request_id: str) -> list[dict[str, Any]]:
    return [line for line in lines(server.log) if line.get("request_id") == request_id]


def ask(server: GunicornProcess, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 -- httpx's own
    return httpx.request(method, server.url + path, timeout=30, **options)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        pytest.param(
            *("POST", "/predict", HOUSE),
            {"level": "info", "status": 200, "route": "/predict", "version": "v1.0.0", "arm": "champion", "rows": 1},
            id="house",
        ),
        pytest.param(
            *("POST", "/predict/batch?model_version=v1.0.0", {"houses": [HOUSE] * 3}),
            *[{"level": "info", "status": 200, "route": "/predict/batch", "version": "v1.0.0", "rows": 3}],
            id="batch",
        ),
        pytest.param("POST", "/predict", {}, {"level": "info", "status": 422, "route": "/predict"}, id="refused"),
        pytest.param("GET", "/health", None, {"level": "info", "status": 200, "route": "/health"}, id="health"),
        pytest.param("GET", "/no/such", None, {"level": "info", "status": 404, "route": "other"}, id="nothing there"),
        pytest.param("BREW", "/predict", None, {"status": 405, "route": "/predict", "method": "other"}, id="no method"),
    ],
)
def test_each_answer_has_one_line_that_says_what_it_was(
    server: GunicornProcess, method: str, path: str, body: object, expected: dict[str, object]
) -> None:
    response = ask(server, method, path, json=body, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})

    (line,) = of_request(server, response.headers["X-Request-ID"])
    ids = {"trace_id": TRACE, "span_id": SPAN, "key_id": None}
    assert line.items() >= ({"event": "request", "method": method} | ids | expected).items()
    assert ("version" in line) == ("version" in expected)
    assert list(line)[:3] == ["time", "level", "event"]
    told = datetime.fromisoformat(line["time"])
    assert told.utcoffset() == timedelta(0)
    assert 0 < line["milliseconds"] < 30_000


def test_there_are_no_more_lines_than_answers(server: GunicornProcess) -> None:
    before = sum(line["event"] == "request" for line in lines(server.log))

    for _ in range(10):
        ask(server, "GET", "/health")

    assert sum(line["event"] == "request" for line in lines(server.log)) == before + 10


def test_what_gunicorn_and_the_service_say_has_the_same_shape(server: GunicornProcess) -> None:
    found = lines(server.log)

    assert {tuple(line)[:3] for line in found} == {("time", "level", "event")}
    said = {line["event"]: line for line in found}
    assert said["Using worker: worker.gunicorn_worker.AppraiserWorker"]["process"] == server.pid
    serving = said["serving generation 1: v1.0.0"]
    assert (serving["level"], serving["process"] != server.pid) == ("info", True)


@pytest.fixture(scope="module")
def broken(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    with configured(tmp_path_factory.mktemp("broken"), artifacts, app="application:app()") as server:
        yield server


def configured(folder: Path, artifacts: Path, before: str = "", app: str | None = None) -> Any:  # noqa: ANN401 -- a context
    """A gunicorn with our configuration, and a line before it."""
    path = str(ROOT / "gunicorn.conf.py")
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION.format(before=before, path=path))
    (folder / "application.py").write_text(BROKEN)
    return gunicorn(app, cwd=folder, workers=1, env={"APPRAISER_ARTIFACTS": str(artifacts)})


PLACES: Final = ("Authorization", "X-API-Key", "User-Agent", "X-Client-Id", "Referer", "X-Forwarded-For", "traceparent")
HEADERS: Final = dict.fromkeys(PLACES, SECRET) | {"Cookie": f"session={SECRET}", "X-Request-ID": f"my {SECRET}"}


def plant(server: GunicornProcess) -> list[httpx.Response]:
    """Ask with a secret at every place."""
    body = HOUSE | {"password": SECRET}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/predict", {"json": body}),
        ("POST", "/predict/batch", {"json": {"houses": [body, body]}}),
        ("POST", f"/predict?token={SECRET}&confidence={SECRET}", {"json": body}),
        ("POST", f"/predict?model_version={SECRET}", {"json": body}),
        ("POST", "/predict", {"json": HOUSE | {"bedrooms": SECRET, SECRET: 1}}),
        ("POST", "/predict", {"content": SECRET}),
        ("POST", "/predict", {"content": GOOD, "headers": HEADERS | {"Content-Type": SECRET}}),
        ("GET", f"/model/info?model_version={SECRET}", {}),
        ("GET", f"/{SECRET}", {}),
        ("GET", f"/docs/static/{SECRET}", {}),
        (SECRET.upper(), "/predict", {}),
    ]
    return [ask(server, method, path, **({"headers": HEADERS} | options)) for method, path, options in asked]


def raw(server: GunicornProcess, sent: bytes) -> None:
    with server.connect() as client:
        client.sendall(sent)
        while client.recv(65_536):
            pass


def test_no_line_holds_what_a_client_has_sent(server: GunicornProcess) -> None:
    statuses = {response.status_code for response in plant(server)}
    for sent in (
        f"{SECRET}\r\n\r\n",
        f"GET /{SECRET} HTTP/{SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\n{SECRET} {SECRET}: {SECRET}\r\n\r\n",
        f"GET /{SECRET}{'x' * 5_000} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX-{SECRET}: {'x' * 10_000}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {SECRET}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SECRET}\r\n\r\n",
    ):
        raw(server, sent.encode())

    assert statuses == {200, 404, 405, 415, 422}
    assert SECRET not in server.log.lower()
    assert lines(server.log)


def test_nor_does_the_traceback_of_a_failure(broken: GunicornProcess) -> None:
    assert 500 in {response.status_code for response in plant(broken)}

    assert "Traceback" in broken.log
    assert SECRET not in broken.log.lower()


def test_a_failure_has_a_line_for_its_traceback_and_one_for_its_answer(broken: GunicornProcess) -> None:
    response = ask(broken, "POST", "/predict", json=HOUSE, headers={"X-Request-ID": "mine"})

    assert response.status_code == 500
    failure, answer = of_request(broken, "mine")
    assert (failure["event"], failure["level"]) == ("a request failed", "error")
    assert re.fullmatch(r"(?s)Traceback .*RuntimeError: what happened inside.*", failure["exception"])
    assert (answer["event"], answer["level"], answer["status"]) == ("request", "error", 500)


@pytest.mark.parametrize(
    ("harm", "is_counted"),
    [
        pytest.param("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", True, id="full"),
        pytest.param("read, write = os.pipe(); os.dup2(write, 1); os.close(read); os.close(write)", True, id="unread"),
        pytest.param("os.close(1); sys.stdout = None", False, id="none"),  # as `gunicorn >&-` starts
    ],
)
def test_a_stdout_that_takes_nothing_costs_no_answer(
    artifacts: Path, tmp_path: Path, harm: str, *, is_counted: bool
) -> None:
    with configured(tmp_path, artifacts, harm) as server:
        assert [ask(server, "POST", "/predict", json=HOUSE).status_code for _ in range(3)] == [200] * 3
        families = text_string_to_metric_families(ask(server, "GET", "/metrics").text)
        numbers = {sample.name: sample.value for family in families for sample in family.samples}

    assert numbers["appraiser_log_lines_dropped_total"] == (3.0 if is_counted else 0.0)


TAKES_ITS_NUMBER: Final = """
import os, sys
from service.observability.logs import RequestLog
assert os.open(sys.argv[1], os.O_CREAT | os.O_RDWR) == 1
RequestLog().write(200, {})
"""


def test_without_a_stdout_no_line_goes_into_a_file_that_has_its_number(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKES_ITS_NUMBER, str(tmp_path / "file")]

    subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], cwd=ROOT, check=True)

    assert (tmp_path / "file").read_bytes() == b""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of the smallest size: its two ends, both of which wait by default."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    yield read, write
    os.close(read)
    os.close(write)


def fill(log: RequestLog, facts: dict[str, Any]) -> int:
    """Write until a line is dropped: how many were not."""
    for written in range(1_000):
        try:
            log.write(200, dict(facts))
        except BlockingIOError:
            return written
    raise AssertionError


def drained(descriptor: int) -> list[dict[str, Any]]:
    """All that is in the pipe."""
    found = b""
    while select.select([descriptor], [], [], 0)[0]:
        found += os.read(descriptor, 65_536)
    return lines(found.decode())


def test_a_line_that_the_reader_leaves_no_room_for_is_dropped_and_the_next_one_says_so(pipe: tuple[int, int]) -> None:
    read, write = pipe
    log = RequestLog(write)
    written = fill(log, {"request_id": "a" * 100})
    with pytest.raises(BlockingIOError):
        log.write(200, {"request_id": "b" * 100})

    assert [line["request_id"] for line in drained(read)] == ["a" * 100] * written
    log.write(200, {"request_id": "c"})
    told, line = drained(read)
    assert (told["level"], told["dropped"], line["request_id"]) == ("warning", 2, "c")
    log.write(200, {"request_id": "d"})
    assert [line["request_id"] for line in drained(read)] == ["d"]
    assert os.get_blocking(write)  # the description is the shell's too


def test_the_rest_of_a_line_that_was_written_in_part_is_written_before_the_next(pipe: tuple[int, int]) -> None:
    read, write = pipe
    log, long = RequestLog(write), "a" * 6_000
    log.write(200, {"request_id": long})
    begun = os.read(read, 65_536)
    log.write(200, {"request_id": "b" * 1_500})  # behind the rest of the first one
    with pytest.raises(BlockingIOError):
        log.write(200, {"request_id": "b" * 1_500})
    middle = os.read(read, 65_536)
    log.write(200, {"request_id": "last"})

    found = lines((begun + middle + os.read(read, 65_536)).decode())
    assert [line.get("request_id") for line in found] == [long, "b" * 1_500, None, "last"]


def test_a_socket_that_nobody_reads_costs_a_line_and_no_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        log = RequestLog(theirs.fileno())
        written = fill(log, {"request_id": "a" * 100})
        found = b""
        while found.count(b"\n") != written:
            found += ours.recv(65_536)

        assert {line["request_id"] for line in lines(found.decode())} == {"a" * 100}
        assert theirs.gettimeout() is None
        assert os.get_blocking(theirs.fileno())


def test_a_terminal_that_was_stopped_costs_a_line_and_no_time() -> None:
    ours, theirs = pty.openpty()
    termios.tcflow(theirs, termios.TCOOFF)  # as Ctrl-S does
    log = RequestLog(theirs)

    assert fill(log, {"request_id": "a" * 100}) < 1_000

    os.close(ours)
    os.close(theirs)


HAMMER: Final = """
import sys
from contextlib import suppress
from service.observability.logs import RequestLog
log = RequestLog()
for number in range(20_000):
    with suppress(BlockingIOError):
        log.write(200, {"request_id": sys.argv[1] * 100})
"""


def test_lines_of_several_workers_do_not_mix_when_some_are_dropped(pipe: tuple[int, int]) -> None:
    read, write = pipe
    workers = [
        subprocess.Popen([sys.executable, "-c", HAMMER, name], cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
        for name in "abc"
    ]
    found = b""
    while any(worker.poll() is None for worker in workers):
        if select.select([read], [], [], 0.1)[0]:
            found += os.read(read, 1_000)  # so little at once that there is no room most of the time
    while select.select([read], [], [], 0)[0]:
        found += os.read(read, 65_536)

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    told = lines(found.decode())
    assert {line.get("request_id") for line in told} == {None, *(name * 100 for name in "abc")}
    for worker in workers:
        assert worker.stderr is not None
        worker.stderr.close()


def test_a_pipe_that_nobody_reads_holds_up_no_request_and_no_master(artifacts: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "stdout"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    harm = f"descriptor = os.open({str(fifo)!r}, os.O_WRONLY); os.dup2(descriptor, 1); os.dup2(descriptor, 2)"
    with configured(tmp_path, artifacts, harm) as server:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            assert {client.get("/health").status_code for _ in range(100)} == {200}
            dropped = "appraiser_log_lines_dropped_total "
            (count,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(dropped)]
            assert float(count.removeprefix(dropped)) > 50
            found = drained(reader)
            client.get("/health/live")
        (told, _) = [line for line in drained(reader) if line["event"] != "request" or "/live" in line["route"]]
        assert told["dropped"] > 50
        while fill(RequestLog(reader), {"request_id": "full"}):
            pass
        (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        wait_until(lambda: Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split() != [worker])
        assert server.stop() < 30  # the master says that it stops, and does
    os.close(reader)
    assert {"request"} < {line["event"] for line in found}


def test_a_text_that_is_no_utf_8_is_said_all_the_same() -> None:
    record = logging.LogRecord("service", logging.ERROR, "", 0, "no such file: \udcff", (), None)

    assert json.loads(formatter().format(record))["event"] == "no such file: \\udcff"


def say(stdout: int) -> None:
    subprocess.run([sys.executable, "-c", SAY], cwd=ROOT, stdout=stdout, check=True)


def test_on_a_terminal_lines_are_colored_and_readable() -> None:
    ours, theirs = pty.openpty()
    say(theirs)
    text = os.read(ours, 65_536).decode()
    os.close(ours)
    os.close(theirs)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert len(text) > len(plain)
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"
    assert re.search(rf"{time} \[error +\] a request failed +process=\d+ request_id=mine\r\nTraceback", plain)
    assert "ValueError: on purpose" in plain
    assert re.search(rf"{time} \[info +\] Listening at: here \(7\) +process=\d+\r\n", plain)
    assert re.search(rf"{time} \[info +\] request +milliseconds=1\.5 request_id=mine status=200\r\n", plain)
    assert SECRET not in plain  # a value of the local variables


def test_elsewhere_they_are_not(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        say(file.fileno())
    text = (tmp_path / "log").read_text()

    assert "\x1b" not in text
    assert [line["event"] for line in lines(text)] == ["a request failed", "Listening at: here (7)", "request"]
