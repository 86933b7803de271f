"""Numbers of a worker that outlive it: prometheus-client's multiprocess format, by slot instead of process.

prometheus-client's own values take 0.7 µs for a counter and 1.4 for a histogram, of which a prediction touches eight;
and on a full disk they end the process by SIGBUS, since their file has pages that are not there yet. Here a number is
one element of a mapped file whose space was taken before: 0.1 µs. What is written here is read by prometheus-client.
"""

import json
import mmap
import os
import struct
from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict, mmap_key

START_BYTES: Final = 1 << 18  # 1,500 numbers: three versions
_HEADER: Final = 8  # bytes: how many are used, as int32, and padding
_DOUBLE: Final = 8  # bytes

Labels = Mapping[str, str]
Fate = Callable[[str, Labels], Labels | None]
"""Of a series by its name and labels: the labels to which its number is added, or None if that is dropped."""


class Sample:
    """One number that only grows."""

    __slots__ = ("index", "numbers")

    def __init__(self, numbers: "memoryview[float] | array[float]", index: int) -> None:
        self.numbers = numbers
        self.index = index

    def add(self, amount: float) -> None:
        """Add to it; not atomic, so threads need a lock."""
        self.numbers[self.index] += amount

    @property
    def value(self) -> float:
        """The number now."""
        return self.numbers[self.index]


class InMemoryMetrics:
    """Numbers that live and end with this object."""

    def cell(self, _family: str, _name: str, _labels: dict[str, str], _about: str) -> Sample:
        """A number in memory."""
        return Sample(array("d", [0.0]), 0)

    def fold(self, _fate: Fate) -> None:
        """Forget them: they have no readers."""


class MetricsFile:
    """The counters or the histograms of one slot. A later worker of the slot goes on with its numbers."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError."""
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._map(max(START_BYTES, os.fstat(self._handle).st_size))
        except OSError:
            self.close()
            raise
        self._used = max(_HEADER, struct.unpack_from("i", self._mapped)[0])
        self._say_used()
        values = MmapedDict.read_all_values_from_file(path)  # type: ignore[no-untyped-call]
        self._places: dict[str, int] = {key: place for key, _, _, place in values}

    def cell(self, family: str, name: str, labels: dict[str, str], about: str) -> Sample:
        """The number of one series, 0 when it is new. One that the disk has no room for is not kept."""
        key = mmap_key(family, name, list(labels), list(labels.values()), about)
        try:
            place = self._places.get(key) or self._add(key)
        except OSError:
            return InMemoryMetrics().cell(family, name, labels, about)
        return Sample(self._doubles, place // _DOUBLE)

    def fold(self, fate: Fate) -> None:
        """Add numbers to others, and give their space back. Cells that were taken before count no more. Raises OSError.

        A reader sees the file of before or that of after: it is written aside and renamed.
        """
        folded: dict[str, float] = {}
        for key, place in self._places.items():
            family, name, labels, about = json.loads(key)
            becomes = fate(name, labels)
            if becomes is not None:
                left = mmap_key(family, name, list(becomes), list(becomes.values()), about)
                folded[left] = folded.get(left, 0.0) + self._doubles[place // _DOUBLE]
        if folded.keys() == self._places.keys():
            return
        aside = self._path.with_suffix(".aside")
        aside.unlink(missing_ok=True)
        try:
            with ExitStack() as unless_done:
                other = MetricsFile(aside)
                unless_done.callback(other.close)
                for key, value in folded.items():
                    place = other._add(key)
                    other._doubles[place // _DOUBLE] = value
                aside.replace(self._path)
                unless_done.pop_all()
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        self.close()
        other._path = self._path
        self.__dict__.update(other.__dict__)

    def close(self) -> None:
        """Let the file go; its cells count no more."""
        os.close(self._handle)

    def _add(self, key: str) -> int:
        text = key.encode()
        padded = text + b" " * (_DOUBLE - (len(text) + 4) % _DOUBLE)
        entry = struct.pack(f"i{len(padded)}sdd", len(text), padded, 0.0, 0.0)
        if self._used + len(entry) > self._size:
            self._map(2 * self._size)
        self._mapped[self._used : self._used + len(entry)] = entry
        self._used += len(entry)
        self._say_used()
        self._places[key] = self._used - 2 * _DOUBLE
        return self._places[key]

    def _say_used(self) -> None:
        self._mapped[:4] = struct.pack("i", self._used)  # last, so that a reader or a successor never sees half

    def _map(self, size: int) -> None:
        """Take the space, so that no write can fail, and map it; cells of a former map stay good. Raises OSError."""
        os.posix_fallocate(self._handle, 0, size)
        self._mapped = mmap.mmap(self._handle, size)
        self._doubles = memoryview(self._mapped).cast("d")
        self._size = size
