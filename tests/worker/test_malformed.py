"""What is no HTTP, or could be read in two ways, is refused: one answer with nothing of it, and the connection closed.

Behind each case stands another request. Whoever reads a case otherwise than the proxy in front answers that one too.
tests/reliability/test_corpus.py does the same with gunicorn's own corpus.
"""

import json
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from tests.gunicorn_process import OUR_WORKER, GunicornProcess, gunicorn
from tests.raw_http import ask, everything, request, statuses

APPLICATION: Final = """
from worker.limits import Limits

def app(environ, start_response):  # 200 to all, so that nothing is refused by accident
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read()]

app.limits = Limits(max_body_bytes=1_000)
"""
MARKER: Final = b"PLANTED"
NEXT: Final = request("/next")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    folder = tmp_path_factory.mktemp("malformed")
    (folder / "application.py").write_text(APPLICATION)
    with gunicorn("application:app", cwd=folder, worker_class=OUR_WORKER, workers=1) as server:
        yield server
        assert "Traceback" not in server.log


def post(*fields: bytes, body: bytes = b"hello", version: bytes = b"HTTP/1.1") -> bytes:
    """A request with these header fields, written as they are."""
    return b"\r\n".join([b"POST /PLANTED " + version, b"Host: here", *fields, b"", body])


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


LENGTH: Final = b"Content-Length: 5"
CHUNKED: Final = b"Transfer-Encoding: chunked"
FIVE: Final = b"5\r\nhello\r\n0\r\n\r\n"

# Header fields that say how long a body is; the body is "hello", and FIVE where it may be in chunks.
LENGTHS: Final = {
    "two that differ": [LENGTH, b"Content-Length: 6"],
    "two that are equal": [LENGTH, LENGTH],
    "a list of two that differ": [b"Content-Length: 5, 6"],
    "a list of two that are equal": [b"Content-Length: 5, 5"],
    "two numbers": [b"Content-Length: 5 5"],
    "a plus": [b"Content-Length: +5"],
    "a minus": [b"Content-Length: -5"],
    "a hexadecimal": [b"Content-Length: 0x5"],
    "an underscore": [b"Content-Length: 0_5"],
    "a fraction": [b"Content-Length: 5.0"],
    "nothing": [b"Content-Length:"],
    "a word": [b"Content-Length: PLANTED"],
    "a superscript": [b"Content-Length: \xb2"],
    "a digit that is not ASCII": ["Content-Length: \uff15".encode()],
    "a space before the colon": [b"Content-Length : 5"],
    "a tab before the colon": [b"Content-Length\t: 5"],
    "a space before the name": [b" Content-Length: 5"],
    "a fold before the value": [b"Content-Length:\r\n 5"],
    "a fold behind the value": [LENGTH, b" 6"],
    "a bare LF behind it": [b"Content-Length: 5\nContent-Length: 6"],
    "a bare CR behind it": [b"Content-Length: 5\rContent-Length: 6"],
    "a NUL behind it": [b"Content-Length: 5\0"],
    "a vertical tab before it": [b"Content-Length: \x0b5"],
}
CODINGS: Final = {
    "a length before chunks": [LENGTH, CHUNKED],
    "a length behind chunks": [CHUNKED, LENGTH],
    "a length of 0 and chunks": [b"Content-Length: 0", CHUNKED],
    "chunked twice": [CHUNKED, CHUNKED],
    "chunked twice in a list": [b"Transfer-Encoding: chunked, chunked"],
    "chunked, then identity": [CHUNKED, b"Transfer-Encoding: identity"],
    "chunked, then gzip": [b"Transfer-Encoding: chunked, gzip"],
    "gzip alone": [b"Transfer-Encoding: gzip"],
    "identity and a length": [b"Transfer-Encoding: identity", LENGTH],
    "a space before the colon": [b"Transfer-Encoding : chunked"],
    "a fold before the value": [b"Transfer-Encoding:\r\n chunked"],
    "a fold behind the value": [b"Transfer-Encoding: chunked\r\n , identity"],
    "a bare LF before the value": [b"Transfer-Encoding:\n chunked"],
    "a NUL behind it": [b"Transfer-Encoding: chunked\0"],
    "a vertical tab before it": [b"Transfer-Encoding: \x0bchunked"],
    "a bare CR before it": [b"X: a\rTransfer-Encoding: chunked"],
}
UNKNOWN_CODINGS: Final = {
    "xchunked": [b"Transfer-Encoding: xchunked"],
    "chunked in quotes": [b'Transfer-Encoding: "chunked"'],
    "chunked with a parameter": [b"Transfer-Encoding: chunked;q=1"],
    "chunked and an empty one": [b"Transfer-Encoding: chunked,"],
    "nothing": [b"Transfer-Encoding:"],
    "a word and a length": [b"Transfer-Encoding: PLANTED", LENGTH],
    "a word behind chunked": [CHUNKED, b"Transfer-Encoding: PLANTED"],
}
CHUNKS: Final = {
    "a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "a hexadecimal prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a space before it": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space behind it": b"5 \r\nhello\r\n0\r\n\r\n",
    "nothing": b"\r\nhello\r\n0\r\n\r\n",
    "only an extension": b";PLANTED\r\nhello\r\n0\r\n\r\n",
    "no number": b"PLANTED\r\nhello\r\n0\r\n\r\n",
    "a bare LF behind it": b"5\nhello\r\n0\r\n\r\n",
    "a bare CR behind it": b"5\rhello\r\n0\r\n\r\n",
    "a bare CR in the extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a bare LF in the extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a NUL in the extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "data that are too long": b"5\r\nhellohello\r\n0\r\n\r\n",
    "data that are too short": b"5\r\nhell\r\n0\r\n\r\n",
    "data without an end": b"5\r\nhello0\r\n\r\n",
    "data that end in a bare LF": b"5\r\nhello\n0\r\n\r\n",
    "data that end in a bare CR": b"5\r\nhello\r0\r\n\r\n",
    "a length in the trailer": FIVE[:-2] + b"Content-Length: 5\r\n\r\n",
    "a coding in the trailer": FIVE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    "a host in the trailer": FIVE[:-2] + b"Host: PLANTED\r\n\r\n",
    "a bare LF in the trailer": FIVE[:-2] + b"X: a\nContent-Length: 5\r\n\r\n",
}
LINES: Final = {
    "two spaces": b"GET  /PLANTED HTTP/1.1",
    "a tab": b"GET\t/PLANTED HTTP/1.1",
    "a space at its end": b"GET /PLANTED HTTP/1.1 ",
    "a space at its beginning": b" GET /PLANTED HTTP/1.1",
    "a word more": b"GET /PLANTED PLANTED HTTP/1.1",
    "no version": b"GET /PLANTED",
    "another version": b"GET /PLANTED HTTP/1.2",
    "a version in lower case": b"GET /PLANTED http/1.1",
    "HTTP/2's preface": b"PRI * HTTP/2.0",
    "another protocol": b"GET /PLANTED PLANTED/1.1",
    "a method in lower case": b"planted /PLANTED HTTP/1.1",
    "a method with a colon": b"PLANTED: /PLANTED HTTP/1.1",
    "a method with a NUL": b"GET\0 /PLANTED HTTP/1.1",
    "a method of 21 bytes": b"P" * 21 + b" /PLANTED HTTP/1.1",
    "a relative target": b"GET PLANTED HTTP/1.1",
    "the target of CONNECT": b"GET PLANTED:443 HTTP/1.1",
    "the target of OPTIONS": b"GET * HTTP/1.1",
    "an address that is none": b"GET http://[PLANTED/ HTTP/1.1",
    "a target with a NUL": b"GET /PLANTED\0 HTTP/1.1",
    "a target that is not ASCII": "GET /PLANTÉD HTTP/1.1".encode(),
    "a bare CR": b"GET /PLANTED HTTP/1.1\rHost: here",
    "a bare LF": b"GET /PLANTED HTTP/1.1\nHost: here",
    "TLS": b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03",
}
FIELDS: Final = {
    "no colon": [b"PLANTED"],
    "no name": [b": PLANTED"],
    "a name with a space": [b"PLAN TED: x"],
    "a name with a NUL": [b"PLANTED\0: x"],
    "a name that is not ASCII": ["PLANTÉD: x".encode()],
    "a name in brackets": [b"(PLANTED): x"],
    "a value with a NUL": [b"X: PLANTED\0"],
    "a value with a bare CR": [b"X: a\rPLANTED: b"],
    "a value with a bare LF": [b"X: a\nPLANTED: b"],
    "a value with a bell": [b"X: \x07PLANTED"],
    "a value with a DEL": [b"X: \x7fPLANTED"],
    "a fold": [b"X: a", b" PLANTED"],
    "two hosts": [b"Host: PLANTED"],
    "two content types": [b"Content-Type: application/json", b"Content-Type: text/PLANTED"],
}
CASES: Final[dict[str, tuple[bytes, int]]] = {
    **{f"length: {name}": (post(*fields), 400) for name, fields in LENGTHS.items()},
    **{f"coding: {name}": (post(*fields, body=FIVE), 400) for name, fields in CODINGS.items()},
    "coding: chunked in HTTP/1.0": (post(CHUNKED, body=FIVE, version=b"HTTP/1.0"), 400),
    **{f"unknown coding: {name}": (post(*fields, body=FIVE), 501) for name, fields in UNKNOWN_CODINGS.items()},
    **{f"chunk: {name}": (chunked(body), 400) for name, body in CHUNKS.items()},
    "chunk: too many fields in the trailer": (chunked(FIVE[:-2] + b"X: x\r\n" * 101 + b"\r\n"), 431),
    "chunk: a size beyond 64 bits": (chunked(b"10000000000000005\r\n" + b"x" * 1_001), 413),
    "length: beyond 64 bits": (post(b"Content-Length: 18446744073709551621"), 413),
    "length: more digits than Python reads": (post(b"Content-Length: " + b"5" * 5_000), 413),
    **{f"line: {name}": (line + b"\r\nHost: here\r\n\r\n", 400) for name, line in LINES.items()},
    "line: two empty ones before it": (b"\r\n\r\n" + request("/PLANTED"), 400),
    **{f"field: {name}": (post(LENGTH, *fields), 400) for name, fields in FIELDS.items()},
}


@pytest.mark.parametrize("half_closing", [False, True], ids=["", "half-closing"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_malformed_is_refused_and_the_next_one_is_fine(
    server: GunicornProcess, name: str, *, half_closing: bool
) -> None:
    sent, status = CASES[name]
    with server.connect() as client:
        client.sendall(sent + NEXT)
        if half_closing:
            client.shutdown(socket.SHUT_WR)
        received = everything(client)

    assert statuses(received) == [status]
    head, _, body = received.partition(b"\r\n\r\n")
    assert MARKER not in received.upper()
    assert {b"Content-Type: application/json", b"Connection: close"} < set(head.split(b"\r\n"))
    assert list(json.loads(body)) == ["detail"]
    assert ask(server, NEXT) == (200, b"")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /" + b"x" * 10_000, 414, id="request line"),
        pytest.param(post(b"X: " + b"x" * 10_000)[:-9], 431, id="header field"),
        pytest.param(chunked(b"0" * 10_000), 400, id="size of a chunk"),
        pytest.param(chunked(b"5;" + b"x" * 10_000), 400, id="extension of a chunk"),
        pytest.param(chunked(FIVE[:-2] + b"X: " + b"x" * 10_000), 431, id="field of a trailer"),
    ],
)
def test_a_line_that_does_not_end_is_not_waited_for(server: GunicornProcess, sent: bytes, status: int) -> None:
    with server.connect() as client:
        client.sendall(sent)
        assert statuses(everything(client)) == [status]


@pytest.mark.parametrize(
    "sent",
    [
        post(LENGTH),
        post(b"content-length:5"),
        post(b"Content-Length: \t 5 \t"),
        post(b"Content-Length: 000005"),
        chunked(FIVE),
        chunked(b'2;a=b\r\nhe\r\n03 ; c="d"\r\nllo\r\n000\r\nX: trailer\r\n\r\n'),
        post(b"Transfer-Encoding: \t CHUNKED \t", body=FIVE),
        b"\r\n" + post(LENGTH),
        post(LENGTH).replace(b"/PLANTED", b"http://[::1]/PLANTED"),
    ],
)
def test_what_only_looks_odd_is_answered(server: GunicornProcess, sent: bytes) -> None:
    with server.connect() as client:
        client.sendall(sent + NEXT)
        client.shutdown(socket.SHUT_WR)
        received = everything(client)

    assert statuses(received) == [200, 200]
    assert received.count(b"hello") == 1
