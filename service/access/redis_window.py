"""A moving window in Redis: all workers of all hosts count together.

* Requests never wait for a connection. Resolving the name, connecting, TLS and AUTH happen in a thread beside them;
  without a connection, the answer is None: not known.
* A connection that fails, or has no answer within ANSWER_SECONDS, is given up at once: its answer may still come, and
  would be taken for that to another request. So is one that is late STRIKES times in a row. The thread makes another,
  which is taken when it answers in time. It resolves the name anew, so a Redis that has moved is found.
* The only clock is that of Redis, so the hosts' clocks may differ. If it is set back, a client waits for at most one
  window; if it is set forward, or back by more than a window, the window begins anew.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry

ANSWER_SECONDS: Final = 0.02
LATE_SECONDS: Final = 0.01  # an answer, but no good one: a worker that waits so long for each has 100 requests a second
STRIKES: Final = 3
CONNECT_SECONDS: Final = 2.0  # for each step of it; only the thread waits
FIRST_LOOK_SECONDS: Final = 0.01  # after an attempt to connect, then twice as long, up to
LOOK_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 15.0  # then the connection is tried, since servers and firewalls drop those that are idle
HICCUP_SECONDS: Final = 1.0  # without a connection; what is over before is not logged
START_SECONDS: Final = 1.0
PROBE: Final = "-"  # a client that only tries whether a link counts

# Requests of a client that have passed, newest first, in microseconds. A log that lies ahead of the clock is older than
# a clock that was set back: within a window, the clock is taken to stand still until it gets there.
SCRIPT: Final = """
local time = redis.call('TIME')
local now, window = time[1] * 1000000 + time[2], tonumber(ARGV[2])
local newest = tonumber(redis.call('LINDEX', KEYS[1], 0) or now)
if newest - now > window then
    redis.call('DEL', KEYS[1])
elseif newest > now then
    now = newest
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then
    local left = redis.call('LINDEX', KEYS[1], -1) + window - now
    if left > 0 then
        return left
    end
    redis.call('RPOP', KEYS[1])
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], window / 1000)
return 0
"""

logger = logging.getLogger(__name__)


class Link(Protocol):
    """A connection, ready to be asked. Whatever it raises, it is not asked again."""

    def hit(self, client: str) -> float:
        """Count a request if it passes; returns 0.0, or the seconds until the client's next request passes."""

    def close(self) -> None:
        """End it."""


class RedisLink:
    """A link to a Redis."""

    def __init__(self, url: str, amount: int, seconds: int) -> None:
        """Connect, which may take its time. Raises RedisError and OSError."""
        self._connection = _connection(url)
        self._connection.connect()
        try:
            self._sha = self._ask("SCRIPT LOAD", SCRIPT)
        except Exception:
            self.close()
            raise
        self._connection.update_current_socket_timeout(ANSWER_SECONDS)
        self._prefix = f"appraiser:limit:{amount}/{seconds}:"
        self._window: tuple[int, int] = amount, seconds * 1_000_000

    def hit(self, client: str) -> float:
        """Ask the script. Raises RedisError and OSError."""
        return int(self._ask("EVALSHA", self._sha, 1, self._prefix + client, *self._window)) / 1e6

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _ask(self, *command: Any) -> Any:  # noqa: ANN401 -- what Redis takes and returns
        self._connection.send_command(*command)
        return self._connection.read_response()


def _connection(url: str) -> Any:  # noqa: ANN401 -- redis' own, which is untyped
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS}
    url = url.replace("redis+unix", "unix", 1)
    return ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **options).make_connection()


class RedisWindow:
    """Asks the link that is there, and keeps one there. Stock workers may run several threads, which take turns."""

    def __init__(
        self,
        connect: Callable[[], Link],
        clock: Callable[[], float] = time.monotonic,
        look_seconds: float = LOOK_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`connect` is called in a thread beside the requests, so it may take its time."""
        self._connect = connect
        self._clock = clock
        self._look_seconds = look_seconds
        self._idle_seconds = idle_seconds
        self._link: Link | None = None
        self._lock = threading.Lock()  # of the callers of the link
        self._strikes = 0
        self._is_idle = True
        self._is_lost = threading.Event()
        self._is_there = threading.Event()
        threading.Thread(target=self._keep, name="limits", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait for a link, before there are requests; returns whether there is one."""
        return self._is_there.wait(seconds)

    def hit(self, client: str) -> float | None:
        """Count a request if it passes; returns 0.0, the seconds until the next one passes, or None: not known."""
        if self._link is None or not self._lock.acquire(timeout=ANSWER_SECONDS):
            return None
        try:
            link = self._link
            return None if link is None else self._asked(link, client)
        finally:
            self._lock.release()

    def _asked(self, link: Link, client: str) -> float | None:
        self._is_idle = False
        begun = self._clock()
        try:
            seconds = link.hit(client)
        except Exception:  # noqa: BLE001 -- whatever is wrong with it, the setting decides
            self._give_up(link)
            return None
        self._strikes = self._strikes + 1 if self._clock() - begun > LATE_SECONDS else 0
        if self._strikes >= STRIKES:
            self._give_up(link)
        return seconds

    def _give_up(self, link: Link) -> None:
        self._link, self._strikes = None, 0
        self._is_there.clear()
        self._is_lost.set()
        link.close()

    def _keep(self) -> None:
        is_told, pause, lost = False, 0.0, self._clock()
        while True:
            self._is_lost.clear()
            problem = self._take_up()
            if problem is None:
                if is_told:
                    logger.warning("the limits' storage answers again")
                self._watch()
                is_told, pause, lost = False, 0.0, self._clock()
                continue
            if not is_told and self._clock() - lost >= HICCUP_SECONDS:
                logger.error(
                    "the limits' storage does not answer in time (%s); it is asked again when it does", problem
                )
                is_told = True
            pause = min(2 * pause or FIRST_LOOK_SECONDS, self._look_seconds)
            time.sleep(pause)  # no event reports that a server is back

    def _take_up(self) -> str | None:
        """Make a link, and take it if it answers in time; returns what is wrong, without any address or secret."""
        try:
            link = self._connect()
        except Exception as error:  # noqa: BLE001 -- of the resolver, of TLS, of the server
            return type(error).__name__
        begun, problem = self._clock(), self._problem(link)
        if problem is None and self._clock() - begun > LATE_SECONDS:
            problem = "late"
        if problem is not None:
            link.close()
            return problem
        self._link = link
        self._is_there.set()
        return None

    def _watch(self) -> None:
        """Return when the link is lost; try it while no request does."""
        while not self._is_lost.wait(self._idle_seconds):
            with self._lock:
                link = self._link
                if self._is_idle and link is not None and self._problem(link) is not None:
                    self._give_up(link)  # and another is made before a request comes
                self._is_idle = True

    @staticmethod
    def _problem(link: Link) -> str | None:
        try:
            link.hit(PROBE)
        except Exception as error:  # noqa: BLE001 -- a server that is full, loading, or read-only, too
            return type(error).__name__
        return None


def connected(url: str, amount: int, seconds: int) -> RedisWindow:
    """The window in the Redis of that address; returns when there is a connection, after START_SECONDS without one."""
    window = RedisWindow(lambda: RedisLink(url, amount, seconds))
    window.wait(START_SECONDS)
    return window
