"""The synthetic market with further columns that decide half of a price, and with some that teach nothing."""

import csv
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from pricing.artifacts.store import Artifact
from train.models.training import Plan, train
from train.sales import market
from train.sales import rows as data
from train.sales.columns import ColumnChoice, Wish
from train.sales.rows import Reading, Sales

ROWS: Final = 1_500
FIRST: Final = date(2024, 1, 1)
ZIP_CODES: Final = tuple(range(98101, 98121))
HEATINGS: Final = ("gas", "oil", "heat pump")
TAUGHT: Final[ColumnChoice] = {
    "latitude": Wish(unit="degrees", minimum=-90, maximum=90),
    "zip_code": Wish(kind="category", description="Postal code"),
    "heating": Wish(),
}


def columns(rows: int = ROWS, seed: int = 0) -> dict[str, list[object]]:
    """By name, the cells of each column; one in ten is empty in those that are further ones."""
    found = market.synthetic_sales(rows, seed)
    rng = np.random.default_rng(seed)
    zip_codes, heating = rng.integers(len(ZIP_CODES), size=rows), rng.integers(len(HEATINGS), size=rows)
    latitude = np.round(47 + rng.random(rows), 4)
    price = found["price"] * np.exp(0.03 * (zip_codes - 10) + 0.3 * (heating - 1) + 0.8 * (latitude - 47.5))
    found["price"] = np.round(price, -2)
    further: dict[str, list[object]] = {
        "latitude": [*latitude],
        "zip_code": [ZIP_CODES[place] for place in zip_codes],
        "heating": [HEATINGS[place] for place in heating],
        "noise": [*np.round(rng.random(rows), 4)],
    }
    for cells in further.values():
        for place in np.flatnonzero(rng.random(rows) < 0.1):
            cells[place] = None
    return {name: cells.tolist() for name, cells in found.items()} | further


def write(path: Path, cells: dict[str, list[object]]) -> Path:
    """Write them as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
    return path


def version_with_columns(folder: Path, version: str = "v1.0.0", taught: ColumnChoice = TAUGHT) -> Artifact:
    """A version that knows latitude, zip_code and heating."""
    sales = data.read(write(folder / "sales.csv", columns()), reading=Reading(others=None))
    return train(sales, Plan(version, "0", 0, "gradient-boosting", taught), lambda _: None)


class Keeping(NamedTuple):
    """A version that keeps its sales, and all the sales of its training."""

    artifact: Artifact
    sales: Sales


def version_that_keeps_sales(folder: Path, version: str = "v3.0.0", monthly: float = 0.02) -> Keeping:
    """Such a version of a market with dates, which rises by so much every 30 days."""
    cells = columns()
    days = np.random.default_rng(1).integers(360, size=ROWS)
    cells["sold_on"] = [FIRST + timedelta(days=int(day)) for day in days]
    rise = np.exp(monthly * (days // 30))
    cells["price"] = [*np.round(np.array(cells["price"], dtype=np.float64) * rise)]
    sales = data.read(write(folder / "dated.csv", cells), reading=Reading(others=None))
    plan = Plan(version, "0", 0, "gradient-boosting", TAUGHT, keep_sales=True)
    return Keeping(train(sales, plan, lambda _: None), sales)
