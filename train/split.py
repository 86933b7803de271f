"""Which rows a model may learn from. A house falls on the same side in every training that has the same salt."""

import hashlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.house import Column, Matrix
from pricing.manifest import Split

FOLDS: Final = 5
CALIBRATE: Final = 0.2
TEST: Final = 0.2
FIRST_SALT: Final = "0"

Mask = NDArray[np.bool_]


class Sides(NamedTuple):
    """One mask of shape (n,) for each use; every row is in exactly one."""

    fit: Mask
    calibrate: Mask
    test: Mask


def positions(houses: Matrix, salt: str) -> Column:
    """One number in [0, 1) for each row of float32 (n, 5), from a hash of the salt and the row's bytes.

    Equal houses get equal numbers, so twins never straddle the split, and a row keeps its side when others come.
    """
    plain = np.ascontiguousarray(houses + np.float32(0))  # -0.0 becomes 0.0: the same house
    key = salt.encode()
    hashes = (hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in plain)
    return np.frombuffer(b"".join(hashes), dtype=">u8") / 2.0**64


def sides(position: Column, split: Split) -> Sides:
    """Deal rows to fit, calibrate and test by their position."""
    calibrate_from = 1 - split.calibrate - split.test
    test_from = 1 - split.test
    return Sides(
        fit=position < calibrate_from,
        calibrate=(position >= calibrate_from) & (position < test_from),
        test=position >= test_from,
    )


def folds(position: Column) -> NDArray[np.int64]:
    """A fold from 0 to FOLDS - 1 for each row of shape (n,), by the same hash, so that twins share a fold.

    Further digits of the position are used than those that chose the side.
    """
    return (np.floor(position * 2.0**20 * FOLDS) % FOLDS).astype(np.int64)
