"""Nothing is learned from data without variation, and what has learned nothing is not published."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact, Store
from pricing.house import Column
from train.errors import DataError
from train.models.training import Plan, train
from train.models.worth import check_variation, check_worth
from train.promotion.publish import publish
from train.sales import market
from train.sales import rows as data
from train.sales.rows import Sales
from train.sales.split import Mask, positions, sides

ROWS = 1_500
PLAN = Plan("v1.0.0", "0", 0, "gradient-boosting")
HONEST = market.synthetic_sales(ROWS, seed=0)["price"]


def some(**columns: Column) -> Sales:
    """Synthetic sales with some columns of their own."""
    found = market.synthetic_sales(ROWS, seed=0) | columns
    return data.accept(found, "sales.csv", synthetic=False, first_line=2)


def mostly(price: float, share: float) -> Column:
    """So large a share of equal prices; the others as they are."""
    return np.where(np.arange(ROWS) < share * ROWS, price, HONEST)


NOTHING_TO_LEARN: dict[str, tuple[Column, str]] = {
    "equal": (np.full(ROWS, 1e5), "the prices take 1 different value, expected 5 at least"),
    "two values": (np.resize([1e5, 2e5], ROWS), "the prices take 2 different values, expected 5 at least"),
    "equal but for a few": (mostly(1e5, 0.99), "half of the prices lie between $100,000.00 and $100,000.00"),
    "most equal, in the middle": (mostly(float(np.median(HONEST)), 0.8), "half of the prices lie between $"),
    "equal but for cents": (1e5 + np.arange(ROWS) / 100, "half of the prices lie between $100,003.75 and $100,011.24"),
}


@pytest.mark.parametrize("name", NOTHING_TO_LEARN)
def test_prices_without_variation_are_refused_before_anything_is_fitted(name: str) -> None:
    prices, reason = NOTHING_TO_LEARN[name]
    told: list[str] = []
    with pytest.raises(DataError) as refused:
        train(some(price=prices), PLAN, told.append)
    assert reason in str(refused.value)
    assert str(refused.value).endswith("at least: there is too little to learn from")
    assert told == []


def test_houses_that_are_all_the_same_are_refused() -> None:
    same = {name: np.full(ROWS, 3.0) for name in ("square_feet", "bedrooms", "bathrooms", "distance_to_city")}
    with pytest.raises(DataError, match=r"^sales\.csv: 1,500 accepted rows are only 1 different house"):
        train(some(**same), PLAN, lambda _: None)


@pytest.mark.parametrize(
    "columns",
    [
        {"price": np.round(HONEST, -5)},
        {"price": HONEST.mean() * np.exp(np.log(HONEST / HONEST.mean()) / 100)},
        {name: np.full(ROWS, 3.0) for name in ("bedrooms", "bathrooms", "age_years")},
    ],
    ids=["rounded to 100,000", "within a few percent", "constant features"],
)
def test_little_variation_is_enough(columns: dict[str, Column]) -> None:
    sales = some(**columns)
    check_worth(train(sales, PLAN, lambda _: None), sales)


def test_a_noisy_market_is_learned(tmp_path: Path) -> None:
    noise = np.exp(np.random.default_rng(1).normal(0, 0.4, ROWS))
    sales = some(price=HONEST * noise)  # of which the houses explain a quarter
    artifact = train(sales, PLAN, lambda _: None)
    publish(Store(tmp_path / "artifacts"), artifact, sales, Console(file=io.StringIO()))
    assert artifact.manifest.metrics.test.r2 < 0.4


def of_shuffled_prices(_: Artifact) -> tuple[Artifact, Sales, str]:
    sales = some(price=np.random.default_rng(0).permutation(HONEST))
    return train(sales, PLAN, lambda _: None), sales, "that of one price for all houses"


def of_bad_intervals(published: Artifact) -> tuple[Artifact, Sales, str]:
    intervals = tuple(each.model_copy(update={"coverage": 0.0}) for each in published.manifest.metrics.intervals)
    metrics = published.manifest.metrics.model_copy(update={"intervals": intervals})
    manifest = published.manifest.model_copy(update={"metrics": metrics})
    return (
        published._replace(manifest=manifest),
        data.synthetic(seed=0, rows=ROWS),
        "the interval at 50% contains 0.0% of the test prices, expected 50%, ",
    )


@pytest.mark.parametrize("made", [of_shuffled_prices, of_bad_intervals])
def test_a_version_that_is_worth_nothing_is_not_published(
    published: Artifact, tmp_path: Path, made: Callable[[Artifact], tuple[Artifact, Sales, str]]
) -> None:
    artifact, sales, reason = made(published)
    store = Store(tmp_path / "artifacts")
    with pytest.raises(DataError) as refused:
        publish(store, artifact, sales, Console(file=io.StringIO()), load_in_sandbox=lambda _: None)
    assert reason in str(refused.value)
    assert str(refused.value).endswith(" Nothing was published")
    assert not store.root.exists()


@pytest.mark.parametrize("excluded", [0, 60])
def test_of_test_sales_as_many_as_were_left_out_of_learning_may_be_outside(published: Artifact, excluded: int) -> None:
    sales, manifest = data.synthetic(seed=0, rows=ROWS), published.manifest
    houses = len(np.unique(positions(sales.houses, manifest.split)[sides_of(sales, manifest)]))
    coverage = 0.9 - 5 * (2 * 0.09 / houses) ** 0.5 - 0.04
    intervals = tuple(each.model_copy(update={"coverage": coverage}) for each in manifest.metrics.intervals[-1:])
    changed = manifest.model_copy(
        update={
            "metrics": manifest.metrics.model_copy(update={"intervals": intervals}),
            "data": manifest.data.model_copy(update={"excluded": excluded}),
        }
    )
    assert (changed.data.excluded_share > 0.04) == (excluded > 0)
    if excluded:
        check_worth(published._replace(manifest=changed), sales)
    else:
        with pytest.raises(DataError, match="the interval at 90%"):
            check_worth(published._replace(manifest=changed), sales)


def sides_of(sales: Sales, manifest: Manifest) -> Mask:
    """The test rows of a version."""
    return sides(positions(sales.houses, manifest.split), manifest.split).test


def test_honest_prices_have_variation() -> None:
    check_variation(some())
    check_variation(replace(some(), prices=np.resize(np.arange(1e5, 2e5, 2e4), ROWS)))  # five of them
