"""Is the challenger better? Champion and challenger price the same test rows, each through the Predictor that ships."""

from typing import Final, NamedTuple

import numpy as np
from pydantic import ConfigDict

from pricing.format import Part as StoredPart
from pricing.format import Stored
from pricing.house import Column, Matrix
from pricing.manifest import Manifest, Version
from pricing.predictor import Predictor
from train.errors import DataError

FEWEST_GROUPS: Final = 200
LEVEL: Final = 0.9
LEAST_GAIN: Final = 0.01
MOST_LOSS: Final = 0.05  # of a fifth
ONE_SIDED: Final = 0.05
COVERAGE_SLACK: Final = 0.005
REPLICATES: Final = 4_000
SEED: Final = 0
CHUNK: Final = 250_000  # groups drawn at a time: 2 MB, which stay in the cache; a third faster than 32 MB


class Contender(NamedTuple):
    """A version that is judged."""

    manifest: Manifest
    predictor: Predictor


class Evidence(NamedTuple):
    """Test rows: float32 of shape (n, 5), US dollars and the row's position by the hash, each of shape (n,)."""

    houses: Matrix
    prices: Column
    position: Column
    new_rows: int
    """How many test rows have come since the champion's training."""
    only_new: bool
    """Whether these rows are only those; else they are all test rows of the data."""
    used_before: int
    """How many verdicts on record have used such rows before."""


class Part(StoredPart):
    """One fifth of the price range, by the mean of both predictions."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    rows: int
    lowest_price: float
    highest_price: float
    loss: float
    """By how much the challenger's mean absolute log error is larger, as a share; negative when it is smaller."""
    loss_lower: float
    """Lower bound of the one-sided 95 % interval of `loss`."""


class Verdict(Stored):
    """Every figure of a judgement; the challenger is better when nothing speaks against it."""

    # JSON has no NaN: without its own word for one, a verdict that holds one could not be read again
    model_config = ConfigDict(ser_json_inf_nan="strings")

    champion: Version
    challenger: Version
    salt: str
    rows: int
    groups: int
    """Different houses among the rows; equal ones are drawn together."""
    new_rows: int
    only_new: bool
    used_before: int
    champion_error: float
    """Mean absolute error of the log price."""
    challenger_error: float
    gain: float
    """1 - challenger_error / champion_error."""
    gain_lower: float
    """Lower bound of the one-sided 95 % interval of `gain`."""
    skill_lower: float
    """Lower bound, as of `gain`, of what the challenger gains on one price for all of these houses, their median."""
    coverage: float
    """Share of the prices within the challenger's interval at level 0.9."""
    coverage_tolerance: float
    fifths: tuple[Part, ...]
    parity_ppm: float
    parity_limit_ppm: float
    against: tuple[str, ...]
    """What speaks against the challenger, one sentence each."""

    @property
    def is_better(self) -> bool:
        """Whether the challenger should be deployed."""
        return not self.against


def judge(champion: Contender, challenger: Contender, evidence: Evidence) -> Verdict:
    """Return the verdict on rows that neither has learned from. Raises DataError when they are too few.

    The gain's interval is the percentile interval of the bootstrap (Efron and Tibshirani 1993, "An Introduction to the
    Bootstrap", chapter 13): paired, since each row is drawn with both errors, and of whole groups of equal houses,
    whose errors are not independent (Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for inference
    with clustered errors"). Its draws have a fixed seed: the same rows give the same verdict.
    """
    houses, prices, position = evidence[:3]
    groups = len(np.unique(position))
    if groups < FEWEST_GROUPS:
        msg = f"{groups} different houses are left to judge on, at least {FEWEST_GROUPS} are needed: bring more sales"
        raise DataError(msg)
    old_price, _, _ = champion.predictor.predict(houses, LEVEL).columns()
    new_price, lower, upper = challenger.predictor.predict(houses, LEVEL).columns()
    old_error, new_error = (np.abs(np.log(price / prices)) for price in (old_price, new_price))
    constant_error = np.abs(np.log(prices) - np.median(np.log(prices)))
    ratio = float(new_error.mean() / old_error.mean())
    coverage = float(np.mean((lower <= prices) & (prices <= upper)))
    parity = challenger.manifest.parity
    figures = Verdict(
        champion=champion.manifest.version,
        challenger=challenger.manifest.version,
        salt=champion.manifest.split.salt,
        rows=len(prices),
        groups=groups,
        new_rows=evidence.new_rows,
        only_new=evidence.only_new,
        used_before=evidence.used_before,
        champion_error=float(old_error.mean()),
        challenger_error=float(new_error.mean()),
        gain=1 - ratio,
        gain_lower=_lower_gain(bootstrap(position, old_error, new_error)),
        skill_lower=_lower_gain(bootstrap(position, constant_error, new_error)),
        coverage=coverage,
        coverage_tolerance=3 * float(np.sqrt(LEVEL * (1 - LEVEL) / len(prices))) + COVERAGE_SLACK,
        fifths=fifths((old_price + new_price) / 2, position, old_error, new_error),
        parity_ppm=max(parity.test_ppm, parity.threshold_ppm),
        parity_limit_ppm=parity.limit_ppm,
        against=(),
    )
    return figures.model_copy(update={"against": tuple(objections(figures))})


def objections(figures: Verdict) -> list[str]:
    """What the figures say against the challenger; the whole rule stands here.

    Each asks whether the figure is good, not whether it is bad: NaN is neither, and must not be deployed.
    """
    found = []
    if not figures.gain_lower > 0:
        found.append(f"the gain may be chance: its lower bound is {figures.gain_lower:.2%}, it must be above 0")
    if not figures.gain >= LEAST_GAIN:
        found.append(f"the gain is {figures.gain:.2%}, at least {LEAST_GAIN:.0%} is worth a change")
    if not figures.skill_lower > 0:  # of a file with its prices in the wrong rows the champion knows even less
        found.append("it is no better than one price for all houses would be: are the prices those of their houses?")
    if not abs(figures.coverage - LEVEL) <= figures.coverage_tolerance:
        found.append(
            f"the interval at {LEVEL:.0%} contains {figures.coverage:.1%} of the prices, "
            f"allowed is {figures.coverage_tolerance:.1%} more or less"
        )
    found += [
        f"houses of ${part.lowest_price:,.0f} to ${part.highest_price:,.0f} are worse by {part.loss:.1%} "
        f"(lower bound {part.loss_lower:.1%}), allowed is {MOST_LOSS:.0%}"
        for part in figures.fifths
        if not part.loss_lower <= MOST_LOSS
    ]
    if not figures.parity_ppm <= figures.parity_limit_ppm:
        found.append(f"ONNX is {figures.parity_ppm:.2f} ppm off scikit-learn, allowed is {figures.parity_limit_ppm:g}")
    return found


def _lower_gain(ratios: Column) -> float:
    return 1 - float(np.quantile(ratios, 1 - ONE_SIDED))


def fifths(price: Column, position: Column, old_error: Column, new_error: Column) -> tuple[Part, ...]:
    """The rows by fifth of `price`, cheapest first; all of shape (n,). Equal prices are in the same fifth."""
    fifth = np.searchsorted(np.quantile(price, [0.2, 0.4, 0.6, 0.8]), price, side="right")
    masks = [fifth == number for number in np.unique(fifth)]
    return tuple(_part(price[mask], position[mask], old_error[mask], new_error[mask]) for mask in masks)


def _part(price: Column, position: Column, old_error: Column, new_error: Column) -> Part:
    ratios = bootstrap(position, old_error, new_error)
    return Part(
        rows=len(price),
        lowest_price=float(price.min()),
        highest_price=float(price.max()),
        loss=float(new_error.mean() / old_error.mean()) - 1,
        loss_lower=float(np.quantile(ratios, ONE_SIDED)) - 1,
    )


def bootstrap(position: Column, old_error: Column, new_error: Column) -> Column:
    """Replicates of mean(new_error) / mean(old_error), float64 of shape (REPLICATES,); equal positions are one draw."""
    _, group = np.unique(position, return_inverse=True)
    old, new = (np.bincount(group, weights=error) for error in (old_error, new_error))
    rng = np.random.default_rng(SEED)
    at_a_time = max(1, CHUNK // len(old))
    ratios = []
    for start in range(0, REPLICATES, at_a_time):
        drawn = rng.integers(len(old), size=(min(at_a_time, REPLICATES - start), len(old)))
        ratios.append(new[drawn].sum(axis=1) / old[drawn].sum(axis=1))
    return np.concatenate(ratios)
