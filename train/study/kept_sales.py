"""The sales that a version keeps for comparables, and the level of the market in their time.

* Only rows that the version has learned from are kept: no test sale is among them.
* Of more than MAX_SALES the newest are kept; without dates, a sample.
* The level of a period is the median out-of-fold log error of its sales; 0 is the level of the graph.
* Levels are shrunk toward 0 as far as they differ by chance (empirical Bayes; James and Stein 1961). If they differ by
  chance only, all are 0.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.columns import OptionalColumn
from pricing.artifacts.manifest import SealedSales
from pricing.artifacts.sales_file import MARKET_DAYS, MAX_SALES, UNKNOWN_CATEGORY, KeptSales
from pricing.house import FEATURES, Column, Matrix
from pricing.inference.leaves import LeafFinder, price_trees
from train.sales.columns import Values
from train.sales.rows import Dates

MEDIAN_ERROR: Final = 1.2533 * 1.4826  # standard error of a median, by the median distance from it
MAX_LEVEL: Final = 5.0  # log dollars, as the manifest allows

Days = NDArray[np.int32]


class FitRows(NamedTuple):
    """The rows that a version has learned from, each of shape (n,), in one order."""

    inputs: Matrix
    """As the graph reads them, float32 of shape (n, 5 + columns)."""
    prices: Column
    """US dollars."""
    log_error: Column
    """Out-of-fold: log price less that of a model that has not seen the house."""
    sold_on: Dates | None
    columns: Sequence[Values]


class Kept(NamedTuple):
    """The content of the file, and its seal."""

    content: bytes
    sealed: SealedSales


def keep_sales(graph: bytes, rows: FitRows, described: Sequence[OptionalColumn], seed: int) -> Kept:
    """The sales of a version with this graph and these columns, as its manifest describes them."""
    days = None if rows.sold_on is None else rows.sold_on.astype("datetime64[D]").astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(rows.prices)) if days is None else _newest_first(days)
    kept = order[:MAX_SALES]
    inputs = rows.inputs[kept]
    numbers = [place for place, column in enumerate(described, len(FEATURES)) if column.kind == "number"]
    categories = [
        _places(values, column)[kept]
        for values, column in zip(rows.columns, described, strict=True)
        if column.kind == "category"
    ]
    sales = KeptSales(
        prices=rows.prices[kept],
        days=None if days is None else days[kept],
        fields=inputs[:, : len(FEATURES)].T,
        numbers=inputs[:, numbers].T,
        categories=np.array(categories, dtype=np.uint16).reshape(-1, len(kept)),
        leaves=LeafFinder(price_trees(graph, inputs.shape[1])).find(inputs),
    )
    content = sales.to_bytes()
    sealed = SealedSales(
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        rows=len(kept),
        market=() if days is None else tuple(market_levels(rows.log_error, days).tolist()),
    )
    return Kept(content, sealed)


def market_levels(log_error: Column, days: Days) -> Column:
    """The level of each period of MARKET_DAYS, newest first, in log dollars; errors and days are of shape (n,)."""
    period = (days.max() - days) // MARKET_DAYS
    sales = np.bincount(period)
    medians = np.array([np.median(log_error[period == number]) if count else 0.0 for number, count in enumerate(sales)])
    distance = MEDIAN_ERROR * np.median(np.abs(log_error - np.median(log_error)))
    known = sales > 0
    chance = distance**2 / np.maximum(sales, 1)
    moved = max(0.0, float(np.average(medians[known] ** 2 - chance[known], weights=sales[known])))
    if moved == 0.0:
        return np.zeros(len(sales))
    found: Column = np.clip(medians * moved / (moved + chance), -MAX_LEVEL, MAX_LEVEL)
    return found


def _newest_first(days: Days) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.argsort(-days, kind="stable")
    return found


def _places(values: Values, column: OptionalColumn) -> NDArray[np.uint16]:
    """The place of each row's category in the manifest, of shape (n,)."""
    place = {category.value: number for number, category in enumerate(column.categories)}
    of_name = np.array([place.get(name, UNKNOWN_CATEGORY) for name in values.names], dtype=np.uint16)
    known = ~np.isnan(values.values)
    found = np.full(len(values.values), UNKNOWN_CATEGORY, dtype=np.uint16)
    found[known] = of_name[values.values[known].astype(np.int64)]
    return found
