"""What a client may cost. The worker enforces it; the settings take their defaults from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

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
    stop_seconds: float = 3.0
    """What unfinished requests get when the worker stops; at most half of `graceful_timeout`."""

    stop_idle_seconds: float = 0.5
    """What a connection without a request in hand gets to send one when the worker stops."""

    def body_bytes(self, path: str) -> int:
        """Bytes of the body of a request to this path."""
        return max(self.max_body_bytes, self.larger_bodies.get(path, 0))


DEFAULTS: Final = Limits()
