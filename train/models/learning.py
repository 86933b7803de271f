"""From rows to fitted estimators and their calibration: every error that decides anything is out of fold.

* Folds hold whole houses. For each fold, estimators learn from the other folds and price it, with all columns and with
  some of them unknown.
* A column that does not lower this error is left out, so that noise does not move prices.
* The spread learns from the sizes of these errors, and the intervals are calibrated on them.
* What ships learns from all rows.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.manifest import Calibration, GapCalibration
from pricing.house import Column, Matrix
from train.models.convert import Fitted
from train.models.encoding import (
    COPIES,
    encoded,
    encoded_for_learning,
    gap_masks,
    tables_of,
    with_gaps,
    without,
)
from train.models.evaluate import calibrate
from train.models.families import FAMILIES, Estimator, Fold, fit, round_thresholds, spread_estimator
from train.models.family_names import FAMILY_NAMES, FamilyName
from train.sales.columns import Values, subset
from train.sales.rows import Dates, Lines, Sales
from train.sales.split import Mask, folds

NEWEST_SHARE: Final = 0.15
WEIGHTS: Final = (1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
HELD_LEVELS: Final = (0.5, 0.8, 0.9)
TOLERATED: Final = 0.002
MIN_GAIN: Final = 0.005  # a column without which the error rises by less is left out; noise was seen to give 0.002
MIN_SURE: Final = 3.0  # standard errors by which that must be more than nothing
SURE_OF_FAMILY: Final = 2.0  # standard errors
MAX_GAP_ROWS: Final = 20_000  # of which each table of gaps is made
COORDINATES: Final = ({"latitude", "longitude"}, {"lat", "lon"}, {"lat", "lng"}, {"lat", "long"})

Tell = Callable[[str], None]
Unknown = NDArray[np.bool_]


class Rows(NamedTuple):
    """The rows of one side: float32 of shape (n, 5), US dollars and days of shape (n,), and further columns."""

    houses: Matrix
    prices: Column
    position: Column
    """Of the house, by the hash; sales of a house share it, and a fold."""
    lines: Lines
    """Of the file."""
    sold_on: Dates | None = None
    columns: tuple[Values, ...] = ()

    def where(self, mask: Mask) -> "Rows":
        """Some of the rows."""
        sold_on = None if self.sold_on is None else self.sold_on[mask]
        columns = tuple(subset(self.columns, mask))
        return Rows(self.houses[mask], self.prices[mask], self.position[mask], self.lines[mask], sold_on, columns)

    @property
    def fold(self) -> Fold:
        """A fold for each row."""
        return folds(self.position)

    @property
    def target(self) -> Column:
        """Log prices as deviations from their mean: what is learned."""
        log_price = np.log(self.prices)
        found: Column = log_price - log_price.mean()
        return found


class FoldModel(NamedTuple):
    """The estimator that has not seen a fold, and the rows of that fold as it reads them."""

    rows: NDArray[np.int64]
    matrix: Matrix
    price: Estimator


class OutOfFold(NamedTuple):
    """A family and its cross-validated log prices of the fit rows, shape (n,), as deviations from their mean."""

    family: FamilyName
    deviation: Column
    models: tuple[FoldModel, ...] = ()


class Learned(NamedTuple):
    """The estimators that ship, the codes of their columns, and the columns themselves."""

    fitted: Fitted
    columns: tuple[Values, ...]
    tables: list[Column | None]
    best: OutOfFold


def rows_of(sales: Sales, position: Column, columns: Sequence[Values], mask: Mask) -> Rows:
    """Some of the rows, with some of the columns."""
    return Rows(sales.houses, sales.prices, position, sales.lines, sales.sold_on, tuple(columns)).where(mask)


def cross_fit(family: FamilyName, rows: Rows, seed: int, learned_from: Mask | None = None) -> OutOfFold:
    """Price each fold by an estimator that has learned from the others, or from some rows of them, shape (n,)."""
    target, fold = rows.target, rows.fold
    masks = gap_masks(rows.columns, len(target), seed)
    models = []
    for number in np.unique(fold):
        inside = fold == number
        rest = ~inside if learned_from is None else ~inside & learned_from
        others = tuple(subset(rows.columns, rest))
        learned = encoded_for_learning(rows.houses[rest], others, target[rest], fold[rest])
        estimator = FAMILIES[family](seed, len(others), len(target))
        price = fit(estimator, *_augmented(learned, target[rest], masks[rest]))
        matrix = encoded(rows.houses[inside], tuple(subset(rows.columns, inside)), tables_of(others, target[rest]))
        models.append(FoldModel(np.flatnonzero(inside), matrix, price))
    found = OutOfFold(family, np.empty(0), tuple(models))
    return found._replace(deviation=deviations(found, np.zeros(len(rows.columns), dtype=np.bool_)))


def _augmented(matrix: Matrix, target: Column, masks: Unknown) -> tuple[Matrix, Column]:
    return (with_gaps(matrix, masks), np.tile(target, COPIES)) if masks.shape[1] else (matrix, target)


def deviations(out: OutOfFold, unknown: Unknown) -> Column:
    """Out-of-fold log prices, as deviations from their mean, with some columns unknown: of shape (k,) or (n, k)."""
    found = np.empty(sum(len(model.rows) for model in out.models))
    for model in out.models:
        mask = unknown[model.rows] if unknown.ndim > 1 else unknown
        found[model.rows] = model.price.predict(without(model.matrix, mask))
    return found


def matrix_of(out: OutOfFold) -> Matrix:
    """The rows as the estimators of their folds read them."""
    found = np.empty((sum(len(m.rows) for m in out.models), out.models[0].matrix.shape[1]), dtype=np.float32)
    for model in out.models:
        found[model.rows] = model.matrix
    return found


def choose(rows: Rows, family: FamilyName | None, seed: int, tell: Tell) -> OutOfFold:
    """Cross-validate the family that was asked for, or all of them, and return the one with the lower MAPE.

    A forest is ten times as large, so it is chosen only if its MAPE is lower by more than chance explains. With
    columns, only boosting competes: a forest takes ten times as long, and is not better.
    """
    target = rows.target
    candidates: list[tuple[Column, OutOfFold]] = []
    for name in (family,) if family else FAMILY_NAMES[: 1 if rows.columns else None]:
        tell(f"cross-validating {name} on {len(target):,} rows")
        found = cross_fit(name, rows, seed)
        error = np.abs(np.expm1(found.deviation - target))
        tell(f"cross-validated {name}: mean absolute percentage error {float(np.mean(error)):.2%}")
        candidates.append((error, found))
    return reduce(lambda best, other: other if _is_surely_lower(other[0], best[0]) else best, candidates)[1]


def _is_surely_lower(error: Column, best: Column) -> bool:
    gain = best - error
    return bool(gain.mean() > SURE_OF_FAMILY * gain.std() / np.sqrt(len(gain)))


def useful(rows: Rows, out: OutOfFold, tell: Tell) -> tuple[Values, ...]:
    """The columns without which the out-of-fold error rises."""
    target = rows.target
    error = np.abs(out.deviation - target)
    kept = []
    for place, column in enumerate(rows.columns):
        unknown = np.arange(len(rows.columns)) == place
        rise = np.abs(deviations(out, unknown) - target) - error
        gain, sure = rise.mean() / error.mean(), rise.mean() / (rise.std() / np.sqrt(len(rise)) or 1.0)
        if gain >= MIN_GAIN and sure >= MIN_SURE:
            kept.append(column)
        else:
            expected = f"{MIN_GAIN:.1%} and {MIN_SURE:g} standard errors"
            rises = f"the error without it rises by {gain:.2%}, {sure:.1f} standard errors"
            tell(f"left out: {column.name}, since {rises}, expected {expected}")
    return tuple(kept)


def learn(rows: Rows, best: OutOfFold, seed: int) -> Learned:
    """Fit the price on log deviations, and the spread on the sizes of the out-of-fold errors."""
    target = rows.target
    masks = gap_masks(rows.columns, len(target), seed)
    errors, seen = _errors(rows, best, target, masks)
    matrix = encoded_for_learning(rows.houses, rows.columns, target, rows.fold)
    price = fit(FAMILIES[best.family](seed, len(rows.columns), len(target)), *_augmented(matrix, target, masks))
    spread = fit(spread_estimator(seed, len(rows.columns)), seen, errors)
    for estimator in (price, spread):
        round_thresholds(estimator)
    # Half the lower quartile: houses that look easier than this are so by chance.
    lowest = max(float(np.quantile(errors, 0.25)) / 2, float(np.finfo(np.float32).eps))
    mean = float(np.log(rows.prices).mean())
    return Learned(Fitted(price, spread, mean, lowest), rows.columns, tables_of(rows.columns, target), best)


def _errors(rows: Rows, best: OutOfFold, target: Column, masks: Unknown) -> tuple[Column, Matrix]:
    """The sizes of the out-of-fold errors, and the rows that they are of: with columns, each with its three gaps."""
    if not rows.columns:
        return np.abs(best.deviation - target), rows.houses
    each = [best.deviation, deviations(best, np.ones(len(rows.columns), dtype=np.bool_)), deviations(best, masks)]
    return np.abs(np.concatenate(each) - np.tile(target, COPIES)), with_gaps(matrix_of(best), masks)


def cross_calibrate(rows: Rows, learned: Learned, seed: int) -> tuple[Calibration, tuple[GapCalibration, ...]]:
    """Calibrate on out-of-fold errors (cross-conformal prediction, Vovk 2015), so that every row is learned from too.

    Each score is of a price and a spread whose estimators have not seen the house. The estimators that ship have seen
    more houses and are a little better, so the interval is a little too wide rather than too narrow. With dates, the
    newest sales count for more.
    """
    best, lowest, fold = learned.best, learned.fitted.lowest_spread, rows.fold
    mean = learned.fitted.mean_log_price
    errors, seen = _errors(rows, best, rows.target, gap_masks(rows.columns, len(fold), seed))
    copies = np.tile(fold, len(errors) // len(fold))
    spreads = {
        number: fit(spread_estimator(seed, len(rows.columns)), seen[copies != number], errors[copies != number])
        for number in np.unique(fold).tolist()
    }
    whole = matrix_of(best) if rows.columns else rows.houses

    def out(unknown: Unknown) -> tuple[Column, Column]:
        """Deviation and spread out of fold, with some columns unknown."""
        known = without(whole, unknown) if rows.columns else whole
        spread = np.empty(len(fold))
        for number, estimator in spreads.items():
            spread[fold == number] = np.maximum(estimator.predict(known[fold == number]), lowest)
        return (deviations(best, unknown) if rows.columns else best.deviation), spread

    def table(used: Mask, deviation: Column, spread: Column) -> Calibration:
        parts = (mean + deviation, spread, rows.prices, rows.position, weight)
        return calibrate(*(part[used] for part in parts))

    nothing = np.zeros(len(rows.columns), dtype=np.bool_)
    deviation, spread = out(nothing)
    weight = time_weights(rows.sold_on, np.abs(deviation - rows.target) / spread)
    every = np.ones(len(fold), dtype=np.bool_)
    some = np.arange(len(fold)) % (len(fold) // MAX_GAP_ROWS + 1) == 0
    gaps = []
    for given in gap_patterns(rows.columns):
        unknown = np.array([column.name not in given for column in rows.columns], dtype=np.bool_)
        found = table(some, *out(unknown))
        gaps.append(GapCalibration(given=given, quantiles=found.quantiles, fsd=found.fsd or 1.0))
    return table(every, deviation, spread), tuple(gaps)


def gap_patterns(columns: Sequence[Values]) -> Iterator[tuple[str, ...]]:
    """The sets of known columns that have a table: none, each alone, each group alone, and all but one of these."""
    names = [column.name for column in columns]
    if not names:
        return
    groups = [{column.name for column in columns if column.wish.group == group} for group in _groups(columns)]
    groups += [pair for pair in COORDINATES if pair <= set(names)]
    parts = [set[str](), *({name} for name in names), *groups]
    patterns = [part for part in parts if len(part) < len(names)]
    patterns += [set(names) - part for part in parts if 0 < len(part) < len(names)]
    yield from dict.fromkeys(tuple(name for name in names if name in part) for part in patterns)


def _groups(columns: Sequence[Values]) -> list[str]:
    return sorted({column.wish.group for column in columns if column.wish.group})


def time_weights(sold_on: Dates | None, scores: Column) -> Column:
    """Weights of shape (n,) for the calibration: the newest sales count for more, as far as all of them allow.

    The newest NEWEST_SHARE are more like the sales to come. If they alone calibrated, intervals would be too wide for
    the houses of the whole period, by 8 points at 0.5 in King County. So their weight is the largest of WEIGHTS with
    which the share of all `scores` within the quantiles is within TOLERATED of each of the levels.
    """
    if sold_on is None:
        return np.ones(len(scores))
    is_new = sold_on >= np.sort(sold_on)[int((1 - NEWEST_SHARE) * len(scores))]
    order = np.argsort(scores, kind="stable")
    best = np.ones(len(scores))
    for weight in WEIGHTS:
        found = np.where(is_new, weight, 1.0)
        share = np.cumsum(found[order]) / found.sum()
        held = np.searchsorted(share, HELD_LEVELS) / len(scores)
        if np.abs(held - HELD_LEVELS).max() > TOLERATED:
            break
        best = found
    return best
