"""The figures that versions with columns are held to on real sales: means over the splits of five salts."""

import sys
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

import numpy as np
import pytest

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from pricing.inference.predictor import load
from train.models.encoding import inputs_of
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.columns import ColumnChoice, Wish
from train.sales.rows import Reading, Sales
from train.sales.split import positions, sides

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county_more.csv"
SALTS: Final = ("0", "1", "2", "3", "4")
NOT_ASKED_FOR: Final = {"sold_on", "floors", "year_renovated"}
FIELDS: Final = 5

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county_more.csv is not here")


class Trial(NamedTuple):
    """A version, and the test rows as it reads them."""

    artifact: Artifact
    rows: Matrix
    prices: Column

    def known(self, *names: str) -> Matrix:
        """The rows with only these columns known."""
        rows = self.rows.copy()
        unknown = [column.name not in names for column in self.artifact.manifest.columns]
        rows[:, FIELDS:][:, unknown] = np.nan
        return rows

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.artifact.manifest.columns)

    def price(self, rows: Matrix) -> Column:
        return load(self.artifact).predict(rows, 0.9).columns()[0]

    def mape(self, rows: Matrix) -> float:
        return float(np.mean(np.abs(self.price(rows) / self.prices - 1)))

    def coverage(self, rows: Matrix, level: float) -> float:
        _, lower, upper = load(self.artifact).predict(rows, level).columns()
        return float(np.mean((lower <= self.prices) & (self.prices <= upper)))


def trial_of(sales: Sales, salt: str, columns: ColumnChoice) -> Trial:
    artifact = train(sales, Plan("v1.0.0", salt, 0, "gradient-boosting", columns), lambda _: None)
    split = artifact.manifest.split
    test = sides(positions(sales.houses, split), split).test
    rows = inputs_of(sales.houses[test], sales.others.where(test), artifact.manifest.columns)
    return Trial(artifact, rows, sales.prices[test])


@pytest.fixture(scope="module")
def sales() -> Sales:
    return data.read(SALES, reading=Reading(others=None))


@pytest.fixture(scope="module")
def wishes(sales: Sales) -> dict[str, Wish]:
    return {name: Wish() for name in sales.others.values if name not in NOT_ASKED_FOR}


@pytest.fixture(scope="module")
def versions(sales: Sales, wishes: dict[str, Wish]) -> list[Trial]:
    found = [trial_of(sales, salt, wishes) for salt in SALTS]
    assert len({version.names for version in found}) == 1
    return found


@pytest.fixture(scope="module")
def fives(sales: Sales) -> list[Trial]:
    return [trial_of(sales, salt, {}) for salt in SALTS]


def tell(sentence: str) -> None:
    sys.stdout.write(f"\n{sentence}")


def manifests(versions: list[Trial]) -> list[Manifest]:
    return [version.artifact.manifest for version in versions]


def test_all_columns(versions: list[Trial]) -> None:
    scores = [manifest.metrics.test for manifest in manifests(versions)]
    mape, r2 = mean(score.mape for score in scores), mean(score.r2 for score in scores)
    cod = mean(coefficient_of_dispersion(version) for version in versions)
    size = max(manifest.graph.size for manifest in manifests(versions))
    tell(f"all columns: MAPE {mape:.2%}, COD {cod:.2f}, R2 {r2:.3f}, ONNX at most {size:,} bytes")
    assert mape <= 0.126
    assert cod <= 12.6
    assert r2 >= 0.87
    assert size <= 2_000_000


def coefficient_of_dispersion(version: Trial) -> float:
    ratio = version.price(version.rows) / version.prices
    return 100 * float(np.mean(np.abs(ratio - np.median(ratio))) / np.median(ratio))


def test_the_five_fields_alone_are_priced_as_by_a_version_of_five(versions: list[Trial], fives: list[Trial]) -> None:
    alone, five = mean(v.mape(v.known()) for v in versions), mean(v.mape(v.rows) for v in fives)
    tell(f"five fields alone: MAPE {alone:.2%}, of a version of five {five:.2%}, ratio {alone / five:.3f}")
    assert alone <= 1.02 * five


def test_the_interval_holds_whatever_is_known(versions: list[Trial], subtests: pytest.Subtests) -> None:
    names = versions[0].names
    masks = {"all": names, "five": (), "coordinates": ("latitude", "longitude"), "zip code": ("zip_code",)}
    masks |= {f"without {name}": tuple(other for other in names if other != name) for name in names}
    for mask, known in masks.items():
        nine = [version.coverage(version.known(*known), 0.9) for version in versions]
        half = mean(version.coverage(version.known(*known), 0.5) for version in versions)
        error = float(np.std(nine, ddof=1) / len(nine) ** 0.5)
        tell(f"{mask}: coverage {mean(nine):.2%} at 0.9 (standard error {error:.2%}), {half:.2%} at 0.5")
        with subtests.test(mask):
            assert abs(mean(nine) - 0.9) <= 0.012
            assert abs(half - 0.5) <= 0.02


def test_the_interval_is_narrow(versions: list[Trial]) -> None:
    width = mean(
        next(interval.median_width for interval in manifest.metrics.intervals if interval.level == 0.9)
        for manifest in manifests(versions)
    )
    tell(f"median width at 0.9 with all columns: {width:.1%}")
    assert width <= 0.55


def test_parity_holds_with_gaps_and_unknown_categories(versions: list[Trial]) -> None:
    parities = [manifest.parity for manifest in manifests(versions)]
    worst = max(max(p.test_ppm, p.threshold_ppm, p.gap_ppm) for p in parities)
    tell(f"parity: at most {worst:.2f} ppm, on {parities[0].gap_rows:,} rows with gaps {parities[0].gap_ppm:.2f}")
    assert worst <= 5


def test_noise_moves_nothing(sales: Sales, wishes: dict[str, Wish], versions: list[Trial]) -> None:
    rng = np.random.default_rng(0)
    noise = np.array([*rng.random(len(sales.prices))], dtype=object)
    others = sales.others._replace(values={**sales.others.values, "noise": noise})
    noisy_sales = Sales(**{**vars(sales), "others": others})
    mapes, moves = [], []
    for version, salt in zip(versions[:2], SALTS, strict=False):
        noisy = trial_of(noisy_sales, salt, wishes | {"noise": Wish()})
        mapes.append(noisy.mape(noisy.rows) / version.mape(version.rows) - 1)
        moves.append(float(np.abs(noisy.price(noisy.rows) / version.price(version.rows) - 1).max()))
    tell(f"a column of noise: MAPE changes by {max(map(abs, mapes)):.2%}, a price by at most {max(moves):.1%}")
    assert max(map(abs, mapes)) < 0.01
    assert max(moves) <= 0.15


def test_fsd_contains_two_thirds_everywhere(versions: list[Trial]) -> None:
    shares, by_price, by_fsd, factors = [], [], [], []
    for version in versions:
        found = load(version.artifact).predict(version.rows, 0.9)
        price, fsd = np.array(found.price), np.array(found.fsd)
        error = np.abs(version.prices / price - 1)
        inside = error <= fsd
        shares.append(inside.mean())
        by_price.append([inside[part].mean() for part in fifths(price)])
        by_fsd.append([inside[part].mean() for part in fifths(fsd)])
        errors = [error[part].mean() for part in fifths(fsd)]
        factors.append(errors[-1] / errors[0])
    price_fifths, fsd_fifths = np.mean(by_price, axis=0), np.mean(by_fsd, axis=0)
    tell(f"fsd contains {np.mean(shares):.1%}; by fifth of the price {price_fifths}, of fsd {fsd_fifths}")
    tell(f"the error rises from the lowest to the highest fifth of fsd by a factor of {np.mean(factors):.2f}\n")
    assert abs(np.mean(shares) - 0.683) <= 0.02
    assert np.abs(price_fifths - 0.683).max() <= 0.05
    assert np.abs(fsd_fifths - 0.683).max() <= 0.05
    assert np.mean(factors) >= 2


def fifths(values: Column) -> list[Column]:
    parts: list[Column] = np.array_split(np.argsort(values), 5)
    return parts
