"""Predictions are answered in front of Flask's dispatch, which alone would be a third of their cost."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from service import trace
from service.answer import Answerer, Request

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
        reply = self._answerer.answer(request_of(environ, path, self._answerer.max_body_bytes))
        return reply.send(start_response)


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
    elif environ.get("wsgi.input_terminated"):  # else nobody says where it ends, and reading would wait forever
        body = stream.read(enough)
    return body
