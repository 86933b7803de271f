"""The journal: one line for each prediction, written before its answer leaves.

Every prediction answered 200 is here exactly once while the disk accepts writes. A killed worker loses none that it
answered. A power cut loses at most the last second. What is dropped is numbered, so that a gap in the sequence of a
writer is exactly what is missing.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, TypeAlias

import orjson
from pydantic import AwareDatetime, FiniteFloat, ValidationError

from pricing.artifacts.manifest import Sha256, Version
from pricing.clock import Clock, ClockWatch, boot_time, is_steady
from pricing.errors import DamagedJournalError, JournalError, UnknownPredictionError
from pricing.files.filesystem import FileSystem
from pricing.format import Stored, reason_of
from pricing.ids import moment
from pricing.journal.folder import JournalFolder
from pricing.journal.open_segment import OpenSegment
from pricing.journal.segments import (
    DAY_SECONDS,
    PLAIN,
    VERSIONS,
    Segment,
    hold,
    last_line,
    line_with,
    lines,
    mend,
    path_of,
    retire,
    segments,
    sequence_of,
)
from pricing.memory import trim_heap

SYNC_SECONDS: Final = 1.0
RETIRE_SECONDS: Final = 3_600.0
MAX_ENDS: Final = 1_000
CLOCKS_DIFFER: Final = timedelta(minutes=1)  # the id of a prediction is made just before its record is written

Arm = Literal["champion", "challenger", "requested"]

logger = logging.getLogger(__name__)


class Record(Stored):
    """One line. A line of a later release may hold more."""

    prediction_id: str
    sequence: int
    """Of this instance and slot, from 1, without gaps but for what was dropped."""
    house: dict[str, FiniteFloat]
    """As it was sent."""
    columns: dict[str, FiniteFloat | str] = {}  # noqa: RUF012 -- pydantic copies it
    """Further columns of the version that were given; absent of a version that knows none."""
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
            msg = f"a line of the journal is not a valid record: {reason_of(error, 'line')}"
            raise DamagedJournalError(msg) from error


class Source(NamedTuple):
    """The version that answered, and how: the same for many requests."""

    generation: int
    model_version: str
    arm: Arm
    sha256: str
    confidence_level: float
    cache_hit: bool


class Context(NamedTuple):
    """The part that all predictions of one request share."""

    source: Source
    predicted_at: str
    request_id: str
    key_id: str | None


Columns: TypeAlias = Sequence[Mapping[str, float | str]]
"""The further columns that were given, for each entry."""
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
    damage: DamagedJournalError | None = None
    for segment in _in_order(root, made):
        try:
            line = line_with(segment.path, needle)
        except FileNotFoundError:  # too old, and removed since the list was made
            continue
        except DamagedJournalError as error:  # another segment may have it
            damage = error
            continue
        if line is not None:
            return Record.parse(line)
    if damage is not None:
        raise damage
    msg = f"prediction {prediction_id} was not found in {root}; its ID is of {made:%Y-%m-%d %H:%M} UTC"
    raise UnknownPredictionError(msg)


def _in_order(root: Path, made: datetime) -> list[Segment]:
    """All segments, those first that were written when a prediction was made.

    The names are a hint only: a clock that was set back or forward is in the names, and in the ids.
    """
    likely: list[Segment] = []
    others: list[Segment] = []
    later = datetime.max.replace(tzinfo=UTC)
    ends: dict[str, datetime] = {}  # of each writer: where the segment after this one begins
    for segment in reversed(segments(root)):
        end = ends.get(segment.writer, later)
        ends[segment.writer] = segment.begun
        is_likely = segment.begun - CLOCKS_DIFFER <= made and made - CLOCKS_DIFFER <= end
        (likely if is_likely else others).append(segment)
    return likely + others


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

    def __init__(  # noqa: PLR0913, PLR0917 -- settings, two clocks for tests, and who counts
        self,
        root: Path,
        instance: str,
        slot: int,
        segment_bytes: int,
        keep_days: int,
        wall: Clock = time.time,
        monotonic: Clock = boot_time,
        lost: Callable[[int], object] = lambda _records: None,
    ) -> None:
        """`lost` gets the number of records that `append` took for recorded, if their segment turns out to be gone."""
        self.root = root
        self._folder = JournalFolder(root, instance, slot)
        self._ends: dict[Source, bytes] = {}
        self._segment_bytes = segment_bytes
        self._keep_seconds = keep_days * DAY_SECONDS
        self._wall = wall
        self._monotonic = monotonic
        self._lost = lost
        self._watch = ClockWatch(wall, monotonic)
        self._has_jumped = False
        self._lock = threading.Lock()
        self._segment: OpenSegment | None = None
        self._begun = datetime.fromtimestamp(0, UTC)
        self._from = self._until = 0.0  # the day on which it was opened, as Unix time
        self._sequence = 0
        self._is_failing = False
        self._dropped = 0  # since the first failure in a row
        self._is_unsynced = False
        self._left: list[OpenSegment] = []  # segments that this writer has ended, still open
        self._retired_at = -RETIRE_SECONDS
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="journal", daemon=True)

    def start(self) -> None:
        """Go on where this writer has ended, and keep its files from now on. Never raises, as `append`."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Make all of it durable, and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sync()

    def close(self) -> None:
        """Let another process write under this name, as the end of this one does."""
        with self._lock:
            for segment in (*self._left, self._segment):
                if segment is not None:
                    os.close(segment.handle)
            self._left, self._segment = [], None
            self._folder.release()

    def append(self, context: Context, entries: Collection[Entry], columns: Columns | None = None) -> bool:
        """Write a record for each entry, in one piece; returns whether they are there: all of them, or none.

        `columns` are the further columns that were given for each entry; None of a version that knows none.

        Never raises, since a prediction is answered also when the disk is full. Of failures in a row the first is
        logged, and their end.
        """
        with self._lock:
            try:
                segment = self._ready(context.source.model_version)
                segment.write(self._lines(context, entries, columns), len(entries))
            except OSError as error:
                self._drop(len(entries), error)
                return False
            finally:
                self._sequence += len(entries)  # dropped or not: what is missing is a gap
            if self._is_failing:
                logger.warning("the journal records again; it has dropped %d predictions", self._dropped)
                self._is_failing, self._dropped = False, 0
            self._is_unsynced = True
            return True

    def _lines(self, context: Context, entries: Iterable[Entry], columns: Columns | None) -> bytes:
        """A line for each entry, encoded in one go: what they share is put where one ends and the next begins.

        What is an entry's own are numbers and an id of ours, so those three bytes are nowhere else. Columns may hold
        text of a client, in which they may be: their lines are encoded one by one.
        """
        source, predicted_at, request_id, key_id = context
        shared = {"predicted_at": predicted_at, "request_id": request_id, "key_id": key_id}
        own: list[dict[str, object]] = [
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
        end = self._ends.get(source) or self._end_of(source)
        if columns is not None:
            pairs = zip(own, columns, strict=True)
            return b"".join(orjson.dumps(line | {"columns": given} | shared)[:-1] + end for line, given in pairs)
        if len(own) == 1:
            own[0] |= shared
            return orjson.dumps(own[0])[:-1] + end
        end = b"," + orjson.dumps(shared)[1:-1] + end
        # `replace` would look for them twice
        return (end + b"{").join(orjson.dumps(own)[1:-2].split(b"},{")) + end

    def _end_of(self, source: Source) -> bytes:
        """The rest of a line, which is the same for many."""
        if len(self._ends) >= MAX_ENDS:
            self._ends.clear()
        owner = {"instance": self._folder.instance, "slot": self._folder.slot, "format": Record.NEWEST}
        end = self._ends[source] = b"," + orjson.dumps(source._asdict() | owner)[1:] + b"\n"
        return end

    def _drop(self, count: int, error: OSError) -> None:
        if not self._is_failing:
            logger.error(
                "the journal in %s cannot be written: %s; predictions are not recorded", self.root, _why(error)
            )
        self._is_failing = True
        self._dropped += count
        if self._segment is not None:
            with suppress(OSError):  # else before the next record
                self._segment.cut()

    def _look(self) -> None:
        """Find out beside the requests what an append would find out."""
        with self._lock:
            try:
                now = self._wall()
                if self._segment is None or not self._segment.is_in_place(now):
                    self._open_again(now)
                self._folder.keep_names(now)
            except OSError as error:
                self._drop(0, error)

    def _ready(self, version: str) -> OpenSegment:
        """The segment to write to, whose folder knows that it will name this version. Raises OSError."""
        now = self._wall()
        segment = self._segment
        if segment is None or not segment.is_in_place(now):
            segment = self._open_again(now)
        if segment.end >= self._segment_bytes or not self._from <= now < self._until:
            with suppress(OSError):  # else the old one is as good
                segment = self._replace(segment, now)
        if version not in self._folder.named:
            self._folder.name(version, now)
        return segment

    def _open_again(self, now: float) -> OpenSegment:
        """Go on in the folder that is there now. Raises OSError."""
        if self._segment is not None:
            lost = self._segment.unseen
            logger.error(
                "a segment of the journal in %s was removed while it was written; %d records are lost", self.root, lost
            )
            self._left.append(self._segment)  # an open file would keep its volume from being unmounted
            self._segment = None
            self._lost(lost)
        self._segment = self._open(now)
        return self._segment

    def _open(self, now: float) -> OpenSegment:
        """Go on with the last segment of this writer, if it is of today and not full. Otherwise begin another."""
        self._folder.make()
        has_other_name = self._folder.claim()
        self._ends.clear()
        own = segments(self.root, self._folder.writer)
        self._begun = own[-1].begun if own else self._begun
        self._folder.named.clear()
        segment, last = self._last_of(own, now)
        if segment is None:
            segment = self._begin(now)
        self._from, self._until = _day_of(now)
        number = (sequence_of(last) if last else 0) + self._dropped
        self._sequence = number if has_other_name else max(self._sequence, number)
        return segment

    def _last_of(self, own: list[Segment], now: float) -> tuple[OpenSegment | None, bytes]:
        """The last segment, if it can be continued, and the last line of this writer. Raises OSError."""
        handle, last = None, b""
        if own and own[-1].path.name.endswith(PLAIN):
            handle = hold(own[-1].path, os.O_APPEND)
        if handle is not None:
            end, last = mend(handle)
            # The name of a segment that was begun while the clock was ahead has a wrong day; its last change does.
            written = min(own[-1].begun.timestamp(), os.fstat(handle).st_mtime)
            if end < self._segment_bytes and _day_of(written) == _day_of(now):
                return OpenSegment(own[-1].path, handle, end), last or _last_line(own[:-1])
            os.close(handle)
        return None, last or _last_line(own)

    def _replace(self, ended: OpenSegment, now: float) -> OpenSegment:
        self._segment = self._begin(now)
        self._left.append(ended)
        self._from, self._until = _day_of(now)
        ended.date(now)
        return self._segment

    def _begin(self, now: float) -> OpenSegment:
        begun = max(datetime.fromtimestamp(now, UTC), self._begun + timedelta(microseconds=1))
        path = path_of(self.root, self._folder.writer, begun)
        handle = hold(path, os.O_CREAT | os.O_EXCL | os.O_APPEND)
        if handle is None:  # O_EXCL: the process that makes a file is the first to lock it
            raise BlockingIOError
        self._begun = begun
        self._folder.named.clear()
        self._is_unsynced = True
        return OpenSegment(path, handle, 0)

    def _keep_on(self) -> None:
        while not self._stopping.wait(SYNC_SECONDS):
            self._look()
            self._sync()
            self._retire()

    def _sync(self) -> None:
        """Make what has been written durable, beside the requests."""
        with self._lock:
            segment, left, is_unsynced = self._segment, self._left, self._is_unsynced
            self._left, self._is_unsynced = [], False
        try:
            if is_unsynced and segment is not None:
                os.fdatasync(segment.handle)
                FileSystem().sync(self.root)
            for ended in left:
                os.fdatasync(ended.handle)
        except OSError as error:
            logger.error("the journal in %s cannot be made durable: %s", self.root, _why(error))  # noqa: TRY400
        for ended in left:
            os.close(ended.handle)
            self._retired_at = -RETIRE_SECONDS

    def _retire(self) -> None:
        """Compress and remove what is due: after a rotation, and every hour."""
        now, jump = self._watch.look()
        if jump:
            logger.error(
                "the clock has jumped by %s; nothing is removed from the journal in %s for a day",
                timedelta(seconds=round(jump)),
                self.root,
            )
            self._has_jumped, self._retired_at = True, -RETIRE_SECONDS
        if self._monotonic() < self._retired_at + RETIRE_SECONDS:
            return
        self._retired_at = self._monotonic()
        try:
            is_old = is_steady(self.root, now, jumped=self._has_jumped)
            self._has_jumped = False
            retire(self.root, self._folder.writer, self._keep_seconds if is_old else None, now)
            trim_heap()  # compression takes some megabytes, which the process would keep
        except OSError as error:
            logger.error("old segments of the journal in %s stay as they are: %s", self.root, _why(error))  # noqa: TRY400


def _day_of(now: float) -> tuple[float, float]:
    """Both ends of a day, UTC, as Unix time."""
    begin = now // DAY_SECONDS * DAY_SECONDS
    return begin, begin + DAY_SECONDS


def _last_line(own: list[Segment]) -> bytes:
    """The last line of the youngest segment that has one. Raises OSError."""
    for segment in reversed(own):
        try:
            if found := last_line(segment.path):
                return found
        except DamagedJournalError as error:
            logger.error("%s; its last number is not known", error)  # noqa: TRY400 -- the sentence says it all
    return b""


def _why(error: OSError) -> str:
    return error.strerror or str(error)
