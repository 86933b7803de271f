"""The houses that prices are explained against stand for all that were learned from."""

import numpy as np
import pytest

from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor, load
from tests.column_sales import ROWS, columns, write
from train.models.encoding import inputs_of
from train.sales import rows as data
from train.sales.rows import Reading
from train.study.background import HOUSES, background_of, choose


@pytest.fixture(scope="module")
def predictor(knowing: Artifact) -> Predictor:
    return load(knowing)


@pytest.fixture(scope="module")
def rows(knowing: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    path = write(tmp_path_factory.mktemp("sales") / "sales.csv", columns())
    sales = data.read(path, reading=Reading(others=None))
    return inputs_of(sales.houses, sales.others, knowing.manifest.columns)


def off(predictor: Predictor, rows: Matrix, chosen: Matrix) -> tuple[float, float]:
    """How far the means of price and width are from those of all rows."""
    (price, lower, upper), (price_of, lower_of, upper_of) = (
        predictor.predict(houses, 0.9).columns() for houses in (rows, chosen)
    )

    def distance(found: Column, expected: Column) -> float:
        return float(abs(found.mean() / expected.mean() - 1))

    return distance(price_of, price), distance(upper_of - lower_of, upper - lower)


def test_its_mean_price_and_width_are_those_of_all_rows(predictor: Predictor, rows: Matrix) -> None:
    found = [off(predictor, rows, rows[choose(predictor, rows, seed)]) for seed in range(5)]
    rng = np.random.default_rng(0)
    at_random = [off(predictor, rows, rows[rng.choice(len(rows), HOUSES, replace=False)]) for _ in range(20)]

    assert np.max(found) < 0.03
    assert np.mean(found) < np.mean(at_random) / 5


def test_its_columns_have_the_means_and_gaps_of_all_rows(predictor: Predictor, rows: Matrix) -> None:
    chosen = rows[choose(predictor, rows, 0)]

    error = (np.nanmean(chosen, axis=0) - np.nanmean(rows, axis=0)) / np.nanstd(rows, axis=0)
    assert np.abs(error).max() < 0.25  # the standard error of 16 at random
    assert np.abs(np.isnan(chosen).mean(axis=0) - np.isnan(rows).mean(axis=0)).max() < 0.1


def test_the_same_seed_draws_the_same_and_no_house_twice(predictor: Predictor, rows: Matrix) -> None:
    first, again, other = (choose(predictor, rows, seed).tolist() for seed in (0, 0, 1))

    assert first == again != other
    assert len(set(first)) == HOUSES


def test_the_manifest_has_it_as_the_graph_reads_it(knowing: Artifact, predictor: Predictor, rows: Matrix) -> None:
    background = background_of(predictor, rows, 0)

    read = np.array(background, dtype=np.float32)
    assert read.tobytes() == rows[choose(predictor, rows, 0)].tobytes()  # to the bit, and NaN too
    assert None in {value for row in background for value in row}
    assert len(knowing.manifest.background) == HOUSES
    known = {row.tobytes() for row in rows}
    assert {row.tobytes() for row in np.array(knowing.manifest.background, dtype=np.float32)} <= known
    assert len(rows) == ROWS
