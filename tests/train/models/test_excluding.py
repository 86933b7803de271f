"""Sales that look like no market sales are listed by their line, and left out of learning only on request."""

import re
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import pytest

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.house import Column
from pricing.inference.predictor import OnnxGraph, predictor_of
from train.models.training import Plan, train
from train.sales import market
from train.sales import rows as data
from train.sales.rows import Sales
from train.sales.split import Mask, positions, sides, split_by_house
from train.sales.tables import COLUMNS

ROWS: Final = 4_000
PLANTED: Final = 0.03
PLAN: Final = Plan("v1.0.0", "0", 0, "gradient-boosting")
EXCLUDING: Final = PLAN._replace(exclude_outliers=True)


class Planted(NamedTuple):
    """Sales as they were read, the line of each in the file, and which are nominal or for a tenth of the price."""

    sales: Sales
    lines: Column
    nominal: Mask
    tenth: Mask
    test: Mask

    @property
    def clean_test(self) -> Mask:
        return self.test & ~self.nominal & ~self.tenth


class Trained(NamedTuple):
    artifact: Artifact
    told: list[str]

    @property
    def manifest(self) -> Manifest:
        return self.artifact.manifest

    def listed(self) -> set[int]:
        """All lines that are reported as outliers."""
        reports = re.findall(r"outliers?: line ([\d, ]+)", "\n".join(self.told))
        return {int(line) for found in reports for line in found.split(", ")}

    def coverage(self, sales: Sales, level: float) -> float:
        _, lower, upper = (
            predictor_of(OnnxGraph(self.artifact.graph), self.manifest).predict(sales.houses, level).columns()
        )
        return float(np.mean((lower <= sales.prices) & (sales.prices <= upper)))

    def mape(self, sales: Sales) -> float:
        price = predictor_of(OnnxGraph(self.artifact.graph), self.manifest).predict(sales.houses, 0.9).columns()[0]
        return float(np.mean(np.abs(price / sales.prices - 1)))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A file whose physical lines are not its rows: empty lines, a cell of two lines, rows that are refused."""
    columns = market.synthetic_sales(ROWS, seed=0)
    chance = np.random.default_rng(0).random(ROWS)
    nominal, tenth = chance < PLANTED / 2, (chance >= PLANTED / 2) & (chance < PLANTED)
    columns["price"] = np.where(nominal, 1.0, np.where(tenth, np.round(columns["price"] / 10), columns["price"]))
    text, lines = ",".join((*COLUMNS, "note")) + "\n", []
    for number, row in enumerate(zip(*(columns[name].tolist() for name in COLUMNS), strict=True)):
        text += "\n" * (number % 100 == 0) + ("0," * len(COLUMNS) + "not a sale\n") * (number % 500 == 0)
        lines.append(text.count("\n") + 1)
        text += ",".join(map(str, row)) + (',"two\nlines"\n' if number % 70 == 0 else ",\n")
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    path.write_text(text)
    sales, split = data.read(path), split_by_house(PLAN.salt)
    assert (len(sales.prices), sales.refused) == (ROWS, ROWS // 500)
    return Planted(sales, np.array(lines), nominal, tenth, sides(positions(sales.houses, split), split).test)


@pytest.fixture(scope="module")
def by_default(planted: Planted) -> Trained:
    told: list[str] = []
    return Trained(train(planted.sales, PLAN, told.append), told)


@pytest.fixture(scope="module")
def excluding(planted: Planted) -> Trained:
    told: list[str] = []
    return Trained(train(planted.sales, EXCLUDING, told.append), told)


@pytest.fixture(scope="module")
def clean(planted: Planted) -> Trained:
    """Of the same market with its own prices."""
    prices = market.synthetic_sales(ROWS, seed=0)["price"]
    told: list[str] = []
    return Trained(train(replace(planted.sales, prices=prices), PLAN, told.append), told)


def test_every_planted_sale_to_learn_from_is_listed_by_its_line(planted: Planted, excluding: Trained) -> None:
    expected = planted.lines[(planted.nominal | planted.tenth) & ~planted.test].tolist()
    found = excluding.listed()
    assert set(expected) <= found
    assert len(found) <= len(expected) + 3  # prices of the market itself that are far out by chance
    assert found.isdisjoint(planted.lines[planted.test].tolist())


def test_the_farthest_are_shown_with_their_reason(planted: Planted, excluding: Trained) -> None:
    shown = [told for told in excluding.told if told.startswith("outlier: ")]
    median = np.median(planted.sales.prices[~planted.test])
    of_one_dollar = planted.lines[planted.nominal & ~planted.test].tolist()
    assert shown == [
        f"outlier: line {line}: $1: less than 1/20 of the median price of ${median:,.0f}" for line in of_one_dollar[:10]
    ]


def test_a_price_that_is_possible_but_far_from_the_predicted_one_has_that_reason(
    planted: Planted,
) -> None:
    (row,) = np.flatnonzero(~planted.test)[:1]
    prices = market.synthetic_sales(ROWS, seed=0)["price"]
    prices[row] *= 5
    told: list[str] = []
    train(replace(planted.sales, prices=prices), PLAN, told.append)
    (first, *_) = (sentence for sentence in told if sentence.startswith("outlier: "))
    pattern = rf"outlier: line {planted.lines[row]}: \${prices[row]:,.0f}, predicted \$([\d,]+): log error beyond 3 int"
    found = re.match(pattern, first)
    assert found is not None
    assert 3 < prices[row] / float(found[1].replace(",", "")) < 7


def test_by_default_they_are_listed_and_learned_from(by_default: Trained) -> None:
    assert len(by_default.listed()) > 50
    assert any(told.endswith("and are learned from; --exclude-outliers leaves them out") for told in by_default.told)
    found = by_default.manifest.data
    assert (found.excluded, found.excluded_prices, found.fit + found.test) == (0, 0, ROWS)


def test_the_manifest_counts_what_was_left_out_of_learning_and_no_test_sale_is(
    planted: Planted, by_default: Trained, excluding: Trained
) -> None:
    found = excluding.manifest.data
    assert found.excluded == len(excluding.listed())
    odd = planted.sales.prices[~planted.test] < np.median(planted.sales.prices[~planted.test]) / 20
    assert found.excluded_prices == odd.sum() >= (planted.nominal & ~planted.test).sum()
    assert (found.fit + found.excluded + found.test, found.rows) == (ROWS, ROWS)
    assert found.test == by_default.manifest.data.test == planted.test.sum() == excluding.manifest.metrics.test.rows
    assert excluding.manifest.calibration.rows == found.fit


def test_without_them_prices_and_intervals_are_those_of_the_market(
    planted: Planted, by_default: Trained, excluding: Trained, clean: Trained
) -> None:
    market_sales = planted.sales.where(planted.clean_test)
    errors = [version.mape(market_sales) for version in (clean, excluding, by_default)]
    assert errors[1] < 1.05 * errors[0]
    assert errors[2] > 1.5 * errors[0]  # the control
    error = (0.09 / len(market_sales.prices)) ** 0.5
    assert abs(excluding.coverage(market_sales, 0.9) - clean.coverage(market_sales, 0.9)) < 2 * error


def test_where_nothing_is_an_outlier_excluding_changes_nothing(planted: Planted, clean: Trained) -> None:
    prices = market.synthetic_sales(ROWS, seed=0)["price"]
    told: list[str] = []
    assert train(replace(planted.sales, prices=prices), EXCLUDING, told.append).graph == clean.artifact.graph
    assert not any("outlier" in sentence for sentence in told)
