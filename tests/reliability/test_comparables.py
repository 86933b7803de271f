"""The figures that comparables are held to on real sales, of which the version has seen none.

The price by comparables is the median of ten: as they stand, and as adjusted. It is compared with that of the ten
nearest sales by standardized columns, and with the model itself. Standard errors are of 200 resamples of the houses.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pricing.artifacts.sales_file import KeptSales, parse_sales
from pricing.artifacts.store import Artifact
from pricing.house import FEATURES, Column, Matrix
from pricing.inference.comparables import Comparable, ComparableSales, comparable_sales_of
from pricing.inference.predictor import load
from train.models.encoding import inputs_of
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.columns import Wish
from train.sales.rows import Reading, Sales
from train.sales.split import IDENTITY, positions, sides, split_by_house

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county_more.csv"
SALTS: Final = ("0", "1", "2")
NOT_ASKED_FOR: Final = {"sold_on", "floors", "year_renovated"}
TEN: Final = 10
LEARNED: Final = (0.7, 0.8)
"""Share of the sales before each date of the later ones."""
LATER: Final = 60  # days
MAX_LATER: Final = 1_500  # of them that are asked for, at random
RESAMPLES: Final = 200

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county_more.csv is not here")


class Trial(NamedTuple):
    """A version that keeps its sales, the sales that it is asked for, and ten comparables of each."""

    artifact: Artifact
    kept: KeptSales
    comparables: ComparableSales
    asked: Sales
    inputs: Matrix
    found: list[list[Comparable]]

    def error(self, price: Callable[[Comparable], float]) -> Column:
        """Of the median of ten, as a share of the price, of shape (n,)."""
        medians = np.array([np.median([price(sale) for sale in ten]) for ten in self.found])
        return np.abs(medians / self.asked.prices - 1)

    def model_error(self) -> Column:
        price = np.array(load(self.artifact).predict(self.inputs, 0.9).price)
        return np.abs(price / self.asked.prices - 1)

    def nearest_error(self) -> Column:
        """Of the ten nearest by all columns as the version reads them, each divided by its standard deviation."""
        kept = self.comparables.rows(np.arange(len(self.comparables))).astype(np.float64)
        center, spread = kept.mean(axis=0), kept.std(axis=0)
        scaled, asked = (kept - center) / spread, (self.inputs - center) / spread
        identity = [FEATURES.index(name) for name in IDENTITY]
        medians = []
        for start in range(0, len(asked), 500):
            part = slice(start, start + 500)
            far = (asked[part] ** 2).sum(axis=1)[:, None] - 2 * asked[part] @ scaled.T + (scaled**2).sum(axis=1)
            far[(self.inputs[part, None, identity] == kept[None, :, identity]).all(axis=2)] = np.inf
            medians.append(np.median(self.kept.prices[np.argpartition(far, TEN, axis=1)[:, :TEN]], axis=1))
        return np.abs(np.concatenate(medians) / self.asked.prices - 1)


def trial_of(known: Sales, asked: Sales, salt: str) -> Trial:
    wishes = {name: Wish() for name in known.others.values if name not in NOT_ASKED_FOR}
    plan = Plan("v1.0.0", salt, 0, "gradient-boosting", wishes, keep_sales=True)
    artifact = train(known, plan, lambda _: None)
    comparables = comparable_sales_of(artifact, load(artifact))
    assert comparables is not None
    inputs = inputs_of(asked.houses, asked.others, artifact.manifest.columns)
    found = [comparables.find(inputs[row : row + 1], TEN) for row in range(len(inputs))]
    return Trial(artifact, parse_sales(artifact.sales or b"", artifact.manifest), comparables, asked, inputs, found)


def test_rows(sales: Sales, salt: str) -> Sales:
    split = split_by_house(salt)
    return sales.where(sides(positions(sales.houses, split), split).test)


test_rows.__test__ = False  # type: ignore[attr-defined]  # no test of its own


@pytest.fixture(scope="module")
def sales() -> Sales:
    return data.read(SALES, reading=Reading(others=None))


@pytest.fixture(scope="module")
def trials(sales: Sales) -> list[Trial]:
    """The test rows of three splits."""
    return [trial_of(sales, test_rows(sales, salt), salt) for salt in SALTS]


def as_it_stands(sale: Comparable) -> float:
    return sale.price


def in_time(sale: Comparable) -> float:
    return sale.time_adjusted_price


def by_the_model(sale: Comparable) -> float:
    """The price with the model's own differences, but not in time: test rows are of all months."""
    return sale.price * sale.adjusted_price / sale.time_adjusted_price


def adjusted(sale: Comparable) -> float:
    return sale.adjusted_price


def tell(sentence: str) -> None:
    sys.stdout.write(f"\n{sentence}")


def compared(ours: list[Column], others: list[Column]) -> tuple[float, float, float]:
    """Mean over the trials of both median errors, and the standard error of their ratio."""

    def ratio(rows: list[NDArray[np.int64]]) -> float:
        pairs = [(np.median(a[r]), np.median(b[r])) for a, b, r in zip(ours, others, rows, strict=True)]
        return float(mean(a for a, _ in pairs) / mean(b for _, b in pairs))

    rng = np.random.default_rng(0)
    ratios = [ratio([rng.integers(len(part), size=len(part)) for part in ours]) for _ in range(RESAMPLES)]
    return (
        mean(float(np.median(part)) for part in ours),
        mean(float(np.median(part)) for part in others),
        float(np.std(ratios)),
    )


def test_as_they_stand_they_are_better_than_the_nearest_by_columns(trials: list[Trial]) -> None:
    ours, nearest, error = compared([t.error(as_it_stands) for t in trials], [t.nearest_error() for t in trials])
    tell(f"ten as they stand: median error {ours:.2%}, ten nearest by columns {nearest:.2%}")
    tell(
        f"  that is {1 - ours / nearest:.1%} less (standard error {error:.1%}), on {len(trials[0].found):,} houses each"
    )
    assert ours <= 0.9 * nearest


def test_adjusted_by_the_model_they_are_no_worse_than_the_model(trials: list[Trial]) -> None:
    ours, model, error = compared([t.error(by_the_model) for t in trials], [t.model_error() for t in trials])
    tell(f"ten adjusted by the model: median error {ours:.2%}, the model {model:.2%} (standard error {error:.1%})")
    assert ours <= model


def test_the_house_itself_and_test_sales_are_never_among_them(sales: Sales, trials: list[Trial]) -> None:
    for trial, salt in zip(trials, SALTS, strict=True):
        tests = test_rows(sales, salt)
        of_tests = {(*house.tolist(), price) for house, price in zip(tests.houses, tests.prices, strict=True)}
        kept = [(*house.tolist(), price) for house, price in zip(trial.kept.fields.T, trial.kept.prices, strict=True)]
        assert len(kept) + len(tests.prices) == len(sales.prices)
        assert not of_tests & {*kept}
    trial = trials[0]
    rows = trial.comparables.rows(np.arange(0, len(trial.comparables), 20))  # sold once at least
    names = [FEATURES.index(name) for name in IDENTITY]
    for row in rows:
        for sale in trial.comparables.find(row[None], 20):
            assert [np.float32(sale.house[name]) for name in IDENTITY] != row[names].tolist()
    tell(f"{len(rows):,} houses that were learned from, and {3 * len(trial.found):,} that were not: none met itself")


def test_in_time_they_are_no_worse_on_later_sales(sales: Sales) -> None:
    assert sales.sold_on is not None
    days = sales.sold_on.astype("datetime64[D]").astype(np.int64)
    for share in LEARNED:
        last = np.sort(days)[int(share * len(days))]
        later = np.flatnonzero((days > last) & (days <= last + LATER))
        asked = np.isin(np.arange(len(days)), np.random.default_rng(0).permutation(later)[:MAX_LATER])
        trial = trial_of(sales.where(days <= last), sales.where(asked), "0")
        prices = (as_it_stands, in_time, by_the_model, adjusted)
        errors = [float(np.median(trial.error(price))) for price in prices]
        ratios = [
            float(np.median([np.median([price(s) for s in ten]) for ten in trial.found] / trial.asked.prices))
            for price in prices
        ]
        told = ", ".join(f"{error:.2%} ({ratio:.3f})" for error, ratio in zip(errors, ratios, strict=True))
        tell(
            f"later sales, {share:.0%} learned: median error (ratio) as they stand, in time, by the model, both: {told}"
        )
        assert errors[1] <= errors[0] + 0.003
        assert errors[3] <= errors[2] + 0.003
        assert abs(ratios[3] - 1) <= abs(ratios[2] - 1) + 0.003
