"""Predictions are answered in front of Flask's dispatch, which alone would be a third of their cost."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from service import trace
from service.predictions.handler import BATCH, SHORT_BYTES, Answerer, Request
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
        if path == BATCH and TAKES_STEPS in environ and (len(request.body) > SHORT_BYTES or request.content_encoding):
            return _in_steps(self._answerer, request, start_response)
        return self._answerer.answer(request).send(start_response)


def _in_steps(answerer: Answerer, request: Request, start_response: "StartResponse") -> Iterator[bytes]:
    """The same, with breaks before the answer begins."""
    reply = yield from answerer.answer_in_steps(request)
    yield from reply.send(start_response)


def request_of(environ: "WSGIEnvironment", path: str, max_body_bytes: int) -> Request:
    """Read the request; of a body that is too long, only as much as shows that it is."""
    return Request(
        path,
        environ.get("QUERY_STRING", ""),
        environ.get("CONTENT_TYPE", ""),
        environ.get("HTTP_X_CLIENT_ID", ""),
        _body(environ, max_body_bytes),
        trace.of(environ),
        environ.get("HTTP_CONTENT_ENCODING", ""),
    )


def _body(environ: "WSGIEnvironment", max_body_bytes: int) -> bytes:
    stream, enough = environ["wsgi.input"], max_body_bytes + 1
    length = environ.get("CONTENT_LENGTH")
    body = b""
    if length and length.isdecimal():
        body = stream.read(min(int(length), enough))
    elif environ.get("wsgi.input_terminated"):  # without it the end is unknown, and reading would wait forever
        body = stream.read(enough)
    return body
