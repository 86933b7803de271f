"""The test rows that a version was published with, so that a later judgement can find those that have come since.

The file beside a version: a line of JSON with its format, the sha256 of what follows, then a number of 8 bytes for each
row, rising. Format 1 had no such line.
"""

import hashlib
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pricing.format import Stored, is_of_a_later_release, reason_of
from pricing.house import Column, Matrix
from train.errors import TrainingError

FILE: Final = "test_rows.bin"
_DIGEST: Final = 32  # bytes

Hashes = NDArray[np.uint64]


def hashes(houses: Matrix, prices: Column) -> Hashes:
    """A number for each sale, float32 (n, 5) and US dollars (n,): a house at another price is another sale."""
    plain = np.ascontiguousarray(houses + np.float32(0))  # -0.0 becomes 0.0: the same house
    digests = (
        hashlib.blake2b(house.tobytes() + price.tobytes(), digest_size=8).digest()
        for house, price in zip(plain, prices, strict=True)
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


class Head(Stored):
    """The line of JSON before the rows."""

    NEWEST: ClassVar[int] = 2
    format: int = 2


def to_bytes(rows: Hashes) -> bytes:
    """The file's content."""
    content = np.sort(rows).astype("<u8").tobytes()
    return Head().model_dump_json().encode() + b"\n" + hashlib.sha256(content).digest() + content


def parse(data: bytes | None, version: str) -> Hashes | None:
    """The rows of a version's file, or None if the file does not exist or is damaged: the new rows are then unknown.

    Raises TrainingError for a file that only a later release can read.
    """
    if data is None:
        return None
    return _rows(data) if _is_whole(data) else _with_head(data, version)


def _with_head(data: bytes, version: str) -> Hashes | None:
    head, _, rest = data.partition(b"\n")
    try:
        Head.model_validate_json(head)
    except ValidationError as error:
        if is_of_a_later_release(error):
            msg = f"{version}/{FILE}: {reason_of(error)}"
            raise TrainingError(msg) from error
        return None
    return _rows(rest) if _is_whole(rest) else None


def _is_whole(data: bytes) -> bool:
    return hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]


def _rows(data: bytes) -> Hashes:
    return np.frombuffer(data[_DIGEST:], dtype="<u8").astype(np.uint64)
