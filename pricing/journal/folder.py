"""The folder of a journal as its writer needs it: whether it is there, which names are taken, which versions it names.

1. A missing folder is made again only below the parent that it had. Else it may be the place of a volume that is gone,
   and what is written there is hidden when the volume is back.
2. A name is locked by the process that writes under it. Another process takes the next number that is free.
3. A version that a record may name has its name here before the record is written.
"""

import logging
import os
from pathlib import Path
from typing import Final

from pricing.journal.segments import VERSIONS, WRITERS, hold

logger = logging.getLogger(__name__)


def is_at(path: str | Path, handle: int) -> bool:
    """Whether a path leads to the file that is open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))  # noqa: PTH116 -- also of a str
    except OSError:
        return False


class JournalFolder:
    """Its methods raise OSError."""

    def __init__(self, root: Path, instance: str, slot: int) -> None:
        self.root: Final = root
        self.instance: Final = instance
        self.slot = slot
        """Once it is claimed, the first free number from the one that was asked for."""
        self._lock: int | None = None
        self._was_mount = False
        self._parent: os.stat_result | None = None  # as it was when the folder was there
        self.named: set[str] = set()
        """Versions of the records of this segment."""

    @property
    def writer(self) -> str:
        """The name under which this process writes."""
        return f"{self.instance}-{self.slot}"

    def make(self) -> None:
        """Make what is missing, see above."""
        parent = self.root.absolute().parent
        if self._parent is None:
            self.root.mkdir(parents=True, exist_ok=True)
        elif self._was_mount and not self.root.is_mount():
            raise OSError(None, "its volume is not mounted")
        elif os.path.samestat(self._parent, parent.stat()):
            self.root.mkdir(exist_ok=True)
        for name in (VERSIONS, WRITERS):
            (self.root / name).mkdir(exist_ok=True)
        self._was_mount, self._parent = self.root.is_mount(), parent.stat()

    def claim(self) -> bool:
        """Hold a name that no other process writes under; returns whether it is another one than before."""
        was, is_first = self.writer, self._lock is None
        if self._lock is not None:
            if is_at(self.root / WRITERS / was, self._lock):
                return False
            self.release()  # of a folder that is gone
        while (lock := self._hold()) is None:
            self.slot += 1
        self._lock = lock
        if self.writer != was:
            logger.warning(
                "another process writes as %s in the journal in %s; this one writes as %s. "
                "Set APPRAISER_INSTANCE to another name for each service.",
                *(was, self.root, self.writer),
            )
        return self.writer != was and not is_first

    def release(self) -> None:
        """Let the name go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hold(self) -> int | None:
        path = self.root / WRITERS / self.writer
        while (handle := hold(path, os.O_CREAT)) is not None:
            if is_at(path, handle):
                os.utime(handle)
                return handle
            os.close(handle)  # removed before it was locked, since it was unused for long
        return None

    def name(self, version: str, now: float) -> None:
        """Protect a version from being pruned. Its name never gets older, also when the clock is set back."""
        path = self.root / VERSIONS / version
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (now, max(now, path.stat().st_mtime)))
        self.named.add(version)

    def keep_names(self, now: float) -> None:
        """Name versions again whose names were removed."""
        for version in [name for name in self.named if not (self.root / VERSIONS / name).exists()]:
            self.name(version, now)
