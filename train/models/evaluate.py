"""Metrics of a version, measured through the Predictor that ships it."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from pricing.artifacts.manifest import (
    HIGHEST_LEVEL,
    LOWEST_LEVEL,
    MIN_CALIBRATION_ROWS,
    Calibration,
    Fifth,
    Interval,
    Scores,
)
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from train.errors import DataError
from train.sales.split import weights

LEVELS: Final = tuple(
    round(percent / 100, 2) for percent in range(round(LOWEST_LEVEL * 100), round(HIGHEST_LEVEL * 100) + 1)
)
FSD_LEVEL: Final = 0.683  # as the trade defines the forecast standard deviation
REPORTED_LEVELS: Final = (0.5, 0.8, 0.9)
LARGEST: Final = float(np.finfo(np.float64).max)
ROUNDING: Final = 1e-6  # votes: far above the error of a sum of thirds, far below the thousandth between two ranks


def calibrate(
    log_price: Column, spread: Column, prices: Column, position: Column, weight: Column | None = None
) -> Calibration:
    """Conformal calibration (Lei et al. 2018, section 5.2) on rows that the estimators of these values have not seen.

    All of shape (n,): log dollars, spread, US dollars, position by the hash. Houses are exchangeable, sales of one
    house are not: each of n houses has one vote, which its sales share (Dunn, Wasserman and Ramdas 2023,
    "Distribution-free prediction sets for two-layer hierarchical models"). The quantile of a level is the smallest
    |log error| / spread with (n + 1) * level votes up to it. With weights of shape (n,), some sales count for more than
    others (Tibshirani, Foygel Barber, Candès and Ramdas 2019, "Conformal prediction under covariate shift"). Raises
    DataError below 200 houses.
    """
    votes = weights(position)
    houses = len(np.unique(position))
    if houses < MIN_CALIBRATION_ROWS:
        msg = (
            f"{houses} different houses are left for calibration, at least {MIN_CALIBRATION_ROWS} are needed: "
            "bring about five times as many as that"
        )
        raise DataError(msg)
    if weight is not None:
        votes = votes * weight * (votes.sum() / (votes * weight).sum())
    off = np.log(prices) - log_price
    quantiles = _quantiles(np.abs(off) / spread, votes, houses, LEVELS)
    with np.errstate(over="ignore"):  # a price of nearly nothing
        (fsd,) = _quantiles(np.minimum(np.abs(np.expm1(off)) / spread, LARGEST), votes, houses, (FSD_LEVEL,))
    return Calibration(rows=len(prices), levels=LEVELS, quantiles=tuple(quantiles), fsd=fsd)


def _quantiles(scores: Column, votes: Column, houses: int, levels: Sequence[float]) -> list[float]:
    """The smallest score with (houses + 1) * level votes up to it, for each level."""
    order = np.argsort(scores, kind="stable")
    # the level in thousandths, so that the rank is exact: 0.55 * 220 is above 121 in floating point
    wanted = np.array([(houses + 1) * round(level * 1000) for level in levels]) / 1000
    ranks = np.searchsorted(np.cumsum(votes[order]), wanted - ROUNDING)
    smallest = np.finfo(np.float64).tiny  # a quantile of zero would make an interval of no width
    found: list[float] = np.maximum(scores[order[ranks]], smallest).tolist()
    return found


def score(predictor: Predictor, houses: Matrix, prices: Column) -> Scores:
    """Errors of the price for float32 of shape (n, 5) and US dollars of shape (n,)."""
    predicted = np.array(predictor.predict(houses, LOWEST_LEVEL).price)
    errors = np.abs(predicted / prices - 1)
    unexplained = float(np.sum((prices - predicted) ** 2))
    total = float(np.sum((prices - prices.mean()) ** 2))
    return Scores(
        rows=len(prices),
        r2=1 - unexplained / total if total else 0.0,
        mape=float(errors.mean()),
        median_error=float(np.median(errors)),
    )


def intervals(predictor: Predictor, houses: Matrix, prices: Column, vote: Column) -> tuple[Interval, ...]:
    """Coverage and width at each reported level, for float32 of shape (n, 5); US dollars and votes of shape (n,)."""
    return tuple(_interval(predictor, houses, prices, vote, level) for level in REPORTED_LEVELS)


def fifths(predictor: Predictor, houses: Matrix, prices: Column, vote: Column) -> tuple[Fifth, ...]:
    """The same by fifth of the predicted price, cheapest first; needs at least five rows."""
    predicted = np.array(predictor.predict(houses, LOWEST_LEVEL).price)
    parts = np.array_split(np.argsort(predicted, kind="stable"), 5)
    return tuple(
        Fifth(
            rows=len(part),
            lowest_price=float(predicted[part[0]]),
            highest_price=float(predicted[part[-1]]),
            mape=score(predictor, houses[part], prices[part]).mape,
            intervals=intervals(predictor, houses[part], prices[part], vote[part]),
        )
        for part in parts
    )


def _interval(predictor: Predictor, houses: Matrix, prices: Column, vote: Column, level: float) -> Interval:
    prediction = predictor.predict(houses, level)
    price, lower, upper = prediction.columns()
    return Interval(
        level=prediction.confidence_level,
        coverage=float(np.average((lower <= prices) & (prices <= upper), weights=vote)),
        median_width=float(np.median((upper - lower) / price)),
    )
