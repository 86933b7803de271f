"""From ASGI to WSGI and back: a WSGI application run inline on the event loop.

The whole request is read first and the whole answer is sent at once. Nothing is handed to a thread: a prediction takes
microseconds, handing it over takes longer.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from service.errors import FAILED
from service.reply import json_reply

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Mapping
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from _typeshed import OptExcInfo

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    AsgiApplication = Callable[[Message, Receive, Send], Awaitable[None]]


NOT_MODIFIED = 304


class WsgiAdapter:
    """An ASGI application that answers with a WSGI one."""

    def __init__(
        self,
        application: WSGIApplication,
        base: Mapping[str, object],
        log: logging.Logger,
        around: Callable[[WSGIApplication], WSGIApplication] = lambda application: application,
    ) -> None:
        """Take the environ keys that all requests share (`wsgi.errors`, ...) and the log for failures.

        `around` wraps what answers in the application's place, as the application is wrapped itself.
        """
        self._application = application
        self._base = base
        self._log = log
        self._around = around

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request. An application that raises is logged and answered 500; the next request is served.

        :raise ValueError: for a scope other than http and lifespan.
        """
        if scope["type"] != "http":
            await _lifespan(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is not None:
            await self._answer(self._application, scope, body, send)

    def refusing(self, status: int, detail: str) -> AsgiApplication:
        """An ASGI application that answers with an error, without having read the request."""
        application = self._around(lambda _, start: json_reply(status, {"detail": detail}).send(start))

        async def refuse(scope: Message, _receive: Receive, send: Send) -> None:
            await self._answer(application, scope, b"", send)

        return refuse

    async def _answer(self, application: WSGIApplication, scope: Message, body: bytes, send: Send) -> None:
        try:
            start, content = self._run(application, environ_of(scope, body, self._base))
            await send(start)  # inside the try: here the server refuses what would break the framing (a CR in a value)
        except Exception:  # noqa: BLE001 -- whatever the application raises costs one answer, not the worker
            self._log.exception("the application failed")
            start, content = _json_answer(500, FAILED)
            await send(start)
        await _send_body(scope, content, send)

    def _run(self, application: WSGIApplication, environ: WSGIEnvironment) -> tuple[Message, bytes]:
        response = _Response()
        iterable = application(environ, response.start)
        try:
            response.chunks.extend(iterable)
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()
        return response.finish(environ["REQUEST_METHOD"])


class _Response:
    """What the application said to `start_response`, and the chunks of its body."""

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

    def finish(self, method: str) -> tuple[Message, bytes]:
        """Return the ASGI start message and the body. The answer is whole, so it always says its length."""
        if not self.status:
            message = "the application returned without calling start_response"
            raise RuntimeError(message)
        content = b"".join(self.chunks)
        status = int(self.status[:3])
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        # To HEAD and in a 304 the length is that of a body which is not there: only the application can know it.
        if (content or (method != "HEAD" and status != NOT_MODIFIED)) and not _has_length(headers):
            headers.append((b"Content-Length", b"%d" % len(content)))
        return {"type": "http.response.start", "status": status, "headers": headers}, content


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-length" for name, _ in headers)


def environ_of(scope: Message, body: bytes, base: Mapping[str, object]) -> WSGIEnvironment:
    """Return the PEP 3333 environ of an ASGI http scope and its body: every string holds bytes, as latin-1."""
    server, client = scope["server"] or ("", ""), scope["client"] or ("", "")
    script_name, path_info = _split_path(scope["raw_path"], scope["root_path"])
    environ = {
        **base,
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path_info,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": "HTTP/" + scope["http_version"],
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
    }
    for name, value in scope["headers"]:
        key, text = _environ_key(name), value.decode("latin-1")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + text
        environ[key] = text
    environ.pop("HTTP_UPGRADE", None)  # nothing is upgraded here; Flask would refuse the request for it
    if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
        environ["CONTENT_LENGTH"] = str(len(body))  # the chunks are joined: to the application it is an ordinary body
    return environ


@lru_cache(maxsize=256)  # clients choose the names, so the cache is bounded
def _environ_key(name: bytes) -> str:
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key


def _split_path(raw_path: bytes, root_path: str) -> tuple[str, str]:
    """Return SCRIPT_NAME and PATH_INFO, from the bytes as received: the scope's `path` has lost what is not UTF-8."""
    if not raw_path.startswith(b"/") and b"://" in raw_path:  # the request line of a proxy's client: http://host/path
        raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
    if b"%" in raw_path:
        raw_path = unquote_to_bytes(raw_path)
    path = raw_path.decode("latin-1")
    root = root_path.encode().decode("latin-1").rstrip("/")
    if root and (path + "/").startswith(root + "/"):
        return root, path[len(root) :]
    return "", path


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None when the client has gone before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _lifespan(scope: Message, receive: Receive, send: Send) -> None:
    """Agree to start and to stop: a WSGI application has nothing to do for either."""
    if scope["type"] != "lifespan":
        message = f"expected a scope of type http or lifespan, got {scope['type']}"
        raise ValueError(message)
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


def _json_answer(status: int, detail: str) -> tuple[Message, bytes]:
    """Return the ASGI start message and the body of an error, as all our errors are: `{"detail": "one sentence"}`."""
    reply = json_reply(status, {"detail": detail})
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    return {"type": "http.response.start", "status": reply.status, "headers": headers}, reply.body


async def _send_body(scope: Message, content: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": content if scope["method"] != "HEAD" else b""})
