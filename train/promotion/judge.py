"""Is the challenger better? Champion and challenger price the same test rows, each through the Predictor that ships.

* One house has one vote, which its sales share: houses are independent of each other, sales of one house are not.
* Each comparison has one-sided 95 % bounds to either side. If they leave the question open, that is a refusal too, with
  the number of houses that would be enough to decide.
* Every fifth of the price range must rule out a loss of MAX_LOSS. Since all of them must, a challenger with one such
  fifth passes in at most 5 % of the cases, whatever the number of houses (intersection-union test, Berger 1982).
  Nothing is corrected for five tests.
* A challenger with significantly worse vertical equity is refused, however small its errors are.

`python -m benchmarks.promotion_power` simulates the rule.
"""

from collections.abc import Iterator
from math import ceil, floor, log, log10
from typing import Final, NamedTuple

import numpy as np
from pydantic import ConfigDict

from pricing.artifacts.manifest import Manifest, Version
from pricing.format import Part as StoredPart
from pricing.format import Stored
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from train.errors import DataError
from train.models.encoding import inputs_of
from train.promotion.paired import ONE_SIDED, Ratio, by_house, compare
from train.sales.rows import NO_OTHERS, OtherColumns
from train.sales.split import weights
from train.study.equity import Equity, equity, worse_by

MIN_GROUPS: Final = 200
LEVEL: Final = 0.9
MIN_GAIN: Final = 0.01
TOLERATED_LOSS: Final = 0.05  # of a fifth: what is significantly more is worse
MAX_LOSS: Final = 0.1  # of a fifth: what is not ruled out to be more is refused
MAX_PRB: Final = 0.05
MAX_VEI: Final = 10.0  # percent
COVERAGE_SLACK: Final = 0.005
MAX_OFF: Final = 0.08  # of the coverage: what is not ruled out to be more is refused
TOO_FEW: Final = "the test rows are too few to decide whether "
UNKNOWN: Final = float("nan")  # in verdicts of before these figures were kept


class Candidate(NamedTuple):
    """A version that is judged."""

    manifest: Manifest
    predictor: Predictor


class JudgementRows(NamedTuple):
    """Test rows: float32 of shape (n, 5), US dollars and the house's position by the hash, each of shape (n,)."""

    houses: Matrix
    prices: Column
    position: Column
    new_rows: int
    """How many test rows have come since the champion's training."""
    only_new: bool
    """Whether these rows are only those; else they are all test rows of the data."""
    used_before: int
    """How many verdicts on record have used such rows before."""
    others: OtherColumns = NO_OTHERS
    """Further columns of the same rows."""

    def priced_by(self, candidate: Candidate) -> tuple[Column, Column, Column]:
        """Price, lower and upper bound by a candidate, which reads the columns that it knows."""
        inputs = inputs_of(self.houses, self.others, candidate.manifest.columns)
        return candidate.predictor.predict(inputs, LEVEL).columns()


class QuintileComparison(StoredPart):
    """One fifth of the price range, by the mean of both predictions."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    rows: int
    """Different houses."""
    lowest_price: float
    highest_price: float
    loss: float
    """By how much the challenger's mean absolute log error is larger, as a share; negative when it is smaller."""
    loss_lower: float
    """Lower bound of the one-sided 95 % interval of `loss`."""
    loss_upper: float = UNKNOWN
    """Upper bound of the one-sided 95 % interval of `loss`."""


class Verdict(Stored):
    """Every figure of a judgement; the challenger is better when nothing speaks against it."""

    # JSON has no NaN: without its own word for one, a verdict that holds one could not be read again
    model_config = ConfigDict(ser_json_inf_nan="strings")

    champion: Version
    challenger: Version
    salt: str
    rows: int
    groups: int
    """Different houses among the rows: each has one vote in every mean."""
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
    gain_upper: float = UNKNOWN
    """Upper bound of the one-sided 95 % interval of `gain`."""
    skill: float = UNKNOWN
    """What the challenger gains on one price for all of these houses, their median."""
    skill_lower: float
    """Lower bound of the one-sided 95 % interval of `skill`."""
    coverage: float
    """Share of the prices within the challenger's interval at level 0.9."""
    coverage_tolerance: float
    fifths: tuple[QuintileComparison, ...]
    champion_prb: float = UNKNOWN
    challenger_prb: float = UNKNOWN
    """Price-related bias: relative change of the ratio of prediction to price if the value doubles."""
    challenger_vei: float = UNKNOWN
    """Vertical equity indicator, in percent."""
    is_less_equitable: bool = False
    """Whether PRB and VEI of the challenger are beyond MAX_PRB and MAX_VEI for sure, and worse than the champion's."""
    parity_ppm: float
    parity_limit_ppm: float
    against: tuple[str, ...]
    """What speaks against the challenger, one sentence each."""

    @property
    def is_better(self) -> bool:
        """Whether the challenger should be deployed."""
        return not self.against

    @property
    def is_undecided(self) -> bool:
        """Whether nothing speaks against the challenger but the number of test rows."""
        return bool(self.against) and all(sentence.startswith(TOO_FEW) for sentence in self.against)


def judge(champion: Candidate, challenger: Candidate, evidence: JudgementRows) -> Verdict:
    """Return the verdict on rows that neither has learned from. Raises DataError when they are too few."""
    prices, position = evidence.prices, evidence.position
    groups = len(np.unique(position))
    if groups < MIN_GROUPS:
        msg = f"{groups} different houses are left to judge on, at least {MIN_GROUPS} are needed: bring more sales"
        raise DataError(msg)
    old_price, _, _ = evidence.priced_by(champion)
    new_price, lower, upper = evidence.priced_by(challenger)
    old_error, new_error = (np.abs(np.log(price / prices)) for price in (old_price, new_price))
    constant_error = np.abs(np.log(prices) - np.median(np.log(prices)))
    price, old_error, new_error, constant_error = by_house(
        position, (old_price + new_price) / 2, old_error, new_error, constant_error
    )
    gain, gain_lower, gain_upper = compare(old_error, new_error).gain
    skill, skill_lower, _ = compare(constant_error, new_error).gain
    old_equity, new_equity = equity(old_price, prices), equity(new_price, prices)
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
        gain=gain,
        gain_lower=gain_lower,
        gain_upper=gain_upper,
        skill=skill,
        skill_lower=skill_lower,
        coverage=float(np.average((lower <= prices) & (prices <= upper), weights=weights(position))),
        coverage_tolerance=3 * coverage_error(groups) + COVERAGE_SLACK + challenger.manifest.data.excluded_share,
        fifths=fifths(price, old_error, new_error),
        champion_prb=old_equity.prb,
        challenger_prb=new_equity.prb,
        challenger_vei=new_equity.vei.value,
        is_less_equitable=is_less_equitable(old_equity, new_equity),
        parity_ppm=max(parity.test_ppm, parity.threshold_ppm, parity.gap_ppm),
        parity_limit_ppm=parity.limit_ppm,
        against=(),
    )
    return figures.model_copy(update={"against": tuple(objections(figures))})


def objections(figures: Verdict) -> list[str]:
    """The objections of the figures against the challenger; the whole rule stands here and in the five functions below.

    Each asks whether the figure is good, not whether it is bad: NaN is neither, and must not be deployed.
    """
    found = [*_of_gain(figures), *_of_skill(figures), *_of_coverage(figures), *_of_equity(figures)]
    for part in figures.fifths:
        found += _of_fifth(part, figures.groups)
    if not figures.parity_ppm <= figures.parity_limit_ppm:
        found.append(f"ONNX is {figures.parity_ppm:.2f} ppm off scikit-learn, allowed is {figures.parity_limit_ppm:g}")
    return found


def _of_gain(figures: Verdict) -> Iterator[str]:
    gain, lower, upper = figures.gain, figures.gain_lower, figures.gain_upper
    if lower <= 0 and upper >= MIN_GAIN:
        half = log(1 - lower) - log(1 - gain)
        enough = _enough(figures.groups, half, max(-log(1 - gain), log(1 - gain) - log(1 - MIN_GAIN)))
        yield (
            f"{TOO_FEW}the challenger is better: the gain is {gain:.2%} ({lower:.2%} to {upper:.2%}), "
            f"its lower bound must be above 0; {enough}"
        )
    elif not (lower > 0 and gain >= MIN_GAIN):
        yield (
            f"the gain is {gain:.2%} ({lower:.2%} to {upper:.2%}), at least {MIN_GAIN:.0%} is worth a change "
            "and its lower bound must be above 0"
        )


def _of_skill(figures: Verdict) -> Iterator[str]:
    skill, lower = figures.skill, figures.skill_lower
    if lower <= 0 < skill:
        half = log(1 - lower) - log(1 - skill)
        yield (
            f"{TOO_FEW}it is better than one price for all houses: it gains {skill:.1%} (lower bound {lower:.1%}), "
            f"the lower bound must be above 0; {_enough(figures.groups, half, -log(1 - skill))}"
        )
    elif not lower > 0:  # of a file with its prices in the wrong rows the champion knows even less
        yield "it is not better than one price for all houses: do the prices belong to their houses?"


def _of_coverage(figures: Verdict) -> Iterator[str]:
    off, tolerance, error = abs(figures.coverage - LEVEL), figures.coverage_tolerance, coverage_error(figures.groups)
    if not off <= tolerance:
        yield (
            f"the interval at {LEVEL:.0%} contains {figures.coverage:.1%} of the prices, "
            f"allowed is {tolerance:.1%} more or less"
        )
    elif not off + ONE_SIDED * error < MAX_OFF:
        factors = (ONE_SIDED * error / (MAX_OFF - off), 3 * error / (off - COVERAGE_SLACK))
        enough = _enough(figures.groups, min(factor for factor in factors if factor > 0), 1)
        yield (
            f"{TOO_FEW}the interval holds: at {LEVEL:.0%} it contains {figures.coverage:.1%} of the prices, "
            f"with an uncertainty of {ONE_SIDED * error:.1%}, {MAX_OFF:.0%} more or less must be ruled out; {enough}"
        )


def _of_equity(figures: Verdict) -> Iterator[str]:
    if figures.is_less_equitable:
        yield (
            f"it prices dear and cheap houses less alike: PRB {figures.challenger_prb:+.3f} against "
            f"{figures.champion_prb:+.3f} of the champion, allowed is {MAX_PRB:g} either way; VEI "
            f"{figures.challenger_vei:+.1f}, allowed is {MAX_VEI:g} either way"
        )


def is_less_equitable(champion: Equity, challenger: Equity) -> bool:
    """Whether the challenger's vertical equity is significantly worse, by its whole interval and by VEI."""
    found = challenger.vei
    return (
        challenger.beyond(MAX_PRB)
        and abs(found.value) > MAX_VEI
        and found.significance > MAX_VEI
        and worse_by(champion, challenger) > 0
    )


def _of_fifth(part: QuintileComparison, groups: int) -> Iterator[str]:
    loss, lower, upper = part.loss, part.loss_lower, part.loss_upper
    if lower <= TOLERATED_LOSS and upper < MAX_LOSS:
        return
    houses = f"houses of ${part.lowest_price:,.0f} to ${part.highest_price:,.0f} are worse"
    observed = f"{loss:.1%} ({lower:.1%} to {upper:.1%})"
    if lower <= TOLERATED_LOSS <= MAX_LOSS <= upper:
        half = log(1 + upper) - log(1 + loss)
        enough = _enough(groups, half, max(log(1 + MAX_LOSS) - log(1 + loss), log(1 + loss) - log(1 + TOLERATED_LOSS)))
        yield f"{TOO_FEW}{houses}: by {observed}, {MAX_LOSS:.0%} must be ruled out; {enough}"
    else:
        yield f"{houses} by {observed}, allowed is {TOLERATED_LOSS:.0%}"


def _enough(groups: int, half: float, distance: float) -> str:
    """The number of houses at which half an interval is as wide as the distance: it shrinks with their square root."""
    houses = groups * (half / distance) ** 2
    step = 10 ** (floor(log10(houses)) - 1)
    return f"about {ceil(houses / step) * step:,} different test houses would be enough"


def coverage_error(groups: int) -> float:
    """Standard error of the coverage, if each house is all inside or all outside: sales of one house may be alike."""
    return float(np.sqrt(LEVEL * (1 - LEVEL) / groups))


def fifths(price: Column, old_error: Column, new_error: Column) -> tuple[QuintileComparison, ...]:
    """The houses by fifth of `price`, cheapest first; all of shape (n,). Equal prices are in the same fifth."""
    fifth = np.searchsorted(np.quantile(price, [0.2, 0.4, 0.6, 0.8]), price, side="right")
    masks = [fifth == number for number in np.unique(fifth)]
    return tuple(_part(price[mask], compare(old_error[mask], new_error[mask])) for mask in masks)


def _part(price: Column, ratio: Ratio) -> QuintileComparison:
    return QuintileComparison(
        rows=len(price),
        lowest_price=float(price.min()),
        highest_price=float(price.max()),
        loss=ratio.value - 1,
        loss_lower=ratio.lower - 1,
        loss_upper=ratio.upper - 1,
    )
