"""The gunicorn worker: an event loop that runs a WSGI application inline and gives up on slow clients.

gunicorn's own `asgi` worker lets a client hold a connection as long as it likes while it sends its first header, drips
its body or does not read its answer. Here every connection has one deadline at any time, and the worker looks once a
tick which ones have passed. The application is not started before its request is whole, so no client can slow it down.

The configured application is a plain WSGI callable, which `gthread` and `sync` serve as well. It may carry its own
limits: `application.limits = Limits(...)`; else those of worker/limits.py hold. It may carry an observer, which is
told of what the worker answers in its place: `application.observer = Observer(...)`; and what stands around its
answers, to stand around those too: `application.around`. Timeouts that gunicorn has a setting for stay there:
`keepalive`, `graceful_timeout`, `limit_request_line` and its siblings, `worker_connections`.

HTTP/1.1 only: TLS and HTTP/2 are the proxy's, and an upgrade to WebSocket is answered as the ordinary GET it also is.
"""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import uvloop
from gunicorn.asgi.protocol import ASGIProtocol, _RequestHeaderPolicy
from gunicorn.errors import ConfigError
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.gasgi import ASGIWorker

from worker.acceptor import Acceptor, ConnectionCounts
from worker.connection import Connection
from worker.descriptors import make_room
from worker.limits import DEFAULTS, TICK_SECONDS
from worker.ordinary import Bounds
from worker.turns import Turns
from worker.wsgi import TAKES_STEPS, WsgiAdapter, environ_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from wsgiref.types import WSGIApplication

    from worker.limits import Limits
    from worker.wsgi import Headers

# Of an ordinary request, in bytes and header fields; what has more is no less welcome, but gunicorn's parser reads it.
MAX_HEAD: Final = 8_190
MAX_FIELDS: Final = 100
# What an idle connection gets while another waits for its place: enough for a client that asks again at once.
CROWDED_IDLE_SECONDS: Final = 5.0


class AppraiserWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn carries no types
    """gunicorn's asgi worker, for a WSGI application. Configure it as `worker_class`."""

    census: Final = ConnectionCounts()  # one for all workers: the master loads this class before it forks them
    acceptor: Acceptor
    wsgi: WSGIApplication
    loop: asyncio.AbstractEventLoop
    turns: Turns
    alive: bool
    nr: int
    limits: Limits
    adapter: WsgiAdapter
    base: Mapping[str, object]
    """What is the same in the environ of all requests."""
    _bounds: Bounds
    asgi: None = None  # the base's application, which is not ours
    unparsed: Callable[[int], Headers]
    """Tells the application of an answer to what was no HTTP; returns the headers that it shall have."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 -- gunicorn's arguments, which are untyped
        super().__init__(*args)
        self.connections: set[Connection] = set()
        self.buffered: set[Connection] = set()  # those that keep something of a request: Limits.max_in_hand
        self.stop_by = math.inf  # in the loop's time
        self._wake = asyncio.Event()
        # For 0, the stock workers take a limit of their own; gunicorn's parser for event loops takes none.
        if not self.cfg.limit_request_field_size:
            self.cfg.set("limit_request_field_size", MAX_HEAD)
        self._place = self.census.reserve()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ANN401 -- untyped
        """Refuse to start with what would not be served.

        :raise ConfigError: for TLS, uWSGI, HTTP/2, and a C parser that would fail with every connection.
        """
        super().check_config(cfg, log)
        if cfg.http_parser == "fast" and not (
            ASGIProtocol._check_h1c_protocol_available() and ASGIProtocol._h1c_has_limits  # noqa: SLF001 -- its own rule
        ):
            message = "http_parser 'fast' needs a gunicorn_h1c that refuses what is too long; use 'auto' or 'python'"
            raise ConfigError(message)
        if cfg.is_ssl or cfg.protocol != "http" or cfg.http2_cleartext != "off":
            message = "AppraiserWorker speaks plain HTTP/1.1: no certfile, uwsgi protocol or http2_cleartext"
            raise ConfigError(message)

    def init_process(self) -> None:
        """Run, in the process that the master has forked."""
        self.census.occupy(self._place, os.getpid())
        super().init_process()

    def _setup_event_loop(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.turns = Turns(self.loop.call_soon)
        asyncio.set_event_loop(self.loop)

    def init_signals(self) -> None:
        """Let Python's own handlers take signals until the loop runs: uvloop loses those that come before."""
        super(ASGIWorker, self).init_signals()

    def load_wsgi(self) -> None:
        """Load the WSGI application, its limits, and the adapter around it."""
        super(ASGIWorker, self).load_wsgi()  # the base's: stock's expects an ASGI application
        self.limits = getattr(self.wsgi, "limits", DEFAULTS)
        observer = getattr(self.wsgi, "observer", None)
        around = getattr(self.wsgi, "around", observer.around if observer else lambda application: application)
        self.unparsed = observer.unparsed if observer else lambda _status: ()
        self.adapter = WsgiAdapter(self.wsgi, self.log.error_log, around)
        self.base = base_environ(self.cfg) | {TAKES_STEPS: True}
        self._bounds = bounds_of(self.cfg, self.limits)

    def bounds_for(self, peer: object) -> Bounds:
        """The requests of a peer that need no parser; gunicorn says by which headers it may speak of its client."""
        return self._bounds._replace(secure=secure_of(self.cfg, peer))

    def handle_exit_signal(self) -> None:
        """Stop, now and not with the next tick."""
        super().handle_exit_signal()
        self._wake.set()

    def handle_quit_signal(self) -> None:
        """Stop without waiting for anybody."""
        super().handle_quit_signal()
        self._wake.set()

    def connected(self, connection: Connection) -> None:
        """Remember it."""
        self.connections.add(connection)
        if not self.alive:
            connection.stop()

    def disconnected(self, connection: Connection) -> None:
        """Forget it, and accept again if we were full, or stop if its last request was that of `max_requests`."""
        self.connections.discard(connection)
        self.buffered.discard(connection)
        self.acceptor.gone()
        if not (self.acceptor.is_open and self.alive):
            self._wake.set()

    def answered(self) -> None:
        """Count an answer, and end with that of `max_requests`."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    async def _serve(self) -> None:
        super().init_signals()
        self.acceptor = Acceptor(
            self.loop,
            [listener.sock for listener in self.sockets],
            lambda: Connection(self),
            most=make_room(self.worker_connections, self.log.error_log),
            census=self.census,
            place=self._place,
            log=self.log.error_log,
        )
        while self.alive and self.ppid == os.getppid():
            self.acceptor.open()
            await self._tick()
        await self._shutdown()

    async def _tick(self) -> None:
        """Beat the heart, expire what is overdue, wait for the next tick or for somebody to wake us."""
        self.notify()
        now = self.loop.time()
        # When all places are taken, a connection that idles makes room sooner.
        is_full = self.alive and not self.acceptor.is_open
        cut = max(0.0, self.cfg.keepalive - CROWDED_IDLE_SECONDS) if is_full else 0.0
        for connection in tuple(self.connections):
            if connection.deadline - (cut if connection.is_idle else 0.0) <= now:
                connection.expire()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)
        self._wake.clear()

    async def _shutdown(self) -> None:
        """Close what is idle, give the rest until `stop_by`; no connection is left after that."""
        self.acceptor.finish()
        for listener in self.sockets:
            listener.close()  # so that who comes now is refused at once, or goes to another worker
        self.stop_by = self.loop.time() + min(self.limits.stop_seconds, self.cfg.graceful_timeout / 2)
        for connection in tuple(self.connections):
            connection.stop()
        while self.acceptor.count and not self._quick_shutdown:
            await self._tick()


def secure_of(cfg: Any, peer: object) -> Mapping[str, str]:  # noqa: ANN401 -- untyped
    """Bounds.secure of a peer."""
    secure, _ = _RequestHeaderPolicy(cfg, peer, "http", (1, 1))._peer_trusted_for_forwarded()  # noqa: SLF001
    return {environ_key(name.encode()): word for name, word in secure.items()}


def bounds_of(cfg: Any, limits: Limits) -> Bounds:  # noqa: ANN401 -- untyped
    """The requests that need no parser: 0 is gunicorn's word for no limit."""
    return Bounds(
        head=min(cfg.limit_request_line or MAX_HEAD, cfg.limit_request_field_size, MAX_HEAD),
        fields=cfg.limit_request_fields or MAX_FIELDS,
        body=limits.max_body_bytes,
        larger_bodies=limits.larger_bodies,
        secure={},
    )
