"""The gunicorn worker: an event loop that runs a WSGI application inline and gives up on slow clients.

gunicorn's own `asgi` worker lets a client hold a connection as long as it likes while it sends its first header, drips
its body or does not read its answer. Here every connection has one deadline at any time, and the worker looks once a
tick which ones have passed. The application is not started before its request is whole, so no client can slow it down.

The configured application is a plain WSGI callable, which `gthread` and `sync` serve as well. It may carry its own
limits: `application.limits = Limits(...)`; otherwise the defaults below hold. Timeouts that gunicorn has a setting for
stay there: `keepalive`, `graceful_timeout`, `limit_request_line` and its siblings, `worker_connections`.

HTTP/1.1 only: TLS and HTTP/2 are the proxy's, and an upgrade to WebSocket is answered as the ordinary GET it also is.
"""

from __future__ import annotations

import asyncio
import enum
import math
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.errors import ConfigError
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.gasgi import ASGIWorker

from service.adapter import WsgiAdapter, refusal

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

# How late a deadline may be noticed. One look at 1,000 connections takes 50 µs.
TICK_SECONDS = 0.25

# For SO_LINGER: else the kernel keeps megabytes of an answer for minutes after the socket of its client is closed.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost: seconds and bytes after which its connection is taken back."""

    header_seconds: float = 10.0
    """From the accept, or from the first byte of a later request, to the end of the header."""
    body_seconds: float = 20.0
    """From the end of the header to the end of the body, however it is cut into pieces."""
    write_seconds: float = 20.0
    """From the answer until the client has taken all of it."""
    max_body_bytes: int = 1024 * 1024
    """Bytes of a request's body, after chunks are joined. More is answered 413."""
    drain_seconds: float = 2.0
    """How long a refused request is read on and thrown away, so that its client gets to read the answer."""
    drain_bytes: int = 16 * 1024 * 1024
    """How much of it is."""
    stop_seconds: float = 3.0
    """What unfinished requests get when the worker stops; at most half of `graceful_timeout`."""


class Phase(enum.Enum):
    """What a connection is waiting for. SILENT and IDLE ones have no request in hand."""

    SILENT = enum.auto()  # its first byte
    HEADER = enum.auto()  # the rest of a header
    BODY = enum.auto()  # the rest of a body
    ANSWER = enum.auto()  # the client to take the answer
    IDLE = enum.auto()  # the first byte of another request
    LINGER = enum.auto()  # the client to stop sending and to close


class AppraiserProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn carries no types
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
        self.deadline = min(self.worker.loop.time() + seconds, self.worker.stop_by)

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
        """Go on writing when the client ends its half after a whole request, as `nc` does: it still reads."""
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
            self._send_error_response(400, "Invalid Content-Length value")
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
        self._refuse(413, f"The body is larger than {self._limits.max_body_bytes} bytes.")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer in the application's place, through stock's path (access log, hooks, HEAD), and then close."""
        self._enter(Phase.LINGER, self._limits.drain_seconds)
        self._current_request.must_close = True
        self.app = refusal(status, detail)
        self._request_ready.set()

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
        """Close at once when idle; a request in hand has until the worker's `stop_by`."""
        if self._phase in {Phase.SILENT, Phase.IDLE}:
            self.transport.abort()
        self.deadline = min(self.deadline, self.worker.stop_by)


class AppraiserWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn carries no types
    """gunicorn's asgi worker, for a WSGI application. Configure it as `worker_class`."""

    wsgi: WSGIApplication
    loop: asyncio.AbstractEventLoop
    limits: Limits

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 -- gunicorn's arguments, which are untyped
        super().__init__(*args)
        self.connections: set[AppraiserProtocol] = set()
        self.stop_by = math.inf  # in the loop's time
        self._wake = asyncio.Event()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ANN401 -- untyped
        """Refuse to start with what would not be served.

        :raise ConfigError: for TLS, uWSGI and HTTP/2.
        """
        super().check_config(cfg, log)
        if cfg.is_ssl or cfg.protocol != "http" or cfg.http2_cleartext != "off":
            message = "AppraiserWorker speaks plain HTTP/1.1: no certfile, uwsgi protocol or http2_cleartext"
            raise ConfigError(message)

    def _setup_event_loop(self) -> None:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def load_wsgi(self) -> None:
        """Load the WSGI application, its limits, and the adapter around it."""
        super(ASGIWorker, self).load_wsgi()  # the base's: stock's expects an ASGI application
        self.limits = getattr(self.wsgi, "limits", Limits())
        self.asgi = WsgiAdapter(self.wsgi, base_environ(self.cfg), self.log.error_log)
        # Stock keeps the task of each closed connection for 3 s, so that an asynchronous application can clean up.
        self.cfg.set("asgi_disconnect_grace_period", 0)

    def handle_exit_signal(self) -> None:
        """Stop, now and not with the next tick."""
        super().handle_exit_signal()
        self._wake.set()

    def handle_quit_signal(self) -> None:
        """Stop without waiting for anybody."""
        super().handle_quit_signal()
        self._wake.set()

    def connected(self, connection: AppraiserProtocol) -> None:
        """Stop accepting at `worker_connections`.

        Not accepted, a client waits in the kernel's queue, from which any other worker of this socket takes it.
        Accepted and closed, it would be lost although another worker may be free.
        """
        self.connections.add(connection)
        if len(self.connections) >= self.worker_connections:
            self._stop_accepting()

    def disconnected(self, connection: AppraiserProtocol) -> None:
        """Forget it, and accept again if we were full, or stop if its last request was that of `max_requests`."""
        self.connections.discard(connection)
        if not (self.servers and self.alive):
            self._wake.set()

    async def _serve(self) -> None:
        while self.alive and self.ppid == os.getppid():
            if not self.servers and len(self.connections) < self.worker_connections:
                await self._accept()
            await self._tick()
        await self._shutdown()

    async def _accept(self) -> None:
        for listener in self.sockets:
            # A duplicate, because a server closes its socket with itself; the backlog, else it is set to 100.
            server = await self.loop.create_server(
                lambda: AppraiserProtocol(self), sock=listener.sock.dup(), backlog=self.cfg.backlog
            )
            self.servers.append(server)

    def _stop_accepting(self) -> None:
        while self.servers:
            self.servers.pop().close()

    async def _tick(self) -> None:
        """Beat the heart, expire what is overdue, wait for the next tick or for somebody to wake us."""
        self.notify()
        now = self.loop.time()
        for connection in tuple(self.connections):
            if connection.deadline <= now:
                connection.expire()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)
        self._wake.clear()

    async def _shutdown(self) -> None:
        """Close what is idle, give the rest until `stop_by`; no connection is left after that."""
        self._stop_accepting()
        self.stop_by = self.loop.time() + min(self.limits.stop_seconds, self.cfg.graceful_timeout / 2)
        for connection in tuple(self.connections):
            connection.stop()
        while self.connections and not self._quick_shutdown:
            await self._tick()
