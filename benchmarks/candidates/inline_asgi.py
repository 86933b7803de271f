"""The service behind an ASGI server, inline: `gunicorn -k uvicorn_worker.UvicornWorker ...inline_asgi:app`.

What uvicorn's worker would need to serve it: the whole body is read, and the WSGI application called on the loop.
"""

import io
from typing import TYPE_CHECKING, Any

from service.app import create_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

application = create_app().wsgi_app


async def app(
    scope: dict[str, Any],
    receive: "Callable[[], Awaitable[dict[str, Any]]]",
    send: "Callable[[dict[str, Any]], Awaitable[None]]",
) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"],
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key] = value.decode("latin-1")
    started: list[Any] = []
    content = b"".join(application(environ, lambda *said: started.append(said)))  # type: ignore[arg-type]
    status, headers = started[-1][:2]
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": encoded})
    await send({"type": "http.response.body", "body": content})
