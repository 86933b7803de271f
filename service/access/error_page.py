"""Errors in the form that their readers know: pages for a browser that follows a link, and the protocol's own.

* Only a GET or HEAD whose Accept prefers HTML gets a page, as browsers send it; any other request gets JSON.
* Below /v2, an error has the form of the Open Inference Protocol: its sentence as `error`.
* A page has the sentence of the JSON, and links to the pages of the service, relative to the path of the request.
"""

from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service import trace
from service.access.security_headers import PAGE_HEADERS
from service.reply import JSON_TYPE, Reply, json_reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HTML: Final = "text/html"
PROTOCOL: Final = "/v2"
"""The root of the Open Inference Protocol."""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title} · Appraiser</title>
  <link rel="icon" href="{root}static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="{root}static/page.css">
</head>
<body>
  <main class="error">
    <p class="code">{status}</p>
    <h1>{title}</h1>
    <p>{detail}</p>
    <p><a href="{root}">Price a house</a> <a href="{root}docs">API</a></p>
  </main>
</body>
</html>
"""


def for_people(reply: Reply, environ: "WSGIEnvironment") -> Reply:
    """The error `reply` as a page if a browser navigates, or in the form of its path; the same reply for others."""
    if is_of_protocol(environ):
        return in_protocol(reply)
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"} or not _prefers_html(environ.get("HTTP_ACCEPT", "")):
        return reply
    trace.of(environ).security = PAGE_HEADERS
    body = _PAGE.format(
        status=reply.status, title=HTTPStatus(reply.status).phrase, detail=escape(_detail(reply)), root=_root(environ)
    ).encode()
    kept = [(name, value) for name, value in reply.headers if name not in {"Content-Type", "Content-Length"}]
    return Reply(
        reply.status,
        (
            ("Content-Type", f"{HTML}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
            *kept,
        ),
        body,
    )


def is_of_protocol(environ: "WSGIEnvironment") -> bool:
    """Whether the path is one of the Open Inference Protocol."""
    path: str = environ["PATH_INFO"]
    return path == PROTOCOL or path.startswith(f"{PROTOCOL}/")


def in_protocol(reply: Reply) -> Reply:
    """An error of this service as the Open Inference Protocol has it: `{"error": "sentence"}`."""
    kept = [(name, value) for name, value in reply.headers if name not in {"Content-Type", "Content-Length"}]
    return json_reply(reply.status, {"error": _detail(reply)}, tuple(kept))


class ErrorsOfProtocol:
    """A WSGI application around one that answers with an error, such as the worker's: the error as its path has it."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass the error on, in the form of its path."""
        if not is_of_protocol(environ):
            return self._app(environ, start_response)
        started: list[Any] = []

        def start(*arguments: Any) -> Any:  # noqa: ANN401 -- PEP 3333
            started[:] = arguments

        body = b"".join(self._app(environ, start))
        status, headers, *_ = started
        return in_protocol(Reply(int(status[:3]), tuple(headers), body)).send(start_response)


def _prefers_html(accept: str) -> bool:
    return HTML in accept and parse_accept_header(accept, MIMEAccept).best_match([JSON_TYPE, HTML]) == HTML


def _detail(reply: Reply) -> str:
    detail = orjson.loads(reply.body)["detail"]
    return detail if isinstance(detail, str) else "; ".join(problem["msg"] for problem in detail)


def _root(environ: "WSGIEnvironment") -> str:
    """The way from the path that was asked for to that of the service, as a browser resolves it."""
    target: str = environ.get("RAW_URI") or environ["PATH_INFO"]
    path = target.partition("?")[0]
    path = path if path.startswith("/") else path.partition("://")[2]  # a proxy may send the whole address
    return "../" * (path[path.find("/") + 1 :].count("/")) or "./"
