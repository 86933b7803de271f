"""How many connections a process may hold: each takes a descriptor, and the kernel limits those of a process.

Without a descriptor a connection cannot be accepted, but neither can the deployment be read nor the journal be rotated.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import logging

# Files that are opened while connections are held: a version that is loaded, the deployment, keys, states and numbers
# of all workers for a scrape, the next file of the journal, Redis.
RESERVE: Final = 64


class Descriptors(NamedTuple):
    """What a process has of them."""

    limit: int
    """The soft limit: what it may have at once."""
    most: int
    """The hard limit: up to which it may raise its own."""
    used: int
    """What it has open."""

    @classmethod
    def of_this_process(cls) -> Descriptors:
        """What this process has now."""
        limit, most = (_finite(value) for value in resource.getrlimit(resource.RLIMIT_NOFILE))
        return cls(limit, most, sum(1 for _ in os.scandir("/proc/self/fd")) - 1)  # less that of the listing itself

    def connections(self, wanted: int) -> tuple[int, int]:
        """Return how many of the wanted connections fit in, and the soft limit for them: raised if it has to be."""
        own = self.used + RESERVE
        limit = min(self.most, max(self.limit, wanted + own))
        return max(1, min(wanted, limit - own)), limit


def make_room(wanted: int, log: logging.Logger) -> int:
    """Return how many of the wanted connections this process may hold; raise its limit for them, or log a warning."""
    found = Descriptors.of_this_process()
    fitting, limit = found.connections(wanted)
    if limit != found.limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if fitting < wanted:
        log.warning(
            "This worker accepts at most %d connections instead of worker_connections=%d: "
            "its limit of open files is %d. Raise that (ulimit -n, LimitNOFILE, --ulimit nofile) to at least %d.",
            *(fitting, wanted, limit, wanted + found.used + RESERVE),
        )
    return fitting


def _finite(limit: int) -> int:
    return 1 << 30 if limit == resource.RLIM_INFINITY else limit
