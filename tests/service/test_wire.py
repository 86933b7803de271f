"""Requests as clients, proxies and platforms really send them, to a real service: each answer, by every way to it.

Ways: whole, which needs no parser; behind an empty line, which gunicorn's parser reads; cut in pieces; and all of these
with predictions answered by the middleware and by the views.
"""

import gzip
import re
import runpy
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.gunicorn_process import HOST, ROOT, GunicornProcess, gunicorn
from tests.raw_http import everything, statuses

HOUSE: Final = b'{"square_feet":2000,"bedrooms":3,"bathrooms":2,"age_years":10,"distance_to_city":5}'
BATCH: Final = b'{"houses":[' + HOUSE + b"]}"
JSON: Final = b"application/json"
PRICE: Final = b'"predicted_price"'
FORBIDDEN: Final = b"PLANTED"  # no answer has it
ORIGIN: Final = "https://a.example"
CASES: Final = ROOT.parent / "shared" / "cases" / "wire.py"


class Row(NamedTuple):
    """Bytes, the statuses of the answers to them, and what these contain."""

    sent: bytes
    status: int | tuple[int, ...]
    words: tuple[bytes, ...] = ()


def post(body: bytes = HOUSE, *fields: bytes, path: bytes = b"/predict", kind: bytes = JSON) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return lines(b"POST " + path + b" HTTP/1.1", b"Host: here", b"Content-Type: " + kind, length, *fields) + body


def get(path: bytes, *fields: bytes, method: bytes = b"GET", host: bytes = b"Host: here") -> bytes:
    return lines(method + b" " + path + b" HTTP/1.1", host, *fields)


def lines(*found: bytes) -> bytes:
    return b"\r\n".join((*found, b"", b""))


def chunked(body: bytes, *fields: bytes, coding: bytes = b"chunked", end: bytes = b"0\r\n\r\n") -> bytes:
    head = lines(b"POST /predict HTTP/1.1", b"Host: here", b"Transfer-Encoding: " + coding, *fields)
    return head + b"%x;ext=1\r\n%b\r\n" % (len(body), body) + end


def with_fields(body: bytes, fields: bytes) -> bytes:
    """A JSON object with these fields besides."""
    return body[:-1] + b"," + fields + b"}"


def coded(body: bytes, coding: bytes, path: bytes = b"/predict") -> bytes:
    return post(body, b"Content-Encoding: " + coding, path=path)


def bare(body: bytes) -> bytes:
    """Deflate without zlib's format around it, as some clients send it."""
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


H2C: Final = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
WEBSOCKET: Final = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
PREFLIGHT: Final = (
    b"Origin: https://a.example",
    b"Access-Control-Request-Method: POST",
    b"Access-Control-Request-Headers: x-api-key,content-encoding",
)
ZIPPED: Final = gzip.compress(HOUSE)
BOMB: Final = gzip.compress(b"[" * 20_000_000)
HALF: Final = len(HOUSE) // 2
IN_BATCH: Final = b'"loc":["body","houses",0,"confidence"]'
HOSTS: Final = {
    "empty": (b"Host:", 200),
    "a port": (b"Host: here:8000", 200),
    "a name of Docker": (b"Host: my_service", 200),
    "IPv6": (b"Host: [::1]:8000", 200),
    "a space": (b"Host: he re", 400),
    "a list": (b"Host: a, b", 400),
    "a path": (b"Host: here/PLANTED", 400),
    "a user": (b"Host: PLANTED@here", 400),
    "a port that is none": (b"Host: here:PLANTED", 400),
    "not ASCII": ("Host: PLANTÉD".encode(), 400),
    "another behind it": (b"Host: here\r\nHost: here", 400),
    "a header of another name": (b"X-Host: here", 400),
}
HTTP: Final = {
    **{f"Host: {name}": Row(get(b"/health", host=host), status) for name, (host, status) in HOSTS.items()},
    "no Host with a body": Row(post().replace(b"Host: here\r\n", b""), 400, (b"Host",)),
    "no Host in HTTP/1.0": Row(lines(b"GET /health HTTP/1.0"), 200, (b'"ready"', b"Connection: close")),
    "a wrong Host in HTTP/1.0": Row(lines(b"GET /health HTTP/1.0", b"Host: he re"), 400),
    "keep-alive in HTTP/1.0": Row(
        lines(b"GET /health HTTP/1.0", b"Connection: keep-alive"), 200, (b"Connection: keep-alive",)
    ),
    "the whole address": Row(get(b"http://other.example/health"), 200, (b'"ready"',)),
    "the whole address and no Host": Row(lines(b"GET http://other.example/health HTTP/1.1"), 400),
    "the whole address and a slash": Row(get(b"http://here/health/"), 200, (b'"ready"',)),
    "an escaped path": Row(post(path=b"/%70redict"), 200, (PRICE,)),
    "another method for the head": Row(get(b"/health", method=b"HEAD"), 200),
    "a method in lower case": Row(get(b"/health", method=b"get"), 400),
    "a body for a check": Row(get(b"/health", b"Content-Length: 2") + b"{}", 200),
    "h2c": Row(post(HOUSE, *H2C), 200, (PRICE,)),
    "WebSocket": Row(get(b"/health", *WEBSOCKET), 200),
    "HTTP/2's preface": Row(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "PROXY, version 1": Row(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(b"/health"), 400),
    "PROXY, version 2": Row(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + get(b"/health"), 400),
    "line feeds alone": Row(b"GET /health HTTP/1.1\nHost: here\n\n", 400),
    "close, TE": Row(get(b"/health", b"Connection: close, TE", b"TE: trailers"), 200, (b"Connection: close",)),
    "an expectation": Row(post(HOUSE, b"Expect: 100-continue"), 200, (PRICE,)),
    "an expectation of something else": Row(post(HOUSE, b"Expect: PLANTED"), 200, (PRICE,)),
    "chunks": Row(chunked(HOUSE), 200, (PRICE,)),
    "chunks and a trailer": Row(chunked(HOUSE, b"Trailer: X", end=b"0\r\nX: PLANTED\r\n\r\n"), 200, (PRICE,)),
    "chunks and a length": Row(chunked(HOUSE, b"Content-Length: 5"), 400),
    "zipped chunks": Row(chunked(ZIPPED, coding=b"gzip, chunked"), 501, (b"chunked",)),
    "two at once": Row(post() + get(b"/health"), (200, 200), (PRICE, b'"ready"')),
}
PATHS: Final = {
    "a slash behind a prediction": Row(post(path=b"/predict/"), 200, (PRICE,)),
    "a slash behind a batch": Row(post(BATCH, path=b"/predict/batch/"), 200, (b'"predictions"',)),
    "a slash and a query": Row(post(path=b"/predict/?confidence=0.5"), 200, (b'"confidence_level":0.5',)),
    "an escaped slash": Row(post(path=b"/predict%2F"), 200, (PRICE,)),
    "a slash behind a check": Row(get(b"/health/"), 200, (b'"ready"',)),
    "a slash behind the models": Row(get(b"/models/"), 200, (b"v1.0.0",)),
    "a slash behind the page": Row(get(b"/docs/"), 307, (b"Location: ../docs",)),
    "a slash and another method": Row(get(b"/predict/"), 405, (b"Allow: POST",)),
    **{
        f"not a path: {path.decode()}": Row(post(path=path), 404)
        for path in (b"/predict//", b"//predict", b"/predict/.", b"/predict%2F%2F", b"/predict;v=1", b"/Predict")
    },
    "a prediction at the page": Row(post(path=b"/"), 405, (b"Allow: ", b"GET")),
    "the page": Row(get(b"/"), 200, (b"<!doctype html>",)),
    "HAProxy's check": Row(lines(b"OPTIONS / HTTP/1.0"), 204, (b"Allow: ",)),
    "a check with HTTP/1.1": Row(get(b"/", method=b"OPTIONS"), 204),
    "a check of the server": Row(get(b"*", method=b"OPTIONS"), 204),
    "another check of the server": Row(get(b"http://here", method=b"OPTIONS"), 204),
    "what a path takes": Row(get(b"/predict", method=b"OPTIONS"), 405, (b"Allow: POST",)),
    "a page asks before it asks": Row(get(b"/predict", *PREFLIGHT, method=b"OPTIONS"), 204, (b"Content-Encoding",)),
    "a page is told why": Row(
        post(b"{}", b"Origin: https://a.example"), 422, (b"Access-Control-Allow-Origin: https://a.example",)
    ),
}
QUERIES: Final = {
    "a misspelled parameter": Row(
        post(path=b"/predict?confidnce=0.5"), 422, (b'"loc":["query"]', b"confidence, explain, model_version")
    ),
    "the same of a batch": Row(
        post(BATCH, path=b"/predict/batch?PLANTED=1"), 422, (b"confidence, explain, model_version",)
    ),
    "the same of a model": Row(get(b"/model/info?confidence=0.5"), 422, (b"Known parameters: model_version.",)),
    "a list": Row(post(path=b"/predict?confidence[]=0.5"), 422),
    "nothing": Row(post(path=b"/predict?"), 200, (PRICE,)),
    "a level as percent": Row(post(path=b"/predict?confidence=90"), 422, (b'"loc":["query","confidence"]',)),
    "two levels": Row(post(path=b"/predict?confidence=0.5&confidence=0.9"), 422, (b'"loc":["query","confidence"]',)),
    "an explanation": Row(post(path=b"/predict?explain=true"), 200, (PRICE, b'"explanation":{"base_price":')),
    "an explanation of a batch": Row(post(BATCH, path=b"/predict/batch?explain=True"), 200, (b'"base_width":',)),
    "an explanation, perhaps": Row(post(path=b"/predict?explain=1"), 422, (b'"loc":["query","explain"]',)),
    "a level twice": Row(post(path=b"/predict?confidence=0.5&confidence=0.5"), 200, (b'"confidence_level":0.5',)),
    **{f"ignored of {path.decode()}": Row(get(path + b"?t=1"), 200) for path in (b"/health", b"/models", b"/metrics")},
}
BODIES: Final = {
    "a level": Row(post(with_fields(HOUSE, b'"confidence":0.5')), 200, (b'"confidence_level":0.5',)),
    "an explanation": Row(post(with_fields(HOUSE, b'"explain":true')), 200, (PRICE, b'"contributions":[{"group":')),
    "a level of a batch": Row(
        post(with_fields(BATCH, b'"confidence":0.5'), path=b"/predict/batch"), 200, (b'"confidence_level":0.5',)
    ),
    "a level of a house in a batch": Row(
        post(BATCH.replace(HOUSE, with_fields(HOUSE, b'"confidence":0.5')), path=b"/predict/batch"), 422, (IN_BATCH,)
    ),
    "no level of a house in a batch": Row(
        post(BATCH.replace(HOUSE, with_fields(HOUSE, b'"confidence":null')), path=b"/predict/batch"), 200, (PRICE,)
    ),
    "a level as text": Row(
        post(with_fields(HOUSE, b'"confidence":"0.5"')), 422, (b'"loc":["body","confidence"]', b"float_type")
    ),
    "a level that nobody holds": Row(post(with_fields(HOUSE, b'"confidence":90')), 422, (b'["body","confidence"]',)),
    "null": Row(post(with_fields(HOUSE, b'"confidence":null,"model_version":null')), 200, (b'"confidence_level":0.9',)),
    "the level of the query": Row(
        post(with_fields(HOUSE, b'"confidence":0.5'), path=b"/predict?confidence=0.50"),
        200,
        (b'"confidence_level":0.5',),
    ),
    "another level than the query": Row(
        post(with_fields(HOUSE, b'"confidence":0.5'), path=b"/predict?confidence=0.9"),
        422,
        (b'"type":"contradiction","loc":["query","confidence"]',),
    ),
    "a version": Row(post(with_fields(HOUSE, b'"model_version":"v1.0.0"')), 200, (b'"model_version":"v1.0.0"',)),
    "a version that is not here": Row(post(with_fields(HOUSE, b'"model_version":"v9.9.9"')), 404, (b"v1.0.0",)),
    "the same of a batch": Row(
        post(with_fields(BATCH, b'"model_version":"v9.9.9"'), path=b"/predict/batch"), 404, (b"v1.0.0",)
    ),
    "no version": Row(post(with_fields(HOUSE, b'"model_version":"PLANTED"')), 422, (b'["body","model_version"]',)),
    "another version than the query": Row(
        post(with_fields(HOUSE, b'"model_version":"champion"'), path=b"/predict?model_version=v1.0.0"),
        422,
        (b'"loc":["query","model_version"]',),
    ),
    "a list for a batch": Row(post(b"[" + HOUSE + b"]", path=b"/predict/batch"), 422, (b'["body"]',)),
    "nothing": Row(post(b""), 422, (b'["body"]',)),
    "no length": Row(lines(b"POST /predict HTTP/1.1", b"Host: here"), 422, (b'["body"]',)),
    "a byte order mark": Row(post(b"\xef\xbb\xbf" + HOUSE), 422, (b'["body"]',)),
    **{
        f"of the type {kind.decode()}": Row(post(kind=kind), 200, (PRICE,))
        for kind in (b'application/json; a="b;c"; charset=UTF-8', JSON + b";charset=latin-1", b"Application/LD+JSON")
    },
    **{
        f"of the type {kind.decode()}": Row(post(kind=kind), 415, (b"Content-Type: application/json",))
        for kind in (b"application/x-www-form-urlencoded", b"text/plain", b"multipart/form-data; boundary=x")
    },
}
GOOD_CODINGS: Final = {
    "gzip": coded(ZIPPED, b"gzip"),
    "x-gzip": coded(ZIPPED, b"x-gzip"),
    "in capitals": coded(ZIPPED, b"GZIP"),
    "of a batch": coded(gzip.compress(BATCH), b"gzip", b"/predict/batch"),
    "in two members": coded(gzip.compress(HOUSE[:HALF]) + gzip.compress(HOUSE[HALF:]), b"gzip"),
    "deflate": coded(zlib.compress(HOUSE), b"deflate"),
    "deflate without zlib": coded(bare(HOUSE), b"deflate"),
    "identity": coded(HOUSE, b"identity"),
    "identity and gzip": coded(ZIPPED, b"identity, gzip"),
    "nothing": coded(HOUSE, b""),
    "chunks": chunked(ZIPPED, b"Content-Encoding: gzip"),
}
BAD_CODINGS: Final = {
    "gzip that is none": coded(HOUSE, b"gzip"),
    "gzip without its end": coded(ZIPPED[:-1], b"gzip"),
    "gzip of a wrong sum": coded(ZIPPED[:-8] + bytes(8), b"gzip"),
    "gzip with something behind it": coded(ZIPPED + FORBIDDEN, b"gzip"),
    "gzip of nothing": coded(b"", b"gzip"),
    "gzip in 40,000 members": coded(gzip.compress(b"") * 40_000, b"gzip", b"/predict/batch"),
    "deflate that is none": coded(HOUSE, b"deflate"),
    "deflate without its end": coded(zlib.compress(HOUSE)[:-1], b"deflate"),
    "deflate with something behind it": coded(zlib.compress(HOUSE) + FORBIDDEN, b"deflate"),
}
UNKNOWN_CODINGS: Final = (b"br", b"zstd", b"PLANTED", b"gzip, gzip", b"gzip, deflate", b"*")
CODINGS: Final = {
    **{name: Row(sent, 200, (b"v1.0.0",)) for name, sent in GOOD_CODINGS.items()},
    **{name: Row(sent, 400, (name.split()[0].encode(),)) for name, sent in BAD_CODINGS.items()},
    **{
        coding.decode(): Row(coded(HOUSE, coding), 415, (b"Content-Encoding", b"Accept-Encoding: gzip, deflate"))
        for coding in UNKNOWN_CODINGS
    },
    "a bomb": Row(coded(BOMB, b"gzip"), 413, (b"16,384",)),
    "a bomb of a batch": Row(coded(BOMB, b"gzip", b"/predict/batch"), 413, (b"1,048,576",)),
    "a bomb of deflate": Row(coded(zlib.compress(b"[" * 20_000_000), b"deflate"), 413),
    "a form": Row(post(ZIPPED, b"Content-Encoding: gzip", kind=b"text/plain"), 415, (b"application/json",)),
}
ROWS: Final = {
    f"{title}: {name}": row
    for title, rows in {"http": HTTP, "path": PATHS, "query": QUERIES, "body": BODIES, "coding": CODINGS}.items()
    for name, row in rows.items()
}


@pytest.fixture(scope="module", params=["true", "false"], ids=["middleware", "views"])
def service(artifacts: Path, request: pytest.FixtureRequest) -> Iterator[GunicornProcess]:
    environment = {
        "APPRAISER_ARTIFACTS": str(artifacts),
        "APPRAISER_PREDICTION_MIDDLEWARE": request.param,
        "APPRAISER_CORS_ORIGINS": ORIGIN,
    }
    with gunicorn(None, cwd=ROOT, workers=1, env=environment) as process:
        yield process
        assert "Traceback" not in process.log


def whole(sent: bytes) -> list[bytes]:
    return [sent]


def behind_an_empty_line(sent: bytes) -> list[bytes]:
    return [b"\r\n" + sent]


def body_later(sent: bytes) -> list[bytes]:
    head, end, body = sent.partition(b"\r\n\r\n")
    return [head + end, body]


def in_pieces(sent: bytes) -> list[bytes]:
    size = max(7, len(sent) // 20)
    return [sent[start : start + size] for start in range(0, len(sent), size)]


@pytest.mark.parametrize("way", [whole, behind_an_empty_line, body_later, in_pieces], ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_a_request_is_answered_as_it_should_be(
    service: GunicornProcess, name: str, way: Callable[[bytes], list[bytes]]
) -> None:
    row = ROWS[name]
    with service.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in way(row.sent):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before its end
        received = everything(client)

    expected = row.status if isinstance(row.status, tuple) else (row.status,)
    assert tuple(status for status in statuses(received) if status != 100) == expected
    assert [word for word in row.words if word not in received] == []
    assert FORBIDDEN not in received


def test_tls_on_this_port_is_refused_and_not_waited_for(service: GunicornProcess) -> None:
    with service.connect() as client:
        client.sendall(b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03")
        received = everything(client)

    assert statuses(received) == [400]


def test_a_body_that_was_coded_is_answered_as_it_was_before(service: GunicornProcess) -> None:
    answers = []
    for sent in (post(), *GOOD_CODINGS.values()):
        with service.connect() as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            answers.append(everything(client).partition(PRICE)[2].partition(b'"predicted_at"')[0])

    assert len(set(answers)) == 1
    assert answers[0]


@pytest.mark.skipif(not CASES.exists(), reason="../shared/cases/wire.py is not beside this repository")
def test_the_cases_beside_this_repository_are_all_as_expected(service: GunicornProcess) -> None:
    listed = runpy.run_path(str(CASES))
    cases = listed["CASES"]
    with ThreadPoolExecutor(len(cases)) as clients:  # each waits for the service to close, or for more than a second
        answers = clients.map(lambda case: listed["answer"](HOST, service.port, case[1]).decode("latin-1"), cases)

    for (name, _, status, words), answer in zip(cases, answers, strict=True):
        assert re.match(rf"HTTP/1\.[01] {status} ", answer), name
        assert [word for word in words if word not in answer] == [], name
    assert len(cases) > 30  # otherwise this has asked nothing
