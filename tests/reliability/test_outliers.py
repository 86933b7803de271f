"""Leaving out sales that look like no market sales, on real sales: as they are, and with planted ones.

Every figure is of the test sales that were not planted, a mean over the splits of five salts.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pytest

from pricing.house import Column
from pricing.inference.predictor import OnnxGraph, predictor_of
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.rows import Sales
from train.sales.split import positions, sides

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county.csv"
SALTS: Final = ("0", "1", "2", "3", "4")
PLANTED: Final = 0.03

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county.csv is not here")


class Figures(NamedTuple):
    """Of versions, one for each salt."""

    mape: Column
    coverage: Column
    excluded: Column
    planted: Column

    def __str__(self) -> str:
        mape_error, error = (found.std(ddof=1) / len(SALTS) ** 0.5 for found in (self.mape, self.coverage))
        return (
            f"MAPE {self.mape.mean():.2%} (standard error {mape_error:.2%}), coverage "
            f"at 0.9 {self.coverage.mean():.2%} ({error:.2%}), left out {self.excluded.mean():.0f} of "
            f"{self.planted.mean():.0f} planted"
        )


@pytest.fixture(scope="module")
def sales() -> Sales:
    return replace(data.read(SALES), sold_on=None)


def figures(sales: Sales, planted: float, *, exclude_outliers: bool) -> Figures:
    """Of so large a share of the sales, half are for a dollar, and half for a twentieth of the price."""
    found = []
    for salt in SALTS:
        chance = np.random.default_rng(int(salt)).random(len(sales.prices))
        odd = chance < planted
        prices = np.where(chance < planted / 2, 1.0, np.where(odd, sales.prices / 20, sales.prices))
        plan = Plan("v1.0.0", salt, 0, "gradient-boosting", exclude_outliers=exclude_outliers)
        version = train(replace(sales, prices=prices), plan, lambda _: None)
        test = sides(positions(sales.houses, version.manifest.split), version.manifest.split).test
        real = sales.where(test & ~odd)
        predictor = predictor_of(OnnxGraph(version.graph), version.manifest)
        price, lower, upper = predictor.predict(real.houses, 0.9).columns()
        inside = float(np.mean((lower <= real.prices) & (real.prices <= upper)))
        mape = float(np.mean(np.abs(price / real.prices - 1)))
        found.append((mape, inside, version.manifest.data.excluded, int((odd & ~test).sum())))
    return Figures(*map(np.array, zip(*found, strict=True)))


def test_planted_sales_are_left_out_and_the_others_are_priced_as_without_them(sales: Sales) -> None:
    learned_from, left_out = (figures(sales, PLANTED, exclude_outliers=choice) for choice in (False, True))
    as_it_is, without = (figures(sales, 0, exclude_outliers=choice) for choice in (False, True))
    for name, found in {"planted": learned_from, "planted, left out": left_out}.items():
        sys.stdout.write(f"\n{name}: {found}")
    for name, found in {"as it is": as_it_is, "as it is, left out": without}.items():
        sys.stdout.write(f"\n{name}: {found}")
    sys.stdout.write("\n")
    assert abs(left_out.coverage.mean() - 0.9) <= 0.015
    assert abs(without.coverage.mean() - 0.9) <= 0.015
    assert (left_out.mape < learned_from.mape).all()
    assert left_out.mape.mean() <= 1.01 * as_it_is.mape.mean()
    worse = without.mape - as_it_is.mape
    assert worse.mean() <= 2 * worse.std(ddof=1) / len(worse) ** 0.5
    assert np.abs(left_out.excluded / left_out.planted - 1).max() <= 0.1
    assert (without.excluded <= 0.002 * len(sales.prices)).all()
