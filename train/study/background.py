"""The background of a version: the few houses of the fit rows against which its prices are explained.

* The rows are dealt into as many strata of the predicted price as the background has houses, one of which is drawn from
  each. A draw at random misses the few dear houses, and with them the mean.
* Of many such draws the one is taken whose means, of each column, of price and of width, are nearest to those of all.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.house import Matrix, decimal
from pricing.inference.predictor import Predictor

HOUSES: Final = 16
DRAWS: Final = 2_000
DEFAULT_LEVEL: Final = 0.9
Rows = tuple[tuple[float | None, ...], ...]


def background_of(predictor: Predictor, rows: Matrix, seed: int) -> Rows:
    """The background of a version, from its fit rows of shape (n, 5 + columns); null is unknown."""
    chosen = rows[choose(predictor, rows, seed)]
    return tuple(tuple(None if np.isnan(value) else decimal(value) for value in row) for row in chosen)


def choose(predictor: Predictor, rows: Matrix, seed: int) -> NDArray[np.int64]:
    """The places of the chosen rows, from cheap to dear, of shape (HOUSES,)."""
    price, lower, upper = predictor.predict(rows, DEFAULT_LEVEL).columns()
    scaled = _scaled(np.column_stack([rows, np.isnan(rows), price, upper - lower]).astype(np.float64))
    strata = np.array_split(np.argsort(price, kind="stable"), HOUSES)
    rng = np.random.default_rng(seed)
    draws = np.column_stack([stratum[rng.integers(len(stratum), size=DRAWS)] for stratum in strata])
    far = (scaled[draws].mean(axis=1) ** 2).sum(axis=1)
    best: NDArray[np.int64] = draws[np.argmin(far)]
    return best


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column with mean 0 and standard deviation 1; what is unknown is at the mean."""
    spread = np.nanstd(values, axis=0)
    scaled = (values - np.nanmean(values, axis=0)) / np.where(spread > 0, spread, 1)
    found: NDArray[np.float64] = np.nan_to_num(scaled)
    return found
