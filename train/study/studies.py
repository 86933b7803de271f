"""Ratio studies of groups of sales: all, by fifth of the price, by category."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.study import Measure, Study
from pricing.house import Column
from train.study.ratio_study import Estimate, ratio_study

RESAMPLES: Final = 1_000
MIN_ROWS: Final = 30
"""Of a category: what has fewer sales is too small to be judged."""
ALL: Final = "all"
FIFTHS: Final = 5


class Sold(NamedTuple):
    """Predicted prices and sale prices in US dollars, and FSD as a share of the prediction, each of shape (n,)."""

    predicted: Column
    price: Column
    fsd: Column | None = None

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Sold":
        """Some of the sales."""
        return Sold(self.predicted[rows], self.price[rows], None if self.fsd is None else self.fsd[rows])


def study(group: str, sold: Sold, resamples: int = RESAMPLES, seed: int = 0) -> Study:
    """The measures of a group; intervals from so many resamples."""
    error = np.abs(sold.predicted / sold.price - 1)
    found = {name: _measure(estimate) for name, estimate in ratio_study(*sold[:2], resamples, seed).items()}
    return Study(
        group=group,
        rows=len(error),
        ppe10=float(np.mean(error <= 0.1)),  # noqa: PLR2004 -- as its name states
        ppe20=float(np.mean(error <= 0.2)),  # noqa: PLR2004 -- as its name states
        mape=float(error.mean()),
        mdape=float(np.median(error)),
        fsd=None if sold.fsd is None else float(np.median(sold.fsd)),
        fsd_coverage=None if sold.fsd is None else _fsd_coverage(sold, sold.fsd),
        **found,
    )


def studies(sold: Sold, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Study, ...]:
    """The study of all sales, and of each fifth by predicted price, cheapest first; intervals of all only."""
    parts = np.array_split(np.argsort(sold.predicted, kind="stable"), FIFTHS)
    each = [study(f"fifth {number}", sold.where(part), 0) for number, part in enumerate(parts, 1) if len(part)]
    return (study(ALL, sold, resamples, seed), *each)


def by_category(
    sold: Sold, categories: Mapping[str, NDArray[np.bool_]], resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[Study | tuple[str, int]]:
    """The study of each category, or its name and number of sales if they are less than MIN_ROWS."""
    for name, rows in categories.items():
        count = int(rows.sum())
        yield (name, count) if count < MIN_ROWS else study(name, sold.where(rows), resamples, seed)


def _fsd_coverage(sold: Sold, fsd: Column) -> float:
    return float(np.mean(np.abs(sold.price / sold.predicted - 1) <= fsd))


def _measure(estimate: Estimate) -> Measure:
    value, lower, upper = (None if np.isnan(number) else number for number in estimate)
    return Measure(value=value, lower=lower, upper=upper)
