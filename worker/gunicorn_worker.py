"""The gunicorn worker: an event loop that runs a WSGI application inline and gives up on slow clients.

* Every connection has one deadline at any time, and the worker looks once a tick which ones have passed.
* The application is not started before its request is whole, so no client can slow it down.
* HTTP/1.1 only: TLS and HTTP/2 are the proxy's, and an upgrade is answered as the ordinary request that it also is.

The configured application is a plain WSGI callable, which `gthread` and `sync` serve as well. It may carry:
`application.limits = Limits(...)`, in place of those of worker/limits.py; `application.observer`, which is informed of
what the worker answers in its place; `application.around`, which wraps these answers too. Timeouts that gunicorn has a
setting for stay there: `keepalive`, `graceful_timeout`, `limit_request_line` and its siblings, `worker_connections`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import uvloop
from gunicorn.errors import ConfigError
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.base import Worker

from worker.acceptor import Acceptor, ConnectionCounts
from worker.connection import Connection
from worker.http_rules import MAX_FIELD_LINE, Rules
from worker.limits import DEFAULTS, TICK_SECONDS, make_room
from worker.parser import KnownHeads
from worker.turns import Turns
from worker.wsgi import TAKES_STEPS, WsgiAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.limits import Limits
    from worker.wsgi import Headers

# What an idle connection gets while another waits for its place: enough for a client that asks again at once.
CROWDED_IDLE_SECONDS: Final = 5.0


class AppraiserWorker(Worker):  # type: ignore[misc]  # gunicorn carries no types
    """Serves a WSGI application. Configure it as `worker_class`."""

    census: Final = ConnectionCounts()  # one for all workers: the master loads this class before it forks them
    acceptor: Acceptor
    loop: asyncio.AbstractEventLoop
    turns: Turns
    alive: bool
    nr: int
    limits: Limits
    adapter: WsgiAdapter
    base: Mapping[str, object]
    """What is the same in the environ of all requests."""
    _rules: tuple[tuple[Rules, KnownHeads], ...]
    """For peers that are not trusted to speak for their clients, and for those that are."""
    unparsed: Callable[[int], Headers]
    """Informs the application of an answer to what was no HTTP; returns the headers that it shall have."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 -- gunicorn's arguments, which are untyped
        super().__init__(*args)
        self.connections: set[Connection] = set()
        self.buffered: set[Connection] = set()  # those that keep something of a request: Limits.max_in_hand
        self.stop_by = math.inf  # in the loop's time
        self._is_quitting = False
        self._wake = asyncio.Event()
        # 0 stands for a limit of gunicorn's own.
        if not self.cfg.limit_request_field_size:
            self.cfg.set("limit_request_field_size", MAX_FIELD_LINE)
        # Looked up once: each look into gunicorn's configuration takes microseconds.
        self.keepalive: float = self.cfg.keepalive
        self.pre_request = _hook(self.cfg, "pre_request")
        self.post_request = _hook(self.cfg, "post_request")
        self.is_logging: bool = self.log.access_log_enabled or self.post_request is not None
        self._place = self.census.reserve()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ANN401, ARG003 -- gunicorn's own signature
        """Refuse to start with what would not be served.

        :raise ConfigError: for TLS, uWSGI and HTTP/2.
        """
        if cfg.is_ssl or cfg.protocol != "http" or cfg.http2_cleartext != "off":
            message = "AppraiserWorker speaks plain HTTP/1.1: no certfile, uwsgi protocol or http2_cleartext"
            raise ConfigError(message)

    def init_process(self) -> None:
        """Run, in the process that the master has forked."""
        self.census.occupy(self._place, os.getpid())
        self.loop = uvloop.new_event_loop()
        self.turns = Turns(self.loop.call_soon)
        asyncio.set_event_loop(self.loop)
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the WSGI application, its limits, and the adapter around it."""
        super().load_wsgi()
        self.limits = getattr(self.wsgi, "limits", DEFAULTS)
        observer = getattr(self.wsgi, "observer", None)
        around = getattr(self.wsgi, "around", observer.around if observer else lambda application: application)
        self.unparsed = observer.unparsed if observer else lambda _status: ()
        self.adapter = WsgiAdapter(self.wsgi, self.log.error_log, around)
        self._rules = tuple(
            (Rules.of(self.cfg, is_trusted=is_trusted), KnownHeads.none()) for is_trusted in (False, True)
        )
        self.base = base_environ(self.cfg) | {TAKES_STEPS: True}

    def rules_for(self, peer: object) -> tuple[Rules, KnownHeads]:
        """The rules for the requests of a peer, and the headers that are known by them.

        gunicorn's settings name the peers that may speak for their clients.
        """
        is_trusted = Rules.trusts(self.cfg, peer)
        return self._rules[is_trusted]

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

    def run(self) -> None:
        """Serve until the worker is to stop; then close what it holds."""
        try:
            self.loop.run_until_complete(self._serve())
        except Exception:
            self.log.exception("The worker failed")
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            for listener in self.sockets:
                listener.close()

    def _take_signals(self) -> None:
        """Let the loop take signals; until it runs, Python's own handlers do, since uvloop loses those before."""
        handlers = {
            signal.SIGTERM: self._stop,
            signal.SIGQUIT: self._quit,
            signal.SIGINT: self._quit,
            signal.SIGABRT: self._abort,
            signal.SIGUSR1: self.log.reopen_files,
            signal.SIGWINCH: lambda: None,
        }
        for number, handler in handlers.items():
            self.loop.add_signal_handler(number, handler)

    def _stop(self) -> None:
        """Stop, now and not with the next tick."""
        self.alive = False
        self._wake.set()

    def _quit(self) -> None:
        """Stop without waiting for connections."""
        self._is_quitting = True
        if self.alive:
            self.cfg.worker_int(self)
        self._stop()

    def _abort(self) -> None:
        self.alive = False
        self.cfg.worker_abort(self)
        sys.exit(1)

    async def _serve(self) -> None:
        self._take_signals()
        self.acceptor = Acceptor(
            self.loop,
            [listener.sock for listener in self.sockets],
            lambda: Connection(self),
            most=make_room(self.cfg.worker_connections, self.log.error_log),
            census=self.census,
            place=self._place,
            head_start_seconds=self.limits.head_start_seconds,
            log=self.log.error_log,
        )
        while self.alive and self.ppid == os.getppid():
            self.acceptor.open()
            await self._tick()
        await self._shutdown()

    async def _tick(self) -> None:
        """Beat the heart, expire what is overdue, wait for the next tick or a wake-up."""
        self.notify()
        now = self.loop.time()
        # When all places are taken, a connection that idles makes room sooner.
        is_full = self.alive and not self.acceptor.is_open
        cut = max(0.0, self.keepalive - CROWDED_IDLE_SECONDS) if is_full else 0.0
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
            listener.close()  # new connections are refused at once, or go to another worker
        self.stop_by = self.loop.time() + min(self.limits.stop_seconds, self.cfg.graceful_timeout / 2)
        for connection in tuple(self.connections):
            connection.stop()
        while self.acceptor.count and not self._is_quitting:
            await self._tick()


def _hook(cfg: Any, name: str) -> Any:  # noqa: ANN401 -- untyped
    """A hook of gunicorn's configuration; None for the default, which at most logs at debug level."""
    hook = cfg.settings[name]
    is_default = hook.get() is hook.default and not logging.getLogger("gunicorn.error").isEnabledFor(logging.DEBUG)
    return None if is_default else hook.get()
