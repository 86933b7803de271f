"""Refusals of data that is not worth a training, and of versions that are not worth publishing.

Small and noisy markets are worth both. The bounds are far from what a market does by chance: they find equal prices,
codes instead of prices, and files whose prices stand in other rows than their houses.
"""

from typing import Final

import numpy as np

from pricing.artifacts.manifest import LOWEST_LEVEL
from pricing.artifacts.store import Artifact
from pricing.inference.predictor import OnnxGraph, predictor_of
from train.errors import DataError
from train.models.encoding import inputs_of
from train.sales.rows import Sales
from train.sales.split import positions, sides

MIN_PRICES: Final = 5
MIN_SCATTER: Final = 0.001  # of the middle half of the prices
MAX_ERRORS: Final = 5  # standard errors: one training in a million is farther off by chance


def check_variation(sales: Sales) -> None:
    """Raise DataError if the prices have too little variation: equal prices, but for a few, or only a few prices."""
    prices = sales.prices
    different = len(np.unique(prices))
    if different < MIN_PRICES:
        msg = f"{sales.source}: the prices take {different} different value{'s' * (different > 1)}, expected "
        msg += f"{MIN_PRICES} at least: there is too little to learn from"
        raise DataError(msg)
    low, high = np.quantile(prices, [0.25, 0.75])
    if not high / low - 1 >= MIN_SCATTER:
        msg = (
            f"{sales.source}: half of the prices lie between ${low:,.2f} and ${high:,.2f}, expected a difference of "
            f"{MIN_SCATTER:.1%} at least: there is too little to learn from"
        )
        raise DataError(msg)


def check_worth(artifact: Artifact, sales: Sales) -> None:
    """Raise DataError when on its test rows a version knows no more than one price, or its intervals do not hold."""
    manifest = artifact.manifest
    position = positions(sales.houses, manifest.split)
    test = sides(position, manifest.split).test
    predictor = predictor_of(OnnxGraph(artifact.graph), manifest)
    log_price = np.log(sales.prices[test])
    inputs = inputs_of(sales.houses[test], sales.others.where(test), manifest.columns)
    error = np.abs(np.log(predictor.predict(inputs, LOWEST_LEVEL).price) - log_price).mean()
    of_one_price = np.abs(log_price - np.median(log_price)).mean()
    if not error < of_one_price:
        msg = (
            f"{sales.source}: on the test rows the mean absolute error of the log price is {error:.4f}, expected less "
            f"than {of_one_price:.4f}, that of one price for all houses: do the prices belong to their houses? "
            "Nothing was published"
        )
        raise DataError(msg)
    houses = len(np.unique(position[test]))
    for interval in manifest.metrics.intervals:
        allowed = MAX_ERRORS * (2 * interval.level * (1 - interval.level) / houses) ** 0.5
        allowed += manifest.data.excluded_share  # the test rows have such sales too, and no interval holds them
        if not abs(interval.coverage - interval.level) <= allowed:
            msg = (
                f"{sales.source}: the interval at {interval.level:.0%} contains {interval.coverage:.1%} of the test "
                f"prices, expected {interval.level:.0%}, {allowed:.1%} more or less: there is too little to learn "
                "from. Nothing was published"
            )
            raise DataError(msg)
