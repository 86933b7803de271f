"""The stated coverage is that for houses that nobody has seen, also when houses are sold again and again.

The split and the calibration are the real ones. What learns is made for the purpose: it knows a house that it has
learned from better than others, as every estimator does.
"""

import numpy as np
import pytest

from pricing.artifacts.manifest import Split
from pricing.house import FEATURES, Column, Matrix
from train.models.evaluate import calibrate
from train.sales.split import positions, sides, split_by_house

HOUSES = 4_000
SPREAD = 0.2
BY_HOUSE = split_by_house("0").model_copy(update={"calibrate": 0.2})
BY_ALL = Split(salt="0", calibrate=0.2, test=0.2, identified_by=FEATURES)


class Market:
    """Log prices of houses with an effect of their own, each sold `sales` times, at another age each time."""

    def __init__(self, seed: int, sales: Column) -> None:
        rng = np.random.default_rng(seed)
        number = np.repeat(np.arange(len(sales)), sales.astype(int))
        self.effect = rng.normal(0, SPREAD, len(sales))[number]
        self.log_price = 13 + self.effect + rng.normal(0, SPREAD / 4, len(number))
        self.houses: Matrix = np.ones((len(number), 5), dtype=np.float32)
        self.houses[:, 0] = rng.uniform(500, 5_000, len(sales))[number]
        self.houses[:, 3] = np.arange(len(number))

    def calibrated(self, split: Split) -> float:
        """The quantile at 90 %, in spreads, of a model that knows half of the effect of each house it learned from."""
        side = sides(positions(self.houses, split), split)
        known = np.isin(self.houses[:, 0], self.houses[side.fit, 0])
        predicted = 13 + np.where(known, 0.5 * self.effect, 0)
        found = side.calibrate
        spread = np.full(int(found.sum()), SPREAD)
        table = calibrate(predicted[found], spread, np.exp(self.log_price[found]), positions(self.houses, split)[found])
        return table.at(0.9)[1]

    def coverage(self, quantile: float) -> float:
        """Share of these sales within the interval of a model that has seen none of their houses."""
        return float(np.mean(np.abs(self.log_price - 13) <= quantile * SPREAD))


def coverages(split: Split, sales: Column) -> Column:
    """For unseen houses, of twenty markets."""
    unseen = Market(99, np.ones(40_000))
    return np.array([unseen.coverage(Market(seed, sales).calibrated(split)) for seed in range(20)])


def test_houses_that_are_resold_do_not_lower_the_coverage_of_unseen_ones() -> None:
    sales = np.where(np.arange(HOUSES) % 10 < 3, 2.0, 1.0)  # 30 % are sold once more

    by_house, by_row = coverages(BY_HOUSE, sales), coverages(BY_ALL, sales)

    assert by_house.mean() == pytest.approx(0.9, abs=4 * 0.011 / np.sqrt(20))  # four standard errors of 800 houses
    assert by_row.mean() < 0.889  # the control: a split that takes each age for a house of its own


def test_a_few_houses_that_are_sold_20_times_hold_their_level_for_others() -> None:
    sales = np.full(1_300, 20.0)  # 260 for calibration, on average

    found = coverages(BY_HOUSE, sales)

    assert found.mean() == pytest.approx(0.9, abs=4 * 0.019 / np.sqrt(20))
