"""The forest that is too large gets larger leaves, and only that one; few sales hold boosting back."""

import numpy as np
import pytest

from pricing.house import Column, Matrix
from train.models.convert import Fitted, to_onnx
from train.models.families import (
    BYTES_OF_A_NODE,
    FAMILIES,
    MANY,
    MAX_FOREST_BYTES,
    Estimator,
    fit,
    leaf_that_fits,
    spread_estimator,
)
from train.sales import rows as data

ROWS = 2_000
TREES = 100


def rows() -> tuple[Matrix, Column]:
    sales = data.synthetic(seed=0, rows=ROWS)
    return sales.houses, np.log(sales.prices)


def forest() -> Estimator:
    return FAMILIES["random-forest"](0)


def size(estimator: Estimator) -> int:
    """Bytes of the forest in its ONNX file, without the spread's trees."""
    spread = fit(spread_estimator(0), *rows())
    alone = len(to_onnx(Fitted(spread, spread, 13.0, 0.05))) // 2
    return len(to_onnx(Fitted(estimator, spread, 13.0, 0.05))) - alone


def test_a_forest_that_fits_is_grown_as_ever() -> None:
    assert fit(forest(), *rows()).min_samples_leaf == 6


@pytest.mark.parametrize("most_bytes", [1_000_000, 300_000, 40_000])
def test_a_forest_that_would_be_too_large_gets_larger_leaves_and_uses_the_room(most_bytes: int) -> None:
    grown = fit(forest(), *rows(), most_bytes=most_bytes)

    assert 0.6 * most_bytes < size(grown) < 1.02 * most_bytes
    assert grown.min_samples_leaf > 6


def test_a_node_has_the_bytes_that_are_counted_on() -> None:
    grown = fit(forest(), *rows())
    nodes = sum(tree.tree_.node_count for tree in grown.estimators_)

    assert 0.9 * BYTES_OF_A_NODE < size(grown) / nodes <= BYTES_OF_A_NODE


def test_no_tree_is_grown_to_know_the_size_of_a_forest_that_cannot_be_too_large() -> None:
    houses, target = rows()

    assert 2 * ROWS / 6 * TREES * BYTES_OF_A_NODE < MAX_FOREST_BYTES
    assert leaf_that_fits(forest(), houses[:, :0], target, MAX_FOREST_BYTES) == 6  # which no tree could be grown on


def test_the_manifest_says_how_large_the_leaves_are() -> None:
    grown = fit(forest(), *rows(), most_bytes=300_000)

    assert grown.get_params()["min_samples_leaf"] == grown.min_samples_leaf > 6


@pytest.mark.parametrize(("number", "rises"), [(MANY - 1, True), (MANY, False)])
def test_below_many_sales_a_price_never_falls_with_the_living_area(number: int, *, rises: bool) -> None:
    houses, target = rows()
    target = target + np.random.default_rng(0).normal(0, 0.5, ROWS)  # noise, of which trees learn falling prices
    grown = fit(FAMILIES["gradient-boosting"](0, rows=number), houses, target)
    larger = np.repeat(houses[:1], 500, axis=0)
    larger[:, 0] = np.linspace(500, 5_000, 500)

    assert bool((np.diff(grown.predict(larger)) >= 0).all()) is rises


def test_boosting_with_columns_is_held_back_by_the_living_area_only() -> None:
    few, many = (FAMILIES["gradient-boosting"](0, 2, number).get_params() for number in (100, MANY))
    assert few["monotonic_cst"] == [1, 0, 0, 0, 0, 0, 0]
    assert many["monotonic_cst"] is None
