"""A moving window in the memory of one worker: at most so many requests of a client in any window of that length.

* Time is monotonic: a wall clock that is set changes nothing.
* A client is forgotten when its last request has left the window. Each request forgets a few such clients, so there is
  no thread, and a request costs the same whatever has been before.
* Above GRAINS requests, those of a thousandth of the window count as one, at the time of the last of them. So a client
  never passes more often than its limit, and gets a request back at most a thousandth of the window late.
* Above MAX_CLIENTS or MAX_ENTRIES, the client whose last request is oldest is forgotten early. That hands nothing to
  an attacker: it takes as many other clients, each with a limit of its own, to be forgotten once.
"""

import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

GRAINS: Final = 1_000
MAX_CLIENTS: Final = 100_000  # 350 bytes each
MAX_ENTRIES: Final = 1_000_000  # 16 bytes each
FORGOTTEN_AT_ONCE: Final = 100  # 30 µs; a full table is empty again after a thousand requests
SHRUNK: Final = 16

# A log is flat numbers: the requests in the window, when its newest entry began, and then for each entry, oldest first,
# the time of its last request and how many requests it has.
_REQUESTS, _BEGUN, _FIRST = 0, 1, 2


class MemoryWindow:
    """Counts the requests of clients. Its operations are atomic, since stock workers may run several threads."""

    def __init__(
        self,
        amount: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        most_clients: int = MAX_CLIENTS,
        most_entries: int = MAX_ENTRIES,
    ) -> None:
        self._amount = amount
        self._seconds = seconds
        self._grain = seconds / GRAINS if amount > GRAINS else 0.0
        self._clock = clock
        self._most_clients = most_clients
        self._most_entries = most_entries
        self._logs: OrderedDict[str, array[float]] = OrderedDict()  # by the last request that passed, oldest first
        self._peak = 0  # clients since the table was made
        self._entries = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The clients that are remembered."""
        return len(self._logs)

    def hit(self, client: str) -> float:
        """Count a request if it passes; returns 0.0, or the seconds until the client's next request passes."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            log = self._logs.get(client)
            if log is None:
                log = self._logs[client] = array("d", (0.0, now))
            self._leave(log, now)
            if log[_REQUESTS] >= self._amount:
                return log[_FIRST] - (now - self._seconds)  # above 0, also after rounding
            self._add(log, now)
            self._peak = max(self._peak, len(self._logs))
            self._logs.move_to_end(client)
            return 0.0

    def _leave(self, log: "array[float]", now: float) -> None:
        """Take out what has left the window."""
        over = now - self._seconds
        end = _FIRST
        while end < len(log) and log[end] <= over:
            log[_REQUESTS] -= log[end + 1]
            end += 2
        del log[_FIRST:end]
        self._entries -= (end - _FIRST) // 2

    def _add(self, log: "array[float]", now: float) -> None:
        log[_REQUESTS] += 1.0
        if len(log) > _FIRST and now - log[_BEGUN] < self._grain:
            log[-2] = now
            log[-1] += 1.0
        else:
            log[_BEGUN] = now
            log.extend((now, 1.0))
            self._entries += 1

    def _forget(self, now: float) -> None:
        """Forget clients of which nothing is in the window any more, and make room for one more within the bounds."""
        over = now - self._seconds
        for _ in range(min(FORGOTTEN_AT_ONCE, len(self._logs))):
            client = next(iter(self._logs))
            log = self._logs[client]
            is_full = len(self._logs) >= self._most_clients or self._entries >= self._most_entries
            if log[-2] > over and not is_full:
                break
            del self._logs[client]
            self._entries -= (len(log) - _FIRST) // 2
        if len(self._logs) < self._peak // SHRUNK:
            self._logs = OrderedDict(self._logs)  # a table keeps the room of all that it has ever held
            self._peak = len(self._logs)
