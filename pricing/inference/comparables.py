"""The sales most like a house, among those that a version has learned from and keeps.

* Each tree of the price sorts houses into its leaves, from the lowest value to the highest. The distance of two houses
  is the sum of the distances between their leaves.
* Similarity is 1 in the same leaves, and 0 at the mean distance of all sales from the house.
* The assessor of Cook County counts shared leaves instead, weighted by how much a tree reduces the error. That was
  measured, and chooses worse (docs/comparables.md).
* A sale of the house itself is never among them. The house is known by what the split of the version knows it by.
* Of equally similar sales the newest come first.
* A price is adjusted to the valuation date by the market's level then and now, and after that by what the model sees
  between the two houses: the price of this house over the model's own price of the sale.
"""

from datetime import date, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.sales_file import MARKET_DAYS, SALES_FILE, UNKNOWN_CATEGORY, KeptSales, parse_sales
from pricing.artifacts.store import Artifact
from pricing.errors import DamagedArtifactError, ModelError
from pricing.house import FEATURES, Column, Matrix, decimal
from pricing.inference.leaves import LAST, LeafFinder, deviations, price_trees
from pricing.inference.predictor import Predictor

EPOCH: Final = date(1970, 1, 1)
BYTES_A_STEP: Final = 100_000
"""Of leaves that are compared at once: malloc would map and unmap more, which takes longer than the work."""
CHECKED: Final = 100
"""Sales whose leaves are found again when a version is loaded."""
ROUNDING: Final = 1e-3  # log dollars; a sum of 250 float32 was seen to be off by 3e-6
Indices = NDArray[np.int64]


class Comparable(NamedTuple):
    """A sale. Prices are in US dollars."""

    price: float
    sold_on: date | None
    time_adjusted_price: float
    """The price at the valuation date; the price itself if the sales have no dates."""
    adjusted_price: float
    """That of the house that is asked for, by this sale."""
    similarity: float
    """From 0 to 1."""
    house: dict[str, float | str]
    """What is known of it, by name."""


class ComparableSales:
    """The sales that a version keeps, ready to be compared."""

    def __init__(self, manifest: Manifest, predictor: Predictor, finder: LeafFinder, sales: KeptSales) -> None:
        self._predictor = predictor
        self._finder = finder
        self._sales = sales
        self._columns = manifest.columns
        self._codes = [np.array([c.code for c in column.categories] + [np.nan]) for column in manifest.columns]
        self._identity: Final = [FEATURES.index(name) for name in manifest.split.identified_by]
        self._market: Final = () if manifest.sales is None else manifest.sales.market
        recalibrated = None if manifest.recalibrated is None else manifest.calibration.shift
        self._level_now: Final = recalibrated if recalibrated is not None or not self._market else self._market[0]

    def __len__(self) -> int:
        """The number of sales."""
        return len(self._sales.prices)

    def find(self, house: Matrix, count: int) -> list[Comparable]:
        """The `count` sales most like a house, float32 of shape (1, 5 + columns), most similar first."""
        far = self._distances(house)
        others = far != np.iinfo(far.dtype).max
        chosen = np.argsort(far, kind="stable")[:count]
        chosen = chosen[others[chosen]]
        log_price, _ = self._predictor.outputs(np.concatenate([house, self.rows(chosen)]))
        time_factor, ratio = self._time_factor(chosen), np.exp(log_price[0] - log_price[1:])
        similarity = np.maximum(0, 1 - far[chosen] / max(1, far.mean(where=others))) if len(chosen) else far[chosen]
        prices = self._sales.prices[chosen]
        parts = (prices, prices * time_factor, prices * time_factor * ratio, similarity)
        figures = zip(*(part.tolist() for part in parts), strict=True)
        return [
            Comparable(price, self._sold_on(place), in_time, adjusted, similar, self._house(place))
            for place, (price, in_time, adjusted, similar) in zip(chosen.tolist(), figures, strict=True)
        ]

    def rows(self, places: Indices) -> Matrix:
        """Sales as the graph reads them, float32 of shape (n, 5 + columns)."""
        numbers, categories = iter(self._sales.numbers), iter(self._sales.categories)
        further = [
            next(numbers)[places]
            if column.kind == "number"
            else codes[np.minimum(next(categories)[places], len(codes) - 1)]
            for column, codes in zip(self._columns, self._codes, strict=True)
        ]
        return np.column_stack([*self._sales.fields[:, places], *further]).astype(np.float32)

    def check(self, deviation: Column) -> None:
        """Raise ModelError unless the first sales have the leaves of this graph.

        `deviation` is the sum of the values of their leaves; with a constant, it is the log price of the graph.
        """
        if len(self._sales.leaves) != self._finder.trees:
            msg = f"{SALES_FILE}: leaves of {len(self._sales.leaves):,} trees, expected {self._finder.trees:,}"
            raise ModelError(msg)
        first = np.arange(len(deviation))
        rows = self.rows(first)
        constant = self._predictor.outputs(rows)[0] - deviation
        if not np.ptp(constant) <= ROUNDING:
            msg = f"the first trees of the graph are off its prices by {np.ptp(constant):g}, expected a constant"
            raise ModelError(msg)
        if not np.array_equal(self._finder.find(rows), self._sales.leaves[:, first]):
            msg = f"{SALES_FILE}: the leaves of its sales are not those of this graph"
            raise ModelError(msg)
        if self._sales.days is not None and self._period(np.array([len(self) - 1]))[0] >= len(self._market):
            msg = f"{SALES_FILE}: the manifest has {len(self._market)} levels of the market, expected one for each sale"
            raise ModelError(msg)

    def _distances(self, house: Matrix) -> NDArray[np.unsignedinteger[Any]]:
        """Sum of the distances in all trees, of shape (sales,); for sales of this house, the highest number."""
        trees, wanted = self._finder.trees, self._finder.find(house)
        far = np.zeros(len(self), dtype=np.min_scalar_type(LAST * trees + 1))
        step = max(1, BYTES_A_STEP // trees)
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            leaves = self._sales.leaves[:, part]
            apart = np.maximum(leaves, wanted)
            apart -= np.minimum(leaves, wanted)
            far[part] = np.add.reduce(apart, axis=0, dtype=far.dtype)
        same = np.logical_and.reduce([self._sales.fields[place] == house[0, place] for place in self._identity])
        far[same] = np.iinfo(far.dtype).max
        return far

    def _period(self, places: Indices) -> Indices:
        days = self._sales.days
        found: Indices = np.zeros(len(places), np.int64) if days is None else (days[0] - days[places]) // MARKET_DAYS
        return found

    def _time_factor(self, places: Indices) -> Column:
        if self._level_now is None or not self._market:
            return np.ones(len(places))
        found: Column = np.exp(self._level_now - np.array(self._market)[self._period(places)])
        return found

    def _sold_on(self, place: int) -> date | None:
        days = self._sales.days
        return None if days is None else EPOCH + timedelta(days=int(days[place]))

    def _house(self, place: int) -> dict[str, float | str]:
        found: dict[str, float | str] = {
            name: decimal(value) for name, value in zip(FEATURES, self._sales.fields[:, place], strict=True)
        }
        numbers, categories = iter(self._sales.numbers), iter(self._sales.categories)
        for column in self._columns:
            value: Any = next(numbers if column.kind == "number" else categories)[place]
            if column.kind == "category":
                if value != UNKNOWN_CATEGORY:
                    found[column.name] = column.categories[value].value
            elif not np.isnan(value):
                found[column.name] = decimal(value)
        return found


def comparable_sales_of(artifact: Artifact, predictor: Predictor) -> ComparableSales | None:
    """The sales of a verified artifact; None if it keeps none.

    Raises DamagedArtifactError for sales that are not those of its graph, whatever is in the file.
    """
    manifest = artifact.manifest
    if manifest.sales is None or artifact.sales is None:
        return None
    try:
        nodes = price_trees(artifact.graph, len(FEATURES) + len(manifest.columns))
        finder, sales = LeafFinder(nodes), parse_sales(artifact.sales, manifest)
        found = ComparableSales(manifest, predictor, finder, sales)
        found.check(deviations(nodes, finder, found.rows(np.arange(min(CHECKED, len(found))))))
    except (ModelError, DamagedArtifactError) as error:
        msg = f"{manifest.version}: {error}"
        raise DamagedArtifactError(msg) from error
    return found
