"""Which test rows a version was published with, so that a later judgement can tell those that have come since.

The file beside a version: the sha256 of what follows, then a number of 8 bytes for each row, rising.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.house import Column, Matrix

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


def to_bytes(rows: Hashes) -> bytes:
    """The file's content."""
    content = np.sort(rows).astype("<u8").tobytes()
    return hashlib.sha256(content).digest() + content


def parse(data: bytes | None) -> Hashes | None:
    """The rows of a file, or None when there is no file or it is damaged: then nobody knows which rows are new."""
    if data is None or hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    return np.frombuffer(data[_DIGEST:], dtype="<u8").astype(np.uint64)
