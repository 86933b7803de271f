"""The journal: one line for each prediction, written before its answer leaves.

Every prediction answered 200 is here exactly once while the disk accepts writes. A killed worker loses none that it
answered. A power cut loses at most the last second. What is dropped is numbered, so that a gap in the sequence of a
writer is exactly what is missing.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, TypeAlias

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat, ValidationError

from pricing.errors import DamagedJournalError, JournalError, UnknownPredictionError
from pricing.ids import moment
from pricing.manifest import Sha256, Version
from pricing.memory import give_back
from pricing.segments import (
    PLAIN,
    VERSIONS,
    Segment,
    hold,
    lines,
    mend,
    path_of,
    retire,
    segments,
    sequence_of,
    sync_folder,
)

SYNC_SECONDS: Final = 1.0
RETIRE_SECONDS: Final = 3_600.0
MOST_ENDS: Final = 1_000
CLOCKS_DIFFER: Final = timedelta(minutes=1)  # the id of a prediction is made just before its record is written

Arm = Literal["champion", "challenger", "requested"]

logger = logging.getLogger(__name__)


class Record(BaseModel):
    """One line. A line of a later release may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prediction_id: str
    sequence: int
    """Of this instance and slot, from 1, without gaps but for what was dropped."""
    house: dict[str, FiniteFloat]
    """As it was sent."""
    predicted_price: FiniteFloat
    """In US dollars and not rounded, as the bounds are: the answer has the same, rounded to cents."""
    lower: FiniteFloat
    upper: FiniteFloat
    predicted_at: AwareDatetime
    generation: int
    model_version: Version
    arm: Arm
    """Of a split: whose client it is; `requested` when the client named the version."""
    sha256: Sha256
    """Of the manifest, which seals the graph."""
    confidence_level: float
    cache_hit: bool
    request_id: str
    key_id: str | None
    """Of the client's key."""
    instance: str
    slot: int

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Return the record of a line. Raises DamagedJournalError."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            msg = f"a line of the journal is no record: {'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}"
            raise DamagedJournalError(msg) from error


class Source(NamedTuple):
    """Who answered, and how: the same for many requests."""

    generation: int
    model_version: str
    arm: Arm
    sha256: str
    confidence_level: float
    cache_hit: bool


class Context(NamedTuple):
    """What all predictions of one request share."""

    source: Source
    predicted_at: str
    request_id: str
    key_id: str | None


Entry: TypeAlias = tuple[str, dict[str, float], float, float, float]
"""What is one prediction's own: its id, the house, price, lower and upper bound. A plain tuple, of which batches make
thousands."""


def read(root: Path) -> Iterator[Record]:
    """Every record, oldest segment first. Raises DamagedJournalError or OSError."""
    for segment in segments(root):
        for line in lines(segment.path):
            yield Record.parse(line)


def find(root: Path, prediction_id: str) -> Record:
    """Return the record of a prediction. Raises UnknownPredictionError, DamagedJournalError or OSError."""
    made = moment(prediction_id)
    if made is None:
        msg = f"{prediction_id!r} is not a prediction_id; they look like 019ab1f0-3c5e-7d2a-8f31-0242ac120002"
        raise UnknownPredictionError(msg)
    needle = f'"prediction_id":"{prediction_id}"'.encode()
    later = datetime.max.replace(tzinfo=UTC)
    ends: dict[str, datetime] = {}  # of each writer: where the segment after this one begins
    for segment in reversed(segments(root)):
        end = ends.get(segment.writer, later)
        ends[segment.writer] = segment.begun
        if segment.begun - CLOCKS_DIFFER <= made and made - CLOCKS_DIFFER <= end:
            for line in lines(segment.path):
                if needle in line:
                    return Record.parse(line)
    msg = f"there is no prediction {prediction_id} in {root}, which would have been made at {made:%Y-%m-%d %H:%M} UTC"
    raise UnknownPredictionError(msg)


def named_versions(root: Path) -> set[str]:
    """Versions that a record may name: they are needed to replay it.

    Raises JournalError where that cannot be known: no journal has been kept there, or its list cannot be read.
    """
    try:
        found = {entry.name for entry in os.scandir(root / VERSIONS) if entry.name.startswith("v")}
    except OSError as error:
        msg = f"the versions that the journal in {root} names are not known: {root / VERSIONS}: {error.strerror}"
        raise JournalError(msg) from error
    if not found and segments(root):
        msg = f"the versions that the journal in {root} names are not known: {root / VERSIONS} is empty"
        raise JournalError(msg)
    return found


class Journal:
    """The half that writes: one object for each process that has a slot, and one segment at a time."""

    def __init__(self, root: Path, instance: str, slot: int, segment_bytes: int, keep_days: int) -> None:
        self.root = root
        self._owner = {"instance": instance, "slot": slot}
        self._ends: dict[Source, bytes] = {}
        self._writer = f"{instance}-{slot}"
        self._segment_bytes = segment_bytes
        self._keep_seconds = keep_days * 86_400.0
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._begun = datetime.fromtimestamp(0, UTC)
        self._until = 0.0  # the end of its day, as Unix time
        self._end = 0  # of its last whole record
        self._is_torn = False  # whether something lies behind that
        self._named: set[str] = set()  # versions of its records
        self._sequence = 0
        self._is_failing = False
        self._dropped = 0  # since the first failure in a row
        self._is_unsynced = False
        self._left: list[int] = []  # segments that this writer has ended, still open
        self._retired_at = -RETIRE_SECONDS
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="journal", daemon=True)

    def start(self) -> None:
        """Go on where this writer has ended, and keep its files from now on. Never raises, as `append`."""
        with self._lock:
            try:
                self._ready(None)
            except OSError as error:
                self._drop(0, error)
        self._thread.start()

    def stop(self) -> None:
        """Make all of it durable, and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sync()

    def append(self, context: Context, entries: Collection[Entry]) -> bool:
        """Write a record for each entry, in one piece; returns whether they are there: all of them, or none.

        Never raises, since a prediction is answered also when the disk is full. Of failures in a row the first is
        logged, and their end.
        """
        with self._lock:
            try:
                handle = self._ready(context.source.model_version)
                self._write(handle, self._lines(context, entries))
            except OSError as error:
                self._drop(len(entries), error)
                return False
            finally:
                self._sequence += len(entries)  # dropped or not: what is missing is a gap
            if self._is_failing:
                logger.warning("the journal records again; it has dropped %d predictions", self._dropped)
                self._is_failing, self._dropped = False, 0
            return True

    def _lines(self, context: Context, entries: Iterable[Entry]) -> bytes:
        """A line for each entry, encoded in one go: what they share is put where one ends and the next begins.

        What is an entry's own are numbers and an id of ours, so those three bytes are nowhere else.
        """
        source, predicted_at, request_id, key_id = context
        own = [
            {
                "prediction_id": prediction_id,
                "sequence": sequence,
                "house": house,
                "predicted_price": price,
                "lower": lower,
                "upper": upper,
            }
            for sequence, (prediction_id, house, price, lower, upper) in enumerate(entries, self._sequence + 1)
        ]
        shared = orjson.dumps({"predicted_at": predicted_at, "request_id": request_id, "key_id": key_id})
        end = b"," + shared[1:-1] + (self._ends.get(source) or self._end_of(source))
        # `replace` would look for them twice
        return (end + b"{").join(orjson.dumps(own)[1:-2].split(b"},{")) + end

    def _end_of(self, source: Source) -> bytes:
        """The rest of a line, which is the same for many."""
        if len(self._ends) >= MOST_ENDS:
            self._ends.clear()
        end = self._ends[source] = b"," + orjson.dumps(source._asdict() | self._owner)[1:] + b"\n"
        return end

    def _write(self, handle: int, data: bytes) -> None:
        """Write at the end of the whole records, all of it or, when that fails, nothing. Raises OSError."""
        if self._is_torn:
            os.ftruncate(handle, self._end)
        self._is_torn = True
        written = 0
        while written < len(data):  # a disk that gets full takes a part
            written += os.pwrite(handle, data[written:], self._end + written)
        self._is_torn = False
        self._end += written
        self._is_unsynced = True

    def _drop(self, count: int, error: OSError) -> None:
        if not self._is_failing:
            logger.error(
                "the journal in %s cannot be written: %s; predictions are not recorded", self.root, _why(error)
            )
        self._is_failing = True
        self._dropped += count
        if self._handle is not None and self._is_torn:
            with suppress(OSError):  # else before the next record
                os.ftruncate(self._handle, self._end)
                self._is_torn = False

    def _ready(self, version: str | None) -> int:
        """The segment to write to, whose folder knows that it will name this version. Raises OSError."""
        now = time.time()
        if self._handle is None:
            self._handle = self._open(now)
        elif self._end >= self._segment_bytes or now >= self._until:
            with suppress(OSError):  # else the old one is as good
                self._replace(now)
        if version is not None and version not in self._named:
            (self.root / VERSIONS / version).touch()
            self._named.add(version)
        return self._handle

    def _open(self, now: float) -> int:
        """Go on with the last segment of this writer, if it is of today and not full; else begin another."""
        (self.root / VERSIONS).mkdir(parents=True, exist_ok=True)
        own = segments(self.root, self._writer)
        self._begun = own[-1].begun if own else self._begun
        handle, (end, last) = None, (0, b"")
        if own and own[-1].path.name.endswith(PLAIN):
            handle = hold(own[-1].path, 0)
        if handle is not None:
            end, last = mend(handle)
        if handle is not None and (end >= self._segment_bytes or now >= _end_of_day(self._begun)):
            os.close(handle)
            handle = None
        if handle is None:
            handle, end = self._begin(now), 0
        self._end, self._until = end, _end_of_day(self._begun)
        if last := last or _last_line(own):
            self._sequence += sequence_of(last)
        return handle

    def _replace(self, now: float) -> None:
        handle = self._begin(now)
        if self._handle is not None:
            self._left.append(self._handle)
        self._handle, self._end, self._is_torn, self._until = handle, 0, False, _end_of_day(self._begun)

    def _begin(self, now: float) -> int:
        begun = max(datetime.fromtimestamp(now, UTC), self._begun + timedelta(microseconds=1))
        handle = hold(path_of(self.root, self._writer, begun), os.O_CREAT | os.O_EXCL)
        if handle is None:  # O_EXCL: who makes a file is the first to lock it
            raise BlockingIOError
        self._begun = begun
        self._named.clear()
        self._is_unsynced = True
        return handle

    def _keep_on(self) -> None:
        while not self._stopping.wait(SYNC_SECONDS):
            self._sync()
            self._retire()

    def _sync(self) -> None:
        """Make what has been written durable, beside the requests."""
        with self._lock:
            handle, left, is_unsynced = self._handle, self._left, self._is_unsynced
            self._left, self._is_unsynced = [], False
        try:
            if is_unsynced and handle is not None:
                os.fdatasync(handle)
                sync_folder(self.root)
            for ended in left:
                os.fdatasync(ended)
        except OSError as error:
            logger.error("the journal in %s cannot be made durable: %s", self.root, _why(error))  # noqa: TRY400
        for ended in left:
            os.close(ended)
            self._retired_at = -RETIRE_SECONDS
        if handle is not None and os.fstat(handle).st_nlink == 0:
            self._begin_again()

    def _begin_again(self) -> None:
        """Somebody has removed the segment that is written to: what comes now shall be seen again."""
        logger.error("a segment of the journal in %s was removed while it was written; another is begun", self.root)
        with self._lock, suppress(OSError):  # else a second later
            self._replace(time.time())

    def _retire(self) -> None:
        """Compress and remove what is due: after a rotation, and every hour."""
        if time.monotonic() < self._retired_at + RETIRE_SECONDS:
            return
        self._retired_at = time.monotonic()
        try:
            retire(self.root, self._writer, self._keep_seconds, time.time())
            give_back()  # compression takes some megabytes, which the process would keep
        except OSError as error:
            logger.error("old segments of the journal in %s stay as they are: %s", self.root, _why(error))  # noqa: TRY400


def _end_of_day(moment_of_it: datetime) -> float:
    """The next midnight, UTC, as Unix time."""
    return datetime.combine(moment_of_it.date() + timedelta(days=1), datetime.min.time(), UTC).timestamp()


def _last_line(own: list[Segment]) -> bytes:
    """The last line of the youngest segment that has one."""
    for segment in reversed(own):
        found = deque(lines(segment.path), maxlen=1)
        if found:
            return found[0]
    return b""


def _why(error: OSError) -> str:
    return error.strerror or str(error)
