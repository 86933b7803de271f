"""What a WSGI application sees of a request, and what the server sees of its answer."""

import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from wsgiref.validate import validator

import pytest

from tests.parsed import ours
from worker.wsgi import FAILED, WsgiAdapter, shared_by

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from worker.wsgi import Answer

LOG = logging.getLogger("test_adapter")


def environ(method: str = "GET") -> "WSGIEnvironment":
    found = ours(f"{method} / HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    assert found is not None
    return found.environ | {"wsgi.input": io.BytesIO()}


def ask(application: "WSGIApplication", method: str = "GET") -> "Answer":
    return WsgiAdapter(application, LOG).answer(application, environ(method))


def hello(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hel", b"lo"]


def test_a_unix_socket_has_no_addresses() -> None:
    found = shared_by({}, None, None, "")
    assert [found[name] for name in ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT")] == [""] * 4


def test_the_answer_says_its_length() -> None:
    answer = ask(hello)
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.lines == b"Content-Type: text/plain\r\nContent-Length: 5\r\n"


def test_head_is_answered_with_the_length_and_without_the_body() -> None:
    answer = ask(hello, "HEAD")
    assert answer.lines == b"Content-Type: text/plain\r\nContent-Length: 5\r\n"
    assert answer.body == b""


def says(status: str, content: bytes, *headers: tuple[str, str]) -> "WSGIApplication":
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response(status, list(headers))
        return [content]

    return app


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 No Content")]
)
def test_the_length_of_a_body_that_is_not_there_is_not_invented(method: str, status: str) -> None:
    assert ask(says(status, b""), method).lines == b""


def test_an_answer_without_content_says_so() -> None:
    assert ask(says("200 OK", b"")).lines == b"Content-Length: 0\r\n"


def test_no_content_has_neither_a_body_nor_a_length() -> None:
    answer = ask(says("204 No Content", b"hello", ("Content-Length", "5"), ("X", "y")))
    assert (answer.status, answer.lines, answer.body) == (204, b"X: y\r\n", b"")


def test_a_304_says_the_length_and_has_no_body() -> None:
    answer = ask(says("304 Not Modified", b"hello", ("Content-Length", "5")))
    assert (answer.status, answer.lines, answer.body) == (304, b"Content-Length: 5\r\n", b"")


def test_a_date_of_the_application_is_seen() -> None:
    assert ask(says("200 OK", b"", ("date", "today"))).is_dated
    assert not ask(says("200 OK", b"")).is_dated


@pytest.mark.parametrize(
    "header",
    [
        ("Content-Length", "6"),
        ("Transfer-Encoding", "chunked"),
        ("connection", "close"),
        ("X", "a\r\nSet-Cookie: b"),
        ("X", "a\nb"),
        ("X", "a\x00"),
        ("X", "\u20ac"),
        ("X Y", "a"),
        ("X: y\r\nZ", "a"),
        ("", "a"),
    ],
)
def test_a_header_that_would_break_the_framing_costs_the_answer(
    header: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(says("200 OK", b"hello", header))
    assert (answer.status, json.loads(answer.body)) == (500, {"detail": FAILED})
    assert "the application failed" in caplog.text
    assert "Set-Cookie" not in answer.lines.decode()


def test_a_length_that_the_application_gave_stays() -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [("content-length", "7")])
        return []

    assert ask(app, "HEAD").lines == b"content-length: 7\r\n"


def test_what_is_written_comes_before_what_is_returned() -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"hel")
        return [b"lo"]

    assert ask(app).body == b"hello"


def test_exc_info_replaces_an_answer_that_has_not_begun() -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            return [json.loads("no JSON")]
        except ValueError:
            start_response("503 Service Unavailable", [], sys.exc_info())
            return [b"sorry"]

    answer = ask(app)
    assert (answer.status, answer.body) == (503, b"sorry")


class Stream:
    """An iterable that fails where it is told to, and remembers that it was closed."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("chunks", [(b"a",), (b"a", ValueError("on purpose"))])
def test_the_iterable_is_closed_whatever_happens(chunks: tuple[bytes | Exception, ...]) -> None:
    stream = Stream(*chunks)

    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return stream

    ask(app)
    assert stream.closed


def raises(_environ: "WSGIEnvironment", _start_response: "StartResponse") -> Iterable[bytes]:
    message = "on purpose"
    raise ValueError(message)


def raises_late(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"a"
    try:
        json.loads("no JSON")
    except ValueError:
        start_response("503 Service Unavailable", [], sys.exc_info())


def starts_twice(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("201 Created", [])
    return []


def never_starts(_environ: "WSGIEnvironment", _start_response: "StartResponse") -> Iterable[bytes]:
    return [b"a"]


def says_text(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [])
    return ["text"]  # type: ignore[list-item]


@pytest.mark.parametrize("app", [raises, raises_late, starts_twice, never_starts, says_text])
def test_an_application_that_fails_is_logged_and_answered_500(
    app: "WSGIApplication", caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(app)
    assert (answer.status, json.loads(answer.body)) == (500, {"detail": FAILED})
    assert ("Content-Type", "application/json") in answer.headers
    assert "the application failed" in caplog.text


def test_a_refusal_is_an_answer_too() -> None:
    adapter = WsgiAdapter(hello, LOG)
    answer = adapter.answer(adapter.refusing(413, "Too much."), environ())
    assert (answer.status, answer.body) == (413, b'{"detail":"Too much."}')
    assert ("Content-Length", str(len(answer.body))) in answer.headers


def test_the_environ_passes_the_checks_of_wsgiref() -> None:
    base: dict[str, object] = {"wsgi.version": (1, 0), "wsgi.errors": io.StringIO()}
    base |= dict.fromkeys(("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"), False)
    checked = validator(hello)
    answer = WsgiAdapter(checked, LOG).answer(checked, base | environ())
    assert (answer.status, answer.body) == (200, b"hello")
