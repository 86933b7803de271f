"""A folder that one process at a time changes, and only whole: what a store of anything is built on.

The writer holds the lock, so what lies aside under one of our names was left by a crash.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

from pricing.errors import NotWritableError
from pricing.files.filesystem import FileSystem

ASIDE: Final = ".aside-"

Stamp: TypeAlias = tuple[int, int, int, int]


class LockedFolder:
    """Reading needs no write access; nothing is created before the first change."""

    def __init__(self, root: Path, disk: FileSystem | None = None) -> None:
        self.root = root
        self._disk = disk or FileSystem()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time; the kernel frees the lock when its holder dies. Raises NotWritableError."""
        try:
            self._make_root()
            with (self.root / ".lock").open("ab") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        except OSError as error:  # reading has errors of its own
            msg = f"{self.root} cannot be written: {error.strerror}"
            raise NotWritableError(msg) from error

    def _make_root(self) -> None:
        missing = [path for path in (self.root, *self.root.parents) if not path.exists()]
        for path in reversed(missing):
            with suppress(FileExistsError):  # another writer was faster
                self._disk.make_folder(path)
            self._disk.sync(path.parent)

    def _sync_or(self, undo: Callable[[], None]) -> None:
        """Make the names in the folder durable; what cannot be, others must not see either, so it is undone."""
        try:
            self._disk.sync(self.root)
        except OSError:
            undo()  # a disk that refuses this too leaves what there is, which is whole
            self._disk.sync(self.root)
            raise

    def _temporary_path(self, name: str) -> Path:
        """A path of that name for what is not whole yet; what a crash left there, or at another, is removed."""
        left_by_a_crash = list(self.root.glob(f"{ASIDE}*"))
        if left_by_a_crash:  # a version on its way out may not have lost its name for good
            self._disk.sync(self.root)
        for path in left_by_a_crash:
            self._disk.remove(path)
        return self.root / f"{ASIDE}{name}"

    def _replace(self, name: str, data: bytes) -> None:
        """Put a file in the place of what there is under its name: a reader finds the old one or the new one."""
        aside = self._temporary_path(name)
        self._disk.write(aside, data)
        self._disk.sync(aside)
        self._disk.rename(aside, self.root / name)

    def _stamp(self, name: str) -> Stamp | None:
        """A value that changes whenever the file of a name changes; None if the file does not exist. Costs one `stat`.

        Raises OSError if that is not known: a file that cannot be looked at is not a file that is gone.
        """
        try:
            found = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        # the time of the last change too: a copy may have the time of writing and the size of what it replaces
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
