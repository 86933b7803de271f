"""Lets pages of other origins ask the service, from the browsers of their visitors: only where the operator allows it.

https://fetch.spec.whatwg.org/#http-cors-protocol has the protocol. Cookies are never asked for, so none are allowed.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from service.reply import Headers, Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ANY: Final = "*"
VARY: Final = ("Vary", "Origin")  # so that no cache gives one page what was meant for another
_PREFLIGHT: Final[Headers] = (
    ("Access-Control-Allow-Methods", "GET, POST"),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Encoding, Content-Type, Traceparent, X-API-Key, X-Client-Id, X-Request-ID",
    ),
    ("Access-Control-Max-Age", "600"),
)
_EXPOSED: Final[Headers] = (("Access-Control-Expose-Headers", "Retry-After, X-Cache, X-Request-ID"),)


class Cors:
    """A WSGI application around another; it answers what browsers ask before they ask."""

    def __init__(self, application: "WSGIApplication", origins: Collection[str]) -> None:
        self._application = application
        self._origins = frozenset(origins)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a preflight; mark any other answer as readable for a page or not."""
        origin = environ.get("HTTP_ORIGIN")
        is_allowed = origin is not None and not self._origins.isdisjoint((origin, ANY))
        told: Headers = (VARY, ("Access-Control-Allow-Origin", str(origin))) if is_allowed else (VARY,)
        if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            return Reply(204, (*told, *(_PREFLIGHT if is_allowed else ())), b"").send(start_response)

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:  # noqa: ANN401 -- PEP 3333
            return start_response(line, [*headers, *told, *(_EXPOSED if is_allowed else ())], exc_info)

        return self._application(environ, start)
