"""One connection of the worker: what it waits for, until when, and what happens then.

Parsing what is not ordinary, and refusing what is no HTTP, are gunicorn's asgi protocol. The rest is here: there is one
deadline at any time, a body has a limit, whoever is refused gets to read why, and a request that is whole is answered
where it stands, without the task, the future and the messages that an asynchronous application would need.
"""

from __future__ import annotations

import enum
import math
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from gunicorn.asgi.protocol import (
    ASGIProtocol,
    ASGIResponseInfo,
    _get_cached_date_header,
    _get_cached_status_line,
    _RequestTime,
)
from gunicorn.util import split_request_uri

from worker.http_rules import UNKNOWN_CODING, refusal_of
from worker.limits import TICK_SECONDS
from worker.ordinary import ordinary
from worker.wsgi import Unfinished, environ_of, error_application, path_of, plain, shared_by

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from worker.limits import Limits
    from worker.ordinary import Bounds
    from worker.turns import Turns
    from worker.wsgi import Address, Answer, Headers, WsgiAdapter

# For SO_LINGER: else the kernel keeps megabytes of an answer for minutes after the socket of its client is closed.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# From here on, bytes: an answer's body is written next to its header, not joined to it; half a header needs a place.
LARGE = 1 << 16
TLS: Final = b"\x16"  # its first byte: a handshake
NO_HTTP: Final = {
    400: "This is not a valid HTTP/1.1 request.",
    414: "The request line is too long.",
    431: "A header field is too long, or there are too many of them.",
    UNKNOWN_CODING.status: UNKNOWN_CODING.detail,
}


class Phase(enum.Enum):
    """What a connection is waiting for. AWAITING_REQUEST and IDLE ones have no request in hand."""

    AWAITING_REQUEST = enum.auto()  # its first byte
    HEADER = enum.auto()  # the rest of a header
    BODY = enum.auto()  # the rest of a body
    WRITING = enum.auto()  # the client to take the answer
    IDLE = enum.auto()  # the first byte of another request
    DRAINING = enum.auto()  # the client to stop sending and to close


class Owner(Protocol):
    """What a connection needs of its worker."""

    adapter: WsgiAdapter
    alive: bool
    base: Mapping[str, object]
    connections: set[Connection]
    buffered: set[Connection]
    limits: Limits
    loop: asyncio.AbstractEventLoop
    stop_by: float
    turns: Turns
    unparsed: Callable[[int], Headers]

    def bounds_for(self, peer: object) -> Bounds:
        """The requests of a peer that need no parser."""

    def connected(self, connection: Connection) -> None:
        """Remember it."""

    def disconnected(self, connection: Connection) -> None:
        """Forget it."""

    def answered(self) -> None:
        """Count an answer."""


class _Steps(NamedTuple):
    """What is left to do for an answer that is made in steps."""

    unfinished: Unfinished
    environ: WSGIEnvironment
    is_last: bool
    begun: float | None


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn carries no types
    """One connection. Each change of phase sets its one deadline; the worker calls `expire` when that has passed."""

    transport: asyncio.Transport  # this and what follows is the base's, which is untyped
    worker: Owner
    _closed: bool
    _current_request: Any
    _callback_parser: Any
    _body_receiver: Any

    def __init__(self, worker: Owner) -> None:
        super().__init__(worker)
        self._limits = worker.limits
        self._phase = Phase.AWAITING_REQUEST
        self._is_last = False  # whether the connection ends with the answer that is being written
        # One piece: as a list, pieces of two bytes, which a client may send, would take thirty times as much memory.
        self._body = bytearray()
        self._head_size = 0  # bytes of a header that is not whole yet
        self._discarded = 0  # bytes
        self._shared: WSGIEnvironment | None = None
        self._bounds: Bounds | None = None  # of the requests that need no parser
        self._most_body = 0  # bytes, of the request that is read
        self._steps: _Steps | None = None  # of an answer that is not finished
        self.deadline = math.inf  # in the loop's time

    @property
    def is_idle(self) -> bool:
        """Whether it has been answered and has asked nothing since."""
        return self._phase is Phase.IDLE

    def _is_ordinary(self) -> bool:
        """Whether nothing is configured that wants gunicorn's own view of a request."""
        return (
            self._proxy_protocol == "off"
            and self._root_path == ""
            and self._pre_request is None
            and self._post_request is None
            and not self.log.access_log_enabled
        )

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        if phase is Phase.IDLE or phase is Phase.DRAINING:
            self.worker.buffered.discard(self)
        # earlier by a tick, since it may take so long until it is noticed: a client is closed within its seconds
        soon = seconds - TICK_SECONDS if seconds > 2 * TICK_SECONDS else seconds / 2
        deadline, stop_by = self.worker.loop.time() + soon, self.worker.stop_by
        self.deadline = min(stop_by, deadline)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock, with the accept and not with the first byte."""
        super().connection_made(transport)
        if self._is_ordinary():
            self._bounds = self.worker.bounds_for(transport.get_extra_info("peername"))
        # An answer is over when the kernel has all of it: then closing never waits, and one deadline covers it.
        transport.set_write_buffer_limits(high=0)
        self._enter(Phase.AWAITING_REQUEST, self._limits.header_seconds)
        self.worker.connected(self)

    def _start_http1(self, _buffered: bytes = b"") -> None:
        """Start as stock does, but without a task that waits for requests."""
        self._setup_callback_parser()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        super().connection_lost(exc)
        if self._steps is not None:
            self.worker.turns.leave(self._step)
            self._steps.unfinished.close()
            self._steps = None
        self.worker.disconnected(self)

    # --- Reading

    def data_received(self, data: bytes) -> None:
        """Answer an ordinary request at once; gunicorn's parser takes all others."""
        if self._bounds is not None and (self._phase is Phase.IDLE or self._phase is Phase.AWAITING_REQUEST):
            environ = ordinary(data, self._environ_shared(), self._bounds)
            if environ is not None:
                self._phase = Phase.WRITING
                self._answer(self.worker.adapter.application, environ)
                return
        super().data_received(data)

    def _feed_callback_parser(self, data: bytes) -> bool:
        if self._phase is Phase.DRAINING:
            return self._discard(data)
        if self._phase is Phase.AWAITING_REQUEST and data.startswith(
            TLS
        ):  # else both would wait for more, until the deadline
            self._send_error_response(400)
            self._close_transport()
            return False
        if self._phase is Phase.AWAITING_REQUEST:
            self._phase = Phase.HEADER  # the deadline stays: it runs from the accept
        elif self._phase is Phase.IDLE:
            self._enter(Phase.HEADER, self._limits.header_seconds)
        try:
            is_going_on = bool(super()._feed_callback_parser(data))
        except ValueError:  # a target that is no URI, or int() of a Content-Length with more than 4,300 digits
            self._send_error_response(400)
            self._close_transport()
            return False
        if self._phase is Phase.BODY:
            self._look_at_body()
        elif self._phase is Phase.HEADER:
            self._look_at_header(len(data))
        return is_going_on

    def _on_headers_complete(self) -> bool:
        super()._on_headers_complete()
        split_request_uri(self._current_request.uri)  # as the stock workers do, which refuse what this raises for
        self._enter(Phase.BODY, self._limits.body_seconds)
        self._head_size = 0
        _, path = path_of(self._current_request, self._environ_shared()["SCRIPT_NAME"])
        self._most_body = self._limits.body_bytes(path)
        refusal = refusal_of(self._current_request.version, self._current_request.headers_bytes)
        if refusal is not None:
            self._refuse(*refusal)
        elif self._current_request.content_length > self._most_body:
            self._refuse_size()
        return False

    def _on_body(self, chunk: bytes) -> None:
        if self._phase is not Phase.BODY:
            return  # the rest of what has been refused
        self._body += chunk
        if len(self._body) > self._most_body:
            self._refuse_size()

    def _look_at_header(self, size: int) -> None:
        """Keep what is here of a header, but of a large one only if there is room; it has `size` bytes more."""
        self._head_size += size
        if self._head_size > LARGE and not self._reserve_buffer():
            self._send_error_response(431)
            self._close_transport()

    def _look_at_body(self) -> None:
        """Answer when the body is whole; else keep what is here, if there is room for that.

        A request that comes whole needs none and is answered however many are in hand: else whoever sends bodies slowly
        could keep everybody from being answered. Those for health and metrics, which have no body, are whole.
        """
        if self._callback_parser.is_complete:
            self._enter(Phase.WRITING, math.inf)  # the client has done its part
            self._answer_parsed(self.worker.adapter.application)
        elif not self._reserve_buffer():
            self._refuse(503, "Too many requests are in hand; try again in a second.", (("Retry-After", "1"),))
        elif self._body_receiver.expect_continue:
            self._body_receiver.expect_continue = False
            self._safe_write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _reserve_buffer(self) -> bool:
        """Take a place among the requests in hand, if one is free; `_enter` and the worker give it back."""
        buffered = self.worker.buffered
        if self not in buffered and len(buffered) >= self._limits.max_in_hand:
            return False
        buffered.add(self)
        return True

    # --- Answering

    def _answer_parsed(self, application: WSGIApplication) -> None:
        """Answer the request that gunicorn's parser has found."""
        begun, request = time.monotonic(), self._current_request
        environ = environ_of(request, bytes(self._body), self._environ_shared())
        self._body.clear()
        self._answer(self._hooked(application), environ, request.should_close(), begun)

    def _answer(
        self,
        application: WSGIApplication,
        environ: WSGIEnvironment,
        is_last: bool = False,  # noqa: FBT001, FBT002 -- each request comes by here, and keywords cost time
        begun: float | None = None,
    ) -> None:
        """Answer; `begun` is of a request that gunicorn's parser has found, in monotonic seconds."""
        answer = self.worker.adapter.begin(application, environ)
        if not isinstance(answer, Unfinished):
            self._send(answer, environ, is_last, begun)
            return
        self._enter(Phase.WRITING, math.inf)
        if self._reserve_buffer():
            self._pause_reading()
            self._steps = _Steps(answer, environ, is_last, begun)
            self.worker.turns.join(self._step)
        else:  # nothing may be kept: whole, as it has come
            self._send(answer.rest(), environ, is_last, begun)

    def _step(self) -> bool:
        """Go on with the answer; returns whether it is finished."""
        if self._steps is None:
            return True
        unfinished, environ, is_last, begun = self._steps
        answer = unfinished.step()
        if answer is not None:
            self._steps = None
            self._send(answer, environ, is_last, begun)
        return answer is not None

    def _send(self, answer: Answer, environ: WSGIEnvironment, is_last: bool, begun: float | None) -> None:  # noqa: FBT001 -- the same
        worker = self.worker
        worker.answered()
        self._is_last = is_last or not (worker.alive and self._keepalive)
        head = self._head(environ["SERVER_PROTOCOL"], answer)
        if len(answer.body) < LARGE:
            self._safe_write(head + answer.body)
        else:
            self._safe_write(head)
            self._safe_write(answer.body)
        if not self._flow_control.write_paused:
            self._answered()
        elif self._phase is Phase.WRITING:
            self._pause_reading()  # nothing may reach the parser between this request and its `_next` or IDLE
            self._enter(Phase.WRITING, self._limits.write_seconds)
            if not self._reserve_buffer() and environ["PATH_INFO"] not in self._limits.unlimited:
                self._reset()  # too late for a 503
        if begun is not None:
            self._tell(answer, time.monotonic() - begun)

    def _head(self, protocol: str, answer: Answer) -> bytes:
        first = _get_cached_status_line((1, 0) if protocol == "HTTP/1.0" else (1, 1), answer.status)
        date = b"" if answer.is_dated else _get_cached_date_header()
        if self._is_last:
            end = b"Connection: close\r\n\r\n"
        else:  # an older client that is not told so waits for the end of the connection
            end = b"Connection: keep-alive\r\n\r\n" if protocol == "HTTP/1.0" else b"\r\n"
        return b"".join((first, answer.lines, date, end))

    def resume_writing(self) -> None:
        """Go on: the client has taken its answer."""
        super().resume_writing()
        if self._phase is Phase.WRITING or self._phase is Phase.DRAINING:
            self._answered()

    def _answered(self) -> None:
        if self._is_last:
            self._close_transport()
        elif not self._callback_parser.is_complete:  # the request was an ordinary one
            self._resume_reading()
            self._enter(Phase.IDLE, self._keepalive)
        elif self._callback_parser.remaining():
            self._pause_reading()  # else more would come with every turn than is answered
            self.worker.loop.call_soon(self._next)  # else 10,000 pipelined requests would be answered in one go
        else:
            self._next()

    def _next(self) -> None:
        """Make room for a request, and look whether it has come already."""
        if self._closed:
            return
        rest = self._callback_parser.remaining()
        self._callback_parser.reset()
        self._enter(Phase.IDLE, self._keepalive)
        if rest:
            self._feed_callback_parser(rest)
        if self._phase is not Phase.WRITING:  # nothing that is whole is left
            self._resume_reading()

    def _environ_shared(self) -> WSGIEnvironment:
        if self._shared is None:
            peer = self._effective_peername(self.transport.get_extra_info("peername"))
            server = self.transport.get_extra_info("sockname")
            self._shared = shared_by(self.worker.base, _address(server), _address(peer), self._root_path)
        return self._shared

    def _hooked(self, application: WSGIApplication) -> WSGIApplication:
        """The application behind gunicorn's `pre_request`, where one is configured; it may fail as that may."""
        before, worker, request = self._pre_request, self.worker, self._current_request
        if before is None:
            return application

        def hooked(environ: WSGIEnvironment, start_response: Any) -> Any:  # noqa: ANN401 -- PEP 3333
            before(worker, request)
            return application(environ, start_response)

        return hooked

    def _tell(self, answer: Answer, seconds: float) -> None:
        """Write gunicorn's access log and call its `post_request`, where they are configured."""
        if not self.log.access_log_enabled and self._post_request is None:
            return
        request = self._current_request
        addresses = (self.transport.get_extra_info(name) for name in ("sockname", "peername"))
        environ = self._build_environ(request, *addresses)
        response = ASGIResponseInfo(answer.status, answer.headers, len(answer.body))
        try:
            if self.log.access_log_enabled:
                self.log.access(response, request, environ, _RequestTime(seconds))
            if self._post_request is not None:
                self._post_request(self.worker, request, environ, response)
        except Exception:
            self.log.exception("Exception in post_request hook")

    # --- Refusing

    def _refuse_size(self) -> None:
        self._refuse(413, f"The body is too large: at most {self._most_body:,} bytes are accepted.")

    def _refuse(self, status: int, detail: str, headers: Headers = ()) -> None:
        """Answer in the application's place, as it would be answered (access log, hooks, HEAD), and then close."""
        self._enter(Phase.DRAINING, self._limits.drain_seconds)
        self._current_request.must_close = True
        self._body.clear()
        self._answer_parsed(self.worker.adapter.refusing(status, detail, headers))

    def _send_error_response(self, status: int, *_: object) -> None:
        """Answer what is no HTTP, and let the application know. Stock's messages, which are not used, quote it."""
        refusing = error_application(status, NO_HTTP[status], self.worker.unparsed(status))
        answer = self.worker.adapter.answer(refusing, {"REQUEST_METHOD": "GET"})
        self._is_last = True
        self._safe_write(self._head("HTTP/1.1", answer) + answer.body)

    def _close_transport(self) -> None:
        """Close; but read on for a moment after an early answer, else the kernel's reset would take it away."""
        if self._phase is Phase.WRITING:
            super()._close_transport()
        elif not self._closed:
            self._closed = True
            self._enter(Phase.DRAINING, self._limits.drain_seconds)
            if not self.transport.is_closing():
                self.transport.write_eof()

    def _discard(self, data: bytes) -> bool:
        self._discarded += len(data)
        if self._discarded > self._limits.drain_bytes:
            self.transport.abort()
        return False

    def expire(self) -> None:
        """Take the connection back: its deadline has passed."""
        self.log.debug("Closing a connection, overdue in phase %s", self._phase.name)
        if self._phase is Phase.BODY:
            self._refuse(408, f"The body did not arrive within {self._limits.body_seconds:g} seconds.")
            return
        if self._phase is Phase.WRITING:
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


def _address(name: object) -> Address | None:
    """The host and the port of a socket's name; None for that of a UNIX socket."""
    return (plain(name[0]), name[1]) if isinstance(name, tuple) else None
