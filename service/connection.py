"""One connection of the worker: what it waits for, until when, and what happens then.

It changes gunicorn's asgi protocol in four ways: at any time there is one deadline, the application is started when the
request is whole and not with its header, a body has a limit, and whoever is refused gets to read why.
"""

from __future__ import annotations

import asyncio
import enum
import math
import socket
import struct
from typing import TYPE_CHECKING, Any

from gunicorn.asgi.protocol import ASGIProtocol

from service.limits import TICK_SECONDS

if TYPE_CHECKING:
    from service.reply import Headers
    from service.worker import AppraiserWorker

# For SO_LINGER: else the kernel keeps megabytes of an answer for minutes after the socket of its client is closed.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Phase(enum.Enum):
    """What a connection is waiting for. SILENT and IDLE ones have no request in hand."""

    SILENT = enum.auto()  # its first byte
    HEADER = enum.auto()  # the rest of a header
    BODY = enum.auto()  # the rest of a body
    ANSWER = enum.auto()  # the client to take the answer
    IDLE = enum.auto()  # the first byte of another request
    LINGER = enum.auto()  # the client to stop sending and to close


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn carries no types
    """One connection. Each change of phase sets its one deadline; the worker calls `expire` when that has passed."""

    transport: asyncio.Transport  # this and what follows is the base's, which is untyped
    worker: AppraiserWorker
    _closed: bool
    _current_request: Any
    _request_ready: Any

    def __init__(self, worker: AppraiserWorker) -> None:
        super().__init__(worker)
        self._limits = worker.limits
        self._phase = Phase.SILENT
        self._half_closed = False
        self._discarded = 0  # bytes
        self.deadline = math.inf  # in the loop's time
        # Stock stops reading at 256 KiB until the application takes some, but ours only starts with the last byte.
        self._max_buffer_size += self._limits.max_body_bytes

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        # earlier by a tick, since it may take so long until it is noticed: a client is closed within its seconds
        soon = max(seconds - TICK_SECONDS, seconds / 2)
        self.deadline = min(self.worker.loop.time() + soon, self.worker.stop_by)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock, with the accept and not with the first byte."""
        super().connection_made(transport)
        # An answer is over when the kernel has all of it: then closing never waits, and one deadline covers it.
        transport.set_write_buffer_limits(high=0)
        self._enter(Phase.SILENT, self._limits.header_seconds)
        self.worker.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        super().connection_lost(exc)
        self.worker.disconnected(self)

    def eof_received(self) -> bool:
        """Go on writing when the client ends its half with requests in hand, as `nc` does: it still reads."""
        self._half_closed = self._phase is Phase.ANSWER
        return self._half_closed

    def _feed_callback_parser(self, data: bytes) -> bool:
        if self._phase is Phase.LINGER:
            return self._discard(data)
        if self._phase is Phase.SILENT:
            self._phase = Phase.HEADER  # the deadline stays: it runs from the accept
        elif self._current_request is None and self._phase is not Phase.HEADER:
            self._enter(Phase.HEADER, self._limits.header_seconds)
        try:
            return bool(super()._feed_callback_parser(data))
        except ValueError:  # int() of a Content-Length with more than 4,300 digits
            self._send_error_response(400, "Invalid request")
            self._close_transport()
            return False

    def _on_headers_complete(self) -> bool:
        ready, self._request_ready = self._request_ready, None  # hidden: stock starts the application on a header alone
        try:
            super()._on_headers_complete()
        finally:
            self._request_ready = ready
        self._enter(Phase.BODY, self._limits.body_seconds)
        if self._current_request.content_length > self._limits.max_body_bytes:
            self._refuse_size()
        elif self._body_receiver.expect_continue:
            self._safe_write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    def _on_body(self, chunk: bytes) -> None:
        if self._phase is not Phase.BODY:
            return  # the rest of what has been refused
        if self._body_receiver.buffered + len(chunk) > self._limits.max_body_bytes:
            self._refuse_size()
        else:
            super()._on_body(chunk)

    def _on_message_complete(self) -> None:
        super()._on_message_complete()
        if self._phase is Phase.BODY:
            self._enter(Phase.ANSWER, math.inf)  # the client has done its part
            self._request_ready.set()

    def pause_writing(self) -> None:
        """Start the clock on a client that has not taken its answer at once; called at most once an answer."""
        super().pause_writing()
        if self._phase is Phase.ANSWER:
            self._enter(Phase.ANSWER, self._limits.write_seconds)

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:  # noqa: ANN401 -- untyped
        """Stock's, without a task for what an application does after its answer: a WSGI one does nothing then."""
        if self._callback_parser.remaining():
            await asyncio.sleep(0)  # nothing below waits: 10,000 pipelined requests would be served in one go
        return bool(await self._handle_http_request(request, sockname, peername))

    def _is_websocket_upgrade(self, _request: object) -> bool:
        return False

    def _arm_keepalive_timer(self) -> None:
        if self._half_closed:
            self.transport.close()  # no other request can come
        elif self._phase is Phase.ANSWER:
            self._enter(Phase.IDLE, self._keepalive)

    def _refuse_size(self) -> None:
        self._refuse(413, f"The body is too large: at most {self._limits.max_body_bytes:,} bytes are accepted.")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer in the application's place, through stock's path (access log, hooks, HEAD), and then close."""
        self._enter(Phase.LINGER, self._limits.drain_seconds)
        self._current_request.must_close = True
        self.app = self.worker.asgi.refusing(status, detail)
        self._request_ready.set()

    def _send_error_response(self, status: int, message: str, extra_headers: Headers = ()) -> None:
        """Answer what is no HTTP, as stock does, but let the application know."""
        super()._send_error_response(status, message, (*extra_headers, *self.worker.unparsed(status)))

    def _close_transport(self) -> None:
        """Close; but read on for a moment after an early answer, else the kernel's reset would take it away."""
        if self._phase is Phase.ANSWER:
            super()._close_transport()
        elif not self._closed:
            self._closed = True
            self._enter(Phase.LINGER, self._limits.drain_seconds)
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
        if self._phase is Phase.ANSWER:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def stop(self) -> None:
        """Give a request in hand until the worker's `stop_by`; one that may be on its way has less time to come."""
        stop_by = self.worker.stop_by
        if self._phase in {Phase.SILENT, Phase.IDLE}:
            # Closed at once, a request that has just been sent would fail, and its client did nothing wrong.
            stop_by = min(stop_by, self.worker.loop.time() + self._limits.stop_idle_seconds)
        self.deadline = min(self.deadline, stop_by)
