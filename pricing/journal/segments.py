"""The files of the journal: their names, their locks, and how they are mended, compressed and removed.

<root>/<instance>-<slot>-<time>.jsonl       written by the one process that holds its lock
<root>/<instance>-<slot>-<time>.jsonl.zst   the same after rotation, whole; for a moment both are there
<root>/.aside/                               what is being compressed
<root>/.versions/<version>                  last touched when a segment was begun, or first named that version
<root>/.writers/<instance>-<slot>           locked by the process that writes under that name
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

import orjson
import zstandard

from pricing.errors import DamagedJournalError
from pricing.files.filesystem import FileSystem
from pricing.files.locks import try_lock

PLAIN: Final = ".jsonl"
COMPRESSED: Final = ".jsonl.zst"
VERSIONS: Final = ".versions"
ASIDE: Final = ".aside"  # a folder, so that no pattern of a reader meets what is half written
TIME_FORMAT: Final = "%Y%m%dT%H%M%S.%fZ"
WRITERS: Final = ".writers"
BLOCK: Final = 1 << 20  # bytes read at once
LONGEST: Final = 1 << 16  # bytes of a line that may be a record; one has 600, and a client's part of it is bounded
MAX_REFUSED: Final = 10_000  # lines that look like records and are none: no crash leaves so many, so they stay
RECORD: Final = re.compile(rb'\n\{"prediction_id":"[^"\n]*","sequence":\d+,[^\n]*\}(?=\n)')
LEVEL: Final = 1  # of zstd: for such lines it takes 0.6 of the default's time, and leaves a tenth less
DAY_SECONDS: Final = 86_400.0
ORPHANED_SECONDS: Final = 3_600.0  # unused: an instance that has written nothing for so long is not just starting


class Segment(NamedTuple):
    """One file of the journal."""

    path: Path
    writer: str
    """Instance and slot."""
    begun: datetime


def segments(root: Path, writer: str | None = None) -> list[Segment]:
    """Every segment, or those of one writer, oldest first. One that is there in both forms is given compressed."""
    found: dict[str, Segment] = {}
    for path in sorted(root.glob(f"{writer or ''}*.jsonl*")):  # the compressed form comes second
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
    """Open a segment and lock it; None when another process holds it. Raises OSError."""
    handle = os.open(path, flags | os.O_RDWR | os.O_CLOEXEC, 0o644)
    with ExitStack() as unless_held:
        unless_held.callback(os.close, handle)
        if try_lock(handle):
            unless_held.pop_all()
            return handle
    return None


def mend(handle: int) -> tuple[int, bytes]:
    """Cut off what a crash has left behind the last whole record; returns where that ends, and its line.

    A killed process leaves at most one record cut short, which it has not answered. A power cut may leave zeros. Raises
    OSError.
    """
    size = os.fstat(handle).st_size
    end, last = _last_record(handle, size)
    if end < size:
        os.ftruncate(handle, end)
    return end, last


def _last_record(handle: int, size: int) -> tuple[int, bytes]:
    """Where the last whole record ends, and its line; 0 and nothing if there is none.

    A worker waits for this when it starts, so the time must not depend on what a tail holds: every byte is read once,
    but for the overlap, and a regular expression decides what is parsed.
    """
    begin, refused, newest = size, 0, 0
    while begin > 0:
        end, begin = begin, max(0, begin - BLOCK)
        block = os.pread(handle, end - begin + LONGEST, begin)
        data, shift = (b"\n" + block, begin - 1) if begin == 0 else (block, begin)
        for match in reversed(list(RECORD.finditer(data))):
            line, behind = match[0][1:] + b"\n", shift + match.end() + 1
            if _is_whole(line):
                return behind, line
            refused, newest = refused + 1, newest or behind
            if refused == MAX_REFUSED:
                return newest, b""
    return 0, b""


def _is_whole(line: bytes) -> bool:
    try:
        sequence_of(line)
    except (ValueError, TypeError, KeyError):  # of the first, JSONDecodeError is a kind
        return False
    return True


def sequence_of(line: bytes) -> int:
    """The number of a record. Raises JSONDecodeError, TypeError or KeyError for what is none."""
    return int(orjson.loads(line)["sequence"])


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a segment in either form, without what follows the last line break.

    A segment that is compressed while this is about to open it is read in its other form. Raises OSError, and
    DamagedJournalError for a compressed segment that does not hold what was written.
    """
    with _open_for_reading(path) as file, _damage_of(path):
        for line in file:
            if line.endswith(b"\n"):
                yield line


def line_with(path: Path, needle: bytes) -> bytes | None:
    """The first line of a segment that contains a text of at most LONGEST bytes. Raises as `lines`."""
    with _open_for_reading(path) as file, _damage_of(path):
        data = b""
        while block := file.read(BLOCK):
            data = data[-LONGEST:] + block
            found = data.find(needle)
            if found >= 0:
                data += file.read(LONGEST)  # the rest of the line
                begin, end = data.rfind(b"\n", 0, found) + 1, data.find(b"\n", found)
                return data[begin : end + 1] if end >= 0 else None
    return None


def last_line(path: Path) -> bytes:
    """The last record of a segment; nothing if there is none. Raises as `lines`."""
    with _open_for_reading(path) as file, _damage_of(path):
        if not path.name.endswith(COMPRESSED):
            return _last_record(file.fileno(), os.fstat(file.fileno()).st_size)[1]
        tail = b""
        while block := file.read(BLOCK):  # mended before it was compressed
            tail = tail[-LONGEST:] + block
    line = tail[tail.rfind(b"\n", 0, -1) + 1 :]
    return line if _is_whole(line) else b""


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    try:
        yield
    except zstandard.ZstdError as error:
        msg = f"the segment {path} of the journal is damaged: {error}"
        raise DamagedJournalError(msg) from error


def _open_for_reading(path: Path) -> IO[bytes]:
    with suppress(FileNotFoundError):
        return _open_as_named(path)
    return _open_as_named(path.with_name(path.name.removesuffix(".zst") + ".zst"))


def _open_as_named(path: Path, name: str = "") -> IO[bytes]:
    if (name or path.name).endswith(COMPRESSED):
        return io.BufferedReader(zstandard.open(path, "rb"), BLOCK)
    return path.open("rb")


def retire(root: Path, writer: str, keep_seconds: float | None, now: float) -> None:
    """Remove what is older than `keep_seconds` (None: nothing), and compress every segment that has ended.

    Those of `writer` at once, those of others when they have been left alone for an hour. Raises OSError; then what
    could not be compressed stays as it is.
    """
    if keep_seconds is not None:
        _remove(root, keep_seconds, now)
    for path in sorted(root.glob(f"*{PLAIN}")):
        segment = _parse(path)
        with suppress(FileNotFoundError):
            if segment and (segment.writer == writer or path.stat().st_mtime < now - ORPHANED_SECONDS):
                _compress(path)


def _remove(root: Path, keep_seconds: float, now: float) -> None:
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
    for path in root.glob(f"{WRITERS}/*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < now - keep_seconds and (handle := hold(path, 0)) is not None:
                path.unlink()
                os.close(handle)


def _compress(path: Path) -> None:
    """Write the compressed form aside, read it back, rename it into place, remove the plain one."""
    handle = hold(path, 0)
    if handle is None:
        return
    with open(handle, "rb") as plain:  # noqa: PTH123 -- a descriptor, which holds the lock
        status = os.fstat(handle)
        if status.st_nlink == 0:  # another process was faster
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
                FileSystem().sync(path.parent)
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
    with suppress(zstandard.ZstdError), _open_as_named(aside, COMPRESSED) as again:
        while (block := plain.read(BLOCK)) == again.read(BLOCK):
            if not block:
                return
    msg = f"{aside.name} does not hold what was written"
    raise OSError(None, msg)
