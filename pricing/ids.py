"""Names for requests and predictions: unique, and in the order of time."""

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

_PREFIX_BITS: Final = 26  # random, the same for all ids of one millisecond
_COUNTER_BITS: Final = 48


class Ids:
    """UUIDs of version 7 (RFC 9562, section 5.7): milliseconds of the Unix time, random bits, and a counter.

    The ids of one process only rise, also when its clock is set back (section 6.2, method 2: the counter begins at a
    random number in every millisecond). To be made after a fork, since two processes must not share the random bits.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._random = random.Random()  # noqa: S311 -- ids are no secrets  # from the system's randomness
        self._lock = threading.Lock()
        self._millisecond = -1
        self._prefix = ""
        self._counter = 0

    def take(self, count: int) -> list[str]:
        """Return `count` new ids, rising."""
        prefix, first = self._reserve(count)
        return [f"{prefix}{number:012x}" for number in range(first, first + count)]

    def one(self) -> str:
        """Return a new id."""
        prefix, number = self._reserve(1)
        return f"{prefix}{number:012x}"

    def _reserve(self, count: int) -> tuple[str, int]:
        with self._lock:
            millisecond = self._clock() // 1_000_000
            if millisecond > self._millisecond:
                self._begin(millisecond)
            first = self._counter
            self._counter += count
            return self._prefix, first

    def _begin(self, millisecond: int) -> None:
        bits = self._random.getrandbits(_PREFIX_BITS)
        version, variant = 0x7000 | bits >> 14, 0x8000 | bits & 0x3FFF
        time_text = f"{millisecond:012x}"
        self._millisecond = millisecond
        self._prefix = f"{time_text[:8]}-{time_text[8:]}-{version:04x}-{variant:04x}-"
        self._counter = self._random.getrandbits(_COUNTER_BITS - 1)  # half of the numbers are left to count on


def moment(name: str) -> datetime | None:
    """When an id was made, in UTC; None for what is none of ours."""
    try:
        found = UUID(name)
    except ValueError:
        return None
    if found.version != 7 or str(found) != name:  # noqa: PLR2004 -- the version of these ids
        return None
    return datetime.fromtimestamp((found.int >> 80) / 1000, UTC)
