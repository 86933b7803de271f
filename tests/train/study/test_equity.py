"""The rule for vertical equity, by simulation: a planted bias is refused, noise is not."""

from typing import Final

import numpy as np
import pytest

from pricing.house import Column
from train.promotion.judge import MAX_PRB, is_less_equitable
from train.study.equity import Equity, equity, worse_by
from train.study.ratio_study import ratio_study

SALES: Final = 2_000
SEEDS: Final = 1_000


def prices(seed: int, noise: float = 0.0) -> tuple[Column, Column]:
    """Values of houses, and the prices at which they are sold."""
    rng = np.random.default_rng((seed, 0))
    value = np.exp(rng.normal(13, 0.5, SALES))
    return value, value * np.exp(noise * rng.standard_normal(SALES))


def predicted(value: Column, seed: int, noise: float, per_doubling: float = 0.0) -> Column:
    """Predictions of a model that knows the values but for some noise, and errs by so much with each doubling."""
    rng = np.random.default_rng((seed, 1))
    bias = (1 + per_doubling) ** np.log2(value / np.exp(13))
    found: Column = value * bias * np.exp(noise * rng.standard_normal(SALES))
    return found


def refused(seed: int, noise: float, per_doubling: float = 0.0, of_prices: float = 0.0) -> bool:
    """Whether a challenger is refused against a fair champion with errors of 15 %."""
    value, price = prices(seed, of_prices)
    champion, challenger = predicted(value, seed, 0.15), predicted(value, seed + SEEDS, noise, per_doubling)
    return is_less_equitable(equity(champion, price), equity(challenger, price))


def test_a_planted_bias_of_8_percent_a_doubling_is_refused_though_its_errors_are_small() -> None:
    cods = []
    for seed in range(20):
        value, price = prices(seed)
        cods.append(ratio_study(predicted(value, seed, 0.095, -0.08), price)["cod"].value)
    cod = float(np.mean(cods))
    assert cod == pytest.approx(9, abs=0.7)
    assert np.mean([refused(seed, 0.095, -0.08) for seed in range(SEEDS)]) >= 0.99


@pytest.mark.parametrize("of_prices", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("noise", [0.15, 0.25])
def test_a_fair_but_noisy_challenger_is_not_refused(noise: float, of_prices: float) -> None:
    assert np.mean([refused(seed, noise, of_prices=of_prices) for seed in range(SEEDS)]) <= 0.01


def of(seed: int, noise: float, per_doubling: float = 0.0) -> Equity:
    value, price = prices(0)
    return equity(predicted(value, seed, noise, per_doubling), price)


def test_noise_alone_moves_prb_beyond_the_limit() -> None:
    """Without the comparison with ratios in no order, noise would be taken for a bias."""
    found = of(0, 0.25)
    assert found.prb - 1.96 * found.error > MAX_PRB
    assert not found.beyond(MAX_PRB)


def test_the_standard_error_is_that_of_a_simulation() -> None:
    found = [of(seed, 0.1, -0.08) for seed in range(200)]
    assert np.mean([each.error for each in found]) == pytest.approx(np.std([each.prb for each in found]), rel=0.2)


def test_the_same_bias_of_both_is_not_worse() -> None:
    """In 95 % of 400 pairs; the standard error is 1.1 points."""
    worse = [worse_by(of(seed, 0.1, -0.08), of(seed + SEEDS, 0.1, -0.08)) > 0 for seed in range(400)]
    assert np.mean(worse) <= 0.085
