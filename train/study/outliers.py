"""Sales that look like no market sales: transfers within a family, foreclosures, nominal prices, slips of the keyboard.

* A price is implausible if it is less than 1 / MAX_FACTOR of the median price, or more than MAX_FACTOR times it. This
  rule knows no currency and no unit.
* A log error is far out if it is beyond the quartiles by more than FENCE interquartile ranges (the outer fences of
  Tukey 1977, "Exploratory Data Analysis"; IAAO, Standard on Ratio Studies, appendix on outlier trimming).

A sale has one reason: the first of these.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.house import Column

MAX_FACTOR: Final = 20
FENCE: Final = 3
SHOWN: Final = 10

Mask = NDArray[np.bool_]


class Outlier(NamedTuple):
    """A sale with its line in the file, its price in US dollars, and what the price was compared with."""

    line: int
    price: float
    expected: float
    """The median price if the price is implausible; else the price predicted out of fold."""
    is_implausible: bool

    @property
    def distance(self) -> float:
        """Of the log prices."""
        return float(abs(np.log(self.price / self.expected)))

    def __str__(self) -> str:
        about = f"line {self.line}: ${self.price:,.0f}"
        if not self.is_implausible:
            return f"{about}, predicted ${self.expected:,.0f}: log error beyond {FENCE} interquartile ranges"
        factor = f"less than 1/{MAX_FACTOR} of" if self.price < self.expected else f"more than {MAX_FACTOR} times"
        return f"{about}: {factor} the median price of ${self.expected:,.0f}"


def implausible(prices: Column, median: float | None = None) -> Mask:
    """Whether each price, in US dollars of shape (n,), is implausible beside a median; None for that of `prices`."""
    median = float(np.median(prices)) if median is None else median
    found: Mask = (prices < median / MAX_FACTOR) | (prices > median * MAX_FACTOR)
    return found


def far_out(log_error: Column) -> Mask:
    """Whether each log error, of shape (n,), is far out."""
    low, high = np.quantile(log_error, [0.25, 0.75])
    found: Mask = (log_error < low - FENCE * (high - low)) | (log_error > high + FENCE * (high - low))
    return found


def outliers(lines: NDArray[np.int64], prices: Column, expected: Column, *, are_implausible: bool) -> list[Outlier]:
    """An outlier for each line, by arrays of shape (n,)."""
    each = zip(lines.tolist(), prices.tolist(), expected.tolist(), strict=True)
    return [Outlier(line, price, compared, are_implausible) for line, price, compared in each]


def report(found: list[Outlier], rows: int, *, are_excluded: bool) -> Iterator[str]:
    """The farthest SHOWN of the outliers with their reasons, the lines of the others, and how many there are."""
    if not found:
        return
    ordered = sorted(found, key=lambda outlier: (-outlier.distance, outlier.line))
    yield from (f"outlier: {outlier}" for outlier in ordered[:SHOWN])
    if others := sorted(outlier.line for outlier in ordered[SHOWN:]):
        yield f"further outliers: line {', '.join(map(str, others))}"
    ending = "are left out" if are_excluded else "are learned from; --exclude-outliers leaves them out"
    yield f"outliers: {len(found):,} of {rows:,} sales look like no market sales and {ending}"
