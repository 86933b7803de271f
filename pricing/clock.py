"""Whether the wall clock can be believed: what is removed because of its age is removed for good.

1. A jump is a difference between the progress of the wall clock and that of the monotonic clock.
2. Nothing is removed until the wall clock has gone on for a day without a jump.
3. That day is kept beside the journal, so it outlasts restarts, and a jump that is seen by one process counts for all:
   <root>/.clock/seen     modified when the clock was last looked at, by that clock
   <root>/.clock/steady   modified when the clock last jumped, by that clock. Only times change: a full disk is enough.
"""

import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

CLOCK: Final = ".clock"
JUMP_SECONDS: Final = 60.0  # between two looks; smaller corrections change no date
STEADY_SECONDS: Final = 86_400.0
BACK_SECONDS: Final = 3_600.0  # hosts that share a journal differ by less
FORWARD_SECONDS: Final = 86_400.0  # a service may be off for a night

Clock = Callable[[], float]

logger = logging.getLogger(__name__)


def boot_time() -> float:
    """Seconds since the start of the system. Unlike time.monotonic, they go on while the system is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Notices that the wall clock has jumped between two looks."""

    def __init__(self, wall: Clock = time.time, monotonic: Clock = boot_time) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def look(self) -> tuple[float, float]:
        """The time of the wall clock, and by how many seconds it has jumped since the last look."""
        now = self._wall()
        offset = now - self._monotonic()
        jumped, self._offset = offset - self._offset, offset
        return now, jumped if abs(jumped) >= JUMP_SECONDS else 0.0


def is_steady(root: Path, now: float, *, jumped: bool) -> bool:
    """Whether the clock of all writers of this journal has gone on for a day without a jump. Raises OSError."""
    seen, steady = root / CLOCK / "seen", root / CLOCK / "steady"
    try:
        last, since = seen.stat().st_mtime, steady.stat().st_mtime
    except FileNotFoundError:
        last = since = now
        jumped = True
    if not last - BACK_SECONDS <= now <= last + FORWARD_SECONDS:
        logger.warning(
            "the clock is %s %s what the journal in %s has seen last: the service was off, or the clock is wrong; "
            "nothing is removed for a day",
            timedelta(seconds=round(abs(now - last))),
            "ahead of" if now > last else "behind",
            root,
        )
        jumped = True
    steady.parent.mkdir(exist_ok=True)
    for path in (seen, steady) if jumped else (seen,):
        path.touch()
        os.utime(path, (now, now))
    return not jumped and now - since >= STEADY_SECONDS
