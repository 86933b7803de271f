"""Learning from further columns: with gaps, for what is known, and not from noise."""

from pathlib import Path

import numpy as np
import pytest

from pricing.artifacts.manifest import COLUMNS_READABLE_FROM, FORMAT
from pricing.artifacts.store import Artifact
from pricing.inference.predictor import OnnxGraph, load, predictor_of
from tests.column_sales import columns, version_with_columns, write
from train.models.encoding import inputs_of
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.rows import Reading, Sales
from train.sales.split import positions, sides


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Sales:
    """Sales of the same market that the version has not seen."""
    path = tmp_path_factory.mktemp("unseen") / "sales.csv"
    return data.read(write(path, columns(6_000, seed=1)), reading=Reading(others=None))


def without(sales: Sales, *names: str) -> Sales:
    left = {name: cells for name, cells in sales.others.values.items() if name not in names}
    return Sales(**{**vars(sales), "others": sales.others._replace(values=left)})


@pytest.mark.parametrize(
    "unknown", [(), ("latitude",), ("zip_code",), ("heating",), ("latitude", "zip_code", "heating")], ids=" ".join
)
def test_the_interval_holds_for_what_is_known(knowing: Artifact, unseen: Sales, unknown: tuple[str, ...]) -> None:
    sales = without(unseen, *unknown)
    inputs = inputs_of(sales.houses, sales.others, knowing.manifest.columns)
    for level, slack in ((0.9, 0.035), (0.5, 0.06)):  # of 1,200 houses learned from, three standard errors
        _, lower, upper = load(knowing).predict(inputs, level).columns()
        assert abs(np.mean((lower <= sales.prices) & (sales.prices <= upper)) - level) < slack


def test_columns_halve_the_error_and_their_absence_costs_nothing(
    knowing: Artifact, unseen: Sales, tmp_path: Path
) -> None:
    five = version_with_columns(tmp_path, taught={})

    def mape(artifact: Artifact, sales: Sales) -> float:
        inputs = inputs_of(sales.houses, sales.others, artifact.manifest.columns)
        price, _, _ = load(artifact).predict(inputs, 0.9).columns()
        return float(np.mean(np.abs(price / sales.prices - 1)))

    assert mape(knowing, unseen) < 0.6 * mape(five, unseen)
    assert mape(knowing, without(unseen, "latitude", "zip_code", "heating")) < 1.04 * mape(five, unseen)


def test_the_manifest_keeps_what_training_saw(knowing: Artifact) -> None:
    latitude, zip_code, heating = knowing.manifest.columns
    assert (latitude.unit, latitude.minimum, latitude.maximum, zip_code.description) == (
        "degrees",
        -90,
        90,
        "Postal code",
    )
    assert latitude.trained_from < 47.05
    assert latitude.trained_to > 47.95
    assert len(zip_code.categories) == 20
    rows = sum(category.rows for category in heating.categories)
    assert rows == round(knowing.manifest.data.fit * (1 - heating.missing))
    assert (knowing.manifest.readable_from, knowing.manifest.format) == (COLUMNS_READABLE_FROM, FORMAT)


def test_noise_is_left_out_and_changes_nothing(knowing: Artifact, tmp_path: Path) -> None:
    told: list[str] = []
    sales = data.read(write(tmp_path / "sales.csv", columns()), reading=Reading(others=None))
    noisy = train(sales, Plan("v2.0.0", "0", 0, "gradient-boosting", "all"), told.append)
    assert [column.name for column in noisy.manifest.columns] == ["latitude", "zip_code", "heating"]
    assert [sentence for sentence in told if sentence.startswith("left out: noise, since the error without it rises")]
    assert noisy.graph == knowing.graph


def test_the_examples_hold_gaps(knowing: Artifact) -> None:
    rows = [example.features for example in knowing.manifest.examples]
    assert any(None in row for row in rows)
    assert all(len(row) == 8 for row in rows)


def test_what_is_measured_is_what_is_served(knowing: Artifact, tmp_path: Path) -> None:
    sales = data.read(write(tmp_path / "sales.csv", columns()), reading=Reading(others=None))
    split = knowing.manifest.split
    test = sides(positions(sales.houses, split), split).test
    inputs = inputs_of(sales.houses[test], sales.others.where(test), knowing.manifest.columns)
    price, _, _ = predictor_of(OnnxGraph(knowing.graph), knowing.manifest).predict(inputs, 0.9).columns()
    mape = np.mean(np.abs(price / sales.prices[test] - 1))
    assert mape == pytest.approx(knowing.manifest.metrics.test.mape, rel=1e-9)
