"""Which rows a model may learn from. A house falls on the same side in every training that has the same salt."""

import hashlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.manifest import Split
from pricing.house import FEATURES, Column, Matrix

FOLDS: Final = 5
CALIBRATE: Final = 0.0  # out-of-fold errors calibrate, so that all other rows are learned from
TEST: Final = 0.2
FIRST_SALT: Final = "0"
# A house that is sold again is older, but the same house.
IDENTITY: Final = tuple(name for name in FEATURES if name != "age_years")

Mask = NDArray[np.bool_]


class SplitMasks(NamedTuple):
    """One mask of shape (n,) for each use; every row is in exactly one."""

    fit: Mask
    calibrate: Mask
    test: Mask


def split_by_house(salt: str) -> Split:
    """The split of a new version."""
    return Split(salt=salt, calibrate=CALIBRATE, test=TEST, identified_by=IDENTITY)


def positions(houses: Matrix, split: Split) -> Column:
    """One number in [0, 1) for each row of float32 (n, 5), from a hash of the salt and of what identifies the house.

    Sales of the same house get equal numbers, so they never straddle the split, and keep their side when others come.
    """
    columns = [FEATURES.index(name) for name in split.identified_by]
    plain = np.ascontiguousarray(houses[:, columns] + np.float32(0))  # -0.0 becomes 0.0: the same house
    key = split.salt.encode()
    hashes = (hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in plain)
    return np.frombuffer(b"".join(hashes), dtype=">u8") / 2.0**64


def sides(position: Column, split: Split) -> SplitMasks:
    """Deal rows to fit, calibrate and test by their position."""
    calibrate_from = 1 - split.calibrate - split.test
    test_from = 1 - split.test
    return SplitMasks(
        fit=position < calibrate_from,
        calibrate=(position >= calibrate_from) & (position < test_from),
        test=position >= test_from,
    )


def folds(position: Column) -> NDArray[np.int64]:
    """A fold from 0 to FOLDS - 1 for each row of shape (n,), by the same hash, so that twins share a fold.

    Further digits of the position are used than those that chose the side.
    """
    return (np.floor(position * 2.0**20 * FOLDS) % FOLDS).astype(np.int64)


def weights(position: Column) -> Column:
    """One vote for each house, shared by its sales: shape (n,), the sum is the number of houses."""
    _, house, sales = np.unique(position, return_inverse=True, return_counts=True)
    return 1 / sales[house]


def hold_back(side: SplitMasks, rows: Mask) -> SplitMasks:
    """The same sides, but for some rows that nothing is learned from: they become test rows."""
    return SplitMasks(side.fit & ~rows, side.calibrate & ~rows, side.test | rows)
