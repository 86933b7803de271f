"""How versions of past dates would have done on later sales: in the manifest, and printed by `train`."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli import main
from pricing.artifacts.store import Artifact, Store
from tests.column_sales import columns, write
from train.models.training import Plan, train
from train.promotion.rolling_origin import ORIGINS, pooled, with_rolling_origins
from train.sales import rows as data
from train.sales.rows import Reading
from train.sales.split import positions, sides, split_by_house

ROWS = 4_000
FIRST = date(2022, 1, 1)


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year of sales whose prices rise by 20 % in the last three months."""
    cells = columns(ROWS)
    days = [number * 365 // ROWS for number in range(ROWS)]
    cells["sold_on"] = [FIRST + timedelta(days=day) for day in days]
    cells["price"] = [price * (1.2 if day > 275 else 1) for price, day in zip(cells["price"], days, strict=True)]  # type: ignore[operator]
    return write(tmp_path_factory.mktemp("sales") / "sales.csv", cells)


def test_train_reports_later_sales_by_months_ahead(dated: Path, tmp_path: Path) -> None:
    places = ["--artifacts", str(tmp_path / "artifacts"), "--run", str(tmp_path / "run")]
    options = ["--data", str(dated), "--family", "gradient-boosting"]
    result = CliRunner().invoke(main, [*places, "train", *options])
    assert result.exit_code == 0, result.output
    assert "later sales, by versions of 3 past dates" in result.stdout

    origins = Store(tmp_path / "artifacts").read("v1.0.0").manifest.metrics.rolling_origins
    assert [origin.last_sale for origin in origins] == [date(2022, 10, 2), date(2022, 9, 2), date(2022, 8, 3)]
    assert [[later.month for later in origin.months] for origin in origins] == [[1, 2, 3]] * 3
    fallen = [later.median_ratio for later in origins[0].months]
    assert max(fallen) < 0.9  # what was known then is 1 / 1.2 of what was paid
    assert origins[2].months[0].median_ratio == pytest.approx(1, abs=0.06)
    of_all = pooled(origins)
    assert of_all is not None
    assert of_all.rows == sum(later.rows for origin in origins for later in origin.months)
    assert pooled(origins, 4) is None


def test_origins_of_a_version_without_outliers_have_learned_from_none(dated: Path) -> None:
    sales, split = data.read(dated), split_by_house("0")
    fit = sides(positions(sales.houses, split), split).fit
    sales = replace(sales, prices=np.where(fit & (np.arange(ROWS) % 20 == 0), 1, sales.prices))
    plan, told = Plan("v1.0.0", "0", 0, "gradient-boosting", exclude_outliers=True), list[str]()

    version = with_rolling_origins(train(sales, plan, told.append), sales, told.append)

    (*_, earliest) = version.manifest.metrics.rolling_origins
    assert earliest.months[0].median_ratio == pytest.approx(1, abs=0.06)


def test_sales_without_dates_and_too_few_sales_have_no_origins(knowing: Artifact, dated: Path) -> None:
    told: list[str] = []
    undated = data.read(dated, reading=Reading(rename={"sold_on": "closed_on"}))
    assert with_rolling_origins(knowing, undated, told.append) is knowing
    assert told == []
    sales = data.read(dated, reading=Reading(others=None))
    assert sales.sold_on is not None
    few = sales.where(sales.sold_on > sales.sold_on.max() - 91)
    assert with_rolling_origins(knowing, few, told.append).manifest.metrics.rolling_origins == ()
    assert len([sentence for sentence in told if sentence.startswith("left out: rolling origin ")]) == ORIGINS
