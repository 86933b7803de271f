"""Training as one straight line: rows -> fit / test -> ONNX -> calibration, parity, metrics."""

import hashlib
import platform
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib import metadata
from typing import Final, NamedTuple

import numpy as np

from pricing.artifacts.manifest import (
    FORMAT,
    MIN_CALIBRATION_ROWS,
    READABLE_FROM,
    Calibration,
    Data,
    Example,
    Feature,
    Graph,
    Manifest,
    Metrics,
)
from pricing.artifacts.store import Artifact
from pricing.house import BOUNDS, FEATURES, UNITS, Column, Matrix, decimal
from pricing.inference.predictor import OnnxGraph, Predictor, Runs
from train.errors import DataError
from train.models.convert import OPSET, OPSET_ML, Fitted, to_onnx
from train.models.evaluate import calibrate, fifths, intervals, score
from train.models.families import (
    FAMILIES,
    Fold,
    fit,
    out_of_fold,
    out_of_fold_spread,
    parameters,
    round_thresholds,
    spread_estimator,
)
from train.models.family_names import FAMILY_NAMES, FamilyName
from train.models.parity import certify
from train.models.worth import check_variation
from train.sales.rows import Dates, Sales
from train.sales.split import IDENTITY, Mask, SplitMasks, folds, hold_back, positions, sides, split_by_house, weights

BINS: Final = 10
# Of so many, the hash hardly ever leaves fewer than MIN_CALIBRATION_ROWS for testing; 240 on average.
NEWEST_SHARE: Final = 0.15
WEIGHTS: Final = (1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
HELD_LEVELS: Final = (0.5, 0.8, 0.9)
TOLERATED: Final = 0.002
MIN_HOUSES: Final = 1_200
EXAMPLES: Final = 5
LIBRARIES: Final = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")

Tell = Callable[[str], None]


class Plan(NamedTuple):
    """The version to make: `family` None is the better one by cross-validation, `salt` decides the split."""

    version: str
    salt: str
    seed: int
    family: FamilyName | None


class Rows(NamedTuple):
    """The rows of one side: float32 of shape (n, 5), US dollars of shape (n,)."""

    houses: Matrix
    prices: Column


class OutOfFold(NamedTuple):
    """A family and its cross-validated log prices of the fit rows, shape (n,), as deviations from their mean."""

    family: FamilyName
    deviation: Column


def train(sales: Sales, plan: Plan, tell: Tell, held_back: Mask | None = None) -> Artifact:
    """Return a certified, calibrated version, not yet published.

    `tell` gets a sentence for each step. Nothing is learned from the rows of `held_back`, shape (n,): they are test
    rows, whatever the split decides. Raises DataError when there are too few rows, or none to learn from, ParityError
    when ONNX differs.
    """
    split = split_by_house(plan.salt)
    position = positions(sales.houses, split)
    side = sides(position, split)
    if held_back is not None:
        side = hold_back(side, held_back)
    _check_rows(sales, position, side)
    fit_rows, _, test_rows = (Rows(sales.houses[mask], sales.prices[mask]) for mask in side)
    fold = folds(position[side.fit])

    best = choose(fit_rows, fold, plan, tell)
    tell(f"fitting {best.family} on {len(fit_rows.prices):,} rows")
    fitted = learn(fit_rows, best, plan.seed)

    tell("converting to ONNX")
    graph = to_onnx(fitted)
    shipped = OnnxGraph(graph)
    sold_on = None if sales.sold_on is None else sales.sold_on[side.fit]
    calibration = cross_calibrate(fit_rows, best, fitted, fold, position[side.fit], sold_on, plan.seed)
    predictor = Predictor(shipped, calibration)
    tell("certifying parity of ONNX with scikit-learn")
    parity = certify(fitted, shipped, test_rows.houses, fit_rows.houses, plan.seed)
    tell("measuring on the test rows")
    manifest = Manifest(
        format=FORMAT,
        readable_from=READABLE_FROM,
        version=plan.version,
        created_at=datetime.now(UTC),
        family=best.family,
        parameters={"price": parameters(fitted.price), "spread": parameters(fitted.spread)},
        seed=plan.seed,
        features=describe_features(fit_rows.houses),
        split=split,
        data=describe_data(sales, side),
        metrics=measure(predictor, fit_rows, test_rows, weights(position[side.test])),
        calibration=calibration,
        parity=parity,
        examples=examples(shipped, test_rows.houses),
        graph=Graph(sha256=hashlib.sha256(graph).hexdigest(), size=len(graph), opset=OPSET, opset_ml=OPSET_ML),
        libraries={"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES},
    )
    return Artifact(manifest, graph)


def choose(rows: Rows, fold: Fold, plan: Plan, tell: Tell) -> OutOfFold:
    """Cross-validate the family that was asked for, or all of them, and return the one with the lowest MAPE."""
    log_price = np.log(rows.prices)
    target = log_price - log_price.mean()
    candidates: list[tuple[float, OutOfFold]] = []
    for name in FAMILY_NAMES if plan.family is None else (plan.family,):
        tell(f"cross-validating {name} on {len(target):,} rows")
        deviation = out_of_fold(FAMILIES[name], plan.seed, rows.houses, target, fold)
        mape = float(np.mean(np.abs(np.expm1(deviation - target))))
        tell(f"cross-validated {name}: mean absolute percentage error {mape:.2%}")
        candidates.append((mape, OutOfFold(name, deviation)))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def learn(rows: Rows, best: OutOfFold, seed: int) -> Fitted:
    """Fit the price on log deviations, and the spread on the sizes of the out-of-fold errors."""
    log_price = np.log(rows.prices)
    mean = float(log_price.mean())
    errors = np.abs(best.deviation - (log_price - mean))
    price = fit(FAMILIES[best.family](seed), rows.houses, log_price - mean)
    spread = fit(spread_estimator(seed), rows.houses, errors)
    for estimator in (price, spread):
        round_thresholds(estimator)
    # Half the lower quartile: houses that look easier than this are so by chance.
    lowest = max(float(np.quantile(errors, 0.25)) / 2, float(np.finfo(np.float32).eps))
    return Fitted(price, spread, mean, lowest)


def cross_calibrate(  # noqa: PLR0913, PLR0917 -- the rows, and all that was learned from them
    rows: Rows, best: OutOfFold, fitted: Fitted, fold: Fold, position: Column, sold_on: Dates | None, seed: int
) -> Calibration:
    """Calibrate on out-of-fold errors (cross-conformal prediction, Vovk 2015), so that every row is learned from too.

    Each score is of a price and a spread whose estimators have not seen the house. The estimators that ship have seen
    more houses and are a little better, so the interval is a little too wide rather than too narrow. With dates, the
    newest sales count for more.
    """
    log_price = np.log(rows.prices)
    deviation = log_price - log_price.mean()
    spread = out_of_fold_spread(seed, rows.houses, np.abs(best.deviation - deviation), fold, fitted.lowest_spread)
    weight = time_weights(sold_on, np.abs(best.deviation - deviation) / spread)
    return calibrate(log_price.mean() + best.deviation, spread, rows.prices, position, weight)


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


def measure(predictor: Predictor, fit_rows: Rows, test_rows: Rows, vote: Column) -> Metrics:
    """Metrics of the version; the interval on test rows only, since the others shaped it, with a vote a house."""
    return Metrics(
        train=score(predictor, *fit_rows),
        test=score(predictor, *test_rows),
        intervals=intervals(predictor, *test_rows, vote),
        fifths=fifths(predictor, *test_rows, vote),
    )


def describe_features(houses: Matrix) -> tuple[Feature, ...]:
    """Bounds of the contract, and ranges and deciles of the fit rows, float32 of shape (n, 5)."""
    return tuple(
        Feature(
            name=name,
            unit=UNITS[name],
            above=BOUNDS[name].above,
            minimum=BOUNDS[name].minimum,
            maximum=BOUNDS[name].maximum,
            trained_from=decimal(column.min()),
            trained_to=decimal(column.max()),
            bins=tuple(map(decimal, np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1), method="nearest")))),
        )
        for name, column in zip(FEATURES, houses.T, strict=True)
    )


def describe_data(sales: Sales, side: SplitMasks) -> Data:
    """Where the rows came from and how many went where."""
    return Data(
        source=sales.source,
        synthetic=sales.synthetic,
        sha256=sales.sha256,
        rows=len(sales.prices),
        refused=sales.refused,
        fit=int(side.fit.sum()),
        calibrate=0,
        test=int(side.test.sum()),
        **_period(sales, side.fit),
    )


def _period(sales: Sales, mask: Mask) -> dict[str, date]:
    if sales.sold_on is None:
        return {}
    return {"first_sale": sales.sold_on[mask].min().item(), "last_sale": sales.sold_on[mask].max().item()}


def examples(graph: Runs, houses: Matrix) -> tuple[Example, ...]:
    """The first test rows with the exact outputs of the graph."""
    chosen = houses[:EXAMPLES]
    log_price, spread = graph.run(chosen)
    return tuple(
        Example(features=tuple(row), log_price=price, spread=width)
        for row, price, width in zip(chosen.tolist(), log_price.tolist(), spread.tolist(), strict=True)
    )


def _check_rows(sales: Sales, position: Column, side: SplitMasks) -> None:
    accepted = f"{sales.source}: {len(sales.prices):,} accepted rows"
    # Sales of a house share a side and a fold: of a few houses sold again and again, some of those would stay empty.
    different = len(np.unique(position))
    if different < min(MIN_CALIBRATION_ROWS, len(sales.prices)):
        msg = (
            f"{accepted} are only {different} different houses (by {', '.join(IDENTITY)}), "
            f"at least {MIN_CALIBRATION_ROWS} are needed"
        )
        raise DataError(msg)
    found = len(np.unique(position[side.test]))
    if found < MIN_CALIBRATION_ROWS:
        msg = (
            f"{accepted} leave {found} houses for testing, at least {MIN_CALIBRATION_ROWS} are needed: "
            f"bring sales of {MIN_HOUSES:,} houses"
        )
        raise DataError(msg)
    check_variation(sales)
