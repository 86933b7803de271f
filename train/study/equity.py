"""Vertical equity of two models on the same sales: whether dear houses are priced lower than cheap ones, or higher.

Noise alone moves PRB: errors of the prediction are in both of its variables. So PRB is also compared with that of the
same ratios dealt to the prices at random, and VEI must agree.
"""

from typing import Final, NamedTuple

import numpy as np

from pricing.house import Column
from train.study.ratio_study import Vei, prb, vei

Z: Final = 1.959963984540054  # two-sided 95 %
ONE_SIDED: Final = 1.6448536269514722
SHUFFLES: Final = 20


class Equity(NamedTuple):
    """The measures of one model."""

    prb: float
    error: float
    """Standard error of `prb`, robust against errors of different size (White 1980)."""
    noise: float
    """PRB of the same ratios without any order."""
    vei: Vei
    influence: Column
    """Of each sale on `prb`, of shape (n,)."""

    def beyond(self, limit: float) -> bool:
        """Whether the whole interval of PRB is beyond ±limit, also without what noise adds."""
        low, high = sorted((self.prb, self.prb - self.noise))
        return low - Z * self.error > limit or high + Z * self.error < -limit


def equity(predicted: Column, price: Column, seed: int = 0) -> Equity:
    """Measure US dollars of shape (n,)."""
    ratio = predicted / price
    median = float(np.median(ratio))
    value = np.log2((predicted / median + price) / 2)
    value -= value.mean()
    slope = prb(predicted, price, median)
    off = (ratio - median) / median
    influence = value * (off - off.mean() - slope * value) / float(value @ value)
    random = np.random.default_rng(seed)
    dealt = [prb(price * random.permutation(ratio), price, median) for _ in range(SHUFFLES)]
    return Equity(slope, float(np.sqrt(influence @ influence)), float(np.mean(dealt)), vei(predicted, price), influence)


def worse_by(champion: Equity, challenger: Equity) -> float:
    """Lower bound, one-sided 95 %, of how much farther from 0 the challenger's PRB is than the champion's."""
    signs = np.sign([challenger.prb, champion.prb])
    apart = signs[0] * challenger.influence - signs[1] * champion.influence
    return float(abs(challenger.prb) - abs(champion.prb) - ONE_SIDED * np.sqrt(apart @ apart))
