"""Which sales a version keeps, and the level of the market in their time."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli import main
from pricing.artifacts.sales_file import MAX_SALES, SALES_FILE, parse_sales
from pricing.artifacts.store import Artifact, Store
from pricing.house import Column
from pricing.inference.comparables import comparable_sales_of
from pricing.inference.predictor import load
from tests.column_sales import Keeping, columns, write
from train.promotion.recalibrating import recalibrated
from train.sales import rows as data
from train.sales.rows import Reading
from train.study.kept_sales import Days, FitRows, keep_sales, market_levels

DAY = np.timedelta64(1, "D")


def fit_rows(published: Artifact, rows: int, *, dated: bool) -> FitRows:
    example = np.array([published.manifest.examples[0].features], dtype=np.float32)
    houses = np.repeat(example, rows, axis=0)
    houses[:, 0] += np.arange(rows) % 1_000
    sold_on = np.datetime64("2024-01-01") + DAY * (np.arange(rows) % 700) if dated else None
    return FitRows(houses, np.linspace(1e5, 1e5 + rows - 1, rows), np.zeros(rows), sold_on, ())


def test_the_newest_are_kept_if_there_are_too_many(published: Artifact) -> None:
    rows = fit_rows(published, MAX_SALES + 5_000, dated=True)
    content, sealed = keep_sales(published.graph, rows, (), 0)
    found = parse_sales(content, published.manifest)

    assert sealed.rows == len(found.prices) == MAX_SALES
    assert found.days is not None
    days = np.sort(np.asarray(rows.sold_on).astype(np.int64))[::-1]
    assert found.days.tolist() == days[:MAX_SALES].tolist()


def test_without_dates_a_sample_in_no_order_of_the_file_is_kept(published: Artifact) -> None:
    rows = fit_rows(published, MAX_SALES + 5_000, dated=False)
    content, sealed = keep_sales(published.graph, rows, (), 0)
    found = parse_sales(content, published.manifest)

    assert (sealed.rows, sealed.market, found.days) == (MAX_SALES, (), None)
    assert len({*found.prices.tolist()}) == MAX_SALES
    assert 0.75 < (found.prices < 1e5 + MAX_SALES).mean() < 0.85
    assert (np.diff(found.prices) < 0).any()
    assert keep_sales(published.graph, rows, (), 0).content == content


def sales_of_months(rise: float, noise: float, rows: int = 200, months: int = 12) -> tuple[Column, Days]:
    days = np.repeat(np.arange(months) * 30, rows).astype(np.int32)
    error = np.random.default_rng(0).normal(0, noise, months * rows) + rise * (days // 30)
    return error - error.mean(), days


def test_the_levels_are_those_of_a_market_that_moves() -> None:
    found = market_levels(*sales_of_months(0.02, 0.2))

    assert found.shape == (12,)
    # a median of 200 is off by 0.018 by chance
    assert found == pytest.approx(0.02 * (5.5 - np.arange(12)), abs=3 * 0.018)
    assert np.polyfit(np.arange(12), found, 1)[0] == pytest.approx(-0.02, abs=0.004)


def test_a_market_that_does_not_move_has_levels_of_nearly_nothing() -> None:
    """Medians of 200 sales alone would be off by two and a half percent each."""
    raw = [np.median(part) for part in np.split(sales_of_months(0, 0.2)[0], 12)]
    found = market_levels(*sales_of_months(0, 0.2))

    assert np.abs(found).max() <= 0.4 * np.abs(raw).max()


def test_a_month_of_one_sale_says_little_and_one_of_none_nothing() -> None:
    error, days = sales_of_months(0.01, 0.2)
    alone, empty = error[:1] + 2.0, 13
    found = market_levels(np.append(error, alone), np.append(days, -30 * empty).astype(np.int32))

    assert len(found) == 12 + empty
    assert abs(found[-1]) < 0.2  # of 2, since one sale is off by 0.25 by chance
    assert found[12:-1].tolist() == [0.0] * (empty - 1)


def test_a_recalibrated_version_keeps_the_sales_of_its_parent(keeping: Keeping, tmp_path: Path) -> None:
    cells = columns(1_200, seed=3)
    cells["sold_on"] = [date(2025, 6, 1) + timedelta(days=number // 20) for number in range(1_200)]
    later = data.read(write(tmp_path / "later.csv", cells), reading=Reading(others=None))

    found = recalibrated(keeping.artifact, later, "v3.0.1")

    assert found.sales == keeping.artifact.sales
    assert found.manifest.sales == keeping.artifact.manifest.sales
    assert comparable_sales_of(found, load(found)) is not None
    Store(tmp_path / "artifacts").publish(found)


def test_sales_are_kept_only_if_training_is_told_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")
    places = ["--artifacts", str(store.root), "--run", str(tmp_path / "run"), "--journal", str(tmp_path / "journal")]
    file = write(tmp_path / "sales.csv", columns())

    def run(command: str, *more: str) -> str:
        options = ["--data", str(file), "--family", "gradient-boosting", *more]
        return CliRunner().invoke(main, [*places, command, *options]).output

    assert "of the sales that it learned from are kept" in run("train", "--keep-sales")
    assert "v1.0.0 keeps its sales, v1.1.0 keeps none: --keep-sales would keep them" in run("retrain")
    run("retrain", "--keep-sales")
    run("train")

    keeps = {version: store.read(version).manifest.sales is not None for version in store.versions()}
    assert keeps == {"v1.0.0": True, "v1.1.0": False, "v1.2.0": True, "v1.3.0": False}
    assert [(store.root / version / SALES_FILE).exists() for version in keeps] == list(keeps.values())
