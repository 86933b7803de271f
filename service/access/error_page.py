"""Errors as pages, for a browser that follows a link.

* Only a GET or HEAD whose Accept prefers HTML gets a page, as browsers send it; any other request gets JSON.
* A page has the sentence of the JSON, and links to the pages of the service, relative to the path of the request.
"""

from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service import trace
from service.access.security_headers import PAGE_HEADERS
from service.reply import JSON_TYPE, Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HTML: Final = "text/html"
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
    """The error `reply` as a page if a browser navigates; the same reply for any other client."""
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
