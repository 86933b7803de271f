"""The files of the journal: their names, who holds them, how they are mended, compressed and removed.

<root>/<instance>-<slot>-<time>.jsonl       written by the one process that holds its lock
<root>/<instance>-<slot>-<time>.jsonl.zst   the same after rotation, whole; for a moment both are there
<root>/.aside/                               what is being compressed
<root>/.versions/<version>                  last touched when a segment was begun, or first named that version
"""

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

import orjson
import zstandard

PLAIN: Final = ".jsonl"
COMPRESSED: Final = ".jsonl.zst"
VERSIONS: Final = ".versions"
ASIDE: Final = ".aside"  # a folder, so that no pattern of a reader meets what is half written
TIME_FORMAT: Final = "%Y%m%dT%H%M%S.%fZ"
BLOCK: Final = 1 << 16  # bytes read at once from the end of a segment: a batch of 100 houses
LEVEL: Final = 1  # of zstd: for such lines it takes 0.6 of the default's time, and leaves a tenth less
DAY_SECONDS: Final = 86_400.0
ORPHANED_SECONDS: Final = 3_600.0  # nobody's: an instance that has written nothing for so long is not just starting


class Segment(NamedTuple):
    """One file of the journal."""

    path: Path
    writer: str
    """Instance and slot."""
    begun: datetime


def segments(root: Path, writer: str | None = None) -> list[Segment]:
    """Every segment, or those of one writer, oldest first. One that is there in both forms is given compressed."""
    found: dict[str, Segment] = {}
    for path in sorted(root.glob("*.jsonl*")):  # the compressed form comes second
        segment = _parse(path)
        if segment is not None and writer in {None, segment.writer}:
            found[path.name.removesuffix(".zst")] = segment
    return sorted(found.values(), key=lambda segment: (segment.begun, segment.writer))


def _parse(path: Path) -> Segment | None:
    name = path.name.removesuffix(".zst")
    writer, _, begun = name.removesuffix(PLAIN).rpartition("-")
    if not name.endswith(PLAIN) or not writer:
        return None
    try:
        return Segment(path, writer, datetime.strptime(begun, TIME_FORMAT).replace(tzinfo=UTC))
    except ValueError:
        return None


def path_of(root: Path, writer: str, begun: datetime) -> Path:
    """Where a new segment goes."""
    return root / f"{writer}-{begun.astimezone(UTC):{TIME_FORMAT}}{PLAIN}"


def hold(path: Path, flags: int) -> int | None:
    """Open a segment and lock it; None when somebody else holds it. Raises OSError."""
    handle = os.open(path, flags | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle


def mend(handle: int) -> tuple[int, bytes]:
    """Cut off what a crash has left behind the last whole record; returns where that ends, and its line.

    Who was killed leaves at most one record cut short, which it has not answered. A power cut may leave zeros. Raises
    OSError.
    """
    size = end = os.fstat(handle).st_size
    last = b""
    for line, start in _lines_backwards(handle, size):
        if _is_whole(line):
            last = line
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
    return end, last


def _lines_backwards(handle: int, size: int) -> Iterator[tuple[bytes, int]]:
    """Each line and where it begins, from the last one; what follows the last line break is a line too."""
    tail, start = b"", size
    while start > 0:
        begin = max(0, start - BLOCK)
        tail, start = os.pread(handle, start - begin, begin) + tail, begin
        while (cut := tail.rfind(b"\n", 0, -1)) >= 0:
            yield tail[cut + 1 :], start + cut + 1
            tail = tail[: cut + 1]
    if tail:
        yield tail, 0


def _is_whole(line: bytes) -> bool:
    if not line.endswith(b"}\n"):
        return False
    try:
        sequence_of(line)
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return False
    return True


def sequence_of(line: bytes) -> int:
    """The number of a record. Raises JSONDecodeError, TypeError or KeyError for what is none."""
    return int(orjson.loads(line)["sequence"])


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a segment in either form, without what follows the last line break. Raises OSError.

    A segment that is compressed while this is about to open it is read in its other form.
    """
    try:
        file = _open_for_reading(path)
    except FileNotFoundError:
        file = _open_for_reading(path.with_name(path.name.removesuffix(".zst") + ".zst"))
    with file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _open_for_reading(path: Path) -> IO[bytes]:
    if path.name.endswith(COMPRESSED):
        return io.BufferedReader(zstandard.open(path, "rb"), BLOCK)
    return path.open("rb")


def retire(root: Path, writer: str, keep_seconds: float, now: float) -> None:
    """Remove what is older than `keep_seconds`, and compress every segment that nobody writes any more.

    Those of `writer` at once, those of others when they have been left alone for an hour. Raises OSError; then what
    could not be compressed stays as it is.
    """
    ages = {
        f"*{COMPRESSED}": keep_seconds,
        f"{VERSIONS}/v*": keep_seconds + DAY_SECONDS,  # touched when a segment is begun, which is a day's at most
        f"{ASIDE}/*": ORPHANED_SECONDS,  # left by a crash
    }
    for pattern, age in ages.items():
        for path in root.glob(pattern):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < now - age:
                    path.unlink()
    for path in sorted(root.glob(f"*{PLAIN}")):
        segment = _parse(path)
        with suppress(FileNotFoundError):
            if segment and (segment.writer == writer or path.stat().st_mtime < now - ORPHANED_SECONDS):
                _compress(path)


def _compress(path: Path) -> None:
    """Write the compressed form aside, read it back, rename it into place, remove the plain one."""
    handle = hold(path, 0)
    if handle is None:
        return
    with open(handle, "rb") as plain:  # noqa: PTH123 -- a descriptor, which holds the lock
        status = os.fstat(handle)
        if status.st_nlink == 0:  # somebody else was faster
            return
        if mend(handle)[0] == 0:
            path.unlink()
            return
        aside, target = path.parent / ASIDE / path.name, path.with_name(f"{path.name}.zst")
        if not target.exists():  # else killed before the last line of this function
            try:
                aside.parent.mkdir(exist_ok=True)
                _write_compressed(plain, aside)
                os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))  # its age is that of its records
                aside.replace(target)
                sync_folder(path.parent)
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        path.unlink()


def _write_compressed(plain: IO[bytes], aside: Path) -> None:
    with aside.open("wb") as target:
        zstandard.ZstdCompressor(LEVEL, write_checksum=True).copy_stream(plain, target)
        target.flush()
        os.fsync(target.fileno())
    plain.seek(0)
    with io.BufferedReader(zstandard.open(aside, "rb"), BLOCK) as again:
        while (block := plain.read(BLOCK)) == again.read(BLOCK):
            if not block:
                return
    msg = f"{aside.name} does not hold what was written"
    raise OSError(None, msg)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
