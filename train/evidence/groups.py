"""Errors of groups of sales: by price, by the value of a column, by place."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.evidence import LEVEL, MIN_GROUP, QUANTILES, Cell, Group, Place, PriceBand
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor

MAX_BANDS: Final = 10
PARTS: Final = 5
MAX_CATEGORIES: Final = 12
"""Shown by themselves; the others are one group."""
CELLS: Final = 8
OUTLYING: Final = 0.02
"""Share of the sales at either end of a coordinate that are beyond the map."""
UNKNOWN: Final = "(unknown)"
MIN_NAMED: Final = 5
"""Sales of a value that is named, so that no name on the page stands for a single house."""
RARE: Final = f"(less than {MIN_NAMED} sales each)"
DIGITS: Final = 5

Rows = NDArray[np.bool_] | NDArray[np.int64]


class Priced(NamedTuple):
    """Sales with their predictions at LEVEL, US dollars, and the vote of each, all of shape (n,)."""

    price: Column
    lower: Column
    upper: Column
    sold: Column
    vote: Column

    def where(self, rows: Rows) -> "Priced":
        """Some of the sales."""
        return Priced(*(column[rows] for column in self))

    @property
    def mape(self) -> float:
        """Mean absolute percentage error, as a share."""
        return short(np.abs(self.price / self.sold - 1).mean())

    @property
    def median_ratio(self) -> float:
        """Median of predicted price / sale price."""
        return short(np.median(self.price / self.sold))

    @property
    def coverage(self) -> float:
        """Share of the prices within their interval; a house has one vote."""
        return short(np.average((self.lower <= self.sold) & (self.sold <= self.upper), weights=self.vote))

    @property
    def median_width(self) -> float:
        """Median width of the interval, as a share of the prediction."""
        return short(np.median((self.upper - self.lower) / self.price))

    def figures(self) -> dict[str, float]:
        """The figures of a group; none if it is too small."""
        if len(self.sold) < MIN_GROUP:
            return {}
        return {name: getattr(self, name) for name in ("mape", "median_ratio", "coverage", "median_width")}


def short(value: Any) -> float:  # noqa: ANN401 -- numpy's floats
    """A number with DIGITS digits."""
    return float(f"{value:.{DIGITS}g}")


def priced_by(predictor: Predictor, matrix: Matrix, sold: Column, vote: Column, level: float = LEVEL) -> Priced:
    """Price rows of the graph's input."""
    return Priced(*predictor.predict(matrix, level).columns(), sold, vote)


def by_price(priced: Priced) -> tuple[PriceBand, ...]:
    """Groups of equal size by predicted price, cheapest first, none of them too small."""
    count = max(min(MAX_BANDS, len(priced.sold) // MIN_GROUP), 1)
    found = []
    for part in np.array_split(np.argsort(priced.price, kind="stable"), count):
        some = priced.where(part)
        sold = tuple(map(short, np.quantile(some.sold, QUANTILES)))
        label = f"${some.price.min():,.0f} to ${some.price.max():,.0f}"
        predicted = short(np.median(some.price))
        found.append(PriceBand(group=label, rows=len(part), predicted=predicted, sold=sold, **some.figures()))
    return tuple(found)


def by_number(values: Column) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Labels and rows of PARTS groups by the value of a number; equal values are in one group."""
    known = ~np.isnan(values)
    if known.any():
        different = np.unique(values[known])
        edges = np.unique(np.quantile(values[known], np.arange(1, PARTS) / PARTS, method="nearest"))
        if len(different) <= MAX_CATEGORIES:
            edges = different  # each value by itself
        place = np.searchsorted(edges, values, side="left")
        for number in range(len(edges) + 1):
            rows = known & (place == number)
            if rows.any():
                low, high = (_text(bound) for bound in (values[rows].min(), values[rows].max()))
                yield low if low == high else f"{low} to {high}", rows
    if not known.all():
        yield UNKNOWN, ~known


def _text(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"  # noqa: PLR2004 -- where %g changes its form


def by_category(names: Sequence[str | None], largest: int = MAX_CATEGORIES) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Labels and rows of the largest categories, then of the others together."""
    texts = np.array([UNKNOWN if name is None else name for name in names])
    found, counts = np.unique(texts, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    for name in found[order[:largest]].tolist():
        yield name, texts == name
    if len(others := found[order[largest:]]):
        yield f"{len(others):,} other categories", np.isin(texts, others)


def named(groups: Iterator[tuple[str, NDArray[np.bool_]]]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The same groups, but those with less than MIN_NAMED sales are one without a name."""
    rare: NDArray[np.bool_] | None = None
    for label, rows in groups:
        if rows.sum() >= MIN_NAMED:
            yield label, rows
        else:
            rare = rows if rare is None else rare | rows
    if rare is not None and rare.any():
        yield RARE, rare


def of_groups(priced: Priced, groups: Iterator[tuple[str, NDArray[np.bool_]]]) -> tuple[Group, ...]:
    """The figures of each group."""
    return tuple(
        Group(group=label, rows=int(rows.sum()), **priced.where(rows).figures()) for label, rows in named(groups)
    )


def by_place(priced: Priced, x: tuple[str, Column], y: tuple[str, Column]) -> Place | None:
    """A map of CELLS by CELLS cells, between the outlying sales; None if no cell has enough sales."""
    known = ~(np.isnan(x[1]) | np.isnan(y[1]))
    if not known.any():
        return None
    edges = []
    for values in (x[1], y[1]):
        low, high = np.quantile(values[known], [OUTLYING, 1 - OUTLYING]).tolist()
        if low >= high:
            return None
        edges.append(np.linspace(low, high, CELLS + 1))
    places = [_cells_of(line, values) for line, values in zip(edges, (x[1], y[1]), strict=True)]
    cells = []
    for column, row in product(range(CELLS), repeat=2):
        some = priced.where(known & (places[0] == column) & (places[1] == row))
        if len(some.sold) >= MIN_GROUP:
            rows = len(some.sold)
            cells.append(Cell(x=column, y=row, rows=rows, median_ratio=some.median_ratio, mape=some.mape))
    return Place(
        x_name=x[0],
        y_name=y[0],
        x_edges=_edges(edges[0]),
        y_edges=_edges(edges[1]),
        cells=tuple(cells),
        elsewhere=len(priced.sold) - sum(cell.rows for cell in cells),
    )


def _cells_of(line: Column, values: Column) -> NDArray[np.int64]:
    """The cell of each value; below 0 or from CELLS on, it is not on the map. The last edge belongs to its cell."""
    found = np.searchsorted(line, values, side="right") - 1
    return np.where(values == line[-1], CELLS - 1, found)


def _edges(line: Column) -> tuple[float, ...]:
    digits = 2 - int(np.floor(np.log10(line[1] - line[0])))
    found = tuple(round(float(edge), digits) for edge in line)
    return found if all(a < b for a, b in pairwise(found)) else tuple(line.tolist())
