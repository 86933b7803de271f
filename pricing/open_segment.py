"""The segment that a journal writes to.

A record counts as recorded only if its segment is where a reader looks for it, so every write looks first:

1. A name leads to the segment. Its moment makes the name unique, so a folder that is removed, renamed, unmounted or
   covered by a mount is found at once. This takes 0.9 µs.
2. At most a millisecond ago the name led to the same file of the same size: neither replaced nor truncated. Under load
   this costs nothing. A segment that is truncated in between is appended to at its new end, so nothing is torn.
"""

import os
from pathlib import Path
from typing import Final

from pricing.segments import mend

LOOK_SECONDS: Final = 0.001


class OpenSegment:
    """A locked file and the end of its last whole record. Behind that end nothing is left."""

    def __init__(self, path: Path, handle: int, end: int) -> None:
        """Take over a descriptor from `hold` that appends."""
        self.handle: Final = handle
        self.end = end
        self._path = os.fspath(path)
        status = os.fstat(handle)
        self._identity = status.st_dev, status.st_ino
        self._is_torn = False
        self._looked = 0.0

    def is_in_place(self, now: float) -> bool:
        """Whether a reader finds what is written next. Cuts off what others have done to the end. Raises OSError."""
        if self._looked <= now < self._looked + LOOK_SECONDS:
            return os.access(self._path, os.F_OK)
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- a Path takes longer
        except OSError:
            return False
        if (status.st_dev, status.st_ino) != self._identity:
            return False
        if status.st_size != self.end and not self._is_torn:
            self.end, _ = mend(self.handle)
        self._looked = now
        return True

    def write(self, data: bytes) -> None:
        """Append all of it or, if that fails, nothing. Raises OSError."""
        if self._is_torn:
            os.ftruncate(self.handle, self.end)
        self._is_torn = True
        written = os.write(self.handle, data)
        while written < len(data):  # a disk that gets full takes a part
            written += os.write(self.handle, data[written:])
        self._is_torn = False
        self.end += written

    def cut(self) -> None:
        """Remove what a failed write has left. Raises OSError."""
        if self._is_torn:
            os.ftruncate(self.handle, self.end)
            self._is_torn = False

    def date(self, now: float) -> None:
        """Count the age of an ended segment from its end, and never from an earlier moment. Raises OSError.

        A segment that is written while the clock is years behind would otherwise be removed once the clock is right.
        """
        os.utime(self.handle, (now, max(now, os.fstat(self.handle).st_mtime)))
