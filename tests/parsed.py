"""What our parser makes of bytes, in one piece or in many, and what gunicorn's makes of them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn.asgi.parser import CallbackRequest, PythonProtocol
from gunicorn.asgi.protocol import _RequestHeaderPolicy
from gunicorn.config import Config
from gunicorn.util import split_request_uri

from worker.http_rules import FREE_LINE, Rules
from worker.parser import KnownHeads, RequestParser
from worker.wsgi import shared_by

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

SHARED: Final = shared_by({"wsgi.multithread": False}, ("127.0.0.1", 8000), ("127.0.0.1", 50000), "")
RULES: Final = Rules(line=4_094, fields=20, field_line=1_000)
"""Of a peer whose word for its client does not count."""
OF_A_PROXY: Final = replace(RULES, secure={"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_SSL": "on"})


class Parsed(NamedTuple):
    """A whole request, and what comes behind it."""

    environ: "WSGIEnvironment"
    body: bytes
    rest: bytes
    is_kept_alive: bool


def pieces(data: bytes, *cuts: int) -> Iterator[bytes]:
    """The data, cut at these places."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return (data[start:end] for start, end in pairwise(places))


def ours(data: bytes, *cuts: int, rules: Rules = RULES, shared: "WSGIEnvironment" = SHARED) -> Parsed | None:
    """A request as our parser reads it, the first time and once its header is known; None for a part of one.

    Raises MalformedError.
    """
    known = KnownHeads.none()
    found, again, known_by_now = (parsed(RequestParser(rules, shared, known), data, *cuts) for _ in range(3))
    assert found == again == known_by_now
    return found


def parsed(parser: RequestParser, data: bytes, *cuts: int) -> Parsed | None:
    """A request as this parser reads it; None for a part of one. Raises MalformedError."""
    rest = b""
    for piece in pieces(data, *cuts):
        left = piece
        if parser.is_complete:
            rest += left
            continue
        if parser.environ is None:
            left = parser.feed_head(left)
            if parser.environ is not None and not parser.is_known:
                parser.remember()
        if parser.environ is not None:
            parser.feed_body(left)
            rest = parser.rest
    if not parser.is_complete:
        parser.close()
        return None
    body = bytes(parser.body)
    environ = parser.request()
    assert environ.pop("wsgi.input").read() == body
    return Parsed(environ, body, rest, parser.is_kept_alive)


def gunicorns(data: bytes, rules: Rules = RULES) -> Parsed | None:
    """A request as gunicorn's parser for event loops reads it; None for a part of one.

    Raises ParseError, HTTPParseException, or ValueError for a target that is no URI.
    """
    chunks: list[bytes] = []
    found: list[CallbackRequest] = []

    def complete_headers() -> bool:
        request = CallbackRequest.from_parser(parser)
        split_request_uri(request.uri)
        secure = {key.removeprefix("HTTP_").replace("_", "-"): word for key, word in rules.secure.items()}
        config = Config()
        config.set("header_map", rules.header_map)
        policy = _RequestHeaderPolicy(config, None, request.scheme, request.version)
        policy.apply(request, (secure, sorted(rules.forwarders)))
        found.append(request)
        return False

    limits = {
        "limit_request_line": rules.line,
        "limit_request_fields": rules.fields,
        "limit_request_field_size": rules.field_line,
    }
    parser = PythonProtocol(
        on_headers_complete=complete_headers,
        on_body=chunks.append,
        permit_unconventional_http_method=rules.request_line is FREE_LINE,
        **limits,
    )
    parser.feed(data)
    if not parser.is_complete:
        return None
    body = b"".join(chunks)
    return Parsed(environ_of(found[0], body), body, parser.remaining(), not found[0].should_close())


def environ_of(request: Any, body: bytes) -> "WSGIEnvironment":  # noqa: ANN401 -- gunicorn carries no types
    """The environ of PEP 3333, from gunicorn's request."""
    environ = SHARED.copy()
    raw = request.raw_path
    if not raw.startswith(b"/") and b"://" in raw:
        raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
    environ["PATH_INFO"] = unquote_to_bytes(raw).decode("latin-1")
    environ["REQUEST_METHOD"] = request.method
    environ["QUERY_STRING"] = request.query
    environ["SERVER_PROTOCOL"] = "HTTP/{}.{}".format(*request.version)
    environ["wsgi.url_scheme"] = request.scheme
    for name, value in request.headers_bytes:
        key, text = name.decode("latin-1").upper(), value.decode("latin-1")
        key = ("" if key in {"CONTENT-TYPE", "CONTENT-LENGTH"} else "HTTP_") + key.replace("-", "_")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + text
        environ[key] = text
    environ.pop("HTTP_UPGRADE", None)
    if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ
