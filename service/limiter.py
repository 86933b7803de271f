"""How often a client may ask: a moving window, in the memory of each worker or in Redis for all of them together.

A worker answers inline, so whatever it waits for, all of its clients wait for. So Redis has ANSWER_SECONDS, and after
STRIKES answers in a row that were late or none nobody asks it any more, until a thread beside the requests has seen it
answer again. Meanwhile the setting decides: everybody passes, or nobody.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, Self

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import LimitUnknownError, TooManyRequestsError
from service.settings import IN_MEMORY, OnFailure

ANSWER_SECONDS: Final = 0.02
LATE_SECONDS: Final = 0.01  # an answer, but no good one: a worker that waits so long for each has 100 requests a second
STRIKES: Final = 3
# One try, since each may take as long as it may; what fails is raised as StorageError.
REDIS_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": ANSWER_SECONDS,
    "socket_connect_timeout": ANSWER_SECONDS,
    "retry": Retry(NoBackoff(), 0),
    "wrap_exceptions": True,
}
LOOK_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class Counts(Protocol):
    """Who counts what could not be looked up."""

    def limit_unknown(self, decision: OnFailure) -> None:
        """A request was let pass, or refused, without the limit."""


class Breaker:
    """Whether Redis is asked at all."""

    def __init__(self, answers: Callable[[], bool], look_seconds: float = LOOK_SECONDS) -> None:
        """`answers` says whether it does; it is called beside the requests, so it may take its time."""
        self._answers = answers
        self._look_seconds = look_seconds
        self._strikes = 0
        self.is_closed = True

    def good(self) -> None:
        """An answer came, in time."""
        self._strikes = 0

    def bad(self) -> None:
        """No answer came, or a late one."""
        self._strikes += 1
        if self._strikes >= STRIKES and self.is_closed:
            self.is_closed = False
            logger.error("the limits' storage does not answer in time; it is asked again when it does")
            threading.Thread(target=self._look, name="limits", daemon=True).start()

    def _look(self) -> None:
        while not self._answers():
            time.sleep(self._look_seconds)  # nothing tells when a server is back
        self._strikes, self.is_closed = 0, True
        logger.warning("the limits' storage answers again")


class Limiter:
    """At most so many requests of a client in any window of that length."""

    def __init__(
        self,
        limit: RateLimitItem,
        storage: Storage,
        on_failure: OnFailure,
        counts: Counts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = limit
        self._told = f"{limit.amount:,} in {limit.get_expiry():,} s"
        self._window = MovingWindowRateLimiter(storage)
        self._breaker = Breaker(storage.check)
        self._on_failure: Final[OnFailure] = on_failure
        self._counts = counts
        self._clock = clock

    @classmethod
    def of(cls, limit: str, storage: str, on_failure: OnFailure, counts: Counts) -> Self:
        """Count in the storage of that address; nothing is asked of it yet. Raises ValueError for no limit."""
        counted = MemoryStorage() if storage == IN_MEMORY else RedisStorage(storage, **REDIS_OPTIONS)
        return cls(parse(limit), counted, on_failure, counts)

    def admit(self, client: str) -> None:
        """Count a request of a client. Raises TooManyRequestsError, or LimitUnknownError when that is decided."""
        retry_after = self._asked(client) if self._breaker.is_closed else None
        if retry_after is None:
            self._counts.limit_unknown(self._on_failure)
            if self._on_failure == "closed":
                raise LimitUnknownError
        elif retry_after > 0:
            raise TooManyRequestsError(self._told, retry_after)

    def _asked(self, client: str) -> int | None:
        """Seconds until the client may ask again, 0 if it may now; None for no answer."""
        begun = time.perf_counter()
        try:
            passes = self._window.hit(self._limit, client)
            retry_after = 0 if passes else self._seconds_left(client)
        except StorageError:
            self._breaker.bad()
            return None
        if time.perf_counter() - begun > LATE_SECONDS:
            self._breaker.bad()
        else:
            self._breaker.good()
        return retry_after

    def _seconds_left(self, client: str) -> int:
        """Until the oldest request in the window leaves it, whole seconds and at least one."""
        return max(1, math.ceil(self._window.get_window_stats(self._limit, client).reset_time - self._clock()))
