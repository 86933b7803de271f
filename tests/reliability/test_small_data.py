"""What versions of few sales are held to: 20 random samples of 1,500 real sales, each asked for all other houses."""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Final, NamedTuple

import numpy as np
import pytest

from pricing.inference.predictor import load
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.rows import Sales

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county.csv"
SAMPLES: Final = 20
ROWS: Final = 1_500

# Of the release that kept a fifth of the sales for calibration alone (format 1 of the manifest), measured by its own
# `train` with the samples, salt, seed and test sales of this test: 23.900 %, standard error 0.067 %.
MAPE_BEFORE: Final = 0.2390
HIGHEST_MAPE: Final = 0.98 * MAPE_BEFORE
TOLERANCE: Final = 0.015  # of the coverage at 0.9

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county.csv is not here")


class Trial(NamedTuple):
    """Mean absolute percentage error, and coverage at 0.9."""

    mape: float
    coverage: float


def trial_of(sales: Sales, seed: int) -> Trial:
    """Learn from a random sample, and price every other sale."""
    known = np.zeros(len(sales.prices), dtype=np.bool_)
    known[np.random.default_rng(seed).choice(len(known), ROWS, replace=False)] = True
    sample = replace(sales.where(known), sold_on=None)
    version = train(sample, Plan("v1.0.0", "0", 0, None), lambda _: None)
    price, lower, upper = load(version).predict(sales.houses[~known], 0.9).columns()
    actual = sales.prices[~known]
    return Trial(float(np.mean(np.abs(price / actual - 1))), float(np.mean((lower <= actual) & (actual <= upper))))


def test_few_sales_are_enough_for_a_price_and_its_interval(subtests: pytest.Subtests) -> None:
    sales = data.read(SALES)
    trials = [trial_of(sales, seed) for seed in range(SAMPLES)]
    mapes, coverages = [trial.mape for trial in trials], [trial.coverage for trial in trials]
    sys.stdout.write(
        f"\n{SAMPLES} samples of {ROWS:,} sales: MAPE {mean(mapes):.2%} (standard error {error(mapes):.2%}), "
        f"{1 - mean(mapes) / MAPE_BEFORE:.1%} better than before; "
        f"coverage at 0.9 {mean(coverages):.2%} (standard error {error(coverages):.2%})\n"
    )
    with subtests.test("mean absolute percentage error"):
        assert mean(mapes) <= HIGHEST_MAPE
    with subtests.test("coverage at 0.9"):
        assert mean(coverages) == pytest.approx(0.9, abs=TOLERANCE)


def error(values: list[float]) -> float:
    """The standard error of the mean."""
    return stdev(values) / float(np.sqrt(len(values)))
