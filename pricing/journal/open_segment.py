"""The segment that a journal writes to.

A record counts as recorded only if its segment is where a reader looks for it. A look takes 3 µs of a prediction that
takes 35, so there are a hundred a second, and not one a record: if the name leads to another file, or to none, because
the folder was removed, renamed, unmounted or covered by a mount, the records since the last look are lost. Their number
is known, so they are counted as dropped. A segment that is truncated is appended to at its new end, so nothing is torn.
"""

import os
from pathlib import Path
from typing import Final

from pricing.journal.segments import mend

LOOK_SECONDS: Final = 0.01


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
        self.unseen = 0  # records since the last look

    def is_in_place(self, now: float) -> bool:
        """Whether a reader finds what is written next. Cuts off what others have done to the end. Raises OSError."""
        if self._looked <= now < self._looked + LOOK_SECONDS:
            return True
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- a Path takes longer
        except OSError:
            return False
        if (status.st_dev, status.st_ino) != self._identity:
            return False
        if status.st_size != self.end and not self._is_torn:
            self.end, _ = mend(self.handle)
        self._looked, self.unseen = now, 0
        return True

    def write(self, data: bytes, records: int) -> None:
        """Append all of it or, if that fails, nothing. Raises OSError."""
        if self._is_torn:
            os.ftruncate(self.handle, self.end)
        self._is_torn = True
        written = os.write(self.handle, data)
        while written < len(data):  # a disk that gets full takes a part
            written += os.write(self.handle, data[written:])
        self._is_torn = False
        self.end += written
        self.unseen += records

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
