"""Wraps every answer, whatever gives it: its id, its security headers, its count, its log line."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pricing.ids import Ids
from service.access.error_page import for_people
from service.access.security_headers import DATA_HEADERS, headers_of
from service.errors import refusal
from service.observability.logs import RequestLog
from service.observability.metrics import WorkerMetrics
from service.reply import REASONS, Headers
from service.trace import REQUEST_ID, Trace, begin

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.routing import Map

OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

logger = logging.getLogger(__name__)


def name_of(rule: str) -> str:
    """The name of a route in metrics, logs and access control, by its rule.

    `/static/<path:filename>` is `/static/`, as its files have any path. `/v2/models/<name>` is `/v2/models/{name}`.
    """
    return rule.partition("<")[0] if "<path:" in rule else rule.replace("<", "{").replace(">", "}")


class Routes:
    """Names for paths: as many as the application has, whatever clients ask for."""

    def __init__(self, rules: "Map") -> None:
        found = [rule.rule for rule in rules.iter_rules()]
        self._whole = {rule for rule in found if "<" not in rule}
        self._beginnings = sorted(name_of(rule) for rule in found if "<path:" in rule)
        self._patterns = [
            (re.compile(re.sub("<[^>]*>", "[^/]+", rule)), name_of(rule))
            for rule in sorted(found)
            if "<" in rule and "<path:" not in rule
        ]

    def without_slash(self, path: str) -> str:
        """The path of a route, where one slash at its end is all that is too much: the original redirected to it."""
        shorter = path.removesuffix("/")
        return shorter if shorter in self._whole and not shorter.endswith("/") else path

    def of(self, path: str) -> str:
        """The route of a path."""
        if path in self._whole:
            return path
        beginning = next((beginning for beginning in self._beginnings if path.startswith(beginning)), None)
        return beginning or next((name for pattern, name in self._patterns if pattern.fullmatch(path)), OTHER)


class Observer:
    """Wraps WSGI applications; made once, so that all answers of a process are logged alike."""

    def __init__(
        self, routes: Routes, metrics: WorkerMetrics, log: RequestLog | None, ids: Ids, unparsed: Headers = ()
    ) -> None:
        """`unparsed` are further headers of what answers a request that could not be read, origin and all."""
        self._routes = routes
        self._metrics = metrics
        self._log = log
        self._ids = ids
        self._unparsed = unparsed

    def around(self, application: "WSGIApplication") -> "WSGIApplication":
        """The same application, observed. What it raises is logged and answered 500."""
        return partial(self._answer, application)

    def unparsed(self, status: int) -> Headers:
        """Count what was no request, and return the headers that its answer shall have."""
        trace = Trace(self._ids.one())
        self._metrics.unparsed(status)
        self._write(trace, status, {})
        return (*DATA_HEADERS, (REQUEST_ID, trace.request_id), *self._unparsed)

    def _answer(
        self, application: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        begun = time.perf_counter()
        trace = begin(environ, self._ids)
        trace.route = self._routes.of(environ["PATH_INFO"])
        if trace.route == OTHER:  # before the guard and the handlers look at the path
            environ["PATH_INFO"] = self._routes.without_slash(environ["PATH_INFO"])
            trace.route = self._routes.of(environ["PATH_INFO"])
        status = ""

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:  # noqa: ANN401 -- PEP 3333
            nonlocal status
            status = line[:3]
            headers = [*headers, *(trace.security or headers_of(trace.route)), (REQUEST_ID, trace.request_id)]
            return start_response(line, headers, exc_info) if exc_info else start_response(line, headers)

        try:
            answer = application(environ, start)
            if not status:  # it takes breaks
                return self._finish(answer, environ, trace, begun, start, lambda: status)
        except Exception as error:  # noqa: BLE001 -- whatever it raises is told and costs one answer
            reply = for_people(refusal(error, trace.request_id), environ)
            replacing = sys.exc_info() if status else None  # this then takes the place of the former status
            start(REASONS[reply.status], list(reply.headers), replacing)
            answer = [reply.body]
        # without a status the server answers 500
        self._tell(environ, trace, status or "500", time.perf_counter() - begun)
        return answer

    def _finish(  # noqa: PLR0913, PLR0917 -- the variables of `_answer`, which has returned
        self,
        answer: Iterable[bytes],
        environ: "WSGIEnvironment",
        trace: Trace,
        begun: float,
        start: "StartResponse",
        status: "Callable[[], str]",
    ) -> Iterator[bytes]:
        """Pass on an answer that is made in steps, and log it at its end; an answer that is given up is not logged."""
        try:
            yield from answer
        except Exception as error:  # noqa: BLE001 -- as `_answer`
            reply = for_people(refusal(error, trace.request_id), environ)
            start(REASONS[reply.status], list(reply.headers), sys.exc_info() if status() else None)
            yield reply.body
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()
        self._tell(environ, trace, status() or "500", time.perf_counter() - begun)

    def _tell(self, environ: "WSGIEnvironment", trace: Trace, status: str, seconds: float) -> None:
        route, method = trace.route, environ["REQUEST_METHOD"]
        method = method if method in METHODS else OTHER
        self._metrics.answered(route, method, status, trace.version, seconds)
        if trace.key_id is not None:
            self._metrics.asked_with(trace.key_id, status)
        self._write(trace, int(status), {"method": method, "route": route, "milliseconds": int(seconds * 1e6) / 1e3})

    def _write(self, trace: Trace, status: int, facts: dict[str, object]) -> None:
        if self._log is None:
            return
        facts["request_id"], facts["key_id"] = trace.request_id, trace.key_id
        if trace.version:
            facts["version"], facts["arm"], facts["rows"] = trace.version, trace.arm, trace.rows
        if trace.parent:
            facts |= trace.parent._asdict()
        try:
            self._log.write(status, facts)
        except OSError:  # the reader leaves no room, or the disk is full
            self._metrics.log_line_dropped()
