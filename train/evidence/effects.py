"""Effects of columns: on prices, on the error, and on the interval of houses that lack them."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from pricing.artifacts.columns import OptionalColumn
from pricing.artifacts.evidence import Effect, Given
from pricing.artifacts.manifest import LOWEST_LEVEL, Feature, Manifest
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from train.evidence.groups import MAX_CATEGORIES, Priced, priced_by, short

MAX_PATTERNS: Final = 80
SAMPLE: Final = 300
"""Rows of a partial dependence."""
MIN_BINS: Final = 4


def by_given(predictor: Predictor, matrix: Matrix, priced: Priced, columns: Sequence[OptionalColumn]) -> list[Given]:
    """The test rows without any column, without each, and without each group; nothing for five fields."""
    names = [column.name for column in columns]
    groups = sorted({column.group for column in columns if column.group})
    patterns = [
        tuple(names),
        *((name,) for name in names),
        *(tuple(column.name for column in columns if column.group == group) for group in groups),
    ]
    found = []
    for unknown in [(), *dict.fromkeys(patterns)][:MAX_PATTERNS] if names else []:
        rows = _without(matrix, names, unknown)
        some = priced_by(predictor, rows, priced.sold, priced.vote)
        half = priced_by(predictor, rows, priced.sold, priced.vote, LOWEST_LEVEL)
        figures = {"mape": some.mape, "coverage": some.coverage, "median_width": some.median_width}
        found.append(Given(unknown=unknown, coverage_half=half.coverage, **figures))
    return found


def effects(predictor: Predictor, matrix: Matrix, priced: Priced, manifest: Manifest) -> Iterator[Effect]:
    """The effect of each field and column."""
    some = matrix[:: max(len(matrix) // SAMPLE, 1)]
    rng = np.random.default_rng(manifest.seed)
    all_of: tuple[Feature | OptionalColumn, ...] = (*manifest.features, *manifest.columns)
    for place, known in enumerate(all_of):
        rows = matrix.copy()
        is_field = isinstance(known, Feature)
        rows[:, place] = rng.permutation(rows[:, place]) if is_field else np.nan
        values, categories = _values(known)
        yield Effect(
            name=known.name,
            without="shuffled" if is_field else "unknown",
            mape=priced_by(predictor, rows, priced.sold, priced.vote).mape,
            values=() if categories else tuple(values),
            categories=categories,
            prices=tuple(_dependence(predictor, some, place, values)),
        )


def _values(known: Feature | OptionalColumn) -> tuple[list[float], tuple[str, ...]]:
    """Values of the input to try, and their names if they are categories."""
    if isinstance(known, Feature) or known.kind == "number":
        return list(known.bins[1:-1] if len(known.bins) > MIN_BINS else known.bins), ()  # not the outlying ends
    largest = sorted(known.categories, key=lambda category: -category.rows)[:MAX_CATEGORIES]
    return [category.code for category in largest], tuple(category.value for category in largest)


def _dependence(predictor: Predictor, some: Matrix, place: int, values: Sequence[float]) -> Iterator[float]:
    rows = np.tile(some, (len(values), 1))
    rows[:, place] = np.repeat(values, len(some))
    price = np.array(predictor.predict(rows, LOWEST_LEVEL).price).reshape(len(values), len(some))
    mean: Column = np.exp(np.log(price).mean(axis=1))
    yield from map(short, mean)


def _without(matrix: Matrix, names: Sequence[str], unknown: Sequence[str]) -> Matrix:
    rows = matrix.copy()
    for name in unknown:
        rows[:, matrix.shape[1] - len(names) + names.index(name)] = np.nan
    return rows
