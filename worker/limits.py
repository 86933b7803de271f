"""Limits of what a client costs, and of the connections that a process holds.

Each connection takes a descriptor, and the kernel limits those of a process. Without a descriptor a connection cannot
be accepted, but neither can the deployment be read nor the journal be rotated.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

# How often the worker looks for deadlines that have passed. One look at 1,000 connections takes 50 µs.
TICK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes after which a client's connection is taken back, and how many may have something in hand."""

    header_seconds: float = 5.0
    """From the accept, or from the first byte of a later request, to the end of the header."""
    body_seconds: float = 10.0
    """From the end of the header to the end of the body, however it is cut into pieces."""
    write_seconds: float = 10.0
    """From the answer until the client has taken all of it."""
    max_body_bytes: int = 1024 * 1024
    """Bytes of a request's body, after chunks are joined. More is answered 413."""
    larger_bodies: Mapping[str, int] = field(default_factory=dict)
    """The same, of the paths whose bodies may be larger than that."""
    larger_bodies_below: Mapping[str, int] = field(default_factory=dict)
    """The same, of all paths that begin so."""
    max_in_hand: int = 64
    """Requests of which a worker keeps something for its client: a body that is still coming, more than 64 KiB of a
    header, an answer that is not taken yet. One more body is answered 503. 64 bodies of 1 MiB take less than the worker
    itself, which has 80 MB; and 64 batches of 1,000 houses are 0.7 s of its work: there is room for all that it can do.
    """
    unlimited: frozenset[str] = frozenset()
    """Paths whose answers are kept for their clients even then."""
    drain_seconds: float = 2.0
    """How long a refused request is read on and thrown away, so that its client gets to read the answer."""
    drain_bytes: int = 16 * 1024 * 1024
    """How much of it is."""
    head_start_seconds: float = 0.01
    """Given to a worker with fewer connections to accept one that waits. Idle, it is awake after 0.05 ms, but on busy
    cores only after some milliseconds. A worker that computes for longer loses its head start."""
    stop_seconds: float = 3.0
    """What unfinished requests get when the worker stops; at most half of `graceful_timeout`."""

    stop_idle_seconds: float = 0.5
    """What a connection without a request in hand gets to send one when the worker stops."""

    def body_bytes(self, path: str) -> int:
        """Bytes of the body of a request to this path."""
        below = (most for beginning, most in self.larger_bodies_below.items() if path.startswith(beginning))
        return max(self.max_body_bytes, self.larger_bodies.get(path, 0), *below)


DEFAULTS: Final = Limits()

# Files that are opened while connections are held: a version that is loaded, the deployment, keys, states and numbers
# of all workers for a scrape, the next file of the journal, Redis.
RESERVE: Final = 64


class Descriptors(NamedTuple):
    """The file descriptors of a process."""

    limit: int
    """The soft limit: what it may have at once."""
    most: int
    """The hard limit: up to which it may raise its own."""
    used: int
    """What it has open."""

    @classmethod
    def of_this_process(cls) -> Descriptors:
        """The descriptors of this process now."""
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
