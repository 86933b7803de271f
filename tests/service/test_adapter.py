"""What a WSGI application sees of a request, and what the server sees of its answer."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from service.adapter import WsgiAdapter, environ_of
from service.errors import FAILED

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Message = dict[str, Any]
LOG = logging.getLogger("test_adapter")


def scope_of(**changes: object) -> Message:
    """An http scope as gunicorn makes it."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
    } | changes


def exchange(app: Callable[..., Any], scope: Message, *incoming: Message) -> list[Message]:
    """Send messages to an ASGI application and return those it sent."""
    messages, sent = iter(incoming), []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def body(content: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


def ask(application: "WSGIApplication", method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an application's answer."""
    start, content = exchange(WsgiAdapter(application, {}, LOG), scope_of(method=method), body())
    return start["status"], dict(start["headers"]), content["body"]


def hello(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hel", b"lo"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "PUT"}, {"REQUEST_METHOD": "PUT"}),
        ({"raw_path": b"/a%20b/%C3%A9"}, {"PATH_INFO": "/a b/\xc3\xa9", "SCRIPT_NAME": ""}),
        ({"raw_path": b"/%ff", "path": "/\ufffd"}, {"PATH_INFO": "/\xff"}),
        ({"raw_path": b"http://host:1/a/b"}, {"PATH_INFO": "/a/b"}),
        ({"raw_path": b"http://host"}, {"PATH_INFO": "/"}),
        ({"raw_path": b"/a/http://b"}, {"PATH_INFO": "/a/http://b"}),
        ({"raw_path": b"*"}, {"PATH_INFO": "*"}),
        ({"raw_path": b"/api/x", "root_path": "/api"}, {"PATH_INFO": "/x", "SCRIPT_NAME": "/api"}),
        ({"raw_path": b"/api", "root_path": "/api/"}, {"PATH_INFO": "", "SCRIPT_NAME": "/api"}),
        ({"raw_path": b"/apiary", "root_path": "/api"}, {"PATH_INFO": "/apiary", "SCRIPT_NAME": ""}),
        ({"raw_path": b"/%C3%A9/x", "root_path": "/é"}, {"PATH_INFO": "/x", "SCRIPT_NAME": "/\xc3\xa9"}),
        ({"query_string": b"a=1&b=%20\xff"}, {"QUERY_STRING": "a=1&b=%20\xff"}),
        ({"http_version": "1.0"}, {"SERVER_PROTOCOL": "HTTP/1.0"}),
        ({"scheme": "https"}, {"wsgi.url_scheme": "https"}),
        ({}, {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000"}),
        ({"client": None, "server": None}, {"REMOTE_ADDR": "", "SERVER_NAME": "", "SERVER_PORT": ""}),
        ({"headers": [(b"content-type", b"text/plain")]}, {"CONTENT_TYPE": "text/plain"}),
        ({"headers": [(b"content-length", b"4")]}, {"CONTENT_LENGTH": "4"}),
        ({"headers": [(b"x-name", b"caf\xc3\xa9")]}, {"HTTP_X_NAME": "caf\xc3\xa9"}),
        ({"headers": [(b"accept", b"a"), (b"accept", b"b")]}, {"HTTP_ACCEPT": "a, b"}),
        ({"headers": [(b"cookie", b"a=1"), (b"cookie", b"b=2")]}, {"HTTP_COOKIE": "a=1; b=2"}),
        ({"headers": [(b"transfer-encoding", b"chunked")]}, {"CONTENT_LENGTH": "4"}),
    ],
)
def test_the_environ_is_what_pep_3333_says(changes: Message, expected: dict[str, str]) -> None:
    environ = environ_of(scope_of(**changes), b"body", {})
    assert {key: environ.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", ["content-type", "content-length", "transfer-encoding"])
def test_these_headers_have_no_http_variable(name: str) -> None:
    environ = environ_of(scope_of(headers=[(name.encode(), b"1")]), b"", {})
    assert "HTTP_" + name.upper().replace("-", "_") not in environ


def test_requests_share_the_base_and_nothing_else() -> None:
    base = {"wsgi.errors": sys.stderr, "wsgi.multithread": False}
    environ = environ_of(scope_of(headers=[(b"x", b"1")]), b"body", base)
    assert environ["wsgi.errors"] is sys.stderr
    assert environ["wsgi.input"].read() == b"body"
    assert set(base) == {"wsgi.errors", "wsgi.multithread"}


def test_a_body_in_pieces_arrives_whole() -> None:
    def echo(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    adapter = WsgiAdapter(echo, {}, LOG)
    assert exchange(adapter, scope_of(), body(b"a", more=True), body(b"b", more=True), body(b"c"))[1]["body"] == b"abc"


def test_a_client_that_has_gone_never_reaches_the_application() -> None:
    def fail(_environ: "WSGIEnvironment", _start_response: "StartResponse") -> Iterable[bytes]:
        pytest.fail("called")

    adapter = WsgiAdapter(fail, {}, LOG)
    assert exchange(adapter, scope_of(), body(b"a", more=True), {"type": "http.disconnect"}) == []


def test_the_answer_says_its_length() -> None:
    assert ask(hello) == (200, {b"Content-Type": b"text/plain", b"Content-Length": b"5"}, b"hello")


def test_head_is_answered_with_the_length_and_without_the_body() -> None:
    assert ask(hello, "HEAD") == (200, {b"Content-Type": b"text/plain", b"Content-Length": b"5"}, b"")


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified")])
def test_the_length_of_a_body_that_is_not_there_is_not_invented(method: str, status: str) -> None:
    def empty(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response(status, [])
        return []

    assert ask(empty, method)[1] == {}


def test_a_length_that_the_application_gave_stays() -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [("content-length", "7")])
        return []

    assert ask(app, "HEAD")[1] == {b"content-length": b"7"}


def test_what_is_written_comes_before_what_is_returned() -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"hel")
        return [b"lo"]

    assert ask(app)[2] == b"hello"


def test_exc_info_replaces_an_answer_that_has_not_begun() -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            return [json.loads("no JSON")]
        except ValueError:
            start_response("503 Service Unavailable", [], sys.exc_info())
            return [b"sorry"]

    status, _, content = ask(app)
    assert (status, content) == (503, b"sorry")


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


def has_a_wide_header(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("X", "\u20ac")])
    return []


@pytest.mark.parametrize("app", [raises, raises_late, starts_twice, never_starts, says_text, has_a_wide_header])
def test_an_application_that_fails_is_logged_and_answered_500(
    app: "WSGIApplication", caplog: pytest.LogCaptureFixture
) -> None:
    status, headers, content = ask(app)
    assert (status, json.loads(content)) == (500, {"detail": FAILED})
    assert headers[b"Content-Type"] == b"application/json"
    assert "the application failed" in caplog.text


def test_the_lifespan_starts_and_stops() -> None:
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    answers = exchange(WsgiAdapter(hello, {}, LOG), {"type": "lifespan"}, *events)
    assert [answer["type"] for answer in answers] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_other_scopes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a scope of type http or lifespan, got websocket"):
        exchange(WsgiAdapter(hello, {}, LOG), {"type": "websocket"})


def test_a_refusal_answers_without_reading() -> None:
    adapter = WsgiAdapter(hello, {}, LOG)
    start, content = exchange(adapter.refusing(413, "Too much."), scope_of())
    assert (start["status"], content["body"]) == (413, b'{"detail":"Too much."}')
    assert dict(start["headers"])[b"Content-Length"] == b"%d" % len(content["body"])


def test_the_environ_passes_the_checks_of_wsgiref() -> None:
    base = {"wsgi.version": (1, 0), "wsgi.errors": io.StringIO()} | dict.fromkeys(
        ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"), False
    )
    start, content = exchange(WsgiAdapter(validator(hello), base, LOG), scope_of(), body())
    assert (start["status"], content["body"]) == (200, b"hello")
