"""From a parsed request to WSGI and back: what a WSGI application sees of a request, and what leaves of its answer.

The whole request is read first and the whole answer is written at once. Nothing is handed to a thread: a prediction
takes microseconds, handing it over takes longer. If TAKES_STEPS is in the environ, an application whose answer takes
long may return before it calls `start_response`, and yield b"" wherever other requests may be served first. PEP 3333
has no such thing, and the stock workers fail on it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from _typeshed import OptExcInfo

Address = tuple[str, int]
Headers: TypeAlias = "tuple[tuple[str, str], ...]"
FAILED: Final = "The service failed to answer; the failure has been logged."
MAPPED: Final = "::ffff:"
NO_ADDRESS: Final = ("", "")
TAKES_STEPS: Final = "service.takes_steps"
NOT_MODIFIED: Final = 304
NO_CONTENT: Final = 204
# Of RFC 9110: names are tokens, values have no controls. What an application copies from a request into a header could
# otherwise end the header, or the answer.
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "keep-alive", "upgrade", "trailer"})
"""Headers between neighbors on the way, which PEP 3333 leaves to the server."""


class Answer(NamedTuple):
    """A whole answer; `lines` are its headers as they are sent."""

    status: int
    headers: list[tuple[str, str]]
    lines: bytes
    body: bytes
    is_dated: bool
    """Whether the application says the date, as Flask does of a file."""


class WsgiAdapter:
    """Runs WSGI applications, which may do what they like: there is always an answer."""

    def __init__(
        self,
        application: WSGIApplication,
        log: logging.Logger,
        around: Callable[[WSGIApplication], WSGIApplication] = lambda application: application,
    ) -> None:
        """Take the log for failures, and what wraps the application, to wrap what answers in its place."""
        self.application: Final = application
        self._log = log
        self._around = around

    def refusing(self, status: int, detail: str, headers: Headers = ()) -> WSGIApplication:
        """Return an application that answers with an error."""
        return self._around(error_application(status, detail, headers))

    def answer(self, application: WSGIApplication, environ: WSGIEnvironment) -> Answer:
        """Answer one request. An application that raises is logged and answered 500; the next request is served."""
        found = self.begin(application, environ)
        return found.rest() if isinstance(found, Unfinished) else found

    def begin(self, application: WSGIApplication, environ: WSGIEnvironment) -> Answer | Unfinished:
        """Answer one request, or return what an application has begun that may take breaks."""
        response = _Response()
        try:
            iterable = application(environ, response.start)
            if not response.status:
                return Unfinished(response, iterable, environ, self._failed)
            try:
                response.chunks.extend(iterable)
            finally:
                _close(iterable)
            return response.finish(environ["REQUEST_METHOD"])
        except Exception:  # noqa: BLE001 -- whatever the application raises costs one answer, not the worker
            return self._failed(environ)

    def _failed(self, environ: WSGIEnvironment) -> Answer:
        self._log.exception("the application failed")
        response = _Response()
        response.chunks.extend(error_application(500, FAILED)(environ, response.start))
        return response.finish(environ["REQUEST_METHOD"])


def error_application(status: int, detail: str, headers: Headers = ()) -> WSGIApplication:
    """Return an application that answers every request with one error, as JSON."""
    body = json.dumps({"detail": detail}, separators=(",", ":"), ensure_ascii=False).encode()
    known = (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers)

    def answer(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(f"{status} {HTTPStatus(status).phrase}", list(known))
        return [body]

    return answer


class Unfinished:
    """An answer that is made in steps. It ends with an answer, whatever happens, unless it is closed."""

    def __init__(
        self,
        response: _Response,
        iterable: Iterable[bytes],
        environ: WSGIEnvironment,
        failed: Callable[[WSGIEnvironment], Answer],
    ) -> None:
        self._response = response
        self._iterable = iterable
        self._chunks = iter(iterable)
        self._environ = environ
        self._failed = failed

    def step(self) -> Answer | None:
        """Go on to the next break; None while the answer has not begun."""
        try:
            if self._is_at_a_break():
                return None
            return self._response.finish(self._environ["REQUEST_METHOD"])
        except Exception:  # noqa: BLE001 -- as `begin`
            return self._failed(self._environ)

    def _is_at_a_break(self) -> bool:
        is_at_a_break = False
        try:
            for chunk in self._chunks:
                self._response.chunks.append(chunk)
                is_at_a_break = not (chunk or self._response.status)
                if is_at_a_break:
                    break
        finally:
            if not is_at_a_break:
                _close(self._iterable)
        return is_at_a_break

    def rest(self) -> Answer:
        """Do all that is left of it."""
        answer = None
        while answer is None:
            answer = self.step()
        return answer

    def close(self) -> None:
        """Give it up."""
        _close(self._iterable)


def _close(iterable: Iterable[bytes]) -> None:
    close = getattr(iterable, "close", None)
    if close is not None:
        close()


class _Response:
    """The arguments of `start_response`, and the chunks of the body."""

    __slots__ = ("chunks", "headers", "status")

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Be the `start_response` of PEP 3333; the callable it returns adds to the body."""
        error = exc_info[1] if exc_info else None
        if error is not None and self.chunks:
            raise error  # too late to replace an answer that has begun
        if error is None and self.status:
            message = "start_response was called twice without exc_info"
            raise RuntimeError(message)
        self.status, self.headers = status, headers
        return self.chunks.append

    def finish(self, method: str) -> Answer:
        """Return the answer as it is sent, always with its length."""
        if not self.status:
            message = "the application returned without calling start_response"
            raise RuntimeError(message)
        status, headers, body = int(self.status[:3]), self.headers, b"".join(self.chunks)
        length, is_dated, lines = _encode(headers, is_length_kept=status != NO_CONTENT)
        if status == NO_CONTENT:
            body = b""
        elif body:
            if length is None:
                lines.append(b"Content-Length: %d\r\n" % len(body))
            elif length != str(len(body)):
                message = f"expected a Content-Length of {len(body)}, got {length!r}"
                raise ValueError(message)
            if method == "HEAD" or status == NOT_MODIFIED:
                body = b""
        # To HEAD and in a 304 the length is that of a body which is not there: only the application can know it.
        elif length is None and method != "HEAD" and status != NOT_MODIFIED:
            lines.append(b"Content-Length: 0\r\n")
        return Answer(status, headers, b"".join(lines), body, is_dated)


def plain(host: str) -> str:
    """Return the address as IPv4 writes it where IPv6 only wraps it, as a socket of both families does."""
    return host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host


def _encode(headers: list[tuple[str, str]], *, is_length_kept: bool) -> tuple[str | None, bool, list[bytes]]:
    """The Content-Length, whether there is a Date, and the lines."""
    length, is_dated, lines = None, False, []
    for name, value in headers:
        lower, line = _line(name, value)
        if lower == "content-length":
            length = value
            if not is_length_kept:
                continue
        elif lower == "date":
            is_dated = True
        lines.append(line)
    return length, is_dated, lines


@lru_cache(maxsize=512)  # most of an application's headers are the same in every answer
def _line(name: str, value: str) -> tuple[str, bytes]:
    """A header's name in lower case, and its line. Raises ValueError for one that may not be sent."""
    lower = name.lower()
    if not TOKEN.fullmatch(name) or lower in HOP_BY_HOP:
        message = f"the application may not send this header: {name!r}"
        raise ValueError(message)
    if not (value.isascii() and value.isprintable()) and not VALUE.fullmatch(value):
        message = f"the value of the header {name} may not be sent"  # nor be logged: it may be secret
        raise ValueError(message)
    return lower, f"{name}: {value}\r\n".encode("latin-1")


def shared_by(
    base: Mapping[str, object], server: Address | None, client: Address | None, root_path: str
) -> WSGIEnvironment:
    """Return what is the same for all requests of a connection: `base`, which all connections share, and addresses.

    A UNIX socket has none. SCRIPT_NAME is the root path, for the paths that are below it.
    """
    (host, port), (remote_host, remote_port) = server or NO_ADDRESS, client or NO_ADDRESS
    return {
        **base,
        "SCRIPT_NAME": root_path.encode().decode("latin-1").rstrip("/"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": remote_host,
        "REMOTE_PORT": str(remote_port),
    }


def path_of(raw: bytes, root: str) -> tuple[str, str]:
    """Return SCRIPT_NAME and PATH_INFO below a root path, which may be empty; a path that is not below it has none."""
    path = _path(raw)
    if root and (path + "/").startswith(root + "/"):
        return root, path[len(root) :]
    return "", path


def _path(raw: bytes) -> str:
    """Return the path from the bytes as received, since gunicorn's `path` has lost what is not UTF-8."""
    if not raw.startswith(b"/") and b"://" in raw:  # the request line of a proxy's client: http://host/path
        raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("latin-1")
