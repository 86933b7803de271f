"""Rate limits: a moving window, in the memory of each worker or in Redis for all of them together.

A worker answers inline, so whatever it waits for, all of its clients wait for. While Redis does not answer in time,
no request waits for it, and the setting decides: all pass, or none.
"""

import math
from typing import Final, NamedTuple, Protocol, Self

from service.access.memory_window import MemoryWindow
from service.errors import LimitUnknownError, TooManyRequestsError
from service.settings import IN_MEMORY, OnFailure

SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


class Counts(Protocol):
    """Counts the requests whose limit could not be looked up."""

    def limit_unknown(self, decision: OnFailure) -> None:
        """A request was let pass, or refused, without the limit."""


class Window(Protocol):
    """Counts the requests of clients."""

    def hit(self, client: str) -> float | None:
        """Count a request if it passes; returns 0.0, the seconds until the next one passes, or None: not known."""


class Rate(NamedTuple):
    """A limit."""

    amount: int
    """Requests."""
    seconds: int
    """In any window of that length."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse `100/second`. Raises ValueError for no limit."""
        amount, _, unit = text.partition("/")
        if unit not in SECONDS:
            message = f"the rate limit {text!r} is not valid; it is written as 100/second, /minute, /hour or /day"
            raise ValueError(message)
        return cls(int(amount), SECONDS[unit])


class Limiter:
    """At most so many requests of a key, or of an address, in any window of that length."""

    def __init__(self, rate: Rate, keys: Window, addresses: Window, on_failure: OnFailure, counts: Counts) -> None:
        """Keys and addresses may have one window; in two, many addresses cannot displace a key."""
        self._told = f"{rate.amount:,} in {rate.seconds:,} s"
        self._keys = keys
        self._addresses = addresses
        self._on_failure: Final[OnFailure] = on_failure
        self._counts = counts

    @classmethod
    def of(cls, limit: str, storage: str, on_failure: OnFailure, counts: Counts) -> Self:
        """Count in memory, or in the Redis of that address. Raises ValueError for no limit."""
        rate = Rate.of(limit)
        if storage == IN_MEMORY:
            return cls(rate, MemoryWindow(*rate), MemoryWindow(*rate), on_failure, counts)
        from service.access.redis_window import connected  # noqa: PLC0415 -- with its library 6 MB, which few workers need

        shared = connected(storage, *rate)
        return cls(rate, shared, shared, on_failure, counts)

    def admit_key(self, key_id: str) -> None:
        """Count a request with a key. Raises TooManyRequestsError, or LimitUnknownError when that is decided."""
        self._admit(self._keys, key_id)

    def admit_address(self, address: str) -> None:
        """Count a request without a valid key. Raises as `admit_key`."""
        self._admit(self._addresses, address)

    def _admit(self, window: Window, client: str) -> None:
        seconds = window.hit(client)
        if seconds is None:
            self._counts.limit_unknown(self._on_failure)
            if self._on_failure == "closed":
                raise LimitUnknownError
        elif seconds > 0:
            raise TooManyRequestsError(self._told, math.ceil(seconds))
