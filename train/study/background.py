"""The background of a version: the few houses of the fit rows against which its prices are explained.

* The rows are dealt into as many strata of the predicted price as the background has houses, and one is drawn from
  each. A draw at random misses the few dear houses, and with them the mean.
* In each stratum in turn, the house is then replaced by the one that brings the means of the background nearest to
  those of all rows: means of the columns, of price and width, and of their squares.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.house import Column, Matrix, decimal
from pricing.inference.predictor import Predictor

HOUSES: Final = 16
PASSES: Final = 3  # a fourth changes next to nothing
PRICE_WEIGHT: Final = 2.0  # of price and width: they are the base of every explanation
SQUARE_WEIGHT: Final = 0.5
FAR: Final = 4.0  # standard deviations: one house far out does not decide alone
DEFAULT_LEVEL: Final = 0.9
Rows = tuple[tuple[float | None, ...], ...]
Table = NDArray[np.float64]


def background_of(predictor: Predictor, rows: Matrix, seed: int) -> Rows:
    """The background of a version, from its fit rows of shape (n, 5 + columns); None is unknown."""
    chosen = rows[choose(predictor, rows, seed)]
    return tuple(tuple(None if np.isnan(value) else decimal(value) for value in row) for row in chosen)


def choose(predictor: Predictor, rows: Matrix, seed: int) -> NDArray[np.int64]:
    """The places of the chosen rows, from cheap to dear, of shape (HOUSES,)."""
    price, lower, upper = predictor.predict(rows, DEFAULT_LEVEL).columns()
    moments = _moments(rows, price, upper - lower)
    strata = np.array_split(np.argsort(price, kind="stable"), HOUSES)
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.choice(stratum) for stratum in strata])
    for _ in range(PASSES):
        for place, stratum in enumerate(strata):
            others = moments[chosen].sum(axis=0) - moments[chosen[place]]
            chosen[place] = stratum[np.argmin(((others + moments[stratum]) ** 2).sum(axis=1))]
    return chosen


def _moments(rows: Matrix, price: Column, width: Column) -> Table:
    """Columns that have a mean of 0 over all rows, and are to have it over the background."""
    known = _scaled(np.column_stack([rows, np.isnan(rows)]).astype(np.float64))
    values = np.column_stack([known, _scaled(np.column_stack([price, width])) * PRICE_WEIGHT])
    return np.column_stack([values, SQUARE_WEIGHT * _scaled(np.clip(values, -FAR, FAR) ** 2)])


def _scaled(values: Table) -> Table:
    """Each column with mean 0 and standard deviation 1; what is unknown is at the mean."""
    spread = np.nanstd(values, axis=0)
    scaled = (values - np.nanmean(values, axis=0)) / np.where(spread > 0, spread, 1)
    found: Table = np.nan_to_num(scaled)
    return found
