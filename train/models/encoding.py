"""From further columns to numbers for the trees: categories get codes, and gaps stay gaps.

* The code of a category is the smoothed mean of the log prices of its rows (target encoding; Micci-Barreca 2001, "A
  preprocessing scheme for high-cardinality categorical attributes"). In the rows that are learned from, it comes from
  the other folds only, so that no row sees its own price.
* Rare categories share a code. An unknown one is NaN.
* Each row is learned from three times: whole, with the five fields only, and with about half of the columns unknown. A
  model that has never seen a gap is far off when it meets one.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.columns import Category, OptionalColumn
from pricing.house import Column, Matrix, decimal
from train.models.families import Fold
from train.sales.columns import Values, Wish, texts_of, values_of
from train.sales.rows import OtherColumns

SMOOTHING: Final = 10.0  # rows of the overall mean that each category starts with
MIN_CATEGORY_ROWS: Final = 10
COPIES: Final = 3
BINS: Final = 10


def codes(column: Values, target: Column) -> Column:
    """The code of each category of shape (categories,), from all rows with deviations `target` of shape (n,)."""
    known = ~np.isnan(column.values)
    place = column.values[known].astype(np.int64)
    rows = np.bincount(place, minlength=len(column.names)).astype(np.float64)
    sums = np.bincount(place, weights=target[known], minlength=len(column.names))
    unseen, rare = rows == 0, rows < MIN_CATEGORY_ROWS
    rows[rare], sums[rare] = rows[rare].sum(), sums[rare].sum()
    mean = target.mean() if len(target) else 0.0
    found: Column = (sums + SMOOTHING * mean) / (rows + SMOOTHING)
    found[unseen] = np.nan
    return found


def encoded(houses: Matrix, columns: Sequence[Values], tables: Sequence[Column | None]) -> Matrix:
    """Houses of shape (n, 5) and columns as float32 of shape (n, 5 + columns); a table of None is of a number."""
    parts = [_encoded(column.values, table) for column, table in zip(columns, tables, strict=True)]
    return np.column_stack([houses, *parts]).astype(np.float32)


def _encoded(values: Column, table: Column | None) -> Column:
    if table is None:
        return values
    known = ~np.isnan(values)
    found = np.full(len(values), np.nan)
    found[known] = table[values[known].astype(np.int64)]
    return found


def tables_of(columns: Sequence[Values], target: Column) -> list[Column | None]:
    """The codes of each column of categories; None for a number."""
    return [codes(column, target) if column.names else None for column in columns]


def encoded_for_learning(houses: Matrix, columns: Sequence[Values], target: Column, fold: Fold) -> Matrix:
    """The same as `encoded`, where the codes of a row come from the other folds."""
    found = encoded(houses, columns, [None] * len(columns))
    for number in np.unique(fold):
        inside = fold == number
        others = ~inside
        for place, column in enumerate(columns, houses.shape[1]):
            if column.names:
                rest = Values(column.name, column.wish, column.kind, column.values[others], column.names)
                found[inside, place] = _encoded(column.values[inside], codes(rest, target[others]))
    return found


def inputs_of(houses: Matrix, cells: OtherColumns, columns: Sequence[OptionalColumn]) -> Matrix:
    """Rows of shape (n, 5 + columns) as a version reads them; what the file has no column for is unknown.

    Raises DataError for a number that is not one.
    """
    return np.column_stack([houses, *(_input(cells, column, len(houses)) for column in columns)]).astype(np.float32)


def _input(cells: OtherColumns, column: OptionalColumn, rows: int) -> Column:
    if column.name not in cells.values:
        return np.full(rows, np.nan)
    if column.kind == "number":
        wish = Wish(kind="number", minimum=column.minimum, maximum=column.maximum)
        return values_of(cells, column.name, wish).values
    codes_by_text = {category.value: category.code for category in column.categories}
    texts = texts_of(cells.values[column.name])
    return np.array([np.nan if text is None else codes_by_text.get(text, np.nan) for text in texts])


def gap_masks(columns: Sequence[Values], rows: int, seed: int) -> NDArray[np.bool_]:
    """Which columns are unknown in the third copy of each row, of shape (rows, columns): about half of them.

    Each column has a sequence of its own, by its name, so that another column changes nothing for the others.
    """
    masks = np.zeros((rows, len(columns)), dtype=np.bool_)
    for place, column in enumerate(columns):
        name = int.from_bytes(hashlib.blake2b(column.name.encode(), digest_size=8).digest())
        masks[:, place] = np.random.default_rng((seed, name)).random(rows) < 0.5  # noqa: PLR2004 -- half
    return masks


def with_gaps(matrix: Matrix, masks: NDArray[np.bool_]) -> Matrix:
    """Rows of shape (n, 5 + k) three times: whole, the five fields, and with the gaps of `masks`, shape (n, k)."""
    if not masks.shape[1]:
        return matrix
    fields = matrix.shape[1] - masks.shape[1]
    return np.concatenate([matrix, without(matrix, np.ones_like(masks)), without(matrix, masks)]).reshape(
        -1, fields + masks.shape[1]
    )


def without(matrix: Matrix, unknown: NDArray[np.bool_]) -> Matrix:
    """The rows with some columns unknown: a mask of shape (k,) for all rows, or of shape (n, k)."""
    found = matrix.copy()
    part = found[:, matrix.shape[1] - unknown.shape[-1] :]
    part[np.broadcast_to(unknown, part.shape)] = np.nan
    return found


def describe(columns: Sequence[Values], tables: Sequence[Column | None]) -> tuple[OptionalColumn, ...]:
    """The columns as the manifest keeps them."""
    return tuple(map(_described, columns, tables))


def _described(column: Values, table: Column | None) -> OptionalColumn:
    numbers = _encoded(column.values, table).astype(np.float32)
    known = numbers[~np.isnan(numbers)]
    steps = np.quantile(known, np.linspace(0, 1, BINS + 1), method="nearest")
    categories: tuple[Category, ...] = ()
    if table is not None:
        counts = np.bincount(column.values[~np.isnan(column.values)].astype(np.int64), minlength=len(column.names))
        categories = tuple(
            Category(value=name, rows=int(rows), code=decimal(np.float32(code)))
            for name, rows, code in zip(column.names, counts, table, strict=True)
            if rows
        )
    return OptionalColumn(
        name=column.name,
        kind=column.kind,
        unit=column.wish.unit,
        description=column.wish.description,
        group=column.wish.group,
        minimum=column.wish.minimum,
        maximum=column.wish.maximum,
        missing=float(np.isnan(numbers).mean()),
        trained_from=decimal(known.min()),
        trained_to=decimal(known.max()),
        bins=tuple(map(decimal, np.unique(steps))),
        categories=categories,
    )
