"""The requests that nearly all are: whole in one piece, framed by their length, without anything between neighbors.

gunicorn's parser takes four times as long for them, in Python, byte by byte. Whatever is not as simple as that is left
to gunicorn's, and so is every refusal; what is read here, gunicorn reads alike (a test compares them).
"""

from __future__ import annotations

import io
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.http_rules import is_host
from worker.wsgi import environ_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIEnvironment

TOKEN: Final = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+"  # of RFC 9110, but `_`: gunicorn trusts such names to proxies only
HEAD: Final = re.compile(
    rb"([A-Z]{3,20}) (/[!-$&->@-~]*)(?:\?([!-~]*))? HTTP/1\.1\r\n((?:" + TOKEN + rb":[\t -~\x80-\xff]*\r\n)+)\r\n"
)
FIELDS: Final = re.compile(rb"([^:]+):([^\r]*)\r\n")
# They concern who stands next to us, or how the request is framed.
NOT_ORDINARY: Final = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_UPGRADE", "HTTP_TE", "HTTP_TRAILER"})
MAX_DIGITS: Final = 9


class Bounds(NamedTuple):
    """What may be taken here; gunicorn's parser refuses, or takes, the rest."""

    head: int
    """Bytes: as long as any line may be, so that no line is too long."""
    fields: int
    body: int
    """Bytes."""
    secure: Mapping[str, str]
    """Keys of the environ by which this peer may say that its client came by https, each with the word for it."""
    larger_bodies: Mapping[str, int] = MappingProxyType({})
    """Bytes of a body by path, where they are more than that."""


def ordinary(data: bytes, shared: WSGIEnvironment, bounds: Bounds) -> WSGIEnvironment | None:
    """Return the PEP 3333 environ of a request, the same as `environ_of`; None for what is not ordinary."""
    head = HEAD.match(data)
    if head is None or head.end() > bounds.head:
        return None
    method, path, query, lines = head.groups()
    fields = FIELDS.findall(lines)
    environ = shared.copy()
    for name, value in fields:
        key = environ_key(name)
        if key in environ or key in NOT_ORDINARY:
            return None
        environ[key] = value.strip(b" \t").decode("latin-1")
    length = environ.get("CONTENT_LENGTH", "0")
    body = data[head.end() :]
    scheme = _scheme(environ, bounds.secure) if bounds.secure else "http"
    if (
        scheme is None
        or not is_host(environ.get("HTTP_HOST"))
        or len(fields) > bounds.fields
        or len(length) > MAX_DIGITS
        or not length.isdecimal()
        or int(length) != len(body)
        or (len(body) > bounds.body and len(body) > bounds.larger_bodies.get(path.decode("latin-1"), 0))
        or environ.get("HTTP_CONNECTION", "keep-alive") != "keep-alive"
    ):
        return None
    environ["REQUEST_METHOD"] = method.decode("latin-1")
    environ["PATH_INFO"] = path.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1") if query else ""
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    environ["wsgi.url_scheme"] = scheme
    environ["wsgi.input"] = io.BytesIO(body)
    return environ


def _scheme(environ: WSGIEnvironment, secure: Mapping[str, str]) -> str | None:
    """How the client came, as a proxy says; None where two of its headers disagree."""
    said = {environ[key] == word for key, word in secure.items() if key in environ}
    if len(said) > 1:
        return None
    return "https" if True in said else "http"
