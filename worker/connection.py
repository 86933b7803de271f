"""One connection of the worker: what it waits for, until when, and what happens then.

* There is one deadline at any time, and the worker calls `expire` when it has passed.
* A request that is whole is answered where it stands, without a task or a future.
* A body has a limit, a refusal is readable for its client, and pipelined requests are answered one a turn of the loop.
"""

from __future__ import annotations

import asyncio
import enum
import math
import socket
import struct
import time
from datetime import timedelta
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from worker.http_rules import UNKNOWN_CODING, MalformedError, refusal_of
from worker.limits import TICK_SECONDS
from worker.parser import RequestParser
from worker.proxy_protocol import Preamble
from worker.wsgi import Unfinished, error_application, plain, shared_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from worker.http_rules import Rules
    from worker.limits import Limits
    from worker.parser import KnownHeads
    from worker.turns import Turns
    from worker.wsgi import Address, Answer, Headers, WsgiAdapter

# For SO_LINGER: else the kernel keeps megabytes of an answer for minutes after the socket of its client is closed.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# From here on, bytes: an answer's body is written next to its header, not joined to it; half a header needs a place.
LARGE = 1 << 16
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
MALFORMED: Final = {
    400: "This is not a valid HTTP/1.1 request.",
    413: "The body is too large.",
    414: "The request line is too long.",
    431: "A header field is too long, or there are too many of them.",
    UNKNOWN_CODING.status: UNKNOWN_CODING.detail,
}
PHRASES: Final = {413: "Payload Too Large", 414: "URI Too Long"}  # RFC 9110 has newer ones than Python 3.11


class Phase(enum.Enum):
    """The event that a connection waits for. AWAITING_REQUEST and IDLE ones have no request in hand."""

    AWAITING_REQUEST = enum.auto()  # its first byte
    HEADER = enum.auto()  # the rest of a header
    BODY = enum.auto()  # the rest of a body
    WRITING = enum.auto()  # the client to take the answer
    IDLE = enum.auto()  # the first byte of another request
    DRAINING = enum.auto()  # the client to stop sending and to close


class Owner(Protocol):
    """The part of a worker that a connection uses."""

    adapter: WsgiAdapter
    alive: bool
    base: Mapping[str, object]
    buffered: set[Connection]
    limits: Limits
    log: Any
    loop: asyncio.AbstractEventLoop
    cfg: Any
    is_logging: bool
    keepalive: float
    pre_request: Callable[[Any, Any], object] | None
    post_request: Callable[[Any, Any, Any, Any], object] | None
    stop_by: float
    turns: Turns
    unparsed: Callable[[int], Headers]

    def rules_for(self, peer: object) -> tuple[Rules, KnownHeads]:
        """The rules for the requests of a peer, and the headers that are known by them."""

    def connected(self, connection: Connection) -> None:
        """Remember it."""

    def disconnected(self, connection: Connection) -> None:
        """Forget it."""

    def answered(self) -> None:
        """Count an answer."""


class LoggedRequest(NamedTuple):
    """A request as gunicorn's hooks and its access log know one."""

    method: str
    uri: str
    path: str
    query: str
    headers: list[tuple[str, str]]


class LoggedResponse(NamedTuple):
    """A response as they know one."""

    status: int
    headers: list[tuple[str, str]]
    sent: int


class _Steps(NamedTuple):
    """The rest of an answer that is made in steps."""

    unfinished: Unfinished
    environ: WSGIEnvironment
    is_last: bool
    begun: float


class Connection(asyncio.Protocol):
    """One connection. Each change of phase sets its one deadline."""

    transport: asyncio.Transport
    _rules: Rules
    _known: KnownHeads
    _shared: WSGIEnvironment
    _parser: RequestParser

    def __init__(self, worker: Owner) -> None:
        self.worker = worker
        self._limits = worker.limits
        self._phase = Phase.AWAITING_REQUEST
        self._is_last = False  # whether the connection ends with the answer that is being written
        self._is_closing = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._discarded = 0  # bytes
        self._preamble: Preamble | None = None
        self._steps: _Steps | None = None  # of an answer that is not finished
        self.deadline = math.inf  # in the loop's time

    @property
    def is_idle(self) -> bool:
        """Whether it has been answered and has asked nothing since."""
        return self._phase is Phase.IDLE

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        if phase is Phase.IDLE or phase is Phase.DRAINING:
            self.worker.buffered.discard(self)
        # earlier by a tick, since it may take so long until it is noticed: a client is closed within its seconds
        soon = seconds - TICK_SECONDS if seconds > 2 * TICK_SECONDS else seconds / 2
        deadline, stop_by = self.worker.loop.time() + soon, self.worker.stop_by
        self.deadline = min(stop_by, deadline)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock, with the accept and not with the first byte."""
        self.transport = transport  # type: ignore[assignment]  # asyncio declares its base
        # An answer is over when the kernel has all of it: then closing never waits, and one deadline covers it.
        self.transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        self._rules, self._known = self.worker.rules_for(peer)
        self._preamble = Preamble.of(self.worker.cfg, peer)
        self._meet(peer)
        self._enter(Phase.AWAITING_REQUEST, self._limits.header_seconds)
        self.worker.connected(self)

    def _meet(self, peer: object) -> None:
        """Begin with requests of this address."""
        server = self.transport.get_extra_info("sockname")
        self._shared = shared_by(self.worker.base, _address(server), _address(peer), self.worker.cfg.root_path)
        self._parser = RequestParser(self._rules, self._shared, self._known)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Make room for another."""
        self._is_closing = True
        self._parser.close()
        if self._steps is not None:
            self.worker.turns.leave(self._step)
            self._steps.unfinished.close()
            self._steps = None
        self.worker.disconnected(self)

    # --- Reading

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request, and answer it if it is whole."""
        if self._phase is Phase.DRAINING:
            self._discard(data)
            return
        try:
            if self._preamble is not None:
                data = self._after_preamble(self._preamble, data)
            self._read(data)
        except MalformedError as error:
            self._refuse_malformed(error.status)

    def _after_preamble(self, preamble: Preamble, data: bytes) -> bytes:
        rest = preamble.feed(data)
        if preamble.is_complete:
            self._preamble = None
            if preamble.client is not None:
                self._meet(preamble.client)
        return rest

    def _read(self, data: bytes) -> None:
        parser = self._parser
        environ = parser.environ
        if environ is None:
            data = parser.feed_head(data)
            environ = parser.environ
            if environ is None:
                self._wait_for_header()
                return
            if not parser.is_known:
                if self._is_refused(environ):
                    return
                parser.remember()
        parser.feed_body(data)
        if parser.is_complete:
            self._answer_parsed(self.worker.adapter.application)
        else:
            self._wait_for_body(environ)

    def _wait_for_header(self) -> None:
        """Keep a part of a header, but of a large one only if there is room."""
        if self._phase is Phase.AWAITING_REQUEST:
            self._phase = Phase.HEADER  # the deadline stays: it runs from the accept
        elif self._phase is Phase.IDLE:
            self._enter(Phase.HEADER, self._limits.header_seconds)
        if self._parser.head_size > LARGE and not self._reserve_buffer():
            raise MalformedError(431)

    def _is_refused(self, environ: WSGIEnvironment) -> bool:
        """Refuse what is wrong with a header that can be read; returns whether anything is."""
        refusal = refusal_of(environ)
        if refusal is not None:
            self._refuse(*refusal)
        elif self._is_too_large(self._parser.length):
            self._refuse_size()
        return self._phase is Phase.DRAINING

    def _is_too_large(self, size: int) -> bool:
        limits = self._limits
        return size > limits.max_body_bytes and size > self._max_body

    @property
    def _max_body(self) -> int:
        """Bytes, of the request that is read."""
        environ = self._parser.environ
        return self._limits.body_bytes("" if environ is None else environ["PATH_INFO"])

    def _wait_for_body(self, environ: WSGIEnvironment) -> None:
        """Keep a part of a body, if there is room for it.

        A request that comes whole needs none and is answered however many are in hand: otherwise clients that send
        bodies slowly could keep all others from being answered. Those for health and metrics, which have no body, are
        whole.
        """
        if self._phase is not Phase.BODY:
            self._enter(Phase.BODY, self._limits.body_seconds)
            is_expecting = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
        else:
            is_expecting = False
        if self._is_too_large(len(self._parser.body)):
            self._refuse_size()
        elif not self._reserve_buffer():
            self._refuse(503, "Too many requests are in hand; try again in a second.", (("Retry-After", "1"),))
        elif is_expecting and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
            self.transport.write(CONTINUE)

    def _reserve_buffer(self) -> bool:
        """Take a place among the requests in hand, if one is free; `_enter` and the worker give it back."""
        buffered = self.worker.buffered
        if self not in buffered and len(buffered) >= self._limits.max_in_hand:
            return False
        buffered.add(self)
        return True

    # --- Answering

    def _answer_parsed(self, application: WSGIApplication) -> None:
        """Answer the request that the parser has read."""
        parser = self._parser
        if self._phase is not Phase.DRAINING:
            if parser.is_chunked and self._is_too_large(len(parser.body)):  # and has come at once
                self._refuse_size()
                return
            self._phase = Phase.WRITING
        worker = self.worker
        begun = time.monotonic() if worker.is_logging else 0.0
        environ = parser.request()
        is_last = self._phase is Phase.DRAINING or not parser.is_kept_alive
        if worker.pre_request is not None:
            application = self._hooked(worker.pre_request, application)
        answer = worker.adapter.begin(application, environ)
        if not isinstance(answer, Unfinished):
            self._send(answer, environ, begun, is_last=is_last)
            return
        self._enter(Phase.WRITING, math.inf)
        if self._reserve_buffer():
            self._pause_reading()
            self._steps = _Steps(answer, environ, is_last, begun)
            self.worker.turns.join(self._step)
        else:  # nothing may be kept: whole, as it has come
            self._send(answer.rest(), environ, begun, is_last=is_last)

    def _step(self) -> bool:
        """Go on with the answer; returns whether it is finished."""
        if self._steps is None:
            return True
        unfinished, environ, is_last, begun = self._steps
        answer = unfinished.step()
        if answer is not None:
            self._steps = None
            self._send(answer, environ, begun, is_last=is_last)
        return answer is not None

    def _send(self, answer: Answer, environ: WSGIEnvironment, begun: float, *, is_last: bool) -> None:
        worker = self.worker
        worker.answered()
        self._is_last = is_last or not (worker.alive and worker.keepalive)
        head = self._head(environ["SERVER_PROTOCOL"], answer)
        if len(answer.body) < LARGE:
            self.transport.write(head + answer.body)
        else:
            self.transport.write(head)
            self.transport.write(answer.body)
        if worker.is_logging:
            self._log(answer, environ, begun)
        if not self._is_writing_paused:
            self._finish()
        elif self._phase is Phase.WRITING:
            self._pause_reading()  # nothing may reach the parser between this request and its `_next` or IDLE
            self._enter(Phase.WRITING, self._limits.write_seconds)
            if not self._reserve_buffer() and environ["PATH_INFO"] not in self._limits.unlimited:
                self._reset()  # too late for a 503

    def _head(self, protocol: str, answer: Answer) -> bytes:
        date = b"" if answer.is_dated else _date_line(int(time.time()))
        if self._is_last:
            end = b"Connection: close\r\n\r\n"
        else:  # without it, an older client waits for the end of the connection
            end = b"Connection: keep-alive\r\n\r\n" if protocol == "HTTP/1.0" else b"\r\n"
        return b"".join((_status_line(protocol, answer.status), answer.lines, date, end))

    def pause_writing(self) -> None:
        """Note that the client takes its answer slowly."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """Go on: the client has taken its answer."""
        self._is_writing_paused = False
        if self._phase is Phase.WRITING or self._phase is Phase.DRAINING:
            self._finish()

    def _finish(self) -> None:
        """Close, or make room for the next request."""
        if self._is_last:
            self._close()
        elif self._parser.rest:
            self._pause_reading()  # else more would come with every turn than is answered
            self.worker.loop.call_soon(self._next)  # else 10,000 pipelined requests would be answered in one go
        else:
            self._next()

    def _next(self) -> None:
        """Make room for a request, and look whether it has come already."""
        if self._is_closing:
            return
        rest = self._parser.rest
        self._parser.reset()
        self._enter(Phase.IDLE, self.worker.keepalive)
        if rest:
            self.data_received(rest)
        if self._phase is not Phase.WRITING:  # nothing that is whole is left
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not (self._is_reading_paused or self._is_closing):
            self._is_reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused and not self._is_closing:
            self._is_reading_paused = False
            self.transport.resume_reading()

    # --- gunicorn's hooks and its access log

    def _logged(self, environ: WSGIEnvironment) -> LoggedRequest:
        target = self._parser.target.decode("ascii")
        return LoggedRequest(
            environ["REQUEST_METHOD"], target, environ["PATH_INFO"], environ["QUERY_STRING"], self._parser.headers
        )

    def _hooked(self, before: Callable[[Any, Any], object], application: WSGIApplication) -> WSGIApplication:
        """The application behind gunicorn's `pre_request`; it may fail as that may."""

        def hooked(environ: WSGIEnvironment, start_response: Any) -> Any:  # noqa: ANN401 -- PEP 3333
            before(self.worker, self._logged(environ))
            return application(environ, start_response)

        return hooked

    def _log(self, answer: Answer, environ: WSGIEnvironment, begun: float) -> None:
        """Write gunicorn's access log and call its `post_request`, where they are configured."""
        after, log = self.worker.post_request, self.worker.log
        request = self._logged(environ)
        response = LoggedResponse(answer.status, answer.headers, len(answer.body))
        environ = environ | {"RAW_URI": request.uri}
        try:
            if log.access_log_enabled:
                log.access(response, request, environ, timedelta(seconds=time.monotonic() - begun))
            if after is not None:
                after(self.worker, request, environ, response)
        except Exception:
            log.exception("Exception in post_request hook")

    # --- Refusing

    def _refuse_size(self) -> None:
        self._refuse(413, f"The body is too large: at most {self._max_body:,} bytes are accepted.")

    def _refuse(self, status: int, detail: str, headers: Headers = ()) -> None:
        """Answer in the application's place, as it would be answered (access log, hooks, HEAD), and then close."""
        self._enter(Phase.DRAINING, self._limits.drain_seconds)
        self._parser.body = b""
        self._answer_parsed(self.worker.adapter.refusing(status, detail, headers))

    def _refuse_malformed(self, status: int) -> None:
        """Answer bytes that are not a request, and inform the application."""
        refusing = error_application(status, MALFORMED[status], self.worker.unparsed(status))
        answer = self.worker.adapter.answer(refusing, {"REQUEST_METHOD": "GET"})
        self._is_last = True
        self.transport.write(self._head("HTTP/1.1", answer) + answer.body)
        self._close()

    def _close(self) -> None:
        """Close. After an early answer, read on for a moment: the kernel's reset would discard the answer."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._phase is Phase.WRITING:
            self.transport.close()
            return
        self._enter(Phase.DRAINING, self._limits.drain_seconds)
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > self._limits.drain_bytes:
            self.transport.abort()

    def expire(self) -> None:
        """Take the connection back: its deadline has passed."""
        self.worker.log.debug("Closing a connection, overdue in phase %s", self._phase.name)
        if self._phase is Phase.BODY:
            self._refuse(408, f"The body did not arrive within {self._limits.body_seconds:g} seconds.")
        elif self._phase is Phase.WRITING:
            self._reset()
        else:
            self.transport.abort()

    def _reset(self) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def stop(self) -> None:
        """Give a request in hand until the worker's `stop_by`; one that may be on its way has less time to come."""
        stop_by = self.worker.stop_by
        if self._phase in {Phase.AWAITING_REQUEST, Phase.IDLE}:
            # Closed at once, a request that has just been sent would fail, and its client did nothing wrong.
            stop_by = min(stop_by, self.worker.loop.time() + self._limits.stop_idle_seconds)
        self.deadline = min(self.deadline, stop_by)


@lru_cache(maxsize=64)
def _status_line(protocol: str, status: int) -> bytes:
    return f"{protocol} {status} {PHRASES.get(status) or HTTPStatus(status).phrase}\r\n".encode("latin-1")


@lru_cache(maxsize=1)
def _date_line(seconds: int) -> bytes:
    return f"Date: {formatdate(seconds, usegmt=True)}\r\n".encode()


def _address(name: object) -> Address | None:
    """The host and the port of a socket's name; None for that of a UNIX socket."""
    return (plain(name[0]), name[1]) if isinstance(name, tuple) else None
