"""The measures by which mass appraisal judges predicted prices against sale prices (IAAO, Standard on Ratio Studies).

* ratio = predicted price / sale price. Level is the median ratio, uniformity is COD. Vertical equity is PRD, PRB, MKI
  and VEI.
* Intervals are percentiles of the bootstrap (Efron 1979), seeded.
* A measure that the sales do not define is NaN: VEI below 20 sales, PRB and MKI if all prices are equal.
"""

from collections.abc import Callable, Mapping
from math import comb
from typing import Final, NamedTuple

import numpy as np

from pricing.house import Column

LEVEL: Final = 0.95
VEI_LEVEL: Final = 0.9
MIN_VEI_SALES: Final = 20
VEI_GROUPS: Final = ((50, 2), (500, 4))
"""Up to so many sales, so many groups; 10 above."""
EXACT_SALES: Final = 1_000
"""Above, the order statistics come from the normal approximation of the binomial distribution."""
ROUNDING: Final = 1e-12
VEI_Z: Final = 1.6448536269514722


class Estimate(NamedTuple):
    """A measure and the bounds of its interval; NaN if it is not defined, or if no interval was asked for."""

    value: float
    lower: float = np.nan
    upper: float = np.nan


class Vei(NamedTuple):
    """Vertical equity indicator, in percent of the median ratio."""

    value: float
    significance: float
    """Gap between the intervals of the groups with the highest and the lowest median; below 0 if they overlap."""


def ratio_study(
    predicted: Column, price: Column, resamples: int = 0, seed: int = 0, level: float = LEVEL
) -> Mapping[str, Estimate]:
    """Median ratio, COD, PRD, PRB, MKI and VEI of predictions and sale prices, US dollars of shape (n,)."""
    order = np.argsort(price, kind="stable")  # so that sorted rows of a resample are in the order of price already
    predicted, price = predicted[order], price[order]
    values = _measures(predicted, price)
    if not resamples:
        return {name: Estimate(value) for name, value in values.items()}
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows = np.sort(random.integers(len(price), size=len(price)))
        drawn.append(list(_measures(predicted[rows], price[rows]).values()))
    columns = np.array(drawn).T
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds = [np.quantile(c[~np.isnan(c)], tails).tolist() if (~np.isnan(c)).any() else (np.nan,) * 2 for c in columns]
    return {name: Estimate(value, *bound) for (name, value), bound in zip(values.items(), bounds, strict=True)}


def _measures(predicted: Column, price: Column) -> dict[str, float]:
    """All measures of sales in the order of price."""
    ratio = predicted / price
    median = float(np.median(ratio))
    return {
        "median_ratio": median,
        "cod": 100 * float(np.mean(np.abs(ratio - median))) / median,
        "prd": float(ratio.mean() / (predicted.sum() / price.sum())),
        "prb": prb(predicted, price, median),
        "mki": _quotient(_gini(predicted), _gini(price)),
        "vei": vei(predicted, price).value,
    }


def prb(predicted: Column, price: Column, median: float) -> float:
    """Slope of the relative distance from the median ratio on log2 of the value, half price and half prediction."""
    value = np.log2((predicted / median + price) / 2)
    value -= value.mean()
    return _quotient(float(value @ ((predicted / price - median) / median)), float(value @ value))


def _quotient(dividend: float, divisor: float) -> float:
    return dividend / divisor if abs(divisor) > ROUNDING else np.nan


def _gini(values: Column) -> float:
    """Gini coefficient of values in the given order, which is that of the price for both coefficients of MKI."""
    n = len(values)
    return float(2 * (np.arange(1, n + 1) @ values) / (n * values.sum()) - (n + 1) / n)


def vei(predicted: Column, price: Column) -> Vei:
    """Compare the median ratios of groups by value, half price and half prediction; NaN below MIN_VEI_SALES."""
    n = len(price)
    if n < MIN_VEI_SALES:
        return Vei(np.nan, np.nan)
    ratio = predicted / price
    median = float(np.median(ratio))
    value = price / 2 + predicted / (2 * median)
    count = next((groups for most, groups in VEI_GROUPS if n <= most), 10)
    group = np.searchsorted(np.quantile(value, np.arange(1, count) / count), value, side="left")
    groups = [_median(np.sort(part)) for number in range(count) if len(part := ratio[group == number])]
    gap = 100 * (max(groups).lower - min(groups).upper) / median
    return Vei(100 * (groups[-1].value - groups[0].value) / median, gap)


def _median(ratio: Column) -> Estimate:
    """Median of sorted ratios, and the order statistics that contain it with a probability of VEI_LEVEL or more."""
    outside = max(_lower_rank(len(ratio)), 1)
    return Estimate(float(np.median(ratio)), float(ratio[outside - 1]), float(ratio[-outside]))


def _lower_rank(n: int) -> int:
    """The largest rank that the median is below in at most half of 1 - VEI_LEVEL of the cases; 0 if there is none."""
    if n > EXACT_SALES:
        return int(n / 2 - VEI_Z * n**0.5 / 2)
    return _EXACT(n)


def _exact_ranks() -> Callable[[int], int]:
    known: dict[int, int] = {}

    def rank(n: int) -> int:
        if n not in known:
            below, found = 0, 0
            while (below := below + comb(n, found)) <= (1 - VEI_LEVEL) / 2 * 2**n:
                found += 1
            known[n] = found
        return known[n]

    return rank


_EXACT: Final = _exact_ranks()
