"""Predictions are answered in front of Flask's dispatch, which alone would be a third of their cost."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from service import trace
from service.predictions.bodies import Steps
from service.predictions.handler import BATCH, SHORT_BYTES, Answerer, Request
from service.predictions.parts import may_ask_for_parts
from service.reply import Reply
from worker.wsgi import TAKES_STEPS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class PredictionMiddleware:
    """A WSGI application around another: POSTs to the prediction routes end here, the rest goes on."""

    def __init__(self, app: "WSGIApplication", answerer: Answerer) -> None:
        self._app = app
        self._answerer = answerer

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a prediction, or pass the request on."""
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "POST" or path not in self._answerer.paths:
            return self._app(environ, start_response)
        request = request_of(environ, path, self._answerer.body_bytes[path])
        if TAKES_STEPS not in environ or (path == BATCH and _is_short(request)):
            return self._answerer.answer(request).send(start_response)
        found = self._answerer.begin(request)
        return found.send(start_response) if isinstance(found, Reply) else _in_steps(found, start_response)


def _is_short(batch: Request) -> bool:
    """Whether it is answered in one go: in a millisecond or so, unless it asks for more than prices."""
    return (
        len(batch.body) <= SHORT_BYTES and not batch.content_encoding and not may_ask_for_parts(batch.query, batch.body)
    )


def _in_steps(steps: Steps[Reply], start_response: "StartResponse") -> Iterator[bytes]:
    """The same, with breaks before the answer begins."""
    reply = yield from steps
    yield from reply.send(start_response)


def request_of(environ: "WSGIEnvironment", path: str, max_body_bytes: int) -> Request:
    """Read the request; of a body that is too long, only as much as shows that it is."""
    return Request(
        path,
        environ.get("QUERY_STRING", ""),
        environ.get("CONTENT_TYPE", ""),
        environ.get("HTTP_X_CLIENT_ID", ""),
        read_of(environ, max_body_bytes),
        trace.of(environ),
        environ.get("HTTP_CONTENT_ENCODING", ""),
    )


def read_of(environ: "WSGIEnvironment", max_body_bytes: int) -> bytes:
    """The body of a request; of one that is too long, only as much as shows that it is."""
    stream, enough = environ["wsgi.input"], max_body_bytes + 1
    length = environ.get("CONTENT_LENGTH")
    body = b""
    if length and length.isdecimal():
        body = stream.read(min(int(length), enough))
    elif environ.get("wsgi.input_terminated"):  # without it the end is unknown, and reading would wait forever
        body = stream.read(enough)
    return body
