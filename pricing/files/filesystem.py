"""The operations by which the store changes its folder, one at a time, so that a test can stop between any two."""

import os
import shutil
from pathlib import Path


class FileSystem:
    """A real file system. Every method may raise OSError."""

    def make_folder(self, path: Path) -> None:
        """Make a folder that others may read: the service may run as another user than the training."""
        path.mkdir()
        path.chmod(0o755)

    def write(self, path: Path, data: bytes) -> None:
        """Make a file that others may read; it is durable after `sync`."""
        with path.open("xb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)

    def sync(self, path: Path) -> None:
        """Make the content of a file, or the names in a folder, survive a power cut."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name; a file of that name is replaced, in one step."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with all that is in it."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
